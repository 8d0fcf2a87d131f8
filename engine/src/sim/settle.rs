//! Owns the end of a run: nothing happens any more, and all must come right. Must not know what happened before.

use crate::sim::audit::{ADDED_STORE, input};
use crate::sim::fuse::Fuse;
use crate::sim::ground::INSTANCES;
use crate::sim::instance::{Instance, Slot};
use crate::sim::world::World;
use crate::task::Task;

/// In which all must have come right.
const TURNS: usize = 400;

impl World {
    /// What is alive finishes its work.
    pub(crate) fn settle(&mut self) {
        for number in 0..INSTANCES {
            if self.instances[number].as_ref().is_some_and(|instance| instance.is_zombie(&self.ground)) {
                self.with(number, Instance::lose);
            }
        }
        self.start(0, &Fuse::default());
        for turn in 0..TURNS {
            let lost = |owner: &Option<usize>| owner.is_none_or(|owner| self.instances[owner].is_none());
            if turn == 0 || self.owners.iter().any(lost) {
                self.start(0, &Fuse::default());
                self.rebalance(true);
            }
            for number in 0..INSTANCES {
                if self.instances[number].is_none() {
                    self.time_out(number);
                }
            }
            self.ground.now_ms += 1;
            self.ground.cluster().write_all_markers();
            self.work();
            (0..INSTANCES).for_each(|number| self.commit(number));
            self.bury();
            self.ground.cluster().write_all_markers();
            if self.is_settled() {
                break;
            }
        }
        self.audit_the_end();
    }

    fn is_settled(&self) -> bool {
        let cluster = self.ground.cluster();
        let done = |partition: u32| {
            let owner = self.owners[partition as usize].and_then(|owner| self.instances[owner].as_ref());
            let Some(Slot::Running(task)) = owner.map(|owner| &owner.slots[partition as usize]) else { return false };
            !task.is_commit_needed()
                && (0..self.ground.kind.inputs).all(|index| {
                    cluster.end(&input(index, partition)) == task.position(index).map_or(0, |offset| offset.0)
                })
        };
        let follows = |slot: &Slot| match slot {
            Slot::Standby(task) => task.replays().iter().all(|(_, at, next, _)| next.0 >= cluster.end(at)),
            _ => true,
        };
        (0..self.ground.kind.partitions).all(done)
            && self.instances.iter().flatten().flat_map(|instance| &instance.slots).all(follows)
    }

    fn audit_the_end(&self) {
        if !self.is_settled() {
            return self.ground.audit.violation("it does not come to an end".to_owned());
        }
        if !self.ground.cluster().is_stable() {
            self.ground.audit.violation("a transaction is left open".to_owned());
        }
        for instance in self.instances.iter().flatten() {
            for (partition, slot) in (0..self.ground.kind.partitions).zip(&instance.slots) {
                let disk = self.ground.disks[instance.number][partition as usize].lock().expect("no test panics");
                let has_added = |task: &Task| task.spec().stores.iter().any(|store| store.name == ADDED_STORE);
                match slot {
                    Slot::Running(task) => self.ground.audit.finished(partition, &disk, has_added(task)),
                    Slot::Standby(task) => self.ground.audit.followed(partition, &disk, has_added(task)),
                    _ => {}
                }
            }
        }
    }
}
