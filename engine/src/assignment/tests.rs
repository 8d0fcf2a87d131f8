//! Assignments by hand, and many made by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use super::{Assignment, AssignmentError, spread};
use crate::record::{TaskId, TopicPartition};
use crate::sim::Random;
use crate::topology::chance::{below, random_graph, range_assignment};
use crate::topology::sample::counts;
use crate::topology::{Partitioning, Plan, Topology};

fn partitioning(graph: Topology, existing: &[(&str, u32)]) -> Partitioning {
    Partitioning::new(&Plan::new("app", graph).unwrap(), &counts(existing)).unwrap()
}

fn partitions(list: &str) -> Vec<TopicPartition> {
    let parse = |name: &str| {
        let (topic, partition) = name.rsplit_once('-').unwrap();
        TopicPartition::new(topic, partition.parse().unwrap())
    };
    list.split_whitespace().map(parse).collect()
}

fn ids(list: &str) -> BTreeSet<TaskId> {
    let parse = |name: &str| {
        let (subtopology, partition) = name.split_once('_').unwrap();
        TaskId { subtopology: subtopology.parse().unwrap(), partition: partition.parse().unwrap() }
    };
    list.split_whitespace().map(parse).collect()
}

/// `a` and `b` joined (0), `c` and `d` merged (1).
fn two_subtopologies() -> Partitioning {
    let graph = Topology::default()
        .source("A", "a")
        .source("B", "b")
        .processor("Join", "A B", "s")
        .store("s")
        .source("C", "c")
        .source("D", "d")
        .processor("Merge", "C D", "");
    partitioning(graph, &[("a", 3), ("b", 3), ("c", 1), ("d", 2)])
}

#[track_caller]
fn check(assigned: &str, expected: &str) {
    let found = match Assignment::of(&two_subtopologies(), &partitions(assigned)) {
        Ok(assignment) => {
            let tasks = assignment.tasks.iter().map(|(id, inputs)| format!("{id}{inputs:?}"));
            tasks.collect::<Vec<_>>().join(" ")
        }
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected);
}

#[test]
fn partitions_become_tasks() {
    check("", "");
    check("a-0 b-0 c-0 d-0", "0_0[0, 1] 1_0[0, 1]");
    check("d-1 b-2 a-2 a-2", "0_2[0, 1] 1_1[1]");
}

#[test]
fn without_state_inputs_may_be_split() {
    check("c-0", "1_0[0]");
    check("d-0", "1_0[1]");
}

#[test]
fn with_state_inputs_must_arrive_together() {
    check(
        "a-0 b-0 b-1",
        "task 0_1 was assigned b-1 but not a-1: let all members of the group use the range assignor and the same topology",
    );
}

#[test]
fn unknown_partitions_are_refused() {
    for (assigned, unknown) in
        [("x-0", "x-0"), ("a-0 b-0 a-3", "a-3"), ("c-1", "c-1"), ("d-4294967295", "d-4294967295")]
    {
        let error = Assignment::of(&two_subtopologies(), &partitions(assigned)).unwrap_err();
        assert_eq!(error, AssignmentError::Unknown(partitions(unknown)[0].clone()));
    }
}

#[test]
fn internal_topics_are_assigned_by_their_full_names() {
    let graph = Topology::default()
        .source("A", "a")
        .sink("K", "A", "r-repartition")
        .source("R", "r-repartition")
        .repartition("r-repartition", None);
    let partitioning = partitioning(graph, &[("a", 2)]);
    let assignment = Assignment::of(&partitioning, &partitions("a-1 app-r-repartition-0")).unwrap();
    assert_eq!(assignment.tasks.into_keys().collect::<BTreeSet<_>>(), ids("0_1 1_0"));
}

#[test]
fn a_change_keeps_closes_and_starts() {
    let of = |assigned| Assignment::of(&two_subtopologies(), &partitions(assigned)).unwrap();
    let change = of("a-1 b-1 a-2 b-2 c-0 d-0").change_from(&of("a-0 b-0 a-1 b-1 d-0 d-1"));
    assert_eq!(change.keep, ids("0_1"));
    assert_eq!(change.close, ids("0_0 1_0 1_1"), "1_0 reads c too now");
    assert_eq!(change.start, ids("0_2 1_0"));
}

#[track_caller]
fn check_spread(tasks: &str, workers: usize, current: &[(&str, usize)], expected: &[(&str, usize)]) {
    let place = |list: &[(&str, usize)]| -> BTreeMap<TaskId, usize> {
        list.iter().flat_map(|&(tasks, worker)| ids(tasks).into_iter().map(move |task| (task, worker))).collect()
    };
    let placed = spread(&ids(tasks), NonZeroUsize::new(workers).unwrap(), &place(current));
    assert_eq!(placed, place(expected));
}

#[test]
fn tasks_are_spread_and_stay() {
    check_spread("", 2, &[], &[]);
    check_spread("0_0 0_1 0_2 0_3", 2, &[], &[("0_0 0_2", 0), ("0_1 0_3", 1)]);
    check_spread("0_0 0_1 0_2", 2, &[("0_0 0_2", 1)], &[("0_0 0_2", 1), ("0_1", 0)]);
    check_spread("0_0 0_1", 2, &[("0_0 0_1", 1), ("0_5", 0)], &[("0_0 0_1", 1)]);
    // A worker that is no longer there loses its tasks.
    check_spread("0_0 0_1", 1, &[("0_0", 3)], &[("0_0 0_1", 0)]);
    // Each worker gets its share of each subtopology.
    check_spread("0_0 1_0 1_1", 2, &[("0_0", 1)], &[("0_0 1_1", 1), ("1_0", 0)]);
    check_spread("0_0 0_1 1_0 1_1", 2, &[("0_0", 0), ("1_0", 1)], &[("0_0 1_1", 0), ("1_0 0_1", 1)]);
}

#[test]
fn whatever_the_group_every_task_runs_once_and_reads_all() {
    let mut ran = 0;
    for seed in 0..1_000 {
        let mut random = Random::new(seed);
        let (graph, existing) = random_graph(&mut random);
        let plan = Plan::new("app", graph).unwrap();
        let Ok(partitioning) = Partitioning::new(&plan, &existing) else { continue };
        ran += 1;
        let members = 1 + below(&mut random, 5);
        let mut runs: BTreeMap<TaskId, usize> = BTreeMap::new();
        let mut read: BTreeSet<(TaskId, usize)> = BTreeSet::new();
        for member in 0..members {
            let assigned = range_assignment(&partitioning, member, members);
            let assignment = Assignment::of(&partitioning, &assigned).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            for (task, inputs) in assignment.tasks {
                *runs.entry(task).or_default() += 1;
                for input in inputs {
                    assert!(read.insert((task, input)), "seed {seed}: {task} reads input {input} twice");
                }
            }
        }
        assert_eq!(runs.keys().copied().collect::<BTreeSet<_>>(), partitioning.tasks().collect(), "seed {seed}");
        for subtopology in partitioning.subtopologies() {
            for (input, topic) in subtopology.inputs.iter().enumerate() {
                for partition in 0..topic.partitions {
                    let id = TaskId { subtopology: subtopology.subtopology, partition };
                    assert!(read.contains(&(id, input)), "seed {seed}: nobody reads {}-{partition}", topic.full_name);
                    assert!(!subtopology.stateful || runs[&id] == 1, "seed {seed}: {id} runs {} times", runs[&id]);
                }
            }
        }
    }
    assert!(ran > 500, "only {ran} graphs fitted their topics");
}

#[test]
fn whatever_changes_the_tasks_at_hand_become_the_assigned() {
    let some = |random: &mut Random| {
        let mut assignment = Assignment::default();
        for _ in 0..random.below(20) {
            let id = TaskId { subtopology: below(random, 3), partition: below(random, 8) };
            assignment.tasks.insert(id, (0..1 + random.below(2)).collect());
        }
        assignment
    };
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let (before, after) = (some(&mut random), some(&mut random));
        let change = after.change_from(&before);
        let mut at_hand = before.tasks.clone();
        at_hand.retain(|id, _| !change.close.contains(id));
        assert_eq!(at_hand.keys().copied().collect::<BTreeSet<_>>(), change.keep, "seed {seed}");
        for id in &change.start {
            assert!(at_hand.insert(*id, after.tasks[id].clone()).is_none(), "seed {seed}: {id} started twice");
        }
        assert_eq!(at_hand, after.tasks, "seed {seed}");
    }
}

#[test]
fn whatever_comes_and_goes_tasks_stay_and_new_ones_even_out() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let workers = NonZeroUsize::new(1 + random.below(6)).unwrap();
        let mut placed = BTreeMap::new();
        for _ in 0..10 {
            let some = |random: &mut Random| TaskId { subtopology: below(random, 3), partition: below(random, 12) };
            let tasks: BTreeSet<TaskId> = (0..random.below(30)).map(|_| some(&mut random)).collect();
            let next = spread(&tasks, workers, &placed);
            assert_eq!(next.keys().copied().collect::<BTreeSet<_>>(), tasks, "seed {seed}");
            let mut load = vec![0_usize; workers.get()];
            let mut new = vec![0_usize; workers.get()];
            for (task, &worker) in &next {
                load[worker] += 1;
                match placed.get(task) {
                    Some(&before) => assert_eq!(before, worker, "seed {seed}: {task} moved"),
                    None => new[worker] += 1,
                }
            }
            let least = load.iter().min().copied().unwrap();
            for (worker, &load) in load.iter().enumerate().filter(|&(worker, _)| new[worker] > 0) {
                assert!(
                    load <= least + 1,
                    "seed {seed}: worker {worker} got a task though it has {load}, another {least}"
                );
            }
            placed = next;
        }
    }
}
