//! Owns the joins of streams with streams: which records of the other stream a record meets, and when one that has met
//! none goes on alone. Must not know how stores are named.
//!
//! Each side keeps its records in a store of windows, in which the other side looks. In a left or outer join a record that
//! has met nobody waits in a store that both sides share, in the order of time, until its window is closed.
//! When that is looked for, and in which order records go on, is as in Kafka Streams. The node before the join is in `retain`,
//! the look into the other side's store in `partners`.

use std::any::Any;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::keyed::TableStore;
use super::partners::{Partner, Partners};
use super::retain::Retained;
use super::{Logic, Meeting, typed};
use crate::contract::{Cursor, Entries, Failure, Fault, empty_column, empty_entries, index, push, push_bytes};
use crate::rows::{Col, Cut, Data, Headers, Meta, Rows, headers_of};
use crate::run::Run;
use crate::serdes::{SharedSerde, Sided, Waiting};
use crate::windows::{JoinWindows, Windowed};

/// How often records whose windows are closed are looked for, by the wall clock. As with Kafka Streams' driver, tests need
/// not wait for it.
const EMIT_INTERVAL_MS: i64 = if cfg!(target_arch = "wasm32") { 1_000 } else { 0 };
/// How many waiting records the host is asked for at once.
const CHUNK: u32 = 256;

/// Joins a key, a value of this and one of the other side, as far as they are there.
pub(crate) type StreamJoiner<K, V, O, R> = Arc<dyn Fn(Option<&K>, Option<&V>, Option<&O>) -> R + Send + Sync>;

/// Where records wait for a partner.
pub(crate) struct OuterStore<K, L, R> {
    pub(crate) name: String,
    pub(crate) keys: SharedSerde<Waiting<K>>,
    pub(crate) values: SharedSerde<Arc<Vec<Sided<L, R>>>>,
}

/// What both sides of a join know of the time.
struct Times {
    stream: i64,
    /// No waiting record is known to be older.
    earliest: i64,
    next_emit: i64,
}

impl Default for Times {
    fn default() -> Self {
        Self { stream: -1, earliest: i64::MAX, next_emit: 0 }
    }
}

/// A value of this side, and one of the other.
pub(crate) type Both<'a, V, O> = (Option<&'a V>, Option<&'a O>);

/// One side of a join.
pub(crate) struct JoinStreams<K, V, O, R, L, W> {
    /// Names the join: both sides have the same.
    pub(crate) join: String,
    pub(crate) left: bool,
    /// Whether records of this side go on alone.
    pub(crate) outer: bool,
    pub(crate) windows: JoinWindows,
    pub(crate) inner: SharedSerde<K>,
    /// The other side's records.
    pub(crate) other: TableStore<Windowed<K>, O>,
    pub(crate) waiting: Option<OuterStore<K, L, W>>,
    /// How a value of this side waits, and what a waiting one is to this side.
    pub(crate) wait: fn(V) -> Sided<L, W>,
    pub(crate) sides: fn(&Sided<L, W>) -> Both<'_, V, O>,
    pub(crate) joiner: StreamJoiner<K, V, O, R>,
    pub(crate) types: PhantomData<fn() -> V>,
}

/// Records on their way out.
struct Joined<K, R> {
    keys: Vec<Option<K>>,
    values: Vec<Option<R>>,
    timestamps: Vec<i64>,
    rows: Vec<u32>,
}

impl<K, R> Joined<K, R> {
    fn push(&mut self, key: Option<K>, value: R, timestamp: i64, row: usize) {
        self.keys.push(key);
        self.values.push(Some(value));
        self.timestamps.push(timestamp);
        self.rows.push(index(row));
    }
}

impl<K: Data, V: Data, O: Data, R: Data, L: Data, W: Data> Logic for JoinStreams<K, V, O, R, L, W> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let mut times = run.take_kept::<Times>(&self.join);
        let mut all_met = self.partners().find(rows, |_, _| true, run)?.into_iter();
        let mut joined = Joined { keys: vec![], values: vec![], timestamps: vec![], rows: vec![] };
        let mut dropped = 0;
        for row in 0..rows.len() {
            let time = rows.meta.timestamps[row];
            times.stream = times.stream.max(time);
            let met = all_met.next().unwrap_or_default();
            match (rows.keys.get(row), rows.values.get(row)) {
                (None, Some(value)) if self.outer => {
                    joined.push(None, (self.joiner)(None, Some(value), None), time, row);
                }
                (Some(key), Some(value)) => {
                    if time == times.stream {
                        self.emit_waiting(rows, row, &mut times, &mut joined, run)?;
                    }
                    self.join(met, (rows, row), (key, value), &mut times, &mut joined, run)?;
                }
                _ => dropped += 1,
            }
        }
        run.keep(&self.join, times);
        run.dropped("null key or value", dropped);
        let Joined { keys, values, timestamps, rows: origins } = joined;
        let meta = rows.meta.select(&Rc::new(origins)).with_timestamps(timestamps);
        run.forward(&Rows { keys: Col::new(keys), values: Col::new(values), meta })
    }

    fn as_meeting(&self) -> Option<&dyn Meeting> {
        Some(self)
    }
}

/// A joined record, with what it has of the later one of those it is made of.
struct Met<K, R> {
    key: K,
    value: R,
    timestamp: i64,
    origin: u32,
    headers: Option<Rc<Headers>>,
}

impl<K: Data, V: Data, O: Data, R: Data, L: Data, W: Data> Meeting for JoinStreams<K, V, O, R, L, W> {
    fn meet(&self, rows: &[Box<dyn Any>], theirs: &Retained, run: &mut Run<'_>) -> Result<Box<dyn Any>, Failure> {
        let (mut joined, mut dropped) = (Vec::new(), 0);
        for rows in rows {
            let rows: &Rows<K, V> = typed(&**rows);
            let origins = &rows.meta.origins;
            // What comes later is met by that one.
            let is_before = |row: usize, stored: &[u8]| theirs.origin(stored).is_none_or(|it| it < origins[row]);
            for (row, met) in self.partners().find(rows, is_before, run)?.into_iter().enumerate() {
                let (Some(key), Some(value)) = (rows.keys.get(row), rows.values.get(row)) else {
                    dropped += 1;
                    continue;
                };
                joined.extend(met.into_iter().map(|found| Met {
                    key: key.clone(),
                    value: (self.joiner)(Some(key), Some(value), Some(&found.value)),
                    timestamp: rows.meta.timestamps[row].max(found.time),
                    origin: origins[row],
                    headers: rows.meta.headers(row).cloned(),
                }));
            }
        }
        run.dropped("null key or value", dropped);
        Ok(Box::new(joined))
    }

    fn forward(&self, joined: [Box<dyn Any>; 2], run: &mut Run<'_>) -> Result<(), Failure> {
        let joined = joined.map(|side| *side.downcast::<Vec<Met<K, R>>>().expect("both sides join the same"));
        let mut all: Vec<Met<K, R>> = joined.into_iter().flatten().collect();
        all.sort_by_key(|met| met.origin);
        let timestamps = Rc::new(all.iter().map(|met| met.timestamp).collect());
        let origins = Rc::new(all.iter().map(|met| met.origin).collect());
        let headers = headers_of(all.iter_mut().map(|met| met.headers.take()).collect());
        let (keys, values) = all.into_iter().map(|met| (Some(met.key), Some(met.value))).unzip();
        let meta = Meta { timestamps, origins, headers };
        run.forward(&Rows { keys: Col::new(keys), values: Col::new(values), meta })
    }
}

impl<K: Data, V: Data, O: Data, R: Data, L: Data, W: Data> JoinStreams<K, V, O, R, L, W> {
    /// How much earlier and later than a record of this side those are that it joins.
    fn reach(&self) -> (i64, i64) {
        let JoinWindows { before_ms, after_ms, .. } = self.windows;
        if self.left { (before_ms, after_ms) } else { (after_ms, before_ms) }
    }

    fn partners(&self) -> Partners<'_, K, O> {
        Partners { store: &self.other, inner: &self.inner, reach: self.reach() }
    }

    /// Joins a record with what it meets; if that is nobody, it goes on alone or waits.
    fn join(
        &self,
        met: Vec<Partner<O>>,
        (rows, row): (&Rows<K, V>, usize),
        (key, value): (&K, &V),
        times: &mut Times,
        joined: &mut Joined<K, R>,
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let time = rows.meta.timestamps[row];
        let latest = time.saturating_add(self.reach().1).max(0);
        for found in &met {
            let theirs = found.time;
            if let Some(waiting) = &self.waiting {
                let partner = Waiting { timestamp: theirs, left: !self.left, key: key.clone() };
                waiting.forget((rows, row), &partner, run)?;
            }
            let value = (self.joiner)(Some(key), Some(value), Some(&found.value));
            joined.push(Some(key.clone()), value, time.max(theirs), row);
        }
        if !met.is_empty() || !self.outer {
            return Ok(());
        }
        match &self.waiting {
            // What is late has been waited for.
            Some(waiting) if latest >= times.stream => {
                times.earliest = times.earliest.min(time);
                let own = Waiting { timestamp: time, left: self.left, key: key.clone() };
                waiting.add((rows, row), &own, (self.wait)(value.clone()), run)
            }
            _ => {
                joined.push(Some(key.clone()), (self.joiner)(Some(key), Some(value), None), time, row);
                Ok(())
            }
        }
    }

    /// Records of both sides whose windows have closed go on alone.
    fn emit_waiting(
        &self,
        rows: &Rows<K, V>,
        row: usize,
        times: &mut Times,
        joined: &mut Joined<K, R>,
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let Some(waiting) = &self.waiting else { return Ok(()) };
        let JoinWindows { before_ms, after_ms, grace_ms } = self.windows;
        let stream = times.stream;
        // Nothing known to wait is the latest time there is; beyond it, as in Kafka Streams, everything is over.
        let over = |time: i64, reach: i64| time.wrapping_add(reach).wrapping_add(grace_ms) < stream;
        let now = run.host.wall_clock_ms();
        if !over(times.earliest, self.reach().1) || now < times.next_emit {
            return Ok(());
        }
        times.next_emit = now.saturating_add(EMIT_INTERVAL_MS);
        times.earliest = i64::MAX;
        let (mut left_open, mut right_open) = (false, false);
        let handle = run.host.open(&waiting.name)?;
        let (mut gone, mut from) = (empty_entries(), Vec::new());
        'all: loop {
            let entries = run.host.scan(handle, (Some(&from), None), false, CHUNK)?;
            let (mut next_key, mut next_value) = (Cursor::default(), Cursor::default());
            for _ in &entries.timestamps {
                let bytes = next_key.next(&entries.keys).unwrap_or_default();
                let list = next_value.next(&entries.values).unwrap_or_default();
                from.clear();
                from.extend_from_slice(bytes);
                let unreadable = |error| {
                    let message = format!("store {} has an entry that can't be read: {error}", waiting.name);
                    run.failure(Fault::Processing, &rows.meta, row, message)
                };
                let Waiting { timestamp, left, key } = waiting.keys.deserialize(bytes).map_err(unreadable)?;
                times.earliest = timestamp;
                if left_open && right_open {
                    break 'all;
                }
                if !over(timestamp, if left { after_ms } else { before_ms }) {
                    *(if left { &mut left_open } else { &mut right_open }) = true;
                    continue;
                }
                for value in waiting.values.deserialize(list).map_err(unreadable)?.iter() {
                    let (this, that) = (self.sides)(value);
                    joined.push(Some(key.clone()), (self.joiner)(Some(&key), this, that), timestamp, row);
                }
                push_bytes(&mut gone.keys, Some(bytes));
                push_bytes(&mut gone.values, None);
                gone.timestamps.push(rows.meta.timestamps[row]);
            }
            if entries.timestamps.len() < CHUNK as usize {
                break;
            }
            from.push(0);
        }
        run.host.put(handle, &gone, &[])
    }
}

impl<K: Data, L: Data, W: Data> OuterStore<K, L, W> {
    /// The handle of the store, and what it has of a key.
    fn get<V: Data>(
        &self,
        (rows, row): (&Rows<K, V>, usize),
        key: &Waiting<K>,
        run: &mut Run<'_>,
    ) -> Result<(usize, Entries), Failure> {
        let handle = run.host.open(&self.name)?;
        let mut asked = empty_column();
        push(&mut asked, Some(|out: &mut Vec<u8>| self.keys.serialize(key, out)))
            .map_err(|error| run.failure(Fault::Serialization, &rows.meta, row, error))?;
        let mut found = run.host.get(handle, &asked)?;
        found.keys = asked;
        Ok((handle, found))
    }

    /// Nothing waits under this key any more.
    fn forget<V: Data>(&self, at: (&Rows<K, V>, usize), key: &Waiting<K>, run: &mut Run<'_>) -> Result<(), Failure> {
        let (handle, mut found) = self.get(at, key, run)?;
        if found.values.lengths.iter().all(|&length| length < 0) {
            return Ok(());
        }
        found.values = empty_column();
        push_bytes(&mut found.values, None);
        found.timestamps = vec![at.0.meta.timestamps[at.1]];
        run.host.put(handle, &found, &[])
    }

    /// One more value waits under this key.
    fn add<V: Data>(
        &self,
        (rows, row): (&Rows<K, V>, usize),
        key: &Waiting<K>,
        value: Sided<L, W>,
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let (handle, mut entries) = self.get((rows, row), key, run)?;
        let before = Cursor::default().next(&entries.values).map(|bytes| self.values.deserialize(bytes)).transpose();
        let before = before.map_err(|error| {
            let message = format!("store {} has an entry that can't be read: {error}", self.name);
            run.failure(Fault::Processing, &rows.meta, row, message)
        })?;
        let mut values = before.map_or_else(Vec::new, |values| values.to_vec());
        values.push(value);
        let values = Arc::new(values);
        entries.values = empty_column();
        push(&mut entries.values, Some(|out: &mut Vec<u8>| self.values.serialize(&values, out)))
            .map_err(|error| run.failure(Fault::Serialization, &rows.meta, row, error))?;
        entries.timestamps = vec![rows.meta.timestamps[row]];
        run.host.put(handle, &entries, &[])
    }
}
