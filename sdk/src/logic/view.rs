//! Owns the look into a table from outside: what it has of keys at this moment, from its store or from those of the
//! tables it is made of. Must not know who asks.

use std::sync::Arc;

use super::join::TableJoiner;
use crate::contract::{Cursor, Failure, Fault, empty_column, push};
use crate::rows::{Col, Data, Meta};
use crate::run::Run;
use crate::serdes::SharedSerde;

/// A value and its timestamp; none: the table does not have the key.
pub(crate) type Seen<V> = Option<(V, i64)>;

/// How a table is looked into.
pub(crate) trait View<K, V>: Send + Sync {
    /// What the table has of each key, the null ones included, which it never has.
    fn look_up(&self, keys: &Col<K>, as_of: AsOf<'_>, meta: &Meta, run: &mut Run<'_>) -> Result<Vec<Seen<V>>, Failure>;

    /// The stores that takes.
    fn stores(&self) -> Vec<String>;

    /// For how long it knows what the table had; none: not at all.
    fn history_ms(&self) -> Option<i64>;

    /// Whether it knows what the table had at other times.
    fn is_versioned(&self) -> bool {
        self.history_ms().is_some()
    }
}

/// The time of each key; none: now.
pub(crate) type AsOf<'a> = Option<&'a [i64]>;

/// Into its own store.
pub(crate) struct StoreView<K, V> {
    store: String,
    keys: SharedSerde<K>,
    values: SharedSerde<V>,
    history_ms: Option<i64>,
}

impl<K: Data, V: Data> StoreView<K, V> {
    pub(crate) fn of(
        store: &str,
        keys: &SharedSerde<K>,
        values: &SharedSerde<V>,
        history_ms: Option<i64>,
    ) -> Arc<dyn View<K, V>> {
        let (keys, values) = (Arc::clone(keys), Arc::clone(values));
        Arc::new(Self { store: store.to_owned(), keys, values, history_ms })
    }
}

impl<K: Data, V: Data> View<K, V> for StoreView<K, V> {
    fn look_up(&self, keys: &Col<K>, as_of: AsOf<'_>, meta: &Meta, run: &mut Run<'_>) -> Result<Vec<Seen<V>>, Failure> {
        let mut asked = empty_column();
        for (row, key) in keys.iter().enumerate() {
            let Some(key) = key else { continue };
            push(&mut asked, Some(|out: &mut Vec<u8>| self.keys.serialize(key, out)))
                .map_err(|error| run.failure(Fault::Serialization, meta, row, error))?;
        }
        let handle = run.host.open(&self.store)?;
        let (values, timestamps) = match as_of {
            None => {
                let found = run.host.get(handle, &asked)?;
                (found.values, found.timestamps)
            }
            Some(times) => {
                let asked_of = keys.iter().zip(times).filter(|(key, _)| key.is_some()).map(|(_, time)| *time);
                let found = run.host.get_as_of(handle, &asked, &asked_of.collect::<Vec<_>>())?;
                (found.values, found.valid_from)
            }
        };
        let (mut next, mut timestamps) = (Cursor::default(), timestamps.iter());
        let mut seen = Vec::with_capacity(keys.len());
        for (row, key) in keys.iter().enumerate() {
            if key.is_none() {
                seen.push(None);
                continue;
            }
            let (value, timestamp) = (next.next(&values), timestamps.next().copied().unwrap_or_default());
            let value = value.map(|bytes| self.values.deserialize(bytes)).transpose().map_err(|error| {
                let message = format!("store {} has a value that can't be read: {error}", self.store);
                run.failure(Fault::Processing, meta, row, message)
            })?;
            seen.push(value.map(|value| (value, timestamp)));
        }
        Ok(seen)
    }

    fn stores(&self) -> Vec<String> {
        vec![self.store.clone()]
    }

    fn history_ms(&self) -> Option<i64> {
        self.history_ms
    }
}

/// Into the table it is made of value by value.
pub(crate) struct DerivedView<K, V, F> {
    pub(crate) parent: Arc<dyn View<K, V>>,
    pub(crate) mapper: Arc<F>,
}

impl<K: Data, V: Data, R: Data, F> View<K, R> for DerivedView<K, V, F>
where
    F: Fn(&K, &V) -> Option<R> + Send + Sync,
{
    fn look_up(&self, keys: &Col<K>, as_of: AsOf<'_>, meta: &Meta, run: &mut Run<'_>) -> Result<Vec<Seen<R>>, Failure> {
        let seen = self.parent.look_up(keys, as_of, meta, run)?;
        let map = |(key, seen): (Option<&K>, Seen<V>)| {
            let (value, timestamp) = seen?;
            Some(((self.mapper)(key?, &value)?, timestamp))
        };
        Ok(keys.iter().zip(seen).map(map).collect())
    }

    fn stores(&self) -> Vec<String> {
        self.parent.stores()
    }

    fn history_ms(&self) -> Option<i64> {
        self.parent.history_ms()
    }
}

/// Into the two tables it joins.
pub(crate) struct JoinedView<K, V1, V2, R> {
    pub(crate) left: Arc<dyn View<K, V1>>,
    pub(crate) right: Arc<dyn View<K, V2>>,
    pub(crate) joiner: TableJoiner<V1, V2, R>,
    /// Whether there is a value without the left, and without the right table having one.
    pub(crate) optional: (bool, bool),
}

impl<K: Data, V1: Data, V2: Data, R: Data> View<K, R> for JoinedView<K, V1, V2, R> {
    fn look_up(&self, keys: &Col<K>, as_of: AsOf<'_>, meta: &Meta, run: &mut Run<'_>) -> Result<Vec<Seen<R>>, Failure> {
        let left = self.left.look_up(keys, as_of, meta, run)?;
        let right = self.right.look_up(keys, as_of, meta, run)?;
        let join = |(left, right): (Seen<V1>, Seen<V2>)| {
            let missing = (left.is_none() && !self.optional.0) || (right.is_none() && !self.optional.1);
            let timestamp = left.as_ref().map(|it| it.1).max(right.as_ref().map(|it| it.1)).filter(|_| !missing)?;
            Some(((self.joiner)(left.as_ref().map(|it| &it.0), right.as_ref().map(|it| &it.0)), timestamp))
        };
        Ok(left.into_iter().zip(right).map(join).collect())
    }

    fn stores(&self) -> Vec<String> {
        let mut stores = self.left.stores();
        for store in self.right.stores() {
            if !stores.contains(&store) {
                stores.push(store);
            }
        }
        stores
    }

    fn history_ms(&self) -> Option<i64> {
        None
    }
}
