//! Tidies up behind the record path, on a thread of its own: what repartition topics hold that was
//! processed and committed, and the state of tasks that run elsewhere now. All of it may fail and
//! be done the next time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_engine::ports::Error;
use millrace_engine::record::{Offset, TaskId, TopicPartition};
use rdkafka::consumer::Consumer;

use super::TaskFactory;
use crate::kafka::{Clients, GroupConsumer, Membership, Topics, classify, from_list, to_list};

/// Kafka Streams' `repartition.purge.interval.ms`.
const INTERVAL: Duration = Duration::from_secs(30);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What a member has at the moment.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// Those it runs, and those it keeps standbys of.
    pub(super) tasks: BTreeSet<TaskId>,
    /// Partitions of repartition topics that it reads.
    pub(super) repartitions: Vec<TopicPartition>,
}

pub(super) struct Janitor {
    holdings: Sender<Holdings>,
    thread: JoinHandle<()>,
}

impl Janitor {
    pub(super) fn start(
        clients: Clients,
        membership: Arc<Membership>,
        factory: Arc<dyn TaskFactory>,
    ) -> std::io::Result<Self> {
        let (sender, holdings) = channel();
        let tidy = move || {
            let mut latest: Option<Holdings> = None;
            loop {
                match holdings.recv_timeout(INTERVAL) {
                    Ok(new) => latest = Some(new),
                    Err(RecvTimeoutError::Disconnected) => return,
                    // Before the first assignment nobody knows whose state it is that lies there.
                    Err(RecvTimeoutError::Timeout) => {
                        let Some(latest) = &latest else { continue };
                        factory.clean(&latest.tasks);
                        if let Err(error) = purge(&clients, &membership.consumer(), &latest.repartitions) {
                            tracing::debug!(%error, "repartition topics are not purged this time");
                        }
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("janitor".to_owned()).spawn(tidy)?;
        Ok(Self { holdings: sender, thread })
    }

    /// Tells what the member has from now on.
    pub(super) fn tell(&self, holdings: Holdings) {
        if self.holdings.send(holdings).is_err() {
            tracing::error!("the janitor thread ended unasked");
        }
    }

    pub(super) fn stop(self) {
        drop(self.holdings);
        if self.thread.join().is_err() {
            tracing::error!("the janitor thread panicked; its message is above");
        }
    }
}

fn purge(clients: &Clients, consumer: &GroupConsumer, partitions: &[TopicPartition]) -> Result<(), Error> {
    if partitions.is_empty() {
        return Ok(());
    }
    let committed = consumer
        .committed_offsets(to_list(partitions), REQUEST_TIMEOUT)
        .map_err(|error| classify("ask the group for committed offsets", &error))?;
    let below: Vec<(TopicPartition, Offset)> = from_list(&committed)
        .into_iter()
        .zip(committed.elements())
        .filter_map(|(partition, element)| match element.offset() {
            rdkafka::Offset::Offset(offset) => Some((partition, Offset(offset))),
            _ => None,
        })
        .collect();
    if below.is_empty() { Ok(()) } else { Topics::connect(clients)?.purge(&below) }
}
