//! Owns what a task replays before it starts, and where its inputs go on. Decides from what the disk, the group and the
//! changelogs say; must not know how changelogs are read.
//!
//! What there is to go by: the disk holds a whole commit, with the input offsets it ends at (*stored*) and, of
//! each logged store, the changelog offset up to which it is in it (its *position*). The group knows input
//! offsets, too (*committed*). What a changelog has from the position on is its *tail*.
//!
//! **Exactly-once**: the tail holds what transactions committed after the last write to this disk, as far as it
//! is read with `read_committed`. It is always replayed. A task that crashed between the end of its transaction
//! and its write has a committed offset beyond the stored one, and gets the state of the former by its tail.
//!
//! **At-least-once**: the tail may hold two kinds of changes, which nothing tells apart by themselves.
//!
//! - Those of this instance, that crashed after they were acknowledged and before they were written here. They come of
//!   input from the stored offset on, which is processed again: to replay them would count it twice.
//! - Those of another instance which had the task in between. Its input counts as processed, so they must be replayed.
//!
//! Who made them shows in the offsets. This instance writes its disk before it commits to the group, so as long
//! as nobody else commits, no committed offset is beyond the stored one. Hence:
//!
//! - *No input is committed beyond what is stored, and no store has to be rebuilt*: local state and stored
//!   offsets agree exactly, and the tail is not applied.
//!   This holds even if another instance had the task, began again at an older committed
//!   offset, and did not get as far as this one had been: what it did, local state has already, without the repetitions. But the
//!   changelog is wrong now: whoever restores from it counts twice. So it is *repaired*: each key of the tail is
//!   written again, with its local value, by the next commit. (A tail is no longer than a commit, unless another instance made it.)
//! - *Else* another instance had the task, or some of the state is gone. All stores replay their tails, which
//!   makes of the local state what that
//!   instance left.
//!
//! **Inputs** go on where the state does: at the stored offsets in the first case, else at the committed ones,
//! even where they are lower. With several inputs, `a` may be committed beyond what is stored and `b` not: what
//! this instance had processed of `b` last is in the state the other one left only if that one restored it; it
//! may have had a disk, and repaired the changelog. (The later of the two offsets for each input lost records;
//! the simulation found it.)
//!
//! So counts are exact after a crash under at-least-once if the task is restarted on the same disk before
//! another instance has it, and its stores are persistent; from the first commit after that on, anywhere. What
//! does not come of input is not covered: a change made by a wall-clock punctuation that no commit has written
//! is lost with the tail, as if the punctuation had not been due yet.
//!
//! **A store is rebuilt** from the beginning of its changelog if it has no position (a new store, a new disk, one that
//! was found corrupt, one in memory whose process is gone), or if its position is not within the changelog (which
//! was truncated, or deleted and made again). One without a position whose changelog is empty is *new*: it is made empty, which
//! agrees with whatever offsets are stored. A rebuilt store gets its own tail with the rest: that is more
//! than once, never less. Before it is emptied the stored inputs are forgotten: else a crash in between would make
//! half a store look like a whole one at the next start, and the rest of it be skipped.
//!
//! A store without a changelog is left as it is.
//!
//! Changelogs are taken to end where their records do (the high watermark), not at their last stable offset. The
//! transaction that a committed offset comes of may be without its marker in a changelog yet, and then the reader
//! has to wait for that: a restore that stops at the last stable offset loses what the transaction committed.

use std::collections::BTreeMap;

use crate::commit::{Guarantee, Metadata};
use crate::overlay::stored;
use crate::ports::{Change, Committed, Error, Positions, StoreIndex, Write};
use crate::record::{Batch, Offset, TopicPartition};
use crate::task::{Chunk, InputSpec, Start, StoreSpec, Task, TaskSpec};

mod standby;

/// What a plan is made from.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    pub guarantee: Guarantee,
    pub spec: &'a TaskSpec,
    /// What the task's database says.
    pub stored: &'a Positions,
    /// Of each input, what the group says.
    pub committed: &'a [Option<Committed>],
    /// Of each store, where its changelog begins and ends (the high watermark); `None` if it has none.
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
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each store.
    pub stores: Vec<Replay>,
    /// One for each input.
    pub starts: Vec<Start>,
    pub stream_time: Option<i64>,
    /// What the module has kept with the task.
    pub metadata: BTreeMap<String, i64>,
}

/// How far a store has come, if that is within its changelog.
fn position(stored: &Positions, store: &StoreSpec, (begin, end): (Offset, Offset)) -> Option<Offset> {
    let known = stored.changelogs.iter().find(|(name, _)| *name == store.name).map(|&(_, offset)| offset);
    known.filter(|&offset| begin <= offset && offset <= end)
}

/// Whether nobody has ever committed anything to a store: another version of the module has brought it.
pub(crate) fn is_new(stored: &Positions, store: &StoreSpec, (begin, end): (Offset, Offset)) -> bool {
    begin == end && stored.changelogs.iter().all(|(name, _)| *name != store.name)
}

#[must_use]
pub fn plan(facts: &Facts<'_>) -> Plan {
    let Facts { guarantee, spec, stored, committed, changelogs } = facts;
    let own = |input: usize| {
        let mut inputs = stored.inputs.iter();
        let InputSpec { topic, partition, .. } = &spec.inputs[input];
        let named = inputs.find(|(at, _)| at.topic == *topic && at.partition == *partition);
        named.map(|&(_, offset)| offset)
    };
    let theirs = |input: usize| committed.get(input).and_then(Option::as_ref);
    let stored_any = (0..spec.inputs.len()).any(|input| own(input).is_some());
    // `None`, no offset known, is before any other.
    let beyond = (0..spec.inputs.len()).any(|input| theirs(input).map(|committed| committed.offset) > own(input));
    let nobody_else = stored_any && !beyond;
    let changelog = |store: usize| changelogs.get(store).copied().flatten();
    let position = |store: usize| position(stored, &spec.stores[store], changelog(store)?);
    // A store that is rebuilt gets what the changelog has, and that may be less than what is stored.
    let whole = (0..spec.stores.len()).all(|store| {
        changelog(store).is_none_or(|bounds| position(store).is_some() || is_new(stored, &spec.stores[store], bounds))
    });
    let own_state = nobody_else && whole;
    let mut metadata = BTreeMap::new();
    let start = |input| {
        let group = theirs(input).map(|committed| committed.offset);
        let beside = theirs(input).map(|committed| Metadata::decode(&committed.metadata)).unwrap_or_default();
        for (key, value) in beside.processors {
            metadata.entry(key).and_modify(|known: &mut i64| *known = value.max(*known)).or_insert(value);
        }
        Start {
            offset: if own_state { own(input) } else { group.or(own(input)) },
            partition_time: beside.partition_time,
        }
    };
    let starts: Vec<Start> = (0..spec.inputs.len()).map(start).collect();
    let exact = *guarantee == Guarantee::AtLeastOnce && own_state;
    let replay = |store| match (changelog(store), position(store)) {
        (None, _) => Replay::Nothing,
        (Some((_, end)), Some(position)) if position == end => Replay::Nothing,
        (Some((_, to)), Some(from)) if exact => Replay::Repair { from, to },
        (Some((_, to)), Some(from)) => Replay::Range { from, to, rebuild: false },
        (Some((from, to)), None) => Replay::Range { from, to, rebuild: true },
    };
    let stores = (0..spec.stores.len()).map(replay).collect();
    let latest = starts.iter().filter_map(|start| start.partition_time).max();
    Plan { stores, starts, stream_time: stored.stream_time.max(latest), metadata }
}

/// What is still to be done of a plan, or what a standby follows.
#[derive(Debug, Default)]
pub(crate) struct Restoration {
    ranges: Vec<Range>,
}

#[derive(Debug)]
struct Range {
    store: StoreIndex,
    next: Offset,
    /// `None`: it is followed without an end.
    to: Option<Offset>,
    /// Its keys are written again, instead of being applied.
    repair: bool,
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
        self.context.metadata.clone_from(&plan.metadata);
        // A store that is new is empty, and so it was at the stored inputs.
        if plan.stores.iter().any(|replay| matches!(replay, Replay::Range { from, to, rebuild: true } if from < to)) {
            self.context.overlay().database()?.forget_inputs()?;
        }
        for (store, replay) in plan.stores.iter().enumerate() {
            let (next, to) = match *replay {
                Replay::Nothing => continue,
                Replay::Repair { from, to } | Replay::Range { from, to, .. } => (from, to),
            };
            if let Replay::Range { rebuild: true, .. } = replay {
                self.context.overlay().database()?.clear(store)?;
            }
            let repair = matches!(replay, Replay::Repair { .. });
            self.restoration.ranges.push(Range { store, next, to: Some(to), repair });
            // An empty range is done at once.
            self.replay(store, &Chunk::default(), next)?;
        }
        Ok(())
    }

    /// What is still to be replayed: store, changelog, the next record and where it ends; `None` if it is followed.
    #[must_use]
    pub fn replays(&self) -> Vec<(StoreIndex, TopicPartition, Offset, Option<Offset>)> {
        let ranges = self.restoration.ranges.iter().filter_map(|range| {
            let changelog = self.spec.stores[range.store].changelog.clone()?;
            Some((range.store, TopicPartition::new(changelog, self.spec.id.partition), range.next, range.to))
        });
        ranges.collect()
    }

    /// Takes records of a changelog, in the order of their offsets; `next` is where the reader stands after
    /// them, which may be behind offsets that have no record. Records and position are written at once, so a
    /// crash repeats nothing; a call that failed with [`Error::Retry`] may be repeated.
    pub fn replay(&mut self, store: StoreIndex, chunk: &Chunk, next: Offset) -> Result<(), Error> {
        let Some(index) = self.restoration.ranges.iter().position(|range| range.store == store) else {
            let name = self.spec.stores.get(store).map_or("?", |store| &store.name);
            return Err(Error::Fatal(format!("task {} has nothing to replay into store {name}", self.spec.id)));
        };
        let Range { to, repair, .. } = self.restoration.ranges[index];
        self.observe_stored(store)?;
        if repair {
            self.context.overlay().touch(store, &chunk.records)?;
        } else {
            self.write_replayed(store, chunk, next)?;
        }
        self.restoration.ranges[index].next = next;
        if to.is_some_and(|to| next >= to) {
            self.restoration.ranges.swap_remove(index);
        }
        Ok(())
    }

    fn write_replayed(&mut self, store: StoreIndex, chunk: &Chunk, position: Offset) -> Result<(), Error> {
        let records = &chunk.records;
        if self.context.overlay().is_versioned(store) {
            return self.replay_versions(store, records, position);
        }
        let rows = records.keys.iter().zip(records.values.iter()).zip(&records.timestamps);
        let rows: Vec<(&[u8], Option<Vec<u8>>)> = rows
            .filter_map(|((key, value), &timestamp)| Some((key?, value.map(|value| stored(timestamp, value)))))
            .collect();
        let entries: Vec<Change<'_>> = rows.iter().map(|(key, value)| (store, *key, value.as_deref())).collect();
        let spec = &self.spec.stores[store];
        let mut positions = Positions { changelogs: vec![(spec.name.clone(), position)], ..Positions::default() };
        let written = entries.iter().map(|&(_, key, value)| (key, value.is_some()));
        if let Some(time) = spec.expiry.and_then(|expiry| expiry.latest(written)) {
            positions.observe(&spec.name, time);
        }
        self.context.overlay().database()?.write(Write { entries, positions })
    }

    /// Takes up the time that a versioned store has observed, by which versions are too old.
    fn observe_stored(&mut self, store: StoreIndex) -> Result<(), Error> {
        if self.context.overlay().is_versioned(store) && self.context.overlay().observed(store).is_none() {
            let stored = self.context.overlay().database()?.positions()?;
            self.context.overlay().observe(store, stored.observed(&self.spec.stores[store].name));
        }
        Ok(())
    }

    /// What a version changes depends on those before it: they are put again, as the module did.
    fn replay_versions(&mut self, store: StoreIndex, records: &Batch, position: Offset) -> Result<(), Error> {
        let name = self.spec.stores[store].name.clone();
        let overlay = self.context.overlay();
        overlay.savepoint();
        let replayed = overlay.replay_versions(store, records).and_then(|()| {
            let mut positions = Positions { changelogs: vec![(name.clone(), position)], ..Positions::default() };
            if let Some(time) = overlay.observed(store) {
                positions.observe(&name, time);
            }
            overlay.write(positions)
        });
        if replayed.is_err() {
            overlay.rollback();
        }
        replayed
    }
}

#[cfg(test)]
mod tests;
