//! Standbys of groups as `range` makes them: what must hold in every group.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, keepers, standbys};
use crate::assignment::Assignment;
use crate::record::TaskId;
use crate::topology::chance::range_assignment;
use crate::topology::sample::counts;
use crate::topology::{Partitioning, Plan, Topology};

/// Two subtopologies that keep state, and one that does not.
fn partitioning() -> Partitioning {
    let graph = Topology::default()
        .source("A", "a")
        .source("B", "b")
        .processor("Join", "A B", "s")
        .store("s")
        .source("C", "c")
        .processor("Count", "C", "t")
        .store("t")
        .source("D", "d")
        .processor("Filter", "D", "");
    Partitioning::new(&Plan::new("app", graph).unwrap(), &counts(&[("a", 30), ("b", 30), ("c", 7), ("d", 5)])).unwrap()
}

/// The group of these members, in which each runs what `range` gives it.
fn group(partitioning: &Partitioning, names: &[&str]) -> Vec<Member> {
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    let all = u32::try_from(sorted.len()).unwrap();
    let member = |(position, name): (usize, &&str)| {
        let assigned = range_assignment(partitioning, u32::try_from(position).unwrap(), all);
        let assignment = Assignment::of(partitioning, &assigned).unwrap();
        Member { name: (*name).to_owned(), tasks: assignment.tasks.into_keys().collect() }
    };
    sorted.iter().enumerate().map(member).collect()
}

/// Who keeps a standby of each task that one can be kept of.
fn all_keepers(partitioning: &Partitioning, members: &[Member], replicas: usize) -> BTreeMap<TaskId, BTreeSet<String>> {
    let logged = partitioning.tasks().filter(|task| task.subtopology < 2);
    let mut keepers: BTreeMap<TaskId, BTreeSet<String>> = logged.map(|task| (task, BTreeSet::new())).collect();
    for member in members {
        for task in standbys(partitioning, members, &member.name, replicas) {
            keepers.get_mut(&task).expect("it keeps its state in a changelog").insert(member.name.clone());
        }
    }
    keepers
}

const NAMES: [&str; 6] = ["app-4", "app-0", "app-10", "app-1", "app-3", "app-2"];

#[test]
fn every_task_has_its_standbys_and_none_where_it_runs() {
    let partitioning = partitioning();
    for count in 1..=NAMES.len() {
        let members = group(&partitioning, &NAMES[..count]);
        for replicas in 0..4 {
            for (task, keepers) in all_keepers(&partitioning, &members, replicas) {
                assert_eq!(keepers.len(), replicas.min(count - 1), "{task} of {count} members");
                let owner = members.iter().find(|member| member.tasks.contains(&task)).unwrap();
                assert!(!keepers.contains(&owner.name), "{task} has its standby where it runs");
            }
        }
    }
}

/// Also those that change hands between two members that are still there.
#[test]
fn whatever_a_lost_member_makes_move_is_warm_where_it_goes() {
    let partitioning = partitioning();
    for count in 2..=NAMES.len() {
        let before = group(&partitioning, &NAMES[..count]);
        let keepers = all_keepers(&partitioning, &before, 1);
        for lost in 0..count {
            let left: Vec<&str> =
                before.iter().enumerate().filter(|(at, _)| *at != lost).map(|(_, member)| &*member.name).collect();
            for member in group(&partitioning, &left) {
                let was = before.iter().find(|was| was.name == member.name).unwrap();
                for task in member.tasks.difference(&was.tasks).filter(|task| task.subtopology < 2) {
                    assert!(keepers[task].contains(&member.name), "{task} is cold at {} of {count}", member.name);
                }
            }
        }
    }
}

#[test]
fn further_standbys_move_only_with_the_member_that_had_them() {
    let idle = |name: &&str| Member { name: (*name).to_owned(), tasks: BTreeSet::new() };
    let task = TaskId { subtopology: 0, partition: 0 };
    for number in 0..200 {
        // Of so many tasks that the first one's heir is always the first member.
        let mut members: Vec<Member> = NAMES.iter().map(idle).collect();
        let task = TaskId { subtopology: number, ..task };
        let before: Vec<String> = keepers(task, 600, &members, 3).into_iter().map(str::to_owned).collect();
        assert_eq!(before[0], "app-0");
        let lost = members.remove(2 + usize::try_from(number).unwrap() % 4).name;
        let after = keepers(task, 600, &members, 3);
        let stayed: Vec<&str> = before.iter().map(String::as_str).filter(|name| *name != lost).collect();
        assert_eq!(after[..stayed.len()], stayed, "{task} without {lost}");
    }
}

#[test]
fn standbys_are_spread_evenly() {
    let members: Vec<Member> = (0..5).map(|n| Member { name: format!("app-{n}"), tasks: BTreeSet::new() }).collect();
    let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
    for number in 0..4_000 {
        let task = TaskId { subtopology: number, partition: 0 };
        *kept.entry(keepers(task, 600, &members, 2)[1]).or_default() += 1;
    }
    assert!(kept.len() == 4 && kept.values().all(|kept| (900..1_100).contains(kept)), "{kept:?} of 4000");
}

#[test]
fn who_is_not_in_the_group_keeps_nothing() {
    let partitioning = partitioning();
    let members = group(&partitioning, &["app-0", "app-1"]);
    assert!(standbys(&partitioning, &members, "app-2", 2).is_empty());
}
