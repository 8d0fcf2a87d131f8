//! Owns the uncommitted state of a task, over a bounded cache of recently committed values, over the
//! task's database. Must not know who reads and writes it, nor when a commit is due to be made.
//!
//! Rows live in a slab per store (`rows`), found by hash. A row is *dirty* from its first change to the
//! commit that makes it durable, and *clean* after: then it is a cached copy of what the database has
//! (an absent key too) and may be evicted. Nothing dirty ever reaches the database but through
//! [`Overlay::write`].
//!
//! In the database a value is its 8-byte big-endian timestamp and then the value, as Kafka Streams'
//! timestamped stores have it; rows hold that form, so that reading and writing copy it once.
//!
//! Each call of a module runs between [`Overlay::savepoint`] and [`Overlay::rollback`]; the undo log keeps
//! what a row was before its first change in the call.

mod rows;
mod versions;

use std::collections::BTreeMap;
use std::iter::Peekable;

use crate::context::Entries;
use crate::expiry::Expiry;
use crate::ports::{Database, Error, Positions, StoreIndex, Write};
use crate::record::{Batch, Changes, Column, Header};
use rows::{DirtyRows, RowHeader, Store};

/// Bytes before the value in the stored form.
pub const TIMESTAMP_BYTES: usize = 8;

/// A value and its timestamp as the database holds them.
#[must_use]
pub fn stored(timestamp: i64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TIMESTAMP_BYTES + value.len());
    bytes.extend_from_slice(&timestamp.to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// The timestamp and the value in a stored form; `None` if it is none.
#[must_use]
pub fn parse(stored: &[u8]) -> Option<(i64, &[u8])> {
    let (timestamp, value) = stored.split_first_chunk::<TIMESTAMP_BYTES>()?;
    Some((i64::from_be_bytes(*timestamp), value))
}

/// Keys that were looked up in stores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lookups {
    /// Found in memory, or known not to be there.
    pub hits: usize,
    /// Asked of the database.
    pub misses: usize,
}

/// What a store is to the overlay.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreKind {
    /// Its changes since the last flush are remembered with the values they replaced.
    pub(crate) cached: bool,
    pub(crate) expiry: Option<Expiry>,
}

/// The state of a task that no commit has made durable yet, and the way to what is.
#[derive(Default)]
pub(crate) struct Overlay {
    database: Option<Box<dyn Database>>,
    stores: Vec<Store>,
    /// Of each store, what the module wants beside each value in the changelog.
    changelog_headers: Vec<Vec<Header>>,
    cache_bytes: usize,
    lookups: Lookups,
    /// Rows found for the call at hand, kept for its capacity.
    found: Vec<u32>,
}

impl Overlay {
    pub(crate) fn new(database: Box<dyn Database>, stores: &[StoreKind], cache_bytes: usize) -> Self {
        let changelog_headers = vec![Vec::new(); stores.len()];
        let stores = stores.iter().map(|&kind| Store::new(kind)).collect();
        let lookups = Lookups::default();
        Self { database: Some(database), stores, changelog_headers, cache_bytes, lookups, found: Vec::new() }
    }

    /// Nothing is uncommitted. Its stores are these from now on: with the index that a store had, if it was there.
    pub(crate) fn set_stores(&mut self, stores: &[(StoreKind, Option<StoreIndex>)]) {
        let mut known: Vec<Option<Store>> = std::mem::take(&mut self.stores).into_iter().map(Some).collect();
        let kept = |(kind, before): &(StoreKind, Option<StoreIndex>)| {
            before.and_then(|index| known[index].take()).unwrap_or_else(|| Store::new(*kind))
        };
        self.stores = stores.iter().map(kept).collect();
        let headers = std::mem::take(&mut self.changelog_headers);
        let headers = |(_, before): &(StoreKind, Option<StoreIndex>)| before.map(|index| headers[index].clone());
        self.changelog_headers = stores.iter().map(|store| headers(store).unwrap_or_default()).collect();
    }

    pub(crate) fn database(&mut self) -> Result<&mut dyn Database, Error> {
        match &mut self.database {
            Some(database) => Ok(database.as_mut()),
            None => Err(Error::Fatal("the context of a task was used outside of it".to_owned())),
        }
    }

    /// Memory of what waits for a commit.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.stores.iter().map(Store::dirty_bytes).sum()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.stores.iter().any(Store::is_dirty)
    }

    /// From here on changes can be undone.
    pub(crate) fn savepoint(&mut self) {
        self.stores.iter_mut().for_each(Store::savepoint);
    }

    /// Undoes what was changed since the savepoint.
    pub(crate) fn rollback(&mut self) {
        self.stores.iter_mut().for_each(Store::rollback);
    }

    /// Drops everything uncommitted, and the cache with it.
    pub(crate) fn discard(&mut self) {
        for store in &mut self.stores {
            *store = Store::new(store.kind());
        }
    }

    /// Whether each of the keys can be one of the store.
    pub(crate) fn suits(&self, store: StoreIndex, keys: &Column) -> bool {
        let Some(expiry) = self.stores[store].kind().expiry.filter(|expiry| !expiry.is_versioned()) else {
            return true;
        };
        keys.iter().flatten().all(|key| expiry.time(key).is_some())
    }

    /// The highest time that a key written to a store has named, if its entries age.
    pub(crate) fn observed(&self, store: StoreIndex) -> Option<i64> {
        self.stores[store].observed()
    }

    /// Takes up what the database says a store has observed.
    pub(crate) fn observe(&mut self, store: StoreIndex, time: Option<i64>) {
        self.stores[store].observe(time);
    }

    /// Since this was asked last.
    pub(crate) fn take_lookups(&mut self) -> Lookups {
        std::mem::take(&mut self.lookups)
    }

    /// Pushes the value and the timestamp of each key.
    pub(crate) fn get(
        &mut self,
        store: StoreIndex,
        keys: &Column,
        mut found: impl FnMut(Option<(i64, &[u8])>),
    ) -> Result<(), Error> {
        let mut rows = std::mem::take(&mut self.found);
        let read = self.load(store, keys, &mut rows);
        if read.is_ok() {
            for &row in &rows {
                found(self.stores[store].live(row));
            }
        }
        self.found = rows;
        self.evict(store);
        read
    }

    /// The row of each key, read from the database where it has to be.
    fn load(&mut self, store: StoreIndex, keys: &Column, rows: &mut Vec<u32>) -> Result<(), Error> {
        let Some(database) = &self.database else {
            return Err(Error::Fatal("the context of a task was used outside of it".to_owned()));
        };
        let known = &mut self.stores[store];
        rows.clear();
        let mut missing = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            // No store has a null key: the context lets none through, and what a changelog has of them is left out.
            let key = key.unwrap_or_default();
            let row = known.find(key);
            if row.is_none() {
                missing.push((key, index));
            }
            rows.push(row.unwrap_or(u32::MAX));
        }
        self.lookups.hits += rows.len() - missing.len();
        self.lookups.misses += missing.len();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        let mut unique: Vec<&[u8]> = missing.iter().map(|&(key, _)| key).collect();
        unique.dedup();
        let mut read: Vec<Option<Vec<u8>>> = vec![None; unique.len()];
        let mut broken = None;
        database.get(store, &unique, &mut |index, value| match parse(value) {
            Some(_) => read[index] = Some(value.to_vec()),
            None => broken = Some(index),
        })?;
        if let Some(index) = broken {
            return Err(torn(unique[index]));
        }
        let fresh: Vec<u32> = unique.iter().zip(read).map(|(key, value)| known.insert_clean(key, value)).collect();
        let mut at = 0;
        for (key, index) in missing {
            if unique[at] != key {
                at += 1;
            }
            rows[index] = fresh[at];
        }
        Ok(())
    }

    /// Writes each key in order; a null value deletes. The headers, in the order of the entries, are kept
    /// for the flush of a cached store, and for the changelog of another one.
    pub(crate) fn put(&mut self, store: StoreIndex, entries: &Entries, headers: &[Header]) -> Result<(), Error> {
        let Entries { keys, values, timestamps } = entries;
        let mut headers = headers;
        let cached = self.stores[store].is_cached();
        let mut rows = std::mem::take(&mut self.found);
        // The value a change replaces is told only to the flush of a cached store.
        let read = if cached { self.load(store, keys, &mut rows) } else { Ok(()) };
        if read.is_ok() {
            let known = &mut self.stores[store];
            known.observe(known.latest(keys, values));
            for (index, ((key, value), &timestamp)) in keys.iter().zip(values.iter()).zip(timestamps).enumerate() {
                let row = if cached { rows[index] } else { known.find_or_insert_unknown(key.unwrap_or_default()) };
                let own = headers.iter().take_while(|header| header.index as usize == index).count();
                let (own, rest) = headers.split_at(own);
                headers = rest;
                known.change(row, timestamp, value, own);
            }
        }
        self.found = rows;
        read
    }

    /// Makes the keys of these records dirty as they are.
    pub(crate) fn touch(&mut self, store: StoreIndex, records: &Batch) -> Result<(), Error> {
        if self.is_versioned(store) {
            return self.touch_versions(store, records);
        }
        let mut rows = std::mem::take(&mut self.found);
        let read = self.load(store, &records.keys, &mut rows);
        if read.is_ok() {
            let keyed = records.keys.iter().zip(rows.iter().zip(&records.timestamps)).filter(|(key, _)| key.is_some());
            for (_, (&row, &timestamp)) in keyed {
                self.stores[store].touch(row, timestamp);
            }
        }
        self.found = rows;
        read
    }

    /// Visits `from <= key < to` in key order, or in reverse, until `visit` says false.
    pub(crate) fn scan(
        &mut self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        mut visit: impl FnMut(&[u8], i64, &[u8]) -> bool,
    ) -> Result<(), Error> {
        let Some(database) = &self.database else {
            return Err(Error::Fatal("the context of a task was used outside of it".to_owned()));
        };
        let known = &mut self.stores[store];
        known.sort();
        let mut merging = Merging::new(known, range, reverse);
        database.scan(store, range, reverse, &mut |key, value| merging.next(key, value, &mut visit))?;
        merging.finish(&mut visit)
    }

    /// Visits the entries of several ranges, one after the other, each until `visit` says false. It is told by `None` that a
    /// range is over, and says then whether to go on with the next one.
    pub(crate) fn scan_each(
        &mut self,
        store: StoreIndex,
        ranges: &[(&[u8], &[u8])],
        mut visit: impl FnMut(usize, Option<Entry<'_>>) -> bool,
    ) -> Result<(), Error> {
        let Some(database) = &self.database else {
            return Err(Error::Fatal("the context of a task was used outside of it".to_owned()));
        };
        let known = &mut self.stores[store];
        known.sort();
        let (mut merging, mut finished) = (None, Ok(()));
        database.scan_each(store, ranges, &mut |index, entry| {
            let (from, to) = ranges[index];
            let mut merge = merging.take().unwrap_or_else(|| Merging::new(known, (Some(from), Some(to)), false));
            let mut each = |key: &[u8], timestamp, value: &[u8]| visit(index, Some((key, timestamp, value)));
            let Some((key, value)) = entry else {
                finished = merge.finish(&mut each);
                return finished.is_ok() && visit(index, None);
            };
            let going = merge.next(key, value, &mut each);
            merging = Some(merge);
            going
        })?;
        finished
    }

    /// What changed in a cached store since this was asked last, in the order of the last changes.
    pub(crate) fn take_changes(&mut self, store: StoreIndex) -> Changes {
        self.stores[store].take_changes()
    }

    pub(crate) fn set_changelog_headers(&mut self, store: StoreIndex, headers: &[Header]) {
        self.changelog_headers[store] = headers.to_vec();
    }

    /// The headers that each record with a value has in the changelog.
    pub(crate) fn changelog_headers(&self, store: StoreIndex) -> &[Header] {
        &self.changelog_headers[store]
    }

    /// Visits the rows a commit has to make durable, in the order in which they last changed, with the headers that
    /// their records have in the changelog.
    pub(crate) fn dirty(&mut self, store: StoreIndex, visit: impl FnMut(&[u8], i64, Option<&[u8]>, &[RowHeader])) {
        self.stores[store].dirty(visit);
    }

    /// Makes everything durable in one write; what was dirty is clean from then on.
    pub(crate) fn write(&mut self, positions: Positions) -> Result<(), Error> {
        let Some(database) = &mut self.database else {
            return Err(Error::Fatal("the context of a task was used outside of it".to_owned()));
        };
        let mut entries = Vec::new();
        for (index, store) in self.stores.iter().enumerate() {
            store.sorted_dirty(|key, stored| entries.push((index, key, stored)));
        }
        database.write(Write { entries, positions })?;
        for store in 0..self.stores.len() {
            self.stores[store].committed();
            self.evict(store);
        }
        Ok(())
    }

    fn evict(&mut self, store: StoreIndex) {
        let share = self.cache_bytes / self.stores.len();
        self.stores[store].evict(share);
    }
}

/// Key, timestamp and value.
pub(crate) type Entry<'a> = (&'a [u8], i64, &'a [u8]);

/// The way through a range of what is committed and what is dirty over it.
struct Merging<'s> {
    store: &'s Store,
    dirty: Peekable<DirtyRows<'s>>,
    reverse: bool,
    going: bool,
    torn: Option<Vec<u8>>,
}

impl<'s> Merging<'s> {
    /// The store is sorted.
    fn new(store: &'s Store, range: (Option<&'s [u8]>, Option<&'s [u8]>), reverse: bool) -> Self {
        let is_empty = matches!(range, (Some(from), Some(to)) if from >= to);
        let dirty = if is_empty { Box::new(std::iter::empty()) } else { store.range(range, reverse) };
        Self { store, dirty: dirty.peekable(), reverse, going: true, torn: None }
    }

    /// Visits an entry of the database, and what is dirty before it; says whether to go on.
    fn next(&mut self, key: &[u8], value: &[u8], visit: &mut impl FnMut(&[u8], i64, &[u8]) -> bool) -> bool {
        let comes_first = |a: &[u8], b: &[u8]| if self.reverse { a > b } else { a < b };
        while self.going
            && let Some((ours, row)) = self.dirty.peek().copied().filter(|(ours, _)| !comes_first(key, ours))
        {
            self.dirty.next();
            if let Some((timestamp, value)) = self.store.live(row) {
                self.going = visit(ours, timestamp, value);
            }
            if ours == key {
                return self.going;
            }
        }
        if self.going && !self.store.is_over(key, value) {
            self.going = match parse(value) {
                Some((timestamp, value)) => visit(key, timestamp, value),
                None => {
                    self.torn = Some(key.to_vec());
                    false
                }
            };
        }
        self.going
    }

    /// Visits what is dirty behind the last entry of the database.
    fn finish(mut self, visit: &mut impl FnMut(&[u8], i64, &[u8]) -> bool) -> Result<(), Error> {
        if let Some(key) = self.torn {
            return Err(torn(&key));
        }
        while self.going
            && let Some((key, row)) = self.dirty.next()
        {
            if let Some((timestamp, value)) = self.store.live(row) {
                self.going = visit(key, timestamp, value);
            }
        }
        Ok(())
    }
}

fn torn(key: &[u8]) -> Error {
    Error::Corrupt(format!("the stored value of key {key:02x?} is too short to hold a timestamp"))
}

/// Keys of dirty rows in order, for scans.
type Order = BTreeMap<Box<[u8]>, u32>;

#[cfg(test)]
mod tests;
