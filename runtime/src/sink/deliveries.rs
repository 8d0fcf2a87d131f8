//! What became of the records sent: where the tracked partitions end, and the first failure.

use std::sync::Mutex;

use millrace_engine::ports::Error;
use millrace_engine::record::{Offset, TopicPartition};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};

use crate::kafka::{ClientLog, classify};

/// Delivery reports, gathered on the thread that polls the producer.
///
/// A report costs a call per record, so it does as little as it can: records of untracked
/// partitions are looked at only when they failed, the others carry the index of their slot.
#[derive(Default)]
pub(super) struct Deliveries(Mutex<Gathered>);

#[derive(Default)]
struct Gathered {
    /// Partitions whose end is asked for, and the end of what was written to them since it was.
    slots: Vec<(TopicPartition, Option<Offset>)>,
    failure: Option<Error>,
}

impl Deliveries {
    /// The opaque value of a record whose offset nobody asks for.
    pub(super) const UNTRACKED: usize = usize::MAX;

    /// The opaque value for records of this partition.
    pub(super) fn slot(&self, topic: &str, partition: u32) -> usize {
        let mut gathered = self.lock();
        let known = gathered.slots.iter().position(|(at, _)| at.partition == partition && &*at.topic == topic);
        known.unwrap_or_else(|| {
            gathered.slots.push((TopicPartition::new(topic, partition), None));
            gathered.slots.len() - 1
        })
    }

    /// Where each tracked partition ends that was written to since the last call.
    pub(super) fn take_positions(&self) -> Vec<(TopicPartition, Offset)> {
        let mut gathered = self.lock();
        gathered.slots.iter_mut().filter_map(|(at, end)| Some((at.clone(), end.take()?))).collect()
    }

    /// The first failure since the last call. The client has done with that record: nobody sends it again, so
    /// nothing after it may be committed.
    pub(super) fn failure(&self) -> Option<Error> {
        self.lock().failure.take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Gathered> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        ClientLog::line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        ClientLog.error(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: usize) {
        match result {
            Ok(message) => {
                if slot != Self::UNTRACKED
                    && let Some((_, end)) = self.lock().slots.get_mut(slot)
                {
                    let next = Offset(message.offset() + 1);
                    *end = Some(end.map_or(next, |end| end.max(next)));
                }
            }
            Err((error, message)) => {
                let doing = format!("write a record of {} bytes to topic {}", message.payload_len(), message.topic());
                let mut gathered = self.lock();
                if gathered.failure.is_none() {
                    gathered.failure = Some(classify(&doing, error));
                }
            }
        }
    }
}
