//! Owns the task databases: RocksDB, in-memory, the state directory and its lock. Must not know
//! what is stored.
//!
//! ```text
//! <state.dir>/<application.id>/.lock                 one process at a time, Kafka Streams included
//!                             /0_1/rocksdb/          the database of task 0_1
//!                             /0_1/rocksdb.corrupt-1/  one that could not be trusted, set aside
//!                             /global/rocksdb/       the database of the global stores
//! ```
//!
//! A database has one column family per store (`store/<name>`) and the default one, which holds
//! the positions: a commit is one atomic write across them. Kafka Streams has a folder per store
//! beneath the same `rocksdb/`. The two do not clash: RocksDB ignores folders it does not know,
//! and Kafka Streams opens nothing but its own. Either may come back to its own copy of a task
//! after the other one has worked, because each copy knows up to which changelog offset it is good.

mod error;
mod resources;
mod lock;
mod directory;
mod ahead;
mod aside;
mod positions;
mod ageing;
mod blocks;
mod rocks;
mod task;
mod global;
mod inspect;
mod scratch;
#[cfg(test)]
mod tests;

pub use blocks::Blocks;
pub use directory::{DatabaseId, StateDirectory, Views};
pub use inspect::{Inspection, Snapshot};
pub use resources::{Budget, Resources};
pub use rocks::Sizes;
pub use scratch::Scratch;
pub use task::{TaskDatabase, View};
