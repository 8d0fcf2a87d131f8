//! Owns `transform_values`: tables whose values a user's function makes of those of another table, with stores in hand.
//! Must not know what the function does.

use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::Logic;
use super::keyed::{Keyed, TableStore};
use super::process::Session;
use super::table::{TableState, forward_flushed};
use super::typed;
use super::versioned::{one_by_one, put_versions};
use super::view::{AsOf, Seen, View};
use crate::contract::{Changes, Failure};
use crate::processor::{ProcessResult, ProcessorContext};
use crate::rows::{Col, Data, Meta, UNKNOWN, Updates};
use crate::run::Run;

/// The time of a value that stems from no record, as in Kafka Streams.
const NEVER: i64 = -1;

/// A table whose values a function makes, which may look into stores.
pub(crate) struct Transform<K, V, R, F> {
    pub(crate) transformer: Arc<F>,
    pub(crate) store: Option<TableStore<K, R>>,
    pub(crate) state: Arc<TableState>,
    pub(crate) types: PhantomData<fn() -> V>,
}

impl<K: Data, V: Data, R: Data, F> Logic for Transform<K, V, R, F>
where
    F: Fn(&mut ProcessorContext<'_, (), ()>, &K, Option<&V>) -> ProcessResult<Option<R>> + Send + Sync,
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

    fn has_effects(&self) -> bool {
        true
    }
}

impl<K: Data, V: Data, R: Data, F> Transform<K, V, R, F>
where
    F: Fn(&mut ProcessorContext<'_, (), ()>, &K, Option<&V>) -> ProcessResult<Option<R>> + Send + Sync,
{
    fn forward(&self, updates: &Updates<K, V>, run: &mut Run<'_>) -> Result<(), Failure> {
        let mut new = Vec::with_capacity(updates.keys.len());
        let mut old = self.state.sends_old().then(Vec::new);
        for (row, key) in updates.keys.iter().enumerate() {
            let time = (updates.meta.timestamps[row], updates.meta.origins[row]);
            new.push(call(&*self.transformer, key, updates.new.get(row), time, run)?);
            if let Some(old) = &mut old {
                let before = updates.old(row);
                old.push(call(&*self.transformer, key, before, time, run)?);
            }
        }
        send(updates, new, old, updates.late.clone(), run)
    }

    fn keep(&self, store: &TableStore<K, R>, updates: &Updates<K, V>, run: &mut Run<'_>) -> Result<(), Failure> {
        let sends_old = self.state.sends_old();
        let mut keyed = Keyed::read(store, &updates.keys, &updates.meta, !sends_old, run)?;
        let mut old = sends_old.then(Vec::new);
        for (row, key) in updates.keys.iter().enumerate() {
            let timestamp = updates.meta.timestamps[row];
            let time = (timestamp, updates.meta.origins[row]);
            let new = call(&*self.transformer, key, updates.new.get(row), time, run)?;
            if let Some(old) = &mut old {
                old.push(keyed.current(&updates.meta, run)?.map(|(value, _)| value));
            }
            keyed.leave(new, timestamp);
        }
        let (new, _) = keyed.write(&updates.meta, run)?;
        if run.withholds(store.cached) {
            return Ok(());
        }
        send(updates, new, old, None, run)
    }

    /// Puts what one update makes into a versioned store.
    fn put(&self, store: &TableStore<K, R>, updates: &Updates<K, V>, run: &mut Run<'_>) -> Result<(), Failure> {
        let time = (updates.meta.timestamps[0], updates.meta.origins[0]);
        let new = call(&*self.transformer, updates.keys.get(0), updates.new.get(0), time, run)?;
        let (keys, meta) = (updates.keys.clone(), updates.meta.clone());
        let made = Updates { keys, new: Col::new(vec![new]), old: None, late: None, meta };
        let put = put_versions(store, made, self.state.sends_old(), run)?;
        run.forward(&put)
    }
}

fn send<K: Data, V, R: Data>(
    updates: &Updates<K, V>,
    new: Vec<Option<R>>,
    old: Option<Vec<Option<R>>>,
    late: Option<Rc<Vec<bool>>>,
    run: &mut Run<'_>,
) -> Result<(), Failure> {
    let (keys, meta) = (updates.keys.clone(), updates.meta.clone());
    run.forward(&Updates { keys, new: Col::new(new), old: old.map(Col::new), late, meta })
}

/// What the function makes of a value that came at that time with the record of that origin.
fn call<K, V, R>(
    transformer: &impl Fn(&mut ProcessorContext<'_, (), ()>, &K, Option<&V>) -> ProcessResult<Option<R>>,
    key: Option<&K>,
    value: Option<&V>,
    (timestamp, origin): (i64, u32),
    run: &mut Run<'_>,
) -> Result<Option<R>, Failure> {
    let Some(key) = key else { return Ok(None) };
    let mut session = Session::silent(run, timestamp, origin);
    let made = transformer(&mut ProcessorContext { calls: &mut session }, key, value);
    let mut kept = None;
    session.end(made.map(|made| kept = made))?;
    Ok(kept)
}

/// Into a table that is not kept: the function is called for what its parent has.
pub(crate) struct TransformedView<K, V, F> {
    pub(crate) parent: Arc<dyn View<K, V>>,
    pub(crate) transformer: Arc<F>,
    pub(crate) stores: Vec<String>,
}

impl<K: Data, V: Data, R: Data, F> View<K, R> for TransformedView<K, V, F>
where
    F: Fn(&mut ProcessorContext<'_, (), ()>, &K, Option<&V>) -> ProcessResult<Option<R>> + Send + Sync,
{
    fn look_up(&self, keys: &Col<K>, as_of: AsOf<'_>, meta: &Meta, run: &mut Run<'_>) -> Result<Vec<Seen<R>>, Failure> {
        let seen = self.parent.look_up(keys, as_of, meta, run)?;
        let look = |(key, seen): (Option<&K>, Seen<V>)| {
            let timestamp = seen.as_ref().map_or(NEVER, |(_, timestamp)| *timestamp);
            let value = seen.as_ref().map(|(value, _)| value);
            let made = call(&*self.transformer, key, value, (timestamp, UNKNOWN), run)?;
            Ok(made.map(|made| (made, timestamp)))
        };
        keys.iter().zip(seen).map(look).collect()
    }

    fn stores(&self) -> Vec<String> {
        let mut stores = self.parent.stores();
        for store in &self.stores {
            if !stores.contains(store) {
                stores.push(store.clone());
            }
        }
        stores
    }

    fn history_ms(&self) -> Option<i64> {
        self.parent.history_ms()
    }
}
