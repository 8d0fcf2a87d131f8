//! The pure core of Millrace: decides, does no I/O.
//!
//! It names no Kafka client, no database, no WebAssembly, no thread, clock or file: all of that
//! comes in through [`ports`]. Modules are listed in the order data flows through them.

pub mod record;
pub mod partitioner;
pub mod topology;
pub mod assignment;
pub mod task;
pub mod global;
pub mod quarantine;
pub mod context;
pub mod overlay;
pub mod versions;
pub mod expiry;
pub mod commit;
pub mod restore;
pub mod memory;
pub mod ports;
#[cfg(test)]
mod sim;
