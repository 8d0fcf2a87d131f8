//! Owns the building of windowed aggregations with the SDK: `Windowed.java` does the same with Kafka Streams.

use std::time::Duration;

use millrace::{
    BufferConfig, Data, EmitStrategy, KGroupedStream, KStream, KTable, Materialized, Produced, SessionWindowedKStream,
    SessionWindowedSerde, SessionWindows, SlidingWindows, Suppressed, TimeWindowedKStream, TimeWindowedSerde,
    TimeWindows, UnlimitedWindows, Windowed,
};

use super::serdes::{Cell, Typed};
use super::topology::materialized;
use crate::case::{Emit, Operator, Step, Store, Windows};
use crate::functions;
use crate::value::{Type, Value, convert, text};

/// A grouped stream in windows, and how long their tables are kept.
pub(super) struct Cut<V: Data> {
    stream: Stream<V>,
    windows: Windows,
    retention: Option<i64>,
}

enum Stream<V: Data> {
    Time(TimeWindowedKStream<Value, V>),
    Session(SessionWindowedKStream<Value, V>),
}

/// A table of windows.
pub(super) struct WindowTable<V: Data> {
    pub(super) table: KTable<Windowed<Value>, V>,
    pub(super) windows: Windows,
}

/// The tables that come of a windowed stream of one type.
pub(super) enum Aggregated<V: Data> {
    Counts(WindowTable<i64>),
    Same(WindowTable<V>),
    Values(WindowTable<Value>),
}

pub(super) fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

pub(super) fn cut<V: Cell>(
    grouped: &KGroupedStream<Value, V>,
    windows: Windows,
    emit: Emit,
    retention: Option<i64>,
) -> Cut<V> {
    let stream = match windows {
        Windows::Time { size, advance, grace } => Stream::Time(
            grouped.windowed_by(TimeWindows::of_size_and_grace(ms(size), ms(grace)).advance_by(ms(advance))),
        ),
        Windows::Unlimited { start } => Stream::Time(grouped.windowed_by(UnlimitedWindows::of().start_on(start))),
        Windows::Sliding { difference, grace } => {
            Stream::Time(grouped.windowed_by(SlidingWindows::of_time_difference_and_grace(ms(difference), ms(grace))))
        }
        Windows::Session { gap, grace } => {
            Stream::Session(grouped.windowed_by(SessionWindows::of_inactivity_gap_and_grace(ms(gap), ms(grace))))
        }
    };
    let stream = match (emit, stream) {
        (Emit::WindowUpdate, stream) => stream,
        (Emit::WindowClose, Stream::Time(stream)) => Stream::Time(stream.emit_strategy(EmitStrategy::OnWindowClose)),
        (Emit::WindowClose, Stream::Session(stream)) => {
            Stream::Session(stream.emit_strategy(EmitStrategy::OnWindowClose))
        }
    };
    Cut { stream, windows, retention }
}

pub(super) fn aggregate<V: Cell>(cut: &Cut<V>, step: &Step) -> Result<Aggregated<V>, String> {
    let named = match (&cut.stream, &step.name) {
        (Stream::Time(stream), Some(name)) => &Stream::Time(stream.named(name)),
        (Stream::Session(stream), Some(name)) => &Stream::Session(stream.named(name)),
        (unnamed, None) => unnamed,
    };
    let windows = cut.windows;
    match step.operator.clone() {
        Operator::Count { key, store, .. } => {
            let options = match &store {
                Some(_) => kept(cut, store.as_ref(), key, Type::Long),
                None => Materialized::default(),
            };
            let table = match named {
                Stream::Time(stream) => stream.count(options),
                Stream::Session(stream) => stream.count(options),
            };
            Ok(Aggregated::Counts(WindowTable { table, windows }))
        }
        Operator::Reduce { combiner, key, value, store, .. } => {
            let options = kept(cut, store.as_ref(), key, value);
            let reducer = move |old: V, new: &V| {
                let joined = functions::combiner(&combiner, &old.to_value(), &new.to_value());
                joined.map(|value| V::from_value(value).expect("the function keeps the type of its value"))
            };
            let table = match named {
                Stream::Time(stream) => stream.reduce_nullable(reducer, options),
                Stream::Session(stream) => stream.reduce_nullable(reducer, options),
            };
            Ok(Aggregated::Same(WindowTable { table, windows }))
        }
        Operator::Aggregate { combiner, key, value: to, store, .. } => {
            let options = kept(cut, store.as_ref(), key, to);
            let merger = combiner.clone();
            let zero = move || Some(Value::zero(to));
            let aggregator = move |_: &Value, value: &V, aggregate: Option<Value>| {
                let aggregate = aggregate.expect("an aggregate starts at zero");
                functions::aggregator(&combiner, to, &value.to_value(), &aggregate)
            };
            let merger = move |_: &Value, one: Option<Value>, other: Value| {
                functions::combiner(&merger, &one.expect("the merger keeps what is there"), &other)
            };
            let table = match named {
                Stream::Time(stream) => stream.aggregate_nullable(zero, aggregator, options),
                Stream::Session(stream) => stream.aggregate_nullable(zero, aggregator, merger, options),
            };
            Ok(Aggregated::Values(WindowTable { table, windows }))
        }
        other => Err(format!("{other:?} on a windowed stream")),
    }
}

fn kept<A: Cell, V: Cell>(cut: &Cut<V>, store: Option<&Store>, key: Type, value: Type) -> Materialized<Value, A> {
    let options = materialized(store, key, value);
    match cut.retention.filter(|_| store.is_some()) {
        Some(retention) => options.with_retention(ms(retention)),
        None => options,
    }
}

/// Writes a table of windows to a topic.
pub(super) fn write<V: Cell>(from: &WindowTable<V>, topic: &str, key: Type, value: Type) {
    let stream = from.table.to_stream();
    let values = V::serde(value);
    match from.windows {
        Windows::Session { .. } => {
            stream.to(topic, Produced::with(SessionWindowedSerde::new(Typed(key)), values));
        }
        Windows::Time { size: ms, .. } | Windows::Sliding { difference: ms, .. } => {
            stream.to(topic, Produced::with(TimeWindowedSerde::new(Typed(key), ms), values));
        }
        Windows::Unlimited { .. } => {
            stream.to(topic, Produced::with(TimeWindowedSerde::new(Typed(key), i64::MAX), values));
        }
    }
}

/// A stream of a table of windows, under keys that are text.
pub(super) fn unwindow<V: Cell>(from: &WindowTable<V>) -> KStream<Value, V> {
    from.table.to_stream().select_key(|key, _| {
        let Windowed { key, window } = key?;
        convert(Type::String, Some(&Value::String(format!("{}@{}/{}", text(Some(key)), window.start, window.end))))
    })
}

/// Updates of a table held back as the step says; `closing` is what holds them back until their windows close.
pub(super) fn suppress<K: Data, V: Cell>(
    table: &KTable<K, V>,
    step: &Step,
    closing: Option<fn(BufferConfig) -> Suppressed<K>>,
) -> Result<KTable<K, V>, String> {
    let Operator::Suppress { limit, max_records, max_bytes, .. } = step.operator else {
        return Err(format!("{:?} does not suppress", step.operator));
    };
    let mut buffer = BufferConfig::unbounded();
    if let Some(records) = max_records {
        buffer = buffer.with_max_records(records).emit_early_when_full();
    }
    if let Some(bytes) = max_bytes {
        buffer = buffer.with_max_bytes(bytes).emit_early_when_full();
    }
    let suppressed = match (limit, closing) {
        (Some(limit), _) => Suppressed::until_time_limit(ms(limit), buffer),
        (None, Some(closing)) => closing(buffer),
        (None, None) => return Err("only windows close".to_owned()),
    };
    Ok(table.suppress(match &step.name {
        Some(name) => suppressed.with_name(name),
        None => suppressed,
    }))
}

pub(super) fn suppress_windows<V: Cell>(from: &WindowTable<V>, step: &Step) -> Result<WindowTable<V>, String> {
    let table = suppress(&from.table, step, Some(Suppressed::until_window_closes))?;
    Ok(WindowTable { table, windows: from.windows })
}
