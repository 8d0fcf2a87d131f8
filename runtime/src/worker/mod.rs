//! Owns the loop of a worker thread. Must not know Kafka, RocksDB or wasmtime.
