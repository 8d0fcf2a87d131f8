//! Owns the producer: sending, acknowledgements, transactions. Must not know tasks.

mod deliveries;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millrace_engine::ports::{Committed, Error, Log, Partitions, Rejected};
use millrace_engine::record::{Batch, Header, Offset, TopicPartition};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::config::Guarantee;
use crate::kafka::{Clients, GroupConsumer, classify, create_with, is_record_error, number};
use deliveries::Deliveries;

/// How long one wait for acknowledgements lasts before the worker looks at its other duties.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// A request to a coordinator; librdkafka repeats it within this time where that helps.
const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(30);

/// The log as one worker sees it: a producer of its own, and the group's offsets.
pub struct Sink {
    producer: BaseProducer<Deliveries>,
    consumer: Arc<GroupConsumer>,
    guarantee: Guarantee,
    in_transaction: bool,
    /// Set when the process gives up waiting for a broker.
    abandon: Arc<AtomicBool>,
}

impl Sink {
    pub fn new(
        clients: &Clients,
        worker: usize,
        guarantee: Guarantee,
        consumer: Arc<GroupConsumer>,
        abandon: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let producer: BaseProducer<Deliveries> =
            create_with(&clients.producer(worker), Deliveries::default(), "producer")?;
        if guarantee == Guarantee::ExactlyOnce {
            producer
                .init_transactions(COORDINATOR_TIMEOUT)
                .map_err(|error| classify("register the transactional producer", &error))?;
        }
        Ok(Self { producer, consumer, guarantee, in_transaction: false, abandon })
    }

    /// Queues one record, waiting for room while the queue is full.
    fn queue(&self, mut record: BaseRecord<'_, [u8], [u8], usize>) -> Result<(), KafkaError> {
        let mut told = Instant::now();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if !self.abandon.load(Ordering::Relaxed) =>
                {
                    record = back;
                    self.producer.poll(Duration::from_millis(10));
                    if told.elapsed() > FLUSH_TIMEOUT {
                        told = Instant::now();
                        tracing::warn!(topic = record.topic, "waiting for the broker to take records");
                    }
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    fn commit_list(&self, offsets: &[(TopicPartition, Committed)]) -> Result<TopicPartitionList, Error> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, committed) in offsets {
            let mut element = list.add_partition(&partition.topic, number(partition));
            element
                .set_offset(rdkafka::Offset::Offset(committed.offset.0))
                .map_err(|error| classify("name the offsets to commit", &error))?;
            element.set_metadata(&committed.metadata);
        }
        Ok(list)
    }

    fn commit_transaction(&mut self, list: &TopicPartitionList) -> Result<(), Error> {
        self.begin()?;
        let metadata = self
            .consumer
            .group_metadata()
            .ok_or_else(|| Error::Fenced("commit a transaction: the consumer is in no group".to_owned()))?;
        let outcome = self
            .producer
            .send_offsets_to_transaction(list, &metadata, COORDINATOR_TIMEOUT)
            .and_then(|()| self.producer.commit_transaction(COORDINATOR_TIMEOUT));
        match outcome {
            Ok(()) => {
                self.in_transaction = false;
                Ok(())
            }
            Err(error) => {
                let class = classify("commit the transaction", &error);
                if matches!(class, Error::Retry(_)) {
                    self.abort()?;
                }
                Err(class)
            }
        }
    }
}

impl Log for Sink {
    fn begin(&mut self) -> Result<(), Error> {
        if self.guarantee == Guarantee::AtLeastOnce || self.in_transaction {
            return Ok(());
        }
        self.producer.begin_transaction().map_err(|error| classify("begin a transaction", &error))?;
        self.in_transaction = true;
        Ok(())
    }

    fn send(&mut self, topic: &str, partitions: Partitions<'_>, records: &Batch) -> Result<Vec<Rejected>, Error> {
        self.begin()?;
        let mut rejected = Vec::new();
        let slot = match partitions {
            Partitions::One(partition) => self.producer.context().slot(topic, partition),
            Partitions::ByKey | Partitions::Each(_) => Deliveries::UNTRACKED,
        };
        let mut headers = records.headers.as_slice();
        let columns = records.keys.iter().zip(records.values.iter()).zip(&records.timestamps);
        for (index, ((key, value), &timestamp)) in columns.enumerate() {
            // librdkafka takes 0 for "now"; a record of the epoch's first millisecond keeps its place.
            let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, slot).timestamp(timestamp.max(1));
            record.key = key;
            record.payload = value;
            record.partition = match partitions {
                Partitions::ByKey => None,
                Partitions::One(partition) => Some(i32::try_from(partition).unwrap_or(i32::MAX)),
                Partitions::Each(each) => each.get(index).copied().filter(|partition| *partition >= 0),
            };
            record.headers = take_headers(&mut headers, index);
            match self.queue(record) {
                Ok(()) => {}
                Err(KafkaError::MessageProduction(code)) if is_record_error(code) => {
                    rejected.push(Rejected { index, message: code.to_string() });
                }
                Err(error) => return Err(classify(&format!("write to topic {topic}"), &error)),
            }
        }
        // Serves acknowledgements that have come in, without waiting.
        self.producer.poll(Duration::ZERO);
        self.producer.context().failure().map_or(Ok(rejected), Err)
    }

    fn flush(&mut self) -> Result<Vec<(TopicPartition, Offset)>, Error> {
        self.producer
            .flush(FLUSH_TIMEOUT)
            .map_err(|error| classify("wait for the broker to acknowledge records", &error))?;
        self.producer.context().failure().map_or(Ok(()), Err)?;
        Ok(self.producer.context().take_positions())
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result<(), Error> {
        let list = self.commit_list(offsets)?;
        match self.guarantee {
            Guarantee::ExactlyOnce => self.commit_transaction(&list),
            Guarantee::AtLeastOnce => self
                .consumer
                .commit(&list, CommitMode::Sync)
                .map_err(|error| classify("commit offsets to the group", &error)),
        }
    }

    fn abort(&mut self) -> Result<(), Error> {
        if !self.in_transaction {
            return Ok(());
        }
        self.in_transaction = false;
        self.producer
            .abort_transaction(COORDINATOR_TIMEOUT)
            .map_err(|error| classify("abort the transaction", &error))?;
        self.producer.context().take_positions();
        Ok(())
    }
}

/// Takes the headers of record `index` off the front of those that are left.
fn take_headers(headers: &mut &[Header], index: usize) -> Option<OwnedHeaders> {
    let count = headers.iter().take_while(|header| usize::try_from(header.index) == Ok(index)).count();
    if count == 0 {
        return None;
    }
    let (own, rest) = headers.split_at(count);
    *headers = rest;
    let mut owned = OwnedHeaders::new_with_capacity(count);
    for header in own {
        owned = owned.insert(KafkaHeader { key: &header.key, value: header.value.as_deref() });
    }
    Some(owned)
}
