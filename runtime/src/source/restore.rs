//! The restore reader: fills the stores of tasks from their changelogs, on a thread of its own, so
//! that no restoring task stalls one that is running.
//!
//! One consumer per changelog topic: the client says that a partition is read to its end, but not
//! of which topic. A changelog is read when no transaction is open in it: the committed input offsets
//! may already be those of a transaction whose marker has not reached the changelog yet.
//!
//! It keeps the standbys, too, as long as there is nothing to restore: a task that is restored is one that nobody
//! runs, and a standby may be a little late. A task is here only once: one whose standby is open is restored from
//! there.

mod reader;
mod standbys;

pub(super) use standbys::Chosen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_engine::commit::Guarantee;
use millrace_engine::ports::{Committed, Error, Fault, Positions};
use millrace_engine::record::{Offset, TaskId, TopicPartition};
use millrace_engine::restore::{Facts, Plan, Replay, plan};
use millrace_engine::task::{Successor, Task};
use millrace_engine::topology::Partitioning;

use super::rebalance::{CommittedOffsets, Offsets};
use crate::kafka::Clients;
use crate::status::Status;
use crate::worker::{Report, Swapped};
use reader::{Read, Readers};
use standbys::Standbys;

/// How often a paused instance looks whether it is to go on.
const PAUSED_WAIT: Duration = Duration::from_millis(100);
/// How long a poll of changelogs waits when there is nothing at the moment.
const WAIT: Duration = Duration::from_millis(10);
/// How late a standby may be, and all that it costs when nothing happens.
const STANDBY_WAIT: Duration = Duration::from_millis(100);
/// Tasks that are opened at the same time. Each fills memory from its log before it can be written out.
const OPENED_AT_ONCE: usize = 4;
/// How often a long restore says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// How late the status of the process may be about what is left to read.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(500);
/// Pause before a task is tried again whose restore failed for a passing reason.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// How often it is asked whether the transactions in a changelog are over.
const TRANSACTION_WAIT: Duration = Duration::from_millis(50);
/// When that has taken so long that people should know. Brokers end a transaction whose producer is gone after 10 s
/// (`transaction.timeout.ms`), and look every 10 s.
const TRANSACTION_PATIENCE_S: u64 = 30;

/// Makes tasks: opens their state and instantiates the module.
pub trait TaskFactory: Send + Sync {
    fn make(&self, id: TaskId, inputs: &[usize]) -> Result<Task, Error>;
    /// The state of a task, which is closed, can't be trusted: the next `make` starts from nothing.
    fn set_aside(&self, id: TaskId, inputs: &[usize], why: &str) -> Result<(), Error>;
    /// Deletes the state of tasks that are not in `keep` and have not been for long.
    fn clean(&self, keep: &BTreeSet<TaskId>);
    /// Makes tasks of the next version of the module from now on, if there is one. An error: this one can't go on, and no
    /// other comes in its place.
    fn advance(&self) -> Result<Option<Advance>, Error>;
    /// What a task of the current version is that goes on where one of the version before is.
    fn successor(&self, id: TaskId, inputs: &[usize]) -> Result<Successor, Error>;
    /// All tasks at hand are with the current version, or it was refused.
    fn swapped(&self, swapped: Swapped);
    /// The module failed so often on records that were left out.
    fn faulted(&self, task: TaskId, count: u32, example: String);
    /// The module failed on a record that must not be left out. Says whether the version is taken back for that.
    fn condemn(&self, task: TaskId, fault: &Fault) -> bool;
}

/// Another version of the module.
pub struct Advance {
    /// It reads the same topics in the same partitions, but may begin elsewhere in them.
    pub partitioning: Arc<Partitioning>,
    /// The tasks that it is for, if not for all.
    pub tasks: Option<BTreeSet<TaskId>>,
}

/// A task that is ready to run.
pub(super) struct Restored {
    pub(super) task: Box<Task>,
    /// Inputs that do not go on where the group says.
    pub(super) seeks: Vec<(TopicPartition, Offset)>,
}

enum Order {
    Restore(Vec<Request>),
    Cancel { tasks: Vec<TaskId>, done: Sender<()> },
    KeepStandbys(Chosen),
    RenewStandbys,
}

/// A task to be restored.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) id: TaskId,
    /// Of the subtopology's inputs, those this member reads.
    pub(super) inputs: Vec<usize>,
    pub(super) committed: CommittedOffsets,
    /// Where the consumer will begin unless it is told otherwise.
    pub(super) fetched_from: Offsets,
    /// Its state was corrupt: start from nothing.
    pub(super) rebuild: bool,
}

impl Request {
    /// What the group knows of an input. Where neither it nor the disk knows anything, that is where the
    /// reset policy has put the consumer.
    fn known(&self, input: &TopicPartition, stored: &Positions) -> Option<Committed> {
        if let Some(committed) = self.committed.get(input) {
            return Some(committed.clone());
        }
        let unknown = stored.inputs.iter().all(|(known, _)| known != input);
        let offset = self.fetched_from.get(input).filter(|_| unknown)?;
        Some(Committed { offset: *offset, metadata: String::new() })
    }
}

/// The restore thread, as the source sees it.
pub(super) struct Restorer {
    orders: Sender<Order>,
    restored: Receiver<Restored>,
    thread: JoinHandle<()>,
}

impl Restorer {
    pub(super) fn start(
        clients: Clients,
        guarantee: Guarantee,
        factory: Arc<dyn TaskFactory>,
        reports: Sender<Report>,
        status: Arc<Status>,
    ) -> std::io::Result<Self> {
        let (orders, receiver) = channel();
        let (sender, restored) = channel();
        let thread = Thread {
            guarantee,
            reports,
            restored: sender,
            standbys: Standbys::new(
                Arc::clone(&factory),
                Readers::new(clients.clone(), Clients::standby),
                Arc::clone(&status),
            ),
            status,
            factory,
            readers: Readers::new(clients, Clients::restore),
            restoring: BTreeMap::new(),
            waiting: Vec::new(),
            told_at: Instant::now(),
            published_at: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("restore".to_owned()).spawn(move || thread.run(&receiver))?;
        Ok(Self { orders, restored, thread })
    }

    pub(super) fn restore(&self, requests: Vec<Request>) {
        self.order(Order::Restore(requests));
    }

    /// Gives tasks up and waits until their stores are closed. A task that has just been restored
    /// is dropped when it is taken.
    pub(super) fn cancel(&self, tasks: Vec<TaskId>) {
        if tasks.is_empty() {
            return;
        }
        let (done, cancelled) = channel();
        self.order(Order::Cancel { tasks, done });
        if cancelled.recv_timeout(super::SUSPEND_TIMEOUT).is_err() {
            tracing::error!("the restore thread did not answer in time");
        }
    }

    /// Keeps standbys of these tasks from now on, and of no others. None of them is here in any other way.
    pub(super) fn keep_standbys(&self, chosen: Chosen) {
        self.order(Order::KeepStandbys(chosen));
    }

    /// The current version of the module is another one.
    pub(super) fn renew_standbys(&self) {
        self.order(Order::RenewStandbys);
    }

    pub(super) fn take_restored(&self) -> Option<Restored> {
        self.restored.try_recv().ok()
    }

    /// Ends the thread, and with it whatever is being restored: what was replayed is kept.
    pub(super) fn stop(self) {
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("the restore thread panicked; its message is above");
        }
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("the restore thread ended unasked");
        }
    }
}

/// A task that is being restored.
struct Restoring {
    task: Task,
    request: Request,
    plan: Plan,
    records: usize,
    began: Instant,
}

/// A task whose restore can't begin yet.
struct Waiting {
    until: Instant,
    request: Request,
    /// It is open already, and since when.
    task: Option<(Task, Instant)>,
}

struct Thread {
    guarantee: Guarantee,
    factory: Arc<dyn TaskFactory>,
    reports: Sender<Report>,
    restored: Sender<Restored>,
    readers: Readers,
    standbys: Standbys,
    restoring: BTreeMap<TaskId, Restoring>,
    /// To be tried again.
    waiting: Vec<Waiting>,
    told_at: Instant,
    status: Arc<Status>,
    /// When the status was last told how much is left.
    published_at: Instant,
}

impl Thread {
    /// Works until the source is gone.
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            match self.next_order(orders) {
                Ok(Order::Restore(requests)) => self.begin(requests),
                Ok(Order::KeepStandbys(chosen)) => self.standbys.keep(chosen),
                Ok(Order::RenewStandbys) => self.standbys.renew(),
                Ok(Order::Cancel { tasks, done }) => {
                    for id in tasks {
                        self.give_up(id);
                    }
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) if self.status.is_paused() => {}
                Err(RecvTimeoutError::Timeout) => self.turn(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Waits for an order as long as there is nothing to read. Standbys wait until nothing is restored. A paused instance
    /// reads nothing, as in Kafka Streams, but opens and closes what it is told to.
    fn next_order(&mut self, orders: &Receiver<Order>) -> Result<Order, RecvTimeoutError> {
        if self.status.is_paused() {
            return orders.recv_timeout(PAUSED_WAIT);
        }
        if !self.restoring.is_empty() {
            return orders.recv_timeout(Duration::ZERO);
        }
        if !self.waiting.is_empty() {
            return orders.recv_timeout(TRANSACTION_WAIT);
        }
        if self.standbys.is_empty() {
            return orders.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        let wait = if self.standbys.turn() { Duration::ZERO } else { STANDBY_WAIT };
        orders.recv_timeout(wait)
    }

    /// Begins to restore tasks, a few of which are opened side by side.
    fn begin(&mut self, requests: Vec<Request>) {
        let mut closed = Vec::new();
        for request in requests {
            match self.standbys.take(request.id) {
                Some(standby) => self.go_on(request, standby, Instant::now()),
                None => closed.push(request),
            }
        }
        let factory = Arc::clone(&self.factory);
        for some in closed.chunks(OPENED_AT_ONCE) {
            let since = Instant::now();
            open(&*factory, some, |request, opened| match opened {
                Ok(task) => self.go_on(request.clone(), task, since),
                Err(error) => self.failed(request.clone(), error),
            });
        }
    }

    /// Restores a task that is open, since then.
    fn go_on(&mut self, request: Request, task: Task, since: Instant) {
        if let Err(error) = self.prepare(request.clone(), task, since) {
            self.failed(request, error);
        }
    }

    fn prepare(&mut self, request: Request, mut task: Task, since: Instant) -> Result<(), Error> {
        let id = request.id;
        let now = Instant::now();
        let changelogs = self.readers.bounds(&task)?;
        if !self.readers.are_settled(&task, &changelogs)? {
            self.waiting.push(Waiting { until: now + TRANSACTION_WAIT, request, task: Some((task, since)) });
            return Ok(());
        }
        let spec = Arc::clone(task.spec());
        let stored = task.stored_positions()?;
        let committed: Vec<_> =
            (0..spec.inputs.len()).map(|input| request.known(&task.partition(input), &stored)).collect();
        let facts = Facts {
            guarantee: self.guarantee,
            spec: &spec,
            stored: &stored,
            committed: &committed,
            changelogs: &changelogs,
        };
        let plan = plan(&facts);
        for (store, replay) in spec.stores.iter().zip(&plan.stores) {
            tell(id, &store.name, *replay);
        }
        task.restore(&plan)?;
        let done = task.replays().is_empty();
        self.readers.add(&task)?;
        self.status.task(id).remain(self.readers.left(id));
        self.restoring.insert(id, Restoring { task, request, plan, records: 0, began: Instant::now() });
        if done {
            self.finish(id);
        }
        Ok(())
    }

    fn turn(&mut self) {
        let now = Instant::now();
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.until <= now) {
            let Waiting { request, task, .. } = self.waiting.swap_remove(at);
            match task {
                Some((task, since)) => self.go_on(request, task, since),
                None => self.begin(vec![request]),
            }
        }
        for read in self.readers.poll(WAIT) {
            match read {
                Ok(read) => self.apply(&read),
                Err((tasks, error)) => tasks.into_iter().for_each(|id| self.abandon(id, error.clone())),
            }
        }
        if self.told_at.elapsed() >= PROGRESS_INTERVAL {
            self.told_at = Instant::now();
            self.tell_progress();
        }
        if self.published_at.elapsed() >= PUBLISH_INTERVAL {
            self.published_at = Instant::now();
            for id in self.restoring.keys() {
                self.status.task(*id).remain(self.readers.left(*id));
            }
        }
    }

    fn apply(&mut self, read: &Read) {
        let Some(restoring) = self.restoring.get_mut(&read.task) else { return };
        restoring.records += read.chunk.offsets.len();
        self.status.task(read.task).read_back(read.chunk.offsets.len());
        match restoring.task.replay(read.store, &read.chunk, read.next) {
            Ok(()) if restoring.task.replays().is_empty() => self.finish(read.task),
            Ok(()) => {}
            Err(error) => self.abandon(read.task, error),
        }
    }

    fn finish(&mut self, id: TaskId) {
        let Some(restoring) = self.restoring.remove(&id) else { return };
        let Restoring { mut task, request, plan, records, began, .. } = restoring;
        let ms = began.elapsed().as_millis();
        tracing::info!(task = %id, records, ms, "restored");
        self.status.task(id).remain(0);
        self.status.traces.ended(&format!("restore {id}"), began.elapsed(), [("millrace.records", records)]);
        if let Err(error) = task.start(&plan.starts, plan.stream_time, crate::worker::now_ms()) {
            // Closes its stores, in case it is made again.
            drop(task);
            self.failed(request, error);
            return;
        }
        let starts =
            plan.starts.iter().enumerate().filter_map(|(input, start)| Some((task.partition(input), start.offset?)));
        let seeks = starts.filter(|(partition, offset)| request.fetched_from.get(partition) != Some(offset)).collect();
        // If nobody takes it, the process is ending.
        let _ = self.restored.send(Restored { task: Box::new(task), seeks });
    }

    /// Stops restoring a task for good.
    fn give_up(&mut self, id: TaskId) -> Option<Request> {
        self.readers.remove(id);
        self.waiting.retain(|waiting| waiting.request.id != id);
        self.restoring.remove(&id).map(|restoring| restoring.request)
    }

    /// Stops restoring a task because of an error.
    fn abandon(&mut self, id: TaskId, error: Error) {
        if let Some(request) = self.give_up(id) {
            self.failed(request, error);
        }
    }

    /// What is done about an error, by its class. The task is closed.
    fn failed(&mut self, request: Request, error: Error) {
        let task = request.id;
        match error {
            Error::Retry(reason) => {
                tracing::warn!(%task, reason, "the restore will be tried again");
                self.waiting.push(Waiting { until: Instant::now() + RETRY_WAIT, request, task: None });
            }
            error => {
                let _ = self.reports.send(Report::Task { task, error });
            }
        }
    }

    fn tell_progress(&self) {
        for (id, restoring) in &self.restoring {
            let left = self.readers.left(*id);
            let seconds = restoring.began.elapsed().as_secs_f64();
            let per_second = restoring.records as f64 / seconds;
            tracing::info!(task = %id, records = restoring.records, left, per_second, "restoring");
        }
        for Waiting { request, task, .. } in &self.waiting {
            let seconds = task.as_ref().map_or(0, |(_, since)| since.elapsed().as_secs());
            if seconds >= TRANSACTION_PATIENCE_S {
                tracing::warn!(
                    task = %request.id, seconds,
                    "waiting for a transaction on its changelog that does not end; if no process writes there, the brokers have \
                     forgotten it: find it with kafka-transactions.sh find-hanging, and end it with abort"
                );
            }
        }
    }
}

/// Opens tasks side by side, as what a killed process left in the write-ahead log of each is read again, and hands each
/// over as soon as it is open.
fn open(factory: &dyn TaskFactory, requests: &[Request], mut then: impl FnMut(&Request, Result<Task, Error>)) {
    let open = |request: &Request| {
        if request.rebuild {
            factory.set_aside(request.id, &request.inputs, "its content can't be trusted")?;
        }
        factory.make(request.id, &request.inputs)
    };
    std::thread::scope(|scope| {
        let (done, opened) = channel();
        for request in requests {
            let done = done.clone();
            scope.spawn(move || {
                // Received until the last one is through, unless this thread panics.
                let _ = done.send((request, open(request)));
            });
        }
        drop(done);
        opened.into_iter().for_each(|(request, task)| then(request, task));
    });
}

/// Says what the restore of a store will do, where that is anything.
fn tell(task: TaskId, store: &str, replay: Replay) {
    match replay {
        Replay::Nothing => {}
        Replay::Repair { from, to } => {
            tracing::info!(%task, store, %from, %to, "local state is exact: writing again what the changelog has beyond it");
        }
        Replay::Range { from, to, rebuild, .. } => {
            tracing::info!(%task, store, %from, %to, rebuild, "restoring from the changelog")
        }
    }
}
