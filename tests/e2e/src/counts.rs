//! The load of the word count, and whether its output is right.

use std::collections::HashMap;
use std::str;

use anyhow::{Context, Result, ensure};
use rdkafka::Message;
use rdkafka::producer::BaseRecord;

use crate::kafka::Kafka;
use crate::records::{Reader, Writer};

/// A load that is the same each time: `records` records with random ones of `keys` keys.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub records: u64,
    pub keys: u64,
    pub value_size: usize,
    pub seed: u64,
}

impl Load {
    pub fn write(&self, kafka: &Kafka, topic: &str) -> Result<()> {
        let writer = Writer::new(kafka)?;
        let mut random = self.seed;
        let mut value = vec![b'v'; self.value_size];
        for _ in 0..self.records {
            let number = next(&mut random);
            for (place, byte) in value.iter_mut().zip(number.to_le_bytes()) {
                *place = b'a' + byte % 26;
            }
            let key = format!("key-{:08}", number % self.keys);
            writer.send(BaseRecord::<[u8], [u8]>::to(topic).key(key.as_bytes()).payload(&value))?;
        }
        writer.finish()
    }
}

/// `SplitMix64`: every bit of the number depends on every bit of the seed.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What output is expected of each key with `n` input records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// 1, 2, ... n, each once and in order.
    EveryCount,
    /// Rising, and n at last.
    Rising,
    /// n at last, whatever was repeated before.
    Last,
}

#[derive(Clone, Debug, Default)]
struct Key {
    expected: u64,
    last: u64,
    outputs: u64,
    odd: Option<String>,
    fell: bool,
}

/// What was read to come to a verdict.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    pub input: u64,
    pub output: u64,
    pub keys: usize,
}

/// Compares all of the output with all of the input.
pub fn verify(kafka: &Kafka, input: &str, output: &str, expect: Expect) -> Result<Verified> {
    let mut keys: HashMap<Vec<u8>, Key> = HashMap::new();
    let mut verified = Verified { input: 0, output: 0, keys: 0 };
    Reader::new(kafka, input)?.for_each(|message| {
        verified.input += 1;
        if let (Some(key), Some(_)) = (message.key(), message.payload()) {
            entry(&mut keys, key).expected += 1;
        }
        Ok(())
    })?;
    Reader::new(kafka, output)?.for_each(|message| {
        verified.output += 1;
        let text = str::from_utf8(message.payload().context("a null output")?)?;
        let count: u64 = text.parse().with_context(|| format!("an output that is no number: {text}"))?;
        let key = entry(&mut keys, message.key().context("an output without key")?);
        if count != key.last + 1 && key.odd.is_none() {
            key.odd = Some(format!("{count} after {} at {}/{}", key.last, message.partition(), message.offset()));
        }
        key.fell |= count <= key.last;
        key.last = count;
        key.outputs += 1;
        Ok(())
    })?;
    verified.keys = keys.len();
    let wrong: Vec<_> = keys
        .iter()
        .filter(|(_, key)| {
            key.last != key.expected
                || match expect {
                    Expect::EveryCount => key.odd.is_some() || key.outputs != key.expected,
                    Expect::Rising => key.fell,
                    Expect::Last => false,
                }
        })
        .map(|(name, key)| (String::from_utf8_lossy(name), key))
        .collect();
    let some: Vec<_> = wrong.iter().take(5).collect();
    ensure!(wrong.is_empty(), "{} of {} keys are wrong ({expect:?}), for example {some:?}", wrong.len(), keys.len());
    Ok(verified)
}

fn entry<'a>(keys: &'a mut HashMap<Vec<u8>, Key>, name: &[u8]) -> &'a mut Key {
    if !keys.contains_key(name) {
        keys.insert(name.to_owned(), Key::default());
    }
    keys.get_mut(name).expect("inserted above if it was absent")
}
