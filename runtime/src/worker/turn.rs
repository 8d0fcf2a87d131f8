//! The loop of one worker: one turn after the other, each of them orders first, then a batch of
//! every task, then a commit if it is time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_engine::commit::{Failure, Fate, Guarantee, commit};
use millrace_engine::ports::{Error, Log};
use millrace_engine::record::{TaskId, TopicPartition};
use millrace_engine::task::{BufferLimits, Chunk, Fit, Phase, Successor, Task};

use super::{Budget, Meter, Order, Report, Spans, Swapped};

/// How long a worker without anything to do waits for orders: how late a wall-clock punctuation
/// or a commit may be.
const IDLE_WAIT: Duration = Duration::from_millis(10);
/// The least time between two commits, when there is nothing else to do. The broker needs some of it to end the
/// transaction, and refuses the next one until then, which the client would wait 20 ms after.
const EARLY_PAUSE: Duration = Duration::from_millis(4);
/// Pause after an error that may pass, so that a broker that is away is not asked in a tight loop.
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// How long a turn goes on with the parts of a batch that failed: most are through long before, and orders wait
/// meanwhile.
const ISOLATION_MAX: Duration = Duration::from_millis(100);

/// When a worker commits and how much it buffers.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub guarantee: Guarantee,
    pub commit_interval: Duration,
    /// Commit as soon as there is nothing to process.
    pub commit_early: bool,
    /// Uncommitted state of all tasks of the worker; past it a commit is due.
    pub overlay_bytes: usize,
    /// Of tasks with several inputs, which wait for each other; the others have the budget.
    pub buffer: BufferLimits,
}

impl Pace {
    /// How long until the next commit is due.
    fn until_commit(&self, idle: bool, since_last: Duration) -> Duration {
        if idle && self.commit_early { Duration::ZERO } else { self.commit_interval.saturating_sub(since_last) }
    }

    /// How long records are left waiting after an early commit, so that many share the next one: half as long as the
    /// last one took, so that no more of them are made where they are expensive. What is written after that is written at
    /// once, output and changelog together.
    fn rest(&self, since_last: Duration, last_took: Duration) -> Duration {
        (last_took / 2).max(EARLY_PAUSE).min(self.commit_interval / 2).saturating_sub(since_last)
    }
}

/// The tasks of one thread, and the log they write to.
pub struct Worker {
    tasks: BTreeMap<TaskId, Task>,
    log: Box<dyn Log>,
    pace: Pace,
    /// Off when the source waited for a commit in vain; what the log can't commit then is dropped.
    lease: Arc<AtomicBool>,
    budget: Arc<Budget>,
    /// Bytes of records received since the budget was settled.
    received: usize,
    reports: Sender<Report>,
    /// Orders to swap that are due, and what the tasks are to go on with.
    swaps: usize,
    successors: BTreeMap<TaskId, Successor>,
    meter: Meter,
    committed_at: Instant,
    /// How long the last commit took, if there was nothing to process at its time.
    early_took: Option<Duration>,
    /// No work before this: something failed that may pass.
    retry_at: Option<Instant>,
}

impl Worker {
    #[must_use]
    pub fn new(
        log: Box<dyn Log>,
        pace: Pace,
        lease: Arc<AtomicBool>,
        budget: Arc<Budget>,
        reports: Sender<Report>,
        meter: Meter,
    ) -> Self {
        Self {
            tasks: BTreeMap::new(),
            log,
            pace,
            lease,
            budget,
            received: 0,
            reports,
            swaps: 0,
            successors: BTreeMap::new(),
            meter,
            committed_at: Instant::now(),
            early_took: None,
            retry_at: None,
        }
    }

    /// Works until it is told to stop.
    pub fn run(mut self, orders: &Receiver<Order>) {
        // What a former process left open. Tasks are restored meanwhile, and wait for that where they have to.
        if let Err(error) = self.log.abort() {
            self.drop_all(None, error);
        }
        loop {
            let busy = self.turn();
            let first = if busy { orders.try_recv().ok() } else { self.wait_for(orders) };
            for order in first.into_iter().chain(std::iter::from_fn(|| orders.try_recv().ok())) {
                if let Order::Stop { done } = order {
                    self.stop(&done);
                    return;
                }
                self.obey(order);
            }
            self.swap();
            self.settle();
        }
    }

    /// Tells the source how much there is to do.
    fn settle(&mut self) {
        let budgeted = self.tasks.values().filter(|task| is_budgeted(task));
        self.budget.settle(std::mem::take(&mut self.received), budgeted.map(buffered).sum());
    }

    fn wait_for(&self, orders: &Receiver<Order>) -> Option<Order> {
        let rest = self.rest();
        let wait = if !rest.is_zero() {
            rest
        } else if self.retry_at.is_none() && self.is_commit_needed() {
            self.until_commit(true)
        } else {
            IDLE_WAIT
        };
        match orders.recv_timeout(wait.min(IDLE_WAIT)) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            // The source is gone without a word: it panicked, and so the process ends.
            Err(RecvTimeoutError::Disconnected) => {
                let (done, _) = std::sync::mpsc::channel();
                Some(Order::Stop { done })
            }
        }
    }

    /// One batch of every task and whatever else is due; says whether there is more to do at once.
    fn turn(&mut self) -> bool {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        self.retry_at = None;
        if !self.rest().is_zero() {
            return false;
        }
        let mut busy = false;
        let ids: Vec<TaskId> = self.tasks.keys().copied().collect();
        for id in ids {
            // Not only at the end of the turn: it may take the time of a call for every task.
            if !self.commit_in_time() {
                return false;
            }
            match self.advance(id) {
                Ok(more) => busy |= more,
                Err(error) => self.failed(id, error),
            }
        }
        self.settle();
        if self.is_commit_due(!busy) {
            let started = Instant::now();
            self.commit();
            self.early_took = (!busy).then(|| started.elapsed());
        }
        busy && self.retry_at.is_none()
    }

    fn advance(&mut self, id: TaskId) -> Result<bool, Error> {
        // What was processed is committed all the same.
        if self.meter.is_paused() {
            return Ok(false);
        }
        let Some(task) = self.tasks.get_mut(&id) else { return Ok(false) };
        let processed = process(task, &mut *self.log, &mut self.meter);
        self.meter.tell(task, &self.reports);
        let more = processed?;
        if !self.commit_in_time() {
            return Ok(false);
        }
        let Some(task) = self.tasks.get_mut(&id) else { return Ok(false) };
        let punctuated = task.punctuate(now_ms(), &mut *self.log);
        self.meter.tell(task, &self.reports);
        self.meter.punctuated(id, punctuated?);
        if !is_budgeted(task) {
            self.tell_flow(id);
        }
        Ok(more)
    }

    /// Has partitions of a task paused of which enough is buffered, and resumed when it is little again.
    fn tell_flow(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let flow = task.flow(self.pace.buffer);
        if !flow.pause.is_empty() || !flow.resume.is_empty() {
            let name = |inputs: Vec<usize>| inputs.into_iter().map(|input| task.partition(input)).collect();
            let report = Report::Flow { task: id, pause: name(flow.pause), resume: name(flow.resume) };
            self.report(report);
        }
    }

    fn is_commit_needed(&self) -> bool {
        self.tasks.values().any(Task::is_commit_needed)
    }

    fn is_commit_due(&self, idle: bool) -> bool {
        let dirty: usize = self.tasks.values().map(Task::dirty_bytes).sum();
        let due = dirty >= self.pace.overlay_bytes || self.until_commit(idle).is_zero();
        self.tasks.values().any(|task| task.is_commit_due() || (due && task.is_commit_needed()))
    }

    fn until_commit(&self, idle: bool) -> Duration {
        self.pace.until_commit(idle, self.committed_at.elapsed())
    }

    /// How long until it goes on processing.
    fn rest(&self) -> Duration {
        let took = self.early_took.filter(|_| self.pace.commit_early);
        took.map_or(Duration::ZERO, |took| self.pace.rest(self.committed_at.elapsed(), took))
    }

    /// Commits if the interval is over and there is anything to commit; says whether nothing failed.
    fn commit_in_time(&mut self) -> bool {
        if !self.until_commit(false).is_zero() || !self.is_commit_needed() {
            return true;
        }
        // Before the commit, which waits for the broker: the source can fetch meanwhile.
        self.settle();
        self.early_took = None;
        self.commit()
    }

    /// Commits all tasks; says whether that came to its end.
    fn commit(&mut self) -> bool {
        let started = Instant::now();
        let mut tasks: Vec<&mut Task> = self.tasks.values_mut().collect();
        let committed = commit(&mut tasks, &mut *self.log, self.pace.guarantee);
        tasks.into_iter().for_each(|task| self.meter.tell(task, &self.reports));
        match committed {
            Ok(done) => {
                self.committed_at = Instant::now();
                if done.tasks > 0 {
                    self.meter.committed(started.elapsed(), done);
                    let ms = started.elapsed().as_millis();
                    tracing::debug!(tasks = done.tasks, changelog_records = done.changelog_records, ms, "committed");
                }
                true
            }
            Err(failure) => {
                self.commit_failed(failure);
                false
            }
        }
    }

    fn commit_failed(&mut self, failure: Failure) {
        self.meter.commit_failed();
        let Failure { error, task, fate } = failure;
        match (fate, task) {
            (Fate::Repeat, _) => {
                tracing::warn!(%error, "the commit will be tried again");
                self.retry_at = Some(Instant::now() + RETRY_WAIT);
            }
            (Fate::DropOne, Some(id)) => {
                self.close(&[id]);
                self.report(Report::Task { task: id, error });
            }
            (Fate::DropOne | Fate::DropAll, _) => self.drop_all(task, error),
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Records { task, partition, chunk, bytes, spans } => {
                self.add(task, &partition, chunk, bytes, spans);
            }
            Order::Reach { task, partition, behind } => {
                if let Some((task, input)) = self.input(task, &partition) {
                    task.set_behind(input, behind);
                }
            }
            Order::Adopt(task) => {
                self.meter.adopt(&task);
                self.tasks.insert(task.id(), *task);
            }
            Order::Swap { successors } => {
                self.swaps += 1;
                self.successors.extend(successors.into_iter().map(|successor| (successor.spec.id, successor)));
            }
            Order::Suspend { done } => {
                self.suspend();
                // The source may have given up waiting; the tasks are suspended all the same.
                let _ = done.send(());
            }
            Order::Resume => self.resume(),
            Order::Close { tasks, commit, done } => {
                if commit && !self.commit() {
                    tracing::warn!("tasks are given up without a commit");
                }
                self.surrender(&tasks);
                let _ = done.send(());
            }
            Order::Stop { done } => self.stop(&done),
        }
    }

    /// Commits, and goes on with another version of the module. A commit that fails is made again before.
    fn swap(&mut self) {
        if self.swaps == 0 || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let started = Instant::now();
        let fits = |(id, successor): (&TaskId, &Successor)| {
            self.tasks.get(id).is_some_and(|task| task.fit(successor) == Fit::InPlace)
        };
        if self.successors.iter().any(fits) && !self.commit() {
            return;
        }
        let mut swapped = Swapped { orders: std::mem::take(&mut self.swaps), ..Swapped::default() };
        for (id, successor) in std::mem::take(&mut self.successors) {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let taken = match task.fit(&successor) {
                Fit::InPlace => task.take_over(successor),
                Fit::Anew => Ok(false),
                Fit::Unknown(changelogs) => {
                    swapped.asks.push((id, changelogs));
                    continue;
                }
            };
            match taken {
                Ok(true) => swapped.tasks += 1,
                // The disk may be full: the restore waits for that.
                Ok(false) | Err(Error::Retry(_)) => swapped.reopen.push(id),
                Err(error @ Error::Guest(_)) => {
                    swapped.refused = Some(error);
                    break;
                }
                Err(error) => self.failed(id, error),
            }
        }
        swapped.pause = started.elapsed();
        self.report(Report::Swapped(swapped));
    }

    fn add(&mut self, id: TaskId, partition: &TopicPartition, chunk: Chunk, bytes: usize, spans: Spans) {
        self.received += bytes;
        // A task that was dropped or suspended meanwhile gets the records fetched again.
        if let Some((task, input)) = self.input(id, partition) {
            task.add(input, chunk);
            self.meter.fetched(id, input, spans);
        }
    }

    /// A task that runs, and which of its inputs a partition is.
    fn input(&mut self, id: TaskId, partition: &TopicPartition) -> Option<(&mut Task, usize)> {
        let task = self.tasks.get_mut(&id).filter(|task| task.phase() == Phase::Running)?;
        let input = task.spec().inputs.iter().position(|input| input.topic == partition.topic)?;
        Some((task, input))
    }

    /// Commits what can be committed; a task that can't keeps what it has in case it comes back.
    fn suspend(&mut self) {
        if !self.commit() {
            tracing::warn!("tasks are given up without a commit");
        }
        // What is buffered is fetched again.
        self.meter.forget_fetched();
        self.each("suspend", |task| if task.phase() == Phase::Running { task.suspend() } else { Ok(()) });
    }

    fn resume(&mut self) {
        self.lease.store(true, Ordering::Release);
        self.each("resume", |task| if task.phase() == Phase::Suspended { task.resume() } else { Ok(()) });
        self.committed_at = Instant::now();
    }

    fn each(&mut self, what: &str, step: impl Fn(&mut Task) -> Result<(), Error>) {
        let ids: Vec<TaskId> = self.tasks.keys().copied().collect();
        for id in ids {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            if let Err(error) = step(task) {
                tracing::error!(task = %id, %error, "{what}");
                self.failed(id, error);
            }
        }
    }

    fn close(&mut self, ids: &[TaskId]) {
        for id in ids {
            if let Some(mut task) = self.tasks.remove(id) {
                self.meter.forget(*id);
                task.close();
            }
        }
    }

    /// Closes tasks that may be others' by now. What they sent since the last commit is, under exactly-once, in the
    /// transaction of all tasks, which must not be committed any more: others do the same again.
    fn surrender(&mut self, ids: &[TaskId]) {
        let uncommitted = ids.iter().filter_map(|id| self.tasks.get(id)).any(Task::is_commit_needed);
        self.close(ids);
        if uncommitted && self.pace.guarantee == Guarantee::ExactlyOnce {
            self.give_up(None, Error::Fenced("tasks were taken away whose output was not committed".to_owned()));
        }
    }

    fn stop(&mut self, done: &Sender<bool>) {
        let committed = self.commit();
        let all: Vec<TaskId> = self.tasks.keys().copied().collect();
        self.close(&all);
        let _ = done.send(committed);
    }

    /// What is done about an error of one task, by its class.
    fn failed(&mut self, task: TaskId, error: Error) {
        match error {
            Error::Retry(reason) => {
                tracing::warn!(%task, reason, "will try again");
                self.retry_at = Some(Instant::now() + RETRY_WAIT);
            }
            // It is suspended before the record it failed on; what it did before that can be committed.
            Error::Guest(_) => self.report(Report::Task { task, error }),
            // What it has sent is in the transaction of all tasks, under exactly-once.
            Error::Corrupt(_) if self.pace.guarantee == Guarantee::AtLeastOnce => {
                self.close(&[task]);
                self.report(Report::Task { task, error });
            }
            Error::Corrupt(_) | Error::Fenced(_) | Error::Fatal(_) => self.give_up(Some(task), error),
        }
    }

    /// None of the tasks can go on: what they sent since the last commit is ended, and they are dropped.
    fn give_up(&mut self, culprit: Option<TaskId>, error: Error) {
        match self.log.abort() {
            Ok(()) => self.drop_all(culprit, error),
            // Nothing is done about that one but what is done already.
            Err(worse) => self.drop_all(culprit, worse),
        }
    }

    fn drop_all(&mut self, culprit: Option<TaskId>, error: Error) {
        let tasks: Vec<TaskId> = self.tasks.keys().copied().collect();
        self.close(&tasks);
        // What comes in their place may fail the same way.
        self.retry_at = Some(Instant::now() + RETRY_WAIT);
        self.report(Report::Worker { tasks, culprit, error });
    }

    fn report(&self, report: Report) {
        if self.reports.send(report).is_err() {
            tracing::error!("nobody takes the reports of this worker any more");
        }
    }
}

/// One batch of a task; one that fails is isolated at once, unless that takes long.
fn process(task: &mut Task, log: &mut dyn Log, meter: &mut Meter) -> Result<bool, Error> {
    let started = Instant::now();
    let mut more = process_part(task, log, meter)?;
    while task.is_isolating() && started.elapsed() < ISOLATION_MAX {
        more = process_part(task, log, meter)?;
    }
    Ok(more)
}

fn process_part(task: &mut Task, log: &mut dyn Log, meter: &mut Meter) -> Result<bool, Error> {
    let started = Instant::now();
    let done = task.process(now_ms(), log)?;
    meter.processed(task, &done, started.elapsed());
    Ok(done.more)
}

/// Whether the worker's budget bounds what the task buffers. A task that waits for one of several
/// inputs must not use up what the others of the worker live on.
fn is_budgeted(task: &Task) -> bool {
    task.spec().inputs.len() == 1
}

fn buffered(task: &Task) -> usize {
    (0..task.spec().inputs.len()).map(|input| task.buffered_bytes(input)).sum()
}

/// Kafka's clock.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_worker_commits_early_but_not_all_the_time() {
        let ms = Duration::from_millis;
        let buffer = BufferLimits { records: 1, bytes: 1 };
        let guarantee = Guarantee::ExactlyOnce;
        let early = Pace { guarantee, commit_interval: ms(100), commit_early: true, overlay_bytes: 1, buffer };
        assert_eq!(early.until_commit(true, ms(0)), ms(0));
        assert_eq!(early.until_commit(false, ms(40)), ms(60));
        assert_eq!(early.rest(ms(0), ms(0)), EARLY_PAUSE);
        assert_eq!(early.rest(ms(5), ms(30)), ms(10));
        assert_eq!(early.rest(ms(20), ms(30)), ms(0));
        assert_eq!(early.rest(ms(10), ms(400)), ms(40));
        let kept = Pace { commit_early: false, ..early };
        assert_eq!(kept.until_commit(true, ms(40)), ms(60));
        assert_eq!(kept.until_commit(true, ms(140)), ms(0));
    }
}
