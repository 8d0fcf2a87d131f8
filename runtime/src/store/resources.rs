//! Owns what all databases of the process share (block cache, write-buffer budget) and the options
//! each is opened with. Must not know tasks.

use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options, WriteBufferManager, WriteOptions,
};

/// What RocksDB may use of the process, whatever the number of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Blocks, indexes and filters of all databases.
    pub block_cache_bytes: usize,
    /// Memtables of all databases: above it the database being written to is flushed.
    pub write_buffer_bytes: usize,
    /// Flushes and compactions at a time, of all databases together (RocksDB's thread pools are
    /// the process's). At least two: one of each.
    pub background_threads: u16,
    /// Keep the write-ahead log also where changelogs could rebuild the state. Then a killed
    /// process finds its last commit again instead of its last flush.
    pub write_ahead_log: bool,
}

/// Made once per process; cloning shares.
#[derive(Clone)]
pub struct Resources {
    cache: Cache,
    write_buffers: WriteBufferManager,
    budget: Budget,
}

/// One memtable. Larger ones make fewer, larger files, but are what a restart without the
/// write-ahead log replays from the changelog.
const MEMTABLE_BYTES: usize = 16 << 20;
/// RocksDB's default, an eighth of the memtable, would charge the write-buffer budget 1 MiB for
/// each of the families of hundreds of tasks that hardly write.
const ARENA_BLOCK_BYTES: usize = 64 << 10;
/// File handles per task: with 64 MiB a file this is 8 GiB of state before one is closed and
/// reopened, and 512 tasks stay below the usual limit of 65,536.
const OPEN_FILES_PER_TASK: i32 = 120;
/// 10 bits a key: one absent key in a hundred costs a read of a block.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const INFO_LOG_BYTES: usize = 1 << 20;
const INFO_LOG_FILES: usize = 2;

impl Resources {
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        let cache = Cache::new_lru_cache(budget.block_cache_bytes);
        // No stall: a worker that waits for another task's flush would miss its poll deadline.
        let write_buffers = WriteBufferManager::new_write_buffer_manager(budget.write_buffer_bytes, false);
        Self { cache, write_buffers, budget }
    }

    /// Whether a task is written with the write-ahead log. Without it a crash falls back to the
    /// last flush, a whole commit, and the changelog fills the rest; a store without a changelog
    /// has nothing to be filled from.
    pub(super) fn uses_write_ahead_log(&self, unlogged: bool) -> bool {
        unlogged || self.budget.write_ahead_log
    }

    pub(super) fn database_options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // With the write-ahead log off a flush of one family alone would persist a part of the
        // commits it holds: all families of a task are flushed together, or none.
        options.set_atomic_flush(true);
        // A damaged record before the end of the log is reported, not silently taken for the end.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_write_buffer_manager(&self.write_buffers);
        options.set_max_background_jobs(i32::from(self.budget.background_threads.max(2)));
        options.set_max_open_files(OPEN_FILES_PER_TASK);
        // A task is written by one thread at a time.
        options.set_allow_concurrent_memtable_write(false);
        // Spreads write-back, so that one fsync does not have to wait for a whole file.
        options.set_bytes_per_sync(1 << 20);
        // Reading the properties of every file would make opening hundreds of databases slow.
        options.set_skip_stats_update_on_db_open(true);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_log_level(LogLevel::Warn);
        options.set_max_log_file_size(INFO_LOG_BYTES);
        options.set_keep_log_file_num(INFO_LOG_FILES);
        options
    }

    pub(super) fn family_options(&self) -> Options {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.cache);
        // Indexes and filters count against the cache too, else they grow with the state; the
        // ones of the youngest files, which every read asks, stay.
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        blocks.set_optimize_filters_for_memory(true);
        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size(MEMTABLE_BYTES);
        options.set_arena_block_size(ARENA_BLOCK_BYTES);
        // One is written while the other is flushed.
        options.set_max_write_buffer_number(2);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options
    }

    pub(super) fn write_options(&self, unlogged: bool) -> WriteOptions {
        let mut options = WriteOptions::default();
        options.disable_wal(!self.uses_write_ahead_log(unlogged));
        // What no changelog can bring back must survive a power failure, because the input
        // offsets in Kafka do: one fsync per commit.
        options.set_sync(unlogged);
        options
    }
}
