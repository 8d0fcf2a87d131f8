//! Owns suppression: updates of a table wait in a buffer, where a later one of its key takes the place of an earlier one,
//! until their time has come or the buffer is full. Must not know what the times mean.
//!
//! The buffer is a store of the host's. In which order entries go on, an instance keeps in memory; it makes that anew from
//! the store.

use std::any::Any;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::buffered::{Buffered, Origin};
use super::view::{AsOf, Seen, View};
use super::{Logic, ProcessorInstance, typed};
use crate::contract::{Column, Cursor, Failure, Fault, Header, empty_column, empty_entries, index, push, push_bytes};
use crate::rows::{Col, Cut, Data, Headers, Meta, Updates, headers_of};
use crate::run::Run;
use crate::serdes::{SerdeError, SharedSerde};
use crate::suppressed::{BufferConfig, WhenFull};

/// How many entries the host is asked for at once.
const CHUNK: u32 = 256;
/// By this header Kafka Streams knows the format of a changelog's values.
const VERSION: (&str, [u8; 1]) = ("v", [3]);

/// `suppress`.
pub(crate) struct Suppress<K, V> {
    pub(crate) store: String,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
    /// When an update is to go on, of its key and its timestamp; it does when the stream is `wait_ms` past that.
    pub(crate) time: fn(&K, i64) -> i64,
    pub(crate) wait_ms: i64,
    pub(crate) buffer: BufferConfig,
    /// Nothing was sent of a key before: what it is deleted with need not be.
    pub(crate) drops_tombstones: bool,
}

impl<K: Data, V: Data> Logic for Arc<Suppress<K, V>> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        match run.processor(run.node) {
            Some(instance) => instance.borrow_mut().process(rows, run),
            None => Err(run.failure_at(Fault::Processing, None, "the suppression belongs to another subtopology")),
        }
    }

    fn instantiate(&self) -> Option<Box<dyn ProcessorInstance>> {
        Some(Box::new(Suppressing { suppress: Arc::clone(self), order: None }))
    }
}

struct Suppressing<K, V> {
    suppress: Arc<Suppress<K, V>>,
    /// None: not made yet.
    order: Option<Order>,
}

/// In which order entries go on, and how many there are.
#[derive(Default)]
struct Order {
    times: BTreeSet<(i64, Vec<u8>)>,
    /// Of each key its time, and the size of its entry.
    keys: HashMap<Vec<u8>, (i64, usize)>,
    bytes: usize,
}

impl Order {
    fn put(&mut self, key: &[u8], value: &Buffered) {
        let size = value.size(key);
        match self.keys.entry(key.to_vec()) {
            // It keeps its place.
            Entry::Occupied(mut known) => {
                self.bytes = self.bytes - known.get().1 + size;
                known.get_mut().1 = size;
            }
            Entry::Vacant(free) => {
                free.insert((value.time, size));
                self.times.insert((value.time, key.to_vec()));
                self.bytes += size;
            }
        }
    }

    fn take_first(&mut self) -> Option<Vec<u8>> {
        let (_, key) = self.times.pop_first()?;
        if let Some((_, size)) = self.keys.remove(&key) {
            self.bytes -= size;
        }
        Some(key)
    }

    fn first(&self) -> Option<i64> {
        self.times.first().map(|(time, _)| *time)
    }

    fn is_over(&self, buffer: &BufferConfig) -> bool {
        buffer.max_records.is_some_and(|max| self.keys.len() > max)
            || buffer.max_bytes.is_some_and(|max| self.bytes > max)
    }
}

/// What a call has changed: none, that an entry has gone on.
type Changed = HashMap<Vec<u8>, Option<Buffered>>;

impl<K: Data, V: Data> ProcessorInstance for Suppressing<K, V> {
    fn init(&mut self, run: &mut Run<'_>) -> Result<(), Failure> {
        let (key, value) = VERSION;
        let handle = run.host.open(&self.suppress.store)?;
        let header = Header { index: 0, key: key.to_owned(), value: Some(value.to_vec()) };
        run.host.set_changelog_headers(handle, &[header])
    }

    fn process(&mut self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let updates: &Updates<K, V> = typed(rows);
        let suppress = Arc::clone(&self.suppress);
        let mut order = match self.order.take() {
            Some(order) => order,
            None => suppress.order(&updates.meta, run)?,
        };
        let (mut changed, mut emitted) = (Changed::new(), Emitted::default());
        for row in 0..updates.len() {
            suppress.take(updates, row, &mut order, &mut changed, run)?;
            // Who looks into the table sees an entry in the buffer until it has gone on.
            if !run.batched {
                suppress.settle(&updates.meta, &mut changed, &mut emitted, run)?;
            }
            let over = run.observe(updates.meta.timestamps[row]).saturating_sub(suppress.wait_ms);
            loop {
                let is_due = order.first().is_some_and(|time| time <= over);
                if !is_due && !order.is_over(&suppress.buffer) {
                    break;
                }
                if !is_due && suppress.buffer.when_full == WhenFull::ShutDown {
                    let (records, bytes) = (order.keys.len(), order.bytes);
                    let message =
                        format!("the buffer {} is full with {records} records of {bytes} bytes", suppress.store);
                    return Err(run.failure(Fault::Processing, &updates.meta, row, message));
                }
                suppress.emit((&updates.meta, row), &mut order, &mut changed, &mut emitted, run)?;
                if !run.batched {
                    suppress.settle(&updates.meta, &mut changed, &mut emitted, run)?;
                }
            }
        }
        self.order = Some(order);
        suppress.settle(&updates.meta, &mut changed, &mut emitted, run)
    }

    fn punctuate(&mut self, _schedule: u32, _timestamp: i64, _run: &mut Run<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

/// Updates on their way out.
struct Emitted<K, V> {
    keys: Vec<Option<K>>,
    new: Vec<Option<V>>,
    old: Vec<Option<V>>,
    timestamps: Vec<i64>,
    headers: Vec<Option<Rc<Headers>>>,
    rows: Vec<u32>,
}

impl<K, V> Default for Emitted<K, V> {
    fn default() -> Self {
        let (keys, new, old) = (Vec::new(), Vec::new(), Vec::new());
        Self { keys, new, old, timestamps: Vec::new(), headers: Vec::new(), rows: Vec::new() }
    }
}

impl<K: Data, V: Data> Suppress<K, V> {
    fn unreadable(&self, run: &Run<'_>, meta: &Meta, row: usize, error: &SerdeError) -> Failure {
        let message = format!("store {} has an entry that can't be read: {error}", self.store);
        run.failure(Fault::Processing, meta, row, message)
    }

    /// The order of what is in the store.
    fn order(&self, meta: &Meta, run: &mut Run<'_>) -> Result<Order, Failure> {
        let (mut order, mut from) = (Order::default(), Vec::new());
        let handle = run.host.open(&self.store)?;
        loop {
            let entries = run.host.scan(handle, (Some(&from), None), false, CHUNK)?;
            let (mut next_key, mut next_value) = (Cursor::default(), Cursor::default());
            for _ in &entries.timestamps {
                let key = next_key.next(&entries.keys).unwrap_or_default();
                let value = Buffered::read(next_value.next(&entries.values).unwrap_or_default());
                order.put(key, &value.map_err(|error| self.unreadable(run, meta, 0, &error))?);
                from.clear();
                from.extend_from_slice(key);
            }
            if entries.timestamps.len() < CHUNK as usize {
                return Ok(order);
            }
            from.push(0);
        }
    }

    /// What the buffer has of a key that is in it.
    fn get(
        &self,
        key: &[u8],
        changed: &Changed,
        (meta, row): (&Meta, usize),
        run: &mut Run<'_>,
    ) -> Result<Buffered, Failure> {
        if let Some(Some(value)) = changed.get(key) {
            return Ok(value.clone());
        }
        let handle = run.host.open(&self.store)?;
        let mut asked = empty_column();
        push_bytes(&mut asked, Some(key));
        let found = run.host.get(handle, &asked)?;
        Buffered::read(Cursor::default().next(&found.values).unwrap_or_default())
            .map_err(|error| self.unreadable(run, meta, row, &error))
    }

    /// Takes an update into the buffer.
    fn take(
        &self,
        updates: &Updates<K, V>,
        row: usize,
        order: &mut Order,
        changed: &mut Changed,
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let meta = &updates.meta;
        let Some(key) = updates.keys.get(row) else { return Ok(()) };
        let failed = |error: SerdeError| run.failure(Fault::Serialization, meta, row, error);
        let mut bytes = Vec::new();
        self.keys.serialize(key, &mut bytes).map_err(failed)?;
        let write = |value: Option<&V>| {
            let mut out = Vec::new();
            value.map(|value| self.values.serialize(value, &mut out)).transpose().map(|written| written.map(|()| out))
        };
        let old = write(updates.old(row)).map_err(failed)?;
        let new = write(updates.new.get(row)).map_err(failed)?;
        let timestamp = meta.timestamps[row];
        let known = order.keys.get(&bytes).map(|(time, _)| *time);
        let prior = match known {
            Some(_) => self.get(&bytes, changed, (meta, row), run)?.prior,
            None => old.clone(),
        };
        let origin = Origin::of(meta, row, run);
        let time = known.unwrap_or_else(|| (self.time)(key, timestamp));
        let value = Buffered { origin, prior, old, new, time };
        order.put(&bytes, &value);
        changed.insert(bytes, Some(value));
        Ok(())
    }

    /// Sends on what has waited longest.
    fn emit(
        &self,
        (meta, row): (&Meta, usize),
        order: &mut Order,
        changed: &mut Changed,
        emitted: &mut Emitted<K, V>,
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let Some(key) = order.take_first() else { return Ok(()) };
        let Buffered { origin, old, new, .. } = self.get(&key, changed, (meta, row), run)?;
        if new.is_some() || !self.drops_tombstones {
            let read = |value: Option<Vec<u8>>| value.map(|value| self.values.deserialize(&value)).transpose();
            let parts = self.keys.deserialize(&key).and_then(|key| Ok((key, read(old)?, read(new)?)));
            let (key, old, new) = parts.map_err(|error| self.unreadable(run, meta, row, &error))?;
            emitted.keys.push(Some(key));
            emitted.old.push(old);
            emitted.new.push(new);
            emitted.timestamps.push(origin.timestamp);
            emitted.headers.push(Some(origin.headers).filter(|headers| !headers.is_empty()));
            emitted.rows.push(index(row));
        }
        changed.insert(key, None);
        Ok(())
    }

    /// Sends on what is to go on, and then writes what the buffer has become.
    fn settle(
        &self,
        meta: &Meta,
        changed: &mut Changed,
        emitted: &mut Emitted<K, V>,
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let Emitted { keys, new, old, timestamps, headers, rows } = std::mem::take(emitted);
        let from = meta.select(&Rc::new(rows)).with_timestamps(timestamps);
        let own = Meta { headers: headers_of(headers), ..from };
        run.forward(&Updates {
            keys: Col::new(keys),
            new: Col::new(new),
            old: Some(Col::new(old)),
            late: None,
            meta: own,
        })?;
        self.write(std::mem::take(changed), meta, run)
    }

    fn write(&self, changed: Changed, meta: &Meta, run: &mut Run<'_>) -> Result<(), Failure> {
        let (mut entries, now) = (empty_entries(), run.host.wall_clock_ms());
        for (key, value) in &changed {
            push_bytes(&mut entries.keys, Some(key));
            push(&mut entries.values, value.as_ref().map(|value| |out: &mut Vec<u8>| value.write(out)))
                .map_err(|error| run.failure(Fault::Serialization, meta, 0, error))?;
            entries.timestamps.push(now);
        }
        let handle = run.host.open(&self.store)?;
        run.host.put(handle, &entries, &[])
    }
}

/// A look into a suppressed table: what has not gone on yet is not there.
pub(crate) struct SuppressedView<K, V> {
    pub(crate) parent: Arc<dyn View<K, V>>,
    pub(crate) store: String,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
}

impl<K: Data, V: Data> View<K, V> for SuppressedView<K, V> {
    fn look_up(&self, keys: &Col<K>, as_of: AsOf<'_>, meta: &Meta, run: &mut Run<'_>) -> Result<Vec<Seen<V>>, Failure> {
        let mut seen = self.parent.look_up(keys, as_of, meta, run)?;
        let mut asked: Column = empty_column();
        let rows: Vec<usize> = (0..keys.len()).filter(|&row| !keys.is_null(row)).collect();
        for &row in &rows {
            push(&mut asked, keys.get(row).map(|key| |out: &mut Vec<u8>| self.keys.serialize(key, out)))
                .map_err(|error| run.failure(Fault::Serialization, meta, row, error))?;
        }
        let handle = run.host.open(&self.store)?;
        let found = run.host.get(handle, &asked)?;
        let mut next = Cursor::default();
        for row in rows {
            let Some(bytes) = next.next(&found.values) else { continue };
            let prior = Buffered::read(bytes)
                .and_then(|buffered| buffered.prior.map(|prior| self.values.deserialize(&prior)).transpose());
            let prior = prior.map_err(|error| {
                let message = format!("store {} has an entry that can't be read: {error}", self.store);
                run.failure(Fault::Processing, meta, row, message)
            })?;
            // As in Kafka Streams, nobody knows when it was.
            seen[row] = prior.map(|prior| (prior, -1));
        }
        Ok(seen)
    }

    fn stores(&self) -> Vec<String> {
        let mut stores = vec![self.store.clone()];
        stores.extend(self.parent.stores());
        stores
    }

    fn history_ms(&self) -> Option<i64> {
        None
    }
}
