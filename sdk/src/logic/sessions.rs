//! Owns aggregation in sessions: which of them a record joins to one. Must not know how aggregates are kept.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use super::aggregate::Step;
use super::closing::{Closes, Waiting};
use super::keyed::TableStore;
use super::table::{TableState, forward_flushed};
use super::timed::{Emitted, Found, Timed};
use super::{Logic, typed};
use crate::contract::{Changes, Failure};
use crate::rows::{Cut, Data, Meta, Rows};
use crate::run::Run;
use crate::serdes::SharedSerde;
use crate::windows::{SessionWindows, Window, Windowed};

/// `count`, `reduce` and `aggregate` in sessions. `merge` makes one aggregate of two, the first of which has none yet
/// where `start` says so.
pub(crate) struct AggregateSessions<K, V, A, I, S, M> {
    pub(crate) windows: SessionWindows,
    pub(crate) inner: SharedSerde<K>,
    pub(crate) store: TableStore<Windowed<K>, A>,
    pub(crate) state: Arc<TableState>,
    pub(crate) start: I,
    pub(crate) step: S,
    pub(crate) merge: M,
    /// Results go on when their sessions are closed, and not before.
    pub(crate) closes: Option<Closes>,
    pub(crate) types: PhantomData<fn() -> V>,
}

/// What the stored form of a key has behind it: 8-byte end, 8-byte start.
const SUFFIX: usize = 16;

impl<K: Data, V: Data, A: Data, I, S, M> Logic for AggregateSessions<K, V, A, I, S, M>
where
    I: Fn() -> Option<A> + Send + Sync,
    S: Step<K, V, A>,
    M: Fn(&K, Option<A>, A) -> Option<A> + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        // As Kafka Streams has it, updates of sessions carry no headers, unless they come out of a cache.
        let meta = Meta { headers: None, ..rows.meta.clone() };
        let store = Timed::open(&self.store, &self.inner, SUFFIX, run)?;
        let withheld = run.withholds(self.store.cached) || self.closes.is_some();
        let mut emitted = Emitted::new(withheld, self.state.sends_old());
        let mut waiting = self.closes.map(|closes| Waiting::of(closes, &self.store, run)).transpose()?;
        let (mut null, mut late) = (0, 0);
        for row in 0..rows.len() {
            let Some(key) = rows.keys.get(row) else {
                null += 1;
                continue;
            };
            let observed = run.observe(rows.meta.timestamps[row]);
            if let Some(waiting) = waiting.as_mut().filter(|waiting| waiting.is_due(Some(observed))) {
                waiting.emit(&self.store, observed, (&rows.meta, row, self.state.sends_old()), run)?;
            }
            if rows.values.is_null(row) && !self.step.takes_null() {
                null += 1;
            } else {
                let updated = (&mut emitted, &meta, waiting.as_mut());
                late += usize::from(!self.take(&store, (rows, row, key), observed, updated, run)?);
            }
        }
        if let Some(waiting) = waiting {
            waiting.keep(&self.store.name, run)?;
        }
        run.dropped("null key or value", null);
        run.dropped("expired window", late);
        emitted.send(&meta, run)
    }

    fn flush(&self, changes: &Changes, run: &mut Run<'_>) -> Result<(), Failure> {
        forward_flushed(&self.store, &self.state, changes, |key: &Windowed<K>, _| key.window.end, run)
    }
}

impl<K: Data, V: Data, A: Data, I, S, M> AggregateSessions<K, V, A, I, S, M>
where
    I: Fn() -> Option<A> + Send + Sync,
    S: Step<K, V, A>,
    M: Fn(&K, Option<A>, A) -> Option<A> + Send + Sync,
{
    /// Joins the sessions near a record and the record to one; says whether that is still open.
    fn take(
        &self,
        store: &Timed<'_, K, A>,
        (rows, row, key): (&Rows<K, V>, usize, &K),
        observed: i64,
        (emitted, meta, mut waiting): (&mut Emitted<K, A>, &Meta, Option<&mut Waiting>),
        run: &mut Run<'_>,
    ) -> Result<bool, Failure> {
        let SessionWindows { gap_ms, grace_ms } = self.windows;
        let (time, from) = (rows.meta.timestamps[row], (&rows.meta, row));
        let alone = Window { start: time, end: time };
        let mut session = alone;
        let mut aggregate = (self.start)();
        let mut near = store.find(key, (time.saturating_sub(gap_ms), i64::MAX), &rows.meta, row, run)?;
        near.retain(|found| found.key.window.start <= time.saturating_add(gap_ms));
        for found in &near {
            let Window { start, end } = found.key.window;
            aggregate = (self.merge)(key, aggregate, found.aggregate.clone());
            session = Window { start: session.start.min(start), end: session.end.max(end) };
        }
        if session.end < observed.saturating_sub(grace_ms).saturating_sub(gap_ms) {
            return Ok(false);
        }
        if session != alone {
            for Found { key, aggregate, .. } in near {
                let stored = store.put(&key, None, time, from, run)?;
                if let Some(waiting) = &mut waiting {
                    waiting.remove(&stored);
                }
                let ended = key.window.end;
                emitted.push(key, (Some(aggregate), None), ended, (meta, row), run)?;
            }
        }
        let new = self.step.step(rows, row, aggregate);
        let key = Windowed { key: key.clone(), window: session };
        let stored = store.put(&key, new.as_ref(), time, from, run)?;
        if let Some(waiting) = waiting {
            waiting.add(&stored);
        }
        emitted.push(key, (None, new), session.end, (meta, row), run)?;
        Ok(true)
    }
}
