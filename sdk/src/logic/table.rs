//! Owns the operators of tables: what an update becomes, and when old values travel with it. Must
//! not know how the host tells what changed.

use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::keyed::{Keyed, TableStore};
use super::versioned::put_versions;
use super::{Logic, typed};
use crate::contract::{Changes, Cursor, Failure, Fault, index};
use crate::rows::{Col, Cut, Data, Headers, Meta, Rows, Updates};
use crate::run::Run;

/// What operators further down ask of a table while the topology is built.
#[derive(Debug, Default)]
pub(crate) struct TableState {
    sends_old: AtomicBool,
    materialized: AtomicBool,
}

impl TableState {
    pub(crate) fn sends_old(&self) -> bool {
        self.sends_old.load(Ordering::Relaxed)
    }

    pub(crate) fn send_old(&self) {
        self.sends_old.store(true, Ordering::Relaxed);
    }

    /// Whether the table has a store.
    pub(crate) fn materialized(&self) -> bool {
        self.materialized.load(Ordering::Relaxed)
    }

    pub(crate) fn materialize(&self) {
        self.materialized.store(true, Ordering::Relaxed);
    }
}

/// `to_stream`.
pub(crate) struct ToStream<K, V>(PhantomData<fn() -> (K, V)>);

impl<K, V> ToStream<K, V> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K: Data, V: Data> Logic for ToStream<K, V> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let updates: &Updates<K, V> = typed(rows);
        run.forward(&Rows { keys: updates.keys.clone(), values: updates.new.clone(), meta: updates.meta.clone() })
    }
}

/// Sends on what the host says has changed in a cached store since the last commit, with the timestamps that `time`
/// makes of keys and those of the changes.
pub(crate) fn forward_flushed<K: Data, V: Data>(
    store: &TableStore<K, V>,
    state: &TableState,
    changes: &Changes,
    time: impl Fn(&K, i64) -> i64,
    run: &mut Run<'_>,
) -> Result<(), Failure> {
    let sends_old = state.sends_old();
    let (mut next_key, mut next_old, mut next_new) = (Cursor::default(), Cursor::default(), Cursor::default());
    let (mut keys, mut old, mut new, mut timestamps, mut origins) = (vec![], vec![], vec![], vec![], vec![]);
    for (row, &timestamp) in changes.timestamps.iter().enumerate() {
        let key = next_key.next(&changes.keys);
        let before = next_old.next(&changes.old_values);
        let after = next_new.next(&changes.new_values);
        // A key that came and went between two commits was never there.
        if before.is_none() && after.is_none() {
            continue;
        }
        let unreadable = |error| run.failure_at(Fault::Processing, Some(index(row)), error);
        let read = |bytes| store.values.deserialize(bytes).map_err(unreadable);
        let key = key.map(|key| store.keys.deserialize(key)).transpose().map_err(unreadable)?;
        new.push(after.map(read).transpose()?);
        if sends_old {
            old.push(before.map(read).transpose()?);
        }
        timestamps.push(key.as_ref().map_or(timestamp, |key| time(key, timestamp)));
        keys.push(key);
        origins.push(index(row));
    }
    let headers = flushed_headers(changes, &origins);
    let meta = Meta { timestamps: Rc::new(timestamps), origins: Rc::new(origins), headers };
    let old = sends_old.then(|| Col::new(old));
    run.forward(&Updates { keys: Col::new(keys), new: Col::new(new), old, late: None, meta })
}

fn flushed_headers(changes: &Changes, rows: &[u32]) -> Option<Col<Rc<Headers>>> {
    if changes.headers.is_empty() {
        return None;
    }
    let of = |row: &u32| {
        let mut headers = Headers::new();
        let from = changes.headers.partition_point(|header| header.index < *row);
        for header in changes.headers[from..].iter().take_while(|header| header.index == *row) {
            headers.push(header.key.clone(), header.value.clone());
        }
        (!headers.is_empty()).then(|| Rc::new(headers))
    };
    Some(Col::new(rows.iter().map(of).collect()))
}

/// `table` and `to_table`: records become updates.
pub(crate) struct TableSource<K, V> {
    pub(crate) store: TableStore<K, V>,
    pub(crate) state: Arc<TableState>,
}

impl<K: Data, V: Data> Logic for TableSource<K, V> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        if !rows.keys.has_nulls() {
            return self.update(rows, run);
        }
        let keyed = |row: &usize| !rows.keys.is_null(*row);
        let kept: Vec<u32> = (0..rows.len()).filter(keyed).map(index).collect();
        run.dropped("null key", rows.len() - kept.len());
        if kept.is_empty() { Ok(()) } else { self.update(&rows.cut(&Rc::new(kept)), run) }
    }

    fn flush(&self, changes: &Changes, run: &mut Run<'_>) -> Result<(), Failure> {
        forward_flushed(&self.store, &self.state, changes, |_, timestamp| timestamp, run)
    }
}

impl<K: Data, V: Data> TableSource<K, V> {
    fn update(&self, rows: &Rows<K, V>, run: &mut Run<'_>) -> Result<(), Failure> {
        let (keys, new, meta) = (rows.keys.clone(), rows.values.clone(), rows.meta.clone());
        let mut updates = Updates { keys, new, old: None, late: None, meta };
        if self.state.materialized() {
            let sends_old = self.state.sends_old();
            if self.store.is_versioned() {
                let put = put_versions(&self.store, updates, sends_old, run)?;
                return run.forward(&put);
            }
            updates.old = store_updates(&self.store, &updates, sends_old, run)?;
            if run.withholds(self.store.cached) {
                return Ok(());
            }
        }
        run.forward(&updates)
    }
}

/// Writes the new values of updates to a store, and says what was there before if that is wanted.
fn store_updates<K: Data, V: Data>(
    store: &TableStore<K, V>,
    updates: &Updates<K, V>,
    wants_old: bool,
    run: &mut Run<'_>,
) -> Result<Option<Col<V>>, Failure> {
    let mut keyed = Keyed::read(store, &updates.keys, &updates.meta, !wants_old, run)?;
    let mut old = Vec::new();
    for (row, value) in updates.new.iter().enumerate() {
        if wants_old {
            old.push(keyed.current(&updates.meta, run)?.map(|(value, _)| value));
        }
        keyed.leave(value.cloned(), updates.meta.timestamps[row]);
    }
    keyed.write(&updates.meta, run)?;
    Ok(wants_old.then(|| Col::new(old)))
}
