//! Counts which blocks the reads of a database found in RocksDB's cache. Must not know what is read.
//!
//! RocksDB counts that for each thread by itself, which costs next to nothing. Its statistics would count it for all threads
//! together, at every step of every read.

use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

/// Blocks that were read: of data, indexes and filters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blocks {
    /// From the cache.
    pub hits: u64,
    /// From files.
    pub misses: u64,
}

#[derive(Debug, Default)]
pub(super) struct BlockReads {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl BlockReads {
    /// Counts what `read` reads on this thread.
    pub(super) fn during<T>(&self, read: impl FnOnce() -> T) -> T {
        set_perf_stats(PerfStatsLevel::EnableCount);
        let context = PerfContext::default();
        let now = || [PerfMetric::BlockCacheHitCount, PerfMetric::BlockReadCount].map(|metric| context.metric(metric));
        let before = now();
        let outcome = read();
        let [hits, misses] = now();
        self.hits.fetch_add(hits.saturating_sub(before[0]), Ordering::Relaxed);
        self.misses.fetch_add(misses.saturating_sub(before[1]), Ordering::Relaxed);
        outcome
    }

    pub(super) fn so_far(&self) -> Blocks {
        Blocks { hits: self.hits.load(Ordering::Relaxed), misses: self.misses.load(Ordering::Relaxed) }
    }
}
