//! Owns the rows of one store in the overlay: a slab found by hash, the undo log of the call at hand,
//! the clock that evicts clean rows. Must not know of the database.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::{Order, TIMESTAMP_BYTES, parse};
use crate::record::{Changes, Header};

/// What a row costs beside its key and value: slab, hash entry, allocator.
const ROW_BYTES: usize = 160;

/// What a header costs beside its key and value.
const HEADER_BYTES: usize = 48;

/// A value in stored form; `None`: no such entry.
type Value = Option<Vec<u8>>;

/// Key and value.
type RowHeader = (String, Option<Vec<u8>>);

#[derive(Debug)]
struct Row {
    key: Arc<[u8]>,
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
    /// Cached stores: the value at the last flush, from the first change after it on.
    old: Option<Value>,
    /// It was dirty before that change too: the database does not have `old`.
    old_dirty: bool,
    /// Cached stores: those of the last change, until the flush.
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
    had_old: bool,
    headers: Vec<RowHeader>,
    /// Bytes of the value in the arena; `None`: there was no entry.
    value: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    cached: bool,
    index: HashMap<Arc<[u8]>, u32>,
    rows: Vec<Option<Row>>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    /// Cached stores: rows changed since the last flush.
    changed: Vec<u32>,
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
}

impl Store {
    pub(super) fn new(cached: bool) -> Self {
        Self { cached, ..Self::default() }
    }

    pub(super) fn is_cached(&self) -> bool {
        self.cached
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
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
        let row = *self.index.get(key)?;
        self.row_mut(row).recent = true;
        Some(row)
    }

    pub(super) fn value(&self, row: u32) -> Option<(i64, &[u8])> {
        parse(self.row(row).value.as_deref()?)
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
        let key: Arc<[u8]> = key.into();
        let row = Row {
            key: key.clone(),
            value,
            dirty: false,
            recent: true,
            call: 0,
            changed: 0,
            timestamp: 0,
            old: None,
            old_dirty: false,
            headers: Vec::new(),
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
        self.index.insert(key, number);
        number
    }

    pub(super) fn change(&mut self, number: u32, timestamp: i64, value: Option<&[u8]>, headers: &[Header]) {
        self.log(number, false);
        self.changes += 1;
        let changes = self.changes;
        let cached = self.cached;
        let row = self.rows[number as usize].as_mut().expect("the caller has just found the row");
        let before = cost(row);
        let was_dirty = std::mem::replace(&mut row.dirty, true);
        row.changed = changes;
        row.timestamp = timestamp;
        let first_since_flush = cached && row.old.is_none();
        if first_since_flush {
            row.old = Some(row.value.clone());
            row.old_dirty = was_dirty;
        }
        if cached {
            row.headers.clear();
            row.headers.extend(headers.iter().map(|header| (header.key.clone(), header.value.clone())));
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
        if was_dirty {
            self.dirty_bytes = self.dirty_bytes - before + after;
        } else {
            self.became_dirty(number, before, after);
        }
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
        let (dirty, changed, timestamp, had_old) = (row.dirty, row.changed, row.timestamp, row.old.is_some());
        let headers = row.headers.clone();
        self.undo.push(Undo { row: number, new, dirty, changed, timestamp, had_old, headers, value });
    }

    pub(super) fn rollback(&mut self) {
        while let Some(undo) = self.undo.pop() {
            let mut row = self.rows[undo.row as usize].take().expect("only clean rows are ever evicted");
            if row.dirty {
                self.dirty_bytes -= cost(&row);
            } else {
                self.clean_bytes -= cost(&row);
            }
            row.value = undo.value.map(|bytes| self.arena.split_off(self.arena.len() - bytes));
            if !undo.dirty
                && let Some(order) = &mut self.order
            {
                order.remove(&row.key);
            }
            if undo.new {
                self.index.remove(&row.key);
                self.free.push(undo.row);
                continue;
            }
            row.dirty = undo.dirty;
            row.changed = undo.changed;
            row.timestamp = undo.timestamp;
            row.headers = undo.headers;
            row.call = 0;
            if !undo.had_old {
                row.old = None;
            }
            if row.dirty {
                self.dirty_bytes += cost(&row);
            } else {
                self.clean_bytes += cost(&row);
            }
            self.rows[undo.row as usize] = Some(row);
        }
        self.dirty.truncate(self.dirty_at_savepoint);
        self.changed.truncate(self.changed_at_savepoint);
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
    ) -> Box<dyn Iterator<Item = (&'a [u8], u32)> + 'a> {
        static NONE: BTreeMap<Arc<[u8]>, u32> = BTreeMap::new();
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
            let old = row.old.take().flatten();
            let headers = std::mem::take(&mut row.headers);
            let freed = before - cost(row);
            let (was_dirty, stays) = (row.dirty, old.is_some() || row.value.is_some());
            if stays {
                let index = u32::try_from(changes.timestamps.len()).expect("row numbers fit");
                changes.headers.extend(headers.into_iter().map(|(key, value)| Header { index, key, value }));
                changes.keys.push(Some(&row.key));
                changes.old_values.push(old.as_deref().and_then(parse).map(|(_, value)| value));
                changes.new_values.push(row.value.as_deref().and_then(parse).map(|(_, value)| value));
                changes.timestamps.push(row.timestamp);
            } else if !row.old_dirty {
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

    pub(super) fn dirty(&mut self, mut visit: impl FnMut(&[u8], i64, Option<&[u8]>)) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable_by_key(|&row| self.row(row).changed);
        for &row in &dirty {
            let value = self.value(row).map(|(_, value)| value);
            visit(&self.row(row).key, self.row(row).timestamp, value);
        }
        self.dirty = dirty;
    }

    /// The dirty rows by key, in stored form: databases write ascending keys faster.
    pub(super) fn sorted_dirty<'a>(&'a self, mut visit: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
        let mut rows: Vec<&Row> = self.dirty.iter().map(|&row| self.row(row)).collect();
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        for row in rows {
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
            if row.dirty || row.old.is_some() || std::mem::take(&mut row.recent) {
                continue;
            }
            self.clean_bytes -= cost(row);
            let key = row.key.clone();
            self.rows[self.hand] = None;
            self.index.remove(&key);
            self.free.push(u32::try_from(self.hand).expect("row numbers fit"));
        }
    }
}

fn cost(row: &Row) -> usize {
    let size = |value: &Value| value.as_ref().map_or(0, Vec::len);
    let headers = row.headers.iter().map(|(key, value)| HEADER_BYTES + key.len() + size(value));
    ROW_BYTES + row.key.len() + size(&row.value) + row.old.as_ref().map_or(0, size) + headers.sum::<usize>()
}
