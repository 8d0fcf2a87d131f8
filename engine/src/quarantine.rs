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

use crate::context::Context;
use crate::ports::{Error, Fault, FaultKind, Guest, Log, Rejected};
use crate::record::{Batch, Changes, Column, Cursor, Header, Input, Offset, Output, TaskId};
use crate::task::{Outgoing, Task, route};

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

/// A fault the policy dealt with, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    pub task: TaskId,
    /// Topic and offset of the record; `None` for a punctuation, and without offset for a change of a store.
    pub source: Option<(String, Option<i64>)>,
    pub fault: Fault,
    pub policy: Policy,
}

/// A record that failed.
pub(crate) struct Culprit {
    source: Option<(String, Option<i64>)>,
    partition: u32,
    record: Batch,
}

/// How an attempt to call the module ended badly.
pub(crate) enum Failed {
    Fault(Fault),
    Error(Error),
}

/// What a call is about, in parts.
pub(crate) trait Rows {
    fn count(&self) -> usize;
    fn part(&self, from: usize, rows: usize) -> Self;
    fn latest(&self) -> Option<i64>;
    /// Of the last record of each input: input and offset.
    fn reached(&self) -> Vec<(usize, Offset)>;
}

impl Rows for Input {
    fn count(&self) -> usize {
        self.len()
    }

    fn part(&self, from: usize, rows: usize) -> Self {
        let mut records = Batch::default();
        let mut cursor = Cursor::default();
        cursor.skip(&self.records, from);
        records.append(&self.records, &mut cursor, rows);
        let range = from..from + rows;
        Self { topics: self.topics[range.clone()].to_vec(), offsets: self.offsets[range].to_vec(), records }
    }

    fn latest(&self) -> Option<i64> {
        self.records.timestamps.iter().copied().max()
    }

    fn reached(&self) -> Vec<(usize, Offset)> {
        let mut reached: Vec<(usize, Offset)> = Vec::new();
        for (&topic, &offset) in self.topics.iter().zip(&self.offsets) {
            let next = Offset(offset + 1);
            match reached.iter_mut().find(|(input, _)| *input == topic as usize) {
                Some((_, reached)) => *reached = next,
                None => reached.push((topic as usize, next)),
            }
        }
        reached
    }
}

/// The changes of a store on their way to a flush.
pub(crate) struct Flushed<'a> {
    pub(crate) store: &'a str,
    pub(crate) changes: Changes,
}

impl Rows for Flushed<'_> {
    fn count(&self) -> usize {
        self.changes.len()
    }

    fn part(&self, from: usize, rows: usize) -> Self {
        let column = |column: &Column| column.iter().skip(from).take(rows).collect();
        let inside = |header: &&Header| (from..from + rows).contains(&(header.index as usize));
        let headers = self.changes.headers.iter().filter(inside);
        let changes = Changes {
            keys: column(&self.changes.keys),
            old_values: column(&self.changes.old_values),
            new_values: column(&self.changes.new_values),
            timestamps: self.changes.timestamps[from..from + rows].to_vec(),
            headers: headers
                .map(|h| Header { index: h.index - u32::try_from(from).unwrap_or(0), ..h.clone() })
                .collect(),
        };
        Self { store: self.store, changes }
    }

    fn latest(&self) -> Option<i64> {
        None
    }

    fn reached(&self) -> Vec<(usize, Offset)> {
        Vec::new()
    }
}

/// Who is to blame if a row of a call's rows fails.
pub(crate) trait Blame: Rows {
    fn culprit(&self, task: &Task, row: usize) -> Culprit;
}

impl Blame for Input {
    fn culprit(&self, task: &Task, row: usize) -> Culprit {
        let Self { topics, offsets, records } = self.part(row, 1);
        let topic = task.spec.inputs[topics[0] as usize].topic.to_string();
        Culprit { source: Some((topic, Some(offsets[0]))), partition: task.spec.id.partition, record: records }
    }
}

impl Blame for Flushed<'_> {
    fn culprit(&self, task: &Task, row: usize) -> Culprit {
        let Self { store, changes } = self.part(row, 1);
        let Changes { keys, new_values: values, timestamps, headers, .. } = changes;
        let record = Batch { keys, values, timestamps, headers };
        Culprit { source: Some((format!("store {store}"), None)), partition: task.spec.id.partition, record }
    }
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

    /// Calls the module with all rows, or with parts of them until each failing row is known and dealt with.
    pub(crate) fn run_isolated<R: Blame>(
        &mut self,
        rows: &mut R,
        call: Call<'_, R>,
        log: &mut dyn Log,
    ) -> Result<(), Error> {
        let count = rows.count();
        let mut parts = vec![(0, count)];
        while let Some((from, size)) = parts.pop() {
            let mut piece;
            let part = if size == count {
                &mut *rows
            } else {
                piece = rows.part(from, size);
                &mut piece
            };
            match self.run_part(part, call, log) {
                Ok(()) => {}
                Err(Failed::Error(error)) => return Err(error),
                Err(Failed::Fault(fault)) if size == 1 => {
                    let culprit = part.culprit(self, 0);
                    self.condemn(&culprit, fault, log)?;
                    self.reached(part);
                }
                Err(Failed::Fault(fault)) => split(from, size, fault.index, &mut parts),
            }
        }
        Ok(())
    }

    fn run_part<R: Blame>(&mut self, rows: &mut R, call: Call<'_, R>, log: &mut dyn Log) -> Result<(), Failed> {
        let outgoing = self.attempt(rows.latest(), |task| {
            let outputs = call(task.guest.as_mut(), rows, &mut task.context)?;
            route(outputs, rows.count(), &task.spec, &task.settings)
        })?;
        self.reached(rows);
        self.deliver(outgoing, Some(rows), log).map_err(Failed::Error)
    }

    fn reached<R: Rows>(&mut self, rows: &R) {
        for (input, offset) in rows.reached() {
            self.advance(input, offset);
        }
    }

    /// A punctuation that fails is left out, if the policy allows it.
    pub(crate) fn punctuate_isolated(&mut self, schedule: u32, now: i64, log: &mut dyn Log) -> Result<(), Error> {
        let called = self.attempt(None, |task| {
            let outputs = task.guest.punctuate(schedule, now, &mut task.context)?;
            route(outputs, 0, &task.spec, &task.settings)
        });
        match called {
            Ok(outgoing) => self.deliver::<Input>(outgoing, None, log),
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Fault(fault)) => {
                let mut record = Batch::default();
                record.push(None, None, now.max(0));
                self.condemn(&Culprit { source: None, partition: self.spec.id.partition, record }, fault, log)
            }
        }
    }

    /// The timestamps of the records, -1 for those left out; where the policy stops the task, those before the
    /// failing record and the error.
    pub(crate) fn extract_isolated(
        &mut self,
        input: &mut Input,
        time: Option<i64>,
        log: &mut dyn Log,
    ) -> Result<(Vec<i64>, Option<Error>), Error> {
        let mut timestamps = Vec::with_capacity(input.len());
        let mut parts = vec![(0, input.len())];
        while let Some((from, count)) = parts.pop() {
            let time = time.max(timestamps.iter().copied().max());
            let whole = count == input.len();
            let mut part = if whole { std::mem::take(input) } else { input.part(from, count) };
            let extracted = self.attempt(None, |task| {
                let found = task.guest.extract(&mut part, time)?;
                let message = format!("{} timestamps for {count} records", found.len());
                let wrong = Fault { kind: FaultKind::Trap, index: None, node: None, message };
                if found.len() == count { Ok(found) } else { Err(wrong) }
            });
            match extracted {
                Ok(found) => timestamps.extend(found),
                Err(Failed::Error(error)) => return Err(error),
                Err(Failed::Fault(fault)) if count == 1 => {
                    let culprit = part.culprit(self, 0);
                    match self.condemn(&culprit, fault, log) {
                        Ok(()) => timestamps.push(-1),
                        Err(error @ Error::Guest(_)) => {
                            if whole {
                                *input = part;
                            }
                            return Ok((timestamps, Some(error)));
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(Failed::Fault(fault)) => split(from, count, fault.index, &mut parts),
            }
            if whole {
                *input = part;
            }
        }
        Ok((timestamps, None))
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
                self.rejected(&culprit, &out, rejected, log)?;
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
                self.rejected(&culprit, &out, rejected, log)?;
            }
        }
        Ok(())
    }

    fn send_next(&mut self, log: &mut dyn Log) -> Result<Option<(Outgoing, Vec<Rejected>)>, Error> {
        let Some(out) = self.pending.front() else { return Ok(None) };
        log.begin()?;
        let rejected = log.send(&out.topic, out.partitions(), &out.records)?;
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
    fn rejected(
        &mut self,
        culprit: &Culprit,
        out: &Outgoing,
        rejected: Rejected,
        log: &mut dyn Log,
    ) -> Result<(), Error> {
        let message = format!("a record for topic {} was refused: {}", out.topic, rejected.message);
        let fault = Fault { kind: FaultKind::Serialization, index: None, node: None, message };
        if let Policy::DeadLetter { topic } = self.settings.policies.of(fault.kind)
            && **topic == *out.topic
        {
            return Err(Error::Fatal(self.describe(culprit, &fault).message));
        }
        self.condemn(culprit, fault, log).map_err(|error| match error {
            Error::Guest(fault) => {
                self.close();
                Error::Fatal(fault.message)
            }
            error => error,
        })
    }

    /// Applies the policy to a record that failed alone.
    fn condemn(&mut self, culprit: &Culprit, fault: Fault, log: &mut dyn Log) -> Result<(), Error> {
        let policy = self.settings.policies.of(fault.kind).clone();
        match &policy {
            Policy::Fail => return Err(Error::Guest(self.describe(culprit, &fault))),
            Policy::Skip => {}
            Policy::DeadLetter { topic } => {
                self.pending.push_back(Outgoing::of_host(topic, dead_letter(culprit, &fault)));
                later(self.send_pending(log).map(Some))?;
            }
        }
        self.incidents.push(Incident { task: self.spec.id, source: culprit.source.clone(), fault, policy });
        Ok(())
    }

    /// The fault with the place where it happened in its message.
    fn describe(&self, culprit: &Culprit, fault: &Fault) -> Fault {
        let node = fault.node.as_ref().map_or(String::new(), |node| format!(", node {node}"));
        let place = match &culprit.source {
            Some((topic, Some(offset))) => format!("{topic}-{} offset {offset}", culprit.partition),
            Some((store, None)) => format!("task {}, {store}", self.spec.id),
            None => format!("task {}", self.spec.id),
        };
        Fault { message: format!("{place}{node}: {:?}: {}", fault.kind, fault.message), ..fault.clone() }
    }
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

/// The parts in which a failed call is run again, the first one last.
fn split(from: usize, count: usize, failed: Option<usize>, parts: &mut Vec<(usize, usize)>) {
    match failed {
        Some(index) if index < count && count > 1 => {
            let after = (from + index + 1, count - index - 1);
            parts.extend([after, (from + index, 1), (from, index)].into_iter().filter(|&(_, count)| count > 0));
        }
        _ => parts.extend((from..from + count).rev().map(|row| (row, 1))),
    }
}

/// The record with KIP-1034's headers after its own.
fn dead_letter(culprit: &Culprit, fault: &Fault) -> Batch {
    let mut batch = culprit.record.clone();
    let kind = format!("{:?}", fault.kind);
    let trace = match &fault.node {
        Some(node) => format!("{kind}: {}\n\tat {node}", fault.message),
        None => format!("{kind}: {}", fault.message),
    };
    // What there is none of Kafka Streams says by null and -1.
    let (topic, offset) = match &culprit.source {
        Some((topic, offset)) => (Some(topic.clone()), offset.unwrap_or(-1)),
        None => (None, -1),
    };
    let partition = if culprit.source.is_some() { i64::from(culprit.partition) } else { -1 };
    let headers = [
        ("exception", Some(kind)),
        ("message", Some(fault.message.clone())),
        ("stacktrace", Some(trace)),
        ("topic", topic),
        ("partition", Some(partition.to_string())),
        ("offset", Some(offset.to_string())),
    ];
    for (name, value) in headers {
        let key = format!("__streams.errors.{name}");
        batch.headers.push(Header { index: 0, key, value: value.map(String::into_bytes) });
    }
    batch
}
