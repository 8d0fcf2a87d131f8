//! Owns what the topology writes: a log that keeps every record for the test to read.

use std::collections::BTreeMap;

use millrace_engine::ports::{Committed, Error, Log, Partitions, Rejected};
use millrace_engine::record::{Batch, Offset, TopicPartition};

use crate::contract::Cursor;
use crate::rows::Headers;

/// A record as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawRecord {
    /// None: null.
    pub key: Option<Vec<u8>>,
    /// None: null.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// In their order.
    pub headers: Headers,
}

#[derive(Default)]
pub(super) struct Collected {
    written: Vec<(String, RawRecord)>,
    /// Where the partitions end that were written to since the last flush.
    ends: BTreeMap<TopicPartition, Offset>,
    counts: BTreeMap<String, i64>,
}

impl Collected {
    pub(super) fn take(&mut self) -> Vec<(String, RawRecord)> {
        std::mem::take(&mut self.written)
    }
}

impl Log for Collected {
    fn begin(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn objection(&self, _: &str, _: &Batch) -> Option<Rejected> {
        None
    }

    fn send(&mut self, topic: &str, _partitions: Partitions<'_>, records: &Batch) -> Result<Vec<Rejected>, Error> {
        let (mut keys, mut values) = (Cursor::default(), Cursor::default());
        let mut headers = records.headers.iter().peekable();
        for (row, &timestamp) in records.timestamps.iter().enumerate() {
            let mut its = Headers::new();
            while let Some(header) = headers.next_if(|header| header.index as usize == row) {
                its.push(header.key.clone(), header.value.clone());
            }
            let key = keys.next(&records.keys).map(<[u8]>::to_vec);
            let value = values.next(&records.values).map(<[u8]>::to_vec);
            self.written.push((topic.to_owned(), RawRecord { key, value, timestamp, headers: its }));
        }
        let count = self.counts.entry(topic.to_owned()).or_default();
        *count += i64::try_from(records.len()).unwrap_or(i64::MAX);
        self.ends.insert(TopicPartition::new(topic, 0), Offset(*count));
        Ok(Vec::new())
    }

    fn flush(&mut self) -> Result<Vec<(TopicPartition, Offset)>, Error> {
        Ok(std::mem::take(&mut self.ends).into_iter().collect())
    }

    fn commit(&mut self, _offsets: &[(TopicPartition, Committed)]) -> Result<(), Error> {
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
