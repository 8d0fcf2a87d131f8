//! Makes tasks of the current version of the module and a state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_engine::context::CallLimits;
use millrace_engine::global::GlobalStores;
use millrace_engine::ports::{Error, Fault};
use millrace_engine::quarantine::{Policies, Policy};
use millrace_engine::record::TaskId;
use millrace_engine::task::{Settings, Successor, Task, TaskSpec};

use super::versions::{News, Version, Versions};
use crate::api::Catalogs;
use crate::config::{Config, FaultPolicy, Faults};
use crate::guest::TaskInfo;
use crate::source::{Advance, TaskFactory};
use crate::status::Status;
use crate::store::{Resources, StateDirectory};
use crate::worker::Swapped;

/// Memory for recent committed values of all tasks: reading them from RocksDB is the largest single
/// cost of a record.
const CACHE_BYTES: usize = 32 << 20;

pub(super) struct Tasks {
    versions: Arc<Versions>,
    state: Arc<StateDirectory>,
    resources: Arc<Resources>,
    /// What all tasks may read.
    globals: GlobalStores,
    settings: Arc<Settings>,
    caching: bool,
    cleanup_delay: Duration,
    status: Arc<Status>,
    /// What queries are answered from.
    catalogs: Arc<Catalogs>,
}

impl Tasks {
    pub(super) fn new(
        versions: Arc<Versions>,
        (state, resources, globals): (Arc<StateDirectory>, Arc<Resources>, GlobalStores),
        settings: Settings,
        config: &Config,
        (status, catalogs): (Arc<Status>, Arc<Catalogs>),
    ) -> Self {
        let caching = is_caching(config);
        let cleanup_delay = Duration::from_millis(config.state_cleanup_delay_ms);
        let settings = Arc::new(settings);
        Self { versions, state, resources, globals, settings, caching, cleanup_delay, status, catalogs }
    }

    fn spec(&self, version: &Version, id: TaskId, inputs: &[usize]) -> Result<TaskSpec, Error> {
        version
            .partitioning
            .task_spec(&version.plan, id, inputs, self.caching)
            .ok_or_else(|| Error::Fatal(format!("the topology has no task {id}")))
    }
}

impl TaskFactory for Tasks {
    fn make(&self, id: TaskId, inputs: &[usize]) -> Result<Task, Error> {
        let Successor { spec, guest, .. } = self.successor(id, inputs)?;
        let database = self.state.open_task(id, &spec.stores, &self.resources)?;
        let task = Task::new(spec, Arc::clone(&self.settings), guest, Box::new(database));
        Ok(task.reading(self.globals.clone()))
    }

    fn set_aside(&self, id: TaskId, inputs: &[usize], why: &str) -> Result<(), Error> {
        self.state.set_aside(id, &self.spec(&self.versions.of_task(id), id, inputs)?.stores, why)
    }

    fn clean(&self, keep: &BTreeSet<TaskId>) {
        // What no changelog can bring back is nobody's to delete.
        let version = self.versions.current();
        let irreplaceable = version.partitioning.tasks().filter(|id| {
            let stores = version.plan.subtopology(id.subtopology).map_or(&[][..], |subtopology| &subtopology.stores);
            stores.iter().any(|store| store.persistent && !store.logged)
        });
        let keep = keep.iter().copied().chain(irreplaceable).collect();
        if let Err(error) = self.state.clean(&keep, self.cleanup_delay, Instant::now()) {
            tracing::warn!(%error, "clean the state directory");
        }
    }

    fn advance(&self) -> Result<Option<Advance>, Error> {
        let advanced = self.versions.advance()?;
        if advanced.is_some() {
            let current = self.versions.current();
            self.status.runs(current.module.digest());
            self.catalogs.describe(&current.plan, &current.partitioning);
        }
        Ok(advanced)
    }

    fn successor(&self, id: TaskId, inputs: &[usize]) -> Result<Successor, Error> {
        let version = self.versions.of_task(id);
        let spec = self.spec(&version, id, inputs)?;
        let topics = spec.inputs.iter().map(|input| input.name.clone()).collect();
        let usage = Arc::clone(&self.status.task(id).guest);
        let log = Arc::clone(&self.status.guest_log);
        let guest = version.module.instantiate(TaskInfo { id, topics, caching: self.caching, usage, log });
        Ok(Successor { spec: Arc::new(spec), guest, changelogs: BTreeMap::new() })
    }

    fn swapped(&self, swapped: Swapped) {
        if swapped.tasks > 0 {
            self.status.swapped(swapped.pause);
            let attributes = [("millrace.tasks", swapped.tasks), ("millrace.reopened", swapped.reopen.len())];
            self.status.traces.ended("swap", swapped.pause, attributes);
        }
        self.versions.tell(News::Swapped(swapped));
    }

    fn faulted(&self, task: TaskId, count: u32, example: String) {
        if self.versions.tries(task) {
            self.versions.tell(News::Faulted(count, example));
        }
    }

    fn condemn(&self, task: TaskId, fault: &Fault) -> bool {
        self.versions.condemn(task, fault)
    }
}

/// Cached stores are flushed at commits; else every update is forwarded.
pub(super) fn is_caching(config: &Config) -> bool {
    config.store_cache_bytes > 0
}

/// What tasks are told of limits and policies.
pub(super) fn settings(config: &Config, versions: &Versions) -> Settings {
    Settings {
        batch_records: config.batch_records,
        batch_bytes: config.batch_bytes,
        overlay_bytes: config.overlay_bytes / config.threads.max(1),
        cache_bytes: CACHE_BYTES / versions.current().partitioning.tasks().count().max(1),
        call: CallLimits { state_bytes: config.module.state_bytes, answer_bytes: config.module.state_bytes },
        output_bytes: config.module.output_bytes,
        max_task_idle_ms: config.max_task_idle_ms,
        policies: policies(&config.faults),
    }
}

fn policies(faults: &Faults) -> Policies {
    let policy = |policy: &FaultPolicy| match policy {
        FaultPolicy::Fail => Policy::Fail,
        FaultPolicy::Skip => Policy::Skip,
        FaultPolicy::DeadLetter(topic) => Policy::DeadLetter { topic: topic.clone() },
    };
    let kinds = faults.kinds.iter().map(|(kind, own)| (*kind, policy(own))).collect();
    Policies { otherwise: policy(&faults.policy), kinds }
}
