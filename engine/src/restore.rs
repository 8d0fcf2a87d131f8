//! Owns what a task replays before it starts, and where its inputs go on. Decides from what the disk, the group and the
//! changelogs say; must not know how changelogs are read.
//!
//! What there is to go by: the disk holds a whole commit, with the input offsets it ends at (*stored*) and, of each logged
//! store, the changelog offset up to which it is in it (its *position*). The group knows input offsets, too (*committed*).
//! What a changelog has from the position on is its *tail*.
//!
//! **Inputs** go on at the later of stored and committed. Everything before the stored offset is in the local state; all
//! before the committed one is in the changelogs, since whoever committed it had them written first.
//!
//! **Exactly-once**: the tail holds what transactions committed after the last write to this disk, as far as it is read
//! with `read_committed`. It is always replayed. A task that crashed between the end of its transaction and its write has a
//! committed offset beyond the stored one, and gets the state of the former by its tail.
//!
//! **At-least-once**: the tail may hold two kinds of changes, which nothing tells apart by themselves.
//!
//! - Those of this instance, that crashed after they were acknowledged and before they were written here. They come of
//!   input from the stored offset on, which is processed again: to replay them would count it twice.
//! - Those of another instance which had the task in between. Its input counts as processed, so they must be replayed.
//!
//! Who made them shows in the offsets. This instance writes its disk before it commits to the group, so as long as nobody else
//! commits, no committed offset is beyond the stored one. Hence:
//!
//! - *No input is committed beyond what is stored*: local state and stored offsets agree exactly, and the tail is not applied.
//!   This holds even if another instance had the task, began again at an older committed
//!   offset, and did not get as far as this one had been: what it did, local state has already, without the repetitions. But the
//!   changelog is wrong now: whoever restores from it counts twice. So it is *repaired*: each key of the tail is
//!   written again, with its local value, by the next commit. (A tail is no longer than a commit, unless another instance made it.)
//! - *Some input is*: another instance had the task. All stores replay their tails. With several inputs, one may be committed beyond
//!   what is stored (`a`) and another not (`b`). `b` goes on at its stored offset all the same: whatever this instance had
//!   processed of `b` by then was in the changelogs before it was stored, so the other instance restored it, and built on it
//!   what it wrote.
//!
//! So counts are exact after a crash under at-least-once if the task is restarted on the same disk before another instance has it, and its
//! stores are persistent; from the first commit after that on, anywhere. What does not come of input is not covered: a change made by a wall-clock punctuation that no commit has
//! written is lost with the tail, as if the punctuation had not been due yet.
//!
//! **A store is rebuilt** from the beginning of its changelog if it is not persistent, if it has no position (a new
//! store, a new disk, one that was found corrupt), or if its position is not within the changelog (which was truncated, or deleted and made
//! again). A rebuilt store gets its own tail with the rest: that is more than once, never less. As long as it is not
//! complete it has no position, unless the disk has no stored inputs either: else a crash in between would make half a
//! store look like a whole one at the next start, and the rest of it be skipped.
//!
//! A store without a changelog is left as it is.

use crate::commit::{Guarantee, Metadata};
use crate::overlay::stored;
use crate::ports::{Change, Committed, Error, Positions, StoreIndex, Write};
use crate::record::{Offset, TopicPartition};
use crate::task::{Chunk, Start, Task, TaskSpec};

/// What a plan is made from.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    pub guarantee: Guarantee,
    pub spec: &'a TaskSpec,
    /// What the task's database says.
    pub stored: &'a Positions,
    /// Of each input, what the group says.
    pub committed: &'a [Option<Committed>],
    /// Of each store, where its changelog begins and ends; `None` if it has none.
    pub changelogs: &'a [Option<(Offset, Offset)>],
}

/// What is to be done with one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// It is complete, or there is nothing to complete it from.
    Nothing,
    /// It is complete, but records from `from` up to `to` are not: their keys are to be written again.
    Repair { from: Offset, to: Offset },
    /// Records from `from` up to `to` are to be applied.
    Range {
        from: Offset,
        to: Offset,
        /// To an empty store.
        rebuild: bool,
        /// How far it is may be stored on the way.
        resumable: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each store.
    pub stores: Vec<Replay>,
    /// One for each input.
    pub starts: Vec<Start>,
    pub stream_time: Option<i64>,
}

#[must_use]
pub fn plan(facts: &Facts<'_>) -> Plan {
    let Facts { guarantee, spec, stored, committed, changelogs } = facts;
    let own = |input: usize| {
        let mut inputs = stored.inputs.iter();
        let named = inputs.find(|(at, _)| at.topic == spec.inputs[input].topic && at.partition == spec.id.partition);
        named.map(|&(_, offset)| offset)
    };
    let theirs = |input: usize| committed.get(input).and_then(Option::as_ref);
    let starts: Vec<Start> = (0..spec.inputs.len())
        .map(|input| Start {
            offset: own(input).max(theirs(input).map(|committed| committed.offset)),
            partition_time: theirs(input).and_then(|committed| Metadata::decode(&committed.metadata).partition_time),
        })
        .collect();
    let stored_any = (0..spec.inputs.len()).any(|input| own(input).is_some());
    // `None`, no offset known, is before any other.
    let beyond = (0..spec.inputs.len()).any(|input| theirs(input).map(|committed| committed.offset) > own(input));
    let exact = *guarantee == Guarantee::AtLeastOnce && stored_any && !beyond;
    let stores = spec.stores.iter().enumerate().map(|(index, store)| {
        let Some((begin, end)) = changelogs.get(index).copied().flatten() else { return Replay::Nothing };
        let position = stored.changelogs.iter().find(|(name, _)| *name == store.name).map(|&(_, offset)| offset);
        match position.filter(|&position| store.persistent && begin <= position && position <= end) {
            Some(position) if position == end => Replay::Nothing,
            Some(from) if exact => Replay::Repair { from, to: end },
            Some(from) => Replay::Range { from, to: end, rebuild: false, resumable: true },
            None => Replay::Range { from: begin, to: end, rebuild: true, resumable: !stored_any },
        }
    });
    let stores = stores.collect();
    let latest = starts.iter().filter_map(|start| start.partition_time).max();
    Plan { stores, starts, stream_time: stored.stream_time.max(latest) }
}

/// What is still to be done of a plan.
#[derive(Debug, Default)]
pub(crate) struct Restoration {
    ranges: Vec<Range>,
}

#[derive(Debug)]
struct Range {
    store: StoreIndex,
    next: Offset,
    to: Offset,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The position is stored on the way.
    Resumable,
    /// It is stored at the end.
    Whole,
    Repair,
}

impl Restoration {
    pub(crate) fn is_done(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl Task {
    /// Begins to restore: the task is [`Phase::Restoring`] until [`Task::replays`] has nothing more and it is started.
    ///
    /// [`Phase::Restoring`]: crate::task::Phase::Restoring
    pub fn restore(&mut self, plan: &Plan) -> Result<(), Error> {
        self.restoring()?;
        for (store, replay) in plan.stores.iter().enumerate() {
            let (next, to, mode) = match *replay {
                Replay::Nothing => continue,
                Replay::Repair { from, to } => (from, to, Mode::Repair),
                Replay::Range { from, to, resumable: true, .. } => (from, to, Mode::Resumable),
                Replay::Range { from, to, .. } => (from, to, Mode::Whole),
            };
            if let Replay::Range { rebuild: true, .. } = replay {
                self.context.overlay().database()?.clear(store)?;
            }
            self.restoration.ranges.push(Range { store, next, to, mode });
            // An empty range is done at once.
            self.replay(store, &Chunk::default(), next)?;
        }
        Ok(())
    }

    /// What is still to be replayed: store, changelog, the next record and where it ends.
    #[must_use]
    pub fn replays(&self) -> Vec<(StoreIndex, TopicPartition, Offset, Offset)> {
        let ranges = self.restoration.ranges.iter().filter_map(|range| {
            let changelog = self.spec.stores[range.store].changelog.clone()?;
            Some((range.store, TopicPartition::new(changelog, self.spec.id.partition), range.next, range.to))
        });
        ranges.collect()
    }

    /// Takes records of a changelog, in the order of their offsets; `next` is where the reader stands after them, which may be
    /// behind offsets that have no record. Records and position are written at once, so a crash repeats nothing; a
    /// call that failed with [`Error::Retry`] may be repeated.
    pub fn replay(&mut self, store: StoreIndex, chunk: &Chunk, next: Offset) -> Result<(), Error> {
        let Some(index) = self.restoration.ranges.iter().position(|range| range.store == store) else {
            let name = self.spec.stores.get(store).map_or("?", |store| &store.name);
            return Err(Error::Fatal(format!("task {} has nothing to replay into store {name}", self.spec.id)));
        };
        let Range { to, mode, .. } = self.restoration.ranges[index];
        let done = next >= to;
        match mode {
            Mode::Repair => self.context.overlay().touch(store, &chunk.records)?,
            Mode::Resumable => self.write_replayed(store, chunk, Some(next))?,
            Mode::Whole => self.write_replayed(store, chunk, Some(next).filter(|_| done))?,
        }
        self.restoration.ranges[index].next = next;
        if done {
            self.restoration.ranges.swap_remove(index);
        }
        Ok(())
    }

    fn write_replayed(&mut self, store: StoreIndex, chunk: &Chunk, position: Option<Offset>) -> Result<(), Error> {
        let records = &chunk.records;
        let rows = records.keys.iter().zip(records.values.iter()).zip(&records.timestamps);
        let rows: Vec<(&[u8], Option<Vec<u8>>)> = rows
            .filter_map(|((key, value), &timestamp)| Some((key?, value.map(|value| stored(timestamp, value)))))
            .collect();
        let entries: Vec<Change<'_>> = rows.iter().map(|(key, value)| (store, *key, value.as_deref())).collect();
        let name = self.spec.stores[store].name.clone();
        let changelogs = position.map(|position| (name, position)).into_iter().collect();
        let positions = Positions { changelogs, ..Positions::default() };
        self.context.overlay().database()?.write(Write { entries, positions })
    }
}

#[cfg(test)]
mod tests;
