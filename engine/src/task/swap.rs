//! Owns how a task goes on with another version of its module: at a commit, on the same stores, with what is buffered.
//! Must not know where versions come from.
//!
//! What is committed was made by the version before, what comes after it by the next one: a crash in between finds one
//! or the other, and what was not committed is done anew, as a whole, by the version that then runs. So no record is
//! part of two versions' work, and no commit holds the work of two.
//!
//! A version may bring stores and leave some out. One that comes is taken into the open database if it is new: nobody
//! has ever written to its changelog. That is only known by where the changelog ends while the task is at hand, so it has to
//! be asked ([`Fit::Unknown`]). Else it is restored, with the whole task ([`Fit::Anew`]). A crash in between leaves one store
//! more, which is empty, and which the version before doesn't know.
//!
//! A store that goes loses its position, and is restored from its changelog if it comes back: under at-least-once a plan of
//! what to restore trusts that local stores are what they were at the stored inputs, and those go on without it. (The
//! simulation found it.)

use std::collections::BTreeMap;
use std::sync::Arc;

use super::spec::{InputSpec, StoreSpec, TaskSpec};
use super::{Phase, Task, kinds};
use crate::ports::{Error, Guest, Positions, Write};
use crate::record::{Offset, TopicPartition};
use crate::restore::is_new;

/// A version of the module for one task.
pub struct Successor {
    pub spec: Arc<TaskSpec>,
    pub guest: Box<dyn Guest>,
    /// Of stores that the task does not have, where their changelogs begin and end, as far as that was asked. Asked while
    /// the task is at hand, so that nobody else writes there any more.
    pub changelogs: BTreeMap<TopicPartition, (Offset, Offset)>,
}

/// How a task can go on with another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// Where it is.
    InPlace,
    /// That depends on where these changelogs end.
    Unknown(Vec<TopicPartition>),
    /// Made again, on the state that it has.
    Anew,
}

fn is_added(before: &TaskSpec, store: &StoreSpec) -> bool {
    before.stores.iter().all(|known| known.name != store.name)
}

impl Task {
    /// Whether a version can go on where the task is: on the same stores, with the records that are buffered. Timestamps
    /// that the version before has found are not the next one's, so a task that has them found has to fetch its records
    /// anew; it is made again, as one is of whose stores one is of another kind.
    #[must_use]
    pub fn fit(&self, next: &Successor) -> Fit {
        let Successor { spec, changelogs, .. } = next;
        let as_fetched = spec.inputs.iter().all(|input: &InputSpec| !input.extracts_timestamps);
        if (self.spec.id, &self.spec.inputs) != (spec.id, &spec.inputs) || !as_fetched || !self.keeps_stores(spec) {
            return Fit::Anew;
        }
        let unknown =
            spec.stores.iter().filter(|store| is_added(&self.spec, store)).filter_map(|store| self.changelog(store));
        let unknown: Vec<TopicPartition> = unknown.filter(|changelog| !changelogs.contains_key(changelog)).collect();
        if unknown.is_empty() { Fit::InPlace } else { Fit::Unknown(unknown) }
    }

    /// Those of the stores that both versions have are of the same kind.
    fn keeps_stores(&self, next: &TaskSpec) -> bool {
        next.stores.iter().all(|store| is_added(&self.spec, store) || self.spec.stores.contains(store))
    }

    fn changelog(&self, store: &StoreSpec) -> Option<TopicPartition> {
        Some(TopicPartition::new(store.changelog.clone()?, self.spec.id.partition))
    }

    /// Goes on with another version of the module, right after a commit. Says whether it does: if not, it has to be made
    /// again. If the version's `init` fails, the task goes on with the one that it has.
    pub fn take_over(&mut self, successor: Successor) -> Result<bool, Error> {
        let is_open = matches!(self.phase, Phase::Running | Phase::Suspended);
        if !is_open || self.is_commit_needed() || self.fit(&successor) != Fit::InPlace {
            return Err(Error::Fatal(format!("task {} can't take another version over here", self.id())));
        }
        let Successor { spec, guest, changelogs } = successor;
        if !self.change_stores(&spec, &changelogs)? {
            return Ok(false);
        }
        let before = std::mem::replace(&mut self.guest, guest);
        let partitions = self.context.replace_partitions(Arc::clone(&spec.partition_counts));
        match self.reset_guest() {
            Ok(()) => {
                let stores_go = self.spec.stores != spec.stores;
                self.spec = spec;
                if stores_go { self.put_stores_right().map(|()| true) } else { Ok(true) }
            }
            Err(error) => {
                self.guest = before;
                self.context.replace_partitions(partitions);
                self.put_stores_right()?;
                Err(error)
            }
        }
    }

    /// The same for a standby, which is to follow the changelogs of the next version's stores from then on, by
    /// [`Task::follow`].
    pub fn take_over_following(&mut self, successor: Successor) -> Result<bool, Error> {
        let Successor { spec, guest, .. } = successor;
        if self.phase != Phase::Standby || self.spec.id != spec.id {
            return Err(Error::Fatal(format!("task {} is no standby", self.id())));
        }
        if !self.keeps_stores(&spec) || !self.set_stores(&spec.stores)? {
            return Ok(false);
        }
        self.context.replace_partitions(Arc::clone(&spec.partition_counts));
        (self.spec, self.guest) = (spec, guest);
        Ok(true)
    }

    /// Has the stores of the next version, too, from now on: what goes with the one before is needed if the next one fails.
    /// Says whether it has all there is of those that have come; if not, it has the stores that it had.
    fn change_stores(
        &mut self,
        next: &TaskSpec,
        changelogs: &BTreeMap<TopicPartition, (Offset, Offset)>,
    ) -> Result<bool, Error> {
        if self.spec.stores == next.stores {
            return Ok(true);
        }
        let goes = |store: &&StoreSpec| is_added(next, store);
        let both: Vec<StoreSpec> = next.stores.iter().chain(self.spec.stores.iter().filter(goes)).cloned().collect();
        if !self.set_stores(&both)? {
            return Ok(false);
        }
        let stored = self.stored_positions()?;
        let before = Arc::clone(&self.spec);
        for (index, store) in next.stores.iter().enumerate().filter(|(_, store)| is_added(&before, store)) {
            let Some(bounds) = self.changelog(store).and_then(|changelog| changelogs.get(&changelog).copied()) else {
                // It is what it was when it went, or has never been.
                continue;
            };
            if is_new(&stored, store, bounds) {
                let positions = Positions { changelogs: vec![(store.name.clone(), bounds.1)], ..Positions::default() };
                let database = self.context.overlay().database()?;
                database.clear(index)?;
                database.write(Write { entries: Vec::new(), positions })?;
            } else {
                self.put_stores_right()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has the stores of the version that it goes on with, and no others.
    fn put_stores_right(&mut self) -> Result<(), Error> {
        let spec = Arc::clone(&self.spec);
        if self.set_stores(&spec.stores)? {
            return Ok(());
        }
        Err(Error::Fatal(format!("task {} can't have the stores that it has", self.id())))
    }

    fn set_stores(&mut self, stores: &[StoreSpec]) -> Result<bool, Error> {
        if !self.context.overlay().database()?.set_stores(stores)? {
            return Ok(false);
        }
        self.context.set_stores(&kinds(stores));
        let stored = self.stored_positions()?;
        for (index, store) in stores.iter().enumerate() {
            self.context.overlay().observe(index, stored.observed(&store.name));
        }
        Ok(true)
    }

    /// What must never be. It is here for the simulation, which has to find it.
    #[cfg(test)]
    pub(crate) fn take_over_uncommitted(&mut self, guest: Box<dyn Guest>) {
        self.guest = guest;
        self.reset_guest().expect("it can be used");
    }
}
