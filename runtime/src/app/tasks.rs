//! Makes tasks of a module, a plan and a state directory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_engine::context::CallLimits;
use millrace_engine::ports::Error;
use millrace_engine::quarantine::{Policies, Policy};
use millrace_engine::record::TaskId;
use millrace_engine::task::{Settings, Task, TaskSpec};
use millrace_engine::topology::{Partitioning, Plan};

use crate::config::{Config, FaultPolicy, Faults};
use crate::guest::{Module, TaskInfo};
use crate::source::TaskFactory;
use crate::store::{Resources, StateDirectory};

/// Memory for recent committed values of all tasks: reading them from RocksDB is the largest single
/// cost of a record.
const CACHE_BYTES: usize = 32 << 20;

pub(super) struct Tasks {
    module: Module,
    plan: Plan,
    partitioning: Arc<Partitioning>,
    state: StateDirectory,
    resources: Resources,
    settings: Arc<Settings>,
    /// Cached stores are flushed at commits; else every update is forwarded.
    caching: bool,
    cleanup_delay: Duration,
}

impl Tasks {
    pub(super) fn new(
        module: Module,
        plan: Plan,
        partitioning: Arc<Partitioning>,
        state: StateDirectory,
        resources: Resources,
        config: &Config,
    ) -> Self {
        let settings = Settings {
            batch_records: config.batch_records,
            batch_bytes: config.batch_bytes,
            overlay_bytes: config.overlay_bytes / config.threads.max(1),
            cache_bytes: CACHE_BYTES / partitioning.tasks().count().max(1),
            call: CallLimits { state_bytes: config.module.state_bytes, answer_bytes: config.module.state_bytes },
            output_bytes: config.module.output_bytes,
            max_task_idle_ms: config.max_task_idle_ms,
            policies: policies(&config.faults),
        };
        let caching = config.store_cache_bytes > 0;
        let cleanup_delay = Duration::from_millis(config.state_cleanup_delay_ms);
        Self { module, plan, partitioning, state, resources, settings: Arc::new(settings), caching, cleanup_delay }
    }

    fn spec(&self, id: TaskId, inputs: &[usize]) -> Result<TaskSpec, Error> {
        self.partitioning
            .task_spec(&self.plan, id, inputs, self.caching)
            .ok_or_else(|| Error::Fatal(format!("the topology has no task {id}")))
    }
}

impl TaskFactory for Tasks {
    fn make(&self, id: TaskId, inputs: &[usize]) -> Result<Task, Error> {
        let spec = self.spec(id, inputs)?;
        let topics = spec.inputs.iter().map(|input| input.name.clone()).collect();
        let guest = self.module.instantiate(TaskInfo { id, topics, caching: self.caching });
        let database = self.state.open_task(id, &spec.stores, &self.resources)?;
        Ok(Task::new(Arc::new(spec), Arc::clone(&self.settings), guest, Box::new(database)))
    }

    fn set_aside(&self, id: TaskId, inputs: &[usize], why: &str) -> Result<(), Error> {
        self.state.set_aside(id, &self.spec(id, inputs)?.stores, why)
    }

    fn clean(&self, keep: &BTreeSet<TaskId>) {
        // What no changelog can bring back is nobody's to delete.
        let irreplaceable = self.partitioning.tasks().filter(|id| {
            let stores = self.plan.subtopology(id.subtopology).map_or(&[][..], |subtopology| &subtopology.stores);
            stores.iter().any(|store| store.persistent && !store.logged)
        });
        let keep = keep.iter().copied().chain(irreplaceable).collect();
        if let Err(error) = self.state.clean(&keep, self.cleanup_delay, Instant::now()) {
            tracing::warn!(%error, "clean the state directory");
        }
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
