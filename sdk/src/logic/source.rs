//! Owns what a source does: bytes of a topic become typed rows. Must not know how the host orders
//! records.

use super::SourceLogic;
use crate::contract::{Batch, Failure, Fault, index};
use crate::options::{ConsumedRecord, TimestampExtractor};
use crate::rows::{Col, Data, Rows};
use crate::run::{Raw, Reader, Run};
use crate::serdes::{SerdeError, SharedSerde};

/// Reads records of a stream.
pub(crate) struct RecordSource<K, V> {
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
    pub(crate) extractor: Option<TimestampExtractor<K, V>>,
}

impl<K: Data, V: Data> SourceLogic for RecordSource<K, V> {
    fn read(&self, reader: &mut Reader<'_>, count: usize, run: &mut Run<'_>) -> Result<(), Failure> {
        let start = reader.row();
        let mut keys = Vec::with_capacity(count);
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            let raw = reader.next();
            keys.push(read_key(&self.keys, &run.current().name, &raw)?);
            values.push(read_value(&self.values, &run.current().name, &raw)?);
        }
        let meta = reader.meta(start);
        run.forward(&Rows { keys: Col::new(keys), values: Col::new(values), meta })
    }

    fn extracts_timestamps(&self) -> bool {
        self.extractor.is_some()
    }

    fn extract(
        &self,
        node: &str,
        topic: &str,
        partition: u32,
        offsets: &[i64],
        records: &Batch,
        partition_time: Option<i64>,
    ) -> Result<Vec<i64>, Failure> {
        let Some(extractor) = &self.extractor else { return Ok(records.timestamps.clone()) };
        let mut partition_time = partition_time;
        let mut reader = Reader::new(records);
        let mut timestamps = Vec::with_capacity(offsets.len());
        for (row, &offset) in offsets.iter().enumerate() {
            let raw = reader.next();
            let key = read_key(&self.keys, node, &raw)?;
            let value = read_value(&self.values, node, &raw)?;
            let meta = reader.meta(row);
            let record = ConsumedRecord {
                topic,
                partition,
                offset,
                timestamp: records.timestamps[row],
                key: key.as_ref(),
                value: value.as_ref(),
                headers: meta.headers(0).map(|headers| &**headers),
            };
            let timestamp = extractor(&record, partition_time);
            partition_time = partition_time.max(Some(timestamp));
            timestamps.push(timestamp);
        }
        Ok(timestamps)
    }
}

pub(super) fn undecodable(node: &str, row: usize, error: SerdeError) -> Failure {
    Failure {
        fault: Fault::Deserialization,
        index: Some(index(row)),
        node: Some(node.to_owned()),
        message: error.to_string(),
    }
}

pub(super) fn read_key<K: 'static>(serde: &SharedSerde<K>, node: &str, raw: &Raw<'_>) -> Result<Option<K>, Failure> {
    let read = |bytes| serde.deserialize(bytes).map_err(|error| undecodable(node, raw.row, error));
    raw.key.map(read).transpose()
}

fn read_value<V: 'static>(serde: &SharedSerde<V>, node: &str, raw: &Raw<'_>) -> Result<Option<V>, Failure> {
    let read = |bytes| serde.deserialize(bytes).map_err(|error| undecodable(node, raw.row, error));
    raw.value.map(read).transpose()
}
