//! The traits the core asks for, and the errors they may answer with. Each has a real
//! implementation in the runtime and a fake in the simulation.

use std::fmt;

use crate::context::Context;
use crate::record::{Batch, Changes, Input, Offset, Output, TopicPartition};
use crate::task::StoreSpec;

/// What a failure asks for, not where it came from.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Passing: the same call may succeed later.
    #[error("{0}")]
    Retry(String),
    /// What was begun can't be brought to its end: somebody else owns the tasks now, or the transaction or the client is
    /// gone. Drop the tasks without committing, and start them again from what is committed.
    #[error("{0}")]
    Fenced(String),
    /// The local copy of a task's state can't be trusted: rebuild it from the changelogs.
    #[error("{0}")]
    Corrupt(String),
    /// The module failed on a record and the policy says to stop.
    #[error("{0}")]
    Guest(Fault),
    /// Nothing the process can do about it.
    #[error("{0}")]
    Fatal(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    Deserialization,
    Processing,
    Serialization,
    /// A panic or another trap.
    Trap,
    /// The call took longer than allowed.
    Timeout,
    /// It wanted more memory than allowed.
    Memory,
    /// It wrote more output, or more state, than allowed.
    Flood,
}

impl FaultKind {
    pub const ALL: [Self; 7] = [
        Self::Deserialization,
        Self::Processing,
        Self::Serialization,
        Self::Trap,
        Self::Timeout,
        Self::Memory,
        Self::Flood,
    ];

    /// As in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deserialization => "deserialization",
            Self::Processing => "processing",
            Self::Serialization => "serialization",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Flood => "flood",
        }
    }
}

/// A module's failure in a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    pub kind: FaultKind,
    /// The record's position in the input, when the module knows it.
    pub index: Option<usize>,
    /// The node that failed, when the module knows it.
    pub node: Option<String>,
    pub message: String,
    /// What the module wrote to its log last.
    pub lines: Vec<String>,
}

impl Fault {
    /// A fault of which no more is known.
    #[must_use]
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, index: None, node: None, message: message.into(), lines: Vec::new() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.lines.is_empty() { Ok(()) } else { write!(f, "; its last lines: {}", self.lines.join(" | ")) }
    }
}

/// An instance of the module, bound to one task. It is called from one thread at a time.
///
/// A call lends `context` to the instance: its host functions act on it. A call that fails
/// leaves the instance unusable until [`Guest::reset`]; what it did to the context is undone by
/// the caller. `input` and `changes` are handed back unchanged.
pub trait Guest: Send {
    /// Makes a fresh instance and calls its `init`.
    fn reset(&mut self, context: &mut Context) -> Result<(), Fault>;
    /// One timestamp per record of `input`, whose records are all of one topic.
    fn extract(&mut self, input: &mut Input, partition_time: Option<i64>) -> Result<Vec<i64>, Fault>;
    fn process(&mut self, input: &mut Input, context: &mut Context) -> Result<Vec<Output>, Fault>;
    fn punctuate(&mut self, schedule: u32, timestamp: i64, context: &mut Context) -> Result<Vec<Output>, Fault>;
    fn flush(&mut self, store: &str, changes: &mut Changes, context: &mut Context) -> Result<Vec<Output>, Fault>;
}

/// Index of a store in its subtopology's list of stores.
pub type StoreIndex = usize;

/// How far a task's database has come, stored beside the state, in the same atomic write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// Of each logged store, by name: the changelog offset from which on it lacks records.
    pub changelogs: Vec<(String, Offset)>,
    /// Of each input partition: the next record to process.
    pub inputs: Vec<(TopicPartition, Offset)>,
    /// Highest record timestamp processed.
    pub stream_time: Option<i64>,
    /// Of each store whose entries age, by name: the highest time that a key written to it has named.
    pub observed: Vec<(String, i64)>,
}

impl Positions {
    /// Takes up the time a store has observed, unless it has observed a later one.
    pub fn observe(&mut self, store: &str, time: i64) {
        match self.observed.iter_mut().find(|(name, _)| name == store) {
            Some((_, known)) => *known = time.max(*known),
            None => self.observed.push((store.to_owned(), time)),
        }
    }

    /// The time a store has observed.
    #[must_use]
    pub fn observed(&self, store: &str) -> Option<i64> {
        self.observed.iter().find(|(name, _)| name == store).map(|&(_, time)| time)
    }
}

/// Store, key, new value; `None` deletes.
pub type Change<'a> = (StoreIndex, &'a [u8], Option<&'a [u8]>);

/// One atomic write: all stores of a task and its positions. Later writes of a key win.
#[derive(Debug, Default)]
pub struct Write<'a> {
    pub entries: Vec<Change<'a>>,
    /// Merged into what is stored: positions it does not name stay, and no store observes an earlier time.
    pub positions: Positions,
}

/// Key and value of an entry.
pub type Row<'a> = (&'a [u8], &'a [u8]);

/// Committed state that is read. Its stores are in the order of the task that writes them.
pub trait CommittedState {
    /// Calls `found` with the index in `keys` and the value of every key that exists. The keys are
    /// given in ascending order without repetition.
    fn get(&self, store: StoreIndex, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error>;
    /// Visits `from <= key < to` in key order, or in reverse, until `visit` says false.
    fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error>;
    /// The same of several ranges, one after the other, each until `visit` says false. It is told by `None` that a range is
    /// over, and says then whether to go on with the next one.
    fn scan_each(
        &self,
        store: StoreIndex,
        ranges: &[(&[u8], &[u8])],
        visit: &mut dyn FnMut(usize, Option<Row<'_>>) -> bool,
    ) -> Result<(), Error> {
        for (index, &(from, to)) in ranges.iter().enumerate() {
            self.scan(store, (Some(from), Some(to)), false, &mut |key, value| visit(index, Some((key, value))))?;
            if !visit(index, None) {
                break;
            }
        }
        Ok(())
    }
}

/// The committed state of one task.
pub trait Database: CommittedState + Send {
    /// All or nothing, also across a crash; what was written before is never lost to this write.
    fn write(&mut self, write: Write<'_>) -> Result<(), Error>;
    /// What was written last of each. A store whose content is gone (in memory, after a start) has no position.
    fn positions(&self) -> Result<Positions, Error>;
    /// Empties one store and forgets its changelog position, at once.
    fn clear(&mut self, store: StoreIndex) -> Result<(), Error>;
    /// Forgets the positions of all inputs, before anything that is called after it: the state is about to become
    /// another one than that which agrees with them.
    fn forget_inputs(&mut self) -> Result<(), Error>;
    /// Its stores are these from now on, in this order. One that it has stays as it is. One that goes, or is not among those
    /// that it is opened with, has no position from then on, also when it comes back: the positions of inputs that are
    /// written meanwhile say nothing of it. `Ok(false)`: it would have to be opened anew; it is as it was.
    fn set_stores(&mut self, stores: &[StoreSpec]) -> Result<bool, Error>;
}

/// A record the log refused for itself (too large, invalid), which says nothing of its neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Position in the batch that was sent.
    pub index: usize,
    pub message: String,
}

/// What the group remembers of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub offset: Offset,
    /// Kafka Streams' encoding of the partition time; see `commit`.
    pub metadata: String,
}

/// Where a worker's records go: one producer, and the group's offsets.
pub trait Log: Send {
    /// Begins a transaction unless one is open. Does nothing under at-least-once.
    fn begin(&mut self) -> Result<(), Error>;
    /// Takes the records over for writing, in order per partition. `partitions` names one for each
    /// record, or `None` for the default partitioner. Topics are full names.
    fn send(&mut self, topic: &str, partitions: Partitions<'_>, records: &Batch) -> Result<Vec<Rejected>, Error>;
    /// The first of these records that would be rejected, as far as that is known beforehand: then the call that made it
    /// can still be undone.
    fn objection(&self, topic: &str, records: &Batch) -> Option<Rejected>;
    /// Waits until all that was sent is written, and says where each partition ends that it wrote
    /// to since the last call: the offset after its own last record.
    fn flush(&mut self) -> Result<Vec<(TopicPartition, Offset)>, Error>;
    /// At-least-once: commits to the group. Exactly-once: adds to the transaction and commits it;
    /// after an error nobody knows whether it is committed, before [`Log::abort`] has ended it one way or the other.
    fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result<(), Error>;
    /// Ends what was sent since the last commit, by a former process too, so that nothing of it arrives later.
    /// Exactly-once: it is as if it had never been sent. To be called when all tasks of the log are dropped.
    fn abort(&mut self) -> Result<(), Error>;
}

/// Which partitions records go to.
#[derive(Debug, Clone, Copy)]
pub enum Partitions<'a> {
    /// By murmur2 of the key.
    ByKey,
    /// All to this one, as changelogs are.
    One(u32),
    /// One for each record; -1 by key.
    Each(&'a [i32]),
}
