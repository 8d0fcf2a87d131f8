//! Owns the database of one task: routes each store to RocksDB or to memory, and lets others read what is committed.
//! Must not know how either keeps it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use millrace_engine::memory::Memory;
use millrace_engine::ports::{Database, Error, Positions, StoreIndex, Write};
use millrace_engine::task::StoreSpec;

use super::blocks::Blocks;
use super::rocks::{Rocks, Sizes};

/// Where a store of the task lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Disk(StoreIndex),
    Memory(StoreIndex),
}

/// The committed state of one task, persistent and in-memory stores side by side. Closing it
/// (dropping) writes out what RocksDB still holds in memory.
///
/// Positions of in-memory stores are not persisted, because their state is not: after a restart
/// the task restores them from the beginning. A task without a persistent store has no RocksDB.
pub struct TaskDatabase(Arc<Open>);

/// What the task writes, and others read. The locks are the task's nearly always: readers hold them for a page of
/// entries at the most.
struct Open {
    /// `None`: the task has no persistent store, or was closed.
    disk: RwLock<Option<Rocks>>,
    /// `None`: closed.
    memory: RwLock<Option<Memory>>,
    places: Vec<(String, Place)>,
}

/// The committed state of a task, to be read by others for as long as the task is open.
#[derive(Clone)]
pub struct View(Arc<Open>);

impl TaskDatabase {
    /// `stores` in the order of the subtopology; `disk` has the persistent ones, in the same order.
    pub(super) fn new(disk: Option<Rocks>, stores: &[StoreSpec]) -> Self {
        let mut on_disk = 0..;
        let mut in_memory = 0..;
        let places = stores.iter().map(|store| {
            let place =
                if store.persistent { on_disk.next().map(Place::Disk) } else { in_memory.next().map(Place::Memory) };
            (store.name.clone(), place.expect("the ranges have no end"))
        });
        let places = places.collect();
        let memory = Memory::of(stores.iter().filter(|store| !store.persistent));
        Self(Arc::new(Open { disk: RwLock::new(disk), memory: RwLock::new(Some(memory)), places }))
    }

    pub(super) fn view(&self) -> View {
        View(Arc::clone(&self.0))
    }

    /// Has everything compacted that compactions look at.
    #[cfg(test)]
    pub(super) fn compact(&self) {
        self.0.disk().as_ref().expect("the task has a persistent store").compact();
    }
}

impl Drop for TaskDatabase {
    /// Closes it, whoever still has a view.
    fn drop(&mut self) {
        self.0.memory_mut().take();
        self.0.disk_mut().take();
    }
}

impl View {
    /// The index of a store of the task.
    #[must_use]
    pub fn store(&self, name: &str) -> Option<StoreIndex> {
        self.0.places.iter().position(|(known, _)| known == name)
    }

    /// The stored form of a value. `Ok(None)`: there is no such entry. [`Error::Retry`]: the task is closed by now.
    pub fn get(&self, store: StoreIndex, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut value = None;
        self.0.get(store, &[key], &mut |_, found| value = Some(found.to_vec()))?;
        Ok(value)
    }

    /// Visits `from <= key < to` in key order, or in reverse, until `visit` says false. The task is held up in its
    /// commits, if at all, for that long.
    pub fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.0.scan(store, range, reverse, visit)
    }

    /// The latest time that a store whose entries age has observed: what is gone by then may still be there.
    pub fn observed(&self, store: StoreIndex) -> Result<Option<i64>, Error> {
        let (name, place) = self.0.place(store)?;
        match *place {
            Place::Disk(index) => Ok(self.0.disk().as_ref().ok_or_else(closed)?.observed(index)),
            Place::Memory(_) => Ok(self.0.memory().as_ref().ok_or_else(closed)?.positions()?.observed(name)),
        }
    }

    /// How large a store is; `None`: it is in memory, or the task is closed by now.
    #[must_use]
    pub fn sizes(&self, store: StoreIndex) -> Option<Sizes> {
        let (_, Place::Disk(index)) = self.0.places.get(store)? else { return None };
        self.0.disk().as_ref()?.sizes(*index).ok()
    }

    /// Which blocks were read so far; `None`: nothing is on disk, or the task is closed by now.
    #[must_use]
    pub fn blocks(&self) -> Option<Blocks> {
        Some(self.0.disk().as_ref()?.blocks())
    }
}

fn closed() -> Error {
    Error::Retry("the task is closed by now".to_owned())
}

impl Open {
    fn disk(&self) -> RwLockReadGuard<'_, Option<Rocks>> {
        self.disk.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk_mut(&self) -> RwLockWriteGuard<'_, Option<Rocks>> {
        self.disk.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> RwLockReadGuard<'_, Option<Memory>> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory_mut(&self) -> RwLockWriteGuard<'_, Option<Memory>> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, store: StoreIndex) -> Result<&(String, Place), Error> {
        self.places.get(store).ok_or_else(|| Error::Fatal(format!("there is no store {store} in the database")))
    }

    fn is_on_disk(&self, store: &str) -> bool {
        self.places.iter().any(|(name, place)| name == store && matches!(place, Place::Disk(_)))
    }

    fn get(&self, store: StoreIndex, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        match self.place(store)?.1 {
            Place::Disk(index) => self.disk().as_ref().ok_or_else(closed)?.get(index, keys, found),
            Place::Memory(index) => self.memory().as_ref().ok_or_else(closed)?.get(index, keys, found),
        }
    }

    fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        match self.place(store)?.1 {
            Place::Disk(index) => self.disk().as_ref().ok_or_else(closed)?.scan(index, range, reverse, visit),
            Place::Memory(index) => self.memory().as_ref().ok_or_else(closed)?.scan(index, range, reverse, visit),
        }
    }
}

impl Database for TaskDatabase {
    fn get(&self, store: StoreIndex, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        self.0.get(store, keys, found)
    }

    fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.0.scan(store, range, reverse, visit)
    }

    /// The disk first: it is the part that may fail, and then memory is as it was.
    fn write(&mut self, write: Write<'_>) -> Result<(), Error> {
        let open = &self.0;
        let disk = open.disk();
        let Some(rocks) = disk.as_ref() else { return open.memory_mut().as_mut().ok_or_else(closed)?.write(write) };
        let mut to_disk = Vec::with_capacity(write.entries.len());
        let mut to_memory = Vec::new();
        for (store, key, value) in write.entries {
            match open.place(store)?.1 {
                Place::Disk(index) => to_disk.push((index, key, value)),
                Place::Memory(index) => to_memory.push((index, key, value)),
            }
        }
        let (on_disk, in_memory) =
            write.positions.changelogs.into_iter().partition(|(store, _)| open.is_on_disk(store));
        let (observed, observed_in_memory) =
            write.positions.observed.into_iter().partition(|(store, _)| open.is_on_disk(store));
        let positions = Positions { changelogs: on_disk, observed, ..write.positions };
        rocks.write(Write { entries: to_disk, positions })?;
        let positions = Positions { changelogs: in_memory, observed: observed_in_memory, ..Positions::default() };
        open.memory_mut().as_mut().ok_or_else(closed)?.write(Write { entries: to_memory, positions })
    }

    fn positions(&self) -> Result<Positions, Error> {
        let open = &self.0;
        let mut positions = open.memory().as_ref().ok_or_else(closed)?.positions()?;
        if let Some(rocks) = open.disk().as_ref() {
            let on_disk = rocks.positions()?;
            // A store that was persistent once and is in memory now has nothing at its old position.
            positions.changelogs.extend(on_disk.changelogs.into_iter().filter(|(store, _)| open.is_on_disk(store)));
            positions.observed.extend(on_disk.observed.into_iter().filter(|(store, _)| open.is_on_disk(store)));
            positions.inputs = on_disk.inputs;
            positions.stream_time = on_disk.stream_time;
        }
        Ok(positions)
    }

    fn clear(&mut self, store: StoreIndex) -> Result<(), Error> {
        let (name, place) = self.0.place(store)?;
        match *place {
            Place::Disk(index) => self.0.disk().as_ref().ok_or_else(closed)?.clear(index, name),
            Place::Memory(index) => self.0.memory_mut().as_mut().ok_or_else(closed)?.clear(index),
        }
    }

    fn forget_inputs(&mut self) -> Result<(), Error> {
        match self.0.disk().as_ref() {
            Some(rocks) => rocks.forget_inputs(),
            None => self.0.memory_mut().as_mut().ok_or_else(closed)?.forget_inputs(),
        }
    }
}
