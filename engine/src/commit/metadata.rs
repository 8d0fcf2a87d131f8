//! Owns what Kafka Streams writes beside a committed offset: the partition's stream time, and what the task's processors
//! remember, so that both survive a restart. Must not know what an offset is committed for.
//!
//! `base64(0x02 | i64 partition time | i32 n, n x {i32 length, key, i64})`, numbers big-endian; the part from `n` on is
//! left out if there is nothing in it. Version 1 ends after the time. What can't be read says nothing, as in Kafka
//! Streams: the metadata is advice, and other tools may write there.

use std::collections::BTreeMap;

const VERSION: u8 = 2;
/// Kafka Streams' word for a time not known.
const UNKNOWN: i64 = -1;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    pub partition_time: Option<i64>,
    /// What processors keep there: the same numbers in all partitions of a task, of which the highest count.
    pub processors: BTreeMap<String, i64>,
}

impl Metadata {
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.partition_time.unwrap_or(UNKNOWN).to_be_bytes());
        if !self.processors.is_empty() {
            bytes.extend(length(self.processors.len()));
            for (key, value) in &self.processors {
                bytes.extend(length(key.len()));
                bytes.extend(key.as_bytes());
                bytes.extend(value.to_be_bytes());
            }
        }
        to_base64(&bytes)
    }

    #[must_use]
    pub fn decode(text: &str) -> Self {
        from_base64(text).and_then(|bytes| parse(&bytes)).unwrap_or_default()
    }
}

fn length(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes()
}

fn parse(bytes: &[u8]) -> Option<Metadata> {
    let (&version, rest) = bytes.split_first()?;
    let (time, mut rest) = rest.split_first_chunk::<8>()?;
    let time = i64::from_be_bytes(*time);
    let mut metadata = Metadata { partition_time: (time >= 0).then_some(time), ..Metadata::default() };
    if version == 1 || (version == VERSION && rest.is_empty()) {
        return Some(metadata);
    }
    if version != VERSION {
        return None;
    }
    for _ in 0..take_length(&mut rest)? {
        let size = take_length(&mut rest)?;
        let (key, after) = rest.split_at_checked(size)?;
        let (value, after) = after.split_first_chunk::<8>()?;
        metadata.processors.insert(String::from_utf8(key.to_vec()).ok()?, i64::from_be_bytes(*value));
        rest = after;
    }
    Some(metadata)
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(i32::from_be_bytes(*length)).ok()
}

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().enumerate().fold(0_u32, |group, (i, &byte)| group | u32::from(byte) << (16 - 8 * i));
        for digit in 0..4 {
            if digit > chunk.len() {
                text.push('=');
            } else {
                text.push(char::from(ALPHABET[(group >> (18 - 6 * digit)) as usize & 63]));
            }
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut group, mut bits) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|&known| known == digit)?;
        group = group << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(group >> bits & 0xff).ok()?);
        }
    }
    // Six bits over are a digit that says nothing.
    if bits < 6 { Some(bytes) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(partition_time: Option<i64>, processors: &[(&str, i64)]) -> Metadata {
        let processors = processors.iter().map(|&(key, value)| (key.to_owned(), value)).collect();
        Metadata { partition_time, processors }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for time in [None, Some(0), Some(1_700_000_000_000), Some(i64::MAX)] {
            for processors in [&[][..], &[("a", 1)], &[("KSTREAM-AGGREGATE-0000000003", i64::MIN), ("é", 7)]] {
                let written = metadata(time, processors);
                assert_eq!(Metadata::decode(&written.encode()), written);
            }
        }
    }

    /// Made with `TopicPartitionMetadata` of Kafka Streams 4.3.1.
    #[test]
    fn kafka_streams_writes_the_same() {
        let check = |text: &str, expected: &Metadata| {
            assert_eq!(&Metadata::decode(text), expected);
            assert_eq!(expected.encode(), text);
        };
        let time = Some(1_700_000_000_000);
        check("Av//////////", &metadata(None, &[]));
        check("AgAAAAAAAAAA", &metadata(Some(0), &[]));
        check("AgAAAYvP5WgA", &metadata(time, &[]));
        check("AgAAAYvP5WgAAAAAAQAAAANrZXkAAAAAAAAAKg==", &metadata(time, &[("key", 42)]));
        check("AgAAAYvP5WgAAAAAAQAAAARrw6l5//////////k=", &metadata(time, &[("kéy", -7)]));
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        let cases = ["", "A", "=", "AA==", "!!!!", "metadata of another tool", "AwAAAYvP5WgA", "AgAAAYvP5WgAAAAAAQ=="];
        for text in cases {
            assert_eq!(Metadata::decode(text), Metadata::default(), "{text:?}");
        }
    }

    #[test]
    fn version_one_has_the_time_only() {
        let mut bytes = vec![1];
        bytes.extend(42_i64.to_be_bytes());
        assert_eq!(Metadata::decode(&to_base64(&bytes)), metadata(Some(42), &[]));
    }
}
