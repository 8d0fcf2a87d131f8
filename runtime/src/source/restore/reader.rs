//! Reads changelog partitions from an offset to their end, for several tasks at once. Must not
//! know what is done with the records.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_engine::ports::{Error, StoreIndex};
use millrace_engine::record::{Offset, TaskId, TopicPartition};
use millrace_engine::task::{Chunk, Task};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};

use crate::kafka::{ClientLog, Clients, classify, create_with, number};

/// Records of one topic taken in one turn: enough for a write to cost little per record.
const TURN_RECORDS: usize = 10_000;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Records of a changelog, for one store of a task.
pub(super) struct Read {
    pub(super) task: TaskId,
    pub(super) store: StoreIndex,
    pub(super) chunk: Chunk,
    /// Where the reader stands.
    pub(super) next: Offset,
}

/// Why tasks can't be restored at the moment, or not at all.
pub(super) type Failure = (Vec<TaskId>, Error);

/// One reader per changelog topic that is read at the moment.
pub(super) struct Readers {
    clients: Clients,
    /// Asks for the bounds of changelogs; made when first needed and kept.
    asker: Option<BaseConsumer<ClientLog>>,
    topics: BTreeMap<String, Reader>,
}

struct Reader {
    topic: String,
    consumer: BaseConsumer<ClientLog>,
    partitions: BTreeMap<u32, Open>,
}

/// A partition that is not read to its end yet.
struct Open {
    task: TaskId,
    store: StoreIndex,
    next: Offset,
    end: Offset,
    gathered: Chunk,
}

impl Readers {
    pub(super) fn new(clients: Clients) -> Self {
        Self { clients, asker: None, topics: BTreeMap::new() }
    }

    /// Where the changelog of each store of a task begins and ends; `None` if it has none.
    pub(super) fn bounds(&mut self, task: &Task) -> Result<Vec<Option<(Offset, Offset)>>, Error> {
        if self.asker.is_none() {
            self.asker = Some(create_with(&self.clients.restore(), ClientLog, "restore reader")?);
        }
        let mut bounds = Vec::new();
        for store in &task.spec().stores {
            let (Some(changelog), Some(asker)) = (&store.changelog, &self.asker) else {
                bounds.push(None);
                continue;
            };
            let partition = TopicPartition::new(changelog.clone(), task.id().partition);
            let (begin, end) = asker
                .fetch_watermarks(changelog, number(&partition), REQUEST_TIMEOUT)
                .map_err(|error| classify(&format!("ask for the bounds of {partition}"), &error))?;
            bounds.push(Some((Offset(begin), Offset(end))));
        }
        Ok(bounds)
    }

    /// Begins to read what a task lacks.
    pub(super) fn add(&mut self, task: &Task) -> Result<(), Error> {
        for (store, changelog, next, end) in task.replays() {
            // One without an end is a standby's, which is not read here.
            let Some(end) = end else { continue };
            let topic = changelog.topic.to_string();
            if !self.topics.contains_key(&topic) {
                let consumer = create_with(&self.clients.restore(), ClientLog, "restore reader")?;
                let reader = Reader { topic: topic.clone(), consumer, partitions: BTreeMap::new() };
                self.topics.insert(topic.clone(), reader);
            }
            if let Some(reader) = self.topics.get_mut(&topic) {
                let open = Open { task: task.id(), store, next, end, gathered: Chunk::default() };
                reader.partitions.insert(changelog.partition, open);
                reader.assign()?;
            }
        }
        Ok(())
    }

    /// Stops reading for a task.
    pub(super) fn remove(&mut self, task: TaskId) {
        for reader in self.topics.values_mut() {
            reader.partitions.retain(|_, open| open.task != task);
        }
        self.drop_idle();
    }

    /// Records a task still lacks, at the most: offsets of a compacted topic have gaps.
    pub(super) fn left(&self, task: TaskId) -> i64 {
        let open = self.topics.values().flat_map(|reader| reader.partitions.values());
        open.filter(|open| open.task == task).map(|open| (open.end.0 - open.next.0).max(0)).sum()
    }

    /// What can be read now; waits for it a moment.
    pub(super) fn poll(&mut self, wait: Duration) -> Vec<Result<Read, Failure>> {
        let mut all = Vec::new();
        for reader in self.topics.values_mut() {
            reader.poll(wait, &mut all);
        }
        self.drop_idle();
        all
    }

    fn drop_idle(&mut self) {
        self.topics.retain(|_, reader| !reader.partitions.is_empty());
    }
}

impl Reader {
    fn assign(&self) -> Result<(), Error> {
        let mut list = TopicPartitionList::with_capacity(self.partitions.len());
        for (partition, open) in &self.partitions {
            let partition = i32::try_from(*partition).unwrap_or(i32::MAX);
            // What was gathered was not handed over yet, but is not lost: `next` is after it.
            list.add_partition_offset(&self.topic, partition, rdkafka::Offset::Offset(open.next.0))
                .map_err(|error| classify("name the changelogs to read", &error))?;
        }
        self.consumer.assign(&list).map_err(|error| classify(&format!("read changelog {}", self.topic), &error))
    }

    fn poll(&mut self, wait: Duration, all: &mut Vec<Result<Read, Failure>>) {
        let mut wait = wait;
        for _ in 0..TURN_RECORDS {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => gather(&mut self.partitions, &message),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if let Some(mut open) = u32::try_from(partition).ok().and_then(|at| self.partitions.remove(&at)) {
                        self.stop(partition);
                        // What is left up to the end has offsets but is no record to us.
                        open.next = open.next.max(open.end);
                        all.push(Ok(open.into_read()));
                    }
                }
                Some(Err(error)) => {
                    let tasks = self.partitions.values().map(|open| open.task).collect();
                    if let Some(failure) = failure(&self.topic, &error) {
                        all.push(Err((tasks, failure)));
                        break;
                    }
                }
            }
            wait = Duration::ZERO;
        }
        for open in self.partitions.values_mut().filter(|open| !open.gathered.offsets.is_empty()) {
            let rest = Open { gathered: Chunk::default(), ..*open };
            all.push(Ok(std::mem::replace(open, rest).into_read()));
        }
        // Past the end it was asked for, a changelog is read by nobody: the task is its only writer.
        self.partitions.retain(|_, open| open.next < open.end);
    }

    /// A partition that was read is left assigned, so that the others are not fetched anew, but
    /// paused, so that what is written to it from now on is not read.
    fn stop(&self, partition: i32) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        if let Err(error) = self.consumer.pause(&list) {
            tracing::debug!(%error, topic = self.topic, partition, "pause a changelog that was read");
        }
    }
}

impl Open {
    fn into_read(self) -> Read {
        Read { task: self.task, store: self.store, chunk: self.gathered, next: self.next }
    }
}

fn gather(partitions: &mut BTreeMap<u32, Open>, message: &BorrowedMessage<'_>) {
    let open = u32::try_from(message.partition()).ok().and_then(|partition| partitions.get_mut(&partition));
    let Some(open) = open else { return };
    let records = &mut open.gathered.records;
    records.keys.push(message.key());
    records.values.push(message.payload());
    records.timestamps.push(message.timestamp().to_millis().unwrap_or(0).max(0));
    open.gathered.offsets.push(message.offset());
    open.next = Offset(message.offset() + 1);
}

/// What an error of a reader means for the tasks it reads for; `None`: librdkafka tries again.
fn failure(topic: &str, error: &KafkaError) -> Option<Error> {
    let doing = format!("read changelog {topic}");
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            Some(Error::Corrupt(format!("{doing}: it no longer has the offset that local state is at: {error}")))
        }
        _ => match classify(&doing, error) {
            Error::Fatal(message) => Some(Error::Fatal(message)),
            passing => {
                tracing::warn!(%passing, "will try again");
                None
            }
        },
    }
}
