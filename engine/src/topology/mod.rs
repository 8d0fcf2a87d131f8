//! Owns the graph a module declares and all that follows from it: subtopologies, internal
//! topics, changelogs, the printed description. Must not know of partitions assigned or records.
//!
//! [`Topology`], the graph as declared, becomes a [`Plan`], which is valid and has all names; with
//! the partition counts of the topics it reads a plan becomes a [`Partitioning`], which has the
//! internal topics and the tasks.

mod graph;
mod error;
mod names;
mod pattern;
mod check;
mod union;
mod plan;
mod internal;
mod repartitions;
mod partitioning;
mod specs;
mod upgrade;
mod java_order;
mod describe;
mod diagram;
mod dot;
mod mermaid;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
pub(crate) mod chance;
#[cfg(test)]
mod tests;

pub use error::TopologyError;
pub use graph::{
    Format, GlobalStore, Layout, OffsetReset, Processor, Repartition, Sink, Source, Store, Topology, Windows,
};
pub use internal::{InternalTopic, Purpose};
pub use names::BadName;
pub use partitioning::{InputTopic, PartitionCounts, Partitioned, Partitioning};
pub use plan::{FilledStore, Plan, Subtopology};
pub use upgrade::{Difference, Effect, GlobalShape, Part, Shape, StoreShape, differences};
