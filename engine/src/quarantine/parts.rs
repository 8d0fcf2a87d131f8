//! Owns the rows of a call and how they are taken apart when it fails: what a part of them is, how far it brings the
//! inputs, who is to blame for a row, and what becomes of that one as a dead letter. Must not know how a call is made.

use crate::ports::Fault;
use crate::record::{Batch, Changes, Column, Cursor, Header, Input, Offset, TopicPartition};
use crate::task::Task;

/// What a call is about, in parts.
pub(crate) trait Rows {
    fn count(&self) -> usize;
    fn part(&self, from: usize, rows: usize) -> Self;
    fn latest(&self) -> Option<i64>;
    /// Of the last record of each input: input, the offset after it, and the highest timestamp up to it.
    fn reached(&self) -> Vec<(usize, Offset, i64)>;
}

impl Rows for Input {
    fn count(&self) -> usize {
        self.len()
    }

    fn part(&self, from: usize, rows: usize) -> Self {
        let mut records = Batch::default();
        let mut cursor = Cursor::default();
        cursor.skip(&self.records, from);
        records.append(&self.records, &mut cursor, rows);
        let range = from..from + rows;
        Self { topics: self.topics[range.clone()].to_vec(), offsets: self.offsets[range].to_vec(), records }
    }

    fn latest(&self) -> Option<i64> {
        self.records.timestamps.iter().copied().max()
    }

    fn reached(&self) -> Vec<(usize, Offset, i64)> {
        let mut reached: Vec<(usize, Offset, i64)> = Vec::new();
        let rows = self.topics.iter().zip(&self.offsets).zip(&self.records.timestamps);
        for ((&topic, &offset), &timestamp) in rows {
            let next = Offset(offset + 1);
            match reached.iter_mut().find(|(input, _, _)| *input == topic as usize) {
                Some((_, reached, latest)) => (*reached, *latest) = (next, timestamp.max(*latest)),
                None => reached.push((topic as usize, next, timestamp)),
            }
        }
        reached
    }
}

/// The changes of a store on their way to a flush.
pub(crate) struct Flushed<'a> {
    pub(crate) store: &'a str,
    pub(crate) changes: Changes,
}

impl Rows for Flushed<'_> {
    fn count(&self) -> usize {
        self.changes.len()
    }

    fn part(&self, from: usize, rows: usize) -> Self {
        let column = |column: &Column| column.iter().skip(from).take(rows).collect();
        let inside = |header: &&Header| (from..from + rows).contains(&(header.index as usize));
        let headers = self.changes.headers.iter().filter(inside);
        let changes = Changes {
            keys: column(&self.changes.keys),
            old_values: column(&self.changes.old_values),
            new_values: column(&self.changes.new_values),
            timestamps: self.changes.timestamps[from..from + rows].to_vec(),
            headers: headers
                .map(|h| Header { index: h.index - u32::try_from(from).unwrap_or(0), ..h.clone() })
                .collect(),
        };
        Self { store: self.store, changes }
    }

    fn latest(&self) -> Option<i64> {
        None
    }

    fn reached(&self) -> Vec<(usize, Offset, i64)> {
        Vec::new()
    }
}

/// Who is to blame if a row of a call's rows fails.
pub(crate) trait Blame: Rows {
    fn culprit(&self, task: &Task, row: usize) -> Culprit;
    /// Whether the output of one part waits for the other parts.
    fn is_sent_whole(&self) -> bool;
}

impl Blame for Input {
    fn culprit(&self, task: &Task, row: usize) -> Culprit {
        let Self { topics, offsets, records } = self.part(row, 1);
        let TopicPartition { topic, partition } = task.partition(topics[0] as usize);
        Culprit { source: Some((topic.to_string(), Some(offsets[0]))), partition, record: records }
    }

    fn is_sent_whole(&self) -> bool {
        false
    }
}

impl Blame for Flushed<'_> {
    fn culprit(&self, task: &Task, row: usize) -> Culprit {
        let Self { store, changes } = self.part(row, 1);
        let Changes { keys, new_values: values, timestamps, headers, .. } = changes;
        let record = Batch { keys, values, timestamps, headers };
        Culprit { source: Some((format!("store {store}"), None)), partition: task.spec.id.partition, record }
    }

    fn is_sent_whole(&self) -> bool {
        true
    }
}

/// Rows of a call on their way through the module: all at once, and after a failure in parts.
pub(crate) struct Pieces<R> {
    rows: R,
    /// First row and number of rows of what is left, the next part last.
    left: Vec<(usize, usize)>,
}

impl<R: Rows> Pieces<R> {
    pub(crate) fn new(rows: R) -> Self {
        let whole = (0, rows.count());
        Self { rows, left: if whole.1 > 0 { vec![whole] } else { Vec::new() } }
    }

    /// First row and number of rows of the part that is next; it counts as done unless it is split.
    pub(super) fn next(&mut self) -> Option<(usize, usize)> {
        self.left.pop()
    }

    pub(crate) fn rows(self) -> R {
        self.rows
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Lends out a part of the rows, all of them without a copy.
    pub(super) fn with_part<T>(&mut self, from: usize, size: usize, run: impl FnOnce(&mut R) -> T) -> T {
        if size == self.rows.count() { run(&mut self.rows) } else { run(&mut self.rows.part(from, size)) }
    }

    /// A part failed and is to be run again in parts of its own.
    pub(super) fn split(&mut self, from: usize, size: usize, failed: Option<usize>) {
        match failed {
            Some(index) if index < size => {
                let after = (from + index + 1, size - index - 1);
                let parts = [after, (from + index, 1), (from, index)];
                self.left.extend(parts.into_iter().filter(|&(_, size)| size > 0));
            }
            _ => self.left.extend((from..from + size).rev().map(|row| (row, 1))),
        }
    }
}

/// An input whose timestamps the module is asked for, and those it has said.
pub(crate) struct Stamping {
    pub(crate) input: usize,
    pub(crate) pieces: Pieces<Input>,
    pub(crate) timestamps: Vec<i64>,
    /// Highest timestamp taken from the input before.
    pub(crate) time: Option<i64>,
}

/// A record that failed.
pub(crate) struct Culprit {
    pub(super) source: Option<(String, Option<i64>)>,
    pub(super) partition: u32,
    pub(super) record: Batch,
}

impl Culprit {
    /// The record with KIP-1034's headers after its own.
    pub(super) fn dead_letter(&self, fault: &Fault) -> Batch {
        let mut batch = self.record.clone();
        let kind = format!("{:?}", fault.kind);
        let trace = match &fault.node {
            Some(node) => format!("{kind}: {}\n\tat {node}", fault.message),
            None => format!("{kind}: {}", fault.message),
        };
        // What there is none of Kafka Streams says by null and -1.
        let (topic, offset) = match &self.source {
            Some((topic, offset)) => (Some(topic.clone()), offset.unwrap_or(-1)),
            None => (None, -1),
        };
        let partition = if self.source.is_some() { i64::from(self.partition) } else { -1 };
        let headers = [
            ("exception", Some(kind)),
            ("message", Some(fault.message.clone())),
            ("stacktrace", Some(trace)),
            ("topic", topic),
            ("partition", Some(partition.to_string())),
            ("offset", Some(offset.to_string())),
        ];
        for (name, value) in headers {
            let key = format!("__streams.errors.{name}");
            batch.headers.push(Header { index: 0, key, value: value.map(String::into_bytes) });
        }
        batch
    }
}
