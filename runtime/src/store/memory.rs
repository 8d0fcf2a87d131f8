//! Owns the stores of a task that are kept in memory. Must not know of the ones on disk.

use std::collections::BTreeMap;
use std::ops::Bound;

use millrace_engine::ports::{Positions, StoreIndex, Write};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Default)]
pub(super) struct Memory {
    stores: Vec<Entries>,
    positions: Positions,
}

impl Memory {
    pub(super) fn new(stores: usize) -> Self {
        Self { stores: vec![Entries::new(); stores], positions: Positions::default() }
    }

    pub(super) fn get(&self, store: StoreIndex, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8])) {
        for (index, key) in keys.iter().enumerate() {
            if let Some(value) = self.stores[store].get(*key) {
                found(index, value);
            }
        }
    }

    pub(super) fn scan(
        &self,
        store: StoreIndex,
        (from, to): (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return;
        }
        let bounds = (from.map_or(Bound::Unbounded, Bound::Included), to.map_or(Bound::Unbounded, Bound::Excluded));
        let mut rows = self.stores[store].range::<[u8], _>(bounds);
        let mut next = || if reverse { rows.next_back() } else { rows.next() };
        while let Some((key, value)) = next() {
            if !visit(key, value) {
                return;
            }
        }
    }

    pub(super) fn write(&mut self, Write { entries, positions }: Write<'_>) {
        for (store, key, value) in entries {
            match value {
                Some(value) => self.stores[store].insert(key.to_vec(), value.to_vec()),
                None => self.stores[store].remove(key),
            };
        }
        replace(&mut self.positions.changelogs, positions.changelogs);
        replace(&mut self.positions.inputs, positions.inputs);
        self.positions.stream_time = positions.stream_time.or(self.positions.stream_time);
    }

    pub(super) fn positions(&self) -> &Positions {
        &self.positions
    }

    pub(super) fn clear(&mut self, store: StoreIndex, name: &str) {
        self.stores[store].clear();
        self.positions.changelogs.retain(|(changelog, _)| changelog != name);
    }
}

/// Puts the new pairs in the place of old ones of the same key.
fn replace<K: PartialEq, V>(old: &mut Vec<(K, V)>, new: Vec<(K, V)>) {
    old.retain(|(key, _)| new.iter().all(|(newer, _)| newer != key));
    old.extend(new);
}
