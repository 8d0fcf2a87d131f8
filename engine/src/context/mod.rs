//! Owns what a module may reach while it is called: the stores of its task, its schedules, the
//! clock. The guest adapter forwards host calls to it; it must not know how they arrive.
//!
//! All that comes in was made by the module and is checked here before it is used. A context is lent to
//! an instance for the length of a call, by value if need be: it is `Default` and cheap to move.

mod schedule;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::global::GlobalStores;
use crate::overlay::{Entry, Overlay, StoreKind};
use crate::ports::{Database, Error, StoreIndex};
use crate::record::{Column, Header};
use crate::versions::LATEST;
use schedule::Schedules;

pub use versions::Versions;

/// Different nodes and reasons a task counts dropped records by; more of them count as one.
const DROPPED_MAX: usize = 100;

/// Bytes that the numbers a module keeps with its task may take, with their names: a broker refuses more than 4 KiB of
/// metadata beside an offset, which are base64.
const KEPT_BYTES_MAX: usize = 2_800;

/// Rows of a store. A null value: no such entry, or delete it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    pub keys: Column,
    pub values: Column,
    pub timestamps: Vec<i64>,
}

/// Entries of several ranges, one range after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Of each range, how many there are.
    pub counts: Vec<u32>,
    pub entries: Entries,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    StreamTime,
    WallClock,
}

/// A host call the module was not entitled to make; the adapter turns it into a trap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub String);

/// Records left out by a node, for metrics and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    pub node: String,
    pub reason: String,
    pub count: u64,
}

/// What one call may take of the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallLimits {
    /// Keys, values and headers written to stores. A batch of ordinary records writes a few of them each; a
    /// module in a loop must not fill the host's memory before its time is up.
    pub state_bytes: usize,
    /// Keys and values of one answer.
    pub answer_bytes: usize,
}

/// What a task lends to its instance of the module for the length of a call.
#[derive(Default)]
pub struct Context {
    overlay: Overlay,
    stores: Arc<[String]>,
    /// Their indices follow those of the task's own stores.
    globals: GlobalStores,
    partitions: Arc<BTreeMap<String, u32>>,
    limits: CallLimits,
    pub(crate) schedules: Schedules,
    pub(crate) now_ms: i64,
    pub(crate) stream_time: Option<i64>,
    pub(crate) commit_requested: bool,
    /// Numbers of the module that are committed beside the offsets.
    pub(crate) metadata: BTreeMap<String, i64>,
    dropped: Vec<Dropped>,
    failure: Option<Error>,
    /// Written by the call at hand.
    written: usize,
    flooded: bool,
    saved: Option<Saved>,
}

/// What a failed call leaves as it was, beside the overlay.
struct Saved {
    schedules: Schedules,
    stream_time: Option<i64>,
    commit_requested: bool,
    metadata: BTreeMap<String, i64>,
    dropped: Vec<Dropped>,
}

impl Context {
    pub(crate) fn new(
        database: Box<dyn Database>,
        stores: &[(String, StoreKind)],
        partitions: Arc<BTreeMap<String, u32>>,
        cache_bytes: usize,
        limits: CallLimits,
    ) -> Self {
        let kinds: Vec<StoreKind> = stores.iter().map(|&(_, kind)| kind).collect();
        Self {
            overlay: Overlay::new(database, &kinds, cache_bytes),
            stores: stores.iter().map(|(name, _)| name.clone()).collect(),
            partitions,
            limits,
            ..Self::default()
        }
    }

    pub(crate) fn read_globals(&mut self, globals: GlobalStores) {
        self.globals = globals;
    }

    /// A store of the running subtopology, or a global one.
    #[must_use]
    pub fn store(&self, name: &str) -> Option<StoreIndex> {
        let own = self.stores.iter().position(|store| store == name);
        own.or_else(|| Some(self.stores.len() + self.globals.store(name)?))
    }

    /// The index of a global store among these.
    fn global(&self, store: StoreIndex) -> Option<StoreIndex> {
        store.checked_sub(self.stores.len())
    }

    /// The value and timestamp of each key, in the order asked; the keys of the answer are empty.
    pub fn get(&mut self, store: StoreIndex, keys: &Column) -> Result<Entries, Misuse> {
        if self.is_versioned(store) {
            let Versions { values, valid_from, .. } = self.get_as_of(store, keys, &vec![LATEST; keys.len()])?;
            return Ok(Entries { keys: Column::default(), values, timestamps: valid_from });
        }
        self.check_readable(store)?;
        check_keys(keys)?;
        let mut answer = Entries::default();
        answer.timestamps.reserve(keys.len());
        answer.values.lengths.reserve(keys.len());
        let limit = self.limits.answer_bytes;
        let mut full = false;
        let found = |found: Option<(i64, &[u8])>| {
            full |= answer.values.bytes.len() + found.map_or(0, |(_, value)| value.len()) > limit;
            let found = found.filter(|_| !full);
            answer.values.push(found.map(|(_, value)| value));
            answer.timestamps.push(found.map_or(0, |(timestamp, _)| timestamp));
        };
        let read = match self.global(store) {
            None => self.overlay.get(store, keys, found),
            Some(global) => self.globals.get(global, keys, found),
        };
        self.answered(read, full)?;
        Ok(answer)
    }

    /// Written in order; a null value deletes.
    pub fn put(&mut self, store: StoreIndex, entries: &Entries) -> Result<(), Misuse> {
        self.put_with_headers(store, entries, &[])
    }

    /// The same with headers of the entries by their indices, which a cached store keeps for its flush.
    pub fn put_with_headers(&mut self, store: StoreIndex, entries: &Entries, headers: &[Header]) -> Result<(), Misuse> {
        if self.is_versioned(store) {
            return self.put_versions(store, entries).map(drop);
        }
        self.check_put(store, entries, headers)?;
        let written = self.overlay.put(store, entries, headers);
        self.answered(written, false)
    }

    /// Whether the module may write this.
    fn check_put(&mut self, store: StoreIndex, entries: &Entries, headers: &[Header]) -> Result<(), Misuse> {
        self.check_writable(store)?;
        check_keys(&entries.keys)?;
        if !entries.values.check() {
            return Err(Misuse("malformed column of values".to_owned()));
        }
        let rows = entries.keys.len();
        if entries.values.len() != rows || entries.timestamps.len() != rows {
            let (values, timestamps) = (entries.values.len(), entries.timestamps.len());
            return Err(Misuse(format!("{rows} keys, {values} values and {timestamps} timestamps put into a store")));
        }
        if !self.overlay.suits(store, &entries.keys) {
            let store = &self.stores[store];
            return Err(Misuse(format!("a key put into {store} is too short to end in the times of its window")));
        }
        let in_order = headers.windows(2).all(|pair| pair[0].index <= pair[1].index);
        if !in_order || headers.last().is_some_and(|last| last.index as usize >= rows) {
            return Err(Misuse(format!("headers out of order, or of other entries than the {rows} put into a store")));
        }
        let header_bytes = headers.iter().map(|header| header.key.len() + header.value.as_ref().map_or(0, Vec::len));
        let bytes = entries.keys.bytes.len() + entries.values.bytes.len() + header_bytes.sum::<usize>();
        self.written = self.written.saturating_add(bytes);
        if self.written > self.limits.state_bytes {
            self.flooded = true;
            let limit = self.limits.state_bytes;
            return Err(Misuse(format!("one call wrote more than {limit} bytes to stores")));
        }
        Ok(())
    }

    /// What each record with a value gets as headers in the store's changelog from now on.
    pub fn set_changelog_headers(&mut self, store: StoreIndex, headers: &[Header]) -> Result<(), Misuse> {
        self.check_writable(store)?;
        self.overlay.set_changelog_headers(store, headers);
        Ok(())
    }

    /// At most `limit` entries of `from <= key < to`.
    pub fn scan(
        &mut self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        limit: u32,
    ) -> Result<Entries, Misuse> {
        self.check_scannable(store)?;
        let mut answer = Entries::default();
        if limit == 0 {
            return Ok(answer);
        }
        let bytes_max = self.limits.answer_bytes;
        let mut full = false;
        let visit = |key: &[u8], timestamp: i64, value: &[u8]| {
            full = !append(&mut answer, (key, timestamp, value), bytes_max);
            !full && answer.timestamps.len() < limit as usize
        };
        let read = match self.global(store) {
            None => self.overlay.scan(store, range, reverse, visit),
            Some(global) => self.globals.scan(global, range, reverse, visit),
        };
        self.answered(read, full)?;
        Ok(answer)
    }

    /// At most `limit` entries of each range `from <= key < to`. Half full, the answer ends with a range.
    pub fn scan_each(&mut self, store: StoreIndex, from: &Column, to: &Column, limit: u32) -> Result<Found, Misuse> {
        self.check_scannable(store)?;
        check_keys(from)?;
        check_keys(to)?;
        if from.len() != to.len() {
            return Err(Misuse(format!("{} ranges of a store begin and {} end", from.len(), to.len())));
        }
        if limit == 0 {
            return Ok(Found { counts: vec![0; from.len()], entries: Entries::default() });
        }
        let ranges: Vec<_> = from.iter().flatten().zip(to.iter().flatten()).collect();
        let mut found = Found { counts: Vec::with_capacity(ranges.len()), entries: Entries::default() };
        let bytes_max = self.limits.answer_bytes;
        let (mut full, mut count) = (false, 0);
        let visit = |_, entry: Option<Entry<'_>>| match entry {
            Some(entry) => {
                count += 1;
                full = !append(&mut found.entries, entry, bytes_max);
                !full && count < limit
            }
            None => {
                found.counts.push(std::mem::take(&mut count));
                !full && size(&found.entries) <= bytes_max / 2
            }
        };
        let read = match self.global(store) {
            None => self.overlay.scan_each(store, &ranges, visit),
            Some(global) => self.globals.scan_each(global, &ranges, visit),
        };
        self.answered(read, full)?;
        Ok(found)
    }

    fn check_scannable(&self, store: StoreIndex) -> Result<(), Misuse> {
        self.check_readable(store)?;
        if self.is_versioned(store) {
            return Err(Misuse(format!("{} keeps versions, which are read by their keys", self.stores[store])));
        }
        Ok(())
    }

    pub fn schedule(&mut self, interval_ms: i64, clock: Clock, anchor: Option<i64>) -> Result<u32, Misuse> {
        let now = match clock {
            Clock::StreamTime => self.stream_time,
            Clock::WallClock => Some(self.now_ms),
        };
        self.schedules.add(interval_ms, clock, anchor, now)
    }

    pub fn cancel(&mut self, schedule: u32) {
        self.schedules.cancel(schedule);
    }

    pub fn request_commit(&mut self) {
        self.commit_requested = true;
    }

    /// A number that was kept under a key by this task, wherever it ran.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<i64> {
        self.metadata.get(key).copied()
    }

    /// Keeps a number under a key, to be committed beside the offsets.
    pub fn set_metadata(&mut self, key: &str, value: i64) -> Result<(), Misuse> {
        let size = |key: &str| key.len() + size_of::<i32>() + size_of::<i64>();
        let others = self.metadata.keys().filter(|known| *known != key).map(|known| size(known)).sum::<usize>();
        if others + size(key) > KEPT_BYTES_MAX {
            return Err(Misuse(format!(
                "more than {KEPT_BYTES_MAX} bytes kept beside the offsets of a task, with {key}"
            )));
        }
        self.metadata.insert(key.to_owned(), value);
        Ok(())
    }

    #[must_use]
    pub fn wall_clock_ms(&self) -> i64 {
        self.now_ms
    }

    /// The highest timestamp processed by the task, for `init`.
    #[must_use]
    pub fn stream_time(&self) -> Option<i64> {
        self.stream_time
    }

    #[must_use]
    pub fn partition_count(&self, topic: &str) -> Option<u32> {
        self.partitions.get(topic).copied()
    }

    /// Another version of the module has other topics.
    pub(crate) fn replace_partitions(&mut self, partitions: Arc<BTreeMap<String, u32>>) -> Arc<BTreeMap<String, u32>> {
        std::mem::replace(&mut self.partitions, partitions)
    }

    /// Another version of the module has other stores. Nothing is uncommitted.
    pub(crate) fn set_stores(&mut self, stores: &[(String, StoreKind)]) {
        let kept: Vec<_> = stores.iter().map(|(name, kind)| (*kind, self.store(name))).collect();
        self.overlay.set_stores(&kept);
        self.stores = stores.iter().map(|(name, _)| name.clone()).collect();
    }

    pub fn dropped(&mut self, node: &str, reason: &str, count: u32) {
        let same = |known: &&mut Dropped| known.node == node && known.reason == reason;
        if let Some(known) = self.dropped.iter_mut().find(same) {
            known.count += u64::from(count);
        } else if self.dropped.len() < DROPPED_MAX {
            self.dropped.push(Dropped { node: node.to_owned(), reason: reason.to_owned(), count: count.into() });
        } else if let Some(last) = self.dropped.last_mut() {
            "other reasons".clone_into(&mut last.reason);
            last.count += u64::from(count);
        }
    }

    /// The failure of the database behind a [`Misuse`], if that is what it was: it says more than
    /// the trap that followed, and must be looked at first.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Whether the call that failed was stopped for writing too much.
    pub(crate) fn take_flooded(&mut self) -> bool {
        std::mem::take(&mut self.flooded)
    }

    pub(crate) fn take_dropped(&mut self) -> Vec<Dropped> {
        std::mem::take(&mut self.dropped)
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.overlay.is_dirty()
    }

    /// Memory of what waits for a commit.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.overlay.dirty_bytes()
    }

    pub(crate) fn overlay(&mut self) -> &mut Overlay {
        &mut self.overlay
    }

    /// Begins a call.
    pub(crate) fn savepoint(&mut self) {
        self.written = 0;
        self.flooded = false;
        self.failure = None;
        self.overlay.savepoint();
        self.saved = Some(Saved {
            schedules: self.schedules.clone(),
            stream_time: self.stream_time,
            commit_requested: self.commit_requested,
            metadata: self.metadata.clone(),
            dropped: self.dropped.clone(),
        });
    }

    /// Undoes the call begun last.
    pub(crate) fn rollback(&mut self) {
        self.overlay.rollback();
        if let Some(saved) = self.saved.take() {
            self.schedules = saved.schedules;
            self.stream_time = saved.stream_time;
            self.commit_requested = saved.commit_requested;
            self.metadata = saved.metadata;
            self.dropped = saved.dropped;
        }
    }

    fn check_readable(&self, store: StoreIndex) -> Result<(), Misuse> {
        match self.global(store) {
            Some(global) if self.globals.name(global).is_none() => {
                Err(Misuse(format!("there is no store {store} in this task")))
            }
            _ => Ok(()),
        }
    }

    fn check_writable(&self, store: StoreIndex) -> Result<(), Misuse> {
        self.check_readable(store)?;
        match self.global(store).and_then(|global| self.globals.name(global)) {
            None => Ok(()),
            Some(name) => Err(Misuse(format!("{name} is a global store, which only its own processor writes"))),
        }
    }

    fn answered(&mut self, done: Result<(), Error>, full: bool) -> Result<(), Misuse> {
        if let Err(error) = done {
            let misuse = Misuse(format!("the state of the task can't be reached: {error}"));
            self.failure = Some(error);
            return Err(misuse);
        }
        if full {
            self.flooded = true;
            return Err(Misuse(format!("more than {} bytes asked of a store at once", self.limits.answer_bytes)));
        }
        Ok(())
    }
}

fn size(entries: &Entries) -> usize {
    entries.keys.bytes.len() + entries.values.bytes.len()
}

/// Says whether there was room for the entry.
fn append(entries: &mut Entries, (key, timestamp, value): Entry<'_>, bytes_max: usize) -> bool {
    let room = size(entries) + key.len() + value.len() <= bytes_max;
    if room {
        entries.keys.push(Some(key));
        entries.values.push(Some(value));
        entries.timestamps.push(timestamp);
    }
    room
}

fn check_keys(keys: &Column) -> Result<(), Misuse> {
    if !keys.check() {
        return Err(Misuse("malformed column of keys".to_owned()));
    }
    if keys.lengths.contains(&-1) {
        return Err(Misuse("a store has no null key".to_owned()));
    }
    Ok(())
}
