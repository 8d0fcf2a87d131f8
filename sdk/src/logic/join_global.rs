//! Owns the join of a stream with a global table: which key a record asks for, and what it meets. Must not know how the
//! table is filled.

use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::view::View;
use super::{Logic, typed};
use crate::contract::{Failure, index};
use crate::rows::{Col, Data, Rows};
use crate::run::Run;

type Types<K, V, R> = PhantomData<fn() -> (K, V, R)>;

/// A stream's records with what a global table has of the keys that `mapper` makes of them.
pub(crate) struct JoinStreamGlobalTable<K, V, GK, GV, R, M, F> {
    pub(crate) table: Arc<dyn View<GK, GV>>,
    /// Records go on without the table having their key, or without one.
    pub(crate) left: bool,
    pub(crate) mapper: M,
    pub(crate) joiner: F,
    pub(crate) types: Types<K, V, R>,
}

impl<K: Data, V: Data, GK: Data, GV: Data, R: Data, M, F> Logic for JoinStreamGlobalTable<K, V, GK, GV, R, M, F>
where
    M: Fn(Option<&K>, &V) -> Option<GK> + Send + Sync,
    F: Fn(Option<&K>, &V, Option<&GV>) -> R + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let (mut asked, mut asking, mut dropped) = (Vec::new(), Vec::new(), 0);
        for (row, value) in rows.values.iter().enumerate() {
            let key = value.map(|value| (self.mapper)(rows.keys.get(row), value));
            match key {
                Some(key) if key.is_some() || self.left => {
                    asked.push(key);
                    asking.push(index(row));
                }
                _ => dropped += 1,
            }
        }
        run.dropped("null join key or value", dropped);
        let asking = Rc::new(asking);
        let (asked, meta) = (Col::new(asked), rows.meta.select(&asking));
        let seen = self.table.look_up(&asked, None, &meta, run)?;
        let (mut values, mut kept) = (Vec::new(), Vec::new());
        for (&row, seen) in asking.iter().zip(seen) {
            let (key, value) = (rows.keys.get(row as usize), rows.values.get(row as usize));
            if let Some(value) = value.filter(|_| seen.is_some() || self.left) {
                values.push(Some((self.joiner)(key, value, seen.as_ref().map(|(other, _)| other))));
                kept.push(row);
            }
        }
        let kept = Rc::new(kept);
        run.forward(&Rows { keys: rows.keys.select(&kept), values: Col::new(values), meta: rows.meta.select(&kept) })
    }
}
