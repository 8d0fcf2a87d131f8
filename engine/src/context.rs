//! Owns what a module may reach while it is called: the stores of its task, its schedules, the
//! clock. The guest adapter forwards host calls to it; it must not know how they arrive.

use crate::ports::{Error, StoreIndex};
use crate::record::Column;

/// Rows of a store. A null value: no such entry, or delete it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    pub keys: Column,
    pub values: Column,
    pub timestamps: Vec<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    StreamTime,
    WallClock,
}

/// A host call the module was not entitled to make; the adapter turns it into a trap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub String);

/// What a task lends to its instance of the module for the length of a call.
#[derive(Default)]
pub struct Context {}

impl Context {
    /// A store of the running subtopology.
    #[must_use]
    pub fn store(&self, _name: &str) -> Option<StoreIndex> {
        unimplemented!()
    }

    /// The value and timestamp of each key, in the order asked; the keys of the answer are empty.
    pub fn get(&mut self, _store: StoreIndex, _keys: &Column) -> Result<Entries, Misuse> {
        unimplemented!()
    }

    /// Written in order; a null value deletes.
    pub fn put(&mut self, _store: StoreIndex, _entries: &Entries) -> Result<(), Misuse> {
        unimplemented!()
    }

    /// At most `limit` entries of `from <= key < to`.
    pub fn scan(
        &mut self,
        _store: StoreIndex,
        _range: (Option<&[u8]>, Option<&[u8]>),
        _reverse: bool,
        _limit: u32,
    ) -> Result<Entries, Misuse> {
        unimplemented!()
    }

    pub fn schedule(&mut self, _interval_ms: i64, _clock: Clock, _anchor: Option<i64>) -> Result<u32, Misuse> {
        unimplemented!()
    }

    pub fn cancel(&mut self, _schedule: u32) {
        unimplemented!()
    }

    pub fn request_commit(&mut self) {
        unimplemented!()
    }

    #[must_use]
    pub fn wall_clock_ms(&self) -> i64 {
        unimplemented!()
    }

    #[must_use]
    pub fn partition_count(&self, _topic: &str) -> Option<u32> {
        unimplemented!()
    }

    pub fn dropped(&mut self, _node: &str, _reason: &str, _count: u32) {
        unimplemented!()
    }

    /// The failure of the database behind a [`Misuse`], if that is what it was: it says more than
    /// the trap that followed, and must be looked at first.
    pub fn take_failure(&mut self) -> Option<Error> {
        unimplemented!()
    }
}
