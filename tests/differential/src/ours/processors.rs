//! Owns the fixed processors of the Processor API: `Processors.java` says what they do.

use std::time::Duration;

use millrace::{
    Data, FixedKeyProcessor, FixedKeyProcessorContext, FixedKeyRecord, Headers, LongSerde, ProcessResult, Processor,
    ProcessorContext, PunctuationType, Record, RecordMetadata, Schedule, StoreBuilder, Stores,
};

use super::serdes::{Cell, Typed};
use crate::case::{Clock, Punctuation, Store};
use crate::value::{Type, Value, weight};

/// Adds a header that says where the record is from and what time it is; odd values come twice.
pub(super) struct Stamp;

impl<V: Cell> Processor<Value, V, Value, V> for Stamp {
    fn process(&mut self, context: &mut ProcessorContext<'_, Value, V>, record: Record<Value, V>) -> ProcessResult {
        let times = (context.current_stream_time_ms(), context.current_system_time_ms());
        let headers = stamped(&record.headers, context.record_metadata(), times);
        context.forward(record.clone().with_headers(headers));
        if weight(record.value.as_ref().map(Cell::to_value).as_ref()) % 2 != 0 {
            let timestamp = record.timestamp + 1000;
            context.forward(record.with_timestamp(timestamp));
        }
        Ok(())
    }
}

impl<V: Cell> FixedKeyProcessor<Value, V, V> for Stamp {
    fn process(
        &mut self,
        context: &mut FixedKeyProcessorContext<'_, '_, Value, V>,
        record: FixedKeyRecord<Value, V>,
    ) -> ProcessResult {
        let times = (context.current_stream_time_ms(), context.current_system_time_ms());
        let headers = stamped(&record.headers, context.record_metadata(), times);
        context.forward(record.clone().with_headers(headers));
        if weight(record.value.as_ref().map(Cell::to_value).as_ref()) % 2 != 0 {
            let timestamp = record.timestamp + 1000;
            context.forward(record.with_timestamp(timestamp));
        }
        Ok(())
    }
}

fn stamped(headers: &Headers, read: Option<RecordMetadata<'_>>, (stream, system): (Option<i64>, i64)) -> Headers {
    let from = read.map_or_else(|| "nowhere".to_owned(), |it| format!("{}-{}@{}", it.topic, it.partition, it.offset));
    let mut headers = headers.clone();
    // Java says -1 where there is no stream time yet.
    headers.add("from", from).add("times", format!("{}/{system}", stream.unwrap_or(-1)));
    headers
}

/// Sums the weights of each key in a store, and forwards the sums at every punctuation.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    store: String,
    punctuation: Option<Punctuation>,
}

impl Tally {
    pub(super) fn new(store: &str, punctuation: Option<Punctuation>) -> Self {
        Self { store: store.to_owned(), punctuation }
    }

    /// The store that it needs.
    pub(super) fn store(name: &str, store: &Store, key: Type) -> StoreBuilder<Value, i64> {
        kept(Stores::key_value_store(name, Typed(key), LongSerde), store)
    }
}

/// A store kept as the case says.
pub(super) fn kept<K: Data, V: Data>(mut builder: StoreBuilder<K, V>, store: &Store) -> StoreBuilder<K, V> {
    if !store.persistent {
        builder = builder.in_memory();
    }
    if !store.logged {
        builder = builder.with_logging_disabled();
    }
    if store.cached { builder.with_caching_enabled() } else { builder }
}

impl<V: Cell> Processor<Value, V, Value, Value> for Tally {
    fn init(&mut self, context: &mut ProcessorContext<'_, Value, Value>) -> ProcessResult {
        if let Some(Punctuation { clock, interval_ms }) = &self.punctuation {
            let by = match clock {
                Clock::StreamTime => PunctuationType::StreamTime,
                Clock::WallClock => PunctuationType::WallClockTime,
            };
            context.schedule(Duration::from_millis(interval_ms.unsigned_abs()), by)?;
        }
        Ok(())
    }

    fn process(&mut self, context: &mut ProcessorContext<'_, Value, Value>, record: Record<Value, V>) -> ProcessResult {
        let mut store = context.key_value_store::<Value, i64>(&self.store)?;
        let sum = match (&record.key, &record.value) {
            (None, _) => None,
            (Some(key), None) => {
                store.delete(key)?;
                None
            }
            (Some(key), Some(value)) => {
                let sum = store.get(key)?.unwrap_or(0).wrapping_add(weight(Some(&value.to_value())));
                store.put(key, sum)?;
                Some(Value::Long(sum))
            }
        };
        context.forward(record.with_value(sum));
        Ok(())
    }

    fn punctuate(
        &mut self,
        context: &mut ProcessorContext<'_, Value, Value>,
        _: Schedule,
        timestamp: i64,
    ) -> ProcessResult {
        context.forward(Record::new(None, Some(Value::Long(timestamp)), timestamp));
        let entries: Vec<(Value, i64)> =
            context.key_value_store::<Value, i64>(&self.store)?.all().collect::<Result<_, _>>()?;
        for (key, sum) in entries {
            context.forward(Record::new(Some(key.clone()), Some(Value::Long(sum)), timestamp));
            if sum >= 10 {
                context.key_value_store::<Value, i64>(&self.store)?.delete(&key)?;
            }
        }
        Ok(())
    }
}
