//! Owns a test's view of the stores, uncommitted changes included.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeBounds;
use std::rc::Rc;
use std::sync::Arc;

use millrace_engine::context::Entries;

use super::Driver;
use crate::contract::{Cursor, Layout, empty_column, push_bytes};
use crate::graph::StoreSerdes;
use crate::host::LATEST;
use crate::rows::Data;
use crate::stores::VersionedRecord;
use crate::windows::{Window, Windowed};

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
        if context.is_versioned(store) {
            let mut entries = Vec::new();
            let latest = context.versions(store, |key, version| {
                if let (Some(value), LATEST) = (version.value, version.valid_to) {
                    entries.push(StoreEntry {
                        key: key.to_vec(),
                        value: value.to_vec(),
                        timestamp: version.valid_from,
                    });
                }
            });
            latest.unwrap_or_else(|error| panic!("read store {name}: {error}"));
            return entries;
        }
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

impl Driver {
    /// A value, since when and until when.
    pub(super) fn entry_as_of(&mut self, name: &str, key: &[u8], time: i64) -> Option<(Vec<u8>, i64, i64)> {
        let context = self.task.state();
        let store = context.store(name)?;
        let mut keys = empty_column();
        push_bytes(&mut keys, Some(key));
        let versions = context.get_as_of(store, &keys, &[time]);
        let versions = versions.unwrap_or_else(|error| panic!("read store {name}: {error}"));
        let value = Cursor::default().next(&versions.values)?.to_vec();
        Some((value, versions.valid_from[0], versions.valid_to[0]))
    }
}

/// A versioned store as a test sees it.
pub struct TestVersionedStore<K, V>(TestKeyValueStore<K, V>);

impl<K, V> fmt::Debug for TestVersionedStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestVersionedStore").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> TestVersionedStore<K, V> {
    pub(super) fn open(driver: Rc<RefCell<Driver>>, name: &str) -> Option<Self> {
        TestKeyValueStore::open_as(driver, name, |layout| matches!(layout, Layout::Versioned(_))).map(Self)
    }

    /// What a key has.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<VersionedRecord<V>> {
        self.get_as_of(key, LATEST)
    }

    /// What a key had at that time.
    ///
    /// # Panics
    /// If the key or the value does not suit the store's serdes.
    #[must_use]
    pub fn get_as_of(&self, key: &K, time: i64) -> Option<VersionedRecord<V>> {
        let TestKeyValueStore { driver, name, serdes } = &self.0;
        let mut bytes = Vec::new();
        serdes.keys.serialize(key, &mut bytes).unwrap_or_else(|error| panic!("key for {name}: {error}"));
        let (value, valid_from, valid_to) = driver.borrow_mut().entry_as_of(name, &bytes, time)?;
        let valid_to = Some(valid_to).filter(|&time| time != LATEST);
        Some(VersionedRecord { value: self.0.value(&value), valid_from, valid_to })
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
        Self::open_as(driver, name, |_| true)
    }

    /// The same, if it is laid out as it should be.
    fn open_as(driver: Rc<RefCell<Driver>>, name: &str, suits: fn(&Layout) -> bool) -> Option<Self> {
        let serdes = {
            let driver = driver.borrow();
            let store = &driver.topology.stores[driver.topology.store(name)?];
            Arc::clone(&store.serdes).downcast().ok().filter(|_| suits(&store.declared.layout))?
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

/// A window store as a test sees it.
pub struct TestWindowStore<K, V>(TestKeyValueStore<Windowed<K>, V>);

impl<K, V> fmt::Debug for TestWindowStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestWindowStore").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<K: Data + PartialEq, V: Data> TestWindowStore<K, V> {
    pub(super) fn open(driver: Rc<RefCell<Driver>>, name: &str) -> Option<Self> {
        TestKeyValueStore::open_as(driver, name, |layout| matches!(layout, Layout::Window(_))).map(Self)
    }

    /// The value of a key in the window that starts at that time.
    #[must_use]
    pub fn fetch(&self, key: &K, start: i64) -> Option<V> {
        self.fetch_range(key, start..=start).pop().map(|(_, value)| value)
    }

    /// The windows of a key that start at these times, and its values in them.
    #[must_use]
    pub fn fetch_range(&self, key: &K, starts: impl RangeBounds<i64>) -> Vec<(i64, V)> {
        let entries = self.fetch_all(starts).into_iter().filter(|(windowed, _)| windowed.key == *key);
        entries.map(|(windowed, value)| (windowed.window.start, value)).collect()
    }

    /// The windows of all keys that start at these times.
    #[must_use]
    pub fn fetch_all(&self, starts: impl RangeBounds<i64>) -> Vec<(Windowed<K>, V)> {
        self.all().into_iter().filter(|(windowed, _)| starts.contains(&windowed.window.start)).collect()
    }

    /// All entries in the order of the keys' bytes, those of a key in the order of time.
    #[must_use]
    pub fn all(&self) -> Vec<(Windowed<K>, V)> {
        self.0.all()
    }
}

/// A session store as a test sees it.
pub struct TestSessionStore<K, V>(TestKeyValueStore<Windowed<K>, V>);

impl<K, V> fmt::Debug for TestSessionStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestSessionStore").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<K: Data + PartialEq, V: Data> TestSessionStore<K, V> {
    pub(super) fn open(driver: Rc<RefCell<Driver>>, name: &str) -> Option<Self> {
        TestKeyValueStore::open_as(driver, name, |layout| matches!(layout, Layout::Session(_))).map(Self)
    }

    /// The aggregate of the session of a key with this start and this end.
    #[must_use]
    pub fn fetch_session(&self, key: &K, start: i64, end: i64) -> Option<V> {
        self.0.get(&Windowed { key: key.clone(), window: Window { start, end } })
    }

    /// The sessions of a key and their aggregates, in the order of their ends.
    #[must_use]
    pub fn fetch(&self, key: &K) -> Vec<(Windowed<K>, V)> {
        self.all().into_iter().filter(|(windowed, _)| windowed.key == *key).collect()
    }

    /// All entries in the order of the keys' bytes, those of a key in the order of their ends.
    #[must_use]
    pub fn all(&self) -> Vec<(Windowed<K>, V)> {
        self.0.all()
    }
}
