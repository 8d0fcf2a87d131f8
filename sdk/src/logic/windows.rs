//! Owns aggregation in tumbling, hopping and unlimited windows: a record becomes one for each of its windows that is
//! still open. Must not know how aggregates are kept.

use std::any::Any;
use std::rc::Rc;

use super::aggregate::{Aggregate, Step};
use super::closing::{Closes, Waiting};
use super::{Logic, typed};
use crate::contract::{Changes, Failure, index};
use crate::rows::{Col, Cut, Data, Rows};
use crate::run::Run;
use crate::windows::{FixedWindows, Windowed};

/// `count`, `reduce` and `aggregate` in windows.
pub(crate) struct AggregateWindows<K, V, A, I, S> {
    pub(crate) windows: FixedWindows,
    pub(crate) aggregate: Aggregate<Windowed<K>, V, A, I, S>,
    /// Results go on when their windows are closed, and not before.
    pub(crate) closes: Option<Closes>,
}

impl<K: Data, V: Data, A: Data, I, S> Logic for AggregateWindows<K, V, A, I, S>
where
    I: Fn() -> Option<A> + Send + Sync,
    S: Step<Windowed<K>, V, A>,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        if let Some(closes) = self.closes {
            return self.update_silently(closes, rows, run);
        }
        let windowed = self.windowed(rows, run);
        match windowed.len() {
            0 => Ok(()),
            // What comes after a window may look at the store before the next one is in it.
            count if count > 1 && !run.batched => {
                (0..count).try_for_each(|row| self.aggregate.fold(&windowed.cut(&Rc::new(vec![index(row)])), run))
            }
            _ => self.aggregate.fold(&windowed, run),
        }
    }

    fn flush(&self, changes: &Changes, run: &mut Run<'_>) -> Result<(), Failure> {
        self.aggregate.flush(changes, run)
    }
}

impl<K: Data, V: Data, A: Data, I, S> AggregateWindows<K, V, A, I, S>
where
    I: Fn() -> Option<A> + Send + Sync,
    S: Step<Windowed<K>, V, A>,
{
    /// Updates windows, and sends on those that are closed.
    fn update_silently(&self, closes: Closes, rows: &Rows<K, V>, run: &mut Run<'_>) -> Result<(), Failure> {
        let store = &self.aggregate.store;
        let mut waiting = Waiting::of(closes, store, run)?;
        let (mut observed, mut next) = (run.observed(), 0);
        for row in 0..rows.len() {
            if rows.keys.is_null(row) {
                continue;
            }
            observed = observed.max(Some(rows.meta.timestamps[row]));
            if let Some(time) = observed.filter(|_| waiting.is_due(observed)) {
                self.update_some(rows, next..row, &mut waiting, run)?;
                waiting.emit(store, time, (&rows.meta, row, self.aggregate.state.sends_old()), run)?;
                next = row;
            }
        }
        self.update_some(rows, next..rows.len(), &mut waiting, run)?;
        waiting.keep(&store.name, run)
    }

    fn update_some(
        &self,
        rows: &Rows<K, V>,
        some: std::ops::Range<usize>,
        waiting: &mut Waiting,
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let windowed = self.windowed(&rows.cut(&Rc::new(some.map(index).collect())), run);
        if windowed.len() > 0 {
            self.aggregate.update(&windowed, |key| waiting.add(key), run)?;
        }
        Ok(())
    }

    /// Each record under each of its windows that can still change.
    fn windowed(&self, rows: &Rows<K, V>, run: &mut Run<'_>) -> Rows<Windowed<K>, V> {
        let (mut keys, mut origins) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let (mut null, mut late) = (0, 0);
        for (row, key) in rows.keys.iter().enumerate() {
            let Some(key) = key else {
                null += 1;
                continue;
            };
            let time = rows.meta.timestamps[row];
            let closed = run.observe(time).saturating_sub(self.windows.grace_ms);
            if rows.values.is_null(row) && !self.aggregate.step.takes_null() {
                null += 1;
                continue;
            }
            for window in self.windows.of(time) {
                if window.end > closed {
                    keys.push(Some(Windowed { key: key.clone(), window }));
                    origins.push(index(row));
                } else {
                    late += 1;
                }
            }
        }
        run.dropped("null key or value", null);
        run.dropped("expired window", late);
        let origins = Rc::new(origins);
        Rows { keys: Col::new(keys), values: rows.values.select(&origins), meta: rows.meta.select(&origins) }
    }
}
