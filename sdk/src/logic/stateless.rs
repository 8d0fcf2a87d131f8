//! Owns the operators that keep nothing: filters, mappers, branches. Must not know of stores.

use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;

use super::{Logic, typed};
use crate::contract::{Failure, index};
use crate::rows::{Col, Cut, Data, Meta, Rows};
use crate::run::Run;

/// Types of a node that none of its fields has.
pub(super) type Marker<T> = PhantomData<fn() -> T>;

/// `filter` and `filter_not`.
pub(crate) struct Filter<K, V, F> {
    predicate: F,
    keep: bool,
    types: Marker<(K, V)>,
}

impl<K: Data, V: Data, F> Filter<K, V, F>
where
    F: Fn(Option<&K>, Option<&V>) -> bool + Send + Sync,
{
    /// Passes on the records for which the predicate says `keep`.
    pub(crate) fn new(keep: bool, predicate: F) -> Self {
        Self { predicate, keep, types: PhantomData }
    }
}

impl<K: Data, V: Data, F> Logic for Filter<K, V, F>
where
    F: Fn(Option<&K>, Option<&V>) -> bool + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let keeps = |row: &usize| (self.predicate)(rows.keys.get(*row), rows.values.get(*row)) == self.keep;
        let kept: Vec<u32> = (0..rows.len()).filter(keeps).map(index).collect();
        if kept.len() == rows.len() { run.forward(rows) } else { run.forward(&rows.cut(&Rc::new(kept))) }
    }
}

/// `map_values` of a function that looks at keys or nulls.
pub(crate) struct MapValues<K, V, R, F> {
    mapper: F,
    types: Marker<(K, V, R)>,
}

impl<K: Data, V: Data, R: Data, F> MapValues<K, V, R, F>
where
    F: Fn(Option<&K>, Option<&V>) -> Option<R> + Send + Sync,
{
    pub(crate) fn new(mapper: F) -> Self {
        Self { mapper, types: PhantomData }
    }
}

impl<K: Data, V: Data, R: Data, F> Logic for MapValues<K, V, R, F>
where
    F: Fn(Option<&K>, Option<&V>) -> Option<R> + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let values = rows.keys.iter().zip(rows.values.iter()).map(|(key, value)| (self.mapper)(key, value)).collect();
        run.forward(&Rows { keys: rows.keys.clone(), values: Col::new(values), meta: rows.meta.clone() })
    }
}

/// `map_values` of a function that does not look at keys, nor at values that are null.
pub(crate) struct MapOnlyValues<K, V, R, F> {
    mapper: F,
    types: Marker<(K, V, R)>,
}

impl<K: Data, V: Data, R: Data, F> MapOnlyValues<K, V, R, F>
where
    F: Fn(&V) -> R + Send + Sync,
{
    pub(crate) fn new(mapper: F) -> Self {
        Self { mapper, types: PhantomData }
    }
}

impl<K: Data, V: Data, R: Data, F> Logic for MapOnlyValues<K, V, R, F>
where
    F: Fn(&V) -> R + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let values = rows.values.iter().map(|value| value.map(&self.mapper)).collect();
        run.forward(&Rows { keys: rows.keys.clone(), values: Col::new(values), meta: rows.meta.clone() })
    }
}

/// `select_key`.
pub(crate) struct SelectKey<K, V, R, F> {
    selector: F,
    types: Marker<(K, V, R)>,
}

impl<K: Data, V: Data, R: Data, F> SelectKey<K, V, R, F>
where
    F: Fn(Option<&K>, Option<&V>) -> Option<R> + Send + Sync,
{
    pub(crate) fn new(selector: F) -> Self {
        Self { selector, types: PhantomData }
    }
}

impl<K: Data, V: Data, R: Data, F> Logic for SelectKey<K, V, R, F>
where
    F: Fn(Option<&K>, Option<&V>) -> Option<R> + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let keys = rows.keys.iter().zip(rows.values.iter()).map(|(key, value)| (self.selector)(key, value)).collect();
        run.forward(&Rows { keys: Col::new(keys), values: rows.values.clone(), meta: rows.meta.clone() })
    }
}

/// A nullable key and a nullable value.
pub(crate) type Pair<K, V> = (Option<K>, Option<V>);

/// `map`.
pub(crate) struct Map<K, V, K2, V2, F> {
    mapper: F,
    types: Marker<(K, V, K2, V2)>,
}

impl<K: Data, V: Data, K2: Data, V2: Data, F> Map<K, V, K2, V2, F>
where
    F: Fn(Option<&K>, Option<&V>) -> Pair<K2, V2> + Send + Sync,
{
    pub(crate) fn new(mapper: F) -> Self {
        Self { mapper, types: PhantomData }
    }
}

impl<K: Data, V: Data, K2: Data, V2: Data, F> Logic for Map<K, V, K2, V2, F>
where
    F: Fn(Option<&K>, Option<&V>) -> Pair<K2, V2> + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let pairs = rows.keys.iter().zip(rows.values.iter()).map(|(key, value)| (self.mapper)(key, value));
        let (keys, values) = pairs.unzip();
        run.forward(&Rows { keys: Col::new(keys), values: Col::new(values), meta: rows.meta.clone() })
    }
}

/// `flat_map`.
pub(crate) struct FlatMap<K, V, K2, V2, F> {
    mapper: F,
    types: Marker<(K, V, K2, V2)>,
}

impl<K: Data, V: Data, K2: Data, V2: Data, I, F> FlatMap<K, V, K2, V2, F>
where
    I: IntoIterator<Item = Pair<K2, V2>>,
    F: Fn(Option<&K>, Option<&V>) -> I + Send + Sync,
{
    pub(crate) fn new(mapper: F) -> Self {
        Self { mapper, types: PhantomData }
    }
}

impl<K: Data, V: Data, K2: Data, V2: Data, I, F> Logic for FlatMap<K, V, K2, V2, F>
where
    I: IntoIterator<Item = Pair<K2, V2>>,
    F: Fn(Option<&K>, Option<&V>) -> I + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let (mut keys, mut values, mut parents) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..rows.len() {
            for (key, value) in (self.mapper)(rows.keys.get(row), rows.values.get(row)) {
                keys.push(key);
                values.push(value);
                parents.push(index(row));
            }
        }
        let meta = rows.meta.select(&Rc::new(parents));
        run.forward(&Rows { keys: Col::new(keys), values: Col::new(values), meta })
    }
}

/// `flat_map_values` in all its forms.
pub(crate) struct FlatMapValues<K, V, R, F> {
    mapper: F,
    types: Marker<(K, V, R)>,
}

impl<K: Data, V: Data, R: Data, I, F> FlatMapValues<K, V, R, F>
where
    I: IntoIterator<Item = Option<R>>,
    F: Fn(Option<&K>, Option<&V>) -> I + Send + Sync,
{
    pub(crate) fn new(mapper: F) -> Self {
        Self { mapper, types: PhantomData }
    }
}

impl<K: Data, V: Data, R: Data, I, F> Logic for FlatMapValues<K, V, R, F>
where
    I: IntoIterator<Item = Option<R>>,
    F: Fn(Option<&K>, Option<&V>) -> I + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let (mut values, mut parents) = (Vec::new(), Vec::new());
        for row in 0..rows.len() {
            for value in (self.mapper)(rows.keys.get(row), rows.values.get(row)) {
                values.push(value);
                parents.push(index(row));
            }
        }
        let parents = Rc::new(parents);
        let (keys, meta): (_, Meta) = (rows.keys.select(&parents), rows.meta.select(&parents));
        run.forward(&Rows { keys, values: Col::new(values), meta })
    }
}

/// `peek` and `foreach`.
pub(crate) struct Observe<K, V, F> {
    action: F,
    types: Marker<(K, V)>,
}

impl<K: Data, V: Data, F> Observe<K, V, F>
where
    F: Fn(Option<&K>, Option<&V>) + Send + Sync,
{
    pub(crate) fn new(action: F) -> Self {
        Self { action, types: PhantomData }
    }
}

impl<K: Data, V: Data, F> Logic for Observe<K, V, F>
where
    F: Fn(Option<&K>, Option<&V>) + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        for (key, value) in rows.keys.iter().zip(rows.values.iter()) {
            (self.action)(key, value);
        }
        run.forward(rows)
    }

    fn has_effects(&self) -> bool {
        true
    }
}

/// A node that only joins or labels paths: `merge`, a branch.
pub(crate) struct PassThrough<K, V>(Marker<(K, V)>);

impl<K, V> PassThrough<K, V> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K: Data, V: Data> Logic for PassThrough<K, V> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        run.forward(typed::<Rows<K, V>>(rows))
    }
}

/// A branch's condition.
pub(crate) type Predicate<K, V> = Box<dyn Fn(Option<&K>, Option<&V>) -> bool + Send + Sync>;

/// `split`: a record goes to the first branch that wants it. Children are in the order of the
/// predicates; one more child is the default branch.
pub(crate) struct Split<K, V> {
    pub(crate) predicates: Vec<Predicate<K, V>>,
}

impl<K: Data, V: Data> Logic for Split<K, V> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let mut branches = vec![Vec::new(); run.current().children.len()];
        for row in 0..rows.len() {
            let (key, value) = (rows.keys.get(row), rows.values.get(row));
            let wants = |predicate: &Predicate<K, V>| predicate(key, value);
            let branch = self.predicates.iter().position(wants).unwrap_or(self.predicates.len());
            if let Some(branch) = branches.get_mut(branch) {
                branch.push(index(row));
            }
        }
        for (child, chosen) in branches.into_iter().enumerate() {
            run.forward_to(child, &rows.cut(&Rc::new(chosen)))?;
        }
        Ok(())
    }
}
