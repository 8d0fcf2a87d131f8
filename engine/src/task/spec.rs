//! Owns what a task needs to know of its graph and of its limits. Made by `topology` and by the
//! configuration; must not know either.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::context::CallLimits;
use crate::expiry::Expiry;
use crate::quarantine::Policies;
use crate::record::TaskId;

/// A partition of a topic the task reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// As in the graph: internal topics without the application id.
    pub name: String,
    /// As in Kafka.
    pub topic: Arc<str>,
    /// That of the task's number; but for the task that fills global stores, which reads all.
    pub partition: u32,
    pub extracts_timestamps: bool,
}

/// A store of the task's subtopology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    pub name: String,
    /// Flushed at commits. Set only if the store is declared so and caching is on.
    pub cached: bool,
    /// Whether its database outlives the process.
    pub persistent: bool,
    /// Its changelog as named in Kafka; `None`: the store is not logged.
    pub changelog: Option<Arc<str>>,
    /// How its entries age; `None`: they stay until they are deleted.
    pub expiry: Option<Expiry>,
}

/// One task of a subtopology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    pub id: TaskId,
    pub application_id: String,
    /// In the order of the module's `task.topics`.
    pub inputs: Vec<InputSpec>,
    /// In the order of the graph, upstream first: a flush changes stores after it only.
    pub stores: Vec<StoreSpec>,
    /// Topics the sinks of the subtopology write, by their names in the graph, as named in Kafka.
    pub outputs: BTreeMap<String, Arc<str>>,
    /// Some sink lets the module name the topic: names not in `outputs` are topics of Kafka's then.
    pub dynamic_sinks: bool,
    /// Partition counts of the topics of the graph, by their names there.
    pub partition_counts: Arc<BTreeMap<String, u32>>,
    /// What `init` tells the module of caching.
    pub caching: bool,
}

/// Limits and policies of a task.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Records of one call. From some 100 on a call costs no more than the work in it; more delay the
    /// other tasks of the worker, and are run again when one of them fails.
    pub batch_records: usize,
    /// Bytes of one call, unless a single record has more. They are copied into the module's memory.
    pub batch_bytes: usize,
    /// A commit is due when uncommitted state takes this much memory.
    pub overlay_bytes: usize,
    /// Memory for recent committed values, over all stores of the task.
    pub cache_bytes: usize,
    pub call: CallLimits,
    /// Keys and values one call may hand back.
    pub output_bytes: usize,
    /// How long a task with several inputs waits for one that has nothing buffered and nothing on the
    /// broker, before it goes on without it. `None`: it does not even wait for what is on the broker.
    pub max_task_idle_ms: Option<u64>,
    pub policies: Policies,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_records: 1_000,
            batch_bytes: 1 << 20,
            overlay_bytes: 16 << 20,
            cache_bytes: 16 << 20,
            call: CallLimits { state_bytes: 64 << 20, answer_bytes: 64 << 20 },
            output_bytes: 64 << 20,
            max_task_idle_ms: Some(0),
            policies: Policies::default(),
        }
    }
}
