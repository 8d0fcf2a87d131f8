//! Owns what one task says of itself. Must not know where it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_engine::ports::FaultKind;
use millrace_engine::record::{Offset, TopicPartition};

/// How far a task is in one partition that it reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InputProgress {
    /// The next record to process.
    pub position: Option<Offset>,
    /// Where the partition ends, as was seen last.
    pub end: Option<Offset>,
}

impl InputProgress {
    /// Records that are there and were not processed, as Kafka counts them: in offsets.
    #[must_use]
    pub fn lag(self) -> Option<u64> {
        u64::try_from(self.end?.0.saturating_sub(self.position?.0)).ok().or(Some(0))
    }
}

/// What was processed, since the task came to this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub records: u64,
    pub bytes: u64,
    pub punctuations: u64,
    /// Records that the module left out.
    pub dropped: u64,
    /// Keys of its stores that were asked for and found in memory, or known not to be there.
    pub lookup_hits: u64,
    /// Those that the database was asked for.
    pub lookup_misses: u64,
    /// `None`: no record was processed yet.
    pub stream_time_ms: Option<i64>,
}

/// What was read from changelogs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    pub records: u64,
    /// What is left, at the most: offsets of a compacted topic have gaps. `None`: nobody knows yet.
    pub remaining: Option<u64>,
}

/// No value, in an atomic.
const NONE: i64 = i64::MIN;

#[derive(Debug)]
pub struct TaskStatus {
    /// What the instance of its module takes.
    pub guest: Arc<GuestUsage>,
    records: AtomicU64,
    bytes: AtomicU64,
    punctuations: AtomicU64,
    dropped: AtomicU64,
    lookup_hits: AtomicU64,
    lookup_misses: AtomicU64,
    stream_time_ms: AtomicI64,
    restored: AtomicU64,
    remaining: AtomicI64,
    inputs: Mutex<BTreeMap<TopicPartition, InputProgress>>,
    faults: Mutex<BTreeMap<&'static str, u64>>,
}

impl Default for TaskStatus {
    fn default() -> Self {
        Self {
            guest: Arc::default(),
            records: AtomicU64::default(),
            bytes: AtomicU64::default(),
            punctuations: AtomicU64::default(),
            dropped: AtomicU64::default(),
            lookup_hits: AtomicU64::default(),
            lookup_misses: AtomicU64::default(),
            stream_time_ms: AtomicI64::new(NONE),
            restored: AtomicU64::default(),
            remaining: AtomicI64::new(NONE),
            inputs: Mutex::default(),
            faults: Mutex::default(),
        }
    }
}

impl TaskStatus {
    /// A batch was processed.
    pub fn processed(&self, records: usize, bytes: usize, punctuations: usize) {
        add(&self.records, records);
        add(&self.bytes, bytes);
        add(&self.punctuations, punctuations);
    }

    pub fn reached(&self, stream_time_ms: i64) {
        self.stream_time_ms.store(stream_time_ms, Ordering::Relaxed);
    }

    /// So many keys of its stores were asked for that memory had, and so many that the database was asked for.
    pub fn looked_up(&self, hits: usize, misses: usize) {
        add(&self.lookup_hits, hits);
        add(&self.lookup_misses, misses);
    }

    pub fn dropped(&self, records: u64) {
        self.dropped.fetch_add(records, Ordering::Relaxed);
    }

    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            punctuations: self.punctuations.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            lookup_hits: self.lookup_hits.load(Ordering::Relaxed),
            lookup_misses: self.lookup_misses.load(Ordering::Relaxed),
            stream_time_ms: known(&self.stream_time_ms),
        }
    }

    /// The module failed on a record.
    pub fn failed(&self, kind: FaultKind) {
        *lock(&self.faults).entry(kind.name()).or_default() += 1;
    }

    /// How often, by kind.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.faults).clone()
    }

    /// So many more records were read from changelogs.
    pub fn read_back(&self, records: usize) {
        add(&self.restored, records);
    }

    /// So many are left.
    pub fn remain(&self, remaining: u64) {
        self.remaining.store(i64::try_from(remaining).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    #[must_use]
    pub fn restored(&self) -> Restored {
        let remaining = known(&self.remaining).and_then(|remaining| u64::try_from(remaining).ok());
        Restored { records: self.restored.load(Ordering::Relaxed), remaining }
    }

    pub fn position(&self, partition: &TopicPartition, position: Offset) {
        self.input(partition, |input| input.position = Some(position));
    }

    pub fn end(&self, partition: &TopicPartition, end: Offset) {
        self.input(partition, |input| input.end = Some(end));
    }

    fn input(&self, partition: &TopicPartition, change: impl FnOnce(&mut InputProgress)) {
        let mut inputs = lock(&self.inputs);
        match inputs.get_mut(partition) {
            Some(input) => change(input),
            None => change(inputs.entry(partition.clone()).or_default()),
        }
    }

    /// How far it is in each partition that it reads.
    #[must_use]
    pub fn inputs(&self) -> BTreeMap<TopicPartition, InputProgress> {
        lock(&self.inputs).clone()
    }
}

/// What calls of a module have taken.
#[derive(Debug, Default)]
pub struct GuestUsage {
    calls: AtomicU64,
    cpu_ns: AtomicU64,
    memory_bytes: AtomicU64,
}

impl GuestUsage {
    /// A call is over, whose instance has so much memory now.
    pub fn called(&self, cpu: Duration, memory_bytes: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.cpu_ns.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.memory_bytes.store(memory_bytes as u64, Ordering::Relaxed);
    }

    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
    }

    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

fn known(value: &AtomicI64) -> Option<i64> {
    Some(value.load(Ordering::Relaxed)).filter(|value| *value != NONE)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
