//! Owns the building of joins with the SDK: `Joins.java` does the same with Kafka Streams.

use millrace::{GlobalKTable, JoinWindows, Joined, KStream, KTable, Materialized, StreamJoined, TableJoined};

use super::serdes::{Cell, Typed};
use super::topology::{Built, Wrap, materialized};
use super::windows::ms;
use crate::case::{Join, Operator, Step};
use crate::functions;
use crate::value::Value;

fn joined<V: Cell, O: Cell>(joiner: &str, left: Option<&V>, right: Option<&O>) -> Value {
    let (left, right) = (left.map(Cell::to_value), right.map(Cell::to_value));
    functions::joiner(joiner, left.as_ref(), right.as_ref())
}

pub(super) fn tables<V: Wrap>(
    left: &KTable<Value, V>,
    right: &Built,
    kind: Join,
    joiner: String,
    options: Option<Materialized<Value, Value>>,
) -> Result<Built, String> {
    Ok(Built::Table(match right {
        Built::Table(right) => two_tables(left, right, kind, joiner, options),
        Built::CountTable(right) => two_tables(left, right, kind, joiner, options),
        _ => return Err("tables are joined with tables".to_owned()),
    }))
}

fn two_tables<V: Wrap, O: Wrap>(
    left: &KTable<Value, V>,
    right: &KTable<Value, O>,
    kind: Join,
    joiner: String,
    options: Option<Materialized<Value, Value>>,
) -> KTable<Value, Value> {
    let inner = {
        let joiner = joiner.clone();
        move |left: &V, right: &O| joined(&joiner, Some(left), Some(right))
    };
    let optional = {
        let joiner = joiner.clone();
        move |left: &V, right: Option<&O>| joined(&joiner, Some(left), right)
    };
    let outer = move |left: Option<&V>, right: Option<&O>| joined(&joiner, left, right);
    match (kind, options) {
        (Join::Inner, None) => left.join(right, inner),
        (Join::Inner, Some(options)) => left.join_materialized(right, inner, options),
        (Join::Left, None) => left.left_join(right, optional),
        (Join::Left, Some(options)) => left.left_join_materialized(right, optional, options),
        (Join::Outer, None) => left.outer_join(right, outer),
        (Join::Outer, Some(options)) => left.outer_join_materialized(right, outer, options),
    }
}

pub(super) fn on_foreign_key<V: Wrap>(left: &KTable<Value, V>, right: &Built, step: &Step) -> Result<Built, String> {
    Ok(Built::Table(match right {
        Built::Table(right) => tables_on_foreign_key(left, right, step)?,
        Built::CountTable(right) => tables_on_foreign_key(left, right, step)?,
        _ => return Err("tables are joined with tables".to_owned()),
    }))
}

fn tables_on_foreign_key<V: Wrap, O: Wrap>(
    left: &KTable<Value, V>,
    right: &KTable<Value, O>,
    step: &Step,
) -> Result<KTable<Value, Value>, String> {
    let Operator::ForeignKeyJoin { kind, selector, foreign, joiner, key, value, store, .. } = step.operator.clone()
    else {
        return Err(format!("{:?} on two tables", step.operator));
    };
    let refer =
        move |key: &Value, value: &V| functions::selector(&selector, foreign, Some(key), Some(&value.to_value()));
    let options = step.name.as_ref().map_or_else(TableJoined::default, TableJoined::as_);
    let store = materialized(store.as_ref(), key, value);
    Ok(match kind {
        Join::Inner => left.join_on_foreign_key_materialized(
            right,
            refer,
            move |left, right| joined(&joiner, Some(left), Some(right)),
            options,
            store,
        ),
        _ => left.left_join_on_foreign_key_materialized(
            right,
            refer,
            move |left, right| joined(&joiner, Some(left), right),
            options,
            store,
        ),
    })
}

pub(super) fn stream_with_table<V: Wrap>(
    left: &KStream<Value, V>,
    right: &Built,
    kind: Join,
    joiner: String,
    options: Joined<Value, V>,
) -> Result<Built, String> {
    Ok(Built::Stream(match right {
        Built::Table(right) => with_table(left, right, kind, joiner, options),
        Built::CountTable(right) => with_table(left, right, kind, joiner, options),
        _ => return Err("streams are joined with tables".to_owned()),
    }))
}

fn with_table<V: Wrap, O: Wrap>(
    left: &KStream<Value, V>,
    right: &KTable<Value, O>,
    kind: Join,
    joiner: String,
    options: Joined<Value, V>,
) -> KStream<Value, Value> {
    match kind {
        Join::Inner => left.join_table(right, move |left, right| joined(&joiner, Some(left), Some(right)), options),
        _ => left.left_join_table(right, move |left, right| joined(&joiner, Some(left), right), options),
    }
}

pub(super) fn stream_with_global<V: Wrap>(
    left: &KStream<Value, V>,
    right: &GlobalKTable<Value, Value>,
    kind: Join,
    mapper: impl Fn(Option<&Value>, &V) -> Option<Value> + Send + Sync + 'static,
    joiner: String,
) -> KStream<Value, Value> {
    match kind {
        Join::Inner => {
            left.join_global_table(right, mapper, move |left, right| joined(&joiner, Some(left), Some(right)))
        }
        _ => left.left_join_global_table(right, mapper, move |left, right| joined(&joiner, Some(left), right)),
    }
}

pub(super) fn streams<V: Wrap>(left: &KStream<Value, V>, right: &Built, step: &Step) -> Result<Built, String> {
    Ok(Built::Stream(match right {
        Built::Stream(right) => two_streams(left, right, step)?,
        Built::Counts(right) => two_streams(left, right, step)?,
        _ => return Err("streams are joined with streams".to_owned()),
    }))
}

fn two_streams<V: Wrap, O: Wrap>(
    left: &KStream<Value, V>,
    right: &KStream<Value, O>,
    step: &Step,
) -> Result<KStream<Value, Value>, String> {
    let Operator::StreamJoin { kind, joiner, key, value, other_value, before, after, grace, stores, .. } =
        step.operator.clone()
    else {
        return Err(format!("{:?} on two streams", step.operator));
    };
    let windows = JoinWindows::of_time_difference_and_grace(ms(0), ms(grace)).before_ms(before).after_ms(after);
    let mut options = StreamJoined::with(Typed(key), V::serde(value), O::serde(other_value));
    if let Some(name) = &step.name {
        options = options.with_name(name);
    }
    if let Some(stores) = stores {
        options = options.with_store_name(stores);
    }
    Ok(match kind {
        Join::Inner => left.join(right, move |left, right| joined(&joiner, Some(left), Some(right)), windows, options),
        Join::Left => left.left_join(right, move |left, right| joined(&joiner, Some(left), right), windows, options),
        Join::Outer => left.outer_join(right, move |left, right| joined(&joiner, left, right), windows, options),
    })
}
