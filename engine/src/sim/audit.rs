//! Owns the invariants: what must hold whenever a commit has written a disk, whenever the group has learnt an offset, and when
//! all is done. Must not know how the core comes by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crate::commit::Guarantee;
use crate::expiry::{Expiry, TimedKeys};
use crate::memory::Memory;
use crate::overlay::parse;
use crate::ports::{CommittedState, Database, Positions, Write};
use crate::record::{Offset, TopicPartition};
use crate::sim::guest::{number, version};
use crate::sim::log::Cluster;

/// Count and timestamp of each key.
type Counts = BTreeMap<Vec<u8>, (u64, i64)>;

/// The value of a record that the module fails on.
pub(crate) const POISON: &[u8] = b"bad";
/// The count, what the flush of a cached count writes downstream, and what some versions of the module have beside: each
/// count that they come to.
pub(crate) const STORES: [&str; 3] = ["count-store", "mirror-store", ADDED_STORE];
pub(crate) const ADDED_STORE: &str = "added-store";
const ADDED: usize = 2;
pub(crate) const OUTPUT: &str = "counts";
/// The key of what the wall clock has the module forward.
const PUNCTUATED: &[u8] = b"punctuated";

/// What kind of world it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) guarantee: Guarantee,
    pub(crate) cached: bool,
    pub(crate) logged: bool,
    /// Of each store.
    pub(crate) persistent: [bool; 3],
    pub(crate) inputs: usize,
    pub(crate) partitions: u32,
    /// The module is called for the wall clock, and forwards something.
    pub(crate) punctuates: bool,
    /// Keys are those of windows, which age.
    pub(crate) windows: bool,
}

/// More than records are late.
const RETENTION_MS: i64 = 50;

#[derive(Debug, Clone)]
pub(crate) struct Audit {
    pub(crate) kind: Kind,
    pub(crate) cluster: Arc<Mutex<Cluster>>,
    /// Of each partition, whether nothing has happened yet that allows counts to be too high under at-least-once.
    pub(crate) exact: Arc<Mutex<Vec<bool>>>,
    pub(crate) violations: Arc<Mutex<Vec<String>>>,
}

impl Kind {
    /// Those that every version of the topology has.
    pub(crate) fn stores(&self) -> &'static [&'static str] {
        if self.cached { &STORES[..2] } else { &STORES[..1] }
    }

    /// Those that any version has, as the disk has them.
    pub(crate) fn all(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.stores().len()).chain([ADDED])
    }

    /// Those of a version, in its order.
    pub(crate) fn of_version(&self, version: u32) -> impl Iterator<Item = usize> + use<> {
        has_added(version).then_some(ADDED).into_iter().chain(0..self.stores().len())
    }

    pub(crate) fn expiry(&self) -> Option<Expiry> {
        self.windows.then_some(Expiry { keys: TimedKeys::Window, retention_ms: RETENTION_MS })
    }
}

fn has_added(version: u32) -> bool {
    version.is_multiple_of(2)
}

pub(crate) fn changelog(store: usize, partition: u32) -> TopicPartition {
    TopicPartition::new(format!("app-{}-changelog", STORES[store]), partition)
}

pub(crate) fn input(index: usize, partition: u32) -> TopicPartition {
    TopicPartition::new(format!("input-{index}"), partition)
}

fn rows(memory: &Memory, store: usize) -> Counts {
    let mut counts = Counts::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        let (timestamp, value) = parse(value).expect("well-formed");
        counts.insert(key.to_vec(), (number(value), timestamp));
        true
    };
    memory.scan(store, (None, None), false, visit).expect("memory does not fail");
    counts
}

impl Audit {
    pub(crate) fn new(kind: Kind) -> Self {
        let exact = Arc::new(Mutex::new(vec![true; kind.partitions as usize]));
        Self { kind, cluster: Arc::default(), exact, violations: Arc::default() }
    }

    fn is_exact(&self, partition: u32) -> bool {
        self.kind.guarantee == Guarantee::ExactlyOnce
            || self.exact.lock().expect("no test panics with it")[partition as usize]
    }

    pub(crate) fn violation(&self, what: String) {
        self.violations.lock().expect("no test panics with it").push(what);
    }

    fn check(&self, good: bool, what: impl FnOnce() -> String) {
        if !good {
            self.violation(what());
        }
    }

    /// What a task has counted that has processed its inputs up to these offsets.
    fn model(&self, cluster: &Cluster, partition: u32, ends: &[i64]) -> Counts {
        let mut counts = Counts::new();
        for (index, &end) in ends.iter().enumerate() {
            for record in cluster.read(&input(index, partition), 0).into_iter().filter(|record| record.offset < end) {
                if record.value.as_deref() != Some(POISON) {
                    let key = record.key.clone().expect("all have keys");
                    let count = counts.entry(key).or_insert((0, i64::MIN));
                    *count = (count.0 + 1, count.1.max(record.timestamp));
                }
            }
        }
        counts
    }

    /// What is in a changelog, or in the part before an offset.
    fn logged(&self, cluster: &Cluster, store: usize, partition: u32, before: Option<Offset>) -> Counts {
        let state = cluster.compacted(&changelog(store, partition), before).into_iter();
        state.map(|(key, (timestamp, value))| (key, (number(&value), timestamp))).collect()
    }

    /// The highest count forwarded of each key.
    fn forwarded(&self, cluster: &Cluster) -> BTreeMap<Vec<u8>, u64> {
        let mut highest = BTreeMap::new();
        let output = TopicPartition::new(OUTPUT, 0);
        let records = cluster.committed_records(&output);
        for record in records.filter(|record| record.key.as_deref() != Some(PUNCTUATED)) {
            let count = record.value.as_deref().map_or(0, number);
            let known = highest.entry(record.key.clone().expect("all have keys")).or_insert(0);
            *known = count.max(*known);
        }
        highest
    }

    /// Equal, or at least as high where something happened that allows it. What is gone by age may still be there.
    fn compare(&self, what: &str, found: &Counts, expected: &Counts, exact: bool) {
        self.compare_at(None, what, found, expected, exact);
    }

    /// The latest time that any of the stores has observed: what is gone from one is not forwarded to the next.
    fn observed(&self, stored: &Positions) -> Option<i64> {
        self.kind.all().filter_map(|store| stored.observed(STORES[store])).max()
    }

    /// The same for a store that has observed a time. If it is not exact, that may be ahead of what it holds.
    fn compare_at(&self, observed: Option<i64>, what: &str, found: &Counts, expected: &Counts, exact: bool) {
        let (found, expected) = (&mut found.clone(), &mut expected.clone());
        if let Some(expiry) = self.kind.expiry() {
            let latest = expiry.latest(found.keys().chain(expected.keys()).map(|key| (key.as_slice(), true)));
            let latest = latest.max(observed.filter(|_| !exact));
            found.retain(|key, _| !expiry.is_over(key, &[], latest));
            expected.retain(|key, _| !expiry.is_over(key, &[], latest));
        }
        let (found, expected) = (&*found, &*expected);
        let high_enough =
            || expected.iter().all(|(key, (count, _))| found.get(key).is_some_and(|(has, _)| has >= count));
        let good = if exact { found == expected } else { high_enough() };
        self.check(good, || format!("{what}: {found:?}, but the input says {expected:?}"));
    }

    /// A disk was written: by a commit or a start, or by a replay.
    pub(crate) fn written(&self, partition: u32, memory: &Memory, commit: bool, changes: bool) {
        let cluster = self.cluster.lock().expect("no test panics with it");
        let stored = memory.positions().expect("memory does not fail");
        if changes && self.kind.logged {
            self.prefix(&cluster, partition, memory, &stored);
        }
        if commit {
            self.agrees(&cluster, partition, memory, &stored, changes);
        }
    }

    /// A commit holds the work of one version of the module. What is on disk already is written again by a repair.
    pub(crate) fn of_one_version(&self, write: &Write<'_>, memory: &Memory) {
        let is_new = |store: usize, key: &[u8], new: &[u8]| {
            let mut known = false;
            memory.get(store, &[key], &mut |_, old| known = old == new).expect("memory does not fail");
            !known
        };
        let changed = write.entries.iter().filter_map(|&(store, key, value)| Some((store, key, value?)));
        let values =
            changed.filter(|&(store, key, value)| is_new(store, key, value)).filter_map(|(.., value)| parse(value));
        let versions: BTreeSet<u32> = values.filter_map(|(_, value)| version(value)).collect();
        self.check(versions.len() <= 1, || format!("a commit holds the work of versions {versions:?}"));
    }

    /// Each store is what its changelog says up to its position, whoever brought it there.
    fn prefix(&self, cluster: &Cluster, partition: u32, memory: &Memory, stored: &Positions) {
        for store in self.kind.all() {
            let name = STORES[store];
            let position = stored.changelogs.iter().find(|(known, _)| known == name).map(|&(_, offset)| offset);
            if let Some(position) = position {
                let (mut logged, mut rows) =
                    (self.logged(cluster, store, partition, Some(position)), rows(memory, store));
                // Who reads a key late finds its later record only.
                for key in cluster.compacted_away(&changelog(store, partition), position) {
                    logged.remove(&key);
                    rows.remove(&key);
                }
                let observed = stored.observed(name);
                if let Some(expiry) = self.kind.expiry() {
                    logged.retain(|key, _| !expiry.is_over(key, &[], observed));
                    rows.retain(|key, _| !expiry.is_over(key, &[], observed));
                }
                self.compare("a store is its changelog up to its position", &rows, &logged, true);
                if let Some(expiry) = self.kind.expiry() {
                    let latest = expiry.latest(logged.keys().map(|key| (key.as_slice(), true)));
                    self.check(observed >= latest, || {
                        format!("a store has observed {observed:?}, but {latest:?} is in its changelog")
                    });
                }
            }
        }
    }

    /// The state is that at the input positions.
    fn agrees(&self, cluster: &Cluster, partition: u32, memory: &Memory, stored: &Positions, changes: bool) {
        let offset = |index| stored.inputs.iter().find(|(at, _)| *at == input(index, partition)).map_or(0, |at| at.1.0);
        let ends: Vec<i64> = (0..self.kind.inputs).map(offset).collect();
        let model = self.model(cluster, partition, &ends);
        for store in 0..self.kind.stores().len() {
            let rows = rows(memory, store);
            // Who starts without knowing that others have the task by now has read what they have committed since. It
            // can't commit, and when it has the task again, what is committed is beyond its inputs.
            let knows = changes || self.kind.guarantee == Guarantee::AtLeastOnce;
            let observed = self.observed(stored);
            let exact = knows && self.is_exact(partition);
            self.compare_at(observed, "the disk holds a whole commit", &rows, &model, exact);
            // A disk that counted twice may start before its first commit has repaired the changelog.
            if self.kind.logged && (changes || self.is_exact(partition)) {
                let logged = self.logged(cluster, store, partition, None);
                let exact = changes && self.kind.guarantee == Guarantee::ExactlyOnce;
                self.compare("what is on disk is in the changelog", &logged, &rows, exact);
            }
        }
        if self.kind.guarantee == Guarantee::ExactlyOnce {
            for (index, &end) in ends.iter().enumerate() {
                let committed = cluster.decided(&input(index, partition));
                self.check(committed >= end, || format!("input {index} is on disk to {end}, committed to {committed}"));
            }
        }
    }

    /// The group has learnt offsets.
    pub(crate) fn offsets_committed(&self) {
        let cluster = self.cluster.lock().expect("no test panics with it");
        let forwarded = self.forwarded(&cluster);
        for partition in 0..self.kind.partitions {
            let ends: Vec<i64> = (0..self.kind.inputs).map(|index| cluster.decided(&input(index, partition))).collect();
            let model = self.model(&cluster, partition, &ends);
            for store in (0..self.kind.stores().len()).filter(|_| self.kind.logged) {
                let logged = self.logged(&cluster, store, partition, None);
                let exact = self.kind.guarantee == Guarantee::ExactlyOnce;
                // What another instance has left in one changelog may have made old what the next one lacks.
                let all = (0..self.kind.stores().len()).flat_map(|store| self.logged(&cluster, store, partition, None));
                let all: Vec<Vec<u8>> = all.map(|(key, _)| key).collect();
                let latest =
                    self.kind.expiry().and_then(|expiry| expiry.latest(all.iter().map(|key| (key.as_slice(), true))));
                self.compare_at(latest, "what is committed is in the changelog", &logged, &model, exact);
            }
            for (key, (count, _)) in &model {
                let known = forwarded.get(key).copied().unwrap_or(0);
                self.check(known >= *count, || format!("{key:?}: {count} is committed, but only {known} is forwarded"));
                if self.kind.guarantee == Guarantee::ExactlyOnce {
                    self.outputs(&cluster, partition, key, *count);
                }
            }
        }
    }

    /// All input is processed and committed, by a task with or without the added store.
    pub(crate) fn finished(&self, partition: u32, memory: &Memory, has_added: bool) {
        let cluster = self.cluster.lock().expect("no test panics with it");
        let ends: Vec<i64> = (0..self.kind.inputs).map(|index| cluster.stable_end(&input(index, partition))).collect();
        let model = self.model(&cluster, partition, &ends);
        let positions = memory.positions().expect("memory does not fail");
        let stored = &positions.inputs;
        for (index, &end) in ends.iter().enumerate().filter(|&(_, &end)| end > 0) {
            let all = stored.contains(&(input(index, partition), Offset(end)));
            self.check(all, || format!("input {index} ends at {end}, but only {stored:?} is stored"));
        }
        for store in 0..self.kind.stores().len() {
            let rows = rows(memory, store);
            let observed = self.observed(&positions);
            self.compare_at(observed, "at the end the disk holds all", &rows, &model, self.is_exact(partition));
            if self.kind.logged {
                let logged = self.logged(&cluster, store, partition, None);
                self.compare("at the end the changelog is the state", &logged, &rows, true);
            }
        }
        for (key, (count, _)) in &model {
            self.outputs(&cluster, partition, key, *count);
        }
        if self.kind.logged {
            let logged = self.logged(&cluster, ADDED, partition, None);
            if has_added {
                self.compare("at the end the changelog is what was added", &logged, &rows(memory, ADDED), true);
            }
            if self.kind.guarantee == Guarantee::ExactlyOnce {
                self.added(&cluster, &logged, model.keys());
            }
        }
    }

    /// The added store has the last count of each key that a version with that store came to.
    fn added<'a>(&self, cluster: &Cluster, logged: &Counts, keys: impl Iterator<Item = &'a Vec<u8>>) {
        let output = TopicPartition::new(OUTPUT, 0);
        for key in keys {
            let own = cluster.committed_records(&output).filter(|record| record.key.as_deref() == Some(&**key));
            let values = own.filter_map(|record| record.value.as_deref());
            let last = values.filter(|value| version(value).is_some_and(has_added)).map(number).max();
            let found = logged.get(key).map(|(count, _)| *count);
            self.check(found == last, || format!("the added store has {found:?} of {key:?}, but it came to {last:?}"));
        }
    }

    /// A standby that has read all there is.
    pub(crate) fn followed(&self, partition: u32, memory: &Memory, has_added: bool) {
        let cluster = self.cluster.lock().expect("no test panics with it");
        for store in self.kind.all().filter(|store| *store != ADDED || has_added) {
            let logged = self.logged(&cluster, store, partition, None);
            self.compare("at the end a standby is the changelog", &rows(memory, store), &logged, true);
        }
    }

    /// Each count was forwarded, under exactly-once once and in order.
    fn outputs(&self, cluster: &Cluster, partition: u32, key: &[u8], count: u64) {
        let output = TopicPartition::new(OUTPUT, 0);
        let own = cluster.committed_records(&output).filter(|record| record.key.as_deref() == Some(key));
        let counts: Vec<u64> = own.map(|record| record.value.as_deref().map_or(0, number)).collect();
        let good = match (self.kind.guarantee, self.kind.cached) {
            (Guarantee::ExactlyOnce, false) => counts.iter().copied().eq(1..=count),
            (Guarantee::ExactlyOnce, true) => {
                counts.windows(2).all(|pair| pair[0] < pair[1]) && counts.last() == Some(&count)
            }
            (Guarantee::AtLeastOnce, false) if self.is_exact(partition) => {
                (1..=count).all(|count| counts.contains(&count))
            }
            (Guarantee::AtLeastOnce, _) => counts.iter().any(|&forwarded| forwarded >= count),
        };
        self.check(good, || format!("{key:?} came {count} times, but {counts:?} was forwarded"));
        if self.kind.guarantee == Guarantee::ExactlyOnce {
            self.meanings(cluster, partition, key);
        }
    }

    /// What a record was counted to is in the changelog by the version of the module that has forwarded it.
    fn meanings(&self, cluster: &Cluster, partition: u32, key: &[u8]) {
        let versions = |partition: &TopicPartition| {
            let own = cluster.committed_records(partition).filter(|record| record.key.as_deref() == Some(key));
            let values = own.filter_map(|record| record.value.as_deref());
            values.map(|value| (number(value), version(value))).collect::<BTreeSet<_>>()
        };
        let forwarded: BTreeMap<u64, Option<u32>> = versions(&TopicPartition::new(OUTPUT, 0)).into_iter().collect();
        for store in (0..self.kind.stores().len()).filter(|_| self.kind.logged) {
            for (count, by) in versions(&changelog(store, partition)) {
                let meant = forwarded.get(&count);
                self.check(meant == Some(&by), || {
                    format!(
                        "count {count} of {key:?} is in store {store} by version {by:?}, and forwarded by {meant:?}"
                    )
                });
            }
        }
    }
}
