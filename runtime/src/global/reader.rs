//! Reads all partitions of the topics of global stores. Must not know what is made of the records.

use std::time::Duration;

use millrace_engine::ports::Error;
use millrace_engine::record::{Offset, TopicPartition};
use millrace_engine::task::Chunk;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;

use super::RETRY_WAIT;
use crate::kafka::{ClientLog, Clients, classify, classify_question, create_with, last_seen_end, number, push};

/// Of one topic in one turn: enough for a write to cost little per record, and little enough to be in memory at once.
const TURN_RECORDS: usize = 10_000;
const TURN_BYTES: usize = 8 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the partitions of all inputs began and ended when that was asked.
pub(super) struct Bounds(Vec<(Offset, Offset)>);

impl Bounds {
    /// Waits for brokers that are away.
    pub(super) fn ask(clients: &Clients, inputs: &[TopicPartition]) -> Result<Self, Error> {
        loop {
            match Self::try_ask(clients, inputs) {
                Err(Error::Retry(reason)) => tracing::warn!(reason, "fill the global stores; will try again"),
                asked => return asked,
            }
            std::thread::sleep(RETRY_WAIT);
        }
    }

    fn try_ask(clients: &Clients, inputs: &[TopicPartition]) -> Result<Self, Error> {
        let asker: BaseConsumer<ClientLog> =
            create_with(&clients.global(), ClientLog, "client that asks where global topics end")?;
        let ask = |at: &TopicPartition| {
            let (begin, end) = asker
                .fetch_watermarks(&at.topic, number(at), REQUEST_TIMEOUT)
                .map_err(|error| classify_question(&format!("ask for the bounds of {at}"), &error))?;
            Ok((Offset(begin), Offset(end)))
        };
        Ok(Self(inputs.iter().map(ask).collect::<Result<_, Error>>()?))
    }

    pub(super) fn of(&self, input: usize) -> (Offset, Offset) {
        self.0[input]
    }

    pub(super) fn begins(&self) -> Vec<Offset> {
        self.0.iter().map(|&(begin, _)| begin).collect()
    }
}

/// One topic. A consumer of its own, because the client says that a partition is read to its end, but not of which topic.
pub(super) struct Reader {
    consumer: BaseConsumer<ClientLog>,
    /// By their numbers.
    partitions: Vec<Partition>,
}

struct Partition {
    at: TopicPartition,
    input: usize,
    next: Offset,
    /// Where it ended when that was asked.
    target: Offset,
    /// The end that was seen last.
    end: Offset,
    gathered: Chunk,
}

impl Reader {
    /// One for each topic, in the order of the inputs, of which those of a topic stand together.
    pub(super) fn all(
        clients: &Clients,
        inputs: &[TopicPartition],
        offsets: &[Offset],
        bounds: &Bounds,
    ) -> Result<Vec<Self>, Error> {
        let mut first = 0;
        let topics = inputs.chunk_by(|one, other| one.topic == other.topic);
        let reader = |topic: &[TopicPartition]| {
            let begin = first;
            first += topic.len();
            let partition = |(index, at): (usize, &TopicPartition)| {
                let (input, end) = (begin + index, bounds.of(begin + index).1);
                let (next, gathered) = (offsets[input], Chunk::default());
                Partition { at: at.clone(), input, next, target: end, end, gathered }
            };
            Self::open(clients, topic.iter().enumerate().map(partition).collect())
        };
        topics.map(reader).collect()
    }

    fn open(clients: &Clients, partitions: Vec<Partition>) -> Result<Self, Error> {
        let consumer: BaseConsumer<ClientLog> = create_with(&clients.global(), ClientLog, "reader of a global topic")?;
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for Partition { at, next, .. } in &partitions {
            list.add_partition_offset(&at.topic, number(at), rdkafka::Offset::Offset(next.0))
                .map_err(|error| classify(&format!("read {at}"), &error))?;
        }
        consumer.assign(&list).map_err(|error| classify("read a global topic", &error))?;
        Ok(Self { consumer, partitions })
    }

    /// Whether all was read that was there when it was asked where the topic ends.
    pub(super) fn is_through(&self) -> bool {
        self.partitions.iter().all(|partition| partition.next >= partition.target)
    }

    /// Records up to the end that was seen last, at the most: offsets of a compacted topic have gaps.
    pub(super) fn left(&self) -> u64 {
        let left = |partition: &Partition| u64::try_from(partition.end.0 - partition.next.0).unwrap_or(0);
        self.partitions.iter().map(left).sum()
    }

    /// What can be read now, by input; waits for it a moment.
    pub(super) fn poll(&mut self, wait: Duration) -> Result<Vec<(usize, Chunk)>, Error> {
        let (mut wait, mut bytes) = (wait, 0);
        for _ in 0..TURN_RECORDS {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let at = usize::try_from(message.partition()).unwrap_or(usize::MAX);
                    if let Some(partition) = self.partitions.get_mut(at) {
                        bytes += push(&mut partition.gathered, &message);
                        partition.next = Offset(message.offset() + 1);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let at = usize::try_from(partition).unwrap_or(usize::MAX);
                    if let Some(partition) = self.partitions.get_mut(at) {
                        // What is left up to the end has offsets but is no record to us.
                        partition.next = partition.next.max(partition.end);
                    }
                }
                Some(Err(error)) => self.check(&error)?,
            }
            if bytes >= TURN_BYTES {
                break;
            }
            wait = Duration::ZERO;
        }
        let mut read = Vec::new();
        for partition in &mut self.partitions {
            let seen = last_seen_end(&self.consumer, &partition.at);
            partition.end = partition.end.max(partition.next).max(seen.unwrap_or(partition.end));
            if !partition.gathered.offsets.is_empty() {
                read.push((partition.input, std::mem::take(&mut partition.gathered)));
            }
        }
        Ok(read)
    }

    /// Most errors pass by themselves, and librdkafka keeps trying.
    fn check(&self, error: &KafkaError) -> Result<(), Error> {
        let topic = self.partitions.first().map_or("", |partition| &*partition.at.topic);
        let doing = format!("read global topic {topic}");
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                let remedy = "start again, and the global stores are filled anew";
                Err(Error::Fatal(format!(
                    "{doing}: it no longer has the offset that was to be read next ({error}); {remedy}"
                )))
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Err(Error::Fatal(format!("{doing}: it is gone ({error}); create it again, then restart")))
            }
            _ => match classify(&doing, error) {
                Error::Fatal(message) => Err(Error::Fatal(message)),
                passing => {
                    tracing::warn!(%passing, "will try again");
                    Ok(())
                }
            },
        }
    }
}
