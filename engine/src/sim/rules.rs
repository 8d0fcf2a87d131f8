//! Owns the rules by which the simulation runs the core: the right ones, and each with a mistake in it that the audit has to
//! find. Must not know how it would be found.

use crate::commit::{Guarantee, Step};

/// What a host might do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// A standby keeps the input positions that its database has.
    StandbyKeepsInputs,
    /// It takes what is not committed, too.
    StandbyReadsUncommitted,
    /// A restore ends at the last stable offset, without waiting for transactions that have no marker yet.
    RestoreStopsAtStable,
    /// Offsets are taken from the group while a transaction that has added some is not at its end.
    OffsetsAreUnstable,
    /// After a commit that failed the tasks go on where their disks are: it is taken to be aborted.
    FailureMeansAborted,
    /// Tasks are handed over before their former owner has committed.
    HandedOverUncommitted,
    /// A task that closes leaves the transaction to the others.
    ClosedTaskStaysInTransaction,
    /// Another version of the module goes on before what the one before has done is committed.
    SwappedUncommitted,
    /// A store that a version adds is taken to be empty, whatever its changelog has.
    AddedUnasked,
}

#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) steps: Vec<Step>,
    pub(crate) mistake: Option<Mistake>,
}

impl Rules {
    pub(crate) fn of(guarantee: Guarantee) -> Self {
        Self { steps: guarantee.steps().to_vec(), mistake: None }
    }

    pub(crate) fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}
