//! Owns the node before a join of streams: it keeps the records of its side in a store of windows, where the other side
//! finds them. Must not know how they are joined.

use std::any::Any;

use super::{Logic, Retaining, typed};
use crate::contract::{Failure, Fault, empty_entries, index, push};
use crate::rows::{Cut, Data, Rows};
use crate::run::Run;
use crate::serdes::SharedSerde;

/// Puts each record into its side's store once the join has seen it.
pub(crate) struct RetainForJoin<K, V> {
    /// Names the join, if records of both sides may meet at once, and how far apart in time those may be.
    pub(crate) meets: Option<(String, i64)>,
    pub(crate) store: String,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
}

/// Which bits a sequence number has.
const NUMBERS: u32 = u32::MAX >> 1;

/// Tells records of one key and time apart.
#[derive(Default)]
pub(super) struct Sequence(Option<u32>);

impl Sequence {
    /// The first instance of a task begins where Kafka Streams does. Later ones begin elsewhere, so that they don't
    /// take the place of what is there.
    pub(super) fn next(&mut self, run: &Run<'_>) -> u32 {
        let begin = || run.task().stream_time.map_or(0, |_| begin(run.host.wall_clock_ms()));
        let next = self.0.unwrap_or_else(begin).wrapping_add(1) & NUMBERS;
        *self.0.insert(next)
    }
}

/// The part of a time that changes.
fn begin(now_ms: i64) -> u32 {
    let [.., a, b, c, d] = now_ms.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

impl<K: Data, V: Data> Logic for RetainForJoin<K, V> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        if run.hold(rows) {
            return Ok(());
        }
        run.forward(rows)?;
        self.put(rows, None, run)
    }

    fn as_retaining(&self) -> Option<&dyn Retaining> {
        self.meets.is_some().then_some(self)
    }
}

impl<K: Data, V: Data> Retaining for RetainForJoin<K, V> {
    fn join(&self) -> &str {
        self.meets.as_ref().map_or("", |(join, _)| join)
    }

    fn span_ms(&self) -> i64 {
        self.meets.as_ref().map_or(0, |&(_, span_ms)| span_ms)
    }

    fn retain(&self, rows: &[Box<dyn Any>], run: &mut Run<'_>) -> Result<Retained, Failure> {
        let mut retained = Retained::default();
        rows.iter().try_for_each(|rows| self.put(typed(&**rows), Some(&mut retained), run))?;
        Ok(retained)
    }
}

impl<K: Data, V: Data> RetainForJoin<K, V> {
    /// Puts rows into the store, and says to `retained` what that was.
    fn put(&self, rows: &Rows<K, V>, mut retained: Option<&mut Retained>, run: &mut Run<'_>) -> Result<(), Failure> {
        let mut sequence = run.take_kept::<Sequence>(&self.store);
        let (mut entries, mut headers) = (empty_entries(), Vec::new());
        for row in 0..rows.len() {
            let Some(key) = rows.keys.get(row) else { continue };
            let (time, number) = (rows.meta.timestamps[row], sequence.next(run));
            let start = entries.keys.bytes.len();
            let write = |out: &mut Vec<u8>| {
                self.keys.serialize(key, out)?;
                out.extend_from_slice(&time.to_be_bytes());
                out.extend_from_slice(&number.to_be_bytes());
                Ok(())
            };
            // Nobody joins a null, but as in Kafka Streams it is in the changelog, and uses up its number.
            let value = rows.values.get(row).map(|value| |out: &mut Vec<u8>| self.values.serialize(value, out));
            push(&mut entries.keys, Some(write))
                .and_then(|()| push(&mut entries.values, value))
                .map_err(|error| run.failure(Fault::Serialization, &rows.meta, row, error))?;
            if let Some(its) = rows.meta.headers(row) {
                headers.extend(its.of_record(index(entries.timestamps.len())));
            }
            entries.timestamps.push(time);
            if let Some(retained) = &mut retained {
                retained.push(number, &entries.keys.bytes[start..], rows.meta.origins[row]);
            }
        }
        run.keep(&self.store, sequence);
        let handle = run.host.open(&self.store)?;
        run.host.put(handle, &entries, &headers)
    }
}

/// What one side has kept of the records that are to meet, by the sequence numbers, which follow each other.
#[derive(Default)]
pub(crate) struct Retained {
    first: u32,
    keys: Vec<u8>,
    /// Where the key of each ends, and which record of the input it is.
    ends: Vec<(usize, u32)>,
}

impl Retained {
    fn push(&mut self, number: u32, key: &[u8], origin: u32) {
        if self.ends.is_empty() {
            self.first = number;
        }
        self.keys.extend_from_slice(key);
        self.ends.push((self.keys.len(), origin));
    }

    /// Which record of the input was kept under a key; `None`: none of these.
    pub(super) fn origin(&self, stored: &[u8]) -> Option<u32> {
        let number = u32::from_be_bytes(*stored.last_chunk()?);
        let position = (number.wrapping_sub(self.first) & NUMBERS) as usize;
        let &(end, origin) = self.ends.get(position)?;
        let start = position.checked_sub(1).map_or(0, |before| self.ends[before].0);
        (self.keys[start..end] == *stored).then_some(origin)
    }
}
