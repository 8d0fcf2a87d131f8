//! Owns the commit: what is durable before what, for all tasks of a worker at once. Must not know what the
//! log and the databases are.
//!
//! Each step is there for a failure it prevents; see [`Step`]. The order under at-least-once: flush, changelog,
//! acks, write, offsets. Under exactly-once: flush, changelog, acks, offsets (which commits the transaction),
//! write.
//!
//! A commit that fails says what becomes of the tasks ([`Fate`]):
//!
//! - [`Fate::Repeat`]: the tasks are as they were. The same commit may be made again, with or without
//!   more processing before it; what it has already done it does again without harm (a changelog gets the same
//!   values twice, an offset is committed twice) or finds done.
//! - [`Fate::DropOne`], [`Fate::DropAll`]: the task whose failure it is, or all, are closed, their uncommitted state is
//!   gone. What their databases hold is a whole commit. They are to be restored and go on from there, here or elsewhere.
//!
//! Under exactly-once every failure drops the tasks: their output was in the transaction. It is aborted, unless its
//! outcome is not known; what the group says when they are restored tells how it ended. A task that was closed for
//! another reason (a fault, damage) has output in the transaction, too, without the offsets that belong to it: the
//! transaction must be aborted then, and all tasks that share the log be dropped.

mod metadata;

use std::collections::BTreeMap;

pub use metadata::Metadata;

use crate::ports::{Committed, Error, Log, Partitions, Positions};
use crate::quarantine::{Flushed, Pieces};
use crate::record::{Batch, Header, Offset, TaskId, TopicPartition};
use crate::task::{Phase, Task};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    AtLeastOnce,
    ExactlyOnce,
}

/// One step, for all tasks, before the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Cached stores forward what changed, in the order of the graph. First, because it makes more output and
    /// more changes: what is flushed after the changelog is written would be missing in it.
    Flush,
    /// The last value of each changed key goes to the changelog.
    Changelog,
    /// Output and changelog are written, as the broker says. Before the offsets, or a crash loses the output of
    /// input that counts as processed. Before the write, or a crash leaves state on this disk that no other
    /// instance can ever restore, and because the write says how far the changelog went.
    Acks,
    /// State, changelog offsets and input offsets, in one write per task: a crash leaves all or nothing of
    /// them, so that the disk never has to be wiped. Under exactly-once after the transaction, or an abort
    /// leaves state on this disk that never came to be.
    Write,
    /// The group learns how far the input is processed. Under at-least-once after the write, or a store without
    /// a changelog misses what it says. Under exactly-once this commits the transaction.
    Offsets,
}

const AT_LEAST_ONCE: [Step; 5] = [Step::Flush, Step::Changelog, Step::Acks, Step::Write, Step::Offsets];
const EXACTLY_ONCE: [Step; 5] = [Step::Flush, Step::Changelog, Step::Acks, Step::Offsets, Step::Write];

impl Guarantee {
    pub(crate) fn steps(self) -> &'static [Step] {
        match self {
            Self::AtLeastOnce => &AT_LEAST_ONCE,
            Self::ExactlyOnce => &EXACTLY_ONCE,
        }
    }
}

/// What was committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    pub tasks: usize,
    /// Records written to changelogs.
    pub changelog_records: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Repeat,
    DropOne,
    DropAll,
}

#[derive(Debug, thiserror::Error)]
#[error("commit: {error}")]
pub struct Failure {
    pub error: Error,
    /// Whose failure it is; `None`: nobody's in particular.
    pub task: Option<TaskId>,
    pub fate: Fate,
}

/// Commits the tasks that have something to commit. They have to be all tasks that share the log.
pub fn commit(tasks: &mut [&mut Task], log: &mut dyn Log, guarantee: Guarantee) -> Result<Done, Failure> {
    run(guarantee.steps(), tasks, log, guarantee)
}

/// The commit in the order of `steps`; the simulation also runs it in orders that are wrong.
pub(crate) fn run(
    steps: &[Step],
    tasks: &mut [&mut Task],
    log: &mut dyn Log,
    guarantee: Guarantee,
) -> Result<Done, Failure> {
    let mut tasks: Vec<&mut Task> = tasks
        .iter_mut()
        .map(|task| &mut **task)
        .filter(|task| matches!(task.phase(), Phase::Running | Phase::Suspended) && task.is_commit_needed())
        .collect();
    if tasks.is_empty() {
        return Ok(Done::default());
    }
    let mut round = Round { guarantee, done: Done { tasks: tasks.len(), changelog_records: 0 }, ends: BTreeMap::new() };
    let mut outcome = log.begin().map_err(|error| (None, error));
    for step in steps {
        if outcome.is_ok() {
            outcome = round.step(*step, &mut tasks, log);
        }
    }
    match outcome {
        Ok(()) => {
            tasks.iter_mut().for_each(|task| task.committed());
            Ok(round.done)
        }
        Err((task, error)) => Err(fail(task, error, &mut tasks, log, guarantee)),
    }
}

/// Makes of the tasks what the failure says of them.
fn fail(
    task: Option<TaskId>,
    error: Error,
    tasks: &mut [&mut Task],
    log: &mut dyn Log,
    guarantee: Guarantee,
) -> Failure {
    let fate = match (guarantee, &error, task) {
        (Guarantee::AtLeastOnce, Error::Retry(_), _) => Fate::Repeat,
        (Guarantee::AtLeastOnce, _, Some(_)) => Fate::DropOne,
        _ => Fate::DropAll,
    };
    let drops = |known: &Task| match fate {
        Fate::Repeat => false,
        Fate::DropOne => Some(known.id()) == task,
        Fate::DropAll => true,
    };
    tasks.iter_mut().filter(|known| drops(known)).for_each(|task| task.close());
    let mut error = error;
    if fate == Fate::DropAll
        && let Err(aborting) = log.abort()
        && !matches!(aborting, Error::Retry(_))
    {
        error = aborting;
    }
    Failure { error, task, fate }
}

type Outcome = Result<(), (Option<TaskId>, Error)>;

struct Round {
    guarantee: Guarantee,
    done: Done,
    /// Where the partitions end that were written to, by this commit or before it.
    ends: BTreeMap<TopicPartition, Offset>,
}

impl Round {
    fn step(&mut self, step: Step, tasks: &mut [&mut Task], log: &mut dyn Log) -> Outcome {
        match step {
            Step::Flush => {
                each(tasks, |task| flush_stores(task, log))?;
                each(tasks, |task| task.send_pending(log))
            }
            Step::Changelog => each(tasks, |task| {
                self.done.changelog_records += write_changelogs(task, log)?;
                Ok(())
            }),
            Step::Acks => {
                let ends = log.flush().map_err(|error| (None, error))?;
                self.ends.extend(ends);
                Ok(())
            }
            Step::Write => each(tasks, |task| write_database(task, &self.ends)),
            Step::Offsets => self.commit_offsets(tasks, log).map_err(|error| (None, error)),
        }
    }

    fn commit_offsets(&self, tasks: &mut [&mut Task], log: &mut dyn Log) -> Result<(), Error> {
        let transaction = self.guarantee == Guarantee::ExactlyOnce;
        let offsets: Vec<_> = tasks.iter().flat_map(|task| offsets(task, transaction)).collect();
        // A transaction has to be committed for its output, too.
        if !offsets.is_empty() || transaction {
            log.commit(&offsets)?;
        }
        for progress in tasks.iter_mut().flat_map(|task| &mut task.progress) {
            progress.uncommitted = false;
        }
        Ok(())
    }
}

fn each(tasks: &mut [&mut Task], mut step: impl FnMut(&mut Task) -> Result<(), Error>) -> Outcome {
    for task in tasks {
        step(task).map_err(|error| {
            // A log that can't be written to is nobody's fault in particular.
            let task = if matches!(error, Error::Retry(_) | Error::Fenced(_)) { None } else { Some(task.id()) };
            (task, error)
        })?;
    }
    Ok(())
}

fn flush_stores(task: &mut Task, log: &mut dyn Log) -> Result<(), Error> {
    let spec = task.spec.clone();
    for (index, store) in spec.stores.iter().enumerate().filter(|(_, store)| store.cached) {
        let changes = task.context.overlay().take_changes(index);
        if !changes.is_empty() {
            let mut flushed = Pieces::new(Flushed { store: &store.name, changes });
            let flush = &mut |guest: &mut dyn crate::ports::Guest, flushed: &mut Flushed<'_>, context: &mut _| {
                guest.flush(flushed.store, &mut flushed.changes, context)
            };
            task.run_isolated(&mut flushed, flush, log)?;
        }
    }
    Ok(())
}

/// Says how many records were written.
fn write_changelogs(task: &mut Task, log: &mut dyn Log) -> Result<usize, Error> {
    let spec = task.spec.clone();
    let mut count = 0;
    for (index, store) in spec.stores.iter().enumerate() {
        let Some(changelog) = &store.changelog else { continue };
        let mut records = Batch::default();
        let overlay = task.context.overlay();
        let all = overlay.changelog_headers(index).to_vec();
        let mut row = 0;
        overlay.dirty(index, |key, timestamp, value, own| {
            records.push(Some(key), value, timestamp);
            let own = own.iter().map(|(key, value)| Header { index: row, key: key.clone(), value: value.clone() });
            records.headers.extend(own);
            if value.is_some() {
                records.headers.extend(all.iter().map(|header| Header { index: row, ..header.clone() }));
            }
            row += 1;
        });
        if records.is_empty() {
            continue;
        }
        count += records.len();
        let rejected = log.send(changelog, Partitions::One(spec.id.partition), &records)?;
        if let Some(first) = rejected.first() {
            let key = records.keys.iter().nth(first.index).flatten().unwrap_or_default();
            let place = format!("changelog {changelog}-{}, key {key:02x?}", spec.id.partition);
            // The state could never be restored without the record.
            return Err(Error::Fatal(format!("{place}: {}", first.message)));
        }
    }
    Ok(count)
}

fn write_database(task: &mut Task, ends: &BTreeMap<TopicPartition, Offset>) -> Result<(), Error> {
    let mut positions = Positions { stream_time: task.context.stream_time, ..Positions::default() };
    for (index, store) in task.spec.stores.iter().enumerate() {
        if let Some(time) = task.context.overlay().observed(index) {
            positions.observe(&store.name, time);
        }
        let Some(changelog) = &store.changelog else { continue };
        if let Some(&end) = ends.get(&TopicPartition::new(changelog.clone(), task.spec.id.partition)) {
            positions.changelogs.push((store.name.clone(), end));
        }
    }
    for (input, progress) in task.progress.iter().enumerate().filter(|(_, progress)| progress.unwritten) {
        if let Some(position) = progress.position {
            positions.inputs.push((task.partition(input), position));
        }
    }
    task.context.overlay().write(positions)?;
    for progress in &mut task.progress {
        progress.unwritten = false;
    }
    Ok(())
}

/// Those that moved. In a transaction all: they make the group check whose tasks these are, and the next owner wait
/// for the transaction's end, also if all it has is what a punctuation wrote.
fn offsets(task: &Task, transaction: bool) -> Vec<(TopicPartition, Committed)> {
    let moved = task.progress.iter().enumerate().filter(|(_, progress)| transaction || progress.uncommitted);
    let committed = moved.filter_map(|(input, progress)| {
        let processors = task.context.metadata.clone();
        let metadata = Metadata { partition_time: task.partition_time(input), processors }.encode();
        Some((task.partition(input), Committed { offset: progress.position?, metadata }))
    });
    committed.collect()
}
