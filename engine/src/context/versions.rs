//! Owns what a module may ask of a versioned store, and do to it. Must not know how versions are kept.

use super::{Context, Entries, Misuse, check_keys};
use crate::ports::StoreIndex;
use crate::record::Column;
use crate::versions::{LATEST, Version};

/// What keys had at some times. A null value: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    pub values: Column,
    pub valid_from: Vec<i64>,
    /// [`LATEST`](crate::versions::LATEST): until further notice.
    pub valid_to: Vec<i64>,
}

impl Context {
    /// The version of each key that was valid at its time, in the order asked.
    pub fn get_as_of(&mut self, store: StoreIndex, keys: &Column, times: &[i64]) -> Result<Versions, Misuse> {
        self.check_versioned(store)?;
        check_keys(keys)?;
        if keys.len() != times.len() {
            return Err(Misuse(format!("{} keys asked for at {} times", keys.len(), times.len())));
        }
        let mut answer = Versions::default();
        let limit = self.limits.answer_bytes;
        let mut full = false;
        let read = self.overlay.get_as_of(store, keys, times, |version| {
            let version = version.filter(|version| version.value.is_some());
            full |= answer.values.bytes.len() + version.and_then(|it| it.value).map_or(0, <[u8]>::len) > limit;
            let version = version.filter(|_| !full);
            answer.values.push(version.and_then(|version| version.value));
            answer.valid_from.push(version.map_or(0, |version| version.valid_from));
            answer.valid_to.push(version.map_or(0, |version| version.valid_to));
        });
        self.answered(read, full)?;
        Ok(answer)
    }

    /// Puts versions in order, and says of each until when it is valid; a null value deletes from its timestamp on.
    pub fn put_versions(&mut self, store: StoreIndex, entries: &Entries) -> Result<Vec<i64>, Misuse> {
        self.check_versioned(store)?;
        self.check_put(store, entries, &[])?;
        if let Some(wrong) = entries.timestamps.iter().find(|&&time| !(0..LATEST).contains(&time)) {
            return Err(Misuse(format!("a version put into {} is valid from {wrong} on", self.stores[store])));
        }
        let put = self.overlay.put_versions(store, entries);
        let (valid_to, put) = put.map_or_else(|error| (Vec::new(), Err(error)), |valid_to| (valid_to, Ok(())));
        self.answered(put, false)?;
        Ok(valid_to)
    }

    /// All versions of a store, for people: nobody asks for them while records are processed.
    pub fn versions(&mut self, store: StoreIndex, visit: impl FnMut(&[u8], Version<'_>)) -> Result<(), Misuse> {
        self.check_versioned(store)?;
        let read = self.overlay.versions(store, visit);
        self.answered(read, false)
    }

    /// Whether a store of the task keeps versions.
    #[must_use]
    pub fn is_versioned(&self, store: StoreIndex) -> bool {
        store < self.stores.len() && self.overlay.is_versioned(store)
    }

    fn check_versioned(&self, store: StoreIndex) -> Result<(), Misuse> {
        self.check_readable(store)?;
        if self.is_versioned(store) { Ok(()) } else { Err(Misuse("the store keeps no versions".to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::context::CallLimits;
    use crate::expiry::{Expiry, TimedKeys};
    use crate::memory::Memory;
    use crate::overlay::StoreKind;

    #[test]
    fn rows_of_versions_are_shown_to_no_module() {
        let expiry = Some(Expiry { keys: TimedKeys::Versions, retention_ms: 10 });
        let stores = [("prices".to_owned(), StoreKind { cached: false, expiry })];
        let limits = CallLimits { state_bytes: 1_000, answer_bytes: 1_000 };
        let database = Box::new(Memory::new(["prices".to_owned()]));
        let mut context = Context::new(database, &stores, Arc::new(BTreeMap::new()), 0, limits);
        let keys: Column = [Some(&b"k"[..])].into_iter().collect();
        let refused =
            [context.scan(0, (None, None), false, 9).unwrap_err(), context.scan_each(0, &keys, &keys, 9).unwrap_err()];
        for Misuse(message) in refused {
            assert_eq!(message, "prices keeps versions, which are read by their keys");
        }
    }
}
