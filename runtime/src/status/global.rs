//! What is said of a global store: how much was read for it, and how much it lacks.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub struct GlobalStatus {
    records: AtomicU64,
    remaining: AtomicU64,
}

impl GlobalStatus {
    /// So many records of its topic were read, and so many are left at the most.
    pub fn read(&self, records: usize, remaining: u64) {
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.remaining.store(remaining, Ordering::Relaxed);
    }

    #[must_use]
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining.load(Ordering::Relaxed)
    }
}
