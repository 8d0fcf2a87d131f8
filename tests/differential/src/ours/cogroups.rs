//! Owns the building of cogrouped aggregations with the SDK: `Cogroups.java` does the same with Kafka Streams.

use millrace::{
    CogroupedKStream, KGroupedStream, SessionWindows, SlidingWindows, TimeWindowedCogroupedKStream, TimeWindows,
    UnlimitedWindows,
};

use super::serdes::Cell;
use super::topology::{Built, materialized};
use super::windows::{WindowTable, ms};
use crate::case::{Operator, Step, Windows};
use crate::functions::{self, Nullable};
use crate::value::{Type, Value};

pub(super) fn cogroup<V: Cell>(one: &KGroupedStream<Value, V>, other: &Built, step: &Step) -> Result<Built, String> {
    let Operator::Cogroup { combiner, other_combiner, value: to, .. } = &step.operator else {
        return Err(format!("{:?} on two grouped streams", step.operator));
    };
    let one = one.cogroup_nullable(aggregator(combiner, *to));
    let both = match other {
        Built::Grouped(other) => one.cogroup_nullable(other, aggregator(other_combiner, *to)),
        Built::GroupedCounts(other) => one.cogroup_nullable(other, aggregator(other_combiner, *to)),
        _ => return Err("grouped streams are cogrouped with grouped streams".to_owned()),
    };
    aggregate(&both, step)
}

fn aggregator<V: Cell>(
    combiner: &str,
    to: Type,
) -> impl Fn(&Value, &V, Option<Value>) -> Nullable + Send + Sync + 'static + use<V> {
    let combiner = combiner.to_owned();
    move |_, value, aggregate| {
        let aggregate = aggregate.expect("an aggregate starts at zero");
        functions::aggregator(&combiner, to, &value.to_value(), &aggregate)
    }
}

fn aggregate(both: &CogroupedKStream<Value, Value>, step: &Step) -> Result<Built, String> {
    let Operator::Cogroup { combiner, windows, retention, key, value: to, store, .. } = step.operator.clone() else {
        return Err(format!("{:?} on cogrouped streams", step.operator));
    };
    let both = match &step.name {
        Some(name) => &both.named(name),
        None => both,
    };
    let zero = move || Some(Value::zero(to));
    let mut options = materialized(store.as_ref(), key, to);
    if let Some(retention) = retention.filter(|_| store.is_some()) {
        options = options.with_retention(ms(retention));
    }
    let Some(windows) = windows else { return Ok(Built::Table(both.aggregate_nullable(zero, options))) };
    let in_time = |cut: TimeWindowedCogroupedKStream<Value, Value>, options| cut.aggregate_nullable(zero, options);
    let table = match windows {
        Windows::Time { size, advance, grace } => {
            let hopping = TimeWindows::of_size_and_grace(ms(size), ms(grace)).advance_by(ms(advance));
            in_time(both.windowed_by(hopping), options)
        }
        Windows::Unlimited { start } => in_time(both.windowed_by(UnlimitedWindows::of().start_on(start)), options),
        Windows::Sliding { difference, grace } => {
            let sliding = SlidingWindows::of_time_difference_and_grace(ms(difference), ms(grace));
            in_time(both.windowed_by(sliding), options)
        }
        Windows::Session { gap, grace } => {
            let merger = move |_: &Value, one: Option<Value>, other: Value| {
                functions::combiner(&combiner, &one.expect("the merger keeps what is there"), &other)
            };
            let sessions = SessionWindows::of_inactivity_gap_and_grace(ms(gap), ms(grace));
            both.windowed_by(sessions).aggregate_nullable(zero, merger, options)
        }
    };
    Ok(Built::WindowTable(WindowTable { table, windows }))
}
