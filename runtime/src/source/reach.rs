//! Tells tasks with several inputs of which of them the broker has more, so that they wait for it: records of several
//! inputs are processed in the order of their timestamps, also those of a long backlog. Must not know how a task waits.
//!
//! A partition goes on as long as the client has read less of it than it ends at, by the latest answer of its broker.
//! But the last of that may be nothing to read: what is in a transaction that is open yet, or what compaction has left
//! of a batch. So nobody waits for long where nothing comes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millrace_engine::ports::Error;
use millrace_engine::record::{Offset, TaskId, TopicPartition};
use rdkafka::consumer::Consumer;

use super::{Placement, Source};
use crate::kafka::{classify, last_seen_end, number};
use crate::worker::Order;

/// How long what a partition ends with is waited for while nothing comes of it.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A partition that is one of several inputs of its task.
pub(super) struct Reach {
    task: TaskId,
    /// What was read before is not asked for.
    read: Offset,
    /// When something of it was read last.
    since: Instant,
    /// Whether there was more of it when it was looked at last.
    behind: bool,
    /// What the task was told last.
    told: Option<bool>,
}

#[derive(Default)]
pub(super) struct Reaches(BTreeMap<TopicPartition, Reach>);

impl Reaches {
    /// Keeps those of `inputs` that are read beside others, of which no task has heard yet.
    pub(super) fn keep(&mut self, inputs: BTreeMap<TaskId, Vec<TopicPartition>>) {
        let mut kept = BTreeMap::new();
        for (task, inputs) in inputs.into_iter().filter(|(_, inputs)| inputs.len() > 1) {
            for input in inputs {
                let read = self.0.get(&input).map_or(Offset(0), |known| known.read);
                kept.insert(input, Reach { task, read, since: Instant::now(), behind: true, told: None });
            }
        }
        self.0 = kept;
    }

    /// The client goes on there, whatever it has read before.
    pub(super) fn begin(&mut self, partition: &TopicPartition, offset: Offset) {
        if let Some(reach) = self.0.get_mut(partition) {
            (reach.read, reach.since, reach.told) = (offset, Instant::now(), None);
        }
    }

    /// They are read on: nothing came of them while they were paused.
    pub(super) fn go_on(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(reach) = self.0.get_mut(partition) {
                reach.since = Instant::now();
            }
        }
    }

    /// The task begins anew to listen.
    pub(super) fn forget_told(&mut self, task: TaskId) {
        self.0.values_mut().filter(|reach| reach.task == task).for_each(|reach| reach.told = None);
    }

    pub(super) fn is_awaited(&self, partition: &TopicPartition) -> bool {
        self.0.contains_key(partition)
    }
}

impl Reach {
    fn look(&mut self, read: Option<Offset>, end: Option<Offset>) {
        if let Some(read) = read.filter(|read| *read > self.read) {
            (self.read, self.since) = (read, Instant::now());
        }
        let more = end.is_none_or(|end| end > self.read);
        if !more {
            self.since = Instant::now();
        }
        self.behind = more && self.since.elapsed() < WAIT_MAX;
    }
}

impl Source {
    /// Looks how far all inputs go.
    pub(super) fn look(&mut self) -> Result<(), Error> {
        if self.reaches.0.is_empty() {
            return Ok(());
        }
        let read = self.consumer.position().map_err(|error| classify("ask how far partitions were read", &error))?;
        for (partition, reach) in &mut self.reaches.0 {
            let read = read.find_partition(&partition.topic, number(partition)).and_then(|at| match at.offset() {
                rdkafka::Offset::Offset(offset) => Some(Offset(offset)),
                _ => None,
            });
            reach.look(read, last_seen_end(&self.consumer, partition));
        }
        Ok(())
    }

    /// Tells tasks of the inputs that `behind` is right for. Those that go on have to be named before what was read is
    /// handed over, the others after it.
    pub(super) fn tell_reach(&mut self, behind: bool) {
        let changed = |reach: &Reach| reach.behind == behind && reach.told != Some(behind);
        for (partition, reach) in self.reaches.0.iter_mut().filter(|(_, reach)| changed(reach)) {
            if let Some(Placement::At(worker)) = self.placements.get(&reach.task) {
                reach.told = Some(behind);
                self.workers[*worker].order(Order::Reach { task: reach.task, partition: partition.clone(), behind });
            }
        }
    }
}
