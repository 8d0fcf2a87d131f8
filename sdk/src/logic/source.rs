//! Owns what a source does: bytes of a topic become typed rows. Must not know how the host orders
//! records.

use super::SourceLogic;
use crate::contract::{Batch, Cursor, Failure, Fault, index};
use crate::options::{ConsumedRecord, TimestampExtractor};
use crate::rows::{Col, Data, Headers, Rows};
use crate::run::{Chunk, Run};
use crate::serdes::{SerdeError, SharedSerde};

/// Reads records of a stream.
pub(crate) struct RecordSource<K, V> {
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
    pub(crate) extractor: Option<TimestampExtractor<K, V>>,
}

impl<K: Data, V: Data> SourceLogic for RecordSource<K, V> {
    fn read(&self, chunk: Chunk, run: &mut Run<'_>) -> Result<(), Failure> {
        let Chunk { keys, values, meta } = chunk;
        let failed = |(row, error)| undecodable(&run.current().name, meta.origins[row], error);
        // Of two mistakes the one in the first record is told.
        let keys = Col::read(keys, &self.keys);
        let values = Col::read(values, &self.values);
        let (keys, values) = match (keys, values) {
            (Ok(keys), Ok(values)) => (keys, values),
            (Err(key), Err(value)) => return Err(failed(if value.0 < key.0 { value } else { key })),
            (Err(error), _) | (_, Err(error)) => return Err(failed(error)),
        };
        run.forward(&Rows { keys, values, meta })
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
        let (mut next_key, mut next_value) = (Cursor::default(), Cursor::default());
        let mut headers = records.headers.iter().peekable();
        let mut timestamps = Vec::with_capacity(offsets.len());
        for (row, &offset) in offsets.iter().enumerate() {
            let failed = |error| undecodable(node, index(row), error);
            let key = next_key.next(&records.keys).map(|bytes| self.keys.deserialize(bytes));
            let key = key.transpose().map_err(failed)?;
            let value = next_value.next(&records.values).map(|bytes| self.values.deserialize(bytes));
            let value = value.transpose().map_err(failed)?;
            let mut its = Headers::new();
            while let Some(header) = headers.next_if(|header| header.index as usize == row) {
                its.push(header.key.clone(), header.value.clone());
            }
            let record = ConsumedRecord {
                topic,
                partition,
                offset,
                timestamp: records.timestamps[row],
                key: key.as_ref(),
                value: value.as_ref(),
                headers: &its,
            };
            let timestamp = extractor(&record, partition_time);
            partition_time = partition_time.max(Some(timestamp));
            timestamps.push(timestamp);
        }
        Ok(timestamps)
    }
}

pub(super) fn undecodable(node: &str, origin: u32, error: SerdeError) -> Failure {
    Failure {
        fault: Fault::Deserialization,
        index: Some(origin),
        node: Some(node.to_owned()),
        message: error.to_string(),
    }
}
