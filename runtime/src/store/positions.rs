//! Owns how positions are persisted, in the default column family of a task's database. Must not
//! know how the database is written.
//!
//! Persisted bytes are forever. Format 1, integers big-endian:
//!
//! | key | value |
//! |---|---|
//! | `version` | 4-byte format |
//! | `identity` | `<application.id>/<task>`, or `/global` |
//! | `filled` | of global stores: what they are filled from |
//! | `c` + store name | 8-byte changelog offset |
//! | `i` + 4-byte partition + topic | 8-byte input offset |
//! | `t` | 8-byte stream time |
//! | `o` + store name | 8-byte time the store has observed, if its entries age |

use millrace_engine::ports::Positions;
use millrace_engine::record::{Offset, TopicPartition};

/// The format this program writes. Higher ones are refused.
pub(super) const VERSION: u32 = 1;

pub(super) const VERSION_KEY: &[u8] = b"version";
pub(super) const IDENTITY_KEY: &[u8] = b"identity";

pub(super) const FILLED_KEY: &[u8] = b"filled";

const CHANGELOG: u8 = b'c';
const INPUT: u8 = b'i';
const STREAM_TIME: u8 = b't';
const OBSERVED: u8 = b'o';

/// The range of the keys of all inputs, the end not in it. The key of the identity begins with the same
/// letter and is after all of them: no topic has that many partitions.
pub(super) const INPUT_KEYS: (&[u8], &[u8]) = (&[INPUT], IDENTITY_KEY);

/// The key of a store's changelog position.
pub(super) fn changelog_key(store: &str) -> Vec<u8> {
    [&[CHANGELOG], store.as_bytes()].concat()
}

/// The key of the time a store has observed.
pub(super) fn observed_key(store: &str) -> Vec<u8> {
    [&[OBSERVED], store.as_bytes()].concat()
}

/// Keys and values for what `positions` names.
pub(super) fn encode(positions: &Positions) -> Vec<(Vec<u8>, [u8; 8])> {
    let changelogs = positions.changelogs.iter().map(|(store, offset)| (changelog_key(store), offset.0.to_be_bytes()));
    let inputs = positions.inputs.iter().map(|(input, offset)| {
        let key = [&[INPUT], input.partition.to_be_bytes().as_slice(), input.topic.as_bytes()].concat();
        (key, offset.0.to_be_bytes())
    });
    let time = positions.stream_time.iter().map(|time| (vec![STREAM_TIME], time.to_be_bytes()));
    let observed = positions.observed.iter().map(|(store, time)| (observed_key(store), time.to_be_bytes()));
    changelogs.chain(inputs).chain(time).chain(observed).collect()
}

/// Takes one stored entry up; says whether it is one of format 1.
pub(super) fn decode(positions: &mut Positions, key: &[u8], value: &[u8]) -> bool {
    if [VERSION_KEY, IDENTITY_KEY, FILLED_KEY].contains(&key) {
        return true;
    }
    let Ok(value) = <[u8; 8]>::try_from(value) else { return false };
    let value = i64::from_be_bytes(value);
    match key {
        [STREAM_TIME] => positions.stream_time = Some(value),
        [CHANGELOG, store @ ..] => {
            let Ok(store) = std::str::from_utf8(store) else { return false };
            positions.changelogs.push((store.to_owned(), Offset(value)));
        }
        [OBSERVED, store @ ..] => {
            let Ok(store) = std::str::from_utf8(store) else { return false };
            positions.observe(store, value);
        }
        [INPUT, a, b, c, d, topic @ ..] => {
            let Ok(topic) = std::str::from_utf8(topic) else { return false };
            let partition = u32::from_be_bytes([*a, *b, *c, *d]);
            positions.inputs.push((TopicPartition::new(topic, partition), Offset(value)));
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Positions {
        Positions {
            changelogs: vec![("count-store".to_owned(), Offset(7))],
            inputs: vec![(TopicPartition::new("input-topic", 3), Offset(0x0102_0304_0506_0708))],
            stream_time: Some(-2),
            observed: vec![("window-store".to_owned(), 5)],
        }
    }

    /// What released versions have written. Entries may be added to this test, never changed.
    #[test]
    fn format_1_is_as_released() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let encoded: Vec<_> = encode(&sample()).iter().map(|(k, v)| (hex(k), hex(v))).collect();
        let expected = [
            ("63636f756e742d73746f7265", "0000000000000007"),
            ("6900000003696e7075742d746f706963", "0102030405060708"),
            ("74", "fffffffffffffffe"),
            ("6f77696e646f772d73746f7265", "0000000000000005"),
        ];
        assert_eq!(encoded, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!((VERSION, VERSION_KEY, IDENTITY_KEY), (1, b"version".as_slice(), b"identity".as_slice()));
    }

    #[test]
    fn decodes_what_it_encodes() {
        let mut decoded = Positions::default();
        for (key, value) in encode(&sample()) {
            assert!(decode(&mut decoded, &key, &value));
        }
        assert_eq!(decoded, sample());
    }

    #[test]
    fn refuses_foreign_entries() {
        for (key, value) in
            [(b"x".as_slice(), [0; 8].as_slice()), (b"t", b"short"), (b"i\0\0", &[0; 8]), (b"c\xff", &[0; 8])]
        {
            assert!(!decode(&mut Positions::default(), key, value), "{key:?}");
        }
    }
}
