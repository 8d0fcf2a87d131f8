//! Owns how a task goes on with another version of its module: at a commit, on the same stores, with what is buffered.
//! Must not know where versions come from.
//!
//! What is committed was made by the version before, what comes after it by the next one: a crash in between finds one
//! or the other, and what was not committed is done anew, as a whole, by the version that then runs. So no record is
//! part of two versions' work, and no commit holds the work of two.

use std::sync::Arc;

use super::spec::{InputSpec, TaskSpec};
use super::{Phase, Task};
use crate::ports::{Error, Guest};

/// A version of the module for one task.
pub struct Successor {
    pub spec: Arc<TaskSpec>,
    pub guest: Box<dyn Guest>,
}

impl Task {
    /// Whether a version with this spec can go on where the task is: on the same stores, with the records that are
    /// buffered. Timestamps that the version before has found are not the next one's, so a task that has them found
    /// has to fetch its records anew; it is made again, as one is whose stores differ.
    #[must_use]
    pub fn takes(&self, next: &TaskSpec) -> bool {
        let as_fetched = |input: &InputSpec| !input.extracts_timestamps;
        let same = (self.spec.id, &self.spec.inputs, &self.spec.stores) == (next.id, &next.inputs, &next.stores);
        same && next.inputs.iter().all(as_fetched)
    }

    /// Goes on with another version of the module, right after a commit. If its `init` fails, the task goes on with the
    /// version that it has.
    pub fn take_over(&mut self, successor: Successor) -> Result<(), Error> {
        let Successor { spec, guest } = successor;
        let is_open = matches!(self.phase, Phase::Running | Phase::Suspended);
        if !is_open || self.is_commit_needed() || !self.takes(&spec) {
            return Err(Error::Fatal(format!("task {} can't take another version over here", self.id())));
        }
        let before = std::mem::replace(&mut self.guest, guest);
        let partitions = self.context.replace_partitions(Arc::clone(&spec.partition_counts));
        match self.reset_guest() {
            Ok(()) => {
                self.spec = spec;
                Ok(())
            }
            Err(error) => {
                self.guest = before;
                self.context.replace_partitions(partitions);
                Err(error)
            }
        }
    }
    /// What must never be. It is here for the simulation, which has to find it.
    #[cfg(test)]
    pub(crate) fn take_over_uncommitted(&mut self, guest: Box<dyn Guest>) {
        self.guest = guest;
        self.reset_guest().expect("it can be used");
    }
}
