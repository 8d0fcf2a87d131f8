//! Owns the task databases: RocksDB, in-memory, the state directory and its lock. Must not know what is stored.
