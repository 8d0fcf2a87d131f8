//! Owns one instance: its tasks, running, restoring or following, and its producer. Must not know who else has tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::commit::{self, Fate, Guarantee};
use crate::ports::{Committed, Database, Error, Positions, Write};
use crate::record::{Offset, TopicPartition};
use crate::restore::{Facts, Plan, Replay, plan};
use crate::sim::audit::input;
use crate::sim::fuse::Fuse;
use crate::sim::ground::Ground;
use crate::sim::guest::{Behaviour, Count};
use crate::sim::log::Producer;
use crate::sim::rules::Mistake;
use crate::task::{Fit, Phase, Start, Successor, Task};

/// What an instance has of a partition.
pub(crate) enum Slot {
    Nothing,
    /// It is to run, as soon as the group says where its inputs go on. It was a standby if there is a task.
    Waiting {
        task: Option<Box<Task>>,
        committed: Option<Vec<Option<Committed>>>,
    },
    Restoring {
        task: Box<Task>,
        plan: Plan,
    },
    /// It runs, or is suspended.
    Running(Box<Task>),
    Standby(Box<Task>),
}

impl Slot {
    pub(crate) fn waiting() -> Self {
        Self::Waiting { task: None, committed: None }
    }

    /// Whether the instance takes itself for its owner.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Restoring { .. } | Self::Running(_))
    }
}

pub(crate) struct Instance {
    pub(crate) number: usize,
    /// One for each partition.
    pub(crate) slots: Vec<Slot>,
    pub(crate) log: Producer,
    pub(crate) fuse: Fuse,
}

impl Instance {
    pub(crate) fn start(ground: &mut Ground, number: usize, fuse: &Fuse) -> Self {
        ground.tell(|| format!("instance {number} starts"));
        let generation = ground.cluster().generation;
        let slots = (0..ground.kind.partitions).map(|_| Slot::Nothing).collect();
        Self { number, slots, log: producer(ground, number, generation, fuse), fuse: fuse.clone() }
    }

    /// The group has given its tasks to others, and it does not know.
    pub(crate) fn is_zombie(&self, ground: &Ground) -> bool {
        self.log.generation != ground.cluster().generation
    }

    pub(crate) fn tasks(&mut self) -> impl Iterator<Item = &mut Task> {
        self.slots.iter_mut().filter_map(|slot| match slot {
            Slot::Running(task) => Some(&mut **task),
            _ => None,
        })
    }

    /// Each task does some of what it has to do.
    pub(crate) fn work(&mut self, ground: &mut Ground) {
        let mut broken = false;
        for (partition, index) in (0..ground.kind.partitions).zip(0..) {
            let slot = std::mem::replace(&mut self.slots[index], Slot::Nothing);
            match self.step(ground, partition, slot) {
                Ok(slot) => self.slots[index] = slot,
                Err(_) if self.fuse.is_dead() => return,
                Err(Error::Fenced(_)) => {
                    self.slots[index] = Slot::waiting();
                    broken = true;
                }
                Err(Error::Corrupt(_)) => {
                    ground.set_aside(self.number, partition);
                    self.slots[index] = Slot::waiting();
                }
                Err(error) => panic!("instance {} can't go on: {error}", self.number),
            }
        }
        if ground.random.once_in(3) {
            let some = ground.random.below(self.log.queued() + 1);
            self.log.write(some);
        }
        if broken {
            self.recover(ground);
        }
    }

    fn step(&mut self, ground: &mut Ground, partition: u32, slot: Slot) -> Result<Slot, Error> {
        match slot {
            Slot::Nothing => Ok(Slot::Nothing),
            Slot::Waiting { task, committed: None } => match ground.committed(partition) {
                Some(committed) if ground.random.once_in(2) => self.open(ground, partition, task, &committed),
                committed => Ok(Slot::Waiting { task, committed }),
            },
            Slot::Waiting { task, committed: Some(committed) } => self.open(ground, partition, task, &committed),
            Slot::Restoring { mut task, plan } => {
                for _ in 0..=ground.random.below(3) {
                    replay(&mut task, ground, false)?;
                }
                if task.replays().is_empty() {
                    let start = |start: &Start| Start { offset: start.offset.or(Some(Offset(0))), ..*start };
                    let starts: Vec<Start> = plan.starts.iter().map(start).collect();
                    task.start(&starts, plan.stream_time, ground.now_ms)?;
                    return Ok(Slot::Running(task));
                }
                Ok(Slot::Restoring { task, plan })
            }
            Slot::Running(mut task) => {
                if task.phase() == Phase::Running
                    && let Err(Error::Corrupt(_)) = self.process(ground, &mut task)
                {
                    ground.set_aside(self.number, partition);
                }
                match task.phase() {
                    Phase::Closed if self.fuse.is_dead() => Ok(Slot::Nothing),
                    Phase::Closed => Err(Error::Fenced("a task is closed".to_owned())),
                    _ => Ok(Slot::Running(task)),
                }
            }
            Slot::Standby(mut task) => {
                replay(&mut task, ground, ground.rules.has(Mistake::StandbyReadsUncommitted))?;
                Ok(Slot::Standby(task))
            }
        }
    }

    /// A task begins its restore: one that is made for it, or a standby that is promoted.
    fn open(
        &mut self,
        ground: &mut Ground,
        partition: u32,
        task: Option<Box<Task>>,
        committed: &[Option<Committed>],
    ) -> Result<Slot, Error> {
        ground.opened(self.number, partition, task.is_none());
        let mut task = match task {
            Some(task) => task,
            None => Box::new(ground.make_task(self.number, partition, &self.fuse)),
        };
        let stored = task.stored_positions()?;
        let (guarantee, spec) = (ground.kind.guarantee, task.spec().clone());
        let changelogs = ground.bounds(&spec);
        let plan = plan(&Facts { guarantee, spec: &spec, stored: &stored, committed, changelogs: &changelogs });
        ground.tell(|| {
            let (number, id, was) = (self.number, spec.id, task.phase());
            format!("  {number} opens {id}, {was:?}: {stored:?}, committed {committed:?}, so {:?}", plan.stores)
        });
        if plan.stores.iter().any(|replay| matches!(replay, Replay::Range { from, to, rebuild: true } if from < to)) {
            ground.gone(self.number, partition);
        }
        task.restore(&plan)?;
        Ok(Slot::Restoring { task, plan })
    }

    /// What goes wrong here, but for damage, shows later: a dead instance is buried, a fenced one can't commit.
    fn process(&mut self, ground: &mut Ground, task: &mut Task) -> Result<(), Error> {
        for index in 0..ground.kind.inputs {
            let from = task.position(index).unwrap_or(Offset(0));
            // Sometimes less than there is, and often again what is buffered already.
            let (chunk, _) = ground.fetch(&task.partition(index), from, false);
            let (number, id) = (self.number, task.id());
            if !chunk.offsets.is_empty() {
                ground.tell(|| format!("  {number} gets for {id} of input {index}: {:?}", chunk.offsets));
            }
            task.add(index, chunk);
        }
        task.punctuate(ground.now_ms, &mut self.log)?;
        for _ in 0..ground.random.below(5) {
            task.process(ground.now_ms, &mut self.log)?;
        }
        if ground.rules.has(Mistake::SwappedUncommitted) && ground.random.once_in(4) {
            ground.version += 1;
            task.take_over_uncommitted(Box::new(Count::new(ground.behaviour())));
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self, ground: &mut Ground) {
        let zombie = self.is_zombie(ground);
        let guarantee = ground.kind.guarantee;
        let needed = self.tasks().filter(|task| task.is_commit_needed()).map(|task| task.id().partition);
        let needed: Vec<u32> = needed.collect();
        ground.commit_begins(self.number, &needed);
        let steps = ground.rules.steps.clone();
        let mut tasks: Vec<&mut Task> = self.slots.iter_mut().filter_map(running).collect();
        let committed = commit::run(&steps, &mut tasks, &mut self.log, guarantee);
        let number = self.number;
        ground.tell(|| format!("{number} commits {needed:?}: {committed:?}"));
        match committed {
            Ok(done) => {
                if zombie && done.tasks > 0 {
                    ground.audit.violation(format!("instance {number} is a zombie and has committed"));
                }
                ground.commit_is_done(&needed);
                if ground.random.once_in(4) {
                    self.swap(ground);
                }
            }
            Err(failure) if failure.fate == Fate::Repeat => {}
            Err(_) if self.fuse.is_dead() => {}
            Err(failure) => {
                if let (Error::Corrupt(_), Some(id)) = (failure.error, failure.task) {
                    ground.set_aside(number, id.partition);
                }
                self.recover(ground);
            }
        }
    }

    /// Some tasks go on with the version of the module that is active, or with one that becomes active now: those whose
    /// `init` works, until a crash. Others have it later, or when they are made again.
    fn swap(&mut self, ground: &mut Ground) {
        let number = self.number;
        match ground.random.below(4) {
            0 | 1 => ground.version += 1,
            2 => ground.version -= ground.version.min(1),
            _ => {}
        }
        for slot in &mut self.slots {
            let (Slot::Running(task) | Slot::Standby(task)) = slot else { continue };
            if task.phase() == Phase::Closed || ground.random.once_in(3) {
                continue;
            }
            if self.fuse.before().is_err() {
                return;
            }
            let init_fails = ground.random.once_in(3);
            let swapped = take_over(task, ground, init_fails);
            let version = ground.version;
            ground.tell(|| format!("  {number} swaps version {version} in for {}: {swapped:?}", task.id()));
            match swapped {
                Ok(true) => {}
                // There is more of a store than is here.
                Ok(false) => *slot = Slot::waiting(),
                Err(_) if self.fuse.is_dead() => return,
                Err(error) => assert!(init_fails, "{error}"),
            }
        }
    }

    /// Tasks were dropped. Under exactly-once all are, because they share the transaction, and the producer is made anew.
    pub(crate) fn recover(&mut self, ground: &mut Ground) {
        if self.is_zombie(ground) {
            return self.lose(ground);
        }
        let number = self.number;
        ground.tell(|| format!("instance {number} starts its tasks again"));
        let all = ground.is_transactional() && !ground.rules.has(Mistake::ClosedTaskStaysInTransaction);
        for partition in 0..self.slots.len() {
            let dropped = match &self.slots[partition] {
                Slot::Running(task) => all || task.phase() == Phase::Closed,
                _ => false,
            };
            if dropped {
                let committed = self.stored_as_committed(ground, partition);
                self.slots[partition] = Slot::Waiting { task: None, committed };
            }
        }
        if all {
            self.log = producer(ground, number, self.log.generation, &self.fuse);
        } else {
            // What a task has sent is on its way, and arrives before a database is opened and the end of a changelog asked for.
            self.log.write(self.log.queued());
        }
    }

    /// The mistake of going on where the disk is.
    fn stored_as_committed(&self, ground: &Ground, partition: usize) -> Option<Vec<Option<Committed>>> {
        if !ground.rules.has(Mistake::FailureMeansAborted) {
            return None;
        }
        let disk = ground.disks[self.number][partition].lock().expect("no test panics with it");
        let stored = disk.positions().expect("memory does not fail").inputs;
        let at = u32::try_from(partition).expect("small");
        let known =
            |index: usize| stored.iter().find(|(known, _)| *known == input(index, at)).map(|&(_, offset)| offset);
        let committed = |index| known(index).map(|offset| Committed { offset, metadata: String::new() });
        Some((0..ground.kind.inputs).map(committed).collect())
    }

    /// The group has taken everything away: it is dropped uncommitted.
    pub(crate) fn lose(&mut self, ground: &mut Ground) {
        let number = self.number;
        ground.tell(|| format!("instance {number} has lost its tasks"));
        for slot in self.slots.iter_mut().filter(|slot| slot.is_active()) {
            *slot = Slot::Nothing;
        }
        if ground.is_transactional() {
            self.log = producer(ground, number, self.log.generation, &self.fuse);
        } else {
            // What is still on its way arrives before anybody else has the tasks.
            self.log.write(self.log.queued());
        }
    }

    /// Follows a partition from now on, with the task that it had.
    pub(crate) fn follow(&mut self, ground: &mut Ground, partition: u32, task: Option<Box<Task>>) {
        ground.gone(self.number, partition);
        let (number, demoted) = (self.number, task.is_some());
        ground.tell(|| format!("  {number} follows {partition}, demoted: {demoted}"));
        let mut task = task.unwrap_or_else(|| Box::new(ground.make_task(number, partition, &self.fuse)));
        let disk = ground.disks[number][partition as usize].clone();
        let inputs = disk.lock().expect("no test panics with it").positions().expect("memory does not fail").inputs;
        let followed = task.follow(&ground.bounds(task.spec()));
        if ground.rules.has(Mistake::StandbyKeepsInputs) {
            let positions = Positions { inputs, ..Positions::default() };
            let write = Write { entries: Vec::new(), positions };
            disk.lock().expect("no test panics with it").write(write).expect("memory does not fail");
        }
        match followed {
            Ok(()) => self.slots[partition as usize] = Slot::Standby(task),
            Err(_) if self.fuse.is_dead() => {}
            Err(error) => panic!("follow: {error}"),
        }
    }
}

/// Has a task go on with the version that is active, or a standby follow for it.
fn take_over(task: &mut Task, ground: &mut Ground, init_fails: bool) -> Result<bool, Error> {
    let spec = Arc::new(ground.spec(task.id().partition));
    let follows = task.phase() == Phase::Standby;
    let guest = Box::new(Count::new(Behaviour { init_fails: init_fails && !follows, ..ground.behaviour() }));
    let mut successor = Successor { spec, guest, changelogs: BTreeMap::new() };
    if follows {
        let taken = task.take_over_following(successor)?;
        task.follow(&ground.bounds(task.spec()))?;
        return Ok(taken);
    }
    if let Fit::Unknown(changelogs) = task.fit(&successor) {
        let unasked = ground.rules.has(Mistake::AddedUnasked);
        let end = |at: &TopicPartition| Offset(if unasked { 0 } else { ground.cluster().end(at) });
        successor.changelogs = changelogs.into_iter().map(|at| (at.clone(), (Offset(0), end(&at)))).collect();
    }
    task.take_over(successor)
}

fn producer(ground: &Ground, number: usize, generation: u64, fuse: &Fuse) -> Producer {
    let mut log = Producer::new(&ground.audit.cluster, ground.kind.guarantee == Guarantee::ExactlyOnce).with_id(number);
    (log.generation, log.fuse, log.audit) = (generation, fuse.clone(), Some(ground.audit.clone()));
    log
}

fn running(slot: &mut Slot) -> Option<&mut Task> {
    match slot {
        Slot::Running(task) => Some(task),
        _ => None,
    }
}

/// Takes some of what a task lacks.
fn replay(task: &mut Task, ground: &mut Ground, uncommitted: bool) -> Result<(), Error> {
    for (store, changelog, from, _) in task.replays() {
        if ground.random.once_in(4) {
            continue;
        }
        let (records, next) = ground.fetch(&changelog, from, uncommitted);
        task.replay(store, &records, next)?;
    }
    Ok(())
}
