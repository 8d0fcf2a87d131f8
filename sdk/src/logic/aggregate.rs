//! Owns `count`, `reduce` and `aggregate` of a grouped stream. Must not know where the updates go.

use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::keyed::{Keyed, TableStore};
use super::table::{TableState, forward_flushed};
use super::versioned::{one_by_one, put_versions};
use super::{Logic, typed};
use crate::contract::{Changes, Failure, index};
use crate::rows::{Col, Cut, Data, Rows, Updates};
use crate::run::Run;

/// What a value does to the aggregate of its key. Neither key nor value is null.
pub(crate) trait Step<K, V, A>: Send + Sync {
    fn step(&self, rows: &Rows<K, V>, row: usize, aggregate: Option<A>) -> Option<A>;

    /// Whether the value does not matter to it, so that it can be null.
    fn takes_null(&self) -> bool {
        false
    }
}

/// Counts, without looking at what.
pub(crate) struct Count;

impl<K, V> Step<K, V, i64> for Count {
    fn step(&self, _rows: &Rows<K, V>, _row: usize, count: Option<i64>) -> Option<i64> {
        count.map(|count| count.wrapping_add(1))
    }

    fn takes_null(&self) -> bool {
        true
    }
}

/// A user's function.
pub(crate) struct Fold<F>(pub(crate) F);

impl<K: Data, V: Data, A, F> Step<K, V, A> for Fold<F>
where
    F: Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync,
{
    fn step(&self, rows: &Rows<K, V>, row: usize, aggregate: Option<A>) -> Option<A> {
        (self.0)(rows.keys.get(row)?, rows.values.get(row)?, aggregate)
    }
}

/// Folds the values of a key into an aggregate. `start` gives the one a key begins with; `step`
/// gets the value and the aggregate so far. A null aggregate deletes the entry.
pub(crate) struct Aggregate<K, V, A, I, S> {
    pub(crate) store: TableStore<K, A>,
    pub(crate) state: Arc<TableState>,
    pub(crate) start: I,
    pub(crate) step: S,
    pub(crate) types: PhantomData<fn() -> V>,
}

impl<K: Data, V: Data, A: Data, I, S> Logic for Aggregate<K, V, A, I, S>
where
    I: Fn() -> Option<A> + Send + Sync,
    S: Step<K, V, A>,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        if !rows.keys.has_nulls() && !rows.values.has_nulls() {
            return self.fold(rows, run);
        }
        let whole = |row: &usize| !rows.keys.is_null(*row) && !rows.values.is_null(*row);
        let kept: Vec<u32> = (0..rows.len()).filter(whole).map(index).collect();
        run.dropped("null key or value", rows.len() - kept.len());
        if kept.is_empty() { Ok(()) } else { self.fold(&rows.cut(&Rc::new(kept)), run) }
    }

    fn flush(&self, changes: &Changes, run: &mut Run<'_>) -> Result<(), Failure> {
        forward_flushed(&self.store, &self.state, changes, |_, timestamp| timestamp, run)
    }
}

impl<K: Data, V: Data, A: Data, I, S> Aggregate<K, V, A, I, S>
where
    I: Fn() -> Option<A> + Send + Sync,
    S: Step<K, V, A>,
{
    /// Folds rows without null keys, and sends on the updates.
    pub(super) fn fold(&self, rows: &Rows<K, V>, run: &mut Run<'_>) -> Result<(), Failure> {
        if self.store.is_versioned() {
            return one_by_one(rows, |row| {
                let updates = self.update(row, |_| {}, run)?;
                run.forward(&updates)
            });
        }
        let updates = self.update(rows, |_| {}, run)?;
        if run.withholds(self.store.cached) { Ok(()) } else { run.forward(&updates) }
    }

    /// Folds rows without null keys. `written` is told the keys as they are stored.
    pub(super) fn update(
        &self,
        rows: &Rows<K, V>,
        written: impl FnMut(&[u8]),
        run: &mut Run<'_>,
    ) -> Result<Updates<K, A>, Failure> {
        let sends_old = self.state.sends_old();
        let mut keyed = Keyed::read(&self.store, &rows.keys, &rows.meta, false, run)?;
        let mut old = Vec::with_capacity(if sends_old { rows.len() } else { 0 });
        for row in 0..rows.len() {
            let time = rows.meta.timestamps[row];
            // As Kafka Streams has it, the first update of a key names the initial aggregate as the old value.
            let (before, time) = match keyed.current(&rows.meta, run)? {
                Some((aggregate, stored)) => (Some(aggregate), time.max(stored)),
                None => ((self.start)(), time),
            };
            if sends_old {
                old.push(before.clone());
            }
            keyed.leave(self.step.step(rows, row, before), time);
        }
        keyed.keys().for_each(written);
        let updates = |(new, timestamps)| Updates {
            keys: rows.keys.clone(),
            new: Col::new(new),
            old: sends_old.then(|| Col::new(old)),
            late: None,
            meta: rows.meta.with_timestamps(timestamps),
        };
        if self.store.is_versioned() {
            return put_versions(&self.store, updates(keyed.left()), false, run);
        }
        Ok(updates(keyed.write(&rows.meta, run)?))
    }
}
