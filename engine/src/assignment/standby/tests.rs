//! Standbys of groups made by chance: what must hold of them in every group.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, standbys};
use crate::record::TaskId;
use crate::sim::Random;
use crate::topology::chance::below;

const TASKS: u32 = 60;

fn tasks() -> impl Iterator<Item = TaskId> + Clone {
    (0..TASKS).map(|n| TaskId { subtopology: n % 3, partition: n / 3 })
}

/// Members with these names, each task at one of them.
fn group(names: &[&str], random: &mut Random) -> Vec<Member> {
    let mut members: Vec<Member> =
        names.iter().map(|name| Member { name: (*name).to_owned(), tasks: BTreeSet::new() }).collect();
    for task in tasks() {
        let owner = random.below(members.len());
        members[owner].tasks.insert(task);
    }
    members
}

/// Who keeps a standby of each task.
fn keepers(members: &[Member], replicas: usize) -> BTreeMap<TaskId, BTreeSet<String>> {
    let mut keepers: BTreeMap<TaskId, BTreeSet<String>> = tasks().map(|task| (task, BTreeSet::new())).collect();
    for member in members {
        for task in standbys(tasks(), members, &member.name, replicas) {
            keepers.entry(task).or_default().insert(member.name.clone());
        }
    }
    keepers
}

#[test]
fn every_task_has_its_standbys_and_none_where_it_runs() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let names: Vec<String> = (0..1 + below(&mut random, 6)).map(|n| format!("app-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let replicas = random.below(4);
        let members = group(&names, &mut random);
        for (task, keepers) in keepers(&members, replicas) {
            assert_eq!(keepers.len(), replicas.min(members.len() - 1), "seed {seed}: {task}");
            let owner = members.iter().find(|member| member.tasks.contains(&task)).unwrap();
            assert!(!keepers.contains(&owner.name), "seed {seed}: {task} has its standby where it runs");
        }
    }
}

#[test]
fn only_standbys_of_a_lost_member_move() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut members = group(&["app-0", "app-1", "app-2", "app-3", "app-4"], &mut random);
        // One that runs nothing: what it ran would have to go somewhere, and change where standbys may be.
        let lost = random.below(members.len());
        let tasks_of_it = std::mem::take(&mut members[lost].tasks);
        members[(lost + 1) % 5].tasks.extend(tasks_of_it);
        let before = keepers(&members, 2);
        let name = members.remove(lost).name;
        let after = keepers(&members, 2);
        for (task, before) in before {
            let stayed: BTreeSet<_> = before.iter().filter(|keeper| **keeper != name).cloned().collect();
            assert!(
                after[&task].is_superset(&stayed),
                "seed {seed}: {task} was at {before:?}, is at {:?}",
                after[&task]
            );
            assert!(before.contains(&name) || after[&task] == before, "seed {seed}: {task} moved for nothing");
        }
    }
}

#[test]
fn whoever_takes_a_task_over_leaves_its_other_standbys_where_they_are() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut members = group(&["app-0", "app-1", "app-2", "app-3"], &mut random);
        let before = keepers(&members, 2);
        let dead = members.remove(random.below(4));
        for &task in &dead.tasks {
            // As the best of failovers would have it.
            let heir = before[&task].iter().next().unwrap();
            members.iter_mut().find(|member| member.name == *heir).unwrap().tasks.insert(task);
        }
        let after = keepers(&members, 2);
        for task in dead.tasks {
            let heir = members.iter().find(|member| member.tasks.contains(&task)).unwrap();
            let rest: BTreeSet<_> = before[&task].iter().filter(|keeper| **keeper != heir.name).cloned().collect();
            assert!(after[&task].is_superset(&rest), "seed {seed}: {task}");
        }
    }
}

#[test]
fn standbys_are_spread_evenly() {
    let members: Vec<Member> = (0..4).map(|n| Member { name: format!("app-{n}"), tasks: BTreeSet::new() }).collect();
    for member in &members {
        let many = (0..4_000).map(|partition| TaskId { subtopology: 0, partition });
        let kept = standbys(many, &members, &member.name, 1).len();
        assert!((900..1_100).contains(&kept), "{} keeps {kept} of 4000", member.name);
    }
}

#[test]
fn who_is_not_in_the_group_keeps_nothing() {
    let members = [Member { name: "app-0".to_owned(), tasks: BTreeSet::new() }];
    assert!(standbys(tasks(), &members, "app-1", 1).is_empty());
    assert_eq!(standbys(tasks(), &members, "app-0", 1).len(), TASKS as usize);
}
