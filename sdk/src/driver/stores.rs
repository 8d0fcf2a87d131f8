//! Owns a test's view of the stores, uncommitted changes included.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use millrace_engine::context::Entries;

use super::Driver;
use crate::contract::{Cursor, empty_column, push_bytes};
use crate::graph::StoreSerdes;
use crate::rows::Data;

/// An entry of a store as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreEntry {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// When it was written: the timestamp of the record it stems from.
    pub timestamp: i64,
}

impl Driver {
    pub(super) fn entries(&mut self, name: &str) -> Vec<StoreEntry> {
        let context = self.task.state();
        let Some(store) = context.store(name) else { return Vec::new() };
        let entries = context.scan(store, (None, None), false, u32::MAX);
        let Entries { keys, values, timestamps } = entries.unwrap_or_else(|error| panic!("read store {name}: {error}"));
        let (mut next_key, mut next_value) = (Cursor::default(), Cursor::default());
        let entry = |&timestamp: &i64| StoreEntry {
            key: next_key.next(&keys).unwrap_or_default().to_vec(),
            value: next_value.next(&values).unwrap_or_default().to_vec(),
            timestamp,
        };
        timestamps.iter().map(entry).collect()
    }
}

/// A key-value store as a test sees it.
pub struct TestKeyValueStore<K, V> {
    driver: Rc<RefCell<Driver>>,
    name: String,
    serdes: Arc<StoreSerdes<K, V>>,
}

impl<K, V> fmt::Debug for TestKeyValueStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestKeyValueStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> TestKeyValueStore<K, V> {
    pub(super) fn open(driver: Rc<RefCell<Driver>>, name: &str) -> Option<Self> {
        let serdes = {
            let driver = driver.borrow();
            let store = driver.topology.store(name)?;
            Arc::clone(&driver.topology.stores[store].serdes).downcast().ok()?
        };
        Some(Self { driver, name: name.to_owned(), serdes })
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        self.get_with_timestamp(key).map(|(value, _)| value)
    }

    /// The value of a key and the timestamp of the record it stems from.
    ///
    /// # Panics
    /// If the key or the value does not suit the store's serdes.
    #[must_use]
    pub fn get_with_timestamp(&self, key: &K) -> Option<(V, i64)> {
        let mut bytes = Vec::new();
        self.serdes.keys.serialize(key, &mut bytes).unwrap_or_else(|error| panic!("key for {}: {error}", self.name));
        let mut keys = empty_column();
        push_bytes(&mut keys, Some(&bytes));
        let mut driver = self.driver.borrow_mut();
        let context = driver.task.state();
        let entries = context.get(context.store(&self.name)?, &keys);
        let entries = entries.unwrap_or_else(|error| panic!("read store {}: {error}", self.name));
        let value = Cursor::default().next(&entries.values)?;
        Some((self.value(value), entries.timestamps[0]))
    }

    /// All entries in the order of the keys' bytes.
    ///
    /// # Panics
    /// If an entry does not suit the store's serdes.
    #[must_use]
    pub fn all(&self) -> Vec<(K, V)> {
        let entries = self.driver.borrow_mut().entries(&self.name);
        let read = |entry: &StoreEntry| {
            let key = self.serdes.keys.deserialize(&entry.key);
            (key.unwrap_or_else(|error| panic!("key of {}: {error}", self.name)), self.value(&entry.value))
        };
        entries.iter().map(read).collect()
    }

    fn value(&self, bytes: &[u8]) -> V {
        self.serdes.values.deserialize(bytes).unwrap_or_else(|error| panic!("value of {}: {error}", self.name))
    }
}
