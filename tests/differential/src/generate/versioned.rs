//! Owns cases of versioned tables alone: a few keys with a few values, far out of order, so that histories are looked into,
//! changed and left behind; and what comes of such tables in all operators that take one.

use crate::bytes;
use crate::case::{Case, Event, Join, Operator, Record, Step, StepId, Store, Topic};
use crate::functions::{COMBINERS, JOINERS};
use crate::random::Random;
use crate::value::{Type, Value};

const TABLE: &str = "table";
const OTHER: &str = "other";
const STREAM: &str = "stream";
const KEY: Type = Type::String;

#[must_use]
pub fn case(seed: u64) -> Case {
    let mut random = Random::new(seed ^ 0x9e_0889);
    let (caching, named) = (random.chance(25), random.chance(40));
    let value = *random.pick(&[Type::String, Type::String, Type::Long]);
    let mut tables = Tables { random, named, value, grace: false, steps: Vec::new() };
    tables.steps();
    let Tables { mut random, steps, grace, .. } = tables;
    let topics = sources(&steps);
    let events = (0..20 + random.below(40)).map(|_| event(&mut random, &topics, value, grace)).collect();
    Case { name: format!("versioned-seed-{seed}"), caching, start_ms: 500, steps, events }
}

/// Tables are written more often than streams.
fn sources(steps: &[Step]) -> Vec<&'static str> {
    let has_other = steps.iter().any(|step| matches!(&step.operator, Operator::Table { topic, .. } if topic == OTHER));
    let mut topics = vec![TABLE, TABLE, TABLE, STREAM, STREAM];
    topics.extend(has_other.then_some(OTHER));
    topics
}

struct Tables {
    random: Random,
    named: bool,
    value: Type,
    /// Some join has a grace period, in which Kafka Streams fails on records without a key.
    grace: bool,
    steps: Vec<Step>,
}

impl Tables {
    fn push(&mut self, operator: Operator) -> StepId {
        let id = self.steps.len();
        let name = (self.named && operator.takes_name()).then(|| format!("n{id}"));
        self.steps.push(Step { name, operator });
        id
    }

    fn versioned(&mut self) -> Option<Store> {
        let name = Some(format!("s{}", self.steps.len()));
        let history = Some(*self.random.pick(&[0, 50, 200, 500, 10_000]));
        Some(Store { name, persistent: true, logged: true, cached: false, history })
    }

    /// Versioned most of the time, sometimes not, sometimes none.
    fn store(&mut self) -> Option<Store> {
        match self.random.below(4) {
            0 | 1 => self.versioned(),
            2 => self.versioned().map(|store| Store { history: None, cached: true, ..store }),
            _ => None,
        }
    }

    fn steps(&mut self) {
        let value = self.value;
        let store = self.versioned();
        let table = self.push(Operator::Table { topic: TABLE.to_owned(), key: KEY, value, store });
        let stream = Operator::Stream { topics: vec![STREAM.to_owned()], key: KEY, value, extractor: None };
        let stream = self.push(stream);
        self.write_table(table, value);
        let derived = self.derive(table);
        self.write_table(derived, value);
        for _ in 0..1 + self.random.below(2) {
            match self.random.below(4) {
                0 if self.other_is_free() => self.join_tables(derived),
                1 => self.regroup(derived),
                2 => self.fold(stream),
                _ => {}
            }
        }
        for _ in 0..1 + self.random.below(2) {
            let other = if self.random.chance(50) { table } else { derived };
            self.join_stream(stream, other);
        }
    }

    /// Another table made of it value by value, with a store or without one.
    fn derive(&mut self, from: StepId) -> StepId {
        let (key, value, store) = (KEY, self.value, self.store());
        let predicate = (*self.random.pick(&["evenValue", "largeValue", "always"])).to_owned();
        let operator = match self.random.below(5) {
            0 => Operator::TableFilter { from, predicate, key, value, store },
            1 => Operator::TableFilterNot { from, predicate, key, value, store },
            2 => {
                let mapper = (*self.random.pick(&["same", "dropOdd"])).to_owned();
                Operator::TableMapValues { from, mapper, key, value, store }
            }
            3 => {
                let mapper = (*self.random.pick(&["same", "dropOdd"])).to_owned();
                Operator::TableTransformValues { from, mapper, calls: None, key, value, store }
            }
            _ => {
                let from = self.push(Operator::ToStream { from });
                Operator::ToTable { from, key, value, store }
            }
        };
        self.push(operator)
    }

    /// How far a table knows back: a grace period may be no longer.
    fn history(&self, table: StepId) -> Option<i64> {
        match &self.steps[table].operator {
            Operator::TableFilter { from, store: None, .. }
            | Operator::TableFilterNot { from, store: None, .. }
            | Operator::TableMapValues { from, store: None, .. }
            | Operator::TableTransformValues { from, store: None, .. } => self.history(*from),
            operator => operator.store()?.history,
        }
    }

    fn join_stream(&mut self, from: StepId, other: StepId) {
        let grace = *self.random.pick(&[0, 50, 200]);
        let history = self.history(other).filter(|&history| grace <= history);
        let grace = (history.is_some() && self.random.chance(60)).then_some(grace);
        self.grace |= grace.is_some();
        let (kind, joiner) = (*self.random.pick(&[Join::Inner, Join::Left]), self.joiner());
        let (key, value) = (KEY, self.value);
        let from = self.push(Operator::StreamTableJoin { from, other, kind, joiner, key, value, grace });
        self.write(from, Type::String);
    }

    /// A topic makes one table.
    fn other_is_free(&self) -> bool {
        sources(&self.steps).iter().all(|topic| *topic != OTHER)
    }

    fn join_tables(&mut self, from: StepId) {
        let (key, value, store) = (KEY, self.value, self.store());
        let other = self.push(Operator::Table { topic: OTHER.to_owned(), key, value, store });
        let (kind, joiner) = (*self.random.pick(&[Join::Inner, Join::Left, Join::Outer]), self.joiner());
        let (value, store) = (Type::String, self.store());
        let joined = self.push(Operator::TableJoin { from, other, kind, joiner, key, value, store });
        self.write_table(joined, Type::String);
    }

    /// Grouped by what it has, and folded into a table that may be versioned itself.
    fn regroup(&mut self, from: StepId) {
        let (selector, key, mapper, value) = ("ofValue".to_owned(), KEY, "same".to_owned(), self.value);
        let from = self.push(Operator::TableGroupBy { from, selector, key, mapper, value, topic: None });
        let store = self.store();
        let (folded, value) = if self.random.chance(50) {
            (self.push(Operator::TableCount { from, key, store }), Type::Long)
        } else {
            let (adder, subtractor) = ("add".to_owned(), "subtract".to_owned());
            (self.push(Operator::TableReduce { from, adder, subtractor, key, value, store }), value)
        };
        self.write_table(folded, value);
    }

    fn fold(&mut self, from: StepId) {
        let (key, value) = (KEY, self.value);
        let from = self.push(Operator::GroupByKey { from, key, value, topic: None });
        let (store, combiner) = (self.versioned(), (*self.random.pick(COMBINERS)).to_owned());
        let folded = match self.random.below(3) {
            0 => return self.count(from),
            1 => self.push(Operator::Reduce { from, combiner, key, value, store }),
            _ => self.push(Operator::Aggregate { from, combiner, key, value, store }),
        };
        self.write_table(folded, value);
    }

    fn count(&mut self, from: StepId) {
        let store = self.versioned();
        let counts = self.push(Operator::Count { from, key: KEY, store });
        self.write_table(counts, Type::Long);
    }

    fn joiner(&mut self) -> String {
        (*self.random.pick(JOINERS)).to_owned()
    }

    fn write_table(&mut self, table: StepId, value: Type) {
        let from = self.push(Operator::ToStream { from: table });
        self.write(from, value);
    }

    fn write(&mut self, from: StepId, value: Type) {
        self.push(Operator::To { from, topic: Topic::Named(format!("out-{from}")), key: KEY, value });
    }
}

fn event(random: &mut Random, topics: &[&str], value: Type, grace: bool) -> Event {
    let topic = *random.pick(topics);
    // One is the beginning of another, as are their rows.
    let key = (*random.pick(&["", "a", "a\0", "b"])).to_owned();
    let null_key = random.chance(4) && !(grace && topic == STREAM);
    let key = (!null_key).then(|| bytes::write(&Value::String(key)));
    let value = match value {
        Type::Long => Value::Long(*random.pick(&[0, 1, 255, -1])),
        _ => Value::String((*random.pick(&["", "a", "bb", "ccc"])).to_owned()),
    };
    let value = (!random.chance(25)).then(|| bytes::write(&value));
    // Few times, so that they come again.
    let timestamp = 20 * i64::try_from(random.below(50)).unwrap_or_default();
    Event::Record(Record { topic: topic.to_owned(), key, value, timestamp, headers: super::events::headers(random) })
}
