//! Reads the topic of versions. Must not know what is done with them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millrace_engine::ports::Error;
use millrace_engine::topology::InternalTopic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::catalogue::{Catalogue, Version};
use super::digest;
use super::writer::COMPONENT_MAX_BYTES;
use crate::kafka::{ClientLog, Clients, classify, create_with};

/// The partition of the records of versions, of what is active and of instances.
pub(super) const RECORDS: i32 = 0;
/// That of the components.
pub(super) const CHUNKS: i32 = 1;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may come of what is there before the broker counts as away.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads what versions there are, and follows it.
pub struct Reader {
    clients: Clients,
    topic: String,
    consumer: BaseConsumer<ClientLog>,
    catalogue: Catalogue,
}

impl Reader {
    /// Reads all that the topic says now. `None`: there is no such topic, nothing was ever pushed.
    pub fn open(clients: &Clients) -> Result<Option<Self>, Error> {
        Self::with(clients, &clients.restore())
    }

    /// The same for a reader that goes on: it asks the broker less often.
    pub fn following(clients: &Clients) -> Result<Option<Self>, Error> {
        Self::with(clients, &clients.standby())
    }

    fn with(clients: &Clients, settings: &ClientConfig) -> Result<Option<Self>, Error> {
        let topic = InternalTopic::modules(clients.application_id());
        let consumer = consumer(settings)?;
        let doing = format!("look for topic {}", topic.name);
        let metadata = consumer.fetch_metadata(Some(&topic.name), REQUEST_TIMEOUT).map_err(|e| classify(&doing, &e))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic.name) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
            Some(code) => return Err(classify(&doing, &KafkaError::MetadataFetch(code))),
        }
        check_partitions(&topic, found.partitions().len())?;
        let mut reader =
            Self { clients: clients.clone(), topic: topic.name, consumer, catalogue: Catalogue::default() };
        assign(&reader.consumer, &reader.topic, RECORDS, Offset::Beginning)?;
        reader.refresh()?;
        Ok(Some(reader))
    }

    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Reads to the end.
    pub fn refresh(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => take(&mut self.catalogue, &message),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => passing(&error)?,
                None if Instant::now() > deadline => {
                    let topic = &self.topic;
                    return Err(Error::Retry(format!("read topic {topic}: no answer in {} s", PATIENCE.as_secs())));
                }
                None => {}
            }
        }
    }

    /// Takes what is new, waiting for it at most so long; says whether there was any.
    pub fn follow(&mut self, timeout: Duration) -> Result<bool, Error> {
        let (mut wait, mut news) = (timeout, false);
        loop {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    take(&mut self.catalogue, &message);
                    news = true;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => continue,
                Some(Err(error)) => passing(&error)?,
                None => return Ok(news),
            }
            wait = Duration::ZERO;
        }
    }

    /// The component of a version, whole and unchanged.
    pub fn fetch(&self, version: &Version) -> Result<Vec<u8>, Error> {
        let damaged = |why: String| {
            let number = version.number;
            Error::Fatal(format!(
                "read version {number} of the module from topic {}: {why}; push the component again, or activate another version",
                self.topic
            ))
        };
        let (Some(&first), Some(&last)) = (version.chunks.first(), version.chunks.last()) else {
            return Err(damaged("its record names no chunks".to_owned()));
        };
        let consumer = consumer(&self.clients.restore())?;
        assign(&consumer, &self.topic, CHUNKS, Offset::Offset(first))?;
        let size = usize::try_from(version.size).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(size.min(COMPONENT_MAX_BYTES));
        let mut missing: BTreeSet<i64> = version.chunks.iter().copied().collect();
        let mut deadline = Instant::now() + PATIENCE;
        while !missing.is_empty() {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(chunk)) => {
                    let offset = chunk.offset();
                    if missing.remove(&offset) {
                        check_chunk(version, &chunk).map_err(damaged)?;
                        bytes.extend_from_slice(chunk.payload().unwrap_or_default());
                        deadline = Instant::now() + PATIENCE;
                    }
                    if offset >= last {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => break,
                Some(Err(error)) => passing(&error)?,
                None if Instant::now() > deadline => {
                    return Err(Error::Retry(format!("read chunks from topic {}: no answer", self.topic)));
                }
                None => {}
            }
        }
        if !missing.is_empty() {
            let (missing, of) = (missing.len(), version.chunks.len());
            return Err(damaged(format!("{missing} of its {of} chunks are not there any more")));
        }
        let (size, found) = (bytes.len() as u64, digest(&bytes));
        if size != version.size || found != version.digest {
            return Err(damaged(format!(
                "its digest is {found} ({size} bytes), but {} ({} bytes) was pushed",
                version.digest, version.size
            )));
        }
        Ok(bytes)
    }
}

fn consumer(settings: &ClientConfig) -> Result<BaseConsumer<ClientLog>, Error> {
    create_with(settings, ClientLog, "reader of module versions")
}

fn assign(consumer: &BaseConsumer<ClientLog>, topic: &str, partition: i32, from: Offset) -> Result<(), Error> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, partition, from)
        .and_then(|()| consumer.assign(&list))
        .map_err(|error| classify(&format!("read topic {topic}"), &error))
}

fn check_partitions(topic: &InternalTopic, found: usize) -> Result<(), Error> {
    if found == topic.partitions as usize {
        return Ok(());
    }
    Err(Error::Fatal(format!(
        "topic {} has {found} partitions, not {}: it is not one that millrace made; delete it, and push the module again",
        topic.name, topic.partitions
    )))
}

fn check_chunk(version: &Version, chunk: &BorrowedMessage<'_>) -> Result<(), String> {
    let index = version.chunks.iter().position(|offset| *offset == chunk.offset()).unwrap_or_default();
    let key = chunk_key(&version.upload, index);
    if chunk.key() == Some(key.as_bytes()) && chunk.payload().is_some() {
        return Ok(());
    }
    Err(format!("what is at offset {} is not its chunk {index}", chunk.offset()))
}

pub(super) fn chunk_key(upload: &str, index: usize) -> String {
    format!("{upload}/{index}")
}

/// One that can't be read is left out: a version that nobody can read is as good as not there.
fn take(catalogue: &mut Catalogue, message: &BorrowedMessage<'_>) {
    let key = String::from_utf8_lossy(message.key().unwrap_or_default());
    if let Err(error) = catalogue.apply(&key, message.payload()) {
        let (topic, offset) = (message.topic(), message.offset());
        tracing::warn!(topic, offset, key = %key, "left out a record of the topic of versions: {error}");
    }
}

/// The client goes on by itself after most errors.
fn passing(error: &KafkaError) -> Result<(), Error> {
    match classify("read the topic of module versions", error) {
        error @ (Error::Fatal(_) | Error::Fenced(_)) => Err(error),
        passing => {
            tracing::debug!(%passing, "will try again");
            Ok(())
        }
    }
}
