//! Owns the building of a case's topology with the SDK: `Cases.java` does the same with Kafka
//! Streams. Must not know how it is run.

use std::cell::RefCell;
use std::rc::Rc;

use millrace::{
    Branched, Consumed, GlobalKTable, Grouped, Joined, KGroupedStream, KGroupedTable, KStream, KTable, LongSerde,
    Materialized, ProcessResult, ProcessorContext, Produced, Repartitioned, Stores, StreamsBuilder, Topology,
};

use super::cogroups;
use super::joins;
use super::processors::{Stamp, Tally};
use super::serdes::{Cell, Typed};
use super::timed::{Minutes, Visits};
use super::windows::ms;
use super::windows::{self, Aggregated, Cut, WindowTable};
use crate::case::{Branch, Case, DefaultBranch, Operator, Step, Store, Topic};
use crate::functions::{self, Nullable};
use crate::value::{Type, Value, convert, text};

/// What the SDK answered to a step.
pub(super) enum Built {
    Stream(KStream<Value, Value>),
    Counts(KStream<Value, i64>),
    Table(KTable<Value, Value>),
    CountTable(KTable<Value, i64>),
    Grouped(KGroupedStream<Value, Value>),
    GroupedCounts(KGroupedStream<Value, i64>),
    GroupedTable(KGroupedTable<Value, Value>),
    Windowed(Cut<Value>),
    WindowedCounts(Cut<i64>),
    WindowTable(WindowTable<Value>),
    WindowCountTable(WindowTable<i64>),
    Global(GlobalKTable<Value, Value>),
    Branches(Vec<Built>),
    End,
}

/// The values of streams and tables differ in type; what is done with them does not.
pub(super) trait Wrap: Cell {
    fn stream(stream: KStream<Value, Self>) -> Built;
    fn table(table: KTable<Value, Self>) -> Built;
    fn grouped(grouped: KGroupedStream<Value, Self>) -> Built;
    fn windows(table: WindowTable<Self>) -> Built;
    /// The other stream of a merge.
    fn unwrap(built: &Built) -> Option<&KStream<Value, Self>>;
}

impl Wrap for Value {
    fn stream(stream: KStream<Value, Self>) -> Built {
        Built::Stream(stream)
    }

    fn table(table: KTable<Value, Self>) -> Built {
        Built::Table(table)
    }

    fn grouped(grouped: KGroupedStream<Value, Self>) -> Built {
        Built::Grouped(grouped)
    }

    fn windows(table: WindowTable<Self>) -> Built {
        Built::WindowTable(table)
    }

    fn unwrap(built: &Built) -> Option<&KStream<Value, Self>> {
        if let Built::Stream(stream) = built { Some(stream) } else { None }
    }
}

impl Wrap for i64 {
    fn stream(stream: KStream<Value, Self>) -> Built {
        Built::Counts(stream)
    }

    fn table(table: KTable<Value, Self>) -> Built {
        Built::CountTable(table)
    }

    fn grouped(grouped: KGroupedStream<Value, Self>) -> Built {
        Built::GroupedCounts(grouped)
    }

    fn windows(table: WindowTable<Self>) -> Built {
        Built::WindowCountTable(table)
    }

    fn unwrap(built: &Built) -> Option<&KStream<Value, Self>> {
        if let Built::Counts(stream) = built { Some(stream) } else { None }
    }
}

/// The error says that the case is none, or that the SDK refuses it.
pub(super) fn topology(case: &Case) -> Result<Topology, String> {
    let mut builder = StreamsBuilder::new();
    let mut built: Vec<Built> = Vec::new();
    for step in &case.steps {
        let next = build(&mut builder, &built, step)?;
        built.push(next);
    }
    builder.build().map_err(|error| error.to_string())
}

fn build(builder: &mut StreamsBuilder, built: &[Built], step: &Step) -> Result<Built, String> {
    match &step.operator {
        Operator::Stream { topics, key, value, extractor } => {
            let consumed = consumed(step.name.as_ref(), *key, *value, extractor.clone());
            return Ok(Built::Stream(builder.stream_of(topics.clone(), consumed)));
        }
        Operator::Table { topic, key, value, store } => {
            let consumed = consumed(step.name.as_ref(), *key, *value, None);
            return Ok(Built::Table(builder.table(topic, consumed, materialized(store.as_ref(), *key, *value))));
        }
        Operator::GlobalTable { topic, key, value, store } => {
            let consumed = consumed(step.name.as_ref(), *key, *value, None);
            let options = materialized(store.as_ref(), *key, *value);
            return Ok(Built::Global(builder.global_table(topic, consumed, options)));
        }
        _ => {}
    }
    let from = step.operator.inputs()[0];
    match &built[from] {
        Built::Stream(stream) => on_stream(builder, stream, step, built),
        Built::Counts(stream) => on_stream(builder, stream, step, built),
        Built::Table(table) => on_table(builder, table, step, built),
        Built::CountTable(table) => on_table(builder, table, step, built),
        Built::Grouped(grouped) => match &step.operator {
            Operator::WindowedBy { windows, emit, retention, .. } => {
                Ok(Built::Windowed(windows::cut(grouped, *windows, *emit, *retention)))
            }
            Operator::Cogroup { other, .. } => cogroups::cogroup(grouped, &built[*other], step),
            _ => aggregate(grouped, step),
        },
        Built::GroupedCounts(grouped) => match &step.operator {
            Operator::WindowedBy { windows, emit, retention, .. } => {
                Ok(Built::WindowedCounts(windows::cut(grouped, *windows, *emit, *retention)))
            }
            Operator::Cogroup { other, .. } => cogroups::cogroup(grouped, &built[*other], step),
            _ => aggregate(grouped, step),
        },
        Built::Windowed(cut) => Ok(match windows::aggregate(cut, step)? {
            Aggregated::Counts(table) => Built::WindowCountTable(table),
            Aggregated::Same(table) | Aggregated::Values(table) => Built::WindowTable(table),
        }),
        Built::WindowedCounts(cut) => Ok(match windows::aggregate(cut, step)? {
            Aggregated::Counts(table) | Aggregated::Same(table) => Built::WindowCountTable(table),
            Aggregated::Values(table) => Built::WindowTable(table),
        }),
        Built::WindowTable(table) => on_windows(table, step),
        Built::WindowCountTable(table) => on_windows(table, step),
        Built::GroupedTable(grouped) => aggregate_table(grouped, step),
        Built::Branches(branches) => match &step.operator {
            Operator::Branch { index, .. } => match &branches[*index] {
                Built::Stream(stream) => Ok(Built::Stream(stream.clone())),
                Built::Counts(stream) => Ok(Built::Counts(stream.clone())),
                _ => Err("branches are streams".to_owned()),
            },
            other => Err(format!("{other:?} on a split")),
        },
        Built::Global(_) => Err(format!("{:?} on a global table", step.operator)),
        Built::End => Err(format!("{:?} on nothing", step.operator)),
    }
}

fn consumed(name: Option<&String>, key: Type, value: Type, extractor: Option<String>) -> Consumed<Value, Value> {
    let mut consumed = Consumed::with(Typed(key), Typed(value));
    if let Some(name) = name {
        consumed = consumed.with_name(name);
    }
    match extractor {
        None => consumed,
        Some(extractor) => consumed.with_timestamp_extractor(move |record, partition_time| {
            functions::extractor(&extractor, record.timestamp, partition_time.unwrap_or(-1), record.value)
        }),
    }
}

/// Without a store, the serdes all the same: the SDK has no defaults for our own type of value, and
/// for names it makes no difference.
pub(super) fn materialized<V: Cell>(store: Option<&Store>, key: Type, value: Type) -> Materialized<Value, V> {
    let Some(store) = store else { return Materialized::with(Typed(key), V::serde(value)) };
    let mut materialized = match &store.name {
        Some(name) => Materialized::as_(name).with_key_serde(Typed(key)).with_value_serde(V::serde(value)),
        None => Materialized::with(Typed(key), V::serde(value)),
    };
    if let (Some(name), Some(history)) = (&store.name, store.history) {
        let versioned = Materialized::versioned(name, ms(history));
        return versioned.with_key_serde(Typed(key)).with_value_serde(V::serde(value));
    }
    if !store.persistent {
        materialized = materialized.in_memory();
    }
    if !store.logged {
        materialized = materialized.with_logging_disabled();
    }
    if store.cached { materialized.with_caching_enabled() } else { materialized.with_caching_disabled() }
}

fn value_of<V: Cell>(value: Option<&V>) -> Nullable {
    value.map(Cell::to_value)
}

/// A function that keeps the type, on our side of it.
fn cell_of<V: Cell>(value: Nullable) -> Option<V> {
    value.map(|value| V::from_value(value).expect("the function keeps the type of its value"))
}

fn on_stream<V: Wrap>(
    builder: &mut StreamsBuilder,
    from: &KStream<Value, V>,
    step: &Step,
    built: &[Built],
) -> Result<Built, String> {
    let stream = match &step.name {
        Some(name) => &from.named(name),
        None => from,
    };
    let built = match &step.operator {
        Operator::Filter { predicate, .. } => V::stream(stream.filter(test(predicate))),
        Operator::FilterNot { predicate, .. } => V::stream(stream.filter_not(test(predicate))),
        Operator::Peek { .. } => V::stream(stream.peek(|_, _| {})),
        Operator::ForEach { .. } => {
            stream.foreach(|_, _| {});
            Built::End
        }
        Operator::SelectKey { selector, key, .. } => V::stream(stream.select_key(select(selector, *key))),
        Operator::Merge { other, .. } => {
            let other = V::unwrap(&built[*other]).ok_or("merged streams have one type")?;
            V::stream(stream.merge(other))
        }
        Operator::Split { branches, default, .. } => split(stream, branches, *default),
        Operator::Repartition { key, value, topic, .. } => {
            let repartitioned = Repartitioned::with(Typed(*key), V::serde(*value));
            V::stream(stream.repartition(match topic {
                Some(topic) => repartitioned.with_name(topic),
                None => repartitioned,
            }))
        }
        Operator::ToTable { key, value, store, .. } => {
            V::table(stream.to_table(materialized(store.as_ref(), *key, *value)))
        }
        Operator::GroupBy { selector, key, value, topic, .. } => {
            V::grouped(stream.group_by(select(selector, *key), grouped(topic.as_ref(), *key, *value)))
        }
        Operator::GroupByKey { key, value, topic, .. } => {
            V::grouped(stream.group_by_key(grouped(topic.as_ref(), *key, *value)))
        }
        Operator::To { topic, key, value, .. } => {
            to(stream, topic, Produced::with(Typed(*key), V::serde(*value)));
            Built::End
        }
        Operator::StreamTableJoin { other, kind, joiner, key, value, grace, .. } => {
            let serdes = Joined::with(Typed(*key), V::serde(*value));
            let serdes = match grace {
                Some(grace) => serdes.with_grace_period(ms(*grace)),
                None => serdes,
            };
            let joined = match &step.name {
                Some(name) => serdes.with_name(name),
                None => serdes,
            };
            return joins::stream_with_table(from, &built[*other], *kind, joiner.clone(), joined);
        }
        Operator::GlobalJoin { other, kind, selector, key, joiner, .. } => {
            let Built::Global(table) = &built[*other] else { return Err("not a global table".to_owned()) };
            let selector = select::<V>(selector, *key);
            let mapper = move |key: Option<&Value>, value: &V| selector(key, Some(value));
            Built::Stream(joins::stream_with_global(stream, table, *kind, mapper, joiner.clone()))
        }
        Operator::StreamJoin { other, .. } => return joins::streams(from, &built[*other], step),
        Operator::Stamp { .. } => V::stream(stream.process(|| Stamp, &[])),
        Operator::StampValues { .. } => V::stream(stream.process_values(|| Stamp, &[])),
        operator @ (Operator::Tally { .. } | Operator::Minutes { .. } | Operator::Visits { .. }) => {
            return with_store(builder, stream, operator);
        }
        _ => return map(stream, &step.operator),
    };
    Ok(built)
}

/// Processors with a store of their own.
fn with_store<V: Wrap>(
    builder: &mut StreamsBuilder,
    stream: &KStream<Value, V>,
    operator: &Operator,
) -> Result<Built, String> {
    Ok(Built::Stream(match operator {
        Operator::Tally { key, store, punctuation, .. } => {
            let name = store.name.as_deref().ok_or("a processor's store has a name")?;
            let tally = Tally::new(name, punctuation.clone());
            builder.add_state_store(Tally::store(name, store, *key));
            stream.process(move || tally.clone(), &[name])
        }
        Operator::Minutes { key, store, size, retention, duplicates, .. } => {
            let name = store.name.as_deref().ok_or("a processor's store has a name")?;
            builder.add_state_store(Minutes::store(store, *key, (*size, *retention), *duplicates)?);
            let minutes = Minutes { store: name.to_owned(), size: *size, duplicates: *duplicates };
            stream.process(move || minutes.clone(), &[name])
        }
        Operator::Visits { key, store, gap, retention, .. } => {
            let name = store.name.as_deref().ok_or("a processor's store has a name")?;
            builder.add_state_store(Visits::store(store, *key, *retention)?);
            let visits = Visits { store: name.to_owned(), gap: *gap };
            stream.process(move || visits.clone(), &[name])
        }
        _ => return Err("not a processor with a store".to_owned()),
    }))
}

/// The operators that change the type of the values.
fn map<V: Wrap>(stream: &KStream<Value, V>, operator: &Operator) -> Result<Built, String> {
    Ok(Built::Stream(match operator.clone() {
        Operator::MapValues { mapper, value, .. } => {
            stream.map_values_with_key(move |k, v| functions::mapper(&mapper, value, k, value_of(v).as_ref()))
        }
        Operator::Map { selector, key, mapper, value, .. } => stream.map(move |k, v| {
            let v = value_of(v);
            let selected = functions::selector(&selector, key, k, v.as_ref());
            (selected, functions::mapper(&mapper, value, k, v.as_ref()))
        }),
        Operator::FlatMapValues { expander, .. } => {
            stream.flat_map_values_with_key(move |_, v| functions::expander(&expander, value_of(v).as_ref()))
        }
        Operator::FlatMap { expander, selector, key, .. } => stream.flat_map(move |k, v| {
            let items = functions::expander(&expander, value_of(v).as_ref());
            let pair = |item: Nullable| (functions::selector(&selector, key, k, item.as_ref()), item);
            items.into_iter().map(pair).collect::<Vec<_>>()
        }),
        other => return Err(format!("{other:?} on a stream")),
    }))
}

fn test<V: Cell>(name: &str) -> impl Fn(Option<&Value>, Option<&V>) -> bool + Send + Sync + 'static + use<V> {
    let name = name.to_owned();
    move |key, value| functions::predicate(&name, key, value_of(value).as_ref())
}

fn select<V: Cell>(
    name: &str,
    to: Type,
) -> impl Fn(Option<&Value>, Option<&V>) -> Option<Value> + Send + Sync + 'static + use<V> {
    let name = name.to_owned();
    move |key, value| functions::selector(&name, to, key, value_of(value).as_ref())
}

fn split<V: Wrap>(stream: &KStream<Value, V>, branches: &[Branch], default: DefaultBranch) -> Built {
    let collected = Rc::new(RefCell::new(Vec::new()));
    let collecting = || {
        let collected = Rc::clone(&collected);
        Branched::with_consumer(move |branch: KStream<Value, V>| collected.borrow_mut().push(branch))
    };
    let mut split = stream.split();
    for branch in branches {
        let branched = collecting();
        split = split.branch(
            test(&branch.predicate),
            match &branch.name {
                Some(name) => branched.with_name(name),
                None => branched,
            },
        );
    }
    match default {
        DefaultBranch::None => split.no_default_branch(),
        DefaultBranch::Unnamed => split.default_branch(collecting()),
    };
    let streams = collected.take();
    Built::Branches(streams.into_iter().map(V::stream).collect())
}

fn grouped<V: Cell>(topic: Option<&String>, key: Type, value: Type) -> Grouped<Value, V> {
    let grouped = Grouped::with(Typed(key), V::serde(value));
    match topic {
        Some(topic) => grouped.with_name(topic),
        None => grouped,
    }
}

fn to<V: Cell>(stream: &KStream<Value, V>, topic: &Topic, produced: Produced<Value, V>) {
    match topic.clone() {
        Topic::Named(topic) => stream.to(topic, produced),
        Topic::ByWeight(prefix) => {
            stream.to_by(move |_, value, _| functions::topic_by_weight(&prefix, value_of(value).as_ref()), produced)
        }
    }
}

fn aggregate<V: Wrap>(from: &KGroupedStream<Value, V>, step: &Step) -> Result<Built, String> {
    let grouped = match &step.name {
        Some(name) => &from.named(name),
        None => from,
    };
    match step.operator.clone() {
        Operator::Count { key, store, .. } => Ok(Built::CountTable(grouped.count(match &store {
            Some(_) => materialized(store.as_ref(), key, Type::Long),
            None => Materialized::default(),
        }))),
        Operator::Reduce { combiner, key, value, store, .. } => {
            let reducer =
                move |old: V, new: &V| cell_of(functions::combiner(&combiner, &old.to_value(), &new.to_value()));
            Ok(V::table(grouped.reduce_nullable(reducer, materialized(store.as_ref(), key, value))))
        }
        Operator::Aggregate { combiner, key, value: to, store, .. } => {
            let aggregator = move |_: &Value, value: &V, aggregate: Option<Value>| {
                let aggregate = aggregate.expect("an aggregate starts at zero");
                functions::aggregator(&combiner, to, &value.to_value(), &aggregate)
            };
            let options = materialized(store.as_ref(), key, to);
            Ok(Built::Table(grouped.aggregate_nullable(move || Some(Value::zero(to)), aggregator, options)))
        }
        other => Err(format!("{other:?} on a grouped stream")),
    }
}

fn on_table<V: Wrap>(
    builder: &mut StreamsBuilder,
    from: &KTable<Value, V>,
    step: &Step,
    built: &[Built],
) -> Result<Built, String> {
    let table = match &step.name {
        Some(name) => &from.named(name),
        None => from,
    };
    Ok(match step.operator.clone() {
        Operator::TableFilter { predicate, key, value, store, .. } => V::table(match store {
            None => table.filter(table_test(predicate)),
            Some(store) => table.filter_materialized(table_test(predicate), materialized(Some(&store), key, value)),
        }),
        Operator::TableFilterNot { predicate, key, value, store, .. } => V::table(match store {
            None => table.filter_not(table_test(predicate)),
            Some(store) => table.filter_not_materialized(table_test(predicate), materialized(Some(&store), key, value)),
        }),
        Operator::TableMapValues { mapper, key, value, store, .. } => {
            let map = move |key: &Value, old: &V| functions::mapper(&mapper, value, Some(key), Some(&old.to_value()));
            Built::Table(match store {
                None => table.map_values_with_key(map),
                Some(store) => table.map_values_with_key_materialized(map, materialized(Some(&store), key, value)),
            })
        }
        Operator::TableTransformValues { mapper, calls, key, value, store, .. } => {
            if let Some(calls) = &calls {
                builder.add_state_store(Stores::key_value_store(calls, Typed(key), LongSerde));
            }
            let stores: Vec<String> = calls.iter().cloned().collect();
            let transformer = transformer(move |k, v| functions::mapper(&mapper, value, Some(k), v), calls);
            let stores: Vec<&str> = stores.iter().map(String::as_str).collect();
            Built::Table(match store {
                None => table.transform_values(transformer, &stores),
                Some(store) => {
                    table.transform_values_materialized(transformer, materialized(Some(&store), key, value), &stores)
                }
            })
        }
        Operator::TableJoin { other, kind, joiner, key, value, store, .. } => {
            let options = store.map(|store| materialized(Some(&store), key, value));
            return joins::tables(table, &built[other], kind, joiner, options);
        }
        Operator::ForeignKeyJoin { other, .. } => return joins::on_foreign_key(from, &built[other], step),
        Operator::Suppress { .. } => V::table(windows::suppress(from, step, None)?),
        Operator::ToStream { .. } => V::stream(table.to_stream()),
        Operator::TableGroupBy { selector, key, mapper, value, topic, .. } => {
            let select = move |k: &Value, v: &V| {
                let v = v.to_value();
                let selected = functions::selector(&selector, key, Some(k), Some(&v));
                (selected, functions::mapper(&mapper, value, Some(k), Some(&v)))
            };
            Built::GroupedTable(table.group_by(select, grouped(topic.as_ref(), key, value)))
        }
        other => return Err(format!("{other:?} on a table")),
    })
}

/// Makes values with the function, and counts its calls for each key in a store, if that has a name.
fn transformer<V: Cell>(
    mapper: impl Fn(&Value, Option<&Value>) -> Nullable + Send + Sync + 'static,
    calls: Option<String>,
) -> impl Fn(&mut ProcessorContext<'_, (), ()>, &Value, Option<&V>) -> ProcessResult<Nullable> + Send + Sync + 'static {
    move |context, key, value| {
        let made = mapper(key, value_of(value).as_ref());
        let Some(calls) = &calls else { return Ok(made) };
        let mut calls = context.key_value_store::<Value, i64>(calls)?;
        let count = calls.get(key)?.unwrap_or(0) + 1;
        calls.put(key, count)?;
        Ok(Some(Value::String(format!("{count} {}", text(made.as_ref())))))
    }
}

fn on_windows<V: Wrap>(from: &WindowTable<V>, step: &Step) -> Result<Built, String> {
    match &step.operator {
        Operator::WindowedTo { topic, key, value, .. } => {
            windows::write(from, topic, *key, *value);
            Ok(Built::End)
        }
        Operator::Unwindow { .. } => Ok(V::stream(windows::unwindow(from))),
        Operator::Suppress { .. } => Ok(V::windows(windows::suppress_windows(from, step)?)),
        other => Err(format!("{other:?} on a table of windows")),
    }
}

fn table_test<V: Cell>(name: String) -> impl Fn(&Value, &V) -> bool + Send + Sync + 'static {
    move |key, value| functions::predicate(&name, Some(key), Some(&value.to_value()))
}

fn aggregate_table(from: &KGroupedTable<Value, Value>, step: &Step) -> Result<Built, String> {
    let grouped = match &step.name {
        Some(name) => &from.named(name),
        None => from,
    };
    match step.operator.clone() {
        Operator::TableCount { key, store, .. } => Ok(Built::CountTable(grouped.count(match &store {
            Some(_) => materialized(store.as_ref(), key, Type::Long),
            None => Materialized::default(),
        }))),
        Operator::TableReduce { adder, subtractor, key, value, store, .. } => {
            Ok(Built::Table(grouped.reduce_nullable(
                move |old: Value, new: &Value| functions::combiner(&adder, &old, new),
                move |aggregate: Value, old: &Value| functions::remover(&subtractor, &aggregate, old),
                materialized(store.as_ref(), key, value),
            )))
        }
        Operator::TableAggregate { adder, subtractor, key, value: to, store, .. } => {
            Ok(Built::Table(grouped.aggregate_nullable(
                move || Some(Value::zero(to)),
                move |_: &Value, value: &Value, aggregate: Option<Value>| {
                    let aggregate = aggregate.expect("an aggregate starts at zero");
                    functions::aggregator(&adder, to, value, &aggregate)
                },
                move |_: &Value, value: &Value, aggregate: Value| {
                    let old = convert(to, Some(value)).expect("a value that is there stays there");
                    functions::remover(&subtractor, &aggregate, &old)
                },
                materialized(store.as_ref(), key, to),
            )))
        }
        other => Err(format!("{other:?} on a grouped table")),
    }
}
