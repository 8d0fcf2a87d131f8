//! Owns aggregation in sliding windows: which windows a record belongs to, and which it makes. Must not know how
//! aggregates are kept.
//!
//! A window exists for a set of records, not for a time: with each record one that ends at it (its *left* window), and
//! one that begins right after it (its *right* window) as soon as that is not empty. The order in which windows
//! are updated is Kafka Streams': from the latest to the earliest, then those that are new.

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
use crate::rows::{Cut, Data, Rows};
use crate::run::Run;
use crate::serdes::SharedSerde;
use crate::windows::{SlidingWindows, Window, Windowed};

/// `count`, `reduce` and `aggregate` in sliding windows.
pub(crate) struct AggregateSliding<K, V, A, I, S> {
    pub(crate) windows: SlidingWindows,
    pub(crate) inner: SharedSerde<K>,
    pub(crate) store: TableStore<Windowed<K>, A>,
    pub(crate) state: Arc<TableState>,
    pub(crate) start: I,
    pub(crate) step: S,
    /// Results go on when their windows are closed, and not before.
    pub(crate) closes: Option<Closes>,
    pub(crate) types: PhantomData<fn() -> V>,
}

/// What the stored form of a key has behind it: 8-byte start, 4-byte sequence number.
const SUFFIX: usize = 12;

impl<K: Data, V: Data, A: Data, I, S> Logic for AggregateSliding<K, V, A, I, S>
where
    I: Fn() -> Option<A> + Send + Sync,
    S: Step<K, V, A>,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let store = Timed::open(&self.store, &self.inner, SUFFIX, run)?;
        let withheld = run.withholds(self.store.cached) || self.closes.is_some();
        let mut emitted = Emitted::new(withheld, self.state.sends_old());
        let mut waiting = self.closes.map(|closes| Waiting::of(closes, &self.store, run)).transpose()?;
        let (mut null, mut late) = (0, 0);
        for row in 0..rows.len() {
            let time = rows.meta.timestamps[row];
            if rows.values.is_null(row) {
                null += 1;
                continue;
            }
            let Some(key) = rows.keys.get(row) else {
                null += 1;
                continue;
            };
            let observed = run.observe(time);
            let closed = observed.saturating_sub(self.windows.grace_ms);
            if time.saturating_add(self.windows.difference_ms) < closed {
                late += 1;
                continue;
            }
            let early = time < self.windows.difference_ms;
            // As Kafka Streams has it, nobody looks for closed windows at records that share the first one.
            if let Some(waiting) = waiting.as_mut().filter(|waiting| !early && waiting.is_due(Some(observed))) {
                waiting.emit(&self.store, observed, (&rows.meta, row, self.state.sends_old()), run)?;
            }
            let mut record =
                Record { logic: self, store: &store, rows, row, key, time, closed, late: 0, emitted, waiting };
            if early {
                record.early(run)?
            } else {
                record.usual(run)?
            }
            late += record.late;
            (emitted, waiting) = (record.emitted, record.waiting);
        }
        if let Some(waiting) = waiting {
            waiting.keep(&self.store.name, run)?;
        }
        run.dropped("null key or value", null);
        run.dropped("expired window", late);
        emitted.send(&rows.meta, run)
    }

    fn flush(&self, changes: &Changes, run: &mut Run<'_>) -> Result<(), Failure> {
        forward_flushed(&self.store, &self.state, changes, |_, timestamp| timestamp, run)
    }
}

/// An aggregate with the highest timestamp of its records.
type Aged<A> = (Option<A>, i64);

/// One record on its way into its windows.
struct Record<'a, K, V, A, I, S> {
    logic: &'a AggregateSliding<K, V, A, I, S>,
    store: &'a Timed<'a, K, A>,
    rows: &'a Rows<K, V>,
    row: usize,
    key: &'a K,
    time: i64,
    /// Windows that end before it take nothing more.
    closed: i64,
    late: usize,
    emitted: Emitted<K, A>,
    waiting: Option<Waiting>,
}

impl<K: Data, V: Data, A: Data, I, S> Record<'_, K, V, A, I, S>
where
    I: Fn() -> Option<A> + Send + Sync,
    S: Step<K, V, A>,
{
    fn difference(&self) -> i64 {
        self.logic.windows.difference_ms
    }

    fn begin(&self) -> Aged<A> {
        ((self.logic.start)(), self.time)
    }

    fn find(&self, from: i64, run: &mut Run<'_>) -> Result<Vec<Found<K, A>>, Failure> {
        self.store.find(self.key, (from, self.time.saturating_add(1)), &self.rows.meta, self.row, run)
    }

    fn usual(&mut self, run: &mut Run<'_>) -> Result<(), Failure> {
        let found = self.find(self.time.saturating_sub(self.difference().saturating_mul(2)), run)?;
        let starts: Vec<i64> = found.iter().map(|found| found.key.window.start).collect();
        let (mut left, mut right) = (None, None);
        let (mut has_left, mut has_right) = (false, false);
        let mut previous = None;
        for Found { key, aggregate, timestamp } in found.into_iter().rev() {
            let Window { start, end } = key.window;
            let aged = (Some(aggregate), timestamp);
            if start == self.time + 1 {
                has_right = true;
            } else if end > self.time {
                right.get_or_insert_with(|| aged.clone());
                self.update(start, aged, run)?;
            } else if end == self.time {
                has_left = true;
                self.update(start, aged, run)?;
                if timestamp >= self.time {
                    // Another record of the same time has made all there is to make.
                    return Ok(());
                }
                previous = Some(timestamp);
            } else {
                left = Some(aged);
                previous = Some(timestamp);
                break;
            }
        }
        if let Some(previous) = previous {
            let start = previous + 1;
            if !starts.contains(&start) && start.saturating_add(self.difference()) >= self.time {
                self.update(start, self.begin(), run)?;
            }
        }
        if !has_left {
            let start = self.time - self.difference();
            let aged = match (left, previous) {
                (Some((left, _)), Some(previous)) if start <= previous => (left, self.time),
                _ => self.begin(),
            };
            self.update(start, aged, run)?;
        }
        match right {
            Some(right) if !has_right && right.1 > self.time => self.make_right(right, run),
            _ => Ok(()),
        }
    }

    /// Records too early for a left window of their own, which would begin before 1970, share the first one.
    fn early(&mut self, run: &mut Run<'_>) -> Result<(), Failure> {
        let found = self.find(0, run)?;
        let starts: Vec<i64> = found.iter().map(|found| found.key.window.start).collect();
        let (mut combined, mut right) = (None, None);
        let mut has_right = false;
        let mut previous = None;
        for Found { key, aggregate, timestamp } in found {
            let start = key.window.start;
            let aged = (Some(aggregate), timestamp);
            if start == 0 {
                previous = Some(timestamp).filter(|&timestamp| timestamp < self.time);
                combined = Some(aged);
            } else if start <= self.time {
                right = Some(aged.clone());
                self.update(start, aged, run)?;
            } else {
                has_right = true;
            }
        }
        // Then all of it is later than this record.
        if right.is_none() {
            right = combined.clone().filter(|&(_, timestamp)| timestamp > self.time);
        }
        if let Some(right) = right.filter(|&(_, timestamp)| !has_right && timestamp > self.time) {
            self.make_right(right, run)?;
        }
        if let Some(start) = previous.map(|previous| previous + 1).filter(|start| !starts.contains(start)) {
            self.update(start, self.begin(), run)?;
        }
        let combined = combined.unwrap_or_else(|| self.begin());
        self.update(0, combined, run)
    }

    fn window(&self, start: i64) -> Windowed<K> {
        let window = Window { start, end: start.saturating_add(self.difference()) };
        Windowed { key: self.key.clone(), window }
    }

    /// The record's right window begins with what is later than the record.
    fn make_right(&mut self, (aggregate, timestamp): Aged<A>, run: &mut Run<'_>) -> Result<(), Failure> {
        let key = self.window(self.time + 1);
        self.write(key, None, aggregate, timestamp, run)
    }

    /// Takes the record into a window, unless it is closed.
    fn update(&mut self, start: i64, (old, timestamp): Aged<A>, run: &mut Run<'_>) -> Result<(), Failure> {
        let key = self.window(start);
        if key.window.end < self.closed {
            self.late += 1;
            return Ok(());
        }
        let timestamp = if old.is_some() { timestamp.max(self.time) } else { self.time };
        let new = self.logic.step.step(self.rows, self.row, old.clone());
        self.write(key, old, new, timestamp, run)
    }

    fn write(
        &mut self,
        key: Windowed<K>,
        old: Option<A>,
        new: Option<A>,
        timestamp: i64,
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let from = (&self.rows.meta, self.row);
        let stored = self.store.put(&key, new.as_ref(), timestamp, from, run)?;
        if let Some(waiting) = &mut self.waiting {
            waiting.add(&stored);
        }
        self.emitted.push(key, (old, new), timestamp, from, run)
    }
}
