//! Records written to and read from topics, with all that Kafka keeps of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::Kafka;
use crate::topics;

/// What a record is, wherever it lies.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: Option<i64>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    #[must_use]
    pub fn new(key: &str, value: &str) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }

    #[must_use]
    pub fn at(self, timestamp: i64) -> Self {
        Self { timestamp: Some(timestamp), ..self }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.map(Into::into)));
        self
    }

    /// Key and value for a message to people.
    #[must_use]
    pub fn text(&self) -> (String, String) {
        let text =
            |bytes: &Option<Vec<u8>>| bytes.as_deref().map_or("null".into(), |b| String::from_utf8_lossy(b).into());
        (text(&self.key), text(&self.value))
    }
}

/// A record and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub partition: i32,
    pub offset: i64,
    pub record: Record,
}

#[derive(Clone, Default)]
struct Failures(Arc<Mutex<Option<String>>>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().expect("no thread panics with this lock").get_or_insert(error.to_string());
        }
    }
}

/// Writes records as a Java producer would: the same partitions for the same keys, all replicas, in order.
pub struct Writer {
    producer: ThreadedProducer<Failures>,
    failures: Failures,
}

impl Writer {
    pub const NEVER: Duration = Duration::ZERO;

    pub fn new(kafka: &Kafka) -> Result<Self> {
        Self::giving_up_after(kafka, Duration::from_secs(300))
    }

    /// A record that is not acknowledged by then is a failure.
    pub fn giving_up_after(kafka: &Kafka, limit: Duration) -> Result<Self> {
        let failures = Failures::default();
        let producer = kafka
            .client()
            .set("message.timeout.ms", limit.as_millis().to_string())
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("message.max.bytes", "10000000")
            .create_with_context(failures.clone())
            .context("create a producer")?;
        Ok(Self { producer, failures })
    }

    pub fn write(&self, topic: &str, record: &Record) -> Result<()> {
        let headers = (!record.headers.is_empty()).then(|| {
            record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: value.as_ref() })
            })
        });
        self.send(BaseRecord {
            topic,
            partition: None,
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: record.timestamp,
            headers,
            delivery_opaque: (),
        })
    }

    pub fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => return Err(error).context("produce"),
            }
        }
    }

    /// Waits until all is acknowledged.
    pub fn finish(self) -> Result<()> {
        self.producer.flush(Duration::from_secs(120)).context("wait for acknowledgements")?;
        let failure = self.failures.0.lock().expect("no thread panics with this lock").take();
        failure.map_or(Ok(()), |error| bail!("a record was not written: {error}"))
    }
}

pub fn write(kafka: &Kafka, topic: &str, records: &[Record]) -> Result<()> {
    let writer = Writer::new(kafka)?;
    records.iter().try_for_each(|record| writer.write(topic, record))?;
    writer.finish()
}

/// To one partition, without headers.
pub fn write_to(kafka: &Kafka, topic: &str, partition: i32, records: &[Record]) -> Result<()> {
    let writer = Writer::new(kafka)?;
    for Record { key, value, timestamp, .. } in records {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
        record.timestamp = *timestamp;
        let record = record.key(key.as_deref().unwrap_or_default()).payload(value.as_deref().unwrap_or_default());
        writer.send(record)?;
    }
    writer.finish()
}

/// Reads a topic from its beginning, committed records only.
pub struct Reader {
    consumer: BaseConsumer,
    topic: String,
    partitions: usize,
}

impl Reader {
    pub fn new(kafka: &Kafka, topic: &str) -> Result<Self> {
        let partitions =
            topics::partition_count(kafka, topic)?.with_context(|| format!("there is no topic {topic}"))?;
        let consumer: BaseConsumer = kafka
            .client()
            .set("group.id", "millrace-e2e-reader") // asked for, and never used: nothing is committed
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "50")
            .create()
            .context("create a consumer")?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list).context("assign partitions")?;
        Ok(Self { consumer, topic: topic.to_owned(), partitions: usize::try_from(partitions)? })
    }

    /// Calls `each` for every record there is now.
    pub fn for_each(&self, mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>) -> Result<()> {
        let mut ended = vec![false; self.partitions];
        let mut last = Instant::now();
        while ended.contains(&false) {
            match self.consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) => each(&message)?,
                Some(Err(KafkaError::PartitionEOF(partition))) => ended[usize::try_from(partition)?] = true,
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure) => {}
                Some(Err(error)) => return Err(error).with_context(|| format!("read {}", self.topic)),
                None => {
                    ensure!(last.elapsed() < Duration::from_secs(60), "{}: no answer for 60 s", self.topic);
                    continue;
                }
            }
            last = Instant::now();
        }
        Ok(())
    }

    /// Reads on and calls `each` for every record, while it is told to go on. Brokers may come and go.
    pub fn follow(
        &self,
        mut go_on: impl FnMut() -> bool,
        mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
    ) -> Result<()> {
        while go_on() {
            match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => each(&message)?,
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => bail!("read {}: {code}", self.topic),
                // Whatever a broker that goes or comes back answers, the client asks again.
                Some(Err(_)) | None => {}
            }
        }
        Ok(())
    }

    /// Reads on, records and waits, until `enough` of all that was read.
    pub fn until(&self, what: &str, limit: Duration, mut enough: impl FnMut(&[Found]) -> bool) -> Result<Vec<Found>> {
        let start = Instant::now();
        let mut found = Vec::new();
        while !enough(&found) {
            if start.elapsed() > limit {
                let texts: Vec<_> = found.iter().rev().take(20).map(|f: &Found| f.record.text()).collect();
                bail!(
                    "waited {} s in vain for {what}; {} has {} records, the last: {texts:?}",
                    limit.as_secs(),
                    self.topic,
                    found.len()
                );
            }
            match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => found.push(owned(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                // A broker that is away comes back, or the deadline passes.
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) => {}
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure) => {}
                Some(Err(error)) => return Err(error).with_context(|| format!("read {}", self.topic)),
            }
        }
        Ok(found)
    }
}

fn owned(message: &impl Message) -> Found {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(Into::into))).collect()
    });
    let record = Record {
        key: message.key().map(Into::into),
        value: message.payload().map(Into::into),
        timestamp: message.timestamp().to_millis(),
        headers,
    };
    Found { partition: message.partition(), offset: message.offset(), record }
}

/// Whether all transactions in a topic have ended: until then, readers of committed records don't see its end.
pub fn is_settled(kafka: &Kafka, topic: &str) -> Result<bool> {
    let ends = |isolation: &str| -> Result<Vec<i64>> {
        let consumer: BaseConsumer = kafka.client().set("isolation.level", isolation).create()?;
        let partitions = topics::partition_count(kafka, topic)?.unwrap_or_default();
        (0..partitions)
            .map(|partition| Ok(consumer.fetch_watermarks(topic, partition, Duration::from_secs(30))?.1))
            .collect()
    };
    Ok(ends("read_committed")? == ends("read_uncommitted")?)
}

/// Everything there is in a topic now, partition by partition.
pub fn read(kafka: &Kafka, topic: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    Reader::new(kafka, topic)?.for_each(|message| {
        found.push(owned(message));
        Ok(())
    })?;
    found.sort_by_key(|f| (f.partition, f.offset));
    Ok(found)
}

/// What compaction would leave of a topic: the last record of each key of each partition, without deleted ones.
#[must_use]
pub fn compacted(found: Vec<Found>) -> BTreeMap<(i32, Vec<u8>), Record> {
    let mut last = BTreeMap::new();
    for Found { partition, record, .. } in found {
        let key = (partition, record.key.clone().unwrap_or_default());
        if record.value.is_some() {
            last.insert(key, record);
        } else {
            last.remove(&key);
        }
    }
    last
}
