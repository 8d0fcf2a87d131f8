//! Owns the tables made of other tables value by value: `filter` and `map_values`, with or without a
//! store of their own. Must not know which of them it is.

use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::keyed::{Keyed, TableStore};
use super::table::{TableState, forward_flushed};
use super::versioned::{one_by_one, put_versions};
use super::{Logic, typed};
use crate::contract::{Changes, Failure, index};
use crate::rows::{Col, Cut, Data, Updates};
use crate::run::Run;

/// A table whose values follow from those of its parent.
pub(crate) struct Derive<K, V, R, F> {
    /// What a value becomes; none: the key is not in this table.
    pub(crate) mapper: Arc<F>,
    /// Whether updates of keys that were not there before and are not now are left out.
    pub(crate) skips_absent: bool,
    pub(crate) store: Option<TableStore<K, R>>,
    pub(crate) state: Arc<TableState>,
    pub(crate) types: PhantomData<fn() -> V>,
}

impl<K: Data, V: Data, R: Data, F> Logic for Derive<K, V, R, F>
where
    F: Fn(&K, &V) -> Option<R> + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let updates: &Updates<K, V> = typed(rows);
        match &self.store {
            None => self.forward(updates, run),
            Some(store) if store.is_versioned() => one_by_one(updates, |row| self.put(store, row, run)),
            Some(store) => self.keep(store, updates, run),
        }
    }

    fn flush(&self, changes: &Changes, run: &mut Run<'_>) -> Result<(), Failure> {
        self.store
            .as_ref()
            .map_or(Ok(()), |store| forward_flushed(store, &self.state, changes, |_, timestamp| timestamp, run))
    }
}

impl<K: Data, V: Data, R: Data, F> Derive<K, V, R, F>
where
    F: Fn(&K, &V) -> Option<R> + Send + Sync,
{
    fn map(&self, key: Option<&K>, value: Option<&V>) -> Option<R> {
        (self.mapper)(key?, value?)
    }

    fn forward(&self, updates: &Updates<K, V>, run: &mut Run<'_>) -> Result<(), Failure> {
        let mapped = |values: &Col<V>| {
            updates.keys.iter().zip(values.iter()).map(|(key, value)| self.map(key, value)).collect::<Vec<_>>()
        };
        let new = mapped(&updates.new);
        let sends_old = self.state.sends_old();
        let old = sends_old.then(|| updates.old.as_ref().map_or_else(|| new.iter().map(|_| None).collect(), mapped));
        self.send(updates, new, old, run)
    }

    fn keep(&self, store: &TableStore<K, R>, updates: &Updates<K, V>, run: &mut Run<'_>) -> Result<(), Failure> {
        let sends_old = self.state.sends_old();
        let mut keyed = Keyed::read(store, &updates.keys, &updates.meta, !sends_old, run)?;
        let mut old = Vec::new();
        for (row, (key, value)) in updates.keys.iter().zip(updates.new.iter()).enumerate() {
            let new = self.map(key, value);
            let mut absent = false;
            if sends_old {
                let before = keyed.current(&updates.meta, run)?.map(|(value, _)| value);
                absent = before.is_none() && new.is_none();
                old.push(before);
            }
            if absent && self.skips_absent {
                keyed.leave_alone();
            } else {
                keyed.leave(new, updates.meta.timestamps[row]);
            }
        }
        let (new, _) = keyed.write(&updates.meta, run)?;
        if run.withholds(store.cached) {
            return Ok(());
        }
        self.send(updates, new, sends_old.then_some(old), run)
    }

    /// Puts what one update makes into a versioned store.
    fn put(&self, store: &TableStore<K, R>, updates: &Updates<K, V>, run: &mut Run<'_>) -> Result<(), Failure> {
        let sends_old = self.state.sends_old();
        let keyed = Keyed::read(store, &updates.keys, &updates.meta, !sends_old, run)?;
        let old = if sends_old { keyed.current(&updates.meta, run)?.map(|(value, _)| value) } else { None };
        let new = self.map(updates.keys.get(0), updates.new.get(0));
        if self.skips_absent && sends_old && old.is_none() && new.is_none() {
            return Ok(());
        }
        let (keys, meta) = (updates.keys.clone(), updates.meta.clone());
        let old = sends_old.then(|| Col::new(vec![old]));
        let made = Updates { keys, new: Col::new(vec![new]), old, late: None, meta };
        let put = put_versions(store, made, false, run)?;
        run.forward(&put)
    }

    fn send(
        &self,
        updates: &Updates<K, V>,
        new: Vec<Option<R>>,
        old: Option<Vec<Option<R>>>,
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let kept: Option<Vec<u32>> = match &old {
            Some(old) if self.skips_absent => {
                let there = |row: &usize| new[*row].is_some() || old[*row].is_some();
                Some((0..new.len()).filter(there).map(index).collect())
            }
            _ => None,
        };
        let (keys, meta) = (updates.keys.clone(), updates.meta.clone());
        let late = updates.late.clone().filter(|_| self.store.is_none());
        let sent = Updates { keys, new: Col::new(new), old: old.map(Col::new), late, meta };
        match kept {
            Some(kept) if kept.len() < sent.len() => run.forward(&sent.cut(&Rc::new(kept))),
            _ => run.forward(&sent),
        }
    }
}
