//! Reads a state directory from outside, whether a process works in it or not. Writes nothing there, takes no lock.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millrace_engine::ports::{Error, Positions, StoreIndex};
use tempfile::TempDir;

use super::directory::{DatabaseId, database_path, tasks_in};
use super::error::from_io;
use super::rocks::{Rocks, Sizes};

/// How often opening is tried: the process that works there may delete a file that was about to be opened.
const ATTEMPTS: usize = 5;

/// `<state.dir>/<application.id>`, to be read.
#[derive(Debug, Clone)]
pub struct Inspection {
    path: PathBuf,
}

impl Inspection {
    pub fn of(state_dir: &Path, application_id: &str) -> Result<Self, Error> {
        let path = state_dir.join(application_id);
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(Self { path }),
            Ok(_) => Err(from_io("read state directory", &path, &io::ErrorKind::NotADirectory.into())),
            Err(error) => Err(Error::Fatal(format!(
                "read state directory {}: {error}; state.dir and application.id say where it is",
                path.display()
            ))),
        }
    }

    /// The databases there, those of tasks in their order.
    pub fn databases(&self) -> Result<Vec<DatabaseId>, Error> {
        let mut found: Vec<DatabaseId> = tasks_in(&self.path)?.into_iter().map(DatabaseId::Task).collect();
        if database_path(&self.path, DatabaseId::Global).join("CURRENT").exists() {
            found.push(DatabaseId::Global);
        }
        Ok(found)
    }

    /// A database as it is now.
    pub fn open(&self, database: DatabaseId) -> Result<Snapshot, Error> {
        let path = database_path(&self.path, database);
        let mut attempt = 1;
        loop {
            let scratch = tempfile::tempdir()
                .map_err(|e| from_io("make a directory to read the state from", &std::env::temp_dir(), &e))?;
            match Rocks::inspect(&path, scratch.path()) {
                Ok((rocks, stores)) => return Ok(Snapshot { rocks, stores, _scratch: scratch }),
                Err(Error::Fatal(_) | Error::Corrupt(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// The stores of a task at one moment.
pub struct Snapshot {
    rocks: Rocks,
    stores: Vec<String>,
    _scratch: TempDir,
}

impl Snapshot {
    /// Their names, also of stores that the topology has no more.
    #[must_use]
    pub fn stores(&self) -> &[String] {
        &self.stores
    }

    #[must_use]
    pub fn store(&self, name: &str) -> Option<StoreIndex> {
        self.stores.iter().position(|known| known == name)
    }

    /// The stored form of a value: eight bytes of timestamp before it.
    pub fn get(&self, store: StoreIndex, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut value = None;
        self.rocks.get(store, &[key], &mut |_, found| value = Some(found.to_vec()))?;
        Ok(value)
    }

    /// Visits `from <= key < to` in key order, or in reverse, until `visit` says false.
    pub fn scan(
        &self,
        store: StoreIndex,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.rocks.scan(store, range, reverse, visit)
    }

    pub fn sizes(&self, store: StoreIndex) -> Result<Sizes, Error> {
        self.rocks.sizes(store)
    }

    pub fn positions(&self) -> Result<Positions, Error> {
        self.rocks.positions()
    }
}
