//! The guest SDK of Millrace: the Kafka Streams DSL and Processor API in Rust. A topology written
//! with it is a WebAssembly component to the host, and a native value to its tests.
//!
//! It owns what a module decides; it must not know how the host keeps state or talks to Kafka.
//!
//! ```
//! use millrace::prelude::*;
//!
//! fn topology(builder: &mut StreamsBuilder) {
//!     builder
//!         .stream("input-topic", Consumed::with(StringSerde, StringSerde))
//!         .group_by_key(Grouped::with(StringSerde, StringSerde))
//!         .count(Materialized::as_("count-store"))
//!         .to_stream()
//!         .map_values(|count| count.to_string())
//!         .to("counts-topic", Produced::with(StringSerde, StringSerde));
//! }
//! millrace::export!(topology);
//!
//! # fn main() {
//! // In a test, natively:
//! let mut builder = StreamsBuilder::new();
//! topology(&mut builder);
//! let driver = millrace::TopologyTestDriver::new(builder.build().unwrap()).unwrap();
//! driver.create_input_topic("input-topic", StringSerde, StringSerde).pipe_input("foo", "bar");
//! let counts = driver.create_output_topic("counts-topic", StringSerde, StringSerde);
//! assert_eq!(counts.read_lines(), ["foo:1"]);
//! # }
//! ```
//!
//! Each operator has an example that is run as a test, most of them with these lines left out: where a topology is built,
//! given to a driver, and its topics are opened as here. [`TopologyTestDriver`] says what the driver does.
//!
//! A crate with such a topology is a `cdylib`, built with `cargo build --release --target
//! wasm32-wasip2`.
//!
//! # The same as Kafka Streams
//!
//! Operators, generated names, topics, formats and results are those of Kafka Streams 4.3, so that an
//! application can be carried on by the other side. What differs is how it is written in Rust:
//!
//! - Keys and values can be null in Kafka. Closures that see key and value of a stream's record get
//!   `Option`s; those of `map_values`, `flat_map_values`, of aggregations and tables are called only
//!   for what is there. Where null is an answer with a meaning there is a variant that ends in
//!   `_nullable` or `_with_key`.
//! - `named` gives the next operator's node a name: `stream.named("big").filter(…)`.
//! - `Materialized::default()`, `Grouped::default()` and so on stand for the overload without the argument.
//! - Types with an obvious serde (`String`, `i64`, `i32`, `f64`, `Vec<u8>`) need none to be named.
//! - Closures must be pure: the host may call them again for the same record, in any instance, and
//!   many records at a time where that can't be told from one by one.

#![deny(missing_docs)]

mod contract;
mod windows;
mod serdes;
mod rows;
mod host;
mod run;
mod logic;
mod graph;
mod options;
mod printed;
mod stream_joined;
mod suppressed;
mod table_joined;
mod kstream;
mod processor;
mod fixed_key;
mod stores;
mod kgrouped;
mod kgrouped_table;
mod kwindowed;
mod kcogrouped;
mod ktable;
mod global_table;
mod topology;
#[cfg(not(target_arch = "wasm32"))]
mod driver;
#[doc(hidden)]
pub mod module;

#[cfg(not(target_arch = "wasm32"))]
pub use driver::{
    RawRecord, StoreEntry, TestDriverConfig, TestDriverError, TestInputTopic, TestKeyValueStore, TestOutputTopic,
    TestRecord, TestSessionStore, TestVersionedStore, TestWindowStore, TopologyTestDriver,
};
pub use fixed_key::{FixedKeyProcessor, FixedKeyProcessorContext, FixedKeyRecord};
pub use global_table::GlobalKTable;
pub use graph::{StreamsBuilder, TopologyError};
pub use kcogrouped::{CogroupedKStream, SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream};
pub use kgrouped::KGroupedStream;
pub use kgrouped_table::KGroupedTable;
pub use kstream::{Branched, BranchedKStream, KStream};
pub use ktable::KTable;
pub use kwindowed::{SessionWindowedKStream, TimeWindowedKStream, WindowedBy};
pub use options::{
    Consumed, ConsumedRecord, Grouped, Joined, Materialized, Named, OffsetReset, Produced, RecordContext, Repartitioned,
};
pub use printed::Printed;
pub use processor::{
    ProcessError, ProcessResult, Processor, ProcessorContext, PunctuationType, Record, RecordMetadata, Schedule,
};
pub use rows::{Data, Headers};
pub use serdes::{
    BytesSerde, DoubleSerde, IntegerSerde, JsonSerde, LongSerde, Serde, SerdeError, SessionWindowedSerde, StringSerde,
    TimeWindowedSerde,
};
pub use stores::{
    KeyValueStore, Put, SessionStore, StoreBuilder, StoreIterator, Stores, VersionedKeyValueStore, VersionedRecord,
    WindowStore,
};
pub use stream_joined::StreamJoined;
pub use suppressed::{BufferConfig, Suppressed};
pub use table_joined::TableJoined;
pub use topology::Topology;
pub use windows::{
    EmitStrategy, JoinWindows, SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows, Window, Windowed,
};

/// What a topology needs, in one `use`.
pub mod prelude {
    pub use crate::{
        Branched, BufferConfig, BytesSerde, CogroupedKStream, Consumed, DoubleSerde, EmitStrategy, FixedKeyProcessor,
        FixedKeyProcessorContext, FixedKeyRecord, GlobalKTable, Grouped, Headers, IntegerSerde, JoinWindows, Joined,
        JsonSerde, KGroupedStream, KGroupedTable, KStream, KTable, LongSerde, Materialized, Named, OffsetReset,
        Printed, ProcessError, ProcessResult, Processor, ProcessorContext, Produced, PunctuationType, Record,
        Repartitioned, Schedule, Serde, SessionWindowedKStream, SessionWindowedSerde, SessionWindows, SlidingWindows,
        Stores, StreamJoined, StreamsBuilder, StringSerde, Suppressed, TableJoined, TimeWindowedKStream,
        TimeWindowedSerde, TimeWindows, Topology, UnlimitedWindows, Window, Windowed,
    };
}
