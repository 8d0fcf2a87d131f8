//! A database to put something in order with, which is thrown away.

use millrace_engine::ports::{Database, Error, StoreIndex, Write};
use millrace_engine::record::TaskId;
use millrace_engine::task::StoreSpec;
use tempfile::TempDir;

use super::directory::StateDirectory;
use super::error::from_io;
use super::resources::{Budget, Resources};
use super::task::TaskDatabase;

/// One command of a person has it alone.
const BUDGET: Budget = Budget {
    block_cache_bytes: 16 << 20,
    write_buffer_bytes: 64 << 20,
    background_threads: 2,
    // Nobody comes back to it.
    write_ahead_log: false,
};
const TASK: TaskId = TaskId { subtopology: 0, partition: 0 };

/// Stores on disk, in the directory for temporary files. What was put of a key last is what it has.
pub struct Scratch {
    database: TaskDatabase,
    pending: Vec<(StoreIndex, Vec<u8>, Option<Vec<u8>>)>,
    // Dropped after the database, in this order.
    _lock: StateDirectory,
    _directory: TempDir,
}

/// Changes of one write.
const WRITE_ENTRIES: usize = 10_000;

impl Scratch {
    pub fn new(stores: usize) -> Result<Self, Error> {
        let directory = tempfile::tempdir()
            .map_err(|e| from_io("make a directory to compare the state in", &std::env::temp_dir(), &e))?;
        let lock = StateDirectory::open(directory.path(), "scratch")?;
        let spec = |store: usize| StoreSpec {
            name: store.to_string(),
            cached: false,
            persistent: true,
            // It is not one that has to survive.
            changelog: Some("none".into()),
            expiry: None,
        };
        let specs: Vec<StoreSpec> = (0..stores).map(spec).collect();
        let database = lock.open_task(TASK, &specs, &Resources::new(BUDGET))?;
        Ok(Self { database, pending: Vec::new(), _lock: lock, _directory: directory })
    }

    /// `None` deletes.
    pub fn put(&mut self, store: StoreIndex, key: &[u8], value: Option<Vec<u8>>) -> Result<(), Error> {
        self.pending.push((store, key.to_vec(), value));
        if self.pending.len() < WRITE_ENTRIES { Ok(()) } else { self.flush() }
    }

    /// What was put is seen from now on.
    pub fn flush(&mut self) -> Result<(), Error> {
        let pending = std::mem::take(&mut self.pending);
        let entries = pending.iter().map(|(store, key, value)| (*store, key.as_slice(), value.as_deref())).collect();
        self.database.write(Write { entries, ..Write::default() })
    }

    #[must_use]
    pub fn database(&self) -> &dyn Database {
        &self.database
    }
}
