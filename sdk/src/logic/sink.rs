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
}

impl<K: Data, V: Data> Logic for Produce<K, V> {
    fn process(&self, rows: &dyn Any, run: &mut Run<'_>) -> Result<(), Failure> {
        let rows: &Rows<K, V> = typed(rows);
        let fixed = match &self.destination {
            Destination::Topic(topic) => Some((run.output(topic), topic)),
            Destination::Extract(_) => None,
        };
        if let (Some((output, _)), None) = (fixed, &self.partitioner) {
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
        keys.write(row, &mut columns.keys)
            .and_then(|()| values.write(row, &mut columns.values))
            .map_err(|error| run.failure(Fault::Serialization, &rows.meta, row, error))?;
        let partition = match &self.partitioner {
            None => None,
            Some(partitioner) => {
                let count = run.host.partition_count(topic).ok_or_else(|| {
                    let message = format!("topic {topic} has a partitioner, but no partition count is known");
                    run.failure(Fault::Processing, &rows.meta, row, message)
                })?;
                partitioner(topic, rows.keys.get(row), rows.values.get(row), count)
            }
        };
        run.finish(output, &rows.meta, row, partition);
        Ok(())
    }
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
