//! Owns the shapes records have on their way through: columns, batches, offsets, ids.
//! Must not know where they come from or go to.

use std::fmt;
use std::sync::Arc;

/// Nullable byte strings, end to end; a length of -1 is null, as in Kafka's record format.
///
/// Columns made by the host are well-formed; one that came from a guest must pass
/// [`Column::check`] before it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    pub bytes: Vec<u8>,
    pub lengths: Vec<i32>,
}

impl Column {
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    pub fn push(&mut self, value: Option<&[u8]>) {
        match value {
            Some(bytes) => {
                self.bytes.extend_from_slice(bytes);
                let length = i32::try_from(bytes.len()).expect("Kafka bounds a record far below 2 GiB");
                self.lengths.push(length);
            }
            None => self.lengths.push(-1),
        }
    }

    /// Whether the lengths are legal and add up to exactly the bytes.
    #[must_use]
    pub fn check(&self) -> bool {
        let mut total = 0_usize;
        for &length in &self.lengths {
            match usize::try_from(length) {
                Ok(length) => total = total.saturating_add(length),
                Err(_) if length == -1 => {}
                Err(_) => return false,
            }
        }
        total == self.bytes.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map(move |&length| {
            let length = usize::try_from(length).ok()?;
            let (head, tail) = rest.split_at(length);
            rest = tail;
            Some(head)
        })
    }
}

impl Column {
    /// Appends `rows` rows of `other` from `row` on, whose bytes begin at `at`, and moves `at` past them.
    fn append(&mut self, other: &Self, row: usize, rows: usize, at: &mut usize) {
        let lengths = &other.lengths[row..row + rows];
        let size: usize = lengths.iter().map(|&length| usize::try_from(length).unwrap_or(0)).sum();
        self.lengths.extend_from_slice(lengths);
        self.bytes.extend_from_slice(&other.bytes[*at..*at + size]);
        *at += size;
    }
}

impl<'a> FromIterator<Option<&'a [u8]>> for Column {
    fn from_iter<I: IntoIterator<Item = Option<&'a [u8]>>>(items: I) -> Self {
        let mut column = Self::default();
        for item in items {
            column.push(item);
        }
        column
    }
}

/// One header of record `index` of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub index: u32,
    pub key: String,
    pub value: Option<Vec<u8>>,
}

/// Records in order; keys, values and timestamps have equal lengths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub keys: Column,
    pub values: Column,
    /// Milliseconds since the Unix epoch.
    pub timestamps: Vec<i64>,
    /// In record order.
    pub headers: Vec<Header>,
}

impl Batch {
    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Bytes of keys, values and headers.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers = self.headers.iter().map(|h| h.key.len() + h.value.as_ref().map_or(0, Vec::len));
        self.keys.bytes.len() + self.values.bytes.len() + headers.sum::<usize>()
    }

    /// Whether the columns are well-formed and of one length, and the headers in record order.
    #[must_use]
    pub fn check(&self) -> bool {
        let rows = self.len();
        let in_order = self.headers.windows(2).all(|pair| pair[0].index <= pair[1].index);
        let in_range = self.headers.last().is_none_or(|last| (last.index as usize) < rows);
        self.keys.len() == rows
            && self.values.len() == rows
            && self.keys.check()
            && self.values.check()
            && in_order
            && in_range
    }

    /// Adds one record without headers.
    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) {
        self.keys.push(key);
        self.values.push(value);
        self.timestamps.push(timestamp);
    }

    /// Appends the next `rows` records of `other` at `cursor` and moves the cursor past them.
    pub fn append(&mut self, other: &Self, cursor: &mut Cursor, rows: usize) {
        let base = self.len();
        let end = cursor.row + rows;
        self.keys.append(&other.keys, cursor.row, rows, &mut cursor.key_byte);
        self.values.append(&other.values, cursor.row, rows, &mut cursor.value_byte);
        self.timestamps.extend_from_slice(&other.timestamps[cursor.row..end]);
        while let Some(header) = other.headers.get(cursor.header).filter(|h| (h.index as usize) < end) {
            let index =
                u32::try_from(base + header.index as usize - cursor.row).expect("a batch has far fewer records");
            self.headers.push(Header { index, ..header.clone() });
            cursor.header += 1;
        }
        cursor.row = end;
    }
}

/// A place in a [`Batch`], between two records: columns have no index, so one reads on from where one was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    row: usize,
    key_byte: usize,
    value_byte: usize,
    header: usize,
}

impl Cursor {
    #[must_use]
    pub fn row(&self) -> usize {
        self.row
    }

    /// Moves past `rows` records of the batch it belongs to.
    pub fn skip(&mut self, batch: &Batch, rows: usize) {
        let size = |column: &Column| -> usize {
            column.lengths[self.row..self.row + rows].iter().map(|&l| usize::try_from(l).unwrap_or(0)).sum()
        };
        let (keys, values) = (size(&batch.keys), size(&batch.values));
        self.key_byte += keys;
        self.value_byte += values;
        self.row += rows;
        while batch.headers.get(self.header).is_some_and(|h| (h.index as usize) < self.row) {
            self.header += 1;
        }
    }
}

/// What a module is given to process: records of one task in processing order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Input {
    /// Of each record, the index of its topic in the task's input topics.
    pub topics: Vec<u32>,
    pub offsets: Vec<i64>,
    pub records: Batch,
}

impl Input {
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }
}

/// Records a module wants written to one topic, in order. The topic is named as in the graph:
/// internal topics without the application id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    pub topic: String,
    pub records: Batch,
    /// `None`: Kafka's default partitioner.
    pub partitions: Option<Vec<i32>>,
    /// Of each record, the index of the input record it stems from. Empty: unknown.
    pub origins: Vec<u32>,
}

/// What changed in a cached store since the last commit, one row per key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub keys: Column,
    pub old_values: Column,
    pub new_values: Column,
    pub timestamps: Vec<i64>,
    pub headers: Vec<Header>,
}

impl Changes {
    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }
}

/// A position in a partition: always the next offset to read or to be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition of a topic, by the topic's full name in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: u32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A subtopology and a partition; written `0_1`, which is also its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub subtopology: u32,
    pub partition: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.subtopology, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Random;

    type Row = (Option<Vec<u8>>, Option<Vec<u8>>, i64, Vec<(String, Option<Vec<u8>>)>);

    fn bytes(random: &mut Random) -> Option<Vec<u8>> {
        let length = random.below(6);
        let byte = u8::try_from(random.below(256)).expect("a byte");
        Some(vec![byte; length]).filter(|_| !random.once_in(4))
    }

    fn rows(random: &mut Random) -> Vec<Row> {
        let header = |random: &mut Random| (format!("h{}", random.below(3)), bytes(random));
        let row = |random: &mut Random| {
            let headers = (0..random.below(3)).map(|_| header(random)).collect();
            (bytes(random), bytes(random), i64::try_from(random.below(100)).expect("small"), headers)
        };
        (0..random.below(9)).map(|_| row(random)).collect()
    }

    fn batch(rows: &[Row]) -> Batch {
        let mut batch = Batch::default();
        for (index, (key, value, timestamp, headers)) in rows.iter().enumerate() {
            batch.push(key.as_deref(), value.as_deref(), *timestamp);
            let index = u32::try_from(index).expect("small");
            let headers = headers.iter().cloned();
            batch.headers.extend(headers.map(|(key, value)| Header { index, key, value }));
        }
        batch
    }

    #[test]
    fn a_column_gives_back_what_was_pushed() {
        for seed in 0..1_000 {
            let mut random = Random::new(seed);
            let values: Vec<_> = (0..random.below(9)).map(|_| bytes(&mut random)).collect();
            let column: Column = values.iter().map(Option::as_deref).collect();
            assert!(column.check(), "seed {seed}");
            assert!(column.iter().eq(values.iter().map(Option::as_deref)), "seed {seed}");
        }
    }

    /// Whatever passes the check can be read, and is all there.
    #[test]
    fn a_hostile_column_is_refused_or_readable() {
        let mut readable = 0;
        for seed in 0..20_000 {
            let mut random = Random::new(seed);
            let lengths = [-1, 0, 1, 2, -2, i32::MIN, i32::MAX];
            // Mostly the first few, so that some are well-formed.
            let pick =
                |random: &mut Random| if random.once_in(9) { random.below(lengths.len()) } else { random.below(4) };
            let column = Column {
                lengths: (0..random.below(6)).map(|_| lengths[pick(&mut random)]).collect(),
                bytes: vec![7; random.below(6)],
            };
            if column.check() {
                readable += 1;
                let total: usize = column.iter().map(|value| value.map_or(0, <[u8]>::len)).sum();
                assert_eq!((column.iter().count(), total), (column.len(), column.bytes.len()), "seed {seed}");
            }
        }
        assert!(readable > 1_000, "only {readable} were well-formed");
    }

    #[test]
    fn batches_are_taken_apart_and_put_together_again() {
        for seed in 0..2_000 {
            let mut random = Random::new(seed);
            let (before, rows) = (rows(&mut random), rows(&mut random));
            let whole = batch(&rows);
            let (mut cursor, mut at) = (Cursor::default(), 0);
            let (mut taken, mut expected) = (batch(&before), before);
            while at < rows.len() {
                let count = 1 + random.below(rows.len() - at);
                if random.once_in(2) {
                    cursor.skip(&whole, count);
                } else {
                    taken.append(&whole, &mut cursor, count);
                    expected.extend_from_slice(&rows[at..at + count]);
                }
                at += count;
                assert_eq!(cursor.row(), at);
            }
            assert!(taken.check(), "seed {seed}");
            assert_eq!(taken, batch(&expected), "seed {seed}");
        }
    }

    #[test]
    fn a_batch_with_unequal_columns_or_wandering_headers_is_refused() {
        let good = batch(&[(None, None, 1, vec![]), (Some(vec![1]), None, 2, vec![("h".to_owned(), None)])]);
        assert!(good.check());
        let check = |spoil: &dyn Fn(&mut Batch)| {
            let mut batch = good.clone();
            spoil(&mut batch);
            assert!(!batch.check(), "{batch:?}");
        };
        check(&|batch| batch.keys.push(None));
        check(&|batch| batch.values.lengths.truncate(1));
        check(&|batch| batch.timestamps.push(3));
        check(&|batch| batch.headers[0].index = 2);
        check(&|batch| batch.headers.push(Header { index: 0, key: String::new(), value: None }));
    }
}
