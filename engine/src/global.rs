//! Owns global stores: how they are filled from all partitions of their topics, and how tasks read them. Must not know how
//! the topics are read, nor where the stores are kept.
//!
//! One task fills all of them ([`Filler`]). Its inputs are all partitions of their topics, its stores are the global ones,
//! and it has no output: the topics are the changelogs, and no group is told how far they were read. That stands in the
//! database alone, in one write with what was made of the records. So a restart goes on where it was.
//!
//! All other tasks read what is committed ([`GlobalStores`]), whenever that was: a record may meet an update that is older
//! or younger than itself, as in Kafka Streams.

use std::sync::Arc;

use crate::commit::{Guarantee, commit};
use crate::overlay::{Entry, parse};
use crate::ports::{Committed, CommittedState, Database, Error, Guest, Log, Partitions, Rejected, StoreIndex};
use crate::quarantine::{Policies, Policy};
use crate::record::{Batch, Column, Offset, TopicPartition};
use crate::task::{Chunk, Fit, Phase, Settings, Start, Successor, Task, TaskSpec};

/// The global stores as tasks read them. None by default.
#[derive(Clone, Default)]
pub struct GlobalStores {
    names: Arc<[String]>,
    state: Option<Arc<dyn CommittedState + Send + Sync>>,
}

impl GlobalStores {
    /// `spec` is that of the task that fills them.
    #[must_use]
    pub fn new(spec: &TaskSpec, state: Arc<dyn CommittedState + Send + Sync>) -> Self {
        Self { names: spec.stores.iter().map(|store| store.name.clone()).collect(), state: Some(state) }
    }

    pub(crate) fn store(&self, name: &str) -> Option<StoreIndex> {
        self.names.iter().position(|known| known == name)
    }

    pub(crate) fn name(&self, store: StoreIndex) -> Option<&str> {
        self.names.get(store).map(String::as_str)
    }

    fn state(&self) -> Result<&(dyn CommittedState + Send + Sync), Error> {
        self.state.as_deref().ok_or_else(|| Error::Fatal("there are no global stores".to_owned()))
    }

    /// Calls `found` with the timestamp and the value of each key, in their order.
    pub(crate) fn get(
        &self,
        store: StoreIndex,
        keys: &Column,
        mut found: impl FnMut(Option<(i64, &[u8])>),
    ) -> Result<(), Error> {
        let asked: Vec<&[u8]> = keys.iter().map(Option::unwrap_or_default).collect();
        let mut sorted = asked.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let mut values: Vec<Option<Vec<u8>>> = vec![None; sorted.len()];
        self.state()?.get(store, &sorted, &mut |index, value| values[index] = Some(value.to_vec()))?;
        for key in asked {
            let value = sorted.binary_search(&key).ok().and_then(|index| values[index].as_deref());
            found(value.map(|value| parse(value).ok_or_else(|| torn(key))).transpose()?);
        }
        Ok(())
    }

    /// Visits `from <= key < to` in key order, or in reverse, until `visit` says false.
    pub(crate) fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        mut visit: impl FnMut(&[u8], i64, &[u8]) -> bool,
    ) -> Result<(), Error> {
        let mut torn_key = None;
        self.state()?.scan(store, range, reverse, &mut |key, value| match parse(value) {
            Some((timestamp, value)) => visit(key, timestamp, value),
            None => {
                torn_key = Some(torn(key));
                false
            }
        })?;
        torn_key.map_or(Ok(()), Err)
    }

    /// The same of several ranges, see [`CommittedState::scan_each`].
    pub(crate) fn scan_each(
        &self,
        store: StoreIndex,
        ranges: &[(&[u8], &[u8])],
        mut visit: impl FnMut(usize, Option<Entry<'_>>) -> bool,
    ) -> Result<(), Error> {
        let mut torn_key = None;
        self.state()?.scan_each(store, ranges, &mut |index, entry| match entry
            .map(|(key, stored)| (key, parse(stored)))
        {
            Some((key, Some((timestamp, value)))) => visit(index, Some((key, timestamp, value))),
            Some((key, None)) => {
                torn_key = Some(torn(key));
                false
            }
            None => torn_key.is_none() && visit(index, None),
        })?;
        torn_key.map_or(Ok(()), Err)
    }
}

/// The task that meets it is not the one whose state can be made anew.
fn torn(key: &[u8]) -> Error {
    Error::Fatal(format!("the value of key {key:02x?} of a global store is too short to hold a timestamp"))
}

/// Fills the global stores.
pub struct Filler {
    task: Task,
}

impl Filler {
    /// `spec` is that of [`crate::topology::Partitioning::global_spec`]. There is nowhere to send dead letters from here:
    /// what would become one is left out.
    #[must_use]
    pub fn new(spec: Arc<TaskSpec>, settings: Settings, guest: Box<dyn Guest>, database: Box<dyn Database>) -> Self {
        let policy = |policy: &Policy| match policy {
            Policy::DeadLetter { .. } => Policy::Skip,
            other => other.clone(),
        };
        let Policies { otherwise, kinds } = &settings.policies;
        let kinds = kinds.iter().map(|(kind, own)| (*kind, policy(own))).collect();
        let policies = Policies { otherwise: policy(otherwise), kinds };
        // What comes of two topics has no order.
        let settings = Settings { policies, max_task_idle_ms: None, ..settings };
        Self { task: Task::new(spec, Arc::new(settings), guest, database) }
    }

    /// Begins at an offset of each input.
    pub fn start(&mut self, offsets: &[Offset], now_ms: i64) -> Result<(), Error> {
        let start = |&offset: &Offset| Start { offset: Some(offset), partition_time: None };
        let stream_time = self.task.stored_positions()?.stream_time;
        self.task.restoring()?;
        self.task.start(&offsets.iter().map(start).collect::<Vec<_>>(), stream_time, now_ms)
    }

    /// Puts records of an input into the stores, and how far it was read. An error: those before the one that failed
    /// are there. After [`Error::Retry`] the rest is done by [`Self::work`].
    pub fn fill(&mut self, input: usize, chunk: Chunk, now_ms: i64) -> Result<(), Error> {
        self.task.add(input, chunk);
        self.work(now_ms)
    }

    /// Does what is left to do.
    pub fn work(&mut self, now_ms: i64) -> Result<(), Error> {
        self.commit()?;
        while self.has_work() {
            let processed = self.task.process(now_ms, &mut Nowhere);
            if self.task.phase() != Phase::Closed {
                self.commit()?;
            }
            processed?;
        }
        Ok(())
    }

    fn has_work(&self) -> bool {
        self.task.is_isolating() || (0..self.task.spec.inputs.len()).any(|input| self.task.buffered_records(input) > 0)
    }

    fn commit(&mut self) -> Result<(), Error> {
        let done = commit(&mut [&mut self.task], &mut Nowhere, Guarantee::AtLeastOnce);
        done.map(|_| ()).map_err(|failure| failure.error)
    }

    /// Goes on with another version of the module, if that fills the same stores from the same topics. Says whether it does.
    pub fn take_over(&mut self, successor: Successor) -> Result<bool, Error> {
        let fits = self.task.spec.stores == successor.spec.stores && self.task.fit(&successor) == Fit::InPlace;
        if fits { self.task.take_over(successor) } else { Ok(false) }
    }

    /// Whether what is made of an input outlasts the process.
    #[must_use]
    pub fn keeps(&self, input: usize) -> bool {
        // The topics of the stores, in the order of the stores, are the inputs.
        let topics = self.task.spec.inputs.chunk_by(|one, other| one.topic == other.topic);
        let mut ends = topics.scan(0, |end, topic| {
            *end += topic.len();
            Some(*end)
        });
        let store = ends.position(|end| input < end).and_then(|store| self.task.spec.stores.get(store));
        store.is_some_and(|store| store.persistent)
    }

    /// The task itself: what it left out, and its state.
    pub fn task(&mut self) -> &mut Task {
        &mut self.task
    }
}

/// Where nothing is written to.
struct Nowhere;

impl Log for Nowhere {
    fn begin(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn send(&mut self, topic: &str, _: Partitions<'_>, _: &Batch) -> Result<Vec<Rejected>, Error> {
        Err(Error::Fatal(format!("nothing of global stores is written to topics, but something was to {topic}")))
    }

    fn objection(&self, _: &str, _: &Batch) -> Option<Rejected> {
        None
    }

    fn flush(&mut self) -> Result<Vec<(TopicPartition, Offset)>, Error> {
        Ok(Vec::new())
    }

    fn commit(&mut self, _: &[(TopicPartition, Committed)]) -> Result<(), Error> {
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
