//! Owns the look of a join into the store of its other side: which records are there that rows of this side meet. Must not
//! know what becomes of them.

use super::keyed::TableStore;
use super::timed::{prefix_of, span};
use crate::contract::{Column, Cursor, Failure, Fault, empty_column, push_bytes};
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

/// Rows, and for each of them the range of the store to look in.
struct Question {
    rows: Vec<usize>,
    from: Column,
    to: Column,
}

impl Question {
    fn new() -> Self {
        Self { rows: Vec::new(), from: empty_column(), to: empty_column() }
    }

    fn push(&mut self, row: usize, from: &[u8], to: &[u8]) {
        self.rows.push(row);
        push_bytes(&mut self.from, Some(from));
        push_bytes(&mut self.to, Some(to));
    }
}

impl<K: Data, O: Data> Partners<'_, K, O> {
    /// What is to be looked for, of the rows that can meet any.
    fn ask<V: Data>(&self, rows: &Rows<K, V>, run: &Run<'_>) -> Result<Question, Failure> {
        let mut asked = Question::new();
        let (before, after) = self.reach;
        for row in 0..rows.len() {
            let (Some(key), false) = (rows.keys.get(row), rows.values.is_null(row)) else { continue };
            let time = rows.meta.timestamps[row];
            let (earliest, latest) = (time.saturating_sub(before).max(0), time.saturating_add(after).max(0));
            if earliest > latest {
                continue;
            }
            let mut prefix = Vec::new();
            self.inner
                .serialize(key, &mut prefix)
                .map_err(|error| run.failure(Fault::Serialization, &rows.meta, row, error))?;
            let [from, to] = span(&prefix, (earliest, latest));
            asked.push(row, &from, &to);
        }
        Ok(asked)
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
        let mut asked = self.ask(rows, run)?;
        let handle = run.host.open(&self.store.name)?;
        while !asked.rows.is_empty() {
            let answer = run.host.scan_each(handle, &asked.from, &asked.to, CHUNK)?;
            let (mut next_key, mut next_value) = (Cursor::default(), Cursor::default());
            let (mut next_from, mut next_to) = (Cursor::default(), Cursor::default());
            let mut left = Question::new();
            for (position, &row) in asked.rows.iter().enumerate() {
                let from = next_from.next(&asked.from).unwrap_or_default();
                let to = next_to.next(&asked.to).unwrap_or_default();
                let Some(&count) = answer.counts.get(position) else {
                    left.push(row, from, to);
                    continue;
                };
                let mut last: &[u8] = &[];
                for _ in 0..count {
                    last = next_key.next(&answer.entries.keys).unwrap_or_default();
                    let value = next_value.next(&answer.entries.values).unwrap_or_default();
                    // Longer keys that begin with this one may lie in between.
                    let suffix = last.strip_prefix(prefix_of(to)).filter(|suffix| suffix.len() == SUFFIX);
                    let Some(suffix) = suffix.filter(|_| keep(row, last)) else { continue };
                    let unreadable = |error| {
                        let message = format!("store {} has an entry that can't be read: {error}", self.store.name);
                        run.failure(Fault::Processing, &rows.meta, row, message)
                    };
                    let time = suffix.first_chunk().map_or(0, |time| i64::from_be_bytes(*time));
                    found[row].push(Partner { time, value: self.store.values.deserialize(value).map_err(unreadable)? });
                }
                if count == CHUNK {
                    // There may be more.
                    left.push(row, &[last, &[0]].concat(), to);
                }
            }
            asked = left;
        }
        Ok(found)
    }
}
