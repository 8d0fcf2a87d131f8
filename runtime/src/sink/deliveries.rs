//! What became of the records sent: where the tracked partitions end, and the first failure.

use std::sync::Mutex;

use millrace_engine::ports::Error;
use millrace_engine::record::{Offset, TopicPartition};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
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
    /// The client gave up a record because of another one.
    purged: Option<Error>,
    refused: Vec<Refused>,
}

/// What a broker won't take.
pub(super) enum Refused {
    /// A record of the topic is too large: which one it does not say.
    Size { topic: String },
    /// This record.
    Record { topic: String, key: Option<Vec<u8>>, value: Option<Vec<u8>> },
}

impl Refused {
    fn of<M: Message>(error: &KafkaError, message: &M) -> Option<Self> {
        let topic = message.topic().to_owned();
        match error.rdkafka_error_code()? {
            Code::MessageSizeTooLarge => Some(Self::Size { topic }),
            // Its neighbours in the batch have a code of their own.
            Code::InvalidRecord | Code::InvalidTimestamp => {
                let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                Some(Self::Record { topic, key: owned(message.key()), value: owned(message.payload()) })
            }
            _ => None,
        }
    }
}

/// Refused records noted at a time: those beyond come again, and are refused again.
const REFUSED_MAX: usize = 1_000;

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

    /// The first failure since the last call, its cause rather than what it led to. The client has done with that
    /// record: nobody sends it again, so nothing after it may be committed.
    pub(super) fn failure(&self) -> Option<Error> {
        let mut gathered = self.lock();
        let purged = gathered.purged.take();
        gathered.failure.take().or(purged)
    }

    /// What was refused since the last call; a topic is named once for its size.
    pub(super) fn take_refused(&self) -> Vec<Refused> {
        std::mem::take(&mut self.lock().refused)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Gathered> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Gathered {
    fn note(&mut self, refused: Refused) {
        let same = |known: &Refused| match (known, &refused) {
            (Refused::Size { topic: known }, Refused::Size { topic }) => known == topic,
            _ => false,
        };
        if self.refused.len() < REFUSED_MAX && !self.refused.iter().any(same) {
            self.refused.push(refused);
        }
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
                if let Some(refused) = Refused::of(error, message) {
                    gathered.note(refused);
                }
                let purged = matches!(error.rdkafka_error_code(), Some(Code::PurgeQueue | Code::PurgeInflight));
                let place = if purged { &mut gathered.purged } else { &mut gathered.failure };
                place.get_or_insert_with(|| classify(&doing, error));
            }
        }
    }
}
