//! What a worker tells of its tasks: counts and times to the status of the process, what was left out to the log. Once
//! per batch or commit, never per record. Must not know who reads it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use millrace_engine::commit::Done;
use millrace_engine::overlay::Lookups;
use millrace_engine::ports::Fault;
use millrace_engine::quarantine::{Incident, Policy};
use millrace_engine::record::TaskId;
use millrace_engine::task::{Processed, Task};
use prometheus_client::metrics::histogram::Histogram;

use super::{Report, Spans};
use crate::status::{self, Status, TaskStatus};
use crate::traces::RecordSpan;

pub struct Meter {
    status: Arc<Status>,
    process_latency: Histogram,
    commit_latency: Histogram,
    tasks: BTreeMap<TaskId, Arc<TaskStatus>>,
    /// Of records that are fetched and not processed yet, by task and input.
    spans: BTreeMap<(TaskId, usize), VecDeque<(i64, RecordSpan)>>,
}

impl Meter {
    /// Of the worker of this number.
    #[must_use]
    pub fn new(status: Arc<Status>, worker: usize) -> Self {
        let worker = status::Worker { worker };
        let process_latency = status.workers.process_latency.get_or_create(&worker).clone();
        let commit_latency = status.workers.commit_latency.get_or_create(&worker).clone();
        Self { status, process_latency, commit_latency, tasks: BTreeMap::new(), spans: BTreeMap::new() }
    }

    /// Whether an operator wants nothing to be processed.
    pub(super) fn is_paused(&self) -> bool {
        self.status.is_paused()
    }

    pub(super) fn adopt(&mut self, task: &Task) {
        let status = self.status.task(task.id());
        tell_positions(task, &status);
        self.tasks.insert(task.id(), status);
    }

    pub(super) fn forget(&mut self, task: TaskId) {
        self.tasks.remove(&task);
        self.spans.retain(|(of, _), _| *of != task);
    }

    pub(super) fn fetched(&mut self, task: TaskId, input: usize, spans: Spans) {
        if !spans.is_empty() {
            self.spans.entry((task, input)).or_default().extend(spans);
        }
    }

    pub(super) fn forget_fetched(&mut self) {
        self.spans.clear();
    }

    /// Ends the spans of records that a task is through with.
    fn end_spans(&mut self, task: &Task) {
        let of_task = self.spans.range_mut((task.id(), 0)..=(task.id(), usize::MAX));
        for ((_, input), spans) in of_task {
            let Some(position) = task.position(*input) else { continue };
            while let Some((_, span)) = spans.pop_front_if(|(offset, _)| *offset < position.0) {
                span.processed();
            }
        }
        self.spans.retain(|_, spans| !spans.is_empty());
    }

    pub(super) fn processed(&mut self, task: &Task, done: &Processed, took: Duration) {
        if done.records == 0 && done.punctuations == 0 {
            return;
        }
        self.process_latency.observe(took.as_secs_f64());
        if !self.spans.is_empty() {
            self.end_spans(task);
        }
        let Some(status) = self.tasks.get(&task.id()) else { return };
        status.processed(done.records, done.bytes, done.punctuations);
        tell_positions(task, status);
    }

    pub(super) fn punctuated(&self, task: TaskId, count: usize) {
        if let Some(status) = self.tasks.get(&task).filter(|_| count > 0) {
            status.processed(0, 0, count);
        }
    }

    pub(super) fn committed(&self, took: Duration, done: Done) {
        self.commit_latency.observe(took.as_secs_f64());
        self.status.workers.changelog_records.fetch_add(done.changelog_records as u64, Ordering::Relaxed);
        let attributes = [("millrace.tasks", done.tasks), ("millrace.changelog_records", done.changelog_records)];
        self.status.traces.ended("commit", took, attributes);
    }

    pub(super) fn commit_failed(&self) {
        self.status.workers.failed_commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Says what a task left out, and why, and reports faults: a version of the module may have too many.
    pub(super) fn tell(&self, task: &mut Task, reports: &Sender<Report>) {
        let id = task.id();
        let status = self.tasks.get(&id);
        let incidents = task.take_incidents();
        let left_out = incidents.iter().filter(|incident| incident.policy != Policy::Fail);
        if let Some(example) = left_out.clone().next() {
            let count = u32::try_from(left_out.count()).unwrap_or(u32::MAX);
            let example = format!("{}: {:?}: {}", example.place, example.fault.kind, example.fault);
            // Nobody takes it: the source is gone, and says so where it matters.
            let _ = reports.send(Report::Faults { task: id, count, example });
        }
        for Incident { place, key, value, fault, policy, .. } in incidents {
            let Fault { kind, node, message, lines, .. } = fault;
            if let Some(status) = status {
                status.failed(kind);
            }
            if policy == Policy::Fail {
                tracing::error!(task = %id, at = place, node, fault = ?kind, %policy, key, value, ?lines, "{message}");
            } else {
                tracing::warn!(task = %id, at = place, node, fault = ?kind, %policy, key, value, ?lines, "{message}");
            }
        }
        if let (Lookups { hits, misses }, Some(status)) = (task.take_lookups(), status) {
            status.looked_up(hits, misses);
        }
        for dropped in task.take_dropped() {
            if let Some(status) = status {
                status.dropped(dropped.count);
            }
            tracing::warn!(task = %id, node = dropped.node, count = dropped.count, "left out records: {}", dropped.reason);
        }
    }
}

fn tell_positions(task: &Task, status: &TaskStatus) {
    for input in 0..task.spec().inputs.len() {
        if let Some(position) = task.position(input) {
            status.position(&task.partition(input), position);
        }
    }
    if let Some(stream_time) = task.stream_time() {
        status.reached(stream_time);
    }
}
