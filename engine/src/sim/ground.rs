//! Owns what instances stand on: the cluster, the disks, chance, and the story of what happened. Must not know who runs which
//! task.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::commit::Guarantee;
use crate::context::Clock;
use crate::ports::{Committed, Database};
use crate::quarantine::{Policies, Policy};
use crate::record::{Offset, TaskId, TopicPartition};
use crate::sim::Random;
use crate::sim::audit::{Audit, Kind, POISON, STORES, changelog, input};
use crate::sim::disk::{Disk, Shared, blank, places};
use crate::sim::fuse::Fuse;
use crate::sim::guest::{Behaviour, Count};
use crate::sim::log::{Cluster, Record};
use crate::sim::rules::{Mistake, Rules};
use crate::task::{Chunk, Settings, StoreSpec, Task, TaskSpec};

pub(crate) const INSTANCES: usize = 4;
/// Of the wall clock, if the module is called for that.
const PUNCTUATION_MS: i64 = 10;

pub(crate) struct Ground {
    pub(crate) kind: Kind,
    pub(crate) rules: Rules,
    pub(crate) audit: Audit,
    pub(crate) random: Random,
    /// Of each instance, one for each partition.
    pub(crate) disks: Vec<Vec<Shared>>,
    /// Under at-least-once, of each partition: whose commit has begun and was not completed.
    unclean: Vec<Option<usize>>,
    /// The instance whose exact state has repaired the changelog. That still names the times of what was taken back, so in
    /// a store whose entries age whoever restores from it lets some of them go before the input says so.
    repaired: Vec<Option<usize>>,
    pub(crate) now_ms: i64,
    /// Of the module: what tasks are made of from now on.
    pub(crate) version: u32,
    /// What happened, if anybody wants to know.
    pub(crate) story: Option<Vec<String>>,
}

/// Records of a changelog or an input as a chunk has them.
fn chunk(records: &[&Record]) -> Chunk {
    let mut chunk = Chunk::default();
    for record in records {
        chunk.offsets.push(record.offset);
        chunk.records.push(record.key.as_deref(), record.value.as_deref(), record.timestamp);
    }
    chunk
}

impl Ground {
    pub(crate) fn new(kind: Kind, random: Random) -> Self {
        Self {
            kind,
            rules: Rules::of(kind.guarantee),
            audit: Audit::new(kind),
            random,
            disks: (0..INSTANCES).map(|_| (0..kind.partitions).map(|_| blank(kind)).collect()).collect(),
            unclean: vec![None; kind.partitions as usize],
            repaired: vec![None; kind.partitions as usize],
            now_ms: 0,
            version: 1,
            story: None,
        }
    }

    pub(crate) fn tell(&mut self, event: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(event());
        }
    }

    pub(crate) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.audit.cluster.lock().expect("no test panics with it")
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.kind.guarantee == Guarantee::ExactlyOnce
    }

    /// Of the version of the module that tasks are made of.
    pub(crate) fn spec(&self, partition: u32) -> TaskSpec {
        let behaviour = Behaviour { cached: self.kind.cached, ..Behaviour::default() };
        let mut spec = crate::task::tests::spec(self.kind.inputs, &behaviour);
        spec.id = TaskId { subtopology: 0, partition };
        spec.inputs.iter_mut().for_each(|input| input.partition = partition);
        let stores = self.kind.of_version(self.version).map(|store| StoreSpec {
            name: STORES[store].to_owned(),
            cached: self.kind.cached && store == 0,
            persistent: self.kind.persistent[store],
            changelog: Some(changelog(store, partition).topic).filter(|_| self.kind.logged),
            expiry: self.kind.expiry(),
        });
        spec.stores = stores.collect();
        spec
    }

    /// Of a version of the module.
    pub(crate) fn behaviour(&mut self) -> Behaviour {
        Behaviour {
            poison: Some(POISON.to_vec()),
            silent: self.random.once_in(2),
            cached: self.kind.cached,
            expiry: self.kind.expiry(),
            schedule: Some((Clock::WallClock, PUNCTUATION_MS)).filter(|_| self.kind.punctuates),
            version: Some(self.version),
            ..Behaviour::default()
        }
    }

    /// A task on the disk of an instance. What another one had in memory is gone.
    pub(crate) fn make_task(&mut self, number: usize, partition: u32, fuse: &Fuse) -> Task {
        let slot = &mut self.disks[number][partition as usize];
        if self.kind.all().all(|store| !self.kind.persistent[store]) {
            *slot = blank(self.kind);
        }
        for store in self.kind.all().filter(|&store| !self.kind.persistent[store]) {
            slot.lock().expect("no test panics with it").clear(store).expect("memory does not fail");
        }
        let memory = slot.clone();
        let spec = Arc::new(self.spec(partition));
        let disk = Disk {
            memory,
            stores: places(&spec.stores),
            fuse: fuse.clone(),
            audit: self.audit.clone(),
            partition,
            compaction: Random::new(self.random.next()),
            full: Some(Random::new(self.random.next())).filter(|_| self.random.once_in(4)),
            damaged: Some(Mutex::new(Random::new(self.random.next())))
                .filter(|_| self.kind.logged && self.random.once_in(8)),
        };
        disk.forget_others().expect("memory does not fail");
        let behaviour = self.behaviour();
        let settings = Settings {
            batch_records: 1 + self.random.below(4),
            cache_bytes: [0, 400, 1 << 20][self.random.below(3)],
            policies: Policies { otherwise: Policy::Skip, kinds: Vec::new() },
            ..Settings::default()
        };
        Task::new(spec, Arc::new(settings), Box::new(Count::new(behaviour)), Box::new(disk))
    }

    /// What the group knows of the inputs of a task; `None`: it does not say.
    pub(crate) fn committed(&self, partition: u32) -> Option<Vec<Option<Committed>>> {
        let cluster = self.cluster();
        let inputs = || (0..self.kind.inputs).map(|index| input(index, partition));
        if inputs().any(|input| cluster.is_unstable(&input)) && !self.rules.has(Mistake::OffsetsAreUnstable) {
            return None;
        }
        Some(inputs().map(|input| cluster.committed(&input).cloned()).collect())
    }

    /// Where the changelogs of a task begin and end.
    pub(crate) fn bounds(&self, spec: &TaskSpec) -> Vec<Option<(Offset, Offset)>> {
        let cluster = self.cluster();
        let end = |store| {
            let changelog = changelog(store, spec.id.partition);
            let stable = self.rules.has(Mistake::RestoreStopsAtStable);
            Offset(if stable { cluster.stable_end(&changelog) } else { cluster.end(&changelog) })
        };
        let stores = places(&spec.stores).into_iter();
        stores.map(|store| Some((Offset(0), end(store))).filter(|_| self.kind.logged)).collect()
    }

    /// Some records of a partition, and where their reader stands after them.
    pub(crate) fn fetch(&mut self, partition: &TopicPartition, from: Offset, uncommitted: bool) -> (Chunk, Offset) {
        let some = 1 + self.random.below(4);
        let cluster = self.cluster();
        let (mut records, end) = if uncommitted {
            (cluster.read_uncommitted(partition, from.0), cluster.end(partition))
        } else {
            (cluster.read(partition, from.0), cluster.stable_end(partition))
        };
        // What has an offset and is no record is passed with the record after it, or at the end.
        let next = records.get(some).map_or(end, |record| record.offset).max(from.0);
        records.truncate(some);
        (chunk(&records), Offset(next))
    }

    /// Commits begin of tasks of an instance.
    pub(crate) fn commit_begins(&mut self, number: usize, partitions: &[u32]) {
        for &partition in partitions {
            self.unclean[partition as usize] = Some(number);
        }
    }

    pub(crate) fn commit_is_done(&mut self, partitions: &[u32]) {
        for &partition in partitions {
            self.unclean[partition as usize] = None;
        }
    }

    /// The changelog of a task may have what its input is counted into again; the only state that does not is `number`'s.
    pub(crate) fn is_unclean(&self, partition: u32, number: usize) -> bool {
        self.unclean[partition as usize] == Some(number)
    }

    /// A task is opened by an instance, anew or as it was.
    pub(crate) fn opened(&mut self, number: usize, partition: u32, anew: bool) {
        let in_memory = anew && (0..self.kind.stores().len()).any(|store| !self.kind.persistent[store]);
        if self.kind.windows && self.repaired[partition as usize].is_some_and(|by| by != number || in_memory) {
            self.no_longer_exact(partition);
        }
        let Some(last) = self.unclean[partition as usize] else { return };
        if last != number || in_memory {
            self.no_longer_exact(partition);
        } else {
            self.repaired[partition as usize] = Some(number);
        }
    }

    /// What is on a disk can't be trusted: the task that has it starts from nothing.
    pub(crate) fn set_aside(&mut self, number: usize, partition: u32) {
        self.tell(|| format!("the disk of {number} for {partition} is damaged"));
        self.gone(number, partition);
        self.disks[number][partition as usize] = blank(self.kind);
    }

    /// The state of an instance that was the only exact one is gone, or is no longer known to be exact.
    pub(crate) fn gone(&mut self, number: usize, partition: u32) {
        if self.is_unclean(partition, number) || self.kind.windows && self.repaired[partition as usize] == Some(number)
        {
            self.no_longer_exact(partition);
        }
    }

    fn no_longer_exact(&mut self, partition: u32) {
        self.unclean[partition as usize] = None;
        self.audit.exact.lock().expect("no test panics with it")[partition as usize] = false;
    }
}
