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
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A partition that is one of several inputs of its task.
pub(super) struct Reach {
    task: TaskId,
    /// What was read before is not asked for.
    read: Offset,
    /// When something of it was read last.
    since: Instant,
    /// What the task was told last.
    behind: Option<bool>,
}

#[derive(Default)]
pub(super) struct Reaches(BTreeMap<TopicPartition, Reach>);

impl Reaches {
    /// Keeps those of `partitions` that are inputs beside others, of which no task has heard yet.
    pub(super) fn keep(&mut self, partitions: &BTreeMap<TaskId, Vec<TopicPartition>>) {
        let several = partitions.iter().filter(|(_, inputs)| inputs.len() > 1);
        let mut kept = BTreeMap::new();
        for (task, input) in several.flat_map(|(task, inputs)| inputs.iter().map(|input| (*task, input))) {
            let read = self.0.get(input).map_or(Offset(0), |known| known.read);
            kept.insert(input.clone(), Reach { task, read, since: Instant::now(), behind: None });
        }
        self.0 = kept;
    }

    /// The client goes on there, whatever it has read before.
    pub(super) fn begin(&mut self, partition: &TopicPartition, offset: Offset) {
        if let Some(reach) = self.0.get_mut(partition) {
            (reach.read, reach.since, reach.behind) = (offset, Instant::now(), None);
        }
    }

    /// The task begins anew to listen.
    pub(super) fn forget_told(&mut self, task: TaskId) {
        self.0.values_mut().filter(|reach| reach.task == task).for_each(|reach| reach.behind = None);
    }

    pub(super) fn is_awaited(&self, partition: &TopicPartition) -> bool {
        self.0.contains_key(partition)
    }
}

impl Reach {
    /// Whether there is more of it than was read.
    fn look(&mut self, read: Option<Offset>, end: Option<Offset>) -> bool {
        if let Some(read) = read.filter(|read| *read > self.read) {
            (self.read, self.since) = (read, Instant::now());
        }
        let behind = end.is_none_or(|end| end > self.read);
        if !behind {
            self.since = Instant::now();
        }
        behind && self.since.elapsed() < WAIT_MAX
    }
}

impl Source {
    /// Looks at all inputs, and tells of those that `behind` is right for. Those that go on have to be named before what
    /// was read is handed over, the others after it.
    pub(super) fn look(&mut self) -> Result<Vec<(TopicPartition, bool)>, Error> {
        if self.reaches.0.is_empty() {
            return Ok(Vec::new());
        }
        let read = self.consumer.position().map_err(|error| classify("ask how far partitions were read", &error))?;
        let mut seen = Vec::new();
        for (partition, reach) in &mut self.reaches.0 {
            let read = read.find_partition(&partition.topic, number(partition)).and_then(|at| match at.offset() {
                rdkafka::Offset::Offset(offset) => Some(Offset(offset)),
                _ => None,
            });
            seen.push((partition.clone(), reach.look(read, last_seen_end(&self.consumer, partition))));
        }
        Ok(seen)
    }

    pub(super) fn tell_reach(&mut self, seen: &[(TopicPartition, bool)], told: bool) {
        for (partition, behind) in seen.iter().filter(|(_, behind)| *behind == told) {
            let Some(reach) = self.reaches.0.get_mut(partition) else { continue };
            let Some(Placement::At(worker)) = self.placements.get(&reach.task) else { continue };
            if reach.behind.replace(*behind) != Some(*behind) {
                let order = Order::Reach { task: reach.task, partition: partition.clone(), behind: *behind };
                self.workers[*worker].order(order);
            }
        }
    }
}
