//! Owns what an instance may take of the host. Must not know what it does with it.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// Limits of one instance and of one call to it. Stack, tables and instances have limits too, but
/// no reason was found to change those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories of an instance together.
    pub memory_bytes: usize,
    /// Wall-clock time of a call, host calls included.
    pub call_timeout: Duration,
    /// Keys, values and headers that one call hands back.
    pub output_bytes: usize,
    /// Keys and values in one host call; what a whole call may write is the context's to limit.
    pub state_bytes: usize,
}

/// A component made of several languages has a core instance for each part and each adapter
/// between them: dozens. More is an attempt to use up the host.
const INSTANCES_MAX: usize = 256;
const TABLES_MAX: usize = 256;
const MEMORIES_MAX: usize = 64;
/// Pointers to functions and host objects, 8 bytes each. Interpreters compiled to wasm have some
/// ten thousand.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

impl Limits {
    /// Bytes that wasmtime may copy out of the module at once, counted in its own types. Columns
    /// are bytes and some 16 bytes per record beside them, hence twice the larger limit; without
    /// it a list that names the same bytes a thousand times would be copied a thousand times.
    pub(super) fn copied_bytes(&self) -> usize {
        self.output_bytes.max(self.state_bytes).saturating_mul(2)
    }
}

/// It wanted more memory than [`Limits::memory_bytes`].
#[derive(Debug, thiserror::Error)]
#[error("{wanted} bytes of memory wanted, {allowed} allowed")]
pub(super) struct MemoryExceeded {
    wanted: usize,
    allowed: usize,
}

/// Counts the memory of one instance.
pub(super) struct Meter {
    allowed: usize,
    used: usize,
}

impl Meter {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { allowed: limits.memory_bytes, used: 0 }
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.used.saturating_sub(current).saturating_add(desired);
        if wanted > self.allowed {
            // A trap rather than a failed growth: what languages make of that is an abort without
            // a reason, or a loop that tries again.
            return Err(MemoryExceeded { wanted, allowed: self.allowed }.into());
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.used = wanted;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error.context("grow the module's memory"))
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}
