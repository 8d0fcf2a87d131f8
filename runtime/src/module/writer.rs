//! Writes the topic of versions: components in chunks, and all changes of what is active, one at a time. Must not know
//! why something is changed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millrace_engine::ports::Error;
use millrace_engine::topology::InternalTopic;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer, ProducerContext};

use super::catalogue::Catalogue;
use super::topic::{CHUNKS, RECORDS, Reader, chunk_key};
use crate::kafka::{ClientLog, Clients, Topics, classify, create_with};

/// Well below `max.message.bytes` of any broker.
const CHUNK_BYTES: usize = 512 << 10;
/// A component this large is a mistake: debug information, or data that belongs in a topic.
pub const COMPONENT_MAX_BYTES: usize = 256 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);
/// A new topic is soon known to all brokers.
const TOPIC_PATIENCE: Duration = Duration::from_secs(20);

/// A record to write: with a value, or without one to take back what its key says.
pub(super) type Change = (String, Option<Vec<u8>>);

/// A component that is in the topic, but of no version yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    pub upload: String,
    pub chunks: Vec<i64>,
}

/// The one that may change what is active, until another one registers.
pub struct Writer {
    clients: Clients,
    topic: String,
    producer: BaseProducer<Sent>,
    reader: Reader,
}

impl Writer {
    /// Creates the topic if need be, takes the right to change it, and reads what is there.
    pub fn open(clients: &Clients, replication: i32) -> Result<Self, Error> {
        let topic = InternalTopic::modules(clients.application_id());
        if Reader::open(clients)?.is_none() {
            Topics::connect(clients)?.create(&[&topic], replication)?;
        }
        let producer: BaseProducer<Sent> =
            create_with(&clients.module_writer(true), Sent::default(), "writer of versions")?;
        let doing = "take the right to change the versions of the module";
        producer.init_transactions(TIMEOUT).map_err(|error| changed(doing, &error))?;
        // Only now: what others wrote before is there, and what they write later is void.
        let deadline = Instant::now() + TOPIC_PATIENCE;
        let reader = loop {
            match Reader::open(clients)? {
                Some(reader) => break reader,
                None if Instant::now() > deadline => {
                    return Err(Error::Retry(format!(
                        "topic {} was created, but the brokers don't show it",
                        topic.name
                    )));
                }
                None => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        Ok(Self { clients: clients.clone(), topic: topic.name, producer, reader })
    }

    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        self.reader.catalogue()
    }

    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Writes a component. It is nobody's until a version names it.
    pub fn upload(&self, component: &[u8]) -> Result<Uploaded, Error> {
        let upload = uuid::Uuid::new_v4().to_string();
        let parts = component.chunks(CHUNK_BYTES).enumerate();
        let records = parts.map(|(index, part)| (chunk_key(&upload, index), Some(part)));
        let chunks = write(&self.clients, &self.topic, CHUNKS, records)?;
        Ok(Uploaded { upload, chunks })
    }

    /// Deletes chunks for good, once the topic is compacted.
    pub fn delete_chunks(&self, upload: &str, count: usize) -> Result<(), Error> {
        let records = (0..count).map(|index| (chunk_key(upload, index), None));
        write(&self.clients, &self.topic, CHUNKS, records).map(drop)
    }

    /// Makes changes, all or none.
    pub fn change(&self, changes: &[Change]) -> Result<(), Error> {
        let doing = "change the versions of the module";
        let made = self
            .producer
            .begin_transaction()
            .and_then(|()| {
                let changes = changes.iter().map(|(key, value)| (key.as_str(), value.as_deref()));
                send(&self.producer, &self.topic, RECORDS, changes)
            })
            .and_then(|_| self.producer.flush(TIMEOUT))
            .and_then(|()| self.producer.commit_transaction(TIMEOUT));
        made.map_err(|error| changed(doing, &error))
    }
}

/// Says what an instance runs.
pub fn announce(clients: &Clients, (key, value): Change) -> Result<(), Error> {
    let topic = InternalTopic::modules(clients.application_id());
    write(clients, &topic.name, RECORDS, [(key, value.as_deref())].into_iter()).map(drop)
}

fn changed(doing: &str, error: &KafkaError) -> Error {
    match classify(doing, error) {
        Error::Fenced(_) => Error::Fenced(format!(
            "{doing}: somebody else changed them at the same moment, and nothing of this change was made; see `millrace module \
             list`, then try again"
        )),
        class => class,
    }
}

/// Writes records and says at which offsets they are.
fn write<'a>(
    clients: &Clients,
    topic: &str,
    partition: i32,
    records: impl Iterator<Item = (String, Option<&'a [u8]>)>,
) -> Result<Vec<i64>, Error> {
    let producer: BaseProducer<Sent> =
        create_with(&clients.module_writer(false), Sent::default(), "writer of versions")?;
    let doing = format!("write to topic {topic}");
    let classify = |error: KafkaError| classify(&doing, &error);
    let sent = send(&producer, topic, partition, records).map_err(classify)?;
    producer.flush(TIMEOUT).map_err(classify)?;
    let mut offsets = Vec::with_capacity(sent);
    for outcome in producer.context().take() {
        offsets.push(outcome.map_err(classify)?);
    }
    if offsets.len() == sent {
        return Ok(offsets);
    }
    Err(Error::Retry(format!("{doing}: {} of {sent} records were acknowledged in time", offsets.len())))
}

/// Hands records to the producer; says how many.
fn send<'a>(
    producer: &BaseProducer<Sent>,
    topic: &str,
    partition: i32,
    records: impl Iterator<Item = (impl AsRef<str>, Option<&'a [u8]>)>,
) -> Result<usize, KafkaError> {
    let mut sent = 0;
    for (key, value) in records {
        let mut record = BaseRecord::<str, [u8]>::to(topic).partition(partition).key(key.as_ref());
        if let Some(value) = value {
            record = record.payload(value);
        }
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    record = refused;
                    producer.poll(Duration::from_millis(50));
                }
                Err((error, _)) => return Err(error),
            }
        }
        sent += 1;
    }
    Ok(sent)
}

/// What became of records, in the order they were sent.
#[derive(Default)]
struct Sent(Mutex<Vec<Result<i64, KafkaError>>>);

impl Sent {
    fn take(&self) -> Vec<Result<i64, KafkaError>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Sent {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        ClientLog::line(level, facility, line);
    }
}

impl ProducerContext<NoCustomPartitioner> for Sent {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
    }
}
