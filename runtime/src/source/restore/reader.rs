//! Reads changelog partitions from an offset to their end, or on and on, for several tasks at once. Must not know what
//! is done with the records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_engine::ports::{Error, StoreIndex};
use millrace_engine::record::{Offset, TaskId, TopicPartition};
use millrace_engine::task::{Chunk, Task};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::kafka::{ClientLog, Clients, classify, classify_question, create_with, last_seen_end, number};

/// Records of one topic taken in one turn: enough for a write to cost little per record.
const TURN_RECORDS: usize = 10_000;
/// How long to wait for one bound of a changelog. Nothing is restored meanwhile, and who doesn't answer may be gone.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

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
    settings: fn(&Clients) -> ClientConfig,
    /// Asks for the bounds of changelogs; made when first needed and kept.
    asker: Option<Asker>,
    topics: BTreeMap<String, Reader>,
}

struct Reader {
    topic: String,
    consumer: BaseConsumer<ClientLog>,
    partitions: BTreeMap<u32, Open>,
    /// Read, or given up.
    paused: BTreeSet<u32>,
}

/// A partition that is not read to its end yet.
struct Open {
    task: TaskId,
    store: StoreIndex,
    next: Offset,
    /// `None`: it is followed, without an end.
    end: Option<Offset>,
    gathered: Chunk,
    /// There was nothing more when it was read last.
    at_end: bool,
}

impl Readers {
    /// `settings` are those of its clients.
    pub(super) fn new(clients: Clients, settings: fn(&Clients) -> ClientConfig) -> Self {
        Self { clients, settings, asker: None, topics: BTreeMap::new() }
    }

    /// Where the changelog of each store of a task begins and ends, `None` for a store that has none.
    pub(super) fn bounds(&mut self, task: &Task) -> Result<Vec<Option<(Offset, Offset)>>, Error> {
        self.asking(|asker| {
            changelogs(task).map(|changelog| changelog.map(|at| ask(&asker.written, &at)).transpose()).collect()
        })
    }

    /// Whether no transaction is open before these ends: while one is, what it ends in is not known yet.
    pub(super) fn are_settled(&mut self, task: &Task, bounds: &[Option<(Offset, Offset)>]) -> Result<bool, Error> {
        self.asking(|asker| {
            for (changelog, bounds) in changelogs(task).zip(bounds) {
                if let (Some(changelog), Some((_, end))) = (changelog, bounds)
                    && ask(&asker.committed, &changelog)?.1 < *end
                {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// After an error the client is not asked again: it goes on asking the leaders it knows, also those that are gone.
    fn asking<T>(&mut self, question: impl FnOnce(&Asker) -> Result<T, Error>) -> Result<T, Error> {
        let asker = match self.asker.take() {
            Some(asker) => asker,
            None => Asker::new(&self.clients)?,
        };
        let answer = question(&asker)?;
        self.asker = Some(asker);
        Ok(answer)
    }

    /// Begins to read what a task lacks.
    pub(super) fn add(&mut self, task: &Task) -> Result<(), Error> {
        for (store, changelog, next, end) in task.replays() {
            let topic = changelog.topic.to_string();
            if !self.topics.contains_key(&topic) {
                let consumer = create_with(&(self.settings)(&self.clients), ClientLog, "reader of changelogs")?;
                let reader = Reader::new(topic.clone(), consumer);
                self.topics.insert(topic.clone(), reader);
            }
            if let Some(reader) = self.topics.get_mut(&topic) {
                let open = Open { task: task.id(), store, next, end, gathered: Chunk::default(), at_end: false };
                reader.begin(changelog.partition, open)?;
            }
        }
        Ok(())
    }

    /// Stops reading for a task.
    pub(super) fn remove(&mut self, task: TaskId) {
        for reader in self.topics.values_mut() {
            let of_task = reader.partitions.extract_if(.., |_, open| open.task == task);
            let partitions: Vec<u32> = of_task.map(|(partition, _)| partition).collect();
            partitions.into_iter().for_each(|partition| reader.stop(partition));
        }
        self.drop_idle();
    }

    /// Records a task still lacks, at the most: offsets of a compacted topic have gaps.
    pub(super) fn left(&self, task: TaskId) -> u64 {
        let of_reader = |reader: &Reader| {
            let own = reader.partitions.iter().filter(|(_, open)| open.task == task);
            own.map(|(partition, open)| reader.left(*partition, open)).sum::<u64>()
        };
        self.topics.values().map(of_reader).sum()
    }

    /// Whether there was nothing more for a task when its changelogs were read last.
    pub(super) fn at_end(&self, task: TaskId) -> bool {
        self.of_task(task).all(|open| open.at_end)
    }

    fn of_task(&self, task: TaskId) -> impl Iterator<Item = &Open> {
        self.topics.values().flat_map(|reader| reader.partitions.values()).filter(move |open| open.task == task)
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

/// Two clients, as librdkafka asks for the end that its own isolation level sees.
struct Asker {
    written: BaseConsumer<ClientLog>,
    committed: BaseConsumer<ClientLog>,
}

impl Asker {
    fn new(clients: &Clients) -> Result<Self, Error> {
        Ok(Self {
            written: create_with(&clients.watermarks(), ClientLog, "client that asks for watermarks")?,
            committed: create_with(&clients.restore(), ClientLog, "client that asks for stable offsets")?,
        })
    }
}

/// The changelog of each store of a task.
fn changelogs(task: &Task) -> impl Iterator<Item = Option<TopicPartition>> {
    let partition = task.id().partition;
    task.spec().stores.iter().map(move |store| Some(TopicPartition::new(store.changelog.clone()?, partition)))
}

fn ask(client: &BaseConsumer<ClientLog>, partition: &TopicPartition) -> Result<(Offset, Offset), Error> {
    let (begin, end) = client
        .fetch_watermarks(&partition.topic, number(partition), REQUEST_TIMEOUT)
        .map_err(|error| classify_question(&format!("ask for the bounds of {partition}"), &error))?;
    Ok((Offset(begin), Offset(end)))
}

impl Reader {
    fn new(topic: String, consumer: BaseConsumer<ClientLog>) -> Self {
        Self { topic, consumer, partitions: BTreeMap::new(), paused: BTreeSet::new() }
    }

    /// Up to the end that it is read to; what is followed, up to the end that was seen last.
    fn left(&self, partition: u32, open: &Open) -> u64 {
        let seen = || last_seen_end(&self.consumer, &TopicPartition::new(&*self.topic, partition));
        let end = open.end.or_else(seen).map_or(0, |end| end.0);
        u64::try_from(end.saturating_sub(open.next.0)).unwrap_or(0)
    }

    /// Takes up one partition and leaves the others alone: assigning them all anew would stop and start those under way,
    /// and librdkafka (2.12) aborts the process when it is asked to stop one that it is stopping.
    fn begin(&mut self, partition: u32, open: Open) -> Result<(), Error> {
        let offset = rdkafka::Offset::Offset(open.next.0);
        let begun = if self.paused.contains(&partition) {
            self.consumer.resume(&list_of(&self.topic, [partition])).and_then(|()| {
                // What was fetched before is dropped; there is nothing to wait for.
                self.consumer.seek(&self.topic, number_of(partition), offset, Duration::ZERO)
            })
        } else {
            let mut list = TopicPartitionList::with_capacity(1);
            list.add_partition_offset(&self.topic, number_of(partition), offset)
                .and_then(|()| self.consumer.incremental_assign(&list))
        };
        begun.map_err(|error| classify(&format!("read changelog {}", self.topic), &error))?;
        self.paused.remove(&partition);
        self.partitions.insert(partition, open);
        Ok(())
    }

    fn poll(&mut self, wait: Duration, all: &mut Vec<Result<Read, Failure>>) {
        let mut wait = wait;
        for _ in 0..TURN_RECORDS {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => gather(&mut self.partitions, &message),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    all.extend(u32::try_from(partition).ok().and_then(|at| self.ended(at)).map(Ok));
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
            all.push(Ok(open.take_read()));
        }
        // Past the end it was asked for, a changelog is read by nobody: the task is its only writer.
        let read = self.partitions.extract_if(.., |_, open| open.end.is_some_and(|end| open.next >= end));
        let read: Vec<u32> = read.map(|(partition, _)| partition).collect();
        read.into_iter().for_each(|partition| self.stop(partition));
    }

    /// There is nothing more in a partition at the moment.
    fn ended(&mut self, partition: u32) -> Option<Read> {
        let open = self.partitions.get_mut(&partition)?;
        open.at_end = true;
        // What is left up to the end has offsets but is no record to us.
        open.next = open.next.max(open.end?);
        let read = open.take_read();
        self.partitions.remove(&partition);
        self.stop(partition);
        Some(read)
    }

    /// A partition that nobody needs any more is left assigned, so that the others are not fetched
    /// anew, but paused, so that what is written to it from now on is not read.
    fn stop(&mut self, partition: u32) {
        self.paused.insert(partition);
        if let Err(error) = self.consumer.pause(&list_of(&self.topic, [partition])) {
            tracing::debug!(%error, topic = self.topic, partition, "pause a changelog that was read");
        }
    }
}

fn list_of(topic: &str, partitions: impl IntoIterator<Item = u32>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, number_of(partition));
    }
    list
}

fn number_of(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

impl Open {
    fn take_read(&mut self) -> Read {
        Read { task: self.task, store: self.store, chunk: std::mem::take(&mut self.gathered), next: self.next }
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
    open.at_end = false;
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

#[cfg(test)]
mod tests;
