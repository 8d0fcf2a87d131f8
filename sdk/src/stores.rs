//! Owns the stores of the Processor API: how they are declared and how a processor reads and writes
//! them. Must not know where the host keeps the entries.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::sync::Arc;

use crate::contract::{Cursor, Entries, empty_column, empty_entries, push_bytes};
use crate::graph::{StoreSerdes, store_definition};
use crate::options::Materialized;
use crate::processor::{ProcessError, ProcessResult, Services};
use crate::rows::Data;
use crate::serdes::Serde;
use crate::topology::StoreDefinition;

/// Makes stores for processors.
#[derive(Debug)]
pub struct Stores;

impl Stores {
    /// A key-value store on disk with a changelog.
    pub fn key_value_store<K: Data, V: Data>(
        name: impl Into<String>,
        keys: impl Serde<Value = K>,
        values: impl Serde<Value = V>,
    ) -> StoreBuilder<K, V> {
        let name = name.into();
        let serdes = StoreSerdes { keys: Arc::new(keys), values: Arc::new(values) };
        let options = Materialized::default().with_caching_disabled();
        StoreBuilder { name, serdes, options }
    }
}

/// A store to be: how it is kept.
pub struct StoreBuilder<K, V> {
    name: String,
    serdes: StoreSerdes<K, V>,
    options: Materialized<K, V>,
}

impl<K, V> fmt::Debug for StoreBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> StoreBuilder<K, V> {
    /// Kept in memory, rebuilt from the changelog at each start.
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self { options: self.options.in_memory(), ..self }
    }

    /// Without a changelog: what is lost with the disk is lost.
    #[must_use]
    pub fn with_logging_disabled(self) -> Self {
        Self { options: self.options.with_logging_disabled(), ..self }
    }

    /// With a changelog, whose default configuration these entries are laid over.
    #[must_use]
    pub fn with_logging_enabled<C: Into<String>>(self, config: impl IntoIterator<Item = (C, C)>) -> Self {
        Self { options: self.options.with_logging_enabled(config), ..self }
    }

    /// For those who come from Kafka Streams: it changes nothing, because the host writes only the
    /// last value per key and commit to the changelog either way.
    #[must_use]
    pub fn with_caching_enabled(self) -> Self {
        Self { options: self.options.with_caching_enabled(), ..self }
    }

    pub(crate) fn definition(&self) -> StoreDefinition {
        store_definition(&self.name, &self.serdes.keys, &self.serdes.values, &self.options)
    }
}

/// How many entries an iterator asks the host for at once: enough that a call of the host costs
/// little per entry, few enough to stay far from its limits.
const CHUNK: u32 = 512;

/// A key-value store in the hands of a processor. What is written is visible at once, and durable
/// with the next commit.
pub struct KeyValueStore<'a, K, V> {
    services: &'a mut (dyn Services + 'a),
    handle: usize,
    name: String,
    serdes: Arc<StoreSerdes<K, V>>,
}

impl<K, V> fmt::Debug for KeyValueStore<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValueStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a, K: Data, V: Data> KeyValueStore<'a, K, V> {
    pub(crate) fn open(services: &'a mut (dyn Services + 'a), name: &str) -> ProcessResult<Self> {
        let (handle, serdes) = services.open(name)?;
        let serdes = serdes.downcast().map_err(|_| {
            let (keys, values) = (std::any::type_name::<K>(), std::any::type_name::<V>());
            ProcessError::new(format!("store {name} does not have keys of {keys} and values of {values}"))
        })?;
        Ok(Self { services, handle, name: name.to_owned(), serdes })
    }

    /// The value of a key.
    pub fn get(&mut self, key: &K) -> ProcessResult<Option<V>> {
        Ok(self.get_with_timestamp(key)?.map(|(value, _)| value))
    }

    /// The value of a key, and when it was written: the timestamp of the record it stems from.
    pub fn get_with_timestamp(&mut self, key: &K) -> ProcessResult<Option<(V, i64)>> {
        let mut keys = empty_column();
        push_bytes(&mut keys, Some(&self.key(key)?));
        let entries = self.services.host().get(self.handle, &keys)?;
        let Some(value) = Cursor::default().next(&entries.values) else { return Ok(None) };
        Ok(Some((self.value(value)?, entries.timestamps[0])))
    }

    /// Sets the value of a key, at the time of the record or the punctuation at hand.
    pub fn put(&mut self, key: &K, value: V) -> ProcessResult {
        let timestamp = self.services.timestamp();
        self.put_with_timestamp(key, value, timestamp)
    }

    /// Sets the value of a key at that time.
    pub fn put_with_timestamp(&mut self, key: &K, value: V, timestamp: i64) -> ProcessResult {
        let mut bytes = Vec::new();
        self.serdes.values.serialize(&value, &mut bytes).map_err(|error| self.failed("value", &error))?;
        self.write(key, Some(&bytes), timestamp)
    }

    /// Sets the value of a key unless it has one, and says which it had.
    pub fn put_if_absent(&mut self, key: &K, value: V) -> ProcessResult<Option<V>> {
        let found = self.get(key)?;
        if found.is_none() {
            self.put(key, value)?;
        }
        Ok(found)
    }

    /// Deletes a key, and says which value it had.
    pub fn delete(&mut self, key: &K) -> ProcessResult<Option<V>> {
        let found = self.get(key)?;
        let timestamp = self.services.timestamp();
        self.write(key, None, timestamp)?;
        Ok(found)
    }

    /// All entries, in the order of the keys' bytes.
    pub fn all(&mut self) -> StoreIterator<'_, K, V> {
        self.iterate(Ok((None, None)), false)
    }

    /// All entries, in the reverse order of the keys' bytes.
    pub fn reverse_all(&mut self) -> StoreIterator<'_, K, V> {
        self.iterate(Ok((None, None)), true)
    }

    /// The entries of a range of keys, in the order of their bytes: that of strings, and of numbers that
    /// are not negative.
    pub fn range(&mut self, keys: impl RangeBounds<K>) -> StoreIterator<'_, K, V> {
        let range = self.bounds(&keys);
        self.iterate(range, false)
    }

    /// The same in reverse.
    pub fn reverse_range(&mut self, keys: impl RangeBounds<K>) -> StoreIterator<'_, K, V> {
        let range = self.bounds(&keys);
        self.iterate(range, true)
    }

    fn bounds(&self, keys: &impl RangeBounds<K>) -> ProcessResult<ByteRange> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        // The least byte string above another is that with a zero behind it.
        let above = |mut bytes: Vec<u8>| {
            bytes.push(0);
            bytes
        };
        let from = match keys.start_bound() {
            Unbounded => None,
            Included(key) => Some(self.key(key)?),
            Excluded(key) => Some(above(self.key(key)?)),
        };
        let to = match keys.end_bound() {
            Unbounded => None,
            Included(key) => Some(above(self.key(key)?)),
            Excluded(key) => Some(self.key(key)?),
        };
        Ok((from, to))
    }

    fn iterate(&mut self, range: ProcessResult<ByteRange>, reverse: bool) -> StoreIterator<'_, K, V> {
        let (range, failed) = match range {
            Ok(range) => (range, None),
            Err(error) => ((None, None), Some(error)),
        };
        StoreIterator {
            services: &mut *self.services,
            handle: self.handle,
            serdes: Arc::clone(&self.serdes),
            name: &self.name,
            range,
            reverse,
            chunk: Chunk::default(),
            done: failed.is_some(),
            failed,
            types: PhantomData,
        }
    }

    fn write(&mut self, key: &K, value: Option<&[u8]>, timestamp: i64) -> ProcessResult {
        let mut entries = empty_entries();
        push_bytes(&mut entries.keys, Some(&self.key(key)?));
        push_bytes(&mut entries.values, value);
        entries.timestamps.push(timestamp);
        Ok(self.services.host().put(self.handle, &entries, &[])?)
    }

    fn key(&self, key: &K) -> ProcessResult<Vec<u8>> {
        let mut bytes = Vec::new();
        self.serdes.keys.serialize(key, &mut bytes).map_err(|error| self.failed("key", &error))?;
        Ok(bytes)
    }

    fn value(&self, bytes: &[u8]) -> ProcessResult<V> {
        self.serdes.values.deserialize(bytes).map_err(|error| self.failed("value", &error))
    }

    fn failed(&self, what: &str, error: &dyn fmt::Display) -> ProcessError {
        ProcessError::new(format!("{what} of store {}: {error}", self.name))
    }
}

/// From and up to, each open without bytes.
type ByteRange = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Entries of a store, read from the host as they are asked for.
pub struct StoreIterator<'a, K, V> {
    services: &'a mut (dyn Services + 'a),
    handle: usize,
    serdes: Arc<StoreSerdes<K, V>>,
    name: &'a str,
    /// What was not read yet.
    range: ByteRange,
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
        if self.chunk.next == self.chunk.entries.timestamps.len() {
            if self.done {
                return None;
            }
            if let Err(error) = self.read() {
                self.done = true;
                return Some(Err(error));
            }
        }
        if self.chunk.next == self.chunk.entries.timestamps.len() {
            return None;
        }
        self.chunk.next += 1;
        let key = self.chunk.keys.next(&self.chunk.entries.keys).unwrap_or_default();
        let value = self.chunk.values.next(&self.chunk.entries.values).unwrap_or_default();
        let failed = |error| ProcessError::new(format!("entry of store {}: {error}", self.name));
        let key = self.serdes.keys.deserialize(key).map_err(failed);
        Some(key.and_then(|key| Ok((key, self.serdes.values.deserialize(value).map_err(failed)?))))
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
