//! Owns how the group moves tasks between instances that are alive. Must not know what a task does.

use crate::sim::fuse::Fuse;
use crate::sim::ground::INSTANCES;
use crate::sim::instance::{Instance, Slot};
use crate::sim::rules::Mistake;
use crate::sim::world::World;
use crate::task::Phase;

impl World {
    /// The group gives each task to one of the members that answer. Who does not answer goes on, as a zombie.
    pub(crate) fn rebalance(&mut self, all_answer: bool) {
        // Without transactions nothing keeps a zombie from writing to changelogs; there all answer or are dead.
        let all_answer = all_answer || !self.ground.is_transactional();
        let mut members = Vec::new();
        for (number, instance) in self.instances.iter().enumerate() {
            if instance.is_some() && (all_answer || !self.ground.random.once_in(4)) {
                members.push(number);
            }
        }
        if members.is_empty() {
            return;
        }
        let owners = self.choose_owners(&members);
        let eager = self.ground.random.once_in(2);
        let cluster = self.ground.cluster().generation;
        self.ground.tell(|| format!("rebalance {cluster}: {members:?}, owners {owners:?}, eager {eager}"));
        let late = self.ground.rules.has(Mistake::HandedOverUncommitted);
        if !late {
            self.revoke(&members, &owners, eager);
        }
        // Who died of that is known to be dead when its session is over: without transactions, too, what it had under way
        // has arrived by then, and is in the changelogs that the next ones read.
        self.bury();
        self.ground.cluster().generation += 1;
        let generation = self.ground.cluster().generation;
        for &number in &members {
            if let Some(instance) = &mut self.instances[number] {
                instance.log.generation = generation;
            }
        }
        self.owners = owners.clone();
        if late {
            members.iter().for_each(|&number| self.take_up(number, &owners, true));
            self.work();
            self.work();
            members.iter().for_each(|&number| self.commit(number));
        }
        members.iter().for_each(|&number| self.take_up(number, &owners, false));
    }

    /// Most tasks stay where they are. Unlogged state is nowhere else than on the first disk.
    fn choose_owners(&mut self, members: &[usize]) -> Vec<Option<usize>> {
        let owners = self.owners.clone().into_iter().map(|owner| {
            let stays = owner.is_some_and(|owner| members.contains(&owner)) && !self.ground.random.once_in(3);
            match owner {
                _ if !self.ground.kind.logged => Some(0),
                Some(owner) if stays => Some(owner),
                _ => Some(members[self.ground.random.below(members.len())]),
            }
        });
        owners.collect()
    }

    /// Members commit and suspend what they had: all of it, or only what goes elsewhere.
    fn revoke(&mut self, members: &[usize], owners: &[Option<usize>], eager: bool) {
        for &number in members {
            let moves = |partition: usize| eager || owners[partition] != Some(number);
            let Some(instance) = &self.instances[number] else { continue };
            if instance.is_zombie(&self.ground) {
                self.with(number, Instance::lose);
                continue;
            }
            let runs = |(partition, slot): (usize, &Slot)| matches!(slot, Slot::Running(_)) && moves(partition);
            if !instance.slots.iter().enumerate().any(runs) {
                continue;
            }
            self.commit(number);
            let Some(instance) = &mut self.instances[number] else { continue };
            for (_, slot) in instance.slots.iter_mut().enumerate().filter(|(partition, _)| moves(*partition)) {
                if let Slot::Running(task) = slot
                    && task.phase() == Phase::Running
                {
                    task.suspend().expect("it runs");
                }
            }
        }
    }

    /// A member makes of its tasks what it was assigned.
    fn take_up(&mut self, number: usize, owners: &[Option<usize>], gains_only: bool) {
        let Some(mut instance) = self.instances[number].take() else { return };
        for (partition, index) in (0..self.ground.kind.partitions).zip(0..) {
            if instance.fuse.is_dead() {
                break;
            }
            let owned = owners[index] == Some(number);
            if gains_only && !owned {
                continue;
            }
            let slot = std::mem::replace(&mut instance.slots[index], Slot::Nothing);
            let kept = match slot {
                Slot::Running(mut task) if owned => {
                    if task.phase() == Phase::Suspended {
                        task.resume().expect("it was running");
                    }
                    Slot::Running(task)
                }
                slot if owned && slot.is_active() => slot,
                Slot::Standby(task) if owned && !self.ground.random.once_in(4) => {
                    Slot::Waiting { task: Some(task), committed: None }
                }
                _ if owned => Slot::waiting(),
                Slot::Standby(task) if !self.ground.random.once_in(4) => Slot::Standby(task),
                slot if self.ground.kind.logged && self.ground.random.once_in(2) => {
                    let task = self.give_up(&mut instance, partition, slot);
                    let task = task.filter(|_| !self.ground.random.once_in(3));
                    instance.follow(&mut self.ground, partition, task);
                    continue;
                }
                slot => {
                    self.give_up(&mut instance, partition, slot);
                    Slot::Nothing
                }
            };
            instance.slots[index] = kept;
        }
        self.instances[number] = Some(instance);
    }

    /// A task that was running here and is not any more, suspended.
    fn give_up(&mut self, instance: &mut Instance, partition: u32, slot: Slot) -> Option<Box<crate::task::Task>> {
        let Slot::Running(mut task) = slot else { return None };
        if !self.ground.is_transactional() {
            // What is still on its way arrives before anybody else has the task.
            instance.log.write(instance.log.queued());
        }
        let number = instance.number;
        self.ground.tell(|| format!("  {number} gives {partition} up"));
        if task.phase() == Phase::Running {
            task.suspend().expect("it runs");
        }
        Some(task)
    }

    /// A process starts. The group knows it by its name, and gives it back what it had if nobody else has that.
    pub(crate) fn start(&mut self, number: usize, fuse: &Fuse) {
        if self.instances[number].is_some() {
            return;
        }
        let mut instance = Instance::start(&mut self.ground, number, fuse);
        for (slot, owner) in instance.slots.iter_mut().zip(&self.owners) {
            if *owner == Some(number) {
                *slot = Slot::waiting();
            }
        }
        self.instances[number] = Some(instance);
        debug_assert!(number < INSTANCES);
    }
}
