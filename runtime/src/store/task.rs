//! Owns the database of one task: routes each store to RocksDB or to memory. Must not know how
//! either keeps it.

use millrace_engine::memory::Memory;
use millrace_engine::ports::{Database, Error, Positions, StoreIndex, Write};
use millrace_engine::task::StoreSpec;

use super::rocks::Rocks;

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
pub struct TaskDatabase {
    disk: Option<Rocks>,
    memory: Memory,
    places: Vec<(String, Place)>,
}

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
        Self { disk, memory, places }
    }

    /// Has everything compacted that compactions look at.
    #[cfg(test)]
    pub(super) fn compact(&self) {
        self.rocks().compact();
    }

    fn rocks(&self) -> &Rocks {
        self.disk.as_ref().expect("a task with a persistent store is opened with RocksDB")
    }

    fn is_on_disk(&self, store: &str) -> bool {
        self.places.iter().any(|(name, place)| name == store && matches!(place, Place::Disk(_)))
    }
}

impl Database for TaskDatabase {
    fn get(&self, store: StoreIndex, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        match self.places[store].1 {
            Place::Disk(index) => self.rocks().get(index, keys, found),
            Place::Memory(index) => self.memory.get(index, keys, found),
        }
    }

    fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        match self.places[store].1 {
            Place::Disk(index) => self.rocks().scan(index, range, reverse, visit),
            Place::Memory(index) => self.memory.scan(index, range, reverse, visit),
        }
    }

    /// The disk first: it is the part that may fail, and then memory is as it was.
    fn write(&mut self, write: Write<'_>) -> Result<(), Error> {
        let Some(rocks) = &self.disk else { return self.memory.write(write) };
        let mut disk = Vec::with_capacity(write.entries.len());
        let mut memory = Vec::new();
        for (store, key, value) in write.entries {
            match self.places[store].1 {
                Place::Disk(index) => disk.push((index, key, value)),
                Place::Memory(index) => memory.push((index, key, value)),
            }
        }
        let (on_disk, in_memory) =
            write.positions.changelogs.into_iter().partition(|(store, _)| self.is_on_disk(store));
        let (observed, observed_in_memory) =
            write.positions.observed.into_iter().partition(|(store, _)| self.is_on_disk(store));
        let positions = Positions { changelogs: on_disk, observed, ..write.positions };
        rocks.write(Write { entries: disk, positions })?;
        let positions = Positions { changelogs: in_memory, observed: observed_in_memory, ..Positions::default() };
        self.memory.write(Write { entries: memory, positions })
    }

    fn positions(&self) -> Result<Positions, Error> {
        let mut positions = self.memory.positions()?;
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

    fn clear(&mut self, store: StoreIndex) -> Result<(), Error> {
        match self.places[store].1 {
            Place::Disk(index) => self.rocks().clear(index, &self.places[store].0),
            Place::Memory(index) => self.memory.clear(index),
        }
    }

    fn forget_inputs(&mut self) -> Result<(), Error> {
        match &self.disk {
            Some(rocks) => rocks.forget_inputs(),
            None => self.memory.forget_inputs(),
        }
    }
}
