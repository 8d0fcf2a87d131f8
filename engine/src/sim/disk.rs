//! Owns the disk of one task on one instance: it outlives the instance. Must not know what is written to it.

use std::sync::{Arc, Mutex};

use crate::memory::Memory;
use crate::ports::{Database, Error, Positions, StoreIndex, Write};
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

pub(crate) struct Disk {
    pub(crate) memory: Shared,
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

impl Database for Disk {
    fn get(&self, store: StoreIndex, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        self.fuse.before()?;
        let damaged = self.damaged.as_ref().map(|random| random.lock().expect("no test panics with it"));
        if damaged.is_some_and(|mut random| random.once_in(20)) {
            return Err(Error::Corrupt("a block is not what it was".to_owned()));
        }
        self.memory.lock().expect("no test panics with it").get(store, keys, found)
    }

    fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.fuse.before()?;
        self.memory.lock().expect("no test panics with it").scan(store, range, reverse, visit)
    }

    fn write(&mut self, write: Write<'_>) -> Result<(), Error> {
        self.fuse.before()?;
        // Replays don't say how far the input is processed.
        let commit = !write.positions.inputs.is_empty();
        let changes = !write.entries.is_empty();
        if commit && changes && self.full.as_mut().is_some_and(|random| random.once_in(10)) {
            return Err(Error::Retry("disk full".to_owned()));
        }
        if commit {
            self.audit.of_one_version(&write);
        }
        let mut memory = self.memory.lock().expect("no test panics with it");
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
        self.memory.lock().expect("no test panics with it").clear(store)?;
        self.fuse.after()
    }

    fn forget_inputs(&mut self) -> Result<(), Error> {
        self.fuse.before()?;
        self.memory.lock().expect("no test panics with it").forget_inputs()?;
        self.fuse.after()
    }
}
