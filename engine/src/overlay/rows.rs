//! Owns the rows of one store in the overlay: a slab found by hash, the undo log of the call at hand,
//! the clock that evicts clean rows. Must not know of the database.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::ops::Bound;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{Order, StoreKind, TIMESTAMP_BYTES, parse};
use crate::expiry::Expiry;
use crate::record::{Changes, Column, Header};

/// What a row costs beside its key and value: slab, hash entry, allocator.
const ROW_BYTES: usize = 120;

/// What a header costs beside its key and value.
const HEADER_BYTES: usize = 48;

/// A value in stored form; `None`: no such entry.
type Value = Option<Vec<u8>>;

/// Key and value.
pub(crate) type RowHeader = (String, Option<Vec<u8>>);

/// Dirty rows with their keys, in order.
pub(super) type DirtyRows<'a> = Box<dyn Iterator<Item = (&'a [u8], u32)> + 'a>;

#[derive(Debug)]
struct Row {
    key: Box<[u8]>,
    value: Value,
    dirty: bool,
    /// Used since the clock's hand last passed.
    recent: bool,
    /// The call that logged an undo for it last.
    call: u64,
    /// When it last changed, counted in changes.
    changed: u64,
    /// The timestamp of the last change; a deletion has one too.
    timestamp: i64,
    /// Cached stores: what the next flush needs, from the first change after the last one on.
    unflushed: Option<Box<Unflushed>>,
}

#[derive(Debug)]
struct Unflushed {
    /// The value at the last flush.
    old: Value,
    /// The row was dirty before the first change since, too: the database does not have `old`.
    old_dirty: bool,
    /// Those of the last change.
    headers: Vec<RowHeader>,
}

/// What a row was before the call at hand changed it. Its value lies in the log's arena.
#[derive(Debug)]
struct Undo {
    row: u32,
    /// The row was made by the call.
    new: bool,
    dirty: bool,
    changed: u64,
    timestamp: i64,
    /// The headers it had. `None`: it had none, and did not wait for a flush.
    headers: Option<Vec<RowHeader>>,
    /// Bytes of the value in the arena; `None`: there was no entry.
    value: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    kind: StoreKind,
    /// The highest time that a key has named, if entries age.
    observed: Option<i64>,
    observed_at_savepoint: Option<i64>,
    /// Rows by the hashes of their keys.
    index: HashTable<u32>,
    hashes: DefaultHashBuilder,
    rows: Vec<Option<Row>>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    /// Cached stores: rows changed since the last flush.
    changed: Vec<u32>,
    /// Other stores: the headers of dirty rows that have some, for the changelog.
    headers: HashMap<u32, Vec<RowHeader>>,
    header_bytes: usize,
    dirty_bytes: usize,
    clean_bytes: usize,
    hand: usize,
    changes: u64,
    /// Dirty rows by key; kept from the first scan on.
    order: Option<Order>,
    call: u64,
    undo: Vec<Undo>,
    arena: Vec<u8>,
    dirty_at_savepoint: usize,
    changed_at_savepoint: usize,
    /// Versioned stores: what was put, for the changelog.
    puts: Vec<Put>,
    put_bytes: usize,
    puts_at_savepoint: usize,
}

/// A version that was put.
#[derive(Debug)]
struct Put {
    key: Box<[u8]>,
    value: Option<Box<[u8]>>,
    timestamp: i64,
}

impl Put {
    fn cost(&self) -> usize {
        size_of::<Self>() + self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

impl Store {
    pub(super) fn new(kind: StoreKind) -> Self {
        Self { kind, ..Self::default() }
    }

    pub(super) fn kind(&self) -> StoreKind {
        self.kind
    }

    pub(super) fn is_cached(&self) -> bool {
        self.kind.cached
    }

    pub(super) fn observed(&self) -> Option<i64> {
        self.observed
    }

    pub(super) fn observe(&mut self, time: Option<i64>) {
        self.observed = self.observed.max(time);
    }

    /// The latest time that these entries name, if they age.
    pub(super) fn latest(&self, keys: &Column, values: &Column) -> Option<i64> {
        let written = keys.iter().zip(values.iter()).filter_map(|(key, value)| Some((key?, value.is_some())));
        self.kind.expiry?.latest(written)
    }

    /// Whether an entry is gone by age.
    pub(super) fn is_over(&self, key: &[u8], stored: &[u8]) -> bool {
        self.kind.expiry.is_some_and(|expiry| expiry.is_over(key, stored, self.observed))
    }

    /// When its history begins, if it is a versioned store that has observed a time.
    pub(super) fn history(&self) -> Option<i64> {
        let expiry = self.kind.expiry.filter(Expiry::is_versioned)?;
        Some(self.observed?.saturating_sub(expiry.retention_ms))
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.puts.is_empty()
    }

    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes + self.header_bytes + self.put_bytes
    }

    /// Remembers a version for the changelog, which has one record for each.
    pub(super) fn log_put(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: i64) {
        let put = Put { key: key.into(), value: value.map(Into::into), timestamp };
        self.put_bytes += put.cost();
        self.puts.push(put);
    }

    #[cfg(test)]
    pub(super) fn row_count(&self) -> usize {
        self.index.len()
    }

    fn row(&self, row: u32) -> &Row {
        self.rows[row as usize].as_ref().expect("a row number is only kept while its row is there")
    }

    fn row_mut(&mut self, row: u32) -> &mut Row {
        self.rows[row as usize].as_mut().expect("a row number is only kept while its row is there")
    }

    pub(super) fn find(&mut self, key: &[u8]) -> Option<u32> {
        let rows = &self.rows;
        let row = *self.index.find(self.hashes.hash_one(key), |&row| key_of(rows, row) == key)?;
        self.row_mut(row).recent = true;
        Some(row)
    }

    fn value(&self, row: u32) -> Option<(i64, &[u8])> {
        parse(self.row(row).value.as_deref()?)
    }

    /// The value of a row whose entry is not gone by age.
    pub(super) fn live(&self, row: u32) -> Option<(i64, &[u8])> {
        let Row { key, value, .. } = self.row(row);
        value.as_deref().filter(|stored| !self.is_over(key, stored)).and_then(parse)
    }

    /// Remembers what the database has.
    pub(super) fn insert_clean(&mut self, key: &[u8], value: Value) -> u32 {
        let row = self.insert(key, value);
        self.clean_bytes += cost(self.row(row));
        row
    }

    /// A row to be changed at once, whose value in the database nobody asked for.
    pub(super) fn find_or_insert_unknown(&mut self, key: &[u8]) -> u32 {
        if let Some(row) = self.find(key) {
            return row;
        }
        let row = self.insert(key, None);
        self.clean_bytes += cost(self.row(row));
        self.log(row, true);
        row
    }

    fn insert(&mut self, key: &[u8], value: Value) -> u32 {
        let row = Row {
            key: key.into(),
            value,
            dirty: false,
            recent: true,
            call: 0,
            changed: 0,
            timestamp: 0,
            unflushed: None,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.rows[number as usize] = Some(row);
                number
            }
            None => {
                self.rows.push(Some(row));
                u32::try_from(self.rows.len() - 1).expect("memory limits keep rows far below 2^32")
            }
        };
        let (rows, hashes) = (&self.rows, &self.hashes);
        self.index.insert_unique(hashes.hash_one(key), number, |&row| hashes.hash_one(key_of(rows, row)));
        number
    }

    fn remove(&mut self, number: u32) {
        let hash = self.hashes.hash_one(key_of(&self.rows, number));
        let entry = self.index.find_entry(hash, |&other| other == number);
        entry.expect("every row is in the index").remove();
        self.rows[number as usize] = None;
        self.free.push(number);
    }

    pub(super) fn change(&mut self, number: u32, timestamp: i64, value: Option<&[u8]>, headers: &[Header]) {
        self.log(number, false);
        self.changes += 1;
        let changes = self.changes;
        let cached = self.kind.cached;
        let row = self.rows[number as usize].as_mut().expect("the caller has just found the row");
        let before = cost(row);
        let was_dirty = std::mem::replace(&mut row.dirty, true);
        row.changed = changes;
        row.timestamp = timestamp;
        let first_since_flush = cached && row.unflushed.is_none();
        let headers = headers.iter().map(|header| (header.key.clone(), header.value.clone()));
        if cached {
            let old = &row.value;
            let unflushed = row.unflushed.get_or_insert_with(|| {
                Box::new(Unflushed { old: old.clone(), old_dirty: was_dirty, headers: Vec::new() })
            });
            unflushed.headers.clear();
            unflushed.headers.extend(headers.clone());
        }
        match value {
            Some(value) => {
                let bytes = row.value.get_or_insert_default();
                bytes.clear();
                bytes.reserve_exact(TIMESTAMP_BYTES + value.len());
                bytes.extend_from_slice(&timestamp.to_be_bytes());
                bytes.extend_from_slice(value);
            }
            None => row.value = None,
        }
        let after = cost(row);
        if first_since_flush {
            self.changed.push(number);
        }
        if !cached {
            self.set_headers(number, headers.collect());
        }
        if was_dirty {
            self.dirty_bytes = self.dirty_bytes - before + after;
        } else {
            self.became_dirty(number, before, after);
        }
    }

    /// Sets what the changelog is to have beside a dirty row.
    fn set_headers(&mut self, number: u32, headers: Vec<RowHeader>) {
        let size = |headers: &Vec<RowHeader>| headers.iter().map(header_cost).sum::<usize>();
        if headers.is_empty() && self.headers.is_empty() {
            return;
        }
        self.header_bytes += size(&headers);
        let before =
            if headers.is_empty() { self.headers.remove(&number) } else { self.headers.insert(number, headers) };
        self.header_bytes -= before.as_ref().map_or(0, size);
    }

    fn became_dirty(&mut self, number: u32, before: usize, after: usize) {
        self.clean_bytes -= before;
        self.dirty_bytes += after;
        self.dirty.push(number);
        if let Some(order) = &mut self.order {
            let key = self.rows[number as usize].as_ref().map(|row| row.key.clone());
            order.extend(key.map(|key| (key, number)));
        }
    }

    /// Makes a row dirty as it is; `timestamp` is that of a deletion, if it is none.
    pub(super) fn touch(&mut self, number: u32, timestamp: i64) {
        let row = self.row_mut(number);
        row.timestamp = row.value.as_deref().and_then(parse).map_or(timestamp, |(timestamp, _)| timestamp);
        let size = cost(row);
        if !std::mem::replace(&mut row.dirty, true) {
            self.became_dirty(number, size, size);
        }
    }

    pub(super) fn savepoint(&mut self) {
        self.call += 1;
        self.undo.clear();
        self.arena.clear();
        self.dirty_at_savepoint = self.dirty.len();
        self.changed_at_savepoint = self.changed.len();
        self.observed_at_savepoint = self.observed;
        self.puts_at_savepoint = self.puts.len();
    }

    fn log(&mut self, number: u32, new: bool) {
        let row = self.rows[number as usize].as_mut().expect("the caller has just found the row");
        if row.call == self.call {
            return;
        }
        row.call = self.call;
        let value = row.value.as_ref().map(|value| {
            self.arena.extend_from_slice(value);
            value.len()
        });
        let (dirty, changed, timestamp) = (row.dirty, row.changed, row.timestamp);
        let headers = match &row.unflushed {
            Some(unflushed) => Some(unflushed.headers.clone()),
            None => self.headers.get(&number).cloned(),
        };
        self.undo.push(Undo { row: number, new, dirty, changed, timestamp, headers, value });
    }

    pub(super) fn rollback(&mut self) {
        while let Some(undo) = self.undo.pop() {
            let row = self.rows[undo.row as usize].as_mut().expect("only clean rows are ever evicted");
            if row.dirty {
                self.dirty_bytes -= cost(row);
            } else {
                self.clean_bytes -= cost(row);
            }
            let cached = self.kind.cached;
            row.value = undo.value.map(|bytes| self.arena.split_off(self.arena.len() - bytes));
            if !undo.dirty
                && let Some(order) = &mut self.order
            {
                order.remove(&row.key);
            }
            if undo.new {
                self.remove(undo.row);
                self.set_headers(undo.row, Vec::new());
                continue;
            }
            row.dirty = undo.dirty;
            row.changed = undo.changed;
            row.timestamp = undo.timestamp;
            row.call = 0;
            let mut headers = undo.headers;
            match (&mut row.unflushed, headers.take_if(|_| cached)) {
                (Some(unflushed), Some(headers)) => unflushed.headers = headers,
                (unflushed, _) => *unflushed = None,
            }
            if row.dirty {
                self.dirty_bytes += cost(row);
            } else {
                self.clean_bytes += cost(row);
            }
            self.set_headers(undo.row, headers.unwrap_or_default());
        }
        self.dirty.truncate(self.dirty_at_savepoint);
        self.changed.truncate(self.changed_at_savepoint);
        self.observed = self.observed_at_savepoint;
        self.put_bytes -= self.puts.drain(self.puts_at_savepoint..).map(|put| put.cost()).sum::<usize>();
    }

    /// Has the dirty rows in key order from now on.
    pub(super) fn sort(&mut self) {
        if self.order.is_none() {
            self.order = Some(self.dirty.iter().map(|&row| (self.row(row).key.clone(), row)).collect());
        }
    }

    /// The dirty rows of a range, which needs `sort` before.
    pub(super) fn range<'a>(
        &'a self,
        (from, to): (Option<&'a [u8]>, Option<&'a [u8]>),
        reverse: bool,
    ) -> DirtyRows<'a> {
        static NONE: Order = BTreeMap::new();
        let bounds = (from.map_or(Bound::Unbounded, Bound::Included), to.map_or(Bound::Unbounded, Bound::Excluded));
        let rows = self.order.as_ref().unwrap_or(&NONE).range::<[u8], _>(bounds).map(|(key, &row)| (&**key, row));
        if reverse { Box::new(rows.rev()) } else { Box::new(rows) }
    }

    /// A key that came and went since the last flush is no change, and nothing to make durable:
    /// neither the database nor the changelog ever had it.
    pub(super) fn take_changes(&mut self) -> Changes {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable_by_key(|&row| self.row(row).changed);
        let mut changes = Changes::default();
        let mut vanished = false;
        for number in changed {
            let row = self.row_mut(number);
            let before = cost(row);
            let unflushed = row.unflushed.take().expect("a changed row waits for the flush");
            let Unflushed { old, old_dirty, headers } = *unflushed;
            let freed = before - cost(row);
            let (was_dirty, stays) = (row.dirty, old.is_some() || row.value.is_some());
            if stays {
                let index = u32::try_from(changes.timestamps.len()).expect("row numbers fit");
                changes.headers.extend(headers.into_iter().map(|(key, value)| Header { index, key, value }));
                changes.keys.push(Some(&row.key));
                changes.old_values.push(old.as_deref().and_then(parse).map(|(_, value)| value));
                changes.new_values.push(row.value.as_deref().and_then(parse).map(|(_, value)| value));
                changes.timestamps.push(row.timestamp);
            } else if !old_dirty {
                row.dirty = false;
                vanished = true;
            }
            let (after, now_dirty) = (before - freed, row.dirty);
            *(if was_dirty { &mut self.dirty_bytes } else { &mut self.clean_bytes }) -= before;
            *(if now_dirty { &mut self.dirty_bytes } else { &mut self.clean_bytes }) += after;
        }
        if vanished {
            self.forget_clean();
        }
        changes
    }

    /// Takes rows that are clean again off the lists of dirty ones.
    fn forget_clean(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|&row| {
            let row = self.rows[row as usize].as_ref().expect("only clean rows are ever evicted");
            if !row.dirty
                && let Some(order) = &mut self.order
            {
                order.remove(&row.key);
            }
            row.dirty
        });
        self.dirty = dirty;
    }

    pub(super) fn dirty(&mut self, mut visit: impl FnMut(&[u8], i64, Option<&[u8]>, &[RowHeader])) {
        if self.kind.expiry.as_ref().is_some_and(Expiry::is_versioned) {
            return self.puts.iter().for_each(|put| visit(&put.key, put.timestamp, put.value.as_deref(), &[]));
        }
        // Sorted by copies of what they are sorted by: the rows themselves are all over the memory.
        let mut dirty: Vec<(u64, u32)> = self.dirty.iter().map(|&row| (self.row(row).changed, row)).collect();
        dirty.sort_unstable();
        for (place, &(_, number)) in self.dirty.iter_mut().zip(&dirty) {
            *place = number;
        }
        for (_, number) in dirty {
            let row = self.row(number);
            let headers = self.headers.get(&number).map_or(&[][..], Vec::as_slice);
            visit(&row.key, row.timestamp, self.value(number).map(|(_, value)| value), headers);
        }
    }

    /// The dirty rows by key, in stored form: databases write ascending keys faster.
    pub(super) fn sorted_dirty<'a>(&'a self, mut visit: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
        let rows = || self.dirty.iter().map(|&row| self.row(row));
        // Most comparisons need only the bytes in which keys begin to differ, which are copied side by side.
        let common = common_prefix(rows().map(|row| &*row.key));
        let mut sorted: Vec<([u8; 8], &Row)> = rows().map(|row| (begin(&row.key[common..]), row)).collect();
        sorted.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.key.cmp(&y.key)));
        for (_, row) in sorted {
            visit(&row.key, row.value.as_deref());
        }
    }

    /// What was dirty is in the database now.
    pub(super) fn committed(&mut self) {
        for number in std::mem::take(&mut self.dirty) {
            self.row_mut(number).dirty = false;
        }
        self.clean_bytes += std::mem::take(&mut self.dirty_bytes);
        self.undo.clear();
        self.arena.clear();
        self.headers.clear();
        self.header_bytes = 0;
        self.puts.clear();
        self.put_bytes = 0;
        if let Some(order) = &mut self.order {
            order.clear();
        }
    }

    /// Forgets clean rows once they take more than `limit` bytes, first those not used for longest, roughly.
    pub(super) fn evict(&mut self, limit: usize) {
        if self.clean_bytes <= limit {
            return;
        }
        // Somewhat below the limit, so that not every read has to evict again.
        let enough = limit - limit / 16;
        // Two turns of the hand: the first may only find rows in recent use.
        for _ in 0..self.rows.len() * 2 {
            if self.clean_bytes <= enough {
                break;
            }
            self.hand = (self.hand + 1) % self.rows.len();
            let Some(row) = &mut self.rows[self.hand] else { continue };
            // A row that waits for a flush is needed although it is durable.
            if row.dirty || row.unflushed.is_some() || std::mem::take(&mut row.recent) {
                continue;
            }
            self.clean_bytes -= cost(row);
            self.remove(u32::try_from(self.hand).expect("row numbers fit"));
        }
    }
}

fn key_of(rows: &[Option<Row>], number: u32) -> &[u8] {
    rows[number as usize].as_ref().map_or(&[], |row| &row.key)
}

/// How many bytes all of these keys begin with.
fn common_prefix<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> usize {
    let Some(first) = keys.next() else { return 0 };
    keys.fold(first.len(), |common, key| first[..common].iter().zip(key).take_while(|(a, b)| a == b).count())
}

/// The first bytes of a key; a shorter one is filled up with the least there are.
fn begin(key: &[u8]) -> [u8; 8] {
    let mut begin = [0; 8];
    let length = key.len().min(8);
    begin[..length].copy_from_slice(&key[..length]);
    begin
}

fn header_cost((key, value): &RowHeader) -> usize {
    HEADER_BYTES + key.len() + value.as_ref().map_or(0, Vec::len)
}

fn cost(row: &Row) -> usize {
    let size = |value: &Value| value.as_ref().map_or(0, Vec::len);
    let unflushed = row
        .unflushed
        .as_ref()
        .map_or(0, |unflushed| size(&unflushed.old) + unflushed.headers.iter().map(header_cost).sum::<usize>());
    ROW_BYTES + row.key.len() + size(&row.value) + unflushed
}
