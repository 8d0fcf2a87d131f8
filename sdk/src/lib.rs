//! The guest SDK of Millrace: the Kafka Streams DSL and Processor API in Rust. A topology written
//! with it is a WebAssembly component to the host, and a native value to its tests.
//!
//! It owns what a module decides; it must not know how the host keeps state or talks to Kafka.

mod contract;
mod serdes;
mod rows;
mod host;
mod run;
mod logic;
mod graph;
mod options;
mod kstream;
mod kgrouped;
mod ktable;
mod topology;
#[doc(hidden)]
pub mod module;

pub use graph::{StreamsBuilder, TopologyError};
pub use kgrouped::KGroupedStream;
pub use kstream::KStream;
pub use ktable::KTable;
pub use options::{Consumed, Grouped, Materialized, Named, Produced};
pub use rows::{Data, Headers};
pub use serdes::{BytesSerde, DoubleSerde, IntegerSerde, JsonSerde, LongSerde, Serde, SerdeError, StringSerde};
pub use topology::Topology;

/// What a topology needs, in one `use`.
pub mod prelude {
    pub use crate::{
        BytesSerde, Consumed, DoubleSerde, Grouped, Headers, IntegerSerde, JsonSerde, KGroupedStream, KStream, KTable,
        LongSerde, Materialized, Named, Produced, Serde, StreamsBuilder, StringSerde, Topology,
    };
}
