//! Owns cases of foreign-key joins alone: few rows that refer to few others, so that many refer to one, and both sides change,
//! move and go all the time.

use crate::bytes;
use crate::case::{Case, Event, Join, Operator, Record, Step, StepId, Store, Topic};
use crate::functions::JOINERS;
use crate::random::Random;
use crate::value::{Type, Value};

const LEFT: &str = "left";
const RIGHT: &str = "right";

#[must_use]
pub fn case(seed: u64) -> Case {
    let mut random = Random::new(seed ^ 0xf0_4e16);
    let (caching, named) = (random.chance(25), random.chance(40));
    let keys = *random.pick(&[Type::String, Type::Long, Type::Integer]);
    // What a row refers to is its value as a key of the right table: some words or some numbers.
    let foreign = *random.pick(&[Type::String, Type::String, Type::Long]);
    let mut joins = Joins { random, named, foreign, steps: Vec::new() };
    joins.steps(keys);
    let Joins { mut random, steps, .. } = joins;
    let events = (0..20 + random.below(30)).map(|_| event(&mut random, keys, foreign)).collect();
    Case { name: format!("foreign-keys-seed-{seed}"), caching, start_ms: 500, steps, events }
}

struct Joins {
    random: Random,
    named: bool,
    foreign: Type,
    steps: Vec<Step>,
}

impl Joins {
    fn push(&mut self, operator: Operator) -> StepId {
        let id = self.steps.len();
        let name = (self.named && operator.takes_name()).then(|| format!("n{id}"));
        self.steps.push(Step { name, operator });
        id
    }

    fn store(&mut self) -> Option<Store> {
        let id = self.steps.len();
        let name = self.random.chance(60).then(|| format!("s{id}"));
        let (persistent, cached) = (self.random.chance(60), self.random.chance(75));
        self.random.chance(60).then_some(Store { name, persistent, logged: true, cached, history: None })
    }

    /// Two tables, or one that refers to itself; what comes of their join goes to a topic, and perhaps on.
    fn steps(&mut self, keys: Type) {
        let (foreign, store) = (self.foreign, self.store());
        let left = self.push(Operator::Table { topic: LEFT.to_owned(), key: keys, value: foreign, store });
        let store = self.store();
        let right = Operator::Table { topic: RIGHT.to_owned(), key: foreign, value: Type::String, store };
        let mut right = self.push(right);
        if self.random.chance(25) {
            let (from, key, value, store) = (right, foreign, Type::String, self.store());
            let predicate = "evenValue".to_owned();
            right = self.push(Operator::TableFilter { from, predicate, key, value, store });
        }
        if keys == foreign && self.random.chance(20) {
            right = left;
        }
        let joined = self.join(left, right, keys);
        self.write(joined, keys);
        match self.random.below(6) {
            // Also by the other kind.
            0 | 1 => {
                let again = self.join(left, right, keys);
                self.write(again, keys);
            }
            // What was joined refers to nothing any more, unless to itself.
            2 => {
                let (selector, joiner) = ("ofKey".to_owned(), "pair".to_owned());
                let (from, other, foreign, key, value) = (left, joined, keys, keys, Type::String);
                let (kind, store) = (Join::Left, self.store());
                if self.keeps(joined) {
                    let operator =
                        Operator::ForeignKeyJoin { from, other, kind, selector, foreign, joiner, key, value, store };
                    let again = self.push(operator);
                    self.write(again, keys);
                }
            }
            3 => {
                let (selector, key, mapper, value) =
                    ("ofValue".to_owned(), Type::String, "same".to_owned(), Type::String);
                let topic = None;
                let from = self.push(Operator::TableGroupBy { from: joined, selector, key, mapper, value, topic });
                let store = self.store();
                let counts = self.push(Operator::TableCount { from, key, store });
                let from = self.push(Operator::ToStream { from: counts });
                let topic = Topic::Named("counts".to_owned());
                self.push(Operator::To { from, topic, key, value: Type::Long });
            }
            _ => {}
        }
    }

    /// Whether the join's values have a serde that both sides know.
    fn keeps(&self, join: StepId) -> bool {
        matches!(&self.steps[join].operator, Operator::ForeignKeyJoin { store: Some(_), .. })
    }

    fn join(&mut self, from: StepId, other: StepId, key: Type) -> StepId {
        let (kind, foreign) = (*self.random.pick(&[Join::Inner, Join::Left]), self.foreign);
        let (selector, joiner) = (*self.random.pick(&["ofValue", "dropOdd"]), *self.random.pick(JOINERS));
        let (selector, joiner, value, store) = (selector.to_owned(), joiner.to_owned(), Type::String, self.store());
        self.push(Operator::ForeignKeyJoin { from, other, kind, selector, foreign, joiner, key, value, store })
    }

    fn write(&mut self, table: StepId, key: Type) {
        let from = self.push(Operator::ToStream { from: table });
        self.push(Operator::To { from, topic: Topic::Named(format!("out-{from}")), key, value: Type::String });
    }
}

/// Also the words are keys of the right table; one of them is the empty string.
fn word(random: &mut Random, ty: Type) -> Value {
    match ty {
        Type::String => Value::String((*random.pick(&["", "a", "bb", "ccc"])).to_owned()),
        Type::Integer => Value::Integer(*random.pick(&[-1, 0, 4])),
        _ => Value::Long(*random.pick(&[0, 1, 255, -1])),
    }
}

fn event(random: &mut Random, keys: Type, foreign: Type) -> Event {
    let left = random.chance(60);
    let (topic, key, value) = if left { (LEFT, keys, foreign) } else { (RIGHT, foreign, Type::String) };
    let key = (!random.chance(4)).then(|| bytes::write(&word(random, key)));
    let value = (!random.chance(20)).then(|| bytes::write(&word(random, value)));
    let timestamp = i64::try_from(random.below(1_000)).unwrap_or_default();
    Event::Record(Record { topic: topic.to_owned(), key, value, timestamp, headers: super::events::headers(random) })
}
