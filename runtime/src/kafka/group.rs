//! The application's member of its consumer group: one consumer per process, polled by one
//! thread, asked by others only for what librdkafka allows from any thread (commit, pause, resume).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_engine::ports::Error;
use millrace_engine::record::TopicPartition;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::{ClientLog, Clients, create_with};

/// The request that wakes a broker's thread has left long before.
const WAKE_TIMEOUT: Duration = Duration::from_millis(10);

pub type GroupConsumer = BaseConsumer<GroupContext>;

/// The process's place in the group: its consumer, which is replaced when the client is beyond repair. Who needs it asks
/// for it each time.
pub struct Membership {
    settings: ClientConfig,
    consumer: RwLock<Arc<GroupConsumer>>,
}

impl Membership {
    pub fn new(clients: &Clients) -> Result<Self, Error> {
        let settings = clients.consumer();
        let consumer = RwLock::new(Arc::new(create_with(&settings, GroupContext::default(), "consumer")?));
        Ok(Self { settings, consumer })
    }

    #[must_use]
    pub fn consumer(&self) -> Arc<GroupConsumer> {
        Arc::clone(&self.consumer.read().expect("no holder of this lock panics"))
    }

    /// A new consumer, which has to subscribe. The former one is closed by whoever lets go of it last.
    pub fn renew(&self) -> Result<Arc<GroupConsumer>, Error> {
        let renewed = Arc::new(create_with(&self.settings, GroupContext::default(), "consumer")?);
        let former = {
            let mut consumer = self.consumer.write().expect("no holder of this lock panics");
            std::mem::replace(&mut *consumer, Arc::clone(&renewed))
        };
        former.context().close();
        Ok(renewed)
    }
}

/// Has the client fetch at once from partitions that were resumed. Its thread for a broker that there was nothing to fetch
/// from looks only once a second whether there is by now, unless it has a request to send. So it gets one, whose answer is of
/// no interest; and may have to wait until the broker has answered a fetch that waits for records, so that nobody who polls
/// sends it.
pub struct Waker {
    resumed: Sender<(Arc<GroupConsumer>, Vec<TopicPartition>)>,
    thread: JoinHandle<()>,
}

impl Waker {
    pub fn start() -> io::Result<Self> {
        let (resumed, receiver) = channel::<(Arc<GroupConsumer>, Vec<TopicPartition>)>();
        let work = move || {
            while let Ok((mut consumer, mut partitions)) = receiver.recv() {
                for (latest, more) in receiver.try_iter() {
                    consumer = latest;
                    partitions.extend(more);
                }
                let mut ends = to_list(&partitions);
                // Where each ends: one request for all that a broker leads.
                let _ = ends.set_all_offsets(Offset::End);
                let _ = consumer.offsets_for_times(ends, WAKE_TIMEOUT);
            }
        };
        let thread = thread::Builder::new().name("wake".to_owned()).spawn(work)?;
        Ok(Self { resumed, thread })
    }

    /// These were resumed.
    pub fn wake(&self, consumer: &Arc<GroupConsumer>, partitions: Vec<TopicPartition>) {
        if self.resumed.send((Arc::clone(consumer), partitions)).is_err() {
            tracing::error!("the thread that wakes the client ended unasked");
        }
    }

    /// From here on it has no consumer any more.
    pub fn stop(self) {
        drop(self.resumed);
        if self.thread.join().is_err() {
            tracing::error!("the thread that wakes the client panicked; its message is above");
        }
    }
}

/// What the group decided, to be acted on by the thread that polls.
#[derive(Debug)]
pub enum Rebalance {
    Assigned(Vec<TopicPartition>),
    /// `lost`: they may already belong to others, so nothing may be committed any more.
    Revoked {
        partitions: Vec<TopicPartition>,
        lost: bool,
    },
}

/// Whether assignments and revocations name what changes; else they name everything.
#[must_use]
pub fn is_incremental(consumer: &GroupConsumer) -> bool {
    matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative)
}

/// Sets rebalances aside until the poll that brought them has returned: they take long (tasks
/// commit and open their stores), and they are no business of a callback.
#[derive(Debug, Default)]
pub struct GroupContext {
    pending: Mutex<Option<Rebalance>>,
    closing: AtomicBool,
}

impl GroupContext {
    /// The rebalance that the last poll brought, if it did. It must be answered with `assign` or
    /// `unassign` before the next poll.
    pub fn take(&self) -> Option<Rebalance> {
        self.pending.lock().expect("no holder of this lock panics").take()
    }

    /// From now on revocations are answered at once, with nothing done about them.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        ClientLog::line(level, facility, line);
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        ClientLog.error(error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let answered =
                if is_incremental(consumer) { consumer.incremental_unassign(partitions) } else { consumer.unassign() };
            if let Err(error) = answered {
                tracing::debug!(%error, "unassign while closing");
            }
            return;
        }
        let rebalance = if assigned {
            Rebalance::Assigned(from_list(partitions))
        } else {
            Rebalance::Revoked { partitions: from_list(partitions), lost: consumer.assignment_lost() }
        };
        *self.pending.lock().expect("no holder of this lock panics") = Some(rebalance);
    }
}

/// Our partitions out of the client's list; it never names a negative partition here.
#[must_use]
pub fn from_list(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .filter_map(|element| Some(TopicPartition::new(element.topic(), u32::try_from(element.partition()).ok()?)))
        .collect()
}

#[must_use]
pub fn to_list<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, number(partition));
    }
    list
}

/// The partition's number as the client counts.
#[must_use]
pub fn number(partition: &TopicPartition) -> i32 {
    i32::try_from(partition.partition).unwrap_or(i32::MAX)
}
