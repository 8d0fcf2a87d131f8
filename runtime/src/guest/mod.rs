//! Owns wasmtime: engine, instances, host calls, limits. Must not know where records come from.
