//! Owns the database of one task: routes each store to RocksDB or to memory, and lets others read what is committed.
//! Must not know how either keeps it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use millrace_engine::memory::Memory;
use millrace_engine::ports::{CommittedState, Database, Error, Positions, Row, StoreIndex, Write};
use millrace_engine::task::StoreSpec;

use super::blocks::Blocks;
use super::resources::Resources;
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

/// What the task writes, and others read. The lock is the task's nearly always: readers hold it for a page of
/// entries at the most, beside the task unless that closes or has other stores from now on. `None`: closed.
struct Open {
    stores: RwLock<Option<Stores>>,
    resources: Resources,
}

struct Stores {
    /// `None`: the task has no persistent store.
    disk: Option<Rocks>,
    memory: RwLock<Memory>,
    /// In the order of the subtopology.
    places: Vec<(String, Place)>,
}

/// The committed state of a task, to be read by others for as long as the task is open.
#[derive(Clone)]
pub struct View(Arc<Open>);

impl TaskDatabase {
    /// `stores` in the order of the subtopology; `disk` has the persistent ones, in the same order.
    pub(super) fn new(disk: Option<Rocks>, stores: &[StoreSpec], resources: &Resources) -> Self {
        let memory = RwLock::new(Memory::of(stores.iter().filter(|store| !store.persistent)));
        let stores = RwLock::new(Some(Stores { disk, memory, places: places(stores) }));
        Self(Arc::new(Open { stores, resources: resources.clone() }))
    }

    /// What others read of it.
    #[must_use]
    pub fn view(&self) -> View {
        View(Arc::clone(&self.0))
    }

    /// Has everything compacted that compactions look at.
    #[cfg(test)]
    pub(super) fn compact(&self) {
        let compacted = self.0.with(|stores| {
            stores.rocks()?.compact();
            Ok(())
        });
        compacted.expect("the task has a persistent store");
    }
}

impl Drop for TaskDatabase {
    /// Closes it, whoever still has a view.
    fn drop(&mut self) {
        self.0.lock().take();
    }
}

fn places(stores: &[StoreSpec]) -> Vec<(String, Place)> {
    let mut on_disk = 0..;
    let mut in_memory = 0..;
    let places = stores.iter().map(|store| {
        let place =
            if store.persistent { on_disk.next().map(Place::Disk) } else { in_memory.next().map(Place::Memory) };
        (store.name.clone(), place.expect("the ranges have no end"))
    });
    places.collect()
}

/// [`Error::Retry`] is the answer when the task is closed by now, or does not have the store yet.
impl View {
    /// The stored form of a value. `Ok(None)`: there is no such entry.
    pub fn get(&self, store: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut value = None;
        self.0.with(|stores| stores.get(stores.named(store)?, &[key], &mut |_, found| value = Some(found.to_vec())))?;
        Ok(value)
    }

    /// Visits `from <= key < to` in key order, or in reverse, until `visit` says false. The task is held up in its
    /// commits, if at all, for that long.
    pub fn scan(
        &self,
        store: &str,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.0.with(|stores| stores.scan(stores.named(store)?, range, reverse, visit))
    }

    /// The latest time that a store whose entries age has observed: what is gone by then may still be there.
    pub fn observed(&self, store: &str) -> Result<Option<i64>, Error> {
        self.0.with(|stores| match (stores.named(store)?, &stores.disk) {
            (Place::Disk(index), Some(rocks)) => Ok(rocks.observed(index)),
            _ => Ok(read(&stores.memory).positions()?.observed(store)),
        })
    }

    /// How large a store is; `None`: it is in memory, or the task is closed by now.
    #[must_use]
    pub fn sizes(&self, store: &str) -> Option<Sizes> {
        let sizes = self.0.with(|stores| match (stores.named(store)?, &stores.disk) {
            (Place::Disk(index), Some(rocks)) => rocks.sizes(index).map(Some),
            _ => Ok(None),
        });
        sizes.ok().flatten()
    }

    /// Which blocks were read so far; `None`: nothing is on disk, or the task is closed by now.
    #[must_use]
    pub fn blocks(&self) -> Option<Blocks> {
        self.0.with(|stores| Ok(stores.disk.as_ref().map(Rocks::blocks))).ok().flatten()
    }
}

/// The stores that all tasks read are those of one task.
impl CommittedState for View {
    fn get(&self, store: StoreIndex, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        self.0.with(|stores| stores.get(stores.place(store)?.1, keys, found))
    }

    fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.0.with(|stores| stores.scan(stores.place(store)?.1, range, reverse, visit))
    }
}

fn read(memory: &RwLock<Memory>) -> RwLockReadGuard<'_, Memory> {
    memory.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(memory: &RwLock<Memory>) -> RwLockWriteGuard<'_, Memory> {
    memory.write().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> Error {
    Error::Retry("the task is closed by now".to_owned())
}

impl Open {
    fn with<T>(&self, act: impl FnOnce(&Stores) -> Result<T, Error>) -> Result<T, Error> {
        act(self.stores.read().unwrap_or_else(PoisonError::into_inner).as_ref().ok_or_else(closed)?)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Option<Stores>> {
        self.stores.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stores {
    fn named(&self, store: &str) -> Result<Place, Error> {
        let none =
            || Error::Retry(format!("the task has no store {store} yet: it takes up another version of the module"));
        self.places.iter().find(|(name, _)| name == store).map(|(_, place)| *place).ok_or_else(none)
    }

    fn place(&self, store: StoreIndex) -> Result<&(String, Place), Error> {
        self.places.get(store).ok_or_else(|| Error::Fatal(format!("there is no store {store} in the database")))
    }

    fn is_on_disk(&self, store: &str) -> bool {
        self.places.iter().any(|(name, place)| name == store && matches!(place, Place::Disk(_)))
    }

    fn rocks(&self) -> Result<&Rocks, Error> {
        self.disk.as_ref().ok_or_else(|| Error::Fatal("the task has no database on disk".to_owned()))
    }

    fn get(&self, place: Place, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        match place {
            Place::Disk(index) => self.rocks()?.get(index, keys, found),
            Place::Memory(index) => read(&self.memory).get(index, keys, found),
        }
    }

    fn scan(
        &self,
        place: Place,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        match place {
            Place::Disk(index) => self.rocks()?.scan(index, range, reverse, visit),
            Place::Memory(index) => read(&self.memory).scan(index, range, reverse, visit),
        }
    }

    /// The disk first: it is the part that may fail, and then memory is as it was.
    fn write(&self, batch: Write<'_>) -> Result<(), Error> {
        let Some(rocks) = &self.disk else { return write(&self.memory).write(batch) };
        let mut to_disk = Vec::with_capacity(batch.entries.len());
        let mut to_memory = Vec::new();
        for (store, key, value) in batch.entries {
            match self.place(store)?.1 {
                Place::Disk(index) => to_disk.push((index, key, value)),
                Place::Memory(index) => to_memory.push((index, key, value)),
            }
        }
        let (on_disk, in_memory) =
            batch.positions.changelogs.into_iter().partition(|(store, _)| self.is_on_disk(store));
        let (observed, observed_in_memory) =
            batch.positions.observed.into_iter().partition(|(store, _)| self.is_on_disk(store));
        let positions = Positions { changelogs: on_disk, observed, ..batch.positions };
        rocks.write(Write { entries: to_disk, positions })?;
        let positions = Positions { changelogs: in_memory, observed: observed_in_memory, ..Positions::default() };
        write(&self.memory).write(Write { entries: to_memory, positions })
    }

    fn positions(&self) -> Result<Positions, Error> {
        let mut positions = read(&self.memory).positions()?;
        if let Some(rocks) = &self.disk {
            let on_disk = rocks.positions()?;
            // A store that was persistent once and is in memory now has nothing at its old position.
            positions.changelogs.extend(on_disk.changelogs.into_iter().filter(|(store, _)| self.is_on_disk(store)));
            positions.observed.extend(on_disk.observed.into_iter().filter(|(store, _)| self.is_on_disk(store)));
            positions.inputs = on_disk.inputs;
            positions.stream_time = on_disk.stream_time;
        }
        Ok(positions)
    }

    fn set(&mut self, stores: &[StoreSpec], resources: &Resources) -> Result<bool, Error> {
        let (persistent, in_memory): (Vec<_>, Vec<_>) = stores.iter().cloned().partition(|store| store.persistent);
        let set = match &mut self.disk {
            Some(rocks) => rocks.set_stores(&persistent.iter().collect::<Vec<_>>(), resources)?,
            None => persistent.is_empty(),
        };
        if set {
            write(&self.memory).set_stores(&in_memory)?;
            self.places = places(stores);
        }
        Ok(set)
    }
}

impl CommittedState for TaskDatabase {
    fn get(&self, store: StoreIndex, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        self.0.with(|stores| stores.get(stores.place(store)?.1, keys, found))
    }

    fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.0.with(|stores| stores.scan(stores.place(store)?.1, range, reverse, visit))
    }

    fn scan_each(
        &self,
        store: StoreIndex,
        ranges: &[(&[u8], &[u8])],
        visit: &mut dyn FnMut(usize, Option<Row<'_>>) -> bool,
    ) -> Result<(), Error> {
        self.0.with(|stores| match stores.place(store)?.1 {
            Place::Disk(index) => stores.rocks()?.scan_each(index, ranges, visit),
            Place::Memory(index) => read(&stores.memory).scan_each(index, ranges, visit),
        })
    }
}

impl Database for TaskDatabase {
    fn write(&mut self, write: Write<'_>) -> Result<(), Error> {
        self.0.with(|stores| stores.write(write))
    }

    fn positions(&self) -> Result<Positions, Error> {
        self.0.with(Stores::positions)
    }

    fn clear(&mut self, store: StoreIndex) -> Result<(), Error> {
        self.0.with(|stores| match stores.place(store)? {
            (name, Place::Disk(index)) => stores.rocks()?.clear(*index, name),
            (_, Place::Memory(index)) => write(&stores.memory).clear(*index),
        })
    }

    fn forget_inputs(&mut self) -> Result<(), Error> {
        self.0.with(|stores| match &stores.disk {
            Some(rocks) => rocks.forget_inputs(),
            None => write(&stores.memory).forget_inputs(),
        })
    }

    /// In the open database, unless it has none on disk and needs one.
    fn set_stores(&mut self, stores: &[StoreSpec]) -> Result<bool, Error> {
        self.0.lock().as_mut().ok_or_else(closed)?.set(stores, &self.0.resources)
    }
}
