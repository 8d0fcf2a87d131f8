//! Owns the shape of a case: a topology as a list of steps, and what is fed to it. It is what
//! goes to the Java side as a line of JSON, so `Cases.java` must read every field named here.
//! Must not know how either side runs it.

use serde::{Deserialize, Serialize};

use crate::value::Type;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Unique among the cases of a run.
    pub name: String,
    /// Record caches on: cached stores forward at commits, and the drivers commit after each record.
    pub caching: bool,
    /// What the wall clock says at the start.
    #[serde(rename = "startMs")]
    pub start_ms: i64,
    pub steps: Vec<Step>,
    pub events: Vec<Event>,
}

/// What the result of a step is, named by the step's position; an operator takes the results of
/// earlier steps.
pub type StepId = usize;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The name given to the node; none: generated.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(flatten)]
    pub operator: Operator,
}

/// The operators, by their words in Kafka Streams' DSL. Functions are named, not described: see
/// `functions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub enum Operator {
    // Sources.
    Stream {
        topics: Vec<String>,
        key: Type,
        value: Type,
        extractor: Option<String>,
    },
    Table {
        topic: String,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    /// Its store, if it is said how that is kept, has a name.
    GlobalTable {
        topic: String,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    // From a stream to a stream.
    Filter {
        from: StepId,
        predicate: String,
    },
    FilterNot {
        from: StepId,
        predicate: String,
    },
    Map {
        from: StepId,
        selector: String,
        key: Type,
        mapper: String,
        value: Type,
    },
    MapValues {
        from: StepId,
        mapper: String,
        value: Type,
    },
    FlatMap {
        from: StepId,
        expander: String,
        selector: String,
        key: Type,
        value: Type,
    },
    FlatMapValues {
        from: StepId,
        expander: String,
        value: Type,
    },
    SelectKey {
        from: StepId,
        selector: String,
        key: Type,
    },
    Peek {
        from: StepId,
    },
    Merge {
        from: StepId,
        other: StepId,
    },
    /// Its results are taken by `Branch` steps.
    Split {
        from: StepId,
        branches: Vec<Branch>,
        default: DefaultBranch,
    },
    /// A branch of a split: `index` counts the branches, the default one comes last.
    Branch {
        from: StepId,
        index: usize,
    },
    Repartition {
        from: StepId,
        key: Type,
        value: Type,
        topic: Option<String>,
    },
    ToTable {
        from: StepId,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    /// The fixed processor `Stamp`: headers from the record's metadata and the clocks.
    Stamp {
        from: StepId,
    },
    /// The same as a processor that leaves keys alone.
    StampValues {
        from: StepId,
    },
    /// The fixed processor `Tally`: a store of its own, and punctuation.
    Tally {
        from: StepId,
        key: Type,
        store: Store,
        punctuation: Option<Punctuation>,
    },
    /// The fixed processor `Minutes`: a window store of its own.
    Minutes {
        from: StepId,
        key: Type,
        store: Store,
        size: i64,
        retention: i64,
        duplicates: bool,
    },
    /// The fixed processor `Visits`: a session store of its own.
    Visits {
        from: StepId,
        key: Type,
        store: Store,
        gap: i64,
        retention: i64,
    },
    // From a stream to a grouped stream.
    GroupBy {
        from: StepId,
        selector: String,
        key: Type,
        value: Type,
        topic: Option<String>,
    },
    GroupByKey {
        from: StepId,
        key: Type,
        value: Type,
        topic: Option<String>,
    },
    /// From a grouped stream to one in windows, which the same aggregations take. Their tables have windowed keys, and
    /// are kept for `retention` ms where they have a store.
    WindowedBy {
        from: StepId,
        windows: Windows,
        emit: Emit,
        retention: Option<i64>,
    },
    // From a grouped stream to a table.
    Count {
        from: StepId,
        key: Type,
        store: Option<Store>,
    },
    Reduce {
        from: StepId,
        combiner: String,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    Aggregate {
        from: StepId,
        combiner: String,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    /// From two grouped streams to a table, with windowed keys if there are windows.
    Cogroup {
        from: StepId,
        other: StepId,
        combiner: String,
        #[serde(rename = "otherCombiner")]
        other_combiner: String,
        windows: Option<Windows>,
        retention: Option<i64>,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    // From a table.
    TableFilter {
        from: StepId,
        predicate: String,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    TableFilterNot {
        from: StepId,
        predicate: String,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    TableMapValues {
        from: StepId,
        mapper: String,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    /// As `TableMapValues`, called for what is deleted, too; with a store that counts the calls for a key, if `calls` names
    /// one, whose count then stands before the text of the value.
    TableTransformValues {
        from: StepId,
        mapper: String,
        calls: Option<String>,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    /// From a table, with windowed keys or not, to the same: until `limit` ms are over, or until windows close.
    Suppress {
        from: StepId,
        key: Type,
        value: Type,
        limit: Option<i64>,
        #[serde(rename = "maxRecords")]
        max_records: Option<usize>,
        #[serde(rename = "maxBytes")]
        max_bytes: Option<usize>,
    },
    ToStream {
        from: StepId,
    },
    /// From a table with windowed keys to a stream: the window becomes part of a string.
    Unwindow {
        from: StepId,
        key: Type,
    },
    /// From two tables to a table of strings. Names and serdes are those of the result.
    TableJoin {
        from: StepId,
        other: StepId,
        kind: Join,
        joiner: String,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    /// The same, where `selector` says which key of the other table, of type `foreign`, a row refers to. Not outer.
    ForeignKeyJoin {
        from: StepId,
        other: StepId,
        kind: Join,
        selector: String,
        foreign: Type,
        joiner: String,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    /// From a stream and a table to a stream of strings; key and value are those of the stream. The kind is not outer.
    StreamTableJoin {
        from: StepId,
        other: StepId,
        kind: Join,
        joiner: String,
        key: Type,
        value: Type,
        #[serde(default)]
        grace: Option<i64>,
    },
    /// From a stream and a global table, whose keys are of the type given, to a stream of strings. The kind is not outer.
    GlobalJoin {
        from: StepId,
        other: StepId,
        kind: Join,
        selector: String,
        key: Type,
        joiner: String,
    },
    /// From two streams to a stream of strings; the types are those of the streams. Times are in milliseconds.
    StreamJoin {
        from: StepId,
        other: StepId,
        kind: Join,
        joiner: String,
        key: Type,
        value: Type,
        #[serde(rename = "otherValue")]
        other_value: Type,
        before: i64,
        after: i64,
        grace: i64,
        /// What the names of its stores begin with.
        stores: Option<String>,
    },
    // From a table to a grouped table.
    TableGroupBy {
        from: StepId,
        selector: String,
        key: Type,
        mapper: String,
        value: Type,
        topic: Option<String>,
    },
    // From a grouped table to a table.
    TableCount {
        from: StepId,
        key: Type,
        store: Option<Store>,
    },
    TableReduce {
        from: StepId,
        adder: String,
        subtractor: String,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    TableAggregate {
        from: StepId,
        adder: String,
        subtractor: String,
        key: Type,
        value: Type,
        store: Option<Store>,
    },
    // Ends.
    To {
        from: StepId,
        topic: Topic,
        key: Type,
        value: Type,
    },
    /// From a table with windowed keys to a topic.
    WindowedTo {
        from: StepId,
        topic: String,
        key: Type,
        value: Type,
    },
    ForEach {
        from: StepId,
    },
}

/// All in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Windows {
    Time { size: i64, advance: i64, grace: i64 },
    Unlimited { start: i64 },
    Sliding { difference: i64, grace: i64 },
    Session { gap: i64, grace: i64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Emit {
    WindowUpdate,
    WindowClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Join {
    Inner,
    Left,
    Outer,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    pub predicate: String,
    pub name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DefaultBranch {
    None,
    Unnamed,
}

/// `Materialized`, of the types that the operator says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Store {
    pub name: Option<String>,
    pub persistent: bool,
    pub logged: bool,
    pub cached: bool,
    /// A versioned store keeps what was for so many milliseconds.
    #[serde(default)]
    pub history: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Punctuation {
    pub clock: Clock,
    #[serde(rename = "intervalMs")]
    pub interval_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Clock {
    StreamTime,
    WallClock,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Topic {
    Named(String),
    /// `<prefix>-even` or `<prefix>-odd`, by the weight of the value.
    ByWeight(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    Record(Record),
    AdvanceWallClock { ms: u64 },
}

/// A record of a topic; bytes are written in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub topic: String,
    #[serde(with = "crate::hex::optional")]
    pub key: Option<Vec<u8>>,
    #[serde(with = "crate::hex::optional")]
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
    pub headers: Vec<Header>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub key: String,
    #[serde(with = "crate::hex::optional")]
    pub value: Option<Vec<u8>>,
}

impl Operator {
    /// Whether the DSL takes a name for its node here.
    #[must_use]
    pub fn takes_name(&self) -> bool {
        match self {
            Self::Branch { .. }
            | Self::Repartition { .. }
            | Self::GroupBy { .. }
            | Self::GroupByKey { .. }
            | Self::WindowedBy { .. }
            | Self::Unwindow { .. }
            | Self::WindowedTo { .. }
            | Self::TableGroupBy { .. } => false,
            Self::Reduce { store, .. }
            | Self::Aggregate { store, .. }
            | Self::TableReduce { store, .. }
            | Self::TableAggregate { store, .. } => store.is_some(),
            _ => true,
        }
    }

    /// The store it says how to keep.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        match self {
            Self::Tally { store, .. } | Self::Minutes { store, .. } | Self::Visits { store, .. } => Some(store),
            Self::Table { store, .. }
            | Self::GlobalTable { store, .. }
            | Self::ToTable { store, .. }
            | Self::Count { store, .. }
            | Self::Reduce { store, .. }
            | Self::Aggregate { store, .. }
            | Self::Cogroup { store, .. }
            | Self::TableFilter { store, .. }
            | Self::TableFilterNot { store, .. }
            | Self::TableMapValues { store, .. }
            | Self::TableTransformValues { store, .. }
            | Self::TableJoin { store, .. }
            | Self::ForeignKeyJoin { store, .. }
            | Self::TableCount { store, .. }
            | Self::TableReduce { store, .. }
            | Self::TableAggregate { store, .. } => store.as_ref(),
            _ => None,
        }
    }

    /// The results this operator takes.
    #[must_use]
    pub fn inputs(&self) -> Vec<StepId> {
        self.clone().inputs_mut().into_iter().map(|input| *input).collect()
    }

    /// The same, to be renumbered.
    pub fn inputs_mut(&mut self) -> Vec<&mut StepId> {
        match self {
            Self::Stream { .. } | Self::Table { .. } | Self::GlobalTable { .. } => Vec::new(),
            Self::Merge { from, other }
            | Self::Cogroup { from, other, .. }
            | Self::TableJoin { from, other, .. }
            | Self::ForeignKeyJoin { from, other, .. }
            | Self::StreamTableJoin { from, other, .. }
            | Self::GlobalJoin { from, other, .. }
            | Self::StreamJoin { from, other, .. } => vec![from, other],
            Self::Filter { from, .. }
            | Self::FilterNot { from, .. }
            | Self::Map { from, .. }
            | Self::MapValues { from, .. }
            | Self::FlatMap { from, .. }
            | Self::FlatMapValues { from, .. }
            | Self::SelectKey { from, .. }
            | Self::Peek { from }
            | Self::Split { from, .. }
            | Self::Branch { from, .. }
            | Self::Repartition { from, .. }
            | Self::ToTable { from, .. }
            | Self::Stamp { from }
            | Self::StampValues { from }
            | Self::Tally { from, .. }
            | Self::Minutes { from, .. }
            | Self::Visits { from, .. }
            | Self::GroupBy { from, .. }
            | Self::GroupByKey { from, .. }
            | Self::WindowedBy { from, .. }
            | Self::Unwindow { from, .. }
            | Self::WindowedTo { from, .. }
            | Self::Count { from, .. }
            | Self::Reduce { from, .. }
            | Self::Aggregate { from, .. }
            | Self::TableFilter { from, .. }
            | Self::TableFilterNot { from, .. }
            | Self::TableMapValues { from, .. }
            | Self::TableTransformValues { from, .. }
            | Self::Suppress { from, .. }
            | Self::ToStream { from }
            | Self::TableGroupBy { from, .. }
            | Self::TableCount { from, .. }
            | Self::TableReduce { from, .. }
            | Self::TableAggregate { from, .. }
            | Self::To { from, .. }
            | Self::ForEach { from } => vec![from],
        }
    }
}
