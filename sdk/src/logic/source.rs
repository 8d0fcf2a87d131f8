//! Owns what a source does: bytes of a topic become typed rows. Must not know how the host orders
//! records.

use super::SourceLogic;
use crate::contract::{Batch, Failure, Fault, index};
use crate::options::{ConsumedRecord, TimestampExtractor};
use crate::rows::{Col, Data, Rows};
use crate::run::{Reader, Run};
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
            let failed = |error| undecodable(&run.current().name, raw.row, error);
            keys.push(raw.key.map(|bytes| self.keys.deserialize(bytes)).transpose().map_err(failed)?);
            values.push(raw.value.map(|bytes| self.values.deserialize(bytes)).transpose().map_err(failed)?);
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
            let failed = |error| undecodable(node, row, error);
            let key = raw.key.map(|bytes| self.keys.deserialize(bytes)).transpose().map_err(failed)?;
            let value = raw.value.map(|bytes| self.values.deserialize(bytes)).transpose().map_err(failed)?;
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

fn undecodable(node: &str, row: usize, error: SerdeError) -> Failure {
    Failure {
        fault: Fault::Deserialization,
        index: Some(index(row)),
        node: Some(node.to_owned()),
        message: error.to_string(),
    }
}
