//! Owns which records brokers won't take, as far as they have said: how large those of a topic may be, and single ones
//! that were refused. Must not know what becomes of them.
//!
//! librdkafka takes nearly any record and lets the broker refuse it, and then all is too late: the record is given up,
//! with those that were in the same batch. So a record is held against what is known before it is handed over.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_engine::record::Header;

/// What a batch has before its first record, in format 2.
const BATCH_BYTES: usize = 61;
/// Refused records that are remembered of a topic.
const REFUSED_MAX: usize = 100_000;

/// What is known of all topics, shared by all producers of the process.
#[derive(Debug, Default)]
pub struct Objections(Mutex<BTreeMap<String, Objection>>);

/// What is known of one topic.
#[derive(Debug, Clone, Default)]
pub struct Objection {
    /// Bytes of a batch (`max.message.bytes`).
    limit: Option<usize>,
    /// Keys and values of records that were refused.
    refused: Arc<HashSet<u64>>,
}

impl Objections {
    #[must_use]
    pub fn of(&self, topic: &str) -> Objection {
        self.known().get(topic).cloned().unwrap_or_default()
    }

    /// From now on the topic is held to this limit. Says whether it was not held to it, or a lower one, before.
    pub fn limit(&self, topic: &str, limit: usize) -> bool {
        let before = self.known().entry(topic.to_owned()).or_default().limit.replace(limit);
        before.is_none_or(|before| limit < before)
    }

    /// From now on this record is not sent to the topic. Says whether that was not known before.
    pub fn refuse(&self, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> bool {
        let mut known = self.known();
        let refused = Arc::make_mut(&mut known.entry(topic.to_owned()).or_default().refused);
        refused.len() < REFUSED_MAX && refused.insert(digest(key, value))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Objection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Objection {
    /// Why the topic won't take a record, if so.
    #[must_use]
    pub fn to(&self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> Option<String> {
        if let Some(limit) = self.limit {
            let size = batch_size(key, value, headers);
            if size > limit {
                return Some(format!("it needs {size} bytes, and max.message.bytes of the topic is {limit}"));
            }
        }
        let refused = !self.refused.is_empty() && self.refused.contains(&digest(key, value));
        refused.then(|| "the broker calls it invalid; its own words are in the log".to_owned())
    }
}

fn digest(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

/// Bytes of a batch with this record alone, as the broker counts them.
fn batch_size(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> usize {
    let bytes = |bytes: Option<&[u8]>| bytes.map_or(1, |bytes| varint(bytes.len()) + bytes.len());
    let header = |header: &Header| bytes(Some(header.key.as_bytes())) + bytes(header.value.as_deref());
    let headers = varint(headers.len()) + headers.iter().map(header).sum::<usize>();
    // Attributes, and the differences of timestamp and offset to the batch's own: a byte each.
    let body = 3 + bytes(key) + bytes(value) + headers;
    BATCH_BYTES + varint(body) + body
}

/// Bytes of a number in Kafka's encoding: seven bits a byte, after doubling for the sign.
fn varint(number: usize) -> usize {
    let bits = usize::BITS - (number * 2).leading_zeros();
    bits.div_ceil(7).max(1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes that Kafka's own `DefaultRecordBatch.sizeInBytes` gives for such records.
    #[test]
    fn a_batch_is_as_large_as_the_broker_says() {
        let check = |key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header], expected: usize| {
            assert_eq!(batch_size(key, value, headers), expected);
        };
        check(None, None, &[], 61 + 1 + 6);
        check(Some(b"k"), Some(b"value"), &[], 61 + 1 + 3 + 2 + 6 + 1);
        check(None, Some(&[0; 64]), &[], 61 + 2 + 3 + 1 + 66 + 1);
        let header = Header { index: 0, key: "h".to_owned(), value: None };
        check(None, None, &[header], 61 + 1 + 6 + 3);
        assert_eq!([0, 63, 64, 8191, 8192].map(varint), [1, 1, 2, 2, 3]);
    }
}
