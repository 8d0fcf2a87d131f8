//! Watches for topics that patterns of sources take in and that come and go while the application runs. It starts anew with
//! those there are then, where Kafka Streams would rebalance. Must not know what is read of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use millrace_engine::topology::{Partitioning, Plan};

use super::versions::Versions;
use super::{ASK_TIMEOUT, Ends};
use crate::kafka::{Clients, Topics};
use crate::status::Status;

/// How late a rebalance and the end of the process are noticed.
const WAIT: Duration = Duration::from_millis(100);

/// Whether a source reads what a pattern takes in.
pub(super) fn are_in(plan: &Plan) -> bool {
    plan.subtopologies().iter().flat_map(|subtopology| &subtopology.sources).any(|source| source.pattern.is_some())
}

pub(super) struct Patterns {
    pub(super) clients: Clients,
    pub(super) versions: Arc<Versions>,
    pub(super) status: Arc<Status>,
    pub(super) ends: Ends,
}

impl Patterns {
    pub(super) fn watch(self) -> anyhow::Result<()> {
        let topics = Topics::connect(&self.clients)?;
        let thread = std::thread::Builder::new().name("patterns".to_owned());
        thread
            .spawn(move || self.run(&topics))
            .map(drop)
            .context("start the thread that watches for topics of patterns")
    }

    /// Works until the process stops, or has to start anew.
    fn run(self, topics: &Topics) {
        let interval = self.clients.topic_refresh();
        let (mut looked, mut rebalances, mut told) = (Instant::now(), 0, String::new());
        while !self.ends.stop.load(Ordering::Relaxed) {
            std::thread::sleep(WAIT);
            // When another member has seen other topics and joined again, all members have to read them.
            let rebalanced = std::mem::replace(&mut rebalances, self.status.rebalances()) != rebalances;
            if !rebalanced && interval.is_none_or(|interval| looked.elapsed() < interval) {
                continue;
            }
            looked = Instant::now();
            match self.look(topics) {
                Ok(false) => told.clear(),
                Ok(true) => self.ends.start_anew(),
                Err(error) => {
                    let error = format!("{error:#}");
                    if told != error {
                        tracing::warn!(error, "what is read stays as it is: look for topics of patterns");
                        told = error;
                    }
                }
            }
        }
    }

    /// Whether other topics are there than those that are read, and all of them can be.
    fn look(&self, topics: &Topics) -> anyhow::Result<bool> {
        let running = self.versions.current();
        let counts = topics.partition_counts(ASK_TIMEOUT)?;
        let found = Partitioning::new(&running.plan, &counts)?;
        let names = |of: &Partitioning| of.subscription().map(|input| Arc::clone(&input.full_name)).collect();
        let (read, there): (BTreeSet<_>, BTreeSet<_>) = (names(&running.partitioning), names(&found));
        if read == there {
            return Ok(false);
        }
        let appeared: Vec<_> = there.difference(&read).collect();
        let gone: Vec<_> = read.difference(&there).collect();
        found.missing_topics(&counts).with_context(|| format!("{appeared:?} appeared"))?;
        tracing::warn!(?appeared, ?gone, "topics of patterns have changed: the application starts anew with them");
        Ok(true)
    }
}
