//! Owns the joins of tables with tables and of streams with tables: what an update or a record meets on the other side.
//! Must not know how the other side keeps what it has.

use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::keyed::{Keyed, TableStore};
use super::table::{TableState, forward_flushed};
use super::versioned::put_versions;
use super::view::View;
use super::{Logic, typed};
use crate::contract::{Changes, Failure, index};
use crate::rows::{Col, Cut, Data, Rows, Updates};
use crate::run::Run;

/// Joins the value of the left with that of the right table. It is called with what the kind of join says can be missing.
pub(crate) type TableJoiner<V1, V2, R> = Arc<dyn Fn(Option<&V1>, Option<&V2>) -> R + Send + Sync>;

/// From which side a node sees the join: whose updates it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Either side of an inner join.
    Inner,
    /// The left side of a left join.
    Left,
    /// The right side of a left join.
    Right,
    /// Either side of an outer join.
    Outer,
}

/// What updates of one table make of a join. `joiner` gets the value of this table first.
pub(crate) struct JoinTables<K, V, O, R> {
    pub(crate) side: Side,
    pub(crate) other: Arc<dyn View<K, O>>,
    pub(crate) joiner: TableJoiner<V, O, R>,
    pub(crate) state: Arc<TableState>,
}

impl<K: Data, V: Data, O: Data, R: Data> JoinTables<K, V, O, R> {
    /// What a value and the other table's make of the join.
    fn join(&self, value: Option<&V>, other: Option<&O>) -> Option<R> {
        let joins = match self.side {
            Side::Inner | Side::Left => value.is_some(),
            Side::Right => true,
            Side::Outer => value.is_some() || other.is_some(),
        };
        joins.then(|| (self.joiner)(value, other))
    }
}

impl<K: Data, V: Data, O: Data, R: Data> Logic for JoinTables<K, V, O, R> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let updates: &Updates<K, V> = typed(rows);
        let in_order = updates.in_order();
        run.dropped("out of order", in_order.as_ref().map_or(0, |kept| updates.len() - kept.len()));
        let updates = in_order.as_ref().unwrap_or(updates);
        let others = self.other.look_up(&updates.keys, None, &updates.meta, run)?;
        let sends_old = self.state.sends_old();
        let (mut new, mut old, mut timestamps, mut kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut dropped = 0;
        for (row, other) in others.into_iter().enumerate() {
            if updates.keys.is_null(row) {
                dropped += 1;
                continue;
            }
            let (after, before) = (updates.new.get(row), updates.old(row));
            let nothing = match self.side {
                Side::Inner | Side::Right => other.is_none(),
                Side::Left | Side::Outer => other.is_none() && after.is_none() && before.is_none(),
            };
            if nothing {
                continue;
            }
            let (other, theirs) = other.map_or((None, None), |(value, timestamp)| (Some(value), Some(timestamp)));
            let own = updates.meta.timestamps[row];
            new.push(self.join(after, other.as_ref()));
            if sends_old {
                old.push(self.join(before, other.as_ref()));
            }
            timestamps.push(theirs.map_or(own, |theirs| theirs.max(own)));
            kept.push(index(row));
        }
        run.dropped("null key", dropped);
        let kept = Rc::new(kept);
        run.forward(&Updates {
            late: None,
            keys: updates.keys.select(&kept),
            new: Col::new(new),
            old: sends_old.then(|| Col::new(old)),
            meta: updates.meta.select(&kept).with_timestamps(timestamps),
        })
    }
}

/// What comes of both sides, kept in a store or not.
pub(crate) struct MergeJoined<K, R> {
    pub(crate) store: Option<TableStore<K, R>>,
    pub(crate) state: Arc<TableState>,
}

impl<K: Data, R: Data> Logic for MergeJoined<K, R> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let joined: &Updates<K, R> = typed(rows);
        let old = joined.old.clone().filter(|_| self.state.sends_old());
        let (keys, new, meta) = (joined.keys.clone(), joined.new.clone(), joined.meta.clone());
        let late = joined.late.clone().filter(|_| self.store.is_none());
        let updates = Updates { keys, new, old, late, meta };
        if let Some(store) = &self.store {
            if store.is_versioned() {
                let put = put_versions(store, updates, false, run)?;
                return run.forward(&put);
            }
            let mut keyed = Keyed::read(store, &joined.keys, &joined.meta, true, run)?;
            for (row, value) in joined.new.iter().enumerate() {
                keyed.leave(value.cloned(), joined.meta.timestamps[row]);
            }
            keyed.write(&joined.meta, run)?;
            if run.withholds(store.cached) {
                return Ok(());
            }
        }
        run.forward(&updates)
    }

    fn flush(&self, changes: &Changes, run: &mut Run<'_>) -> Result<(), Failure> {
        let forward = |store| forward_flushed(store, &self.state, changes, |_, timestamp| timestamp, run);
        self.store.as_ref().map_or(Ok(()), forward)
    }
}

/// A stream's records with what a table has of their keys. `joiner` answers none where there is nothing to go on with.
pub(crate) struct JoinStreamTable<K, V, O, R, F> {
    pub(crate) table: Arc<dyn View<K, O>>,
    /// Records go on without the table having their key, or without one.
    pub(crate) left: bool,
    pub(crate) joiner: F,
    pub(crate) types: PhantomData<fn() -> (V, R)>,
}

impl<K: Data, V: Data, O: Data, R: Data, F> Logic for JoinStreamTable<K, V, O, R, F>
where
    F: Fn(Option<&K>, &V, Option<&O>) -> R + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let times = self.table.is_versioned().then_some(rows.meta.timestamps.as_slice());
        let seen = self.table.look_up(&rows.keys, times, &rows.meta, run)?;
        let (mut values, mut kept, mut dropped) = (Vec::new(), Vec::new(), 0);
        for (row, seen) in seen.into_iter().enumerate() {
            let (key, value) = (rows.keys.get(row), rows.values.get(row));
            let Some(value) = value.filter(|_| key.is_some() || self.left) else {
                dropped += 1;
                continue;
            };
            if seen.is_some() || self.left {
                values.push(Some((self.joiner)(key, value, seen.as_ref().map(|(other, _)| other))));
                kept.push(index(row));
            }
        }
        run.dropped("null key or value", dropped);
        let kept = Rc::new(kept);
        run.forward(&Rows { keys: rows.keys.select(&kept), values: Col::new(values), meta: rows.meta.select(&kept) })
    }
}
