//! Owns what happens to a table that is grouped by another key: its updates go through a
//! repartition topic as changes, and are added to and taken from aggregates. Must not know what is
//! aggregated.

use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::keyed::{Keyed, TableStore};
use super::source::undecodable;
use super::stateless::{Marker, Pair};
use super::table::{TableState, forward_flushed};
use super::versioned::{one_by_one, put_versions};
use super::{Logic, SourceLogic, typed};
use crate::contract::{Batch, Changes, Failure, Fault, index, push};
use crate::rows::{Col, Cut, Data, Updates};
use crate::run::{Chunk, Run};
use crate::serdes::{SerdeError, SharedSerde};

/// `group_by` of a table: the old value leaves its group, the new one enters its own.
pub(crate) struct Regroup<K, V, K2, V2, F> {
    selector: F,
    types: Marker<(K, V, K2, V2)>,
}

impl<K: Data, V: Data, K2: Data + PartialEq, V2: Data, F> Regroup<K, V, K2, V2, F>
where
    F: Fn(&K, &V) -> Pair<K2, V2> + Send + Sync,
{
    pub(crate) fn new(selector: F) -> Self {
        Self { selector, types: PhantomData }
    }
}

impl<K: Data, V: Data, K2: Data + PartialEq, V2: Data, F> Logic for Regroup<K, V, K2, V2, F>
where
    F: Fn(&K, &V) -> Pair<K2, V2> + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let updates: &Updates<K, V> = typed(rows);
        let in_order = updates.in_order();
        let updates = in_order.as_ref().unwrap_or(updates);
        let select = |key: Option<&K>, value: Option<&V>| match (self.selector)(key?, value?) {
            (Some(key), Some(value)) => Some((key, value)),
            _ => None,
        };
        let (mut keys, mut new, mut old, mut parents) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut send = |row: usize, key: K2, entering: Option<V2>, leaving: Option<V2>| {
            keys.push(Some(key));
            new.push(entering);
            old.push(leaving);
            parents.push(index(row));
        };
        for row in 0..updates.len() {
            let key = updates.keys.get(row);
            match (select(key, updates.old(row)), select(key, updates.new.get(row))) {
                (Some((left, leaving)), Some((entered, entering))) if left == entered => {
                    send(row, left, Some(entering), Some(leaving));
                }
                (leaving, entering) => {
                    if let Some((key, value)) = leaving {
                        send(row, key, None, Some(value));
                    }
                    if let Some((key, value)) = entering {
                        send(row, key, Some(value), None);
                    }
                }
            }
        }
        let meta = updates.meta.select(&Rc::new(parents));
        run.forward(&Updates { keys: Col::new(keys), new: Col::new(new), old: Some(Col::new(old)), late: None, meta })
    }
}

/// Writes changes to the repartition topic.
pub(crate) struct ProduceChanges<K, V> {
    pub(crate) topic: String,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
}

impl<K: Data, V: Data> Logic for ProduceChanges<K, V> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let updates: &Updates<K, V> = typed(rows);
        let output = run.output(&self.topic);
        let keys = updates.keys.writer(&self.keys);
        for row in 0..updates.len() {
            let (new, old) = (updates.new.get(row), updates.old(row));
            let columns = run.columns(output);
            keys.write(row, &mut columns.keys)
                .and_then(|()| push(&mut columns.values, Some(|out: &mut Vec<u8>| self.change(new, old, out))))
                .map_err(|error| run.failure(Fault::Serialization, &updates.meta, row, error))?;
            run.finish(output, &updates.meta, row, None);
        }
        Ok(())
    }
}

/// What the last byte of a change says is before it. Kafka Streams also knows 3 to 5, the same with
/// a byte that is 0 for updates out of order, which only versioned tables send.
const OLD: u8 = 0;
const NEW: u8 = 1;
const NEW_AND_OLD: u8 = 2;
const WITH_LATEST: u8 = 3;

impl<K, V: 'static> ProduceChanges<K, V> {
    fn change(&self, new: Option<&V>, old: Option<&V>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        match (new, old) {
            (Some(new), Some(old)) => {
                let mut bytes = Vec::new();
                self.values.serialize(new, &mut bytes)?;
                write_varint(bytes.len(), out);
                out.extend_from_slice(&bytes);
                self.values.serialize(old, out)?;
                out.push(NEW_AND_OLD);
            }
            (Some(new), None) => {
                self.values.serialize(new, out)?;
                out.push(NEW);
            }
            (None, Some(old)) => {
                self.values.serialize(old, out)?;
                out.push(OLD);
            }
            (None, None) => return Err(SerdeError::new("a change has neither an old nor a new value")),
        }
        Ok(())
    }
}

/// Kafka's zigzag varint of a length.
fn write_varint(length: usize, out: &mut Vec<u8>) {
    let mut rest = (length as u64) << 1;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push((rest & 0x7f) as u8);
}

fn read_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (position, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value >> 1).ok()?, &bytes[position + 1..]));
        }
    }
    None
}

type ChangeBytes<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Splits a change into its new and its old value.
fn split_change(bytes: &[u8]) -> Option<ChangeBytes<'_>> {
    let (&kind, rest) = bytes.split_last()?;
    let (kind, rest) = match kind {
        OLD..=NEW_AND_OLD => (kind, rest),
        3..=5 => (kind - WITH_LATEST, rest.split_last()?.1),
        _ => return None,
    };
    match kind {
        OLD => Some((None, Some(rest))),
        NEW => Some((Some(rest), None)),
        _ => {
            let (length, rest) = read_varint(rest)?;
            let (new, old) = rest.split_at_checked(length)?;
            Some((Some(new), Some(old)))
        }
    }
}

/// Reads changes from the repartition topic.
pub(crate) struct ChangeSource<K, V> {
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
}

impl<K: Data, V: Data> SourceLogic for ChangeSource<K, V> {
    fn read(&self, chunk: Chunk, run: &mut Run<'_>) -> Result<(), Failure> {
        let Chunk { keys, values, meta } = chunk;
        let name = &run.current().name;
        let failed = |(row, error): (usize, _)| undecodable(name, meta.origins[row], error);
        let (mut new, mut old) = (Vec::with_capacity(values.len()), Vec::with_capacity(values.len()));
        for (row, change) in values.iter().enumerate() {
            let change = change.and_then(split_change);
            let (entering, leaving) =
                change.ok_or_else(|| failed((row, SerdeError::new("this is no change of a table"))))?;
            let read = |bytes| self.values.deserialize(bytes).map_err(|error| failed((row, error)));
            new.push(entering.map(read).transpose()?);
            old.push(leaving.map(read).transpose()?);
        }
        let keys = Col::read(keys, &self.keys).map_err(failed)?;
        run.forward(&Updates { keys, new: Col::new(new), old: Some(Col::new(old)), late: None, meta })
    }

    fn extracts_timestamps(&self) -> bool {
        false
    }

    fn extract(
        &self,
        _node: &str,
        _topic: &str,
        _partition: u32,
        _offsets: &[i64],
        records: &Batch,
        _partition_time: Option<i64>,
    ) -> Result<Vec<i64>, Failure> {
        Ok(records.timestamps.clone())
    }
}

/// `count`, `reduce` and `aggregate` of a grouped table. `fold` gets the key, the value that leaves
/// the group, the one that enters it, and the aggregate so far.
pub(crate) struct AggregateChanges<K, V, A, F> {
    pub(crate) store: TableStore<K, A>,
    pub(crate) state: Arc<TableState>,
    pub(crate) fold: F,
    pub(crate) types: PhantomData<fn() -> V>,
}

impl<K: Data, V: Data, A: Data, F> Logic for AggregateChanges<K, V, A, F>
where
    F: Fn(&K, Option<&V>, Option<&V>, Option<A>) -> Option<A> + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let updates: &Updates<K, V> = typed(rows);
        if self.store.is_versioned() && updates.len() > 1 {
            return one_by_one(updates, |row| self.process(row, run));
        }
        let sends_old = self.state.sends_old();
        if let Some(row) = (0..updates.len()).find(|row| updates.keys.is_null(*row)) {
            return Err(run.failure(Fault::Processing, &updates.meta, row, "a table is grouped by a null key"));
        }
        let mut keyed = Keyed::read(&self.store, &updates.keys, &updates.meta, false, run)?;
        let mut old = Vec::new();
        for (row, key) in updates.keys.iter().enumerate() {
            let Some(key) = key else { continue };
            let time = updates.meta.timestamps[row];
            let (before, time) = match keyed.current(&updates.meta, run)? {
                Some((aggregate, stored)) => (Some(aggregate), time.max(stored)),
                None => (None, time),
            };
            if sends_old {
                old.push(before.clone());
            }
            keyed.leave((self.fold)(key, updates.old(row), updates.new.get(row), before), time);
        }
        let made = |(new, timestamps)| Updates {
            keys: updates.keys.clone(),
            new: Col::new(new),
            old: sends_old.then(|| Col::new(old)),
            late: None,
            meta: updates.meta.with_timestamps(timestamps),
        };
        if self.store.is_versioned() {
            let put = put_versions(&self.store, made(keyed.left()), false, run)?;
            return run.forward(&put);
        }
        let made = made(keyed.write(&updates.meta, run)?);
        if run.withholds(self.store.cached) { Ok(()) } else { run.forward(&made) }
    }

    fn flush(&self, changes: &Changes, run: &mut Run<'_>) -> Result<(), Failure> {
        forward_flushed(&self.store, &self.state, changes, |_, timestamp| timestamp, run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StringSerde;

    #[test]
    fn changes_are_kafkas() {
        let sink = ProduceChanges::<String, String> {
            topic: String::new(),
            keys: Arc::new(StringSerde),
            values: Arc::new(StringSerde),
        };
        let check = |new: Option<&str>, old: Option<&str>, expected: &[u8]| {
            let (new, old) = (new.map(str::to_owned), old.map(str::to_owned));
            let mut out = Vec::new();
            sink.change(new.as_ref(), old.as_ref(), &mut out).unwrap();
            assert_eq!(out, expected);
            let read = split_change(&out).unwrap();
            assert_eq!(read, (new.as_ref().map(|new| new.as_bytes()), old.as_ref().map(|old| old.as_bytes())));
        };
        check(Some("ab"), None, b"ab\x01");
        check(None, Some("c"), b"c\x00");
        check(Some("ab"), Some("c"), b"\x04abc\x02");
        assert_eq!(split_change(b"abc\x01\x05"), None);
        assert_eq!(split_change(b"\x04abc\x01\x05"), Some((Some(&b"ab"[..]), Some(&b"c"[..]))));
    }
}
