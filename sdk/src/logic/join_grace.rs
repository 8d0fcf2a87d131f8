//! Owns the join of a stream with a versioned table in which records wait for their grace period, so that they meet what the
//! table gets of their time until then. Must not know how the table keeps it.
//!
//! Who waits is in a store: by timestamp, key and a sequence number, in Kafka Streams' format. A batch is put into it, and
//! what is due by then read from it, at once; what goes on does so in the order in which it would have, one record after
//! the other.

use std::any::Any;
use std::collections::HashMap;
use std::rc::Rc;

use super::buffered::{Buffered, Origin};
use super::join::JoinStreamTable;
use super::retain::Sequence;
use super::{Logic, typed};
use crate::contract::{Cursor, Failure, Fault, empty_entries, index, push, push_bytes};
use crate::rows::{Col, Data, Headers, Meta, Rows, headers_of};
use crate::run::Run;
use crate::serdes::{SerdeError, SharedSerde};

/// How many entries the host is asked for at once.
const CHUNK: u32 = 256;
/// Kafka Streams' keys of entries in the order of time begin with it.
const BY_TIME: u8 = 0;

/// How long records wait, and where.
pub(crate) struct Grace<K, V> {
    pub(crate) store: String,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
    pub(crate) ms: i64,
}

/// The join of what has waited.
pub(crate) struct JoinStreamTableInGrace<K, V, O, R, F> {
    pub(crate) join: JoinStreamTable<K, V, O, R, F>,
    pub(crate) grace: Grace<K, V>,
}

/// When the record is due that has waited longest.
struct Earliest(i64);

impl Default for Earliest {
    /// Nobody has looked.
    fn default() -> Self {
        Self(i64::MIN)
    }
}

/// Records on their way out, in no order yet.
struct Due<K, V> {
    /// Of each: the row that brings it on, its place in the buffer and its place here.
    order: Vec<(usize, Vec<u8>, usize)>,
    keys: Vec<Option<K>>,
    values: Vec<Option<V>>,
    timestamps: Vec<i64>,
    headers: Vec<Option<Rc<Headers>>>,
}

impl<K: Data, V: Data> Due<K, V> {
    fn push(&mut self, row: usize, place: Vec<u8>, (key, value): (Option<K>, V), at: (i64, Option<Rc<Headers>>)) {
        self.order.push((row, place, self.keys.len()));
        self.keys.push(key);
        self.values.push(Some(value));
        self.timestamps.push(at.0);
        self.headers.push(at.1);
    }

    fn rows(mut self, meta: &Meta) -> Rows<K, V> {
        self.order.sort_unstable();
        let places: Rc<Vec<u32>> = Rc::new(self.order.iter().map(|&(.., place)| index(place)).collect());
        let from: Rc<Vec<u32>> = Rc::new(self.order.iter().map(|&(row, ..)| index(row)).collect());
        let timestamps = places.iter().map(|&place| self.timestamps[place as usize]).collect();
        let headers = headers_of(self.headers).map(|headers| headers.select(&places));
        let meta = Meta { headers, ..meta.select(&from).with_timestamps(timestamps) };
        Rows { keys: Col::new(self.keys).select(&places), values: Col::new(self.values).select(&places), meta }
    }
}

impl<K: Data, V: Data, O: Data, R: Data, F> Logic for JoinStreamTableInGrace<K, V, O, R, F>
where
    F: Fn(Option<&K>, &V, Option<&O>) -> R + Send + Sync,
{
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let (order, keys, values) = (Vec::new(), Vec::new(), Vec::new());
        let mut due = Due { order, keys, values, timestamps: Vec::new(), headers: Vec::new() };
        self.take(rows, &mut due, run)?;
        if due.order.is_empty() { Ok(()) } else { self.join.process(&due.rows(&rows.meta), run) }
    }
}

impl<K: Data, V: Data, O: Data, R: Data, F> JoinStreamTableInGrace<K, V, O, R, F> {
    /// Puts records into the buffer, and takes out what is due by then.
    fn take(&self, rows: &Rows<K, V>, due: &mut Due<K, V>, run: &mut Run<'_>) -> Result<(), Failure> {
        let grace = &self.grace;
        let mut sequence = run.take_kept::<Sequence>(&grace.store);
        let Earliest(mut earliest) = run.take_kept(&grace.store_times());
        let (mut entries, mut put_by) = (empty_entries(), HashMap::new());
        // After each row, up to when records are due.
        let mut ends = Vec::with_capacity(rows.meta.timestamps.len());
        let (mut end, mut dropped, now) = (i64::MIN, 0, run.host.wall_clock_ms());
        for (row, &time) in rows.meta.timestamps.iter().enumerate() {
            let (key, value) = (rows.keys.get(row), rows.values.get(row));
            let late = run.observed().is_some_and(|observed| observed.saturating_sub(grace.ms) > time);
            match (key, value) {
                (Some(key), Some(value)) if !late => {
                    end = run.observe(time).saturating_sub(grace.ms);
                    let place = grace.place(key, time, sequence.next(run));
                    let place = place.map_err(|error| run.failure(Fault::Serialization, &rows.meta, row, error))?;
                    let buffered = grace.buffered(value, (rows, row), run)?;
                    push_bytes(&mut entries.keys, Some(&place));
                    push(&mut entries.values, Some(|out: &mut Vec<u8>| buffered.write(out)))
                        .map_err(|error| run.failure(Fault::Serialization, &rows.meta, row, error))?;
                    entries.timestamps.push(now);
                    earliest = earliest.min(time);
                    put_by.insert(place, row);
                }
                // What is late has nothing to wait for, and what has no key nobody.
                (key, Some(value)) if key.is_some() || self.join.left => {
                    let at = (time, rows.meta.headers(row).cloned());
                    due.push(row, Vec::new(), (key.cloned(), value.clone()), at);
                }
                _ => dropped += 1,
            }
            ends.push(end);
        }
        run.dropped("null key or value", dropped);
        let handle = run.host.open(&grace.store)?;
        if !entries.timestamps.is_empty() {
            run.host.put(handle, &entries, &[])?;
        }
        if earliest <= end {
            earliest = self.take_due(&rows.meta, &ends, &put_by, due, run)?;
        }
        run.keep(&grace.store, sequence);
        run.keep(&grace.store_times(), Earliest(earliest));
        Ok(())
    }

    /// Takes out what is due at the end, and says when the next record is.
    fn take_due(
        &self,
        meta: &Meta,
        ends: &[i64],
        put_by: &HashMap<Vec<u8>, usize>,
        due: &mut Due<K, V>,
        run: &mut Run<'_>,
    ) -> Result<i64, Failure> {
        let grace = &self.grace;
        let last = ends.len() - 1;
        let handle = run.host.open(&grace.store)?;
        let (mut gone, mut from, now) = (empty_entries(), vec![BY_TIME], run.host.wall_clock_ms());
        let next = 'all: loop {
            let found = run.host.scan(handle, (Some(&from), None), false, CHUNK)?;
            let (mut next_key, mut next_value) = (Cursor::default(), Cursor::default());
            for _ in &found.timestamps {
                let place = next_key.next(&found.keys).unwrap_or_default();
                let value = next_value.next(&found.values).unwrap_or_default();
                let unreadable = |error: SerdeError| {
                    let message = format!("store {} has an entry that can't be read: {error}", grace.store);
                    run.failure(Fault::Processing, meta, last, message)
                };
                let (time, key) = split(place).map_err(unreadable)?;
                if time > ends[last] {
                    break 'all time;
                }
                let Buffered { origin, new, .. } = Buffered::read(value).map_err(unreadable)?;
                let key = grace.keys.deserialize(key).map_err(unreadable)?;
                let value = grace.values.deserialize(&new.unwrap_or_default()).map_err(unreadable)?;
                let row = ends.partition_point(|&end| end < time).max(put_by.get(place).copied().unwrap_or(0));
                let headers = Some(origin.headers).filter(|headers| !headers.is_empty());
                due.push(row, place.to_vec(), (Some(key), value), (origin.timestamp, headers));
                push_bytes(&mut gone.keys, Some(place));
                push_bytes(&mut gone.values, None);
                gone.timestamps.push(now);
                from.clear();
                from.extend_from_slice(place);
            }
            if found.timestamps.len() < CHUNK as usize {
                break i64::MAX;
            }
            from.push(0);
        };
        if !gone.timestamps.is_empty() {
            run.host.put(handle, &gone, &[])?;
        }
        Ok(next)
    }
}

impl<K: Data, V: Data> Grace<K, V> {
    /// What is kept beside the sequence numbers.
    fn store_times(&self) -> String {
        format!("{} times", self.store)
    }

    /// Where a record waits.
    fn place(&self, key: &K, time: i64, sequence: u32) -> Result<Vec<u8>, SerdeError> {
        let mut place = vec![BY_TIME];
        place.extend_from_slice(&time.to_be_bytes());
        self.keys.serialize(key, &mut place)?;
        place.extend_from_slice(&sequence.to_be_bytes());
        Ok(place)
    }

    fn buffered(&self, value: &V, (rows, row): (&Rows<K, V>, usize), run: &Run<'_>) -> Result<Buffered, Failure> {
        let meta = &rows.meta;
        let mut new = Vec::new();
        self.values.serialize(value, &mut new).map_err(|error| run.failure(Fault::Serialization, meta, row, error))?;
        let origin = Origin::of(meta, row, run);
        Ok(Buffered { origin, prior: None, old: None, new: Some(new), time: 0 })
    }
}

/// The time and the key of who waits at a place.
fn split(place: &[u8]) -> Result<(i64, &[u8]), SerdeError> {
    let parts = place.strip_prefix(&[BY_TIME]).and_then(|rest| {
        let (time, rest) = rest.split_first_chunk::<8>()?;
        Some((i64::from_be_bytes(*time), rest.split_last_chunk::<4>()?.0))
    });
    parts.ok_or_else(|| SerdeError::new("its key is not a time, a key and a number"))
}
