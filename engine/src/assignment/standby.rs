//! Owns which members of the group keep a standby of which task: a copy of its state, kept up from its changelogs.
//! Must not know how members are found out, nor how a standby is kept.
//!
//! Each task ranks the members by a hash of both (*rendezvous*, or *highest random weight*, hashing), and the first of
//! them that do not run it keep its standbys. All members find the same without talking to each other, and when one
//! comes or goes, only standbys move that it had or gets.

use std::collections::BTreeSet;

use crate::record::TaskId;

/// A live member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The same for the same state directory, where that can be: a member that returns under its name keeps the
    /// standbys that its disk has.
    pub name: String,
    /// Those it runs.
    pub tasks: BTreeSet<TaskId>,
}

/// Of these tasks, those of which the member `own` keeps a standby, if each is to have `replicas`.
#[must_use]
pub fn standbys(
    tasks: impl IntoIterator<Item = TaskId>,
    members: &[Member],
    own: &str,
    replicas: usize,
) -> BTreeSet<TaskId> {
    let is_kept = |task: &TaskId| {
        let ranked = members.iter().filter(|member| !member.tasks.contains(task));
        let ranked = ranked.map(|member| (weight(*task, &member.name), &*member.name));
        let mine = ranked.clone().find(|(_, name)| *name == own);
        mine.is_some_and(|mine| ranked.filter(|other| *other > mine).count() < replicas)
    };
    tasks.into_iter().filter(is_kept).collect()
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
