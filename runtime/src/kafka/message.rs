//! How a message that was read becomes a row of a chunk. Must not know who reads it.

use millrace_engine::record::Header;
use millrace_engine::task::Chunk;
use rdkafka::message::{BorrowedMessage, Headers, Message};

/// What a record weighs beside its bytes: its timestamp, offset and lengths.
const RECORD_OVERHEAD: usize = 24;

/// Appends a message to a chunk; gives back its weight in bytes.
pub fn push(chunk: &mut Chunk, message: &BorrowedMessage<'_>) -> usize {
    let (key, value) = (message.key(), message.payload());
    let records = &mut chunk.records;
    let mut bytes = RECORD_OVERHEAD + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
    if let Some(headers) = message.headers() {
        let index = u32::try_from(records.timestamps.len()).expect("a chunk has few records");
        for header in headers.iter() {
            bytes += header.key.len() + header.value.map_or(0, <[u8]>::len);
            let value = header.value.map(<[u8]>::to_vec);
            records.headers.push(Header { index, key: header.key.to_owned(), value });
        }
    }
    records.keys.push(key);
    records.values.push(value);
    // Records without a timestamp come from producers of before Kafka 0.10; -1 is what Kafka calls it.
    records.timestamps.push(message.timestamp().to_millis().unwrap_or(-1));
    chunk.offsets.push(message.offset());
    bytes
}
