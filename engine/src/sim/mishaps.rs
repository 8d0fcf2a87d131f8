//! Owns what befalls disks, brokers and producers from outside. Must not know what comes of it.

use crate::ports::{Database, Error};
use crate::sim::audit::changelog;
use crate::sim::disk::blank;
use crate::sim::world::World;

impl World {
    pub(crate) fn lose_a_disk(&mut self, number: usize) {
        if self.instances[number].is_some() || !self.ground.kind.logged {
            return;
        }
        self.ground.tell(|| format!("the disk of instance {number} is lost"));
        for partition in 0..self.ground.kind.partitions {
            self.ground.gone(number, partition);
            self.ground.disks[number][partition as usize] = blank(self.ground.kind);
        }
    }

    /// The runtime finds a store unreadable and clears it, with its position.
    pub(crate) fn corrupt_a_store(&mut self, number: usize) {
        if self.instances[number].is_some() || !self.ground.kind.logged {
            return;
        }
        let partition = self.ground.random.below(self.ground.kind.partitions as usize);
        let stores: Vec<usize> = self.ground.kind.all().collect();
        let store = stores[self.ground.random.below(stores.len())];
        self.ground.tell(|| format!("store {store} of partition {partition} on instance {number} is corrupt"));
        self.ground.gone(number, u32::try_from(partition).expect("small"));
        let mut disk = self.ground.disks[number][partition].lock().expect("no test panics with it");
        disk.forget_inputs().and_then(|()| disk.clear(store)).expect("memory does not fail");
    }

    pub(crate) fn compact(&mut self) {
        self.ground.tell(|| "changelogs are compacted".to_owned());
        for partition in 0..self.ground.kind.partitions {
            for store in self.ground.kind.all() {
                self.ground.cluster().compact(&changelog(store, partition));
            }
        }
    }

    /// A transaction has taken too long, be its producer alive or not.
    pub(crate) fn time_out(&mut self, number: usize) {
        if self.ground.cluster().time_out(number) {
            self.ground.tell(|| format!("the transaction of instance {number} has timed out"));
        }
    }

    pub(crate) fn fail_once(&mut self, number: usize) {
        let (calls, answer) = (self.ground.random.below(12), self.ground.random.once_in(2));
        self.ground.tell(|| format!("the log of {number} will fail in {calls} calls, after the effect: {answer}"));
        self.with(number, |instance, _| {
            if answer {
                instance.log.loses_answer_in = Some(calls / 3);
            } else {
                instance.log.fails_in = Some((calls, || Error::Retry("the broker is away".to_owned())));
            }
        });
    }
}
