//! Owns the way of a batch to a store and back: one read for all its keys, what each row makes of
//! the row before it, one write of the last value of every key. Must not know what is computed.

use crate::contract::{Column, Cursor, Entries, Failure, Fault, empty_column, empty_entries, index, push, push_bytes};
use crate::options::Materialized;
use crate::rows::{Col, Data, Meta};
use crate::run::Run;
use crate::serdes::SharedSerde;

/// A table's store as its nodes use it.
#[derive(Clone)]
pub(crate) struct TableStore<K, V> {
    pub(crate) name: String,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
    pub(crate) cached: bool,
    /// For how long it keeps versions; none: it does not.
    pub(crate) history_ms: Option<i64>,
}

impl<K, V> TableStore<K, V> {
    pub(crate) fn of(
        name: String,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
        materialized: &Materialized<K, V>,
    ) -> Self {
        let Materialized { cached, history_ms, .. } = *materialized;
        Self { name, keys, values, cached, history_ms }
    }

    pub(crate) fn is_versioned(&self) -> bool {
        self.history_ms.is_some()
    }
}

/// The latest value of a key while a batch is at work.
#[derive(Clone, Copy)]
enum Latest {
    Absent,
    /// The entry as it was read.
    Stored,
    /// What this row left.
    Row(u32),
}

/// The distinct keys of a batch and their values.
pub(crate) struct Keyed<'s, K, V> {
    store: &'s TableStore<K, V>,
    handle: usize,
    /// Of each row, the position of its key among the distinct ones.
    slots: Vec<u32>,
    distinct: Column,
    /// Where each stored value lies in `stored.values`.
    offsets: Vec<usize>,
    stored: Entries,
    latest: Vec<Latest>,
    /// Of each row, what it left.
    values: Vec<Option<V>>,
    timestamps: Vec<i64>,
}

impl<'s, K: Data, V: Data> Keyed<'s, K, V> {
    /// Takes the keys, which are not null, and reads the entries of the store unless `blind`.
    pub(crate) fn read(
        store: &'s TableStore<K, V>,
        keys: &Col<K>,
        meta: &Meta,
        blind: bool,
        run: &mut Run<'_>,
    ) -> Result<Self, Failure> {
        let count = keys.len();
        let mut slots = Vec::with_capacity(count);
        let mut known = Known::new(count);
        let (writer, mut spare) = (keys.writer(&store.keys), Vec::new());
        for row in 0..count {
            let key = writer.bytes(row, &mut spare);
            slots.push(known.settle(key.map_err(|error| run.failure(Fault::Serialization, meta, row, error))?));
        }
        let distinct = known.keys;
        let handle = run.host.open(&store.name)?;
        let stored = if blind { empty_entries() } else { run.host.get(handle, &distinct)? };
        let (offsets, latest) =
            if blind { (Vec::new(), vec![Latest::Absent; distinct.lengths.len()]) } else { lay_out(&stored.values) };
        let (values, timestamps) = (Vec::with_capacity(count), Vec::with_capacity(count));
        Ok(Self { store, handle, slots, distinct, offsets, stored, latest, values, timestamps })
    }

    /// The value and timestamp that the next row finds.
    pub(crate) fn current(&self, meta: &Meta, run: &Run<'_>) -> Result<Option<(V, i64)>, Failure> {
        let row = self.values.len();
        let slot = self.slots[row] as usize;
        match self.latest[slot] {
            Latest::Absent => Ok(None),
            Latest::Row(earlier) => {
                let earlier = earlier as usize;
                Ok(self.values[earlier].clone().map(|value| (value, self.timestamps[earlier])))
            }
            Latest::Stored => {
                let start = self.offsets[slot];
                let end = self.offsets.get(slot + 1).copied().unwrap_or(self.stored.values.bytes.len());
                let value = self.store.values.deserialize(&self.stored.values.bytes[start..end]);
                let value = value.map_err(|error| {
                    let message = format!("store {} has a value that can't be read: {error}", self.store.name);
                    run.failure(Fault::Processing, meta, row, message)
                })?;
                Ok(Some((value, self.stored.timestamps[slot])))
            }
        }
    }

    /// What the next row leaves.
    pub(crate) fn leave(&mut self, value: Option<V>, timestamp: i64) {
        let row = self.values.len();
        self.latest[self.slots[row] as usize] = Latest::Row(index(row));
        self.values.push(value);
        self.timestamps.push(timestamp);
    }

    /// The next row leaves its key as it found it.
    pub(crate) fn leave_alone(&mut self) {
        self.values.push(None);
        self.timestamps.push(0);
    }

    /// The distinct keys, as they are stored.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let mut next = Cursor::default();
        self.distinct.lengths.iter().map(move |_| next.next(&self.distinct).unwrap_or_default())
    }

    /// What each row left, without writing it.
    pub(crate) fn left(self) -> (Vec<Option<V>>, Vec<i64>) {
        (self.values, self.timestamps)
    }

    /// Writes the last value of every key that was left with one, and hands over what each row left.
    pub(crate) fn write(self, meta: &Meta, run: &mut Run<'_>) -> Result<(Vec<Option<V>>, Vec<i64>), Failure> {
        let (mut entries, mut headers) = (empty_entries(), Vec::new());
        // Only what is withheld now and flushed later needs them kept.
        let keeps_headers = meta.headers.is_some() && run.withholds(self.store.cached);
        entries.timestamps.reserve(self.latest.len());
        let mut next_key = Cursor::default();
        let all = self.latest.iter().all(|latest| matches!(latest, Latest::Row(_)));
        for latest in &self.latest {
            let key = if all { None } else { next_key.next(&self.distinct) };
            let Latest::Row(row) = *latest else { continue };
            let row = row as usize;
            let value = self.values[row].as_ref();
            push(&mut entries.values, value.map(|value| |out: &mut Vec<u8>| self.store.values.serialize(value, out)))
                .map_err(|error| run.failure(Fault::Serialization, meta, row, error))?;
            // As Kafka Streams has it, a tombstone has no time of its own but that of the record in hand.
            let timestamps = if value.is_some() { &self.timestamps } else { &*meta.timestamps };
            if keeps_headers && let Some(its) = meta.headers(row) {
                headers.extend(its.of_record(index(entries.timestamps.len())));
            }
            entries.timestamps.push(timestamps[row]);
            if !all {
                push_bytes(&mut entries.keys, key);
            }
        }
        if all {
            entries.keys = self.distinct;
        }
        run.host.put(self.handle, &entries, &headers)?;
        Ok((self.values, self.timestamps))
    }
}

fn lay_out(values: &Column) -> (Vec<usize>, Vec<Latest>) {
    let mut offset = 0;
    let place = |&length: &i32| {
        let start = offset;
        offset += usize::try_from(length).unwrap_or(0);
        (start, if length < 0 { Latest::Absent } else { Latest::Stored })
    };
    values.lengths.iter().map(place).unzip()
}

/// The keys met so far in a batch, with a hash table of their positions, twice as large as it needs to be.
struct Known {
    /// 0: free; else a position among the keys, plus 1.
    table: Vec<u32>,
    keys: Column,
    starts: Vec<usize>,
}

impl Known {
    fn new(rows: usize) -> Self {
        let table = vec![0; (rows * 2).next_power_of_two()];
        Self { table, keys: empty_column(), starts: Vec::with_capacity(rows) }
    }

    /// Where the key stands among the distinct ones.
    fn settle(&mut self, key: &[u8]) -> u32 {
        let mask = self.table.len() - 1;
        let mut place = place(key, self.table.len());
        while let Some(position) = self.table[place].checked_sub(1) {
            if self.key(position as usize) == key {
                return position;
            }
            place = (place + 1) & mask;
        }
        let position = index(self.starts.len());
        self.starts.push(self.keys.bytes.len());
        push_bytes(&mut self.keys, Some(key));
        self.table[place] = position + 1;
        position
    }

    fn key(&self, position: usize) -> &[u8] {
        let end = self.starts.get(position + 1).copied().unwrap_or(self.keys.bytes.len());
        &self.keys.bytes[self.starts[position]..end]
    }
}

/// Where a key is looked for first. Quick and good enough: a batch is bounded, so crowded keys cost little.
fn place(key: &[u8], places: usize) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, word: u64| (state.rotate_left(32) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = key.as_chunks::<8>();
    let state = words.iter().fold(key.len() as u64, |state, word| mix(state, u64::from_le_bytes(*word)));
    // The last eight bytes, some of them again, are one load.
    let last = match key.last_chunk::<8>() {
        _ if rest.is_empty() => 0,
        Some(last) => u64::from_le_bytes(*last),
        None => rest.iter().fold(0, |word, &byte| (word << 8) | u64::from(byte)),
    };
    // A product's high bits depend on all bits of its factors, its low ones on few: those are turned up and mixed again.
    let highest = mix(mix(state, last), 0) >> 32;
    usize::try_from((highest * places as u64) >> 32).expect("less than the places there are")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_share_a_place() {
        let given = ["a", "bb", "a", "", "bb", "longer than eight bytes", "", "a"];
        let mut known = Known::new(given.len());
        let places: Vec<u32> = given.iter().map(|key| known.settle(key.as_bytes())).collect();
        assert_eq!(places, [0, 1, 0, 2, 1, 3, 2, 0]);
        assert_eq!(known.keys.lengths, [1, 2, 0, 23]);
        assert_eq!(known.keys.bytes, b"abblonger than eight bytes");
    }

    #[test]
    fn similar_keys_are_spread() {
        let check = |key: fn(usize) -> Vec<u8>| {
            let taken: std::collections::HashSet<usize> = (0..1_000).map(|n| place(&key(n), 2_048)).collect();
            // Of 1,000 keys thrown at 2,048 places some 790 find one of their own.
            assert!(taken.len() > 650, "{} places for keys like {:?}", taken.len(), key(1));
        };
        check(|n| format!("key-{n:08}").into_bytes());
        check(|n| format!("{n:03}").into_bytes());
        check(|n| format!("{n:04}-a-long-and-common-end").into_bytes());
        check(|n| (n as u64).to_be_bytes().to_vec());
        check(|n| (n as u64).to_le_bytes().to_vec());
    }
}
