//! Owns key-value stores in the hands of a processor. Must not know where the host keeps the entries.

use std::fmt;
use std::ops::RangeBounds;

use super::opened::{ByteRange, Opened, StoreIterator};
use crate::processor::{ProcessResult, Services};
use crate::rows::Data;

/// A key-value store in the hands of a processor. What is written is visible at once, and durable
/// with the next commit.
pub struct KeyValueStore<'a, K, V>(Opened<'a, K, V>);

impl<K, V> fmt::Debug for KeyValueStore<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValueStore").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<'a, K: Data, V: Data> KeyValueStore<'a, K, V> {
    pub(crate) fn open(services: &'a mut (dyn Services + 'a), name: &str) -> ProcessResult<Self> {
        Opened::open(services, name).map(Self)
    }

    /// The value of a key.
    pub fn get(&mut self, key: &K) -> ProcessResult<Option<V>> {
        Ok(self.get_with_timestamp(key)?.map(|(value, _)| value))
    }

    /// The value of a key, and when it was written: the timestamp of the record it stems from.
    pub fn get_with_timestamp(&mut self, key: &K) -> ProcessResult<Option<(V, i64)>> {
        let key = self.0.key(key)?;
        self.0.get(&key)
    }

    /// Sets the value of a key, at the time of the record or the punctuation at hand.
    pub fn put(&mut self, key: &K, value: V) -> ProcessResult {
        let timestamp = self.0.now();
        self.put_with_timestamp(key, value, timestamp)
    }

    /// Sets the value of a key at that time.
    pub fn put_with_timestamp(&mut self, key: &K, value: V, timestamp: i64) -> ProcessResult {
        let key = self.0.key(key)?;
        self.0.put(&key, Some(&value), timestamp)
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
        let (key, timestamp) = (self.0.key(key)?, self.0.now());
        self.0.put(&key, None, timestamp)?;
        Ok(found)
    }

    /// All entries, in the order of the keys' bytes.
    pub fn all(&mut self) -> StoreIterator<'_, K, V> {
        self.0.iterate(Ok((None, None)), false)
    }

    /// All entries, in the reverse order of the keys' bytes.
    pub fn reverse_all(&mut self) -> StoreIterator<'_, K, V> {
        self.0.iterate(Ok((None, None)), true)
    }

    /// The entries of a range of keys, in the order of their bytes: that of strings, and of numbers that
    /// are not negative.
    pub fn range(&mut self, keys: impl RangeBounds<K>) -> StoreIterator<'_, K, V> {
        let range = self.bounds(&keys);
        self.0.iterate(range, false)
    }

    /// The same in reverse.
    pub fn reverse_range(&mut self, keys: impl RangeBounds<K>) -> StoreIterator<'_, K, V> {
        let range = self.bounds(&keys);
        self.0.iterate(range, true)
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
            Included(key) => Some(self.0.key(key)?),
            Excluded(key) => Some(above(self.0.key(key)?)),
        };
        let to = match keys.end_bound() {
            Unbounded => None,
            Included(key) => Some(above(self.0.key(key)?)),
            Excluded(key) => Some(self.0.key(key)?),
        };
        Ok((from, to))
    }
}
