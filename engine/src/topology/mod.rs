//! Owns the graph a module declares and all that follows from it: subtopologies, internal
//! topics, changelogs, the printed description. Must not know of partitions assigned or records.

mod graph;

pub use graph::{
    Format, GlobalStore, Layout, OffsetReset, Processor, Repartition, Sink, Source, Store, Topology, Windows,
};
