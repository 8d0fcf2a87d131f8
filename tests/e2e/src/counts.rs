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
    /// Keys in random order, some more often than others.
    pub fn write(&self, kafka: &Kafka, topic: &str) -> Result<()> {
        self.write_keys(kafka, topic, |_, random| random % self.keys)
    }

    /// Keys in turn, so that each is there if there are as many records.
    pub fn write_in_turn(&self, kafka: &Kafka, topic: &str) -> Result<()> {
        self.write_keys(kafka, topic, |index, _| index % self.keys)
    }

    /// Records of as many keys, each in this topic and then in another one.
    pub fn write_pairs(&self, kafka: &Kafka, topics: [&str; 2]) -> Result<()> {
        self.write_to(kafka, &topics, |index, _| index)
    }

    /// The keys that are made of the number of a record, from 0 on, and of a random number.
    pub fn write_keys(&self, kafka: &Kafka, topic: &str, key: impl Fn(u64, u64) -> u64) -> Result<()> {
        self.write_to(kafka, &[topic], key)
    }

    fn write_to(&self, kafka: &Kafka, topics: &[&str], key: impl Fn(u64, u64) -> u64) -> Result<()> {
        let writer = Writer::new(kafka)?;
        let mut random = self.seed;
        let mut value = vec![b'v'; self.value_size];
        for index in 0..self.records {
            let number = next(&mut random);
            for (place, byte) in value.iter_mut().zip(number.to_le_bytes()) {
                *place = b'a' + byte % 26;
            }
            let key = format!("key-{:08}", key(index, number));
            for topic in topics {
                writer.send(BaseRecord::<[u8], [u8]>::to(topic).key(key.as_bytes()).payload(&value))?;
            }
        }
        writer.finish()
    }
}

/// `SplitMix64`: every bit of the number depends on every bit of the seed.
pub fn next(seed: &mut u64) -> u64 {
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
    /// n or more: what at-least-once promises whatever happens.
    AtLeast,
}

/// What is known of one key.
#[derive(Clone, Debug, Default)]
struct Key {
    /// Input records.
    expected: u64,
    last: u64,
    highest: u64,
    repeated: u64,
    skipped: u64,
    /// The first output that was not one more than the one before.
    odd: Option<String>,
}

impl Key {
    fn wrongs(&self) -> Wrongs {
        Wrongs {
            lost: self.expected.saturating_sub(self.highest),
            duplicated: self.repeated + self.highest.saturating_sub(self.expected),
            skipped: self.skipped,
        }
    }

    fn is_wrong(&self, expect: Expect) -> bool {
        match expect {
            Expect::EveryCount => self.wrongs() != Wrongs::default(),
            Expect::Rising => self.last != self.expected || self.repeated > 0,
            Expect::Last => self.last != self.expected,
            Expect::AtLeast => self.highest < self.expected,
        }
    }
}

/// In what an output differs from 1, 2, ... n of each key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrongs {
    /// Input records that are in no count.
    pub lost: u64,
    /// Counts that came again, and input records that were counted again.
    pub duplicated: u64,
    /// Counts that were left out between two others.
    pub skipped: u64,
}

/// What was read to come to a verdict.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    pub input: u64,
    pub output: u64,
    pub keys: usize,
}

/// Input and output, key by key.
#[derive(Default)]
pub struct Audit {
    keys: HashMap<Vec<u8>, Key>,
    pub input: u64,
    pub output: u64,
}

impl Audit {
    /// All there is in both topics now.
    pub fn read(kafka: &Kafka, input: &str, output: &str) -> Result<Self> {
        Self::read_as(kafka, input, output, |key, _| key.to_owned())
    }

    /// The same, where the keys of the output are made of the keys and the timestamps of the input.
    fn read_as(kafka: &Kafka, input: &str, output: &str, key: impl Fn(&[u8], i64) -> Vec<u8>) -> Result<Self> {
        let mut audit = Self::default();
        Reader::new(kafka, input)?.for_each(|message| {
            audit.input += 1;
            if let (Some(name), Some(_), Some(time)) =
                (message.key(), message.payload(), message.timestamp().to_millis())
            {
                audit.key(&key(name, time)).expected += 1;
            }
            Ok(())
        })?;
        Reader::new(kafka, output)?.for_each(|message| audit.add_output(message).map(drop))?;
        Ok(audit)
    }

    /// Says what is odd about the first output of its key that is.
    pub fn add_output(&mut self, message: &impl Message) -> Result<Option<&str>> {
        self.output += 1;
        let text = str::from_utf8(message.payload().context("a null output")?)?;
        let count: u64 = text.parse().with_context(|| format!("an output that is no number: {text}"))?;
        let key = self.key(message.key().context("an output without key")?);
        let mut news = false;
        if count != key.last + 1 && key.odd.is_none() {
            news = true;
            key.odd = Some(format!("{count} after {} at {}/{}", key.last, message.partition(), message.offset()));
        }
        if count <= key.highest {
            key.repeated += 1;
        } else {
            key.skipped += count - key.highest - 1;
            key.highest = count;
        }
        key.last = count;
        Ok(key.odd.as_deref().filter(|_| news))
    }

    #[must_use]
    pub fn wrongs(&self) -> Wrongs {
        self.keys.values().map(Key::wrongs).fold(Wrongs::default(), |sum, key| Wrongs {
            lost: sum.lost + key.lost,
            duplicated: sum.duplicated + key.duplicated,
            skipped: sum.skipped + key.skipped,
        })
    }

    /// Input records of each key.
    pub fn expected(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.keys.iter().map(|(name, key)| (&**name, key.expected))
    }

    pub fn check(&self, expect: Expect) -> Result<Verified> {
        let wrong = self.keys.iter().filter(|(_, key)| key.is_wrong(expect));
        let wrong: Vec<_> = wrong.map(|(name, key)| (String::from_utf8_lossy(name), key)).collect();
        let (some, all) = (wrong.iter().take(5).collect::<Vec<_>>(), self.keys.len());
        ensure!(wrong.is_empty(), "{} of {all} keys are wrong ({expect:?}), for example {some:?}", wrong.len());
        Ok(Verified { input: self.input, output: self.output, keys: all })
    }

    fn key(&mut self, name: &[u8]) -> &mut Key {
        if !self.keys.contains_key(name) {
            self.keys.insert(name.to_owned(), Key::default());
        }
        self.keys.get_mut(name).expect("inserted above if it was absent")
    }
}

/// Compares all of the output with all of the input.
pub fn verify(kafka: &Kafka, input: &str, output: &str, expect: Expect) -> Result<Verified> {
    Audit::read(kafka, input, output)?.check(expect)
}

/// The same of counts in windows of this size, which are part of the output's keys.
pub fn verify_windows(kafka: &Kafka, input: &str, output: &str, size_ms: i64, expect: Expect) -> Result<Verified> {
    let key = |key: &[u8], time: i64| [key, format!("@{}", time - time % size_ms).as_bytes()].concat();
    Audit::read_as(kafka, input, output, key)?.check(expect)
}
