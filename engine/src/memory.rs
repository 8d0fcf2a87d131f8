//! Owns a task's state in memory: the database of stores that are not persistent, of native tests and of the
//! simulation. Must not know what the bytes mean.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::expiry::Expiry;
use crate::ports::{CommittedState, Database, Error, Positions, StoreIndex, Write};
use crate::task::StoreSpec;

/// State that ends with its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    stores: Vec<Store>,
    positions: Positions,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Store {
    name: String,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    expiry: Option<Expiry>,
    /// Changes since entries that are gone by age were looked for, and how many entries were left then.
    unswept: usize,
    swept: usize,
}

/// Fewer changes are not worth a look at all entries.
const SWEEP_MIN: usize = 1_000;

impl Store {
    /// Deletes what is gone by age, each time as much was written as was left the last time.
    fn sweep(&mut self, observed: Option<i64>) {
        let Some(expiry) = self.expiry.filter(|_| self.unswept >= self.swept.max(SWEEP_MIN)) else { return };
        self.rows.retain(|key, stored| !expiry.is_over(key, stored, observed));
        (self.unswept, self.swept) = (0, self.rows.len());
    }
}

impl Memory {
    /// The names are those of the task's stores, in their order.
    pub fn new(stores: impl IntoIterator<Item = String>) -> Self {
        let stores = stores.into_iter().map(|name| Store { name, ..Store::default() });
        Self { stores: stores.collect(), positions: Positions::default() }
    }

    /// Deletes all that is gone by age.
    #[cfg(test)]
    pub(crate) fn age(&mut self) {
        for store in &mut self.stores {
            store.unswept = usize::MAX;
            store.sweep(self.positions.observed(&store.name));
        }
    }

    /// For the stores of a task, whose entries age as they say.
    pub fn of<'a>(stores: impl IntoIterator<Item = &'a StoreSpec>) -> Self {
        let stores = stores.into_iter();
        let stores = stores.map(|spec| Store { name: spec.name.clone(), expiry: spec.expiry, ..Store::default() });
        Self { stores: stores.collect(), positions: Positions::default() }
    }

    fn store(&self, store: StoreIndex) -> Result<&Store, Error> {
        self.stores.get(store).ok_or_else(|| no_store(store))
    }
}

fn no_store(store: StoreIndex) -> Error {
    Error::Fatal(format!("there is no store {store} in the database"))
}

impl CommittedState for Memory {
    fn get(&self, store: StoreIndex, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        let rows = &self.store(store)?.rows;
        for (index, &key) in keys.iter().enumerate() {
            if let Some(value) = rows.get(key) {
                found(index, value);
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        store: StoreIndex,
        (from, to): (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return Ok(());
        }
        let bounds = (from.map_or(Bound::Unbounded, Bound::Included), to.map_or(Bound::Unbounded, Bound::Excluded));
        let mut rows = self.store(store)?.rows.range::<[u8], _>(bounds);
        while let Some((key, value)) = if reverse { rows.next_back() } else { rows.next() } {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

impl Database for Memory {
    fn write(&mut self, write: Write<'_>) -> Result<(), Error> {
        if let Some(&(store, ..)) = write.entries.iter().find(|&&(store, ..)| store >= self.stores.len()) {
            return Err(no_store(store));
        }
        for (store, key, value) in write.entries {
            let Store { rows, unswept, .. } = &mut self.stores[store];
            *unswept += 1;
            match value {
                Some(value) => rows.insert(key.to_vec(), value.to_vec()),
                None => rows.remove(key),
            };
        }
        for (name, time) in write.positions.observed {
            self.positions.observe(&name, time);
        }
        for store in &mut self.stores {
            store.sweep(self.positions.observed(&store.name));
        }
        merge(&mut self.positions.changelogs, write.positions.changelogs);
        merge(&mut self.positions.inputs, write.positions.inputs);
        self.positions.stream_time = self.positions.stream_time.max(write.positions.stream_time);
        Ok(())
    }

    fn positions(&self) -> Result<Positions, Error> {
        Ok(self.positions.clone())
    }

    fn clear(&mut self, store: StoreIndex) -> Result<(), Error> {
        let cleared = self.stores.get_mut(store).ok_or_else(|| no_store(store))?;
        cleared.rows.clear();
        self.positions.changelogs.retain(|(name, _)| *name != cleared.name);
        self.positions.observed.retain(|(name, _)| *name != cleared.name);
        Ok(())
    }

    fn forget_inputs(&mut self) -> Result<(), Error> {
        self.positions.inputs.clear();
        Ok(())
    }

    /// What is in a store that goes is gone.
    fn set_stores(&mut self, stores: &[StoreSpec]) -> Result<bool, Error> {
        let mut known = std::mem::replace(self, Self::of(stores));
        for store in &mut self.stores {
            let same = |old: &&mut Store| old.name == store.name && old.expiry == store.expiry;
            if let Some(old) = known.stores.iter_mut().find(same) {
                *store = std::mem::take(old);
            }
        }
        let stays = |name: &str| stores.iter().any(|store| store.name == name);
        known.positions.changelogs.retain(|(name, _)| stays(name));
        known.positions.observed.retain(|(name, _)| stays(name));
        self.positions = known.positions;
        Ok(true)
    }
}

/// State in memory that others read while its owner writes it: global stores of native tests. Cloning shares.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<RwLock<Memory>>);

impl Shared {
    #[must_use]
    pub fn new(memory: Memory) -> Self {
        Self(Arc::new(RwLock::new(memory)))
    }

    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CommittedState for Shared {
    fn get(&self, store: StoreIndex, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        self.read().get(store, keys, found)
    }

    fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.read().scan(store, range, reverse, visit)
    }
}

impl Database for Shared {
    fn write(&mut self, write: Write<'_>) -> Result<(), Error> {
        Self::write(self).write(write)
    }

    fn positions(&self) -> Result<Positions, Error> {
        self.read().positions()
    }

    fn clear(&mut self, store: StoreIndex) -> Result<(), Error> {
        Self::write(self).clear(store)
    }

    fn forget_inputs(&mut self) -> Result<(), Error> {
        Self::write(self).forget_inputs()
    }

    fn set_stores(&mut self, stores: &[StoreSpec]) -> Result<bool, Error> {
        Self::write(self).set_stores(stores)
    }
}

/// Later positions replace earlier ones of the same name; the others stay.
fn merge<K: PartialEq, V>(known: &mut Vec<(K, V)>, newer: Vec<(K, V)>) {
    for (key, value) in newer {
        match known.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => *old = value,
            None => known.push((key, value)),
        }
    }
}
