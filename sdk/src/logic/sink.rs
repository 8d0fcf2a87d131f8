//! Owns what a sink does: typed rows become the records of a topic. Must not know who writes them.

use std::any::Any;

use super::{Logic, typed};
use crate::contract::{Failure, Fault};
use crate::options::{Partitioner, RecordContext};
use crate::rows::{Cut, Data, Headers, Meta, Rows, Writer};
use crate::run::Run;
use crate::serdes::SharedSerde;

type TopicExtractor<K, V> = Box<dyn Fn(Option<&K>, Option<&V>, &RecordContext<'_>) -> String + Send + Sync>;

/// Where a sink writes.
pub(crate) enum Destination<K, V> {
    Topic(String),
    Extract(TopicExtractor<K, V>),
}

/// Writes records of a stream.
pub(crate) struct Produce<K, V> {
    pub(crate) destination: Destination<K, V>,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
    pub(crate) partitioner: Option<Partitioner<K, V>>,
    /// Keys in windows are partitioned without the times of the window.
    pub(crate) by_inner_key: bool,
}

impl<K: Data, V: Data> Logic for Produce<K, V> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let fixed = match &self.destination {
            Destination::Topic(topic) => Some((run.output(topic), topic)),
            Destination::Extract(_) => None,
        };
        if let (Some((output, _)), None, false) = (fixed, &self.partitioner, self.by_inner_key) {
            return self.write_all(rows, output, run);
        }
        let writers = (rows.keys.writer(&self.keys), rows.values.writer(&self.values));
        for row in 0..rows.len() {
            match fixed {
                Some((output, topic)) => self.write(rows, &writers, row, (output, topic), run)?,
                None => {
                    let topic = self.topic(rows, row, run);
                    let output = run.output(&topic);
                    self.write(rows, &writers, row, (output, &topic), run)?;
                }
            }
        }
        Ok(())
    }
}

impl<K: Data, V: Data> Produce<K, V> {
    fn topic(&self, rows: &Rows<K, V>, row: usize, run: &Run<'_>) -> String {
        match &self.destination {
            Destination::Topic(topic) => topic.clone(),
            Destination::Extract(extract) => {
                let context = record_context(run, &rows.meta, row);
                extract(rows.keys.get(row), rows.values.get(row), &context)
            }
        }
    }

    /// Writes rows whose topic and partitions need no look at them.
    fn write_all(&self, rows: &Rows<K, V>, output: usize, run: &mut Run<'_>) -> Result<(), Failure> {
        let columns = run.columns(output);
        let keys = rows.keys.writer(&self.keys).write_all(&mut columns.keys).err();
        let values = rows.values.writer(&self.values).write_all(&mut columns.values).err();
        // Of two mistakes the one in the first record is told.
        if let Some((row, error)) = keys.into_iter().chain(values).min_by_key(|&(row, _)| row) {
            return Err(run.failure(Fault::Serialization, &rows.meta, row, error));
        }
        run.finish_all(output, &rows.meta);
        Ok(())
    }

    fn write(
        &self,
        rows: &Rows<K, V>,
        (keys, values): &(Writer<'_, K>, Writer<'_, V>),
        row: usize,
        (output, topic): (usize, &str),
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let columns = run.columns(output);
        let start = columns.keys.bytes.len();
        keys.write(row, &mut columns.keys)
            .and_then(|()| values.write(row, &mut columns.values))
            .map_err(|error| run.failure(Fault::Serialization, &rows.meta, row, error))?;
        let key = rows.keys.get(row);
        let partition = match &self.partitioner {
            None if self.by_inner_key && key.is_some() => {
                let written = &run.columns(output).keys.bytes[start..];
                let hash = murmur2(&written[..written.len() - self.keys.window_bytes()]) & 0x7fff_ffff;
                let count = partition_count(topic, &rows.meta, row, run)?;
                hash.checked_rem(count).and_then(|partition| i32::try_from(partition).ok())
            }
            None => None,
            Some(partitioner) => {
                let count = partition_count(topic, &rows.meta, row, run)?;
                partitioner(topic, key, rows.values.get(row), count)
            }
        };
        run.finish(output, &rows.meta, row, partition);
        Ok(())
    }
}

fn partition_count(topic: &str, meta: &Meta, row: usize, run: &mut Run<'_>) -> Result<u32, Failure> {
    run.partition_count(topic).ok_or_else(|| {
        let message = format!("topic {topic} is partitioned by the module, but no partition count is known");
        run.failure(Fault::Processing, meta, row, message)
    })
}

/// The hash of a key by which Kafka's default partitioner chooses.
fn murmur2(key: &[u8]) -> u32 {
    const FACTOR: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mixed = u32::from_le_bytes(*word).wrapping_mul(FACTOR);
        hash = hash.wrapping_mul(FACTOR) ^ (mixed ^ (mixed >> 24)).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |last, &byte| (last << 8) | u32::from(byte));
        hash = (hash ^ last).wrapping_mul(FACTOR);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}

/// What is known of a record beside key and value.
pub(crate) fn record_context<'a>(run: &'a Run<'_>, meta: &'a Meta, row: usize) -> RecordContext<'a> {
    static NONE: Headers = Headers::EMPTY;
    let source = run.source(meta.origins[row]);
    RecordContext {
        topic: source.map(|source| source.topic),
        partition: source.map(|source| source.partition),
        offset: source.map(|source| source.offset),
        timestamp: meta.timestamps[row],
        headers: meta.headers(row).map_or(&NONE, |headers| headers),
    }
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    /// As Kafka's own test of its `Utils.murmur2` has them.
    #[test]
    fn the_hash_is_kafkas() {
        let check = |key: &str, expected: i32| assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        check("21", -973_932_308);
        check("foobar", -790_332_482);
        check("a-little-bit-long-string", -985_981_536);
        check("a-little-bit-longer-string", -1_486_304_829);
        check("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971);
        check("abc", 479_470_107);
    }
}
