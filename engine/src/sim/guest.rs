//! Owns the modules of the simulation, as native code: a count of each key, with faults on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::context::{Clock, Context, Entries};
use crate::expiry::Expiry;
use crate::ports::{Fault, FaultKind, Guest};
use crate::record::{Batch, Changes, Column, Input, Output};

/// What the count does beside counting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    /// A record with this value fails.
    pub(crate) poison: Option<Vec<u8>>,
    /// And the module can't say which it was.
    pub(crate) silent: bool,
    /// It loops without an end, and so do punctuations.
    pub(crate) endless: bool,
    /// Calls that were cut off for it.
    pub(crate) cut_off: Arc<AtomicUsize>,
    /// Forwards at flushes only.
    pub(crate) cached: bool,
    /// How its keys age.
    pub(crate) expiry: Option<Expiry>,
    /// Punctuates: clock, interval.
    pub(crate) schedule: Option<(Clock, i64)>,
    /// The value is the timestamp, in decimal.
    pub(crate) extract: bool,
    /// Writes and asks more than it may.
    pub(crate) flood: bool,
    /// It can't be used at all.
    pub(crate) init_fails: bool,
    /// The topic of its output.
    pub(crate) output: Option<String>,
    /// What it calls the origins of its output.
    pub(crate) origins: bool,
    /// Stands behind every count that it writes or forwards.
    pub(crate) version: Option<u32>,
}

/// Counts records by key in store 0, and forwards each count (a big-endian u64) under its key.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) behaviour: Behaviour,
    /// A call failed: it is no use before a reset.
    broken: bool,
}

impl Count {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, broken: true }
    }

    fn fail(&mut self, index: Option<usize>, message: &str) -> Fault {
        self.broken = true;
        let index = index.filter(|_| !self.behaviour.silent);
        let node = index.map(|_| "KSTREAM-AGGREGATE-0000000003".to_owned());
        if self.behaviour.endless {
            self.behaviour.cut_off.fetch_add(1, Ordering::Relaxed);
            return Fault::new(FaultKind::Timeout, message);
        }
        let kind = if self.behaviour.silent { FaultKind::Trap } else { FaultKind::Processing };
        Fault { index, node, ..Fault::new(kind, message) }
    }

    fn value(&self, count: u64) -> Vec<u8> {
        let version = self.behaviour.version.map(u32::to_be_bytes);
        [&count.to_be_bytes()[..], version.as_ref().map_or(&[], |version| version)].concat()
    }

    fn output(&self, records: Batch, origins: Vec<u32>) -> Vec<Output> {
        if records.is_empty() {
            return Vec::new();
        }
        let topic = self.behaviour.output.clone().unwrap_or_else(|| "counts".to_owned());
        let origins = if self.behaviour.origins { origins } else { Vec::new() };
        vec![Output { topic, records, partitions: None, origins }]
    }
}

/// The count in a value.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(*bytes.first_chunk().expect("counts have eight bytes"))
}

/// The version of the module that has written a value.
pub(crate) fn version(bytes: &[u8]) -> Option<u32> {
    bytes.get(8..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

impl Guest for Count {
    fn reset(&mut self, context: &mut Context) -> Result<(), Fault> {
        if self.behaviour.init_fails {
            return Err(self.fail(None, "not today"));
        }
        self.broken = false;
        if let Some((clock, interval)) = self.behaviour.schedule {
            context.schedule(interval, clock, None).expect("a good schedule");
        }
        Ok(())
    }

    fn extract(&mut self, input: &mut Input, _: Option<i64>) -> Result<Vec<i64>, Fault> {
        assert!(!self.broken, "called after a failure");
        let mut timestamps = Vec::new();
        for (index, value) in input.records.values.iter().enumerate() {
            let text = String::from_utf8(value.unwrap_or_default().to_vec()).expect("the tests write text");
            match text.parse() {
                Ok(timestamp) => timestamps.push(timestamp),
                Err(_) => return Err(self.fail(Some(index), "no timestamp")),
            }
        }
        Ok(timestamps)
    }

    fn process(&mut self, input: &mut Input, context: &mut Context) -> Result<Vec<Output>, Fault> {
        assert!(!self.broken, "called after a failure");
        let store = context.store("count-store").expect("the store of the tests");
        let mut records = Batch::default();
        let mut origins = Vec::new();
        if let Some(expiry) = self.behaviour.expiry {
            let seen = context.scan(store, (None, None), false, u32::MAX).map_err(|m| self.fail(None, &m.0))?;
            let latest = expiry.latest(seen.keys.iter().flatten().map(|key| (key, true)));
            let over = seen.keys.iter().flatten().find(|key| expiry.is_over(key, &[], latest));
            assert_eq!(over, None, "{latest:?} is there, too");
        }
        let rows: Vec<_> = input.records.keys.iter().zip(input.records.values.iter()).collect();
        for (index, (key, was)) in rows.into_iter().enumerate() {
            let Some(key) = key else {
                context.dropped("KSTREAM-AGGREGATE-0000000003", "null key", 1);
                continue;
            };
            let keys = Column::from_iter([Some(key)]);
            let known = context.get(store, &keys).map_err(|m| self.fail(Some(index), &m.0))?;
            let count = known.values.iter().next().flatten().map_or(0, number) + 1;
            let timestamp = input.records.timestamps[index].max(known.timestamps[0]);
            let value = self.value(count);
            let values = Column::from_iter([Some(&value[..])]);
            let entries = Entries { keys, values, timestamps: vec![timestamp] };
            context.put(store, &entries).map_err(|m| self.fail(Some(index), &m.0))?;
            if let Some(added) = context.store("added-store") {
                context.put(added, &entries).map_err(|m| self.fail(Some(index), &m.0))?;
            }
            if was.is_some_and(|was| self.behaviour.poison.as_deref() == Some(was)) {
                if self.behaviour.flood {
                    while context.put(store, &entries).is_ok() {}
                }
                return Err(self.fail(Some(index), "poison"));
            }
            if !self.behaviour.cached {
                records.push(Some(key), Some(&value), timestamp);
                origins.push(u32::try_from(index).expect("small"));
            }
        }
        Ok(self.output(records, origins))
    }

    fn punctuate(&mut self, _: u32, timestamp: i64, context: &mut Context) -> Result<Vec<Output>, Fault> {
        assert!(!self.broken, "called after a failure");
        if self.behaviour.endless {
            return Err(self.fail(None, "an endless punctuation"));
        }
        let mut records = Batch::default();
        let at = if context.wall_clock_ms() == timestamp { "wall" } else { "stream" };
        records.push(Some(b"punctuated"), Some(at.as_bytes()), timestamp);
        Ok(self.output(records, Vec::new()))
    }

    /// Forwards what changed, and writes it to the store downstream, if there is one.
    fn flush(&mut self, _: &str, changes: &mut Changes, context: &mut Context) -> Result<Vec<Output>, Fault> {
        assert!(!self.broken, "called after a failure");
        if let Some(index) = changes.keys.iter().position(|key| key == self.behaviour.poison.as_deref()) {
            return Err(self.fail(Some(index), "poison"));
        }
        let values: Vec<_> =
            changes.new_values.iter().map(|value| value.map(|value| self.value(number(value)))).collect();
        let values = Column::from_iter(values.iter().map(Option::as_deref));
        if let Some(mirror) = context.store("mirror-store") {
            let (keys, values) = (changes.keys.clone(), values.clone());
            let entries = Entries { keys, values, timestamps: changes.timestamps.clone() };
            context.put(mirror, &entries).map_err(|m| self.fail(None, &m.0))?;
        }
        let records =
            Batch { keys: changes.keys.clone(), values, timestamps: changes.timestamps.clone(), headers: Vec::new() };
        Ok(self.output(records, Vec::new()))
    }
}
