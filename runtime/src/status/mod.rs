//! Owns what the process says of itself while it runs: its state, its tasks and how far they are. The threads of the
//! record path write it, once per batch or less; HTTP and metrics read it. Must not know who reads, nor any adapter.

mod task;
mod log;
mod global;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_engine::record::TaskId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::traces::Traces;
pub use global::GlobalStatus;
pub use log::{Cut, GuestLine, GuestLog};
pub use task::{GuestUsage, InputProgress, Progress, Restored, TaskStatus};

/// Where the process is, in Kafka Streams' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not joined its group: brokers or source topics are waited for.
    Created,
    /// It has joined, and has no assignment at the moment, or tasks of it are being restored.
    Rebalancing,
    /// All its tasks run.
    Running,
    /// It was asked to stop, or has to.
    PendingShutdown,
}

impl State {
    pub const ALL: [Self; 4] = [Self::Created, Self::Rebalancing, Self::Running, Self::PendingShutdown];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Rebalancing => "REBALANCING",
            Self::Running => "RUNNING",
            Self::PendingShutdown => "PENDING_SHUTDOWN",
        }
    }
}

/// Where a task of this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Restoring,
    /// In this worker thread.
    Running(usize),
    /// Its partitions were taken away, and may come back.
    Suspended,
    /// It runs elsewhere.
    Standby,
}

impl Stage {
    pub const NAMES: [&str; 4] = ["RESTORING", "RUNNING", "SUSPENDED", "STANDBY"];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Restoring => Self::NAMES[0],
            Self::Running(_) => Self::NAMES[1],
            Self::Suspended => Self::NAMES[2],
            Self::Standby => Self::NAMES[3],
        }
    }

    #[must_use]
    pub fn is_active(self) -> bool {
        self != Self::Standby
    }
}

/// What does not change while the process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub application_id: String,
    /// What the instance is called: its `group.instance.id`, else the process id of its state directory.
    pub instance: String,
    pub threads: usize,
}

/// Shared by everybody, made once.
#[derive(Debug)]
pub struct Status {
    pub identity: Identity,
    pub workers: Workers,
    pub guest_log: Arc<GuestLog>,
    pub traces: Traces,
    started: Instant,
    /// When the source last made a turn, in milliseconds since the start.
    beat_ms: AtomicU64,
    rebalances: AtomicU64,
    swaps: AtomicU64,
    /// Of the last one.
    swap_pause_us: AtomicU64,
    /// An operator's wish, which the source and the workers follow.
    paused: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    state: State,
    /// SHA-256 of the module that tasks are made of.
    module: String,
    tasks: BTreeMap<TaskId, (Option<Stage>, Arc<TaskStatus>)>,
    /// Of each global store, by its name.
    globals: BTreeMap<String, Arc<GlobalStatus>>,
}

/// A worker thread, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Worker {
    pub worker: usize,
}

/// What worker threads count of themselves.
#[derive(Debug)]
pub struct Workers {
    /// Time of one batch.
    pub process_latency: Family<Worker, Histogram, fn() -> Histogram>,
    /// Time of one commit, of all tasks of the worker.
    pub commit_latency: Family<Worker, Histogram, fn() -> Histogram>,
    pub failed_commits: AtomicU64,
    pub changelog_records: AtomicU64,
}

/// From a single record to the longest call that is allowed.
const PROCESS_BUCKETS: [f64; 10] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0];
/// From a broker nearby to one that has to be waited for.
const COMMIT_BUCKETS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

impl Status {
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        let workers = Workers {
            process_latency: Family::new_with_constructor(|| Histogram::new(PROCESS_BUCKETS)),
            commit_latency: Family::new_with_constructor(|| Histogram::new(COMMIT_BUCKETS)),
            failed_commits: AtomicU64::default(),
            changelog_records: AtomicU64::default(),
        };
        Self {
            identity,
            workers,
            guest_log: Arc::default(),
            traces: Traces::default(),
            started: Instant::now(),
            beat_ms: AtomicU64::default(),
            rebalances: AtomicU64::default(),
            swaps: AtomicU64::default(),
            swap_pause_us: AtomicU64::default(),
            paused: AtomicBool::default(),
            known: Mutex::new(Known {
                state: State::Created,
                module: String::new(),
                tasks: BTreeMap::new(),
                globals: BTreeMap::new(),
            }),
        }
    }

    /// What is told of it in traces goes there.
    #[must_use]
    pub fn with_traces(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Tasks are made of this module from now on.
    pub fn runs(&self, module: &str) {
        module.clone_into(&mut self.known().module);
    }

    #[must_use]
    pub fn module(&self) -> String {
        self.known().module.clone()
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.known().state
    }

    /// A stop is the last state.
    pub fn enter(&self, state: State) {
        let mut known = self.known();
        if known.state != State::PendingShutdown {
            known.state = state;
        }
    }

    /// The source goes round.
    pub fn beat(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat_ms.store(ms, Ordering::Relaxed);
    }

    /// How long ago that was; since the start if it never did.
    #[must_use]
    pub fn since_beat(&self) -> Duration {
        self.uptime().saturating_sub(Duration::from_millis(self.beat_ms.load(Ordering::Relaxed)))
    }

    /// Tasks went on with another version of the module, and stood still so long for it.
    pub fn swapped(&self, pause: Duration) {
        self.swap_pause_us.store(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.swaps.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn swap_pause(&self) -> Duration {
        Duration::from_micros(self.swap_pause_us.load(Ordering::Relaxed))
    }

    /// From now on nothing is processed, or it is again. Says whether that is a change.
    pub fn pause(&self, paused: bool) -> bool {
        self.paused.swap(paused, Ordering::Relaxed) != paused
    }

    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub fn rebalanced(&self) {
        self.rebalances.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn rebalances(&self) -> u64 {
        self.rebalances.load(Ordering::Relaxed)
    }

    /// Where all tasks of the process are; others are forgotten, with what they counted.
    pub fn place(&self, state: State, stages: &BTreeMap<TaskId, Stage>) {
        let mut known = self.known();
        if known.state != State::PendingShutdown {
            known.state = state;
        }
        known.tasks.retain(|id, _| stages.contains_key(id));
        for (id, stage) in stages {
            known.tasks.entry(*id).or_default().0 = Some(*stage);
        }
    }

    /// What a task writes of itself.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Arc<TaskStatus> {
        Arc::clone(&self.known().tasks.entry(id).or_default().1)
    }

    /// What is said of a global store.
    #[must_use]
    pub fn global(&self, store: &str) -> Arc<GlobalStatus> {
        Arc::clone(self.known().globals.entry(store.to_owned()).or_default())
    }

    #[must_use]
    pub fn globals(&self) -> Vec<(String, Arc<GlobalStatus>)> {
        self.known().globals.iter().map(|(store, status)| (store.clone(), Arc::clone(status))).collect()
    }

    /// Where a task is, if it is here.
    #[must_use]
    pub fn stage(&self, id: TaskId) -> Option<Stage> {
        self.known().tasks.get(&id)?.0
    }

    /// All tasks that are placed.
    #[must_use]
    pub fn tasks(&self) -> Vec<(TaskId, Stage, Arc<TaskStatus>)> {
        let known = self.known();
        known.tasks.iter().filter_map(|(id, (stage, task))| Some((*id, (*stage)?, Arc::clone(task)))).collect()
    }

    /// Why the process is not ready to be relied upon; `None`: it is. All tasks it was assigned run, or lack at most
    /// `acceptable_lag` records each.
    #[must_use]
    pub fn unready(&self, acceptable_lag: u64) -> Option<String> {
        match self.state() {
            State::Created => return Some(self.unready_globals()),
            State::PendingShutdown => return Some("stopping".to_owned()),
            State::Rebalancing | State::Running => {}
        }
        if self.is_paused() {
            return Some("paused by an operator".to_owned());
        }
        let tasks = self.tasks();
        let behind = |(id, stage, task): &(TaskId, Stage, Arc<TaskStatus>)| match stage {
            Stage::Running(_) | Stage::Standby => None,
            Stage::Suspended => Some(format!("task {id} is suspended by a rebalance")),
            Stage::Restoring => match task.restored().remaining {
                Some(remaining) if remaining <= acceptable_lag => None,
                Some(remaining) => Some(format!("task {id} has {remaining} records left to restore")),
                None => Some(format!("task {id} is about to be restored")),
            },
        };
        let first = tasks.iter().find_map(behind);
        let assigned = tasks.iter().any(|(_, stage, _)| stage.is_active()) || self.state() == State::Running;
        first.or_else(|| (!assigned).then(|| "waiting for an assignment of the group".to_owned()))
    }
}

impl Status {
    /// What is waited for before anything is processed.
    fn unready_globals(&self) -> String {
        let lacking = self.globals().into_iter().find(|(_, status)| status.remaining() > 0);
        lacking.map_or_else(
            || "waiting for brokers and source topics".to_owned(),
            |(store, status)| format!("global store {store} lacks {} records", status.remaining()),
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId { subtopology: 0, partition: 1 };

    fn status() -> Status {
        let text = String::new;
        Status::new(Identity { application_id: text(), instance: text(), threads: 1 })
    }

    #[test]
    fn ready_is_who_runs_all_that_was_assigned() {
        let status = status();
        let unready = |why: &str| {
            let found = status.unready(10).unwrap_or_else(|| "ready".to_owned());
            assert!(found.contains(why), "{found}, not {why}");
        };
        unready("waiting for brokers");
        status.global("rates").read(5, 7);
        unready("global store rates lacks 7 records");
        status.global("rates").read(7, 0);
        unready("waiting for brokers");
        status.enter(State::Rebalancing);
        unready("waiting for an assignment");
        status.place(State::Rebalancing, &[(TASK, Stage::Restoring)].into());
        unready("about to be restored");
        status.task(TASK).remain(11);
        unready("11 records left");
        status.task(TASK).remain(10);
        unready("ready");
        status.place(State::Running, &[(TASK, Stage::Running(0))].into());
        unready("ready");
        status.place(State::Rebalancing, &[(TASK, Stage::Suspended)].into());
        unready("suspended");
        // Others can't rely upon it: nothing is processed here.
        assert!(status.pause(true) && !status.pause(true));
        unready("paused");
        assert!(status.pause(false));
        // More instances than partitions: there is nothing to do for this one.
        status.place(State::Running, &BTreeMap::new());
        unready("ready");
        status.enter(State::PendingShutdown);
        status.place(State::Running, &BTreeMap::new());
        unready("stopping");
    }

    #[test]
    fn a_task_that_left_starts_to_count_anew() {
        let status = status();
        status.place(State::Running, &[(TASK, Stage::Running(0))].into());
        status.task(TASK).processed(2, 20, 0);
        assert_eq!(status.tasks()[0].2.progress().records, 2);
        status.place(State::Running, &BTreeMap::new());
        assert!(status.tasks().is_empty());
        status.place(State::Running, &[(TASK, Stage::Running(0))].into());
        assert_eq!(status.tasks()[0].2.progress().records, 0);
    }
}
