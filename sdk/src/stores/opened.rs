//! Owns what all stores in the hands of a processor do alike: one entry read or written, and many read as they are
//! asked for. Must not know what their keys are.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::timed::Times;
use crate::contract::{Cursor, Entries, Layout, empty_column, empty_entries, push_bytes};
use crate::graph::StoreSerdes;
use crate::host::Host;
use crate::processor::{ProcessError, ProcessResult, Services};
use crate::rows::Data;

/// How many entries an iterator asks the host for at once: enough that a call of the host costs
/// little per entry, few enough to stay far from its limits.
const CHUNK: u32 = 512;

/// From and up to, each open without bytes.
pub(super) type ByteRange = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A store of some kind, opened by its name.
pub(super) struct Opened<'a, K, V> {
    services: &'a mut (dyn Services + 'a),
    pub(super) handle: usize,
    pub(super) name: String,
    pub(super) layout: Layout,
    serdes: Arc<StoreSerdes<K, V>>,
}

impl<'a, K: Data, V: Data> Opened<'a, K, V> {
    pub(super) fn open(services: &'a mut (dyn Services + 'a), name: &str) -> ProcessResult<Self> {
        let (handle, definition) = services.open(name)?;
        let (layout, serdes) = (definition.declared.layout.clone(), Arc::clone(&definition.serdes));
        let serdes = serdes.downcast().map_err(|_| {
            let (keys, values) = (std::any::type_name::<K>(), std::any::type_name::<V>());
            ProcessError::new(format!("store {name} does not have keys of {keys} and values of {values}"))
        })?;
        Ok(Self { services, handle, name: name.to_owned(), layout, serdes })
    }

    /// The time of the record or the punctuation at hand.
    pub(super) fn now(&self) -> i64 {
        self.services.timestamp()
    }

    /// A number that no other entry of the store has.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.services.next_sequence(&self.name)
    }

    pub(super) fn get(&mut self, key: &[u8]) -> ProcessResult<Option<(V, i64)>> {
        let mut keys = empty_column();
        push_bytes(&mut keys, Some(key));
        let entries = self.services.host().get(self.handle, &keys)?;
        let Some(value) = Cursor::default().next(&entries.values) else { return Ok(None) };
        Ok(Some((self.value(value)?, entries.timestamps[0])))
    }

    pub(super) fn put(&mut self, key: &[u8], value: Option<&V>, timestamp: i64) -> ProcessResult {
        let mut entries = empty_entries();
        push_bytes(&mut entries.keys, Some(key));
        let bytes = value.map(|value| self.bytes(value)).transpose()?;
        push_bytes(&mut entries.values, bytes.as_deref());
        entries.timestamps.push(timestamp);
        Ok(self.services.host().put(self.handle, &entries, &[])?)
    }

    /// A key as it is stored.
    pub(super) fn key(&self, key: &K) -> ProcessResult<Vec<u8>> {
        let mut bytes = Vec::new();
        self.serdes.keys.serialize(key, &mut bytes).map_err(|error| self.failed("key", &error))?;
        Ok(bytes)
    }

    /// A value as it is stored.
    pub(super) fn bytes(&self, value: &V) -> ProcessResult<Vec<u8>> {
        let mut bytes = Vec::new();
        self.serdes.values.serialize(value, &mut bytes).map_err(|error| self.failed("value", &error))?;
        Ok(bytes)
    }

    pub(super) fn host(&mut self) -> &mut dyn Host {
        self.services.host()
    }

    pub(super) fn value(&self, bytes: &[u8]) -> ProcessResult<V> {
        self.serdes.values.deserialize(bytes).map_err(|error| self.failed("value", &error))
    }

    fn failed(&self, what: &str, error: &dyn fmt::Display) -> ProcessError {
        ProcessError::new(format!("{what} of store {}: {error}", self.name))
    }

    pub(super) fn iterate(&mut self, range: ProcessResult<ByteRange>, reverse: bool) -> StoreIterator<'_, K, V> {
        self.iterate_times(range.map(|range| (range, None)), reverse)
    }

    /// The entries of a range whose keys in windows are among these.
    pub(super) fn iterate_times(
        &mut self,
        range: ProcessResult<(ByteRange, Option<Times>)>,
        reverse: bool,
    ) -> StoreIterator<'_, K, V> {
        let (range, times, failed) = match range {
            Ok((range, times)) => (range, times, None),
            Err(error) => ((None, None), None, Some(error)),
        };
        StoreIterator {
            services: &mut *self.services,
            handle: self.handle,
            serdes: Arc::clone(&self.serdes),
            name: &self.name,
            range,
            times,
            reverse,
            chunk: Chunk::default(),
            done: failed.is_some(),
            failed,
            types: PhantomData,
        }
    }
}

/// Entries of a store, read from the host as they are asked for.
pub struct StoreIterator<'a, K, V> {
    services: &'a mut (dyn Services + 'a),
    handle: usize,
    serdes: Arc<StoreSerdes<K, V>>,
    name: &'a str,
    /// What was not read yet.
    range: ByteRange,
    times: Option<Times>,
    reverse: bool,
    chunk: Chunk,
    /// Nothing is left beyond the chunk.
    done: bool,
    failed: Option<ProcessError>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> fmt::Debug for StoreIterator<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreIterator").field("store", &self.name).finish_non_exhaustive()
    }
}

/// Entries that were read.
struct Chunk {
    entries: Entries,
    next: usize,
    keys: Cursor,
    values: Cursor,
}

impl Default for Chunk {
    fn default() -> Self {
        Self { entries: empty_entries(), next: 0, keys: Cursor::default(), values: Cursor::default() }
    }
}

impl<K: Data, V: Data> Iterator for StoreIterator<'_, K, V> {
    type Item = ProcessResult<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        loop {
            if self.chunk.next == self.chunk.entries.timestamps.len() {
                if self.done {
                    return None;
                }
                if let Err(error) = self.read() {
                    self.done = true;
                    return Some(Err(error));
                }
                continue;
            }
            self.chunk.next += 1;
            let key = self.chunk.keys.next(&self.chunk.entries.keys).unwrap_or_default();
            let value = self.chunk.values.next(&self.chunk.entries.values).unwrap_or_default();
            if self.times.as_ref().is_some_and(|times| !times.have(key)) {
                continue;
            }
            let failed = |error| ProcessError::new(format!("entry of store {}: {error}", self.name));
            let key = self.serdes.keys.deserialize(key).map_err(failed);
            return Some(key.and_then(|key| Ok((key, self.serdes.values.deserialize(value).map_err(failed)?))));
        }
    }
}

impl<K: Data, V: Data> StoreIterator<'_, K, V> {
    fn read(&mut self) -> ProcessResult {
        let range = (self.range.0.as_deref(), self.range.1.as_deref());
        let entries = self.services.host().scan(self.handle, range, self.reverse, CHUNK)?;
        self.done = entries.timestamps.len() < CHUNK as usize;
        let mut keys = Cursor::default();
        let last = entries.timestamps.iter().filter_map(|_| keys.next(&entries.keys)).last();
        if let Some(mut last) = last.map(<[u8]>::to_vec) {
            if self.reverse {
                self.range.1 = Some(last);
            } else {
                last.push(0);
                self.range.0 = Some(last);
            }
        }
        self.chunk = Chunk { entries, ..Chunk::default() };
        Ok(())
    }
}
