//! The embedded broker of `millrace dev` and the demo: librdkafka's mock cluster, real TCP on a
//! loopback port of this process.
//!
//! It is no Kafka: no transactions, no compaction, nothing on disk, and a partition keeps some
//! 5 MB or 100,000 batches and silently drops the oldest. So records are fed no faster than they
//! are consumed ([`Feeder`]), and a topic that lost records is an error ([`Tail`]).

use std::time::Duration;

use millrace_engine::ports::Error;
use millrace_engine::record::TopicPartition;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::{classify, from_list, number};

/// Input that may be under way between feeder and application, well below what a partition keeps.
const WINDOW_RECORDS: i64 = 2_000;
const WINDOW_BYTES: usize = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);

pub struct EmbeddedBroker(MockCluster<'static, DefaultProducerContext>);

impl EmbeddedBroker {
    pub fn start() -> Result<Self, Error> {
        MockCluster::new(1).map(Self).map_err(|error| classify("start the embedded broker", &error))
    }

    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.0.bootstrap_servers()
    }

    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), Error> {
        self.0
            .create_topic(topic, i32::try_from(partitions).unwrap_or(i32::MAX), 1)
            .map_err(|error| classify(&format!("create topic {topic} on the embedded broker"), &error))
    }
}

fn settings(bootstrap_servers: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", bootstrap_servers);
    settings
}

fn partitions_of(consumer: &BaseConsumer, topic: &str) -> Result<Vec<TopicPartition>, Error> {
    let metadata = consumer
        .fetch_metadata(Some(topic), TIMEOUT)
        .map_err(|error| classify(&format!("ask for the partitions of {topic}"), &error))?;
    let count =
        metadata.topics().iter().find(|found| found.name() == topic).map_or(0, |found| found.partitions().len());
    Ok((0..u32::try_from(count).unwrap_or(0)).map(|partition| TopicPartition::new(topic, partition)).collect())
}

/// Writes records to topics the application reads, no faster than it commits them.
pub struct Feeder {
    producer: BaseProducer,
    /// Asks for the group's offsets; never joins it.
    group: BaseConsumer,
    inputs: Vec<TopicPartition>,
    unconfirmed_records: i64,
    unconfirmed_bytes: usize,
}

impl Feeder {
    pub fn new(bootstrap_servers: &str, application_id: &str, topics: &[String]) -> Result<Self, Error> {
        let class = |error| classify("connect to the embedded broker", &error);
        let mut producer = settings(bootstrap_servers);
        producer.set("partitioner", "murmur2_random").set("linger.ms", "0");
        let producer: BaseProducer = producer.create().map_err(class)?;
        let group: BaseConsumer =
            settings(bootstrap_servers).set("group.id", application_id).create().map_err(class)?;
        let mut inputs = Vec::new();
        for topic in topics {
            inputs.extend(partitions_of(&group, topic)?);
        }
        Ok(Self { producer, group, inputs, unconfirmed_records: 0, unconfirmed_bytes: 0 })
    }

    /// Writes one record, after waiting until the application has caught up if too much is under way.
    /// Gives up waiting when `alive` says that the application has ended.
    pub fn feed(&mut self, topic: &str, key: Option<&str>, value: &str, alive: &dyn Fn() -> bool) -> Result<(), Error> {
        let mut record = BaseRecord::<str, str>::to(topic).payload(value);
        record.key = key;
        self.producer.send(record).map_err(|(error, _)| classify(&format!("feed topic {topic}"), &error))?;
        self.unconfirmed_bytes += value.len() + key.map_or(0, str::len);
        self.unconfirmed_records += 1;
        if self.unconfirmed_records >= WINDOW_RECORDS || self.unconfirmed_bytes >= WINDOW_BYTES {
            self.drain(WINDOW_RECORDS / 2, alive)?;
        }
        Ok(())
    }

    /// Waits until the broker has all that was fed.
    pub fn flush(&self) -> Result<(), Error> {
        self.producer.flush(TIMEOUT).map_err(|error| classify("feed the embedded broker", &error))
    }

    /// Waits until at most `left` records are not yet processed and committed, or the application
    /// has ended.
    pub fn drain(&mut self, left: i64, alive: &dyn Fn() -> bool) -> Result<(), Error> {
        self.flush()?;
        while alive() && self.lag()? > left {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.unconfirmed_records = left;
        self.unconfirmed_bytes = 0;
        Ok(())
    }

    /// Records written and not yet committed by the application.
    fn lag(&self) -> Result<i64, Error> {
        let class = |error: KafkaError| classify("ask how far the application is", &error);
        let committed = self.group.committed_offsets(super::to_list(&self.inputs), TIMEOUT).map_err(class)?;
        let mut lag = 0;
        for (partition, element) in from_list(&committed).iter().zip(committed.elements()) {
            let (low, high) =
                self.group.fetch_watermarks(&partition.topic, number(partition), TIMEOUT).map_err(class)?;
            let done = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => 0,
            };
            if low > done {
                return Err(lost(partition, done, low));
            }
            lag += high - done;
        }
        Ok(lag)
    }
}

/// A record read back from a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub topic: String,
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// Reads topics from their beginning, as they grow.
pub struct Tail {
    consumer: BaseConsumer,
    next: TopicPartitionList,
}

impl Tail {
    pub fn new(bootstrap_servers: &str, topics: &[String]) -> Result<Self, Error> {
        let class = |error| classify("read topics of the embedded broker", &error);
        let consumer: BaseConsumer = settings(bootstrap_servers)
            .set("group.id", "millrace-dev-tail")
            .set("fetch.wait.max.ms", "20")
            .create()
            .map_err(class)?;
        let mut next = TopicPartitionList::new();
        for topic in topics {
            for partition in partitions_of(&consumer, topic)? {
                next.add_partition_offset(topic, number(&partition), Offset::Offset(0)).map_err(class)?;
            }
        }
        consumer.assign(&next).map_err(class)?;
        Ok(Self { consumer, next })
    }

    /// The next record, if one comes within `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Seen>, Error> {
        match self.consumer.poll(timeout) {
            None => Ok(None),
            Some(Err(error)) => Err(classify("read topics of the embedded broker", &error)),
            Some(Ok(message)) => {
                let (topic, partition) = (message.topic(), message.partition());
                let expected = self.next.find_partition(topic, partition).map(|element| element.offset());
                if let Some(Offset::Offset(expected)) = expected
                    && message.offset() > expected
                {
                    let partition = TopicPartition::new(topic, u32::try_from(partition).unwrap_or(0));
                    return Err(lost(&partition, expected, message.offset()));
                }
                self.next
                    .set_partition_offset(topic, partition, Offset::Offset(message.offset() + 1))
                    .map_err(|error| classify("remember the position in a topic", &error))?;
                Ok(Some(Seen {
                    topic: topic.to_owned(),
                    partition,
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                }))
            }
        }
    }
}

fn lost(partition: &TopicPartition, from: i64, to: i64) -> Error {
    Error::Fatal(format!(
        "the embedded broker dropped records {from} to {to} of {partition}, because it keeps only some 5 MB of a \
         partition; for more data use a real Kafka: ./mill kafka start, then millrace run"
    ))
}
