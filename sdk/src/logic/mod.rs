//! Owns what each kind of node does with the rows it gets. Must not know how the graph came about.

mod aggregate;
mod derive;
mod transform;
mod keyed;
mod versioned;
mod view;
mod join;
mod join_streams;
mod retain;
mod partners;
mod join_grace;
mod join_global;
mod timed;
mod closing;
mod windows;
mod sliding;
mod sessions;
mod process;
mod regroup;
mod sink;
mod source;
mod stateless;
mod table;
mod buffered;
mod suppress;
mod foreign_key;

use std::any::Any;

use crate::contract::{Batch, Changes, Failure};
use crate::run::{Chunk, Run};

pub(crate) use aggregate::{Aggregate, Count, Fold, Step};
pub(crate) use closing::Closes;
pub(crate) use derive::Derive;
pub(crate) use foreign_key::{ForeignTableJoin, ResponseJoin, SubscriptionJoin, SubscriptionReceive, SubscriptionSend};
pub(crate) use join::{JoinStreamTable, JoinTables, MergeJoined, Side, TableJoiner};
pub(crate) use join_global::JoinStreamGlobalTable;
pub(crate) use join_grace::{Grace, JoinStreamTableInGrace};
pub(crate) use join_streams::{JoinStreams, OuterStore, StreamJoiner};
pub(crate) use keyed::TableStore;
pub(crate) use process::Process;
pub(crate) use regroup::{AggregateChanges, ChangeSource, ProduceChanges, Regroup};
pub(crate) use retain::{RetainForJoin, Retained};
pub(crate) use sessions::AggregateSessions;
pub(crate) use sink::{Destination, Produce};
pub(crate) use sliding::AggregateSliding;
pub(crate) use source::RecordSource;
pub(crate) use stateless::{
    Filter, FlatMap, FlatMapValues, Map, MapOnlyValues, MapValues, Observe, PassThrough, Predicate, SelectKey, Split,
};
pub(crate) use suppress::{Suppress, SuppressedView};
pub(crate) use table::{TableSource, TableState, ToStream};
pub(crate) use transform::{Transform, TransformedView};
pub(crate) use view::{DerivedView, JoinedView, StoreView, View};
pub(crate) use windows::AggregateWindows;

/// A node that gets rows. It is shared by all instances: what it keeps between calls is in stores,
/// or in the [`ProcessorInstance`] it makes.
pub(crate) trait Logic: Send + Sync {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure>;

    /// Forwards what changed in the cached store that belongs to the node.
    fn flush(&self, _changes: &Changes, _run: &mut Run<'_>) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether a user can see in which order nodes like this are called.
    fn has_effects(&self) -> bool {
        false
    }

    fn instantiate(&self) -> Option<Box<dyn ProcessorInstance>> {
        None
    }

    /// What it does as the node before a join at which many records of both sides may meet at once.
    fn as_retaining(&self) -> Option<&dyn Retaining> {
        None
    }

    /// What it does as a side of such a join.
    fn as_meeting(&self) -> Option<&dyn Meeting> {
        None
    }
}

/// Keeps the records of one side of a join, for the other side to find.
pub(crate) trait Retaining {
    /// What both sides of the join call it.
    fn join(&self) -> &str;

    /// How far apart the timestamps of records may be that meet at once. Then no record makes another one expire that
    /// it would have met, had they come one by one.
    fn span_ms(&self) -> i64;

    /// Keeps rows that were held back.
    fn retain(&self, rows: &[Box<dyn Any>], run: &mut Run<'_>) -> Result<Retained, Failure>;
}

/// A side of a join at which records of both sides meet at once, after all of them have been kept.
pub(crate) trait Meeting {
    /// Joins rows of this side with what the other side has had before each of them.
    fn meet(&self, rows: &[Box<dyn Any>], theirs: &Retained, run: &mut Run<'_>) -> Result<Box<dyn Any>, Failure>;

    /// Forwards what both sides have joined, as if records had come one by one.
    fn forward(&self, joined: [Box<dyn Any>; 2], run: &mut Run<'_>) -> Result<(), Failure>;
}

/// A user's processor, made anew for each instance.
pub(crate) trait ProcessorInstance: Send {
    fn init(&mut self, run: &mut Run<'_>) -> Result<(), Failure>;
    fn process(&mut self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure>;
    fn punctuate(&mut self, schedule: u32, timestamp: i64, run: &mut Run<'_>) -> Result<(), Failure>;
}

/// A node that reads topics.
pub(crate) trait SourceLogic: Send + Sync {
    /// Reads records and forwards them.
    fn read(&self, chunk: Chunk, run: &mut Run<'_>) -> Result<(), Failure>;

    fn extracts_timestamps(&self) -> bool;

    /// The timestamps of the records of one topic.
    fn extract(
        &self,
        node: &str,
        topic: &str,
        partition: u32,
        offsets: &[i64],
        records: &Batch,
        partition_time: Option<i64>,
    ) -> Result<Vec<i64>, Failure>;
}

/// The rows as the node takes them. Their type was compared when the node was connected.
pub(crate) fn typed<R: 'static>(rows: &dyn Any) -> &R {
    rows.downcast_ref().expect("the types of connected nodes are compared when the topology is built")
}
