//! The declared graph, one to one with `interface graph` of the contract.

use crate::expiry::{Expiry, TimedKeys};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
    None,
}

/// Reads topics. Exactly one of `topics` and `pattern` is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub topics: Vec<String>,
    pub pattern: Option<String>,
    pub offset_reset: Option<OffsetReset>,
    pub extracts_timestamps: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processor {
    pub name: String,
    pub parents: Vec<String>,
    /// Names of the stores it reads and writes.
    pub stores: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    pub name: String,
    pub parents: Vec<String>,
    /// `None`: the module names the topic with each output.
    pub topic: Option<String>,
}

/// An internal topic between two subtopologies, named without the application id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repartition {
    pub topic: String,
    /// `None`: as many as the largest upstream source.
    pub partitions: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    pub size_ms: i64,
    pub retention_ms: i64,
    pub retain_duplicates: bool,
}

/// How the keys of a store are laid out; see the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    KeyValue,
    Window(Windows),
    /// Retention in milliseconds.
    Session(i64),
    /// History retention in milliseconds.
    Versioned(i64),
}

impl Layout {
    /// How entries age; `None`: they stay until they are deleted.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        match self {
            Self::Window(windows) => {
                let keys = if windows.retain_duplicates { TimedKeys::Duplicates } else { TimedKeys::Window };
                Some(Expiry { keys, retention_ms: windows.retention_ms })
            }
            Self::Session(retention_ms) => Some(Expiry { keys: TimedKeys::Session, retention_ms: *retention_ms }),
            Self::Versioned(history_ms) => Some(Expiry { keys: TimedKeys::Versions, retention_ms: *history_ms }),
            Self::KeyValue => None,
        }
    }
}

/// What the bytes of a store mean, for people who inspect it. Decides nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format {
    pub key: String,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    pub name: String,
    pub layout: Layout,
    pub format: Format,
    pub persistent: bool,
    pub logged: bool,
    pub cached: bool,
    pub changelog_config: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalStore {
    pub store: String,
    pub source: String,
    pub topic: String,
    pub processor: String,
    /// How many of the sources were declared before it; decides the number of its subtopology.
    pub position: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    pub sources: Vec<Source>,
    pub processors: Vec<Processor>,
    pub sinks: Vec<Sink>,
    pub repartitions: Vec<Repartition>,
    pub stores: Vec<Store>,
    pub global_stores: Vec<GlobalStore>,
    pub copartitioned: Vec<Vec<String>>,
}
