//! Owns the loop of a worker thread. Must not know Kafka, RocksDB or wasmtime.

mod budget;
mod meter;
mod turn;

pub use budget::Budget;
pub use meter::Meter;
pub(crate) use turn::now_ms;
pub use turn::{Pace, Worker};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_engine::ports::Error;
use millrace_engine::record::{TaskId, TopicPartition};
use millrace_engine::task::{Chunk, Successor, Task};

use crate::traces::RecordSpan;

/// Of those records of a chunk whose trace goes on here, by their offsets.
pub type Spans = Vec<(i64, RecordSpan)>;

/// What the source asks of a worker. Orders are carried out in the order they were sent.
pub enum Order {
    /// Records of a partition of a task, in offset order. `bytes` of the worker's budget were
    /// taken for them.
    Records { task: TaskId, partition: TopicPartition, chunk: Chunk, bytes: usize, spans: Spans },
    /// Whether the broker has more of one of a task's inputs, which it is to wait for.
    Reach { task: TaskId, partition: TopicPartition, behind: bool },
    /// The task is restored: it is this worker's from now on.
    Adopt(Box<Task>),
    /// At the next commit these tasks go on with another version of the module. Answered by [`Report::Swapped`].
    Swap { successors: Vec<Successor> },
    /// Commit, then stop processing but keep the tasks open. Answered when done.
    Suspend { done: Sender<()> },
    /// Go on with what was suspended.
    Resume,
    /// Drop these tasks, after a commit or without one. Answered when their stores are closed.
    Close { tasks: Vec<TaskId>, commit: bool, done: Sender<()> },
    /// Commit, close everything and end. Answered with whether the commit came to its end.
    Stop { done: Sender<bool> },
}

/// What a worker tells the source.
pub enum Report {
    /// Partitions of a task of which enough is buffered, or little enough again.
    Flow { task: TaskId, pause: Vec<TopicPartition>, resume: Vec<TopicPartition> },
    /// This task can't go on: it is suspended if it was the module that failed, else dropped. The
    /// others do go on.
    Task { task: TaskId, error: Error },
    /// The module failed so often on records of a task that were left out; `example` is one of those faults.
    Faults { task: TaskId, count: u32, example: String },
    /// A swap is through.
    Swapped(Swapped),
    /// The global stores can't be kept up to date any more.
    Globals(Error),
    /// None of the worker's tasks can go on: they were all dropped. `culprit` is the one that failed, if it was one.
    Worker { tasks: Vec<TaskId>, culprit: Option<TaskId>, error: Error },
}

/// What became of a swap.
#[derive(Debug, Default)]
pub struct Swapped {
    /// Orders that it was the answer to.
    pub orders: usize,
    /// How long the tasks stood still for it, the commit included.
    pub pause: Duration,
    /// Tasks that went on with the new version.
    pub tasks: usize,
    /// Tasks that go on as they were, until it is known where these changelogs begin and end.
    pub asks: Vec<(TaskId, Vec<TopicPartition>)>,
    /// Tasks that can't go on as they are, and have to be made again.
    pub reopen: Vec<TaskId>,
    /// The new version failed before it had processed anything: some tasks are still with the one before.
    pub refused: Option<Error>,
}

/// A running worker, as the source sees it.
pub struct Handle {
    orders: Sender<Order>,
    lease: Arc<AtomicBool>,
    budget: Arc<Budget>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Starts `worker`, whose orders, lease and budget the handle is made from.
    pub fn start(
        name: String,
        lease: Arc<AtomicBool>,
        budget: Arc<Budget>,
        worker: impl FnOnce(Receiver<Order>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (orders, receiver) = channel();
        let thread = std::thread::Builder::new().name(name).spawn(move || worker(receiver))?;
        Ok(Self { orders, lease, budget, thread })
    }

    /// The worker ends only after an answered `Stop`, or by a panic, which ends the process.
    pub fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("a worker thread ended unasked");
        }
    }

    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// From now on, and until it resumes, the worker must not commit: its tasks may be others'.
    pub fn end_lease(&self) {
        self.lease.store(false, Ordering::Release);
    }

    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }
}
