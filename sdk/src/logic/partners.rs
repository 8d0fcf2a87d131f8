//! Owns the look of a join into the store of its other side: which records are there that rows of this side meet. Must not
//! know what becomes of them.

use super::keyed::TableStore;
use crate::contract::{Column, Cursor, Failure, Fault, empty_column, push, push_bytes};
use crate::rows::{Cut, Data, Rows};
use crate::run::Run;
use crate::serdes::SharedSerde;
use crate::windows::Windowed;

/// What the stored form of a key has behind it: 8-byte time, 4-byte sequence number.
const SUFFIX: usize = 12;
/// How many records the host is asked for at once for each row: mostly all there are.
const CHUNK: u32 = 64;

/// The other side's records.
pub(super) struct Partners<'s, K, O> {
    pub(super) store: &'s TableStore<Windowed<K>, O>,
    /// The serde of the keys without their times.
    pub(super) inner: &'s SharedSerde<K>,
    /// How much earlier and later than a row those are that it meets.
    pub(super) reach: (i64, i64),
}

/// A record of the other side.
pub(super) struct Partner<O> {
    pub(super) time: i64,
    pub(super) value: O,
}

impl<K: Data, O: Data> Partners<'_, K, O> {
    /// The rows that can meet any, and for each of them where those begin and end.
    fn ask<V: Data>(&self, rows: &Rows<K, V>, run: &Run<'_>) -> Result<(Vec<usize>, Column, Column), Failure> {
        let (mut from, mut to) = (empty_column(), empty_column());
        let mut asked = Vec::with_capacity(rows.len());
        let (before, after) = self.reach;
        for row in 0..rows.len() {
            let (Some(key), false) = (rows.keys.get(row), rows.values.is_null(row)) else { continue };
            let time = rows.meta.timestamps[row];
            let (earliest, latest) = (time.saturating_sub(before).max(0), time.saturating_add(after).max(0));
            if earliest > latest {
                continue;
            }
            let start = from.bytes.len();
            push(&mut from, Some(|out: &mut Vec<u8>| self.inner.serialize(key, out)))
                .map_err(|error| run.failure(Fault::Serialization, &rows.meta, row, error))?;
            // Behind the time there are no more than eight bytes, none of which begins with a 1.
            let end = [&from.bytes[start..], &latest.to_be_bytes(), &[0xff; 8]].concat();
            push_bytes(&mut to, Some(&end));
            extend_last(&mut from, &earliest.to_be_bytes());
            asked.push(row);
        }
        Ok((asked, from, to))
    }

    /// Of each row, the records of the other side that it meets, in the order of their times; only those
    /// that `keep` picks, by the row and the key under which they are stored.
    pub(super) fn find<V: Data>(
        &self,
        rows: &Rows<K, V>,
        keep: impl Fn(usize, &[u8]) -> bool,
        run: &mut Run<'_>,
    ) -> Result<Vec<Vec<Partner<O>>>, Failure> {
        let mut found: Vec<Vec<Partner<O>>> = (0..rows.len()).map(|_| Vec::new()).collect();
        let (asked, mut from, mut to) = self.ask(rows, run)?;
        let handle = run.host.open(&self.store.name)?;
        let mut read = |row: usize, stored: &[u8], value: &[u8], prefix: &[u8], run: &Run<'_>| {
            // Longer keys that begin with this one may lie in between.
            let Some(suffix) = stored.strip_prefix(prefix).filter(|suffix| suffix.len() == SUFFIX) else {
                return Ok(());
            };
            if keep(row, stored) {
                let unreadable = |error| {
                    let message = format!("store {} has an entry that can't be read: {error}", self.store.name);
                    run.failure(Fault::Processing, &rows.meta, row, message)
                };
                let time = suffix.first_chunk().map_or(0, |time| i64::from_be_bytes(*time));
                found[row].push(Partner { time, value: self.store.values.deserialize(value).map_err(unreadable)? });
            }
            Ok(())
        };
        let mut asked = asked.as_slice();
        while !asked.is_empty() {
            let answer = run.host.scan_each(handle, &from, &to, CHUNK)?;
            let (mut next_key, mut next_value) = (Cursor::default(), Cursor::default());
            let (mut next_from, mut next_to) = (Cursor::default(), Cursor::default());
            for (&row, &count) in asked.iter().zip(&answer.counts) {
                let start = next_from.next(&from).unwrap_or_default();
                let end = next_to.next(&to).unwrap_or_default();
                let prefix = &start[..start.len() - size_of::<i64>()];
                let mut last = Vec::new();
                for at in 0..count {
                    let stored = next_key.next(&answer.entries.keys).unwrap_or_default();
                    let value = next_value.next(&answer.entries.values).unwrap_or_default();
                    read(row, stored, value, prefix, run)?;
                    if at + 1 == CHUNK {
                        last = stored.to_vec();
                    }
                }
                // There may be more.
                while !last.is_empty() {
                    last.push(0);
                    let more = run.host.scan(handle, (Some(&last), Some(end)), false, CHUNK)?;
                    let (mut next_key, mut next_value) = (Cursor::default(), Cursor::default());
                    last.clear();
                    for at in 1..=more.timestamps.len() {
                        let stored = next_key.next(&more.keys).unwrap_or_default();
                        read(row, stored, next_value.next(&more.values).unwrap_or_default(), prefix, run)?;
                        if at == CHUNK as usize {
                            last = stored.to_vec();
                        }
                    }
                }
            }
            let answered = answer.counts.len().clamp(1, asked.len());
            asked = &asked[answered..];
            (from, to) = (rest(&from, next_from), rest(&to, next_to));
        }
        Ok(found)
    }
}

/// Appends to the last string of a column, which is not null.
fn extend_last(column: &mut Column, bytes: &[u8]) {
    column.bytes.extend_from_slice(bytes);
    if let Some(length) = column.lengths.last_mut() {
        *length += i32::try_from(bytes.len()).unwrap_or(0);
    }
}

/// What is left of a column.
fn rest(column: &Column, mut next: Cursor) -> Column {
    let mut rest = empty_column();
    while let Some(bytes) = next.next(column) {
        push_bytes(&mut rest, Some(bytes));
    }
    rest
}
