//! Owns how a case is shown to people: as the DSL calls it makes, and the records one a line.
//! Must not know what came of it.

use std::fmt::Write;

use crate::bytes;
use crate::case::{Case, Event, Header, Operator, Step, StepId, Store, Topic};
use crate::hex;
use crate::outcome::Written;
use crate::value::{Type, Value};

/// The whole case.
#[must_use]
pub fn case(case: &Case) -> String {
    let mut out = String::new();
    let caching = if case.caching { "on" } else { "off" };
    let _ = writeln!(out, "case {}, caching {caching}, wall clock {} ms", case.name, case.start_ms);
    for (id, one) in case.steps.iter().enumerate() {
        let _ = writeln!(out, "  {}", step(id, one));
    }
    for event in &case.events {
        let _ = match event {
            Event::AdvanceWallClock { ms } => writeln!(out, "  advance the wall clock by {ms} ms"),
            Event::Record(record) => {
                let (key, value) = source_types(case, &record.topic);
                let key = bytes_as(key, record.key.as_deref());
                let value = bytes_as(value, record.value.as_deref());
                let headers = headers(&record.headers);
                writeln!(out, "  pipe {} {key} -> {value} @ {}{headers}", record.topic, record.timestamp)
            }
        };
    }
    out
}

fn source_types(case: &Case, name: &str) -> (Option<Type>, Option<Type>) {
    for step in &case.steps {
        match &step.operator {
            Operator::Stream { topics, key, value, .. } if topics.iter().any(|topic| topic == name) => {
                return (Some(*key), Some(*value));
            }
            Operator::Table { topic, key, value, .. } | Operator::GlobalTable { topic, key, value, .. }
                if topic == name =>
            {
                return (Some(*key), Some(*value));
            }
            _ => {}
        }
    }
    (None, None)
}

/// Bytes as a value of a type where they are one, else as hex.
#[must_use]
pub fn bytes_as(ty: Option<Type>, bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    match ty.and_then(|ty| bytes::read(ty, bytes)) {
        Some(Value::String(text)) => format!("{text:?}"),
        Some(Value::Long(number)) => format!("{number}L"),
        Some(Value::Integer(number)) => number.to_string(),
        Some(Value::Double(number)) => format!("{number:?}"),
        Some(Value::Json(weighed)) => format!("{{{:?}, {}}}", weighed.text, weighed.weight),
        None => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains(char::is_control) => format!("{text:?}"),
            _ => format!("0x{}", hex::encode(bytes)),
        },
    }
}

/// A record that was written, as its types where they are known.
#[must_use]
pub fn record(key: Option<Type>, value: Option<Type>, record: &Written) -> String {
    let (key, value) = (bytes_as(key, record.key.as_deref()), bytes_as(value, record.value.as_deref()));
    format!("{key} -> {value} @ {}{}", record.timestamp, headers(&record.headers))
}

fn headers(headers: &[Header]) -> String {
    let mut out = String::new();
    for header in headers {
        let _ = write!(out, " {}={}", header.key, bytes_as(None, header.value.as_deref()));
    }
    if out.is_empty() { out } else { format!(" [{}]", out.trim_start()) }
}

fn step(id: StepId, step: &Step) -> String {
    let name = step.name.as_ref().map_or_else(String::new, |name| format!(" as {name:?}"));
    let ends = matches!(step.operator, Operator::To { .. } | Operator::WindowedTo { .. } | Operator::ForEach { .. });
    let left = if ends { String::new() } else { format!("v{id} = ") };
    format!("{left}{}{name}", call(&step.operator))
}

fn call(operator: &Operator) -> String {
    match operator {
        Operator::Stream { topics, key, value, extractor } => {
            let extractor = extractor.as_ref().map_or_else(String::new, |name| format!(", timestamps {name}"));
            format!("builder.stream({}, {key:?}, {value:?}{extractor})", topics.join(" + "))
        }
        Operator::Table { topic, key, value, store } => {
            format!("builder.table({topic}, {key:?}, {value:?}){}", materialized(store.as_ref()))
        }
        Operator::GlobalTable { topic, key, value, store } => {
            format!("builder.globalTable({topic}, {key:?}, {value:?}){}", materialized(store.as_ref()))
        }
        Operator::GlobalJoin { from, other, kind, selector, key, joiner } => {
            format!("v{from}.join({kind:?}, global v{other}, {selector}: {key:?}, {joiner})")
        }
        Operator::Merge { from, other } => format!("v{from}.merge(v{other})"),
        Operator::TableJoin { from, other, kind, joiner, store, .. } => {
            format!("v{from}.join({kind:?}, v{other}, {joiner}){}", materialized(store.as_ref()))
        }
        Operator::ForeignKeyJoin { from, other, kind, selector, foreign, joiner, store, .. } => {
            let store = materialized(store.as_ref());
            format!("v{from}.join({kind:?}, v{other} by {selector}: {foreign:?}, {joiner}){store}")
        }
        Operator::StreamTableJoin { from, other, kind, joiner, grace, .. } => {
            let grace = grace.map_or_else(String::new, |grace| format!(", grace {grace} ms"));
            format!("v{from}.join({kind:?}, table v{other}, {joiner}{grace})")
        }
        Operator::StreamJoin { from, other, kind, joiner, before, after, grace, stores, .. } => {
            let stores = stores.as_ref().map_or_else(String::new, |stores| format!(", stores {stores}"));
            format!("v{from}.join({kind:?}, v{other}, {joiner}, -{before}..+{after} ms, grace {grace} ms{stores})")
        }
        Operator::Cogroup { from, other, combiner, other_combiner, windows, retention, key, value, store } => {
            let windows = windows.map_or_else(String::new, |windows| format!(", {windows:?}, kept {retention:?} ms"));
            let folded = format!("v{from}.cogroup({combiner}).cogroup(v{other}, {other_combiner})");
            format!("{folded}.aggregate({key:?}, {value:?}{windows}){}", materialized(store.as_ref()))
        }
        Operator::Suppress { from, limit, max_records, max_bytes, .. } => {
            let until = limit.map_or_else(|| "their windows close".to_owned(), |limit| format!("{limit} ms are over"));
            format!("v{from}.suppress(until {until}, at most {max_records:?} records and {max_bytes:?} bytes)")
        }
        Operator::Branch { from, index } => format!("v{from}[{index}]"),
        other => {
            let (name, arguments) = method(other);
            let from = other.inputs().first().copied().unwrap_or_default();
            format!("v{from}.{name}({arguments}){}", materialized(other.store()))
        }
    }
}

/// The method of an operator that has one input, and its arguments.
fn method(operator: &Operator) -> (&'static str, String) {
    let named = |topic: &Option<String>| topic.as_ref().map_or_else(String::new, |topic| format!(", topic {topic:?}"));
    match operator {
        Operator::Filter { predicate, .. } | Operator::TableFilter { predicate, .. } => ("filter", predicate.clone()),
        Operator::FilterNot { predicate, .. } | Operator::TableFilterNot { predicate, .. } => {
            ("filterNot", predicate.clone())
        }
        Operator::Map { selector, key, mapper, value, .. } => {
            ("map", format!("{selector}: {key:?}, {mapper}: {value:?}"))
        }
        Operator::MapValues { mapper, value, .. } | Operator::TableMapValues { mapper, value, .. } => {
            ("mapValues", format!("{mapper}: {value:?}"))
        }
        Operator::TableTransformValues { mapper, calls, value, .. } => {
            ("transformValues", format!("{mapper}: {value:?}, calls {calls:?}"))
        }
        Operator::FlatMap { expander, selector, key, value, .. } => {
            ("flatMap", format!("{expander}: {value:?}, {selector}: {key:?}"))
        }
        Operator::FlatMapValues { expander, value, .. } => ("flatMapValues", format!("{expander}: {value:?}")),
        Operator::SelectKey { selector, key, .. } => ("selectKey", format!("{selector}: {key:?}")),
        Operator::Split { branches, default, .. } => {
            let texts = branches.iter().map(|branch| match &branch.name {
                Some(name) => format!("{} as {name:?}", branch.predicate),
                None => branch.predicate.clone(),
            });
            ("split", format!("{}; default {default:?}", texts.collect::<Vec<_>>().join(", ")))
        }
        Operator::Repartition { key, value, topic, .. } => {
            ("repartition", format!("{key:?}, {value:?}{}", named(topic)))
        }
        Operator::ToTable { key, value, .. } => ("toTable", format!("{key:?}, {value:?}")),
        Operator::Tally { .. }
        | Operator::Minutes { .. }
        | Operator::Visits { .. }
        | Operator::Stamp { .. }
        | Operator::StampValues { .. } => processor(operator),
        Operator::GroupBy { selector, key, topic, .. } => ("groupBy", format!("{selector}: {key:?}{}", named(topic))),
        Operator::GroupByKey { topic, .. } => ("groupByKey", named(topic).trim_start_matches(", ").to_owned()),
        Operator::WindowedBy { windows, emit, retention, .. } => {
            let kept = retention.map_or_else(String::new, |kept| format!(", kept for {kept}"));
            ("windowedBy", format!("{windows:?}, on {emit:?}{kept}"))
        }
        Operator::WindowedTo { topic, key, value, .. } => {
            ("toStream().to", format!("{topic}, windowed {key:?}, {value:?}"))
        }
        Operator::Unwindow { .. } => ("toStream", "text of the window".to_owned()),
        Operator::Reduce { combiner, .. } => ("reduce", combiner.clone()),
        Operator::Aggregate { combiner, value, .. } => ("aggregate", format!("{combiner}: {value:?}")),
        Operator::To { topic, key, value, .. } => match topic {
            Topic::Named(topic) => ("to", format!("{topic}, {key:?}, {value:?}")),
            Topic::ByWeight(prefix) => ("to", format!("{prefix}-even or -odd, {key:?}, {value:?}")),
        },
        Operator::TableGroupBy { selector, key, mapper, value, topic, .. } => {
            ("groupBy", format!("{selector}: {key:?}, {mapper}: {value:?}{}", named(topic)))
        }
        Operator::TableReduce { adder, subtractor, .. } => ("reduce", format!("{adder}, {subtractor}")),
        Operator::TableAggregate { adder, subtractor, value, .. } => {
            ("aggregate", format!("{adder}, {subtractor}: {value:?}"))
        }
        Operator::Peek { .. } => ("peek", String::new()),
        Operator::Count { .. } | Operator::TableCount { .. } => ("count", String::new()),
        Operator::ToStream { .. } => ("toStream", String::new()),
        Operator::ForEach { .. } => ("foreach", String::new()),
        _ => unreachable!("`call` writes these itself"),
    }
}

fn processor(operator: &Operator) -> (&'static str, String) {
    match operator {
        Operator::Tally { punctuation, .. } => match punctuation {
            Some(punctuation) => {
                ("process", format!("Tally every {} ms of {:?}", punctuation.interval_ms, punctuation.clock))
            }
            None => ("process", "Tally".to_owned()),
        },
        Operator::Minutes { size, retention, duplicates, .. } => {
            ("process", format!("Minutes of {size} ms, kept for {retention}, duplicates {duplicates}"))
        }
        Operator::Visits { gap, retention, .. } => ("process", format!("Visits {gap} ms apart, kept for {retention}")),
        Operator::StampValues { .. } => ("processValues", "Stamp".to_owned()),
        _ => ("process", "Stamp".to_owned()),
    }
}

fn materialized(store: Option<&Store>) -> String {
    let Some(store) = store else { return String::new() };
    let mut out = " in a store".to_owned();
    if let Some(name) = &store.name {
        let _ = write!(out, " {name:?}");
    }
    for (set, text) in
        [(!store.persistent, ", in memory"), (!store.logged, ", not logged"), (!store.cached, ", not cached")]
    {
        if set {
            out.push_str(text);
        }
    }
    out
}
