//! Owns the disk of one task on one instance: it outlives the instance. Must not know what is written to it.

use std::sync::{Arc, Mutex};

use crate::memory::Memory;
use crate::ports::{CommittedState, Database, Error, Positions, StoreIndex, Write};
use crate::sim::Random;
use crate::sim::audit::{Audit, Kind, STORES};
use crate::sim::fuse::Fuse;
use crate::task::StoreSpec;

pub(crate) type Shared = Arc<Mutex<Memory>>;

pub(crate) fn blank(kind: Kind) -> Shared {
    let stores = STORES.map(|name| StoreSpec {
        name: name.to_owned(),
        cached: false,
        persistent: true,
        changelog: None,
        expiry: kind.expiry(),
    });
    Arc::new(Mutex::new(Memory::of(&stores)))
}

pub(crate) fn places(stores: &[StoreSpec]) -> Vec<StoreIndex> {
    let place =
        |store: &StoreSpec| STORES.iter().position(|name| *name == store.name).expect("one of the simulation's");
    stores.iter().map(place).collect()
}

pub(crate) struct Disk {
    /// What all versions of the module have had.
    pub(crate) memory: Shared,
    /// The stores of the task, by their places in `memory`.
    pub(crate) stores: Vec<StoreIndex>,
    pub(crate) fuse: Fuse,
    pub(crate) audit: Audit,
    pub(crate) partition: u32,
    /// After some writes it deletes what is gone by age.
    pub(crate) compaction: Random,
    /// Some commits find it full.
    pub(crate) full: Option<Random>,
    /// Some reads find it damaged.
    pub(crate) damaged: Option<Mutex<Random>>,
}

impl Disk {
    /// What the task does not have loses its position.
    pub(crate) fn forget_others(&self) -> Result<(), Error> {
        let kind = self.audit.kind;
        for store in kind.all().filter(|store| !self.stores.contains(store)) {
            if kind.logged || !kind.persistent[store] {
                self.memory.lock().expect("no test panics with it").clear(store)?;
            }
        }
        Ok(())
    }
}

impl CommittedState for Disk {
    fn get(&self, store: StoreIndex, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        self.fuse.before()?;
        let damaged = self.damaged.as_ref().map(|random| random.lock().expect("no test panics with it"));
        if damaged.is_some_and(|mut random| random.once_in(20)) {
            return Err(Error::Corrupt("a block is not what it was".to_owned()));
        }
        self.memory.lock().expect("no test panics with it").get(self.stores[store], keys, found)
    }

    fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.fuse.before()?;
        self.memory.lock().expect("no test panics with it").scan(self.stores[store], range, reverse, visit)
    }
}

impl Database for Disk {
    fn write(&mut self, mut write: Write<'_>) -> Result<(), Error> {
        self.fuse.before()?;
        for (store, ..) in &mut write.entries {
            *store = self.stores[*store];
        }
        // Replays don't say how far the input is processed.
        let commit = !write.positions.inputs.is_empty();
        let changes = !write.entries.is_empty();
        if commit && changes && self.full.as_mut().is_some_and(|random| random.once_in(10)) {
            return Err(Error::Retry("disk full".to_owned()));
        }
        let mut memory = self.memory.lock().expect("no test panics with it");
        if commit {
            self.audit.of_one_version(&write, &memory);
        }
        memory.write(write)?;
        if self.compaction.once_in(4) {
            memory.age();
        }
        self.audit.written(self.partition, &memory, commit, changes);
        drop(memory);
        self.fuse.after()
    }

    fn positions(&self) -> Result<Positions, Error> {
        self.fuse.before()?;
        self.memory.lock().expect("no test panics with it").positions()
    }

    fn clear(&mut self, store: StoreIndex) -> Result<(), Error> {
        self.fuse.before()?;
        self.memory.lock().expect("no test panics with it").clear(self.stores[store])?;
        self.fuse.after()
    }

    fn forget_inputs(&mut self) -> Result<(), Error> {
        self.fuse.before()?;
        self.memory.lock().expect("no test panics with it").forget_inputs()?;
        self.fuse.after()
    }

    fn set_stores(&mut self, stores: &[StoreSpec]) -> Result<bool, Error> {
        self.fuse.before()?;
        self.stores = places(stores);
        self.forget_others()?;
        self.fuse.after()?;
        Ok(true)
    }
}
