//! Owns which members of the group keep a standby of which task: a copy of its state, kept up from its changelogs.
//! Must not know how members are found out, nor how a standby is kept.
//!
//! All members come to the same choice without talking to each other:
//!
//! - The first standby of a task is at its **heir**, whom the group would give the task if its owner were gone. That is
//!   known, as the group's assignor is `range`, and it is what a standby is for: at any other member it would be
//!   warm where nobody needs it. (Chosen by hash alone, with three members and one replica every second task
//!   of a lost member came to one that had nothing of it; with six, four of five.)
//! - Further ones are at the members that *rendezvous* (or *highest random weight*) hashing puts first: each task ranks
//!   the members by a hash of both. When a member comes or goes, only those standbys move that it had or gets.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::record::TaskId;
use crate::topology::Partitioning;

/// A live member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its `group.instance.id`, else its member id: that is how `range` orders members, and a member that returns
    /// under its name keeps the standbys that its disk has.
    pub name: String,
    /// Those it runs.
    pub tasks: BTreeSet<TaskId>,
}

/// The tasks of which the member `own` keeps a standby, if each that there can be one of is to have `replicas`.
#[must_use]
pub fn standbys(partitioning: &Partitioning, members: &[Member], own: &str, replicas: usize) -> BTreeSet<TaskId> {
    let mut kept = BTreeSet::new();
    for subtopology in partitioning.subtopologies().iter().filter(|subtopology| subtopology.logged) {
        let is_kept = |task: &TaskId| keepers(*task, subtopology.tasks, members, replicas).contains(&own);
        kept.extend(subtopology.ids().filter(is_kept));
    }
    kept
}

/// Who keeps a standby of a task, which is one of so many of its subtopology.
fn keepers(task: TaskId, tasks: u32, members: &[Member], replicas: usize) -> Vec<&str> {
    let elsewhere = members.iter().filter(|member| !member.tasks.contains(&task));
    let mut names: Vec<&str> = elsewhere.map(|member| &*member.name).collect();
    names.sort_unstable();
    let heir = heir(task.partition, tasks, &names);
    names.sort_by_cached_key(|name| Reverse((Some(*name) == heir, weight(task, name))));
    names.truncate(replicas);
    names
}

/// Whom `range` gives a partition to: it cuts them into one run for each member, the first of which are longer by one
/// if they can't be equal.
fn heir<'a>(partition: u32, partitions: u32, names: &[&'a str]) -> Option<&'a str> {
    let members = u32::try_from(names.len()).ok().filter(|members| *members > 0)?;
    let (each, more) = (partitions / members, partitions % members);
    let in_longer = more * (each + 1);
    let position = if partition < in_longer { partition / (each + 1) } else { more + (partition - in_longer) / each };
    names.get(usize::try_from(position).ok()?).copied()
}

/// FNV-1a, then the finalizer of splitmix64: FNV alone leaves the last bytes of names, which is where they differ,
/// in the low bits.
fn weight(task: TaskId, member: &str) -> u64 {
    let key = format!("{task}/{member}");
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = key.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests;
