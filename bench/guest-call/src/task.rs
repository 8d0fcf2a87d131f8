//! Owns the task that is called, the records it is fed and the log that drops what it makes of them. Must not know what
//! is behind its guest.

use std::sync::Arc;

use anyhow::{Result, ensure};
use millrace_engine::memory::Memory;
use millrace_engine::ports::{Committed, Error, Guest, Log, Partitions, Rejected};
use millrace_engine::record::{Batch, Offset, TopicPartition};
use millrace_engine::task::{Chunk, Settings, Start, Task, TaskSpec};

/// As many as a task of `./mill bench alos` has: 100,000 over four partitions.
const KEYS: usize = 25_000;
const VALUE: [u8; 100] = [b'v'; 100];

/// A task at work.
pub struct Calls {
    task: Task,
    log: Counted,
    batch: usize,
    offset: i64,
    random: u64,
}

impl Calls {
    pub(crate) fn new(spec: &TaskSpec, guest: Box<dyn Guest>, batch: usize) -> Result<Self> {
        let settings = Settings { batch_records: KEYS, batch_bytes: 64 << 20, ..Settings::default() };
        let database = Memory::new(spec.stores.iter().map(|store| store.name.clone()));
        let mut task = Task::new(Arc::new(spec.clone()), Arc::new(settings), guest, Box::new(database));
        task.restoring()?;
        task.start(&[Start { offset: Some(Offset(0)), partition_time: None }], None, 0)?;
        let mut calls = Self { task, log: Counted::default(), batch, offset: 0, random: 1 };
        let every_key = calls.chunk(0..KEYS);
        calls.drain(vec![every_key])?;
        Ok(calls)
    }

    /// Records for `drain` in random order, cut into chunks that are a call each.
    pub fn records(&mut self, records: usize) -> Vec<Chunk> {
        let sizes = (0..records).step_by(self.batch).map(|at| self.batch.min(records - at));
        let sizes: Vec<usize> = sizes.collect();
        sizes.into_iter().map(|size| self.random_chunk(size)).collect()
    }

    fn random_chunk(&mut self, size: usize) -> Chunk {
        let keys: Vec<usize> = (0..size).map(|_| self.next() % KEYS).collect();
        self.chunk(keys)
    }

    fn next(&mut self) -> usize {
        // xorshift: enough to miss the caches, and the same in each run.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap_or(0)
    }

    fn chunk(&mut self, keys: impl IntoIterator<Item = usize>) -> Chunk {
        let (mut offsets, mut records) = (Vec::new(), Batch::default());
        for key in keys {
            let key = format!("key-{key:08}");
            records.push(Some(key.as_bytes()), Some(&VALUE), self.offset);
            offsets.push(self.offset);
            self.offset += 1;
        }
        Chunk { offsets, records }
    }

    /// Processes the chunks, a call each.
    pub fn drain(&mut self, chunks: Vec<Chunk>) -> Result<()> {
        let before = self.log.records;
        let mut records = 0;
        for chunk in chunks {
            records += chunk.offsets.len();
            self.task.add(0, chunk);
            self.task.process(0, &mut self.log)?;
        }
        ensure!(self.log.records - before == records, "a count is missing");
        Ok(())
    }
}

/// Takes everything, keeps nothing but how much it was.
#[derive(Default)]
struct Counted {
    records: usize,
}

impl Log for Counted {
    fn begin(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn send(&mut self, _: &str, _: Partitions<'_>, records: &Batch) -> Result<Vec<Rejected>, Error> {
        self.records += records.len();
        Ok(Vec::new())
    }

    fn objection(&self, _: &str, _: &Batch) -> Option<Rejected> {
        None
    }

    fn flush(&mut self) -> Result<Vec<(TopicPartition, Offset)>, Error> {
        Ok(Vec::new())
    }

    fn commit(&mut self, _: &[(TopicPartition, Committed)]) -> Result<(), Error> {
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
