//! Owns the join of two tables on a foreign key. Rows of the left table subscribe to the keys of the right one that they
//! refer to, in the task that has those keys; there they are kept, and whatever the right table has or gets of a key is
//! sent to all its subscribers, back in the task of each. Must not know the topics in between.
//!
//! ```text
//! left ──▶ SubscriptionSend ──(registration topic)──▶ SubscriptionReceive ──▶ SubscriptionJoin ─┐
//!                                                            │ subscriptions                    ├─(response topic)─▶ ResponseJoin
//!                                                   right ──▶ ForeignTableJoin ─────────────────┘
//! ```
//!
//! A row may have changed while it was asked for. So a subscription names its value by a hash, and a response to another
//! value than the row has by then is passed over: the one to its new value is on its way.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use super::join::TableJoiner;
use super::view::View;
use super::{Logic, typed};
use crate::contract::{Cursor, Entries, Failure, Fault, empty_entries, index, push, push_bytes};
use crate::rows::{Col, Cut, Data, Meta, Rows, Updates};
use crate::run::Run;
use crate::serdes::{
    Instruction, Response, Serde, SharedSerde, Subscription, SubscriptionSerde, hash128, subscription_prefix,
};

use Instruction::{
    DeleteKeyAndPropagate, DeleteKeyNoPropagate, PropagateNullIfNoFkValAvailable, PropagateOnlyIfFkValAvailable,
};

/// How many subscriptions are read at once.
const CHUNK: u32 = 1_000;

/// Subscribes the rows of the left table to the keys they refer to.
pub(crate) struct SubscriptionSend<K, V, O, F> {
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
    pub(crate) foreign_keys: SharedSerde<O>,
    pub(crate) extractor: F,
    /// Rows without a partner are in the join, too.
    pub(crate) left: bool,
}

/// A foreign key, and its bytes.
type Written<O> = (O, Vec<u8>);

impl<K: Data, V: Data, O: Data, F> SubscriptionSend<K, V, O, F>
where
    F: Fn(&K, &V) -> Option<O> + Send + Sync,
{
    fn foreign_key(
        &self,
        key: &K,
        value: Option<&V>,
        (meta, row): (&Meta, usize),
        run: &Run<'_>,
    ) -> Result<Option<Written<O>>, Failure> {
        let Some(foreign_key) = value.and_then(|value| (self.extractor)(key, value)) else { return Ok(None) };
        let mut bytes = Vec::new();
        let written = self.foreign_keys.serialize(&foreign_key, &mut bytes);
        written.map_err(|error| run.failure(Fault::Serialization, meta, row, error))?;
        Ok(Some((foreign_key, bytes)))
    }

    fn subscription(
        &self,
        updates: &Updates<K, V>,
        row: usize,
        instruction: Instruction,
        run: &Run<'_>,
    ) -> Result<Subscription, Failure> {
        let failed = |error| run.failure(Fault::Serialization, &updates.meta, row, error);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let primary_key = updates.keys.writer(&self.keys).bytes(row, &mut key).map_err(failed)?.to_vec();
        let values = updates.new.writer(&self.values);
        let hash = match updates.new.is_null(row) {
            true => None,
            false => Some(hash128(values.bytes(row, &mut value).map_err(failed)?)),
        };
        let primary_partition = i32::try_from(run.task().partition).ok();
        Ok(Subscription { hash, instruction, primary_key, primary_partition })
    }
}

impl<K: Data, V: Data, O: Data, F> Logic for SubscriptionSend<K, V, O, F>
where
    F: Fn(&K, &V) -> Option<O> + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let updates: &Updates<K, V> = typed(rows);
        let in_order = updates.in_order();
        run.dropped("out of order", in_order.as_ref().map_or(0, |kept| updates.len() - kept.len()));
        let updates = in_order.as_ref().unwrap_or(updates);
        let (mut foreign_keys, mut subscriptions, mut parents) = (Vec::new(), Vec::new(), Vec::new());
        let (mut keyless, mut unrelated) = (0, 0);
        for row in 0..updates.len() {
            let Some(key) = updates.keys.get(row) else {
                keyless += 1;
                continue;
            };
            let (old, new) = (updates.old(row), updates.new.get(row));
            let left = self.foreign_key(key, old, (&updates.meta, row), run)?;
            let entered = self.foreign_key(key, new, (&updates.meta, row), run)?;
            let bytes = [&left, &entered].map(|written| written.as_ref().map(|(_, bytes)| bytes.as_slice()));
            let instructions = match self.left {
                true => left_join(old.is_some() || new.is_some(), bytes),
                false => inner_join(bytes),
            };
            unrelated += usize::from(!self.left && new.is_some() && entered.is_none());
            for (to, instruction) in [left, entered].into_iter().zip(instructions) {
                let Some(instruction) = instruction else { continue };
                foreign_keys.push(to.map(|(foreign_key, _)| foreign_key));
                subscriptions.push(Some(self.subscription(updates, row, instruction, run)?));
                parents.push(index(row));
            }
        }
        run.dropped("null key", keyless);
        run.dropped("null foreign key", unrelated);
        let meta = updates.meta.select(&Rc::new(parents));
        run.forward(&Rows { keys: Col::new(foreign_keys), values: Col::new(subscriptions), meta })
    }
}

/// What the foreign keys that a row had and has are told of it. Every change is answered, so that it is in the join.
fn left_join(changes: bool, [left, entered]: [Option<&[u8]>; 2]) -> [Option<Instruction>; 2] {
    if !changes {
        return [None, None];
    }
    let moved = left.is_some() && left != entered;
    [moved.then_some(DeleteKeyNoPropagate), Some(PropagateNullIfNoFkValAvailable)]
}

/// The same where rows are in the join only if they have a partner. A row that leaves it is answered, although it may not
/// have been there: nobody knows on this side.
fn inner_join([left, entered]: [Option<&[u8]>; 2]) -> [Option<Instruction>; 2] {
    match (left, entered) {
        (None, None) => [None, None],
        (Some(_), None) => [Some(DeleteKeyAndPropagate), None],
        (Some(left), Some(entered)) if left != entered => {
            [Some(DeleteKeyNoPropagate), Some(PropagateNullIfNoFkValAvailable)]
        }
        (_, Some(_)) => [None, Some(PropagateOnlyIfFkValAvailable)],
    }
}

/// Keeps subscriptions, in the task of the keys they are to.
pub(crate) struct SubscriptionReceive<O> {
    pub(crate) store: String,
    pub(crate) foreign_keys: SharedSerde<O>,
}

impl<O: Data> Logic for SubscriptionReceive<O> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<O, Subscription> = typed(rows);
        let (writer, mut spare) = (rows.keys.writer(&self.foreign_keys), Vec::new());
        let (mut entries, mut kept) = (empty_entries(), Vec::new());
        for (row, subscription) in rows.values.iter().enumerate() {
            let Some(subscription) = subscription else { continue };
            let failed = |error| run.failure(Fault::Serialization, &rows.meta, row, error);
            if !rows.keys.is_null(row) {
                let foreign_key = writer.bytes(row, &mut spare).map_err(failed)?;
                let mut key = subscription_prefix(foreign_key).map_err(failed)?;
                key.extend_from_slice(&subscription.primary_key);
                push_bytes(&mut entries.keys, Some(&key));
                let write = |out: &mut Vec<u8>| SubscriptionSerde.serialize(subscription, out);
                push(&mut entries.values, (!subscription.instruction.deletes()).then_some(write)).map_err(failed)?;
                entries.timestamps.push(rows.meta.timestamps[row]);
            } else if subscription.instruction != PropagateNullIfNoFkValAvailable {
                continue;
            }
            kept.push(index(row));
        }
        run.dropped("null foreign key", rows.len() - kept.len());
        if !entries.timestamps.is_empty() {
            let handle = run.host.open(&self.store)?;
            run.host.put(handle, &entries, &[])?;
        }
        if kept.len() == rows.len() { run.forward(rows) } else { run.forward(&rows.cut(&Rc::new(kept))) }
    }
}

/// Responses on their way, under the keys of the rows that subscribed.
#[derive(Default)]
struct Responses {
    keys: Vec<Option<Vec<u8>>>,
    responses: Vec<Option<Response>>,
    timestamps: Vec<i64>,
    parents: Vec<u32>,
}

impl Responses {
    fn push(&mut self, key: &[u8], response: Response, timestamp: i64, parent: usize) {
        self.keys.push(Some(key.to_vec()));
        self.responses.push(Some(response));
        self.timestamps.push(timestamp);
        self.parents.push(index(parent));
    }

    fn forward(self, meta: &Meta, run: &mut Run<'_>) -> Result<(), Failure> {
        let meta = meta.select(&Rc::new(self.parents)).with_timestamps(self.timestamps);
        run.forward(&Rows { keys: Col::new(self.keys), values: Col::new(self.responses), meta })
    }
}

fn write_value<O: Data>(
    serde: &SharedSerde<O>,
    value: Option<&O>,
    (meta, row): (&Meta, usize),
    run: &Run<'_>,
) -> Result<Option<Rc<Vec<u8>>>, Failure> {
    let Some(value) = value else { return Ok(None) };
    let mut bytes = Vec::new();
    serde.serialize(value, &mut bytes).map_err(|error| run.failure(Fault::Serialization, meta, row, error))?;
    Ok(Some(Rc::new(bytes)))
}

/// Answers a subscription with what the right table has.
pub(crate) struct SubscriptionJoin<O, W> {
    pub(crate) table: Arc<dyn View<O, W>>,
    pub(crate) values: SharedSerde<W>,
}

impl<O: Data, W: Data> Logic for SubscriptionJoin<O, W> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<O, Subscription> = typed(rows);
        let seen = self.table.look_up(&rows.keys, None, &rows.meta, run)?;
        let mut responses = Responses::default();
        for (row, (subscription, seen)) in rows.values.iter().zip(seen).enumerate() {
            let Some(Subscription { hash, instruction, primary_key, primary_partition }) = subscription else {
                continue;
            };
            let own = rows.meta.timestamps[row];
            let (value, timestamp) = seen.map_or((None, own), |(value, time)| (Some(value), time.max(own)));
            let value = match instruction {
                DeleteKeyNoPropagate => continue,
                PropagateOnlyIfFkValAvailable if value.is_none() => continue,
                DeleteKeyAndPropagate => None,
                PropagateNullIfNoFkValAvailable | PropagateOnlyIfFkValAvailable => value,
            };
            let foreign_value = write_value(&self.values, value.as_ref(), (&rows.meta, row), run)?;
            let response = Response { hash: *hash, foreign_value, primary_partition: *primary_partition };
            responses.push(primary_key, response, timestamp, row);
        }
        responses.forward(&rows.meta, run)
    }
}

/// Tells all subscribers of a key what the right table gets of it.
pub(crate) struct ForeignTableJoin<O, W> {
    pub(crate) store: String,
    pub(crate) foreign_keys: SharedSerde<O>,
    pub(crate) values: SharedSerde<W>,
}

impl<O: Data, W: Data> Logic for ForeignTableJoin<O, W> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let updates: &Updates<O, W> = typed(rows);
        let in_order = updates.in_order();
        run.dropped("out of order", in_order.as_ref().map_or(0, |kept| updates.len() - kept.len()));
        let updates = in_order.as_ref().unwrap_or(updates);
        let mut spare = Vec::new();
        let mut keyless = 0;
        for row in 0..updates.len() {
            if updates.keys.is_null(row) {
                keyless += 1;
                continue;
            }
            let failed = |error| run.failure(Fault::Serialization, &updates.meta, row, error);
            let writer = updates.keys.writer(&self.foreign_keys);
            let foreign_key = writer.bytes(row, &mut spare).map_err(failed)?;
            let prefix = subscription_prefix(foreign_key).map_err(failed)?;
            let value = write_value(&self.values, updates.new.get(row), (&updates.meta, row), run)?;
            self.tell(&prefix, value.as_ref(), (&updates.meta, row), run)?;
        }
        run.dropped("null key", keyless);
        Ok(())
    }
}

impl<O: Data, W: Data> ForeignTableJoin<O, W> {
    fn tell(
        &self,
        prefix: &[u8],
        value: Option<&Rc<Vec<u8>>>,
        (meta, row): (&Meta, usize),
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let handle = run.host.open(&self.store)?;
        let (mut from, end) = (prefix.to_vec(), after(prefix));
        loop {
            let Entries { keys, values, timestamps } =
                run.host.scan(handle, (Some(&from), Some(&end)), false, CHUNK)?;
            let (mut next_key, mut next_value, mut responses) =
                (Cursor::default(), Cursor::default(), Responses::default());
            for _ in &timestamps {
                let key = next_key.next(&keys).unwrap_or_default();
                let subscription = next_value.next(&values).unwrap_or_default();
                let Subscription { hash, primary_partition, .. } =
                    SubscriptionSerde.deserialize(subscription).map_err(|error| {
                        let message = format!("store {} has an entry that can't be read: {error}", self.store);
                        run.failure(Fault::Processing, meta, row, message)
                    })?;
                let response = Response { hash, foreign_value: value.cloned(), primary_partition };
                responses.push(&key[prefix.len()..], response, meta.timestamps[row], row);
                from.clear();
                from.extend_from_slice(key);
            }
            responses.forward(meta, run)?;
            if timestamps.len() < CHUNK as usize {
                return Ok(());
            }
            from.push(0);
        }
    }
}

/// The first of the strings behind all that begin with the prefix, which has more than bytes of 0xff.
fn after(prefix: &[u8]) -> Vec<u8> {
    let end = prefix.iter().rposition(|&byte| byte < 0xff).map_or(0, |last| last + 1);
    let mut after = prefix[..end].to_vec();
    if let Some(last) = after.last_mut() {
        *last += 1;
    }
    after
}

/// Joins a row of the left table with the response to it.
pub(crate) struct ResponseJoin<K, V, W, R> {
    pub(crate) table: Arc<dyn View<K, V>>,
    pub(crate) values: SharedSerde<V>,
    pub(crate) other_values: SharedSerde<W>,
    pub(crate) joiner: TableJoiner<V, W, R>,
    pub(crate) left: bool,
}

impl<K: Data, V: Data, W: Data, R: Data> Logic for ResponseJoin<K, V, W, R> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, Response> = typed(rows);
        let seen = self.table.look_up(&rows.keys, None, &rows.meta, run)?;
        let (mut joined, mut kept, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (row, (response, seen)) in rows.values.iter().zip(seen).enumerate() {
            let Some(response) = response else { continue };
            let value = seen.map(|(value, _)| value);
            let failed = |fault, error| run.failure(fault, &rows.meta, row, error);
            let hash = value.as_ref().map(|value| {
                bytes.clear();
                self.values.serialize(value, &mut bytes).map(|()| hash128(&bytes))
            });
            if hash.transpose().map_err(|error| failed(Fault::Serialization, error))? != response.hash {
                continue;
            }
            let other = response.foreign_value.as_ref().map(|bytes| self.other_values.deserialize(bytes));
            let other = other.transpose().map_err(|error| failed(Fault::Deserialization, error))?;
            let joins = value.is_some() && (self.left || other.is_some());
            joined.push(joins.then(|| (self.joiner)(value.as_ref(), other.as_ref())));
            kept.push(index(row));
        }
        let kept = Rc::new(kept);
        run.forward(&Rows { keys: rows.keys.select(&kept), values: Col::new(joined), meta: rows.meta.select(&kept) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_prefix() {
        let check = |prefix: &[u8], expected: &[u8]| assert_eq!(after(prefix), expected);
        check(b"\0\0\0\x01a", b"\0\0\0\x01b");
        check(b"\0\0\0\x01\xff", b"\0\0\0\x02");
        check(b"\0\0\0\xff", b"\0\0\x01");
    }

    #[test]
    fn foreign_keys_are_told_of_changes() {
        type Told = [Option<Instruction>; 2];
        let check = |left: &str, entered: &str, inner: Told, outer: Told| {
            let keys = [left, entered].map(|key| Some(key.as_bytes()).filter(|key| !key.is_empty()));
            assert_eq!(inner_join(keys), inner, "{left} {entered}");
            assert_eq!(left_join(true, keys), outer, "{left} {entered}");
        };
        let (gone, null, only) = (DeleteKeyNoPropagate, PropagateNullIfNoFkValAvailable, PropagateOnlyIfFkValAvailable);
        check("", "", [None, None], [None, Some(null)]);
        check("", "a", [None, Some(only)], [None, Some(null)]);
        check("a", "a", [None, Some(only)], [None, Some(null)]);
        check("a", "b", [Some(gone), Some(null)], [Some(gone), Some(null)]);
        check("a", "", [Some(DeleteKeyAndPropagate), None], [Some(gone), Some(null)]);
        assert_eq!(left_join(false, [None, None]), [None, None]);
    }
}
