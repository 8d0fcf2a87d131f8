//! Owns the way of a record to the windows of its key and back: what is there in a span of time, one write at a time,
//! and the updates that come of it. Must not know which windows there are.

use std::rc::Rc;

use super::keyed::TableStore;
use crate::contract::{Cursor, Failure, Fault, empty_entries, index, push, push_bytes};
use crate::rows::{Col, Cut, Data, Meta, Updates};
use crate::run::Run;
use crate::serdes::SharedSerde;
use crate::windows::Windowed;

/// How many entries the host is asked for at once: mostly all there are of a key.
const CHUNK: u32 = 64;

/// What is behind the time in the key that no entry of a span reaches: behind its own time an entry has no more than eight
/// bytes, none of which begins with a 1.
const BEHIND: [u8; 8] = [0xff; 8];

/// Where the entries of a key begin, from a time up to another one (both included), and where they end.
pub(super) fn span(prefix: &[u8], (from, to): (i64, i64)) -> [Vec<u8>; 2] {
    [[prefix, &from.to_be_bytes()].concat(), [prefix, &to.to_be_bytes(), &BEHIND].concat()]
}

/// The key whose span ends there.
pub(super) fn prefix_of(end: &[u8]) -> &[u8] {
    &end[..end.len() - size_of::<i64>() - BEHIND.len()]
}

/// An aggregate in its window, as it is stored.
pub(super) struct Found<K, A> {
    pub(super) key: Windowed<K>,
    pub(super) aggregate: A,
    pub(super) timestamp: i64,
}

/// A store of windows while one node is at work on rows.
pub(super) struct Timed<'s, K, A> {
    store: &'s TableStore<Windowed<K>, A>,
    /// The serde of the keys without their times.
    inner: &'s SharedSerde<K>,
    /// How many bytes the stored form of a key has behind it.
    suffix: usize,
    handle: usize,
}

impl<'s, K: Data, A: Data> Timed<'s, K, A> {
    pub(super) fn open(
        store: &'s TableStore<Windowed<K>, A>,
        inner: &'s SharedSerde<K>,
        suffix: usize,
        run: &mut Run<'_>,
    ) -> Result<Self, Failure> {
        Ok(Self { store, inner, suffix, handle: run.host.open(&store.name)? })
    }

    /// What the store has of a key, from a time up to another one (both included), in the order of the times that come
    /// first in its keys.
    pub(super) fn find(
        &self,
        key: &K,
        (from, to): (i64, i64),
        meta: &Meta,
        row: usize,
        run: &mut Run<'_>,
    ) -> Result<Vec<Found<K, A>>, Failure> {
        let mut prefix = Vec::new();
        let written = self.inner.serialize(key, &mut prefix);
        written.map_err(|error| run.failure(Fault::Serialization, meta, row, error))?;
        let [mut next, end] = span(&prefix, (from.max(0), to));
        let mut found = Vec::new();
        if from > to {
            return Ok(found);
        }
        loop {
            let entries = run.host.scan(self.handle, (Some(&next), Some(&end)), false, CHUNK)?;
            let (mut next_key, mut next_value) = (Cursor::default(), Cursor::default());
            for &timestamp in &entries.timestamps {
                let bytes = next_key.next(&entries.keys).unwrap_or_default();
                let value = next_value.next(&entries.values).unwrap_or_default();
                next.clear();
                next.extend_from_slice(bytes);
                // Longer keys that begin with this one may lie in between.
                if !bytes.starts_with(&prefix) || bytes.len() != prefix.len() + self.suffix {
                    continue;
                }
                let unreadable = |error| {
                    let message = format!("store {} has an entry that can't be read: {error}", self.store.name);
                    run.failure(Fault::Processing, meta, row, message)
                };
                let read = self.store.keys.deserialize(bytes).and_then(|key| {
                    let aggregate = self.store.values.deserialize(value)?;
                    Ok(Found { key, aggregate, timestamp })
                });
                found.push(read.map_err(unreadable)?);
            }
            if entries.timestamps.len() < CHUNK as usize {
                return Ok(found);
            }
            next.push(0);
        }
    }

    /// Writes what a row leaves, and says under which key.
    pub(super) fn put(
        &self,
        key: &Windowed<K>,
        aggregate: Option<&A>,
        timestamp: i64,
        (meta, row): (&Meta, usize),
        run: &mut Run<'_>,
    ) -> Result<Vec<u8>, Failure> {
        let mut entries = empty_entries();
        let mut bytes = Vec::new();
        let written = self.store.keys.serialize(key, &mut bytes);
        push_bytes(&mut entries.keys, Some(&bytes));
        let write = aggregate.map(|aggregate| |out: &mut Vec<u8>| self.store.values.serialize(aggregate, out));
        written
            .and_then(|()| push(&mut entries.values, write))
            .map_err(|error| run.failure(Fault::Serialization, meta, row, error))?;
        // As Kafka Streams has it, a tombstone has no time of its own but that of the record in hand.
        entries.timestamps.push(if aggregate.is_some() { timestamp } else { meta.timestamps[row] });
        let mut headers = Vec::new();
        if run.withholds(self.store.cached)
            && let Some(its) = meta.headers(row)
        {
            headers.extend(its.of_record(0));
        }
        run.host.put(self.handle, &entries, &headers)?;
        Ok(bytes)
    }
}

/// Updates of windows on their way out.
pub(super) struct Emitted<K, A> {
    withheld: bool,
    sends_old: bool,
    keys: Vec<Option<Windowed<K>>>,
    old: Vec<Option<A>>,
    new: Vec<Option<A>>,
    timestamps: Vec<i64>,
    rows: Vec<u32>,
}

impl<K: Data, A: Data> Emitted<K, A> {
    pub(super) fn new(withheld: bool, sends_old: bool) -> Self {
        let (keys, old, new) = (Vec::new(), Vec::new(), Vec::new());
        Self { withheld, sends_old, keys, old, new, timestamps: Vec::new(), rows: Vec::new() }
    }

    /// An update that comes of a row. It goes on at once unless batches may.
    pub(super) fn push(
        &mut self,
        key: Windowed<K>,
        (old, new): (Option<A>, Option<A>),
        timestamp: i64,
        (meta, row): (&Meta, usize),
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        if self.withheld {
            return Ok(());
        }
        self.keys.push(Some(key));
        self.new.push(new);
        self.old.push(old.filter(|_| self.sends_old));
        self.timestamps.push(timestamp);
        self.rows.push(index(row));
        if run.batched { Ok(()) } else { self.send(meta, run) }
    }

    /// Sends on what is left.
    pub(super) fn send(&mut self, meta: &Meta, run: &mut Run<'_>) -> Result<(), Failure> {
        let old = std::mem::take(&mut self.old);
        let rows = Rc::new(std::mem::take(&mut self.rows));
        let updates = Updates {
            late: None,
            keys: Col::new(std::mem::take(&mut self.keys)),
            new: Col::new(std::mem::take(&mut self.new)),
            old: self.sends_old.then(|| Col::new(old)),
            meta: meta.select(&rows).with_timestamps(std::mem::take(&mut self.timestamps)),
        };
        if updates.len() == 0 { Ok(()) } else { run.forward(&updates) }
    }
}
