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
mod processor;
mod stores;
mod kgrouped;
mod kgrouped_table;
mod ktable;
mod topology;
#[cfg(not(target_arch = "wasm32"))]
mod driver;
#[doc(hidden)]
pub mod module;

#[cfg(not(target_arch = "wasm32"))]
pub use driver::{
    RawRecord, StoreEntry, TestDriverConfig, TestDriverError, TestInputTopic, TestKeyValueStore, TestOutputTopic,
    TestRecord, TopologyTestDriver,
};
pub use graph::{StreamsBuilder, TopologyError};
pub use kgrouped::KGroupedStream;
pub use kgrouped_table::KGroupedTable;
pub use kstream::{Branched, BranchedKStream, KStream};
pub use ktable::KTable;
pub use options::{
    Consumed, ConsumedRecord, Grouped, Materialized, Named, OffsetReset, Produced, RecordContext, Repartitioned,
};
pub use processor::{
    ProcessError, ProcessResult, Processor, ProcessorContext, PunctuationType, Record, RecordMetadata, Schedule,
};
pub use rows::{Data, Headers};
pub use serdes::{BytesSerde, DoubleSerde, IntegerSerde, JsonSerde, LongSerde, Serde, SerdeError, StringSerde};
pub use stores::{KeyValueStore, StoreBuilder, StoreIterator, Stores};
pub use topology::Topology;

/// What a topology needs, in one `use`.
pub mod prelude {
    pub use crate::{
        Branched, BytesSerde, Consumed, DoubleSerde, Grouped, Headers, IntegerSerde, JsonSerde, KGroupedStream,
        KGroupedTable, KStream, KTable, LongSerde, Materialized, Named, OffsetReset, ProcessError, ProcessResult,
        Processor, ProcessorContext, Produced, PunctuationType, Record, Repartitioned, Schedule, Serde, Stores,
        StreamsBuilder, StringSerde, Topology,
    };
}
