//! Owns the comparison of Millrace with Kafka Streams: generated topologies and records, run in
//! `TopologyTestDriver` on both sides. Must not know the host: no broker, no WebAssembly, no disk.

pub mod value;
pub mod bytes;
pub mod hex;
pub mod functions;
pub mod random;
pub mod case;
pub mod generate;
pub mod outcome;
pub mod kafka;
pub mod ours;
pub mod readable;
pub mod compare;
pub mod shrink;
