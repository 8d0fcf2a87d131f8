//! Owns what happens when a call of the module fails: the call is undone, the failing record is found, the
//! policy is applied to it and its neighbours are processed as if it had never come. Must not know what the
//! records mean.
//!
//! A failed call leaves nothing behind: its state is rolled back, its output was not sent yet, its instance is
//! dropped. The batch is then run again in parts, on a fresh instance: up to the record the module named, that
//! record, the rest; or, where the module could not say (a trap, a time-out), record by record. Halving the
//! batch would call less, but would run into the time-out of an endless loop once per half.
//!
//! A record is dealt with by the policy only after it failed alone.
//!
//! A batch with several endless loops takes the time-out of a call for each of them, and a transaction does not live
//! that long: dropped with it, the work would be begun anew and come to the same end, for ever. So [`Pieces`] are run
//! one call at a time, and the task can be committed between any two of them: [`crate::task::Task::process`] makes one
//! call and returns. The same goes for punctuations, of which none is made in the same turn after one that timed out.
//! A flush can't be divided: its changes belong to the input that is committed with it. It takes the time-out of a
//! call once, and once more for each key that loops; its outputs are sent when all of it is through, so that they don't
//! make a transaction older than it must be.

use std::fmt;

use crate::context::Context;
use crate::ports::{Error, Fault, FaultKind, Guest, Log, Rejected};
use crate::record::{Batch, Column, Cursor, Input, Output, TaskId};
use crate::task::{Outgoing, Task, route};

mod parts;
mod excerpt;

use excerpt::excerpt;
pub(crate) use parts::{Blame, Culprit, Flushed, Pieces, Stamping};

/// What becomes of a record that can't be processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// The task stops, before the record.
    Fail,
    /// The record is left out.
    Skip,
    /// The record is left out and written, with the error in its headers, to a topic of Kafka's.
    DeadLetter { topic: String },
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => write!(f, "fail"),
            Self::Skip => write!(f, "skip"),
            Self::DeadLetter { topic } => write!(f, "dead-letter to {topic}"),
        }
    }
}

/// A policy per kind of fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    pub otherwise: Policy,
    pub kinds: Vec<(FaultKind, Policy)>,
}

impl Default for Policies {
    fn default() -> Self {
        Self { otherwise: Policy::Fail, kinds: Vec::new() }
    }
}

impl Policies {
    #[must_use]
    pub fn of(&self, kind: FaultKind) -> &Policy {
        self.kinds.iter().find(|(known, _)| *known == kind).map_or(&self.otherwise, |(_, policy)| policy)
    }
}

/// A fault that a policy was applied to, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    pub task: TaskId,
    /// Where the record came from: partition and offset, or a store. Without one: a punctuation.
    pub place: String,
    /// Key and value, as far as they fit a line.
    pub key: String,
    pub value: String,
    pub fault: Fault,
    pub policy: Policy,
}

/// How an attempt to call the module ended badly.
enum Failed {
    Fault(Fault),
    Error(Error),
}

type Call<'a, R> = &'a mut dyn FnMut(&mut dyn Guest, &mut R, &mut Context) -> Result<Vec<Output>, Fault>;

impl Task {
    /// A fresh instance, which has its `init` behind it.
    pub(crate) fn reset_guest(&mut self) -> Result<(), Error> {
        self.context.savepoint();
        self.context.schedules.restart();
        let reset = self.guest.reset(&mut self.context);
        self.context.schedules.started();
        reset.map_err(|mut fault| {
            let failure = self.context.take_failure();
            self.context.rollback();
            fault.message = format!("task {}: init: {}", self.spec.id, fault.message);
            failure.map_or(Error::Guest(fault), unrepeatable)
        })
    }

    /// Calls the module once; a call that fails leaves nothing behind but a fresh instance.
    fn attempt<T>(
        &mut self,
        latest: Option<i64>,
        call: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Failed> {
        self.context.savepoint();
        self.context.stream_time = self.context.stream_time.max(latest);
        let mut fault = match call(self) {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        self.timed_out |= fault.kind == FaultKind::Timeout;
        let failure = self.context.take_failure();
        if self.context.take_flooded() {
            fault.kind = FaultKind::Flood;
        }
        self.context.rollback();
        if let Some(error) = failure {
            return Err(Failed::Error(unrepeatable(error)));
        }
        self.reset_guest().map_err(Failed::Error)?;
        Err(Failed::Fault(fault))
    }

    /// Calls the module until each row is through or dealt with.
    pub(crate) fn run_isolated<R: Blame>(
        &mut self,
        pieces: &mut Pieces<R>,
        call: Call<'_, R>,
        log: &mut dyn Log,
    ) -> Result<(), Error> {
        while !pieces.is_done() {
            self.run_next(pieces, call, log)?;
        }
        Ok(())
    }

    /// Calls the module once, with the rows that are next, and says how many are through or dealt with. Those of a
    /// call that failed are none, unless it was a single one: they are what is next, in parts.
    pub(crate) fn run_next<R: Blame>(
        &mut self,
        pieces: &mut Pieces<R>,
        call: Call<'_, R>,
        log: &mut dyn Log,
    ) -> Result<usize, Error> {
        let Some((from, size)) = pieces.next() else { return Ok(0) };
        let outcome = pieces.with_part(from, size, |part| match self.run_part(part, call, log) {
            Err(Failed::Fault(fault)) if size == 1 => {
                let culprit = part.culprit(self, 0);
                self.condemn(&culprit, fault).map_err(Failed::Error)?;
                for (input, offset, _) in part.reached() {
                    self.advance(input, offset, None);
                }
                Ok(())
            }
            outcome => outcome,
        });
        match outcome {
            Ok(()) => Ok(size),
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Fault(fault)) => {
                pieces.split(from, size, fault.index);
                Ok(0)
            }
        }
    }

    fn run_part<R: Blame>(&mut self, rows: &mut R, call: Call<'_, R>, log: &mut dyn Log) -> Result<(), Failed> {
        let outgoing = self.attempt(rows.latest(), |task| {
            let outputs = call(task.guest.as_mut(), rows, &mut task.context)?;
            acceptable(route(outputs, rows.count(), &task.spec, &task.settings)?, rows.count(), log)
        })?;
        for (input, offset, time) in rows.reached() {
            self.advance(input, offset, Some(time));
        }
        if rows.is_sent_whole() {
            self.pending.extend(outgoing);
            return Ok(());
        }
        self.deliver(outgoing, Some(rows), log).map_err(Failed::Error)
    }

    /// A punctuation that fails is left out, if the policy allows it.
    pub(crate) fn punctuate_isolated(&mut self, schedule: u32, now: i64, log: &mut dyn Log) -> Result<(), Error> {
        let called = self.attempt(None, |task| {
            let outputs = task.guest.punctuate(schedule, now, &mut task.context)?;
            acceptable(route(outputs, 0, &task.spec, &task.settings)?, 0, log)
        });
        match called {
            Ok(outgoing) => self.deliver::<Input>(outgoing, None, log),
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Fault(fault)) => {
                let mut record = Batch::default();
                record.push(None, None, now.max(0));
                self.condemn(&Culprit { source: None, partition: self.spec.id.partition, record }, fault)
            }
        }
    }

    /// Asks the module once, for the timestamps that are next; -1 for a record that is left out. Gives back the error
    /// where the policy stops the task: the timestamps are then those before the failing record.
    pub(crate) fn extract_next(&mut self, stamping: &mut Stamping) -> Result<Option<Error>, Error> {
        let Stamping { pieces, timestamps, time, .. } = stamping;
        let Some((from, size)) = pieces.next() else { return Ok(None) };
        let time = timestamps.iter().copied().max().max(*time);
        let (extracted, culprit) = pieces.with_part(from, size, |part| {
            let extracted = self.attempt(None, |task| {
                let found = task.guest.extract(part, time)?;
                let message = format!("{} timestamps for {size} records", found.len());
                if found.len() == size { Ok(found) } else { Err(Fault::new(FaultKind::Trap, message)) }
            });
            let culprit = (size == 1 && extracted.is_err()).then(|| part.culprit(self, 0));
            (extracted, culprit)
        });
        match (extracted, culprit) {
            (Ok(found), _) => timestamps.extend(found),
            (Err(Failed::Error(error)), _) => return Err(error),
            (Err(Failed::Fault(fault)), None) => pieces.split(from, size, fault.index),
            (Err(Failed::Fault(fault)), Some(culprit)) => match self.condemn(&culprit, fault) {
                Ok(()) => timestamps.push(-1),
                Err(error @ Error::Guest(_)) => return Ok(Some(error)),
                Err(error) => return Err(error),
            },
        }
        Ok(None)
    }

    /// Hands outputs to the log, those of earlier calls first.
    fn deliver<R: Blame>(&mut self, outgoing: Vec<Outgoing>, rows: Option<&R>, log: &mut dyn Log) -> Result<(), Error> {
        if outgoing.is_empty() {
            return Ok(());
        }
        let first = self.pending.len();
        self.pending.extend(outgoing);
        let mut sent = 0;
        while let Some((out, rejected)) = later(self.send_next(log))? {
            for rejected in rejected {
                let origin = out.origins.get(rejected.index).map(|&origin| origin as usize);
                let origin = origin.or_else(|| rows.filter(|rows| rows.count() == 1).map(|_| 0));
                let culprit = match (rows, origin) {
                    (Some(rows), Some(origin)) if sent >= first => rows.culprit(self, origin),
                    _ => self.unknown_culprit(&out, rejected.index),
                };
                self.rejected(&culprit, &out, rejected)?;
            }
            sent += 1;
        }
        Ok(())
    }

    /// Hands over what the log would not take before.
    pub(crate) fn send_pending(&mut self, log: &mut dyn Log) -> Result<(), Error> {
        while let Some((out, rejected)) = self.send_next(log)? {
            for rejected in rejected {
                let culprit = self.unknown_culprit(&out, rejected.index);
                self.rejected(&culprit, &out, rejected)?;
            }
        }
        Ok(())
    }

    fn send_next(&mut self, log: &mut dyn Log) -> Result<Option<(Outgoing, Vec<Rejected>)>, Error> {
        let Some(out) = self.pending.front() else { return Ok(None) };
        log.begin()?;
        let rejected = log.send(&out.topic, out.partitions(), &out.records)?;
        self.sent = true;
        Ok(self.pending.pop_front().map(|out| (out, rejected)))
    }

    /// The rejected record stands for the one it stems from, which the module did not name.
    fn unknown_culprit(&self, out: &Outgoing, index: usize) -> Culprit {
        let mut record = Batch::default();
        let mut cursor = Cursor::default();
        cursor.skip(&out.records, index);
        record.append(&out.records, &mut cursor, 1);
        Culprit { source: None, partition: self.spec.id.partition, record }
    }

    /// The log would not take a record. What the call that made it did else is done: its state stays, so the
    /// task can't stop before the record, and must be dropped if the policy says that it shall stop.
    fn rejected(&mut self, culprit: &Culprit, out: &Outgoing, rejected: Rejected) -> Result<(), Error> {
        let fault = refused(out, &rejected);
        if let Policy::DeadLetter { topic } = self.settings.policies.of(fault.kind)
            && **topic == *out.topic
        {
            return Err(Error::Fatal(self.describe(culprit, &fault).message));
        }
        self.condemn(culprit, fault).map_err(|error| match error {
            Error::Guest(fault) => {
                self.close();
                Error::Fatal(fault.message)
            }
            error => error,
        })
    }

    /// Applies the policy to a record that failed alone.
    fn condemn(&mut self, culprit: &Culprit, fault: Fault) -> Result<(), Error> {
        let policy = self.settings.policies.of(fault.kind).clone();
        let text = |column: &Column| excerpt(column.iter().next().flatten());
        self.incidents.push(Incident {
            task: self.spec.id,
            place: self.place(culprit),
            key: text(&culprit.record.keys),
            value: text(&culprit.record.values),
            fault: fault.clone(),
            policy: policy.clone(),
        });
        match policy {
            Policy::Fail => Err(Error::Guest(self.describe(culprit, &fault))),
            Policy::Skip => Ok(()),
            Policy::DeadLetter { topic } => {
                self.pending.push_back(Outgoing::of_host(&topic, culprit.dead_letter(&fault)));
                Ok(())
            }
        }
    }

    fn place(&self, culprit: &Culprit) -> String {
        match &culprit.source {
            Some((topic, Some(offset))) => format!("{topic}-{} offset {offset}", culprit.partition),
            Some((store, None)) => format!("task {}, {store}", self.spec.id),
            None => format!("task {}", self.spec.id),
        }
    }

    /// The fault with the place where it happened in its message.
    fn describe(&self, culprit: &Culprit, fault: &Fault) -> Fault {
        let node = fault.node.as_ref().map_or(String::new(), |node| format!(", node {node}"));
        let place = self.place(culprit);
        Fault { message: format!("{place}{node}: {:?}: {}", fault.kind, fault.message), ..fault.clone() }
    }
}

/// The outputs of a call, unless one of them is known to be refused: then it is a fault of the row it stems from.
fn acceptable(outgoing: Vec<Outgoing>, rows: usize, log: &dyn Log) -> Result<Vec<Outgoing>, Fault> {
    for out in &outgoing {
        if let Some(rejected) = log.objection(&out.topic, &out.records) {
            let origin = out.origins.get(rejected.index).map(|&origin| origin as usize);
            let index = if rows == 1 { Some(0) } else { origin };
            return Err(Fault { index, ..refused(out, &rejected) });
        }
    }
    Ok(outgoing)
}

fn refused(out: &Outgoing, rejected: &Rejected) -> Fault {
    let message = format!("a record for topic {} was refused: {}", out.topic, rejected.message);
    Fault::new(FaultKind::Serialization, message)
}

/// What the log won't take now stays pending: the rest of the batch must be processed all the same, it is
/// in no buffer any more.
fn later<T>(sent: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match sent {
        Err(Error::Retry(_)) => Ok(None),
        sent => sent,
    }
}

/// A database that can't be read now stops the task: its batch is in no buffer any more, so nothing repeats it.
fn unrepeatable(error: Error) -> Error {
    match error {
        Error::Retry(message) => Error::Fatal(message),
        error => error,
    }
}
