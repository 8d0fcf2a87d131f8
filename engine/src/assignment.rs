//! Owns the way from the partitions a member was assigned to the tasks it runs, and on which of
//! its worker threads, and to those it keeps standbys of. Must not know how the group agreed, or what a task does.

mod standby;

pub use standby::{Member, standbys};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;

use crate::record::{TaskId, TopicPartition};
use crate::topology::Partitioning;

/// The tasks of a member. Each with the inputs it reads here, as positions in
/// [`crate::topology::Partitioned::inputs`]: all that have its partition, if it keeps state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    pub tasks: BTreeMap<TaskId, Vec<usize>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// The topics are not what they were when the plan was measured: measure again.
    #[error("partition {0} was assigned, but {0} did not exist when the application started: start it again")]
    Unknown(TopicPartition),
    #[error(
        "task {task} was assigned {assigned} but not {missing}: let all members of the group use the range assignor and \
         the same topology"
    )]
    Split { task: TaskId, assigned: TopicPartition, missing: TopicPartition },
}

/// What to do with the tasks at hand when an assignment arrives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// At hand and still assigned, with the same inputs: resume them.
    pub keep: BTreeSet<TaskId>,
    /// Close these first: a task that reads other inputs than before is closed and started.
    pub close: BTreeSet<TaskId>,
    pub start: BTreeSet<TaskId>,
}

impl Assignment {
    /// Of a member that has all its partitions.
    pub fn of(partitioning: &Partitioning, partitions: &[TopicPartition]) -> Result<Self, AssignmentError> {
        let assignment = Self::gather(partitioning, partitions)?;
        assignment.split(partitioning).into_values().next().map_or(Ok(assignment), Err)
    }

    /// Of a member that gets its partitions bit by bit: without the tasks that still lack some, and what those lack.
    pub fn so_far(
        partitioning: &Partitioning,
        partitions: &[TopicPartition],
    ) -> Result<(Self, Vec<AssignmentError>), AssignmentError> {
        let mut assignment = Self::gather(partitioning, partitions)?;
        let split = assignment.split(partitioning);
        assignment.tasks.retain(|id, _| !split.contains_key(id));
        Ok((assignment, split.into_values().collect()))
    }

    fn gather(partitioning: &Partitioning, partitions: &[TopicPartition]) -> Result<Self, AssignmentError> {
        let readers: HashMap<&str, (usize, usize)> = (partitioning.subtopologies().iter().enumerate())
            .flat_map(|(sub, of)| of.inputs.iter().enumerate().map(move |(i, input)| (&*input.full_name, (sub, i))))
            .collect();
        let mut inputs: BTreeMap<TaskId, BTreeSet<usize>> = BTreeMap::new();
        for partition in partitions {
            let unknown = || AssignmentError::Unknown(partition.clone());
            let &(position, input) = readers.get(&*partition.topic).ok_or_else(unknown)?;
            let subtopology = &partitioning.subtopologies()[position];
            if partition.partition >= subtopology.inputs[input].partitions {
                return Err(unknown());
            }
            let id = TaskId { subtopology: subtopology.subtopology, partition: partition.partition };
            inputs.entry(id).or_default().insert(input);
        }
        let tasks = inputs.into_iter().map(|(id, inputs)| (id, inputs.into_iter().collect())).collect();
        Ok(Self { tasks })
    }

    /// Tasks that keep state and lack inputs.
    fn split(&self, partitioning: &Partitioning) -> BTreeMap<TaskId, AssignmentError> {
        let mut split = BTreeMap::new();
        for subtopology in partitioning.subtopologies().iter().filter(|subtopology| subtopology.stateful) {
            let all_of_it = TaskId { subtopology: subtopology.subtopology, partition: 0 }..=TaskId {
                subtopology: subtopology.subtopology,
                partition: u32::MAX,
            };
            for (&task, inputs) in self.tasks.range(all_of_it) {
                let partition_of =
                    |input: usize| TopicPartition::new(subtopology.inputs[input].full_name.clone(), task.partition);
                let missing = (0..subtopology.inputs.len()).find(|input| !inputs.contains(input));
                if let (Some(missing), Some(&assigned)) = (missing, inputs.first()) {
                    let (assigned, missing) = (partition_of(assigned), partition_of(missing));
                    split.insert(task, AssignmentError::Split { task, assigned, missing });
                }
            }
        }
        split
    }

    /// What leads from the tasks at hand to these.
    #[must_use]
    pub fn change_from(&self, at_hand: &Self) -> Change {
        let (keep, start): (BTreeSet<TaskId>, BTreeSet<TaskId>) =
            self.tasks.keys().partition(|id| at_hand.tasks.get(id) == self.tasks.get(id));
        let close = at_hand.tasks.keys().copied().filter(|id| !keep.contains(id)).collect();
        Change { keep, close, start }
    }
}

/// Which worker runs which task. A task that has a worker stays with it; each of the others goes to
/// the worker that has the fewest tasks, among those to the one with the fewest of its subtopology,
/// since one subtopology may be all the work.
#[must_use]
pub fn spread(
    tasks: &BTreeSet<TaskId>,
    workers: NonZeroUsize,
    current: &BTreeMap<TaskId, usize>,
) -> BTreeMap<TaskId, usize> {
    let stays = |task: &TaskId| current.get(task).copied().filter(|&worker| worker < workers.get());
    let mut placed: BTreeMap<TaskId, usize> = tasks.iter().filter_map(|task| Some((*task, stays(task)?))).collect();
    let mut load = vec![0_usize; workers.get()];
    let mut of_subtopology: HashMap<(u32, usize), usize> = HashMap::new();
    for (task, &worker) in &placed {
        load[worker] += 1;
        *of_subtopology.entry((task.subtopology, worker)).or_default() += 1;
    }
    for task in tasks {
        if placed.contains_key(task) {
            continue;
        }
        let cost = |&worker: &usize| {
            let same = of_subtopology.get(&(task.subtopology, worker)).copied().unwrap_or_default();
            (load[worker], same, worker)
        };
        let worker = (0..workers.get()).min_by_key(cost).unwrap_or_default();
        load[worker] += 1;
        *of_subtopology.entry((task.subtopology, worker)).or_default() += 1;
        placed.insert(*task, worker);
    }
    placed
}

#[cfg(test)]
mod tests;
