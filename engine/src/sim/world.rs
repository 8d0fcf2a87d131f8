//! Owns a run of the simulation: instances with disks that process, commit, crash, move and come back as chance has it, and
//! that must have done everything right in the end. Must not know the core from inside.

use std::sync::Arc;

use crate::commit::{self, Fate, Guarantee, Step};
use crate::ports::{Database, Error};
use crate::quarantine::{Policies, Policy};
use crate::record::{Batch, Offset, TaskId};
use crate::restore::{Facts, plan};
use crate::sim::Random;
use crate::sim::audit::{Audit, Kind, POISON, changelog, input};
use crate::sim::disk::{Disk, Shared, blank};
use crate::sim::fuse::Fuse;
use crate::sim::guest::{Behaviour, Count};
use crate::sim::log::Producer;
use crate::task::{Chunk, Phase, Settings, Start, StoreSpec, Task, TaskSpec};

const INSTANCES: usize = 3;
/// Enough for every kind of fault to meet every other, few enough for 10,000 runs.
const TURNS: usize = 80;

struct Instance {
    number: usize,
    tasks: Vec<Task>,
    log: Producer,
    fuse: Fuse,
}

pub(crate) struct World {
    kind: Kind,
    audit: Audit,
    random: Random,
    steps: Vec<Step>,
    disks: Vec<Vec<Shared>>,
    running: Option<Instance>,
    /// Lost its tasks and does not know it.
    zombie: Option<Instance>,
    /// The disk whose owner crashed last, until somebody took over.
    crashed: Option<usize>,
    produced: usize,
    /// What happened, if anybody wants to know.
    story: Option<Vec<String>>,
}

/// A record of a changelog or an input as a chunk has it.
fn chunk(records: &[&crate::sim::log::Record]) -> Chunk {
    let mut chunk = Chunk::default();
    for record in records {
        chunk.offsets.push(record.offset);
        chunk.records.push(record.key.as_deref(), record.value.as_deref(), record.timestamp);
    }
    chunk
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let guarantee = if random.once_in(2) { Guarantee::AtLeastOnce } else { Guarantee::ExactlyOnce };
        let logged = guarantee == Guarantee::ExactlyOnce || !random.once_in(4);
        let kind = Kind {
            guarantee,
            cached: random.once_in(2),
            logged,
            persistent: !logged || !random.once_in(4),
            inputs: 1 + random.below(2),
            partitions: 1 + u32::try_from(random.below(2)).expect("small"),
        };
        Self::of_kind(kind, random)
    }

    pub(crate) fn of_kind(kind: Kind, random: Random) -> Self {
        let disks = (0..INSTANCES).map(|_| (0..kind.partitions).map(|_| blank()).collect()).collect();
        Self {
            kind,
            audit: Audit::new(kind),
            random,
            steps: kind.guarantee.steps().to_vec(),
            disks,
            running: None,
            zombie: None,
            crashed: None,
            produced: 0,
            story: None,
        }
    }

    /// A violation comes with all that happened before it.
    pub(crate) fn with_story(mut self) -> Self {
        self.story = Some(Vec::new());
        self
    }

    fn tell(&mut self, event: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(event());
        }
    }

    /// Commits in another order from now on.
    pub(crate) fn with_steps(mut self, steps: &[Step]) -> Self {
        self.steps = steps.to_vec();
        self
    }

    pub(crate) fn guarantee(&self) -> Guarantee {
        self.kind.guarantee
    }

    fn violation(&self) -> Result<(), String> {
        match self.audit.violations.lock().expect("no test panics with it").first() {
            Some(violation) => {
                let story: String = self.story.iter().flatten().flat_map(|event| [event, "\n"]).collect();
                Err(format!("{story}{:?}: {violation}", self.kind))
            }
            None => Ok(()),
        }
    }

    /// Chance rules for a while, then everything gets the time to come right.
    pub(crate) fn run(mut self) -> Result<(), String> {
        for _ in 0..TURNS {
            self.turn();
            self.violation()?;
        }
        self.settle();
        self.violation()
    }

    /// One instance is killed at one moment, and started again.
    pub(crate) fn run_killed_at(mut self, moment: usize, restart_on: usize) -> Result<bool, String> {
        let first = Fuse::burning(moment);
        let mut fuse = first.clone();
        for _ in 0..3 {
            self.produce();
            self.start(0, &fuse);
            self.poll();
            self.commit();
            self.bury();
            if fuse.is_dead() {
                fuse = Fuse::default();
                self.start(restart_on, &fuse);
            }
            self.violation()?;
        }
        self.settle();
        self.violation()?;
        Ok(first.is_dead())
    }

    fn turn(&mut self) {
        let chance = self.random.below(20);
        match chance {
            0..=3 => self.produce(),
            4..=9 => self.poll(),
            10..=12 => self.commit(),
            13 => self.stop(),
            14 => {
                let moments = self.random.below(40);
                if let Some(instance) = &self.running {
                    instance.fuse.light(moments);
                }
            }
            15 => self.lose_a_disk(),
            16 => match self.random.below(3) {
                0 => self.corrupt_a_store(),
                _ => self.compact(),
            },
            17 => self.usurp(),
            18 => self.fail_once(),
            _ => self.start_somewhere(),
        }
        if self.running.is_none() && self.random.once_in(3) {
            self.start_somewhere();
        }
        self.bury();
    }

    fn start_somewhere(&mut self) {
        let other = self.random.below(INSTANCES);
        let number = if self.random.once_in(3) { other } else { self.crashed.unwrap_or(other) };
        // Some don't get through their restore.
        let moments = self.random.below(30);
        let fuse = if self.random.once_in(4) { Fuse::burning(moments) } else { Fuse::default() };
        self.start(number, &fuse);
    }

    /// What is alive finishes its work.
    fn settle(&mut self) {
        if let Some(zombie) = self.zombie.take() {
            drop(zombie);
        }
        for _ in 0..200 {
            self.bury();
            if self.running.as_ref().is_none_or(|instance| instance.fuse.is_dead()) {
                let number = self.crashed.unwrap_or(0);
                self.start(number, &Fuse::default());
            }
            self.poll();
            self.commit();
            if self.is_settled() {
                break;
            }
        }
        let Some(instance) = &self.running else {
            return self.audit.violations.lock().expect("no test panics with it").push("nobody runs".to_owned());
        };
        for (partition, disk) in self.disks[instance.number].iter().enumerate() {
            let partition = u32::try_from(partition).expect("small");
            self.audit.finished(partition, &disk.lock().expect("no test panics with it"));
        }
    }

    fn is_settled(&self) -> bool {
        let cluster = self.audit.cluster.lock().expect("no test panics with it");
        let at_end = |task: &Task| {
            (0..self.kind.inputs).all(|index| {
                let end = cluster.stable_end(&input(index, task.id().partition));
                end == task.position(index).map_or(0, |offset| offset.0)
            })
        };
        self.running.as_ref().is_some_and(|instance| {
            instance.tasks.iter().all(|task| task.phase() == Phase::Running && !task.is_commit_needed() && at_end(task))
        })
    }

    fn produce(&mut self) {
        for _ in 0..=self.random.below(4) {
            let partition = u32::try_from(self.random.below(self.kind.partitions as usize)).expect("small");
            let index = self.random.below(self.kind.inputs);
            let key = format!("{partition}{}", ["a", "b", "c"][self.random.below(3)]);
            let timestamp = i64::try_from(self.random.below(1_000)).expect("small");
            let value = if self.random.once_in(12) { POISON.to_vec() } else { self.produced.to_string().into_bytes() };
            let mut batch = Batch::default();
            batch.push(Some(key.as_bytes()), Some(&value), timestamp);
            self.produced += 1;
            self.audit.cluster.lock().expect("no test panics with it").append(&input(index, partition), &batch);
        }
    }

    fn spec(&self, partition: u32) -> TaskSpec {
        let behaviour = Behaviour { cached: self.kind.cached, ..Behaviour::default() };
        let mut spec = crate::task::tests::spec(self.kind.inputs, &behaviour);
        spec.id = TaskId { subtopology: 0, partition };
        let stores = self.kind.stores().iter().enumerate().map(|(store, name)| StoreSpec {
            name: (*name).to_owned(),
            cached: self.kind.cached && store == 0,
            persistent: self.kind.persistent,
            changelog: Some(changelog(store, partition).topic).filter(|_| self.kind.logged),
        });
        spec.stores = stores.collect();
        spec
    }

    /// The group gives all tasks to an instance, whose former owner must be gone or is fenced.
    fn start(&mut self, number: usize, fuse: &Fuse) {
        if self.running.is_some() {
            return;
        }
        // Unlogged state is nowhere else.
        let number = if self.kind.logged { number } else { 0 };
        if self.crashed.is_some_and(|crashed| crashed != number) {
            self.no_longer_exact();
        }
        self.crashed = None;
        self.zombie.take_if(|zombie| zombie.number == number);
        self.tell(|| format!("instance {number} starts"));
        let generation = self.audit.cluster.lock().expect("no test panics with it").join();
        let mut log = Producer::new(&self.audit.cluster, self.kind.guarantee == Guarantee::ExactlyOnce);
        (log.generation, log.fuse, log.audit) = (generation, fuse.clone(), Some(self.audit.clone()));
        self.running = Some(Instance { number, tasks: Vec::new(), log, fuse: fuse.clone() });
        self.open_tasks();
    }

    /// The tasks of who runs are restored from its disk.
    fn open_tasks(&mut self) {
        let Some(mut instance) = self.running.take() else { return };
        let (number, fuse) = (instance.number, instance.fuse.clone());
        instance.tasks = (0..self.kind.partitions).map(|partition| self.make_task(number, partition, &fuse)).collect();
        for task in &mut instance.tasks {
            match self.restore(task) {
                Ok(()) => {}
                Err(_) if fuse.is_dead() => break,
                Err(error) => panic!("restore: {error}"),
            }
        }
        self.running = Some(instance);
    }

    fn make_task(&mut self, number: usize, partition: u32, fuse: &Fuse) -> Task {
        let slot = &mut self.disks[number][partition as usize];
        if !self.kind.persistent {
            *slot = blank();
        }
        let disk = Disk {
            memory: slot.clone(),
            fuse: fuse.clone(),
            audit: self.audit.clone(),
            partition,
            failing: Some(Random::new(self.random.next())).filter(|_| self.random.once_in(4)),
        };
        let behaviour = Behaviour {
            poison: Some(POISON.to_vec()),
            silent: self.random.once_in(2),
            cached: self.kind.cached,
            ..Behaviour::default()
        };
        let settings = Settings {
            batch_records: 1 + self.random.below(4),
            cache_bytes: [0, 400, 1 << 20][self.random.below(3)],
            policies: Policies { otherwise: Policy::Skip, kinds: Vec::new() },
            ..Settings::default()
        };
        let spec = Arc::new(self.spec(partition));
        Task::new(spec, Arc::new(settings), Box::new(Count::new(behaviour)), Box::new(disk))
    }

    fn restore(&mut self, task: &mut Task) -> Result<(), Error> {
        let stored = task.stored_positions()?;
        let spec = task.spec().clone();
        let (committed, changelogs) = {
            let cluster = self.audit.cluster.lock().expect("no test panics with it");
            let inputs = 0..self.kind.inputs;
            let committed: Vec<_> = inputs.map(|i| cluster.committed(&input(i, spec.id.partition)).cloned()).collect();
            let end = |store| Offset(cluster.stable_end(&changelog(store, spec.id.partition)));
            let bounds = (0..self.kind.stores().len()).map(|store| Some((Offset(0), end(store))));
            let bounds: Vec<_> = bounds.map(|bounds| bounds.filter(|_| self.kind.logged)).collect();
            (committed, bounds)
        };
        let guarantee = self.kind.guarantee;
        let facts = Facts { guarantee, spec: &spec, stored: &stored, committed: &committed, changelogs: &changelogs };
        let plan = plan(&facts);
        self.tell(|| format!("  {}: {stored:?}, committed {committed:?}, so {:?}", spec.id, plan.stores));
        task.restore(&plan)?;
        while let Some((store, changelog, from, to)) = task.replays().into_iter().next() {
            let (records, next) = {
                let cluster = self.audit.cluster.lock().expect("no test panics with it");
                let mut records = cluster.read(&changelog, from.0);
                let to = to.expect("nobody follows");
                records.retain(|record| record.offset < to.0);
                let cut = 1 + self.random.below(2);
                let next = records.get(cut).map_or(to, |record| Offset(record.offset));
                records.truncate(cut);
                (chunk(&records), next)
            };
            task.replay(store, &records, next)?;
        }
        let starts: Vec<Start> =
            plan.starts.iter().map(|start| Start { offset: start.offset.or(Some(Offset(0))), ..*start }).collect();
        task.start(&starts, plan.stream_time, 0)
    }

    /// Fetches and processes some of what there is.
    fn poll(&mut self) {
        let Some(instance) = &mut self.running else { return };
        let zombie = self.zombie.as_mut();
        for instance in std::iter::once(instance).chain(zombie) {
            for task in &mut instance.tasks {
                for index in 0..self.kind.inputs {
                    let cluster = self.audit.cluster.lock().expect("no test panics with it");
                    let from = task.position(index).map_or(0, |offset| offset.0);
                    // Sometimes less than there is, and often again what is buffered already.
                    let mut records = cluster.read(&input(index, task.id().partition), from);
                    let some = 1 + self.random.below(6);
                    records.truncate(some);
                    let chunk = chunk(&records);
                    drop(cluster);
                    if let (Some(story), Some(first)) = (&mut self.story, chunk.offsets.first()) {
                        let (id, count) = (task.id(), chunk.offsets.len());
                        story.push(format!("  {id} gets {count} records of input {index} from {first} on"));
                    }
                    task.add(index, chunk);
                }
                for _ in 0..self.random.below(5) {
                    // What goes wrong here shows later: a dead instance is buried, a fenced one can't commit.
                    if task.process(0, &mut instance.log).is_err() {
                        break;
                    }
                }
            }
        }
    }

    fn commit(&mut self) {
        if let Some(mut zombie) = self.zombie.take() {
            let mut tasks: Vec<&mut Task> = zombie.tasks.iter_mut().collect();
            let committed = commit::run(&self.steps, &mut tasks, &mut zombie.log, self.kind.guarantee);
            let harmless = committed.map_or(true, |done| done.tasks == 0);
            if !harmless {
                let violation = "a zombie has committed".to_owned();
                self.audit.violations.lock().expect("no test panics with it").push(violation);
            }
        }
        let Some(mut instance) = self.running.take() else { return };
        let mut tasks: Vec<&mut Task> = instance.tasks.iter_mut().collect();
        let committed = commit::run(&self.steps, &mut tasks, &mut instance.log, self.kind.guarantee);
        self.tell(|| format!("commit: {committed:?}"));
        let dropped = committed.is_err_and(|failure| failure.fate != Fate::Repeat);
        let alive = !instance.fuse.is_dead();
        self.running = Some(instance);
        if dropped && alive {
            // Nobody else has them: they are opened again, with the same producer.
            self.open_tasks();
        }
    }

    /// Removes who is dead. Part of what it had under way may have arrived.
    fn bury(&mut self) {
        let Some(mut instance) = self.running.take_if(|instance| instance.fuse.is_dead()) else { return };
        let arrived = self.random.below(instance.log.queued() + 1);
        instance.log.write(arrived);
        self.crashed = Some(instance.number);
        self.tell(|| format!("instance {} is dead, {arrived} of its batches arrived after it", instance.number));
        if !self.kind.persistent {
            self.no_longer_exact();
        }
    }

    fn no_longer_exact(&mut self) {
        *self.audit.exact.lock().expect("no test panics with it") = false;
    }

    /// An orderly end.
    fn stop(&mut self) {
        self.commit();
        self.bury();
        let Some(instance) = &mut self.running else { return };
        let clean = instance.tasks.iter_mut().all(|task| {
            let _ = task.suspend();
            !task.is_commit_needed()
        });
        let number = instance.number;
        self.running = None;
        self.tell(|| format!("instance {number} stops, clean: {clean}"));
        if !clean {
            self.crashed = Some(number);
            if !self.kind.persistent {
                self.no_longer_exact();
            }
        }
    }

    fn lose_a_disk(&mut self) {
        let number = self.random.below(INSTANCES);
        let in_use = [&self.running, &self.zombie].into_iter().flatten().any(|instance| instance.number == number);
        if in_use || !self.kind.logged {
            return;
        }
        if self.crashed == Some(number) {
            self.no_longer_exact();
        }
        self.tell(|| format!("the disk of instance {number} is lost"));
        self.disks[number] = (0..self.kind.partitions).map(|_| blank()).collect();
    }

    /// The runtime finds a store unreadable and clears it, with its position.
    fn corrupt_a_store(&mut self) {
        let other = self.random.below(INSTANCES);
        let number = self.crashed.unwrap_or(other);
        let in_use = [&self.running, &self.zombie].into_iter().flatten().any(|instance| instance.number == number);
        if in_use || !self.kind.logged {
            return;
        }
        if self.crashed == Some(number) {
            self.no_longer_exact();
        }
        let partition = self.random.below(self.kind.partitions as usize);
        let store = self.random.below(self.kind.stores().len());
        self.tell(|| format!("store {store} of partition {partition} on instance {number} is corrupt"));
        let mut disk = self.disks[number][partition].lock().expect("no test panics with it");
        disk.forget_inputs().and_then(|()| disk.clear(store)).expect("memory does not fail");
    }

    fn compact(&mut self) {
        self.tell(|| "changelogs are compacted".to_owned());
        let mut cluster = self.audit.cluster.lock().expect("no test panics with it");
        for partition in 0..self.kind.partitions {
            for store in 0..self.kind.stores().len() {
                cluster.compact(&changelog(store, partition));
            }
        }
    }

    /// Another instance gets the tasks while their owner goes on, unaware. Without transactions nothing keeps it from
    /// writing to changelogs; there the owner is taken to be dead.
    fn usurp(&mut self) {
        if self.kind.guarantee == Guarantee::AtLeastOnce || self.zombie.is_some() {
            return;
        }
        let Some(former) = self.running.take() else { return };
        let number = (former.number + 1) % INSTANCES;
        self.zombie = Some(former);
        self.start(number, &Fuse::default());
    }

    fn fail_once(&mut self) {
        let calls = self.random.below(12);
        self.tell(|| format!("the log will fail in {calls} calls"));
        if let Some(instance) = &mut self.running {
            instance.log.fails_in = Some((calls, || Error::Retry("the broker is away".to_owned())));
        }
    }
}
