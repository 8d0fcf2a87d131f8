//! Owns aggregation in tumbling, hopping and unlimited windows: a record becomes one for each of its windows that is
//! still open. Must not know how aggregates are kept.

use std::any::Any;
use std::rc::Rc;

use super::aggregate::{Aggregate, Step};
use super::{Logic, typed};
use crate::contract::{Changes, Failure, index};
use crate::rows::{Col, Cut, Data, Rows};
use crate::run::Run;
use crate::windows::{FixedWindows, Windowed};

/// `count`, `reduce` and `aggregate` in windows.
pub(crate) struct AggregateWindows<K, V, A, I, S> {
    pub(crate) windows: FixedWindows,
    pub(crate) aggregate: Aggregate<Windowed<K>, V, A, I, S>,
}

impl<K: Data, V: Data, A: Data, I, S> Logic for AggregateWindows<K, V, A, I, S>
where
    I: Fn() -> Option<A> + Send + Sync,
    S: Step<Windowed<K>, V, A>,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let windowed = self.windowed(typed(rows), run);
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
    S: Step<Windowed<K>, V, A>,
{
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
