//! Owns the consumer, the rebalance and the restore reader. Must not know what records are
//! processed into.
//!
//! One thread polls the consumer and decides where tasks live:
//!
//! ```text
//!                 assigned            restored              revoked, or lost
//!   (elsewhere) ───────────▶ Restoring ────────▶ At(worker) ───────────────▶ (elsewhere)
//!                                ▲                   │
//!                                └───────────────────┘ its state was corrupt
//! ```
//!
//! The restore reader and the workers take orders from it and report to it; see
//! `docs/decisions/0003-rebalance.md`.

mod janitor;
mod members;
mod reach;
mod rebalance;
mod restore;
mod routes;
mod swap;
mod tell;

pub use restore::{Advance, TaskFactory};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use millrace_engine::assignment::Assignment;
use millrace_engine::commit::Guarantee;
use millrace_engine::ports::Error;
use millrace_engine::record::{TaskId, TopicPartition};
use millrace_engine::topology::{OffsetReset, Partitioning};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use crate::kafka::{Clients, GroupConsumer, Membership, Waker, classify, is_incremental, member_id, to_list};
use crate::status::{State, Status};
use crate::worker::{Handle, Order, Report};
use janitor::Janitor;
use members::Members;
use reach::Reaches;
use restore::{Restored, Restorer};
use routes::{Bounds, Parcel, Routes};
use swap::Swaps;

/// Records taken from the consumer before the rest of the loop has its turn.
const TURN_RECORDS: usize = 4_000;
/// How long a poll waits for records: also how late an idle source notices a request to stop.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// The same while tasks are being restored, whose end has to be noticed too.
const RESTORING_WAIT: Duration = Duration::from_millis(5);
/// How long workers may take to commit when their tasks are taken away. Less than any sensible
/// `max.poll.interval.ms`, past which the group would take the tasks away anyway.
const SUSPEND_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a member that leaves waits until its client has said so.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
const LEAVE_STEP: Duration = Duration::from_millis(5);

/// A consumer may break so many times within so long before the process gives up.
const BROKEN_MAX: usize = 2;
const BROKEN_WINDOW: Duration = Duration::from_secs(60);

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    Restoring,
    At(usize),
}

/// What the source needs to know of the application.
pub struct Settings {
    pub clients: Clients,
    pub guarantee: Guarantee,
    pub application_id: String,
    /// Where a partition begins that nothing is committed of and whose source does not say.
    pub auto_offset_reset: OffsetReset,
    pub partitioning: Arc<Partitioning>,
    /// Records and bytes handed to a worker at once.
    pub chunk_records: usize,
    pub chunk_bytes: usize,
    /// `group.instance.id`.
    pub instance_id: Option<String>,
    /// Other members that keep a copy of the state of each task.
    pub standby_replicas: usize,
    pub farewell: Farewell,
    /// Set when the application is to start anew with other inputs.
    pub anew: Arc<AtomicBool>,
    pub status: Arc<Status>,
    /// It comes back with other inputs than those that the group knows it with.
    pub other_inputs: bool,
    /// Topics come and go below patterns, and others than those it began with may be assigned.
    pub patterns: bool,
}

/// What a stopping member tells the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// That its partitions are free.
    Leave,
    /// That it will return under its name. Only the consumer protocol has a word for that.
    Return,
    /// Nothing: it keeps its partitions until its session ends, for its return.
    Silent,
}

/// The consumer and all it decides. Runs on its own thread.
pub struct Source {
    settings: Settings,
    membership: Arc<Membership>,
    /// The one that the membership has.
    consumer: Arc<GroupConsumer>,
    /// When consumers were broken beyond repair.
    broken: Vec<Instant>,
    workers: Vec<Handle>,
    factory: Arc<dyn TaskFactory>,
    restorer: Restorer,
    janitor: Janitor,
    waker: Waker,
    /// If there are to be standbys.
    members: Option<Members>,
    reports: Receiver<Report>,
    /// What the consumer was assigned, by the last rebalance or by several.
    partitions: BTreeSet<TopicPartition>,
    /// What the last assignment asked for, less what was closed since.
    at_hand: Assignment,
    placements: BTreeMap<TaskId, Placement>,
    /// Tasks of others of which the restorer keeps standbys; none of them has a placement.
    standbys: BTreeSet<TaskId>,
    routes: Routes,
    reaches: Reaches,
    /// Since when partitions are being given and taken.
    rebalancing: Option<Instant>,
    /// Restored, and with no worker yet.
    restored: Vec<Restored>,
    swaps: Swaps,
    /// Nothing is read, because an operator wants nothing to be processed.
    held: bool,
    /// Partitions of which their tasks have enough buffered.
    full: BTreeSet<TopicPartition>,
    /// Between a revocation and the assignment that follows nothing is handed over.
    assigned: bool,
    /// When it was last told how far the partitions go.
    ends_told_at: Instant,
    stop: Arc<AtomicBool>,
}

impl Source {
    pub fn new(
        settings: Settings,
        membership: Arc<Membership>,
        workers: Vec<Handle>,
        factory: Arc<dyn TaskFactory>,
        (reports, received): (Sender<Report>, Receiver<Report>),
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let clients = settings.clients.clone();
        let status = Arc::clone(&settings.status);
        let restorer = Restorer::start(clients.clone(), settings.guarantee, Arc::clone(&factory), reports, status)?;
        let janitor = Janitor::start(clients, Arc::clone(&membership), Arc::clone(&factory))?;
        let members = if settings.standby_replicas > 0 {
            let (group, instance_id) = (settings.application_id.clone(), settings.instance_id.clone());
            Some(Members::start(Arc::clone(&membership), group, instance_id)?)
        } else {
            None
        };
        let bounds = Bounds { records: settings.chunk_records, bytes: settings.chunk_bytes };
        let traces = settings.status.traces.clone();
        Ok(Self {
            settings,
            consumer: membership.consumer(),
            membership,
            broken: Vec::new(),
            workers,
            factory,
            restorer,
            janitor,
            waker: Waker::start()?,
            members,
            reports: received,
            partitions: BTreeSet::new(),
            at_hand: Assignment::default(),
            placements: BTreeMap::new(),
            standbys: BTreeSet::new(),
            routes: Routes::new(bounds, traces),
            reaches: Reaches::default(),
            rebalancing: None,
            restored: Vec::new(),
            swaps: Swaps::default(),
            held: false,
            full: BTreeSet::new(),
            assigned: false,
            ends_told_at: Instant::now(),
            stop,
        })
    }

    /// Joins the group and works until asked to stop or until something fails that only a person
    /// can mend. Either way the tasks are committed if that is possible, and closed.
    pub fn run(mut self) -> Result<(), Error> {
        let outcome = self.subscribe().and_then(|()| self.work());
        let stopped = self.shut_down();
        outcome.and(stopped)
    }

    pub(super) fn subscribe(&self) -> Result<(), Error> {
        let topics: Vec<&str> = self.settings.partitioning.subscription().map(|input| &*input.full_name).collect();
        tracing::info!(?topics, "joining the group");
        self.settings.status.enter(State::Rebalancing);
        self.consumer.subscribe(&topics).map_err(|error| classify("subscribe to the input topics", &error))
    }

    fn work(&mut self) -> Result<(), Error> {
        while !self.stop.load(Ordering::Relaxed) {
            match self.turn().map_err(|error| self.cause(error)) {
                Ok(()) => {}
                Err(Error::Retry(reason) | Error::Fenced(reason)) => self.rejoin(&reason)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A consumer that is broken beyond repair fails in whatever is asked of it next, mostly with another error.
    fn cause(&self, error: Error) -> Error {
        match self.consumer.client().fatal_error() {
            None => error,
            Some((RDKafkaErrorCode::FencedInstanceId, _)) => Error::Fenced(
                "another process has joined the group under the same group.instance.id: give every instance its own"
                    .to_owned(),
            ),
            Some((code, reason)) => Error::Fenced(format!("read the input topics: {reason} ({code})")),
        }
    }

    fn turn(&mut self) -> Result<(), Error> {
        self.settings.status.beat();
        self.tell_ends();
        self.take_reports()?;
        self.take_restored()?;
        self.take_version()?;
        self.choose_standbys();
        self.follow_pause()?;
        // The workers of a paused instance may never have room again; it stays a member as long as it polls.
        if self.held || self.has_room() {
            self.poll()?;
        } else {
            self.look()?;
            self.tell_reach(false);
        }
        match self.consumer.context().take() {
            Some(rebalance) => self.rebalance(rebalance),
            None => Ok(()),
        }
    }

    /// Stops reading when the instance is paused, and goes on when it is not any more.
    fn follow_pause(&mut self) -> Result<(), Error> {
        let paused = self.settings.status.is_paused();
        if paused == self.held {
            return Ok(());
        }
        self.held = paused;
        tracing::info!(paused, "what is read follows an operator");
        if paused { self.hold() } else { self.let_go() }
    }

    /// Reads nothing more of what tasks here read.
    pub(super) fn hold(&self) -> Result<(), Error> {
        let read: Vec<TopicPartition> = self.routes.partitions().cloned().collect();
        self.consumer.pause(&to_list(&read)).map_err(|error| classify("pause all partitions", &error))
    }

    fn let_go(&self) -> Result<(), Error> {
        let runs = |task: &TaskId| matches!(self.placements.get(task), Some(Placement::At(_)));
        let running = self.placements.keys().filter(|task| runs(task)).flat_map(|task| self.routes.of_task(*task));
        let wanted: Vec<TopicPartition> = running.filter(|partition| !self.full.contains(partition)).cloned().collect();
        self.resume(wanted).map_err(|error| classify("read on after a pause", &error))
    }

    /// Reads on in partitions that were paused, at once.
    pub(super) fn resume(&self, partitions: Vec<TopicPartition>) -> KafkaResult<()> {
        self.consumer.resume(&to_list(&partitions))?;
        self.waker.wake(&self.consumer, partitions);
        Ok(())
    }

    /// Something that concerns all tasks could not be brought to its end: they are dropped, and the group decides anew
    /// who runs them.
    fn rejoin(&mut self, reason: &str) -> Result<(), Error> {
        tracing::warn!(reason, "dropping all tasks uncommitted and joining the group again");
        self.drop_all();
        if self.consumer.client().fatal_error().is_some() {
            self.renew(reason)?;
        } else {
            self.settle().map_err(|error| classify("give up partitions", &error))?;
            self.consumer.unsubscribe();
        }
        self.subscribe()
    }

    /// Answers what the group gave or took and was not answered, because it failed on the way. Until then the client puts
    /// off whatever else it is told.
    fn settle(&self) -> KafkaResult<()> {
        self.consumer.context().take();
        if is_incremental(&self.consumer) {
            return self.consumer.incremental_unassign(&self.consumer.assignment()?);
        }
        // To an assignment the one is the answer, to a revocation the other.
        self.consumer.assign(&TopicPartitionList::new())?;
        self.consumer.unassign()
    }

    /// Of what is fatal elsewhere: below patterns topics may come and go, and a new start finds out which there are.
    pub(super) fn unless_of_patterns(&self, reason: String) -> Error {
        if !self.settings.patterns {
            return Error::Fatal(reason);
        }
        tracing::warn!(reason, "the topics of patterns may have changed: the application starts anew");
        self.settings.anew.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        Error::Retry(reason)
    }

    /// Replaces a consumer whose client is beyond repair. A static member can be fenced by what it sent itself, if the
    /// coordinator moves while it joins. But the second process with its name fences it again and again.
    fn renew(&mut self, reason: &str) -> Result<(), Error> {
        let now = Instant::now();
        self.broken.retain(|at| now.duration_since(*at) < BROKEN_WINDOW);
        self.broken.push(now);
        if self.broken.len() > BROKEN_MAX {
            return Err(Error::Fatal(reason.to_owned()));
        }
        self.consumer = self.membership.renew()?;
        Ok(())
    }

    /// Takes what the broker has at the moment, up to a turn's worth, and hands it over.
    fn poll(&mut self) -> Result<(), Error> {
        let restoring = self.placements.values().any(|placement| *placement == Placement::Restoring);
        let mut wait = if restoring { RESTORING_WAIT } else { IDLE_WAIT };
        let mut later = Vec::new();
        for _ in 0..TURN_RECORDS {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => match self.routes.gather(&message) {
                    Some(full) if self.reaches.is_awaited(&full.partition) => later.push(full),
                    Some(full) => self.hand_over(full),
                    None => {}
                },
                Some(Err(error)) => self.consumer_error(&error)?,
                None => break,
            }
            wait = Duration::ZERO;
        }
        self.look()?;
        self.tell_reach(true);
        later.into_iter().for_each(|parcel| self.hand_over(parcel));
        while let Some(parcel) = self.routes.take_open() {
            self.hand_over(parcel);
        }
        self.tell_reach(false);
        Ok(())
    }

    fn hand_over(&self, parcel: Parcel) {
        let Some(Placement::At(worker)) = self.placements.get(&parcel.task) else {
            // Its partitions are paused, and what was under way will be fetched again.
            return;
        };
        let worker = &self.workers[*worker];
        worker.budget().take(parcel.bytes);
        worker.order(Order::Records {
            task: parcel.task,
            partition: parcel.partition,
            chunk: parcel.chunk,
            bytes: parcel.bytes,
            spans: parcel.spans,
        });
    }

    /// Waits a moment for the workers to get on if one of them has enough to do.
    fn has_room(&self) -> bool {
        self.workers.iter().all(|worker| worker.budget().wait_for_room(IDLE_WAIT))
    }

    fn take_reports(&mut self) -> Result<(), Error> {
        loop {
            match self.reports.try_recv() {
                Ok(Report::Flow { task, pause, resume }) => self.flow(task, &pause, &resume)?,
                Ok(Report::Faults { task, count, example }) => self.factory.faulted(task, count, example),
                Ok(Report::Swapped(swapped)) => self.swapped(swapped)?,
                Ok(Report::Task { task, error: Error::Guest(fault) }) => self.condemn(task, fault)?,
                Ok(Report::Task { task, error }) => self.task_failed(task, error)?,
                Ok(Report::Globals(error)) => {
                    return Err(Error::Fatal(format!("the global stores can't be kept up to date: {error}")));
                }
                Ok(Report::Worker { tasks, culprit, error }) => self.worker_failed(&tasks, culprit, error)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Err(Error::Fatal("all worker threads ended unasked".to_owned()));
                }
            }
        }
        match self.workers.iter().position(|worker| !worker.is_alive()) {
            None => Ok(()),
            Some(worker) => Err(Error::Fatal(format!("worker thread {worker} panicked; its message is above"))),
        }
    }

    /// A task whose state can't be trusted is restored from its changelog; everything else about
    /// a single task needs a person.
    fn task_failed(&mut self, task: TaskId, error: Error) -> Result<(), Error> {
        let Error::Corrupt(reason) = error else {
            return Err(error);
        };
        tracing::error!(%task, reason, "the task's local state is corrupt; restoring it from its changelogs");
        if !self.assigned {
            // Whoever is assigned it next opens its state anew, and finds out.
            self.close(&[task], false);
            return Ok(());
        }
        self.restore_again(&[task], Some(task))
    }

    /// A worker has dropped its tasks uncommitted. They start again from what is committed: here, as long as the group
    /// says so. If it does not any more, the next poll tells, and until then nothing here can be committed.
    fn worker_failed(&mut self, tasks: &[TaskId], culprit: Option<TaskId>, error: Error) -> Result<(), Error> {
        if matches!(error, Error::Guest(_) | Error::Fatal(_)) {
            return Err(error);
        }
        let dropped = tasks.iter().filter(|task| matches!(self.placements.get(task), Some(Placement::At(_))));
        let dropped: Vec<TaskId> = dropped.copied().collect();
        if dropped.is_empty() {
            return Ok(());
        }
        tracing::warn!(%error, tasks = dropped.len(), "tasks were dropped uncommitted; they start again from what is committed");
        if self.assigned {
            let corrupt = culprit.filter(|_| matches!(error, Error::Corrupt(_)));
            return self.restore_again(&dropped, corrupt);
        }
        for task in &dropped {
            self.placements.remove(task);
            self.at_hand.tasks.remove(task);
        }
        self.tell_placements();
        Ok(())
    }

    fn take_restored(&mut self) -> Result<(), Error> {
        self.restored.extend(std::iter::from_fn(|| self.restorer.take_restored()));
        while self.assigned
            && let Some(restored) = self.restored.pop()
        {
            self.adopt(restored)?;
        }
        Ok(())
    }

    /// A task with several inputs has enough of one of them, or wants it again.
    fn flow(&mut self, task: TaskId, pause: &[TopicPartition], resume: &[TopicPartition]) -> Result<(), Error> {
        // What it said before its partitions were taken away is void.
        if !self.assigned || !matches!(self.placements.get(&task), Some(Placement::At(_))) {
            return Ok(());
        }
        self.full.extend(pause.iter().cloned());
        self.full.retain(|partition| !resume.contains(partition));
        let resume = if self.held { &[][..] } else { resume };
        self.consumer
            .pause(&to_list(pause))
            .and_then(|()| self.consumer.resume(&to_list(resume)))
            .map_err(|error| classify("pause and resume partitions", &error))?;
        self.reaches.go_on(resume);
        Ok(())
    }

    /// Asks every worker for something and waits until all have answered or time is up.
    fn ask_workers<T>(&self, order: impl Fn(std::sync::mpsc::Sender<T>) -> Order) -> Vec<T> {
        let (done, answers) = channel();
        for worker in &self.workers {
            worker.order(order(done.clone()));
        }
        drop(done);
        let deadline = Instant::now() + SUSPEND_TIMEOUT;
        let mut got = Vec::with_capacity(self.workers.len());
        while got.len() < self.workers.len() {
            match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(answer) => got.push(answer),
                Err(_) => {
                    tracing::error!(answered = got.len(), of = self.workers.len(), "workers did not answer in time");
                    break;
                }
            }
        }
        got
    }

    /// Leaves the group, and waits until that is said: the client of a static member that is closed before keeps it to
    /// itself, and the group keeps the place.
    fn leave(&self) {
        // Under the consumer protocol a member keeps its id, and closing it says good-bye.
        let keeps_id = is_incremental(&self.consumer);
        self.consumer.unsubscribe();
        let deadline = Instant::now() + LEAVE_TIMEOUT;
        while !keeps_id && member_id(&self.consumer).is_some() && Instant::now() < deadline {
            // Brings the revocation, which is answered at once by now.
            let _ = self.consumer.poll(LEAVE_STEP);
        }
    }

    fn shut_down(mut self) -> Result<(), Error> {
        self.settings.status.enter(State::PendingShutdown);
        self.routes.clear();
        let outcomes = self.ask_workers(|done| Order::Stop { done });
        let committed = outcomes.len() == self.workers.len() && outcomes.iter().all(|committed| *committed);
        self.consumer.context().close();
        let anew = self.settings.anew.load(Ordering::Relaxed);
        match if anew { Farewell::Leave } else { self.settings.farewell } {
            Farewell::Leave => self.leave(),
            // Dropped by its last owner, the consumer says so.
            Farewell::Return => {}
            // Closing the client would say good-bye.
            Farewell::Silent => std::mem::forget(Arc::clone(&self.consumer)),
        }
        self.waker.stop();
        if let Some(members) = self.members {
            members.stop();
        }
        // Both make tasks, or clean up after them, and so hold the lock of the state directory.
        self.janitor.stop();
        self.restorer.stop();
        tracing::info!("left the record path");
        let message = "stopped without a last commit; what was not committed is processed again at the next start";
        if committed {
            Ok(())
        } else if anew {
            // That is now: a topic below a pattern that is gone, for one, takes no offsets any more.
            tracing::warn!("{message}");
            Ok(())
        } else {
            Err(Error::Fatal(message.to_owned()))
        }
    }

    /// What an error of the consumer means. Most pass by themselves, and librdkafka keeps trying.
    fn consumer_error(&self, error: &KafkaError) -> Result<(), Error> {
        match error {
            KafkaError::MessageConsumptionFatal(_) => Err(Error::Fenced(format!("read the input topics: {error}"))),
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
            ) => {
                Err(self.unless_of_patterns(format!("a source topic is gone: {error}; create it again, then restart")))
            }
            _ => match classify("read the input topics", error) {
                Error::Fatal(message) => Err(Error::Fatal(message)),
                passing => {
                    tracing::warn!(%passing, "will try again");
                    Ok(())
                }
            },
        }
    }
}
