//! Owns a run of the simulation: instances with disks that process, commit, crash, move and come back as chance has it, and
//! that must have done everything right in the end. Must not know the core from inside.

use crate::commit::{Guarantee, Step};
use crate::record::Batch;
use crate::sim::Random;
use crate::sim::audit::{Kind, POISON, input};
use crate::sim::fuse::Fuse;
use crate::sim::ground::{Ground, INSTANCES};
use crate::sim::instance::{Instance, Slot};
use crate::sim::rules::Mistake;

/// Enough for every kind of fault to meet every other, few enough for 10,000 runs.
const TURNS: usize = 80;

pub(crate) struct World {
    pub(crate) ground: Ground,
    /// Processes, by the number of their disk and their transactional id.
    pub(crate) instances: Vec<Option<Instance>>,
    /// Of each partition, whom the group has given it to.
    pub(crate) owners: Vec<Option<usize>>,
    produced: usize,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let guarantee = if random.once_in(2) { Guarantee::AtLeastOnce } else { Guarantee::ExactlyOnce };
        let logged = guarantee == Guarantee::ExactlyOnce || !random.once_in(4);
        let windows = random.once_in(3);
        let kind = Kind {
            guarantee,
            cached: random.once_in(2),
            logged,
            persistent: [(); 3].map(|()| !logged || !random.once_in(4)),
            // With two of them a record may be late by any time.
            inputs: if windows { 1 } else { 1 + random.below(2) },
            partitions: 1 + u32::try_from(random.below(3)).expect("small"),
            punctuates: random.once_in(4),
            windows,
        };
        Self::of_kind(kind, random)
    }

    pub(crate) fn of_kind(kind: Kind, random: Random) -> Self {
        Self {
            ground: Ground::new(kind, random),
            instances: (0..INSTANCES).map(|_| None).collect(),
            owners: vec![None; kind.partitions as usize],
            produced: 0,
        }
    }

    /// A violation comes with all that happened before it.
    pub(crate) fn with_story(mut self) -> Self {
        self.ground.story = Some(Vec::new());
        self
    }

    /// Commits in another order from now on.
    pub(crate) fn with_steps(mut self, steps: &[Step]) -> Self {
        self.ground.rules.steps = steps.to_vec();
        self
    }

    pub(crate) fn with_mistake(mut self, mistake: Mistake) -> Self {
        self.ground.rules.mistake = Some(mistake);
        self
    }

    pub(crate) fn guarantee(&self) -> Guarantee {
        self.ground.kind.guarantee
    }

    fn violation(&self) -> Result<(), String> {
        match self.ground.audit.violations.lock().expect("no test panics with it").first() {
            Some(violation) => {
                let story: String = self.ground.story.iter().flatten().flat_map(|event| [event, "\n"]).collect();
                Err(format!("{story}{:?}: {violation}", self.ground.kind))
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

    /// One instance is killed at one moment, while it runs the tasks (0) or follows them (1). Then the tasks go on where they
    /// were or with the other one.
    pub(crate) fn run_killed_at(mut self, moment: usize, killed: usize, on: usize) -> Result<bool, String> {
        let fuse = Fuse::burning(moment);
        let fuses = [0, 1].map(|number| if number == killed { fuse.clone() } else { Fuse::default() });
        self.owners.fill(Some(0));
        for _ in 0..3 {
            for number in [0, 1] {
                let fuse = if fuses[number].is_dead() { Fuse::default() } else { fuses[number].clone() };
                self.start(number, &fuse);
            }
            self.follow_everywhere(1);
            for _ in 0..4 {
                self.produce();
                self.work();
                self.commit(0);
                self.bury();
            }
            if fuse.is_dead() && on == 1 {
                self.rebalance(true);
            }
            self.ground.cluster().write_all_markers();
            self.violation()?;
        }
        self.settle();
        self.violation()?;
        Ok(fuse.is_dead())
    }

    fn follow_everywhere(&mut self, number: usize) {
        for partition in 0..self.ground.kind.partitions {
            self.with(number, |instance, ground| {
                if matches!(instance.slots[partition as usize], Slot::Nothing) {
                    instance.follow(ground, partition, None);
                }
            });
        }
    }

    /// Something of or with an instance, if it is alive.
    pub(crate) fn with(&mut self, number: usize, act: impl FnOnce(&mut Instance, &mut Ground)) {
        if let Some(instance) = &mut self.instances[number]
            && !instance.fuse.is_dead()
        {
            act(instance, &mut self.ground);
        }
    }

    fn turn(&mut self) {
        let number = self.ground.random.below(INSTANCES);
        match self.ground.random.below(24) {
            0..=3 => self.produce(),
            4..=9 => self.work(),
            10..=13 => (0..INSTANCES).for_each(|number| self.commit(number)),
            14 => self.commit(number),
            15 => self.stop(number),
            16 => {
                let moments = self.ground.random.below(60);
                self.with(number, |instance, _| instance.fuse.light(moments));
            }
            17 => match self.ground.random.below(4) {
                0 => self.lose_a_disk(number),
                1 => self.corrupt_a_store(number),
                _ => self.compact(),
            },
            18 => self.time_out(number),
            19 => self.fail_once(number),
            20..=21 => self.rebalance(false),
            22 if self.ground.random.once_in(3) => self.with(number, Instance::lose),
            _ => self.start_somewhere(number),
        }
        self.brokers_go_on();
        self.bury();
    }

    /// What does not wait for anybody.
    fn brokers_go_on(&mut self) {
        self.ground.now_ms += 1;
        let random = &mut self.ground.random;
        let (markers, late) = (random.below(4), random.once_in(8));
        let audit = self.ground.audit.clone();
        let mut cluster = audit.cluster.lock().expect("no test panics with it");
        for _ in 0..markers {
            cluster.write_a_marker(&mut self.ground.random);
        }
        if late {
            let late = cluster.receive_late();
            drop(cluster);
            if late > 0 {
                self.ground.tell(|| format!("{late} transactions of the dead are committed"));
                audit.offsets_committed();
            }
        }
    }

    fn produce(&mut self) {
        let random = &mut self.ground.random;
        let kind = self.ground.kind;
        for _ in 0..=random.below(4) {
            let partition = u32::try_from(random.below(kind.partitions as usize)).expect("small");
            let index = random.below(kind.inputs);
            let key = format!("{partition}{}", ["a", "b", "c"][random.below(3)]);
            let timestamp = i64::try_from(random.below(1_000)).expect("small");
            let start = i64::try_from((self.produced * 2).saturating_sub(random.below(20))).expect("small");
            let mut key = key.into_bytes();
            if kind.windows {
                key.extend(start.to_be_bytes().iter().chain(&[0; 4]));
            }
            let value = if random.once_in(12) { POISON.to_vec() } else { self.produced.to_string().into_bytes() };
            let mut batch = Batch::default();
            batch.push(Some(&key), Some(&value), timestamp);
            self.produced += 1;
            self.ground.audit.cluster.lock().expect("no test panics with it").append(&input(index, partition), &batch);
        }
    }

    pub(crate) fn work(&mut self) {
        (0..INSTANCES).for_each(|number| self.with(number, Instance::work));
    }

    pub(crate) fn commit(&mut self, number: usize) {
        self.with(number, Instance::commit);
    }

    fn start_somewhere(&mut self, number: usize) {
        // Some don't get through their restore.
        let moments = self.ground.random.below(30);
        let fuse = if self.ground.random.once_in(4) { Fuse::burning(moments) } else { Fuse::default() };
        let number = if self.ground.kind.logged { number } else { 0 };
        self.start(number, &fuse);
        if self.owners.contains(&None) {
            self.rebalance(false);
        }
    }

    /// An orderly end.
    fn stop(&mut self, number: usize) {
        self.commit(number);
        self.bury();
        if let Some(mut instance) = self.instances[number].take() {
            if self.ground.is_transactional() {
                let _ = crate::ports::Log::abort(&mut instance.log);
            } else {
                instance.log.write(instance.log.queued());
            }
            self.ground.tell(|| format!("instance {number} stops"));
        }
    }

    /// Removes who is dead. Part of what it had under way may have arrived.
    pub(crate) fn bury(&mut self) {
        for number in 0..INSTANCES {
            let Some(mut instance) = self.instances[number].take_if(|instance| instance.fuse.is_dead()) else {
                continue;
            };
            let arrived = self.ground.random.below(instance.log.queued() + 1);
            instance.log.write(arrived);
            self.ground.tell(|| format!("instance {number} is dead, {arrived} of its batches arrived after it"));
        }
    }
}
