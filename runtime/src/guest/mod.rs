//! Owns wasmtime: engine, instances, host calls, limits. Must not know where records come from.
//!
//! A [`Module`] is compiled once and shared by all tasks; each task has its own instance. The
//! module is hostile input: it gets memory, time and output up to the limits, its columns are
//! checked before they are used, and an instance that failed is dropped at once.
//!
//! Module calls block, and a host call of WASI may enter an executor of its own: call from a plain
//! thread, never from an asynchronous task.

mod bindings;
mod engine;
mod limits;
mod clock;
mod lines;
mod host;
mod convert;
mod graph;
mod fault;
mod error;
mod cache;
mod module;
mod instance;
#[cfg(test)]
mod tests;

pub use cache::CodeCache;
pub use error::{CONTRACT, ModuleError};
pub use instance::TaskInfo;
pub use limits::Limits;
pub use module::{Inspection, Module, Settings};
