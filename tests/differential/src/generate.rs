//! Owns the making of a case from a seed: random operators on random streams, types kept right.
//! A seed's case changes when this file does, so a failure is kept by its case, not by its seed.

mod events;
pub mod foreign_keys;
pub mod versioned;

use crate::case::{
    Branch, Case, Clock, DefaultBranch, Emit, Join, Operator, Punctuation, Step, StepId, Store, Topic, Windows,
};
use crate::functions::{COMBINERS, EXPANDERS, EXTRACTORS, JOINERS, MAPPERS, PREDICATES, REMOVERS, SELECTORS};
use crate::random::Random;
use crate::value::Type;

#[must_use]
pub fn case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let named_percent = *random.pick(&[0, 0, 30, 100]);
    let caching = random.chance(30);
    let mut generator = Generator {
        random,
        caching,
        named_percent,
        steps: Vec::new(),
        live: Vec::new(),
        topics: Vec::new(),
        globals: Vec::new(),
        sinks: Vec::new(),
    };
    generator.sources();
    if generator.random.chance(25) {
        generator.global_table();
    }
    for _ in 0..2 + generator.random.below(7) {
        generator.grow();
    }
    generator.close();
    let Generator { mut random, steps, topics, .. } = generator;
    let events = events::events(&mut random, &topics);
    Case { name: format!("seed-{seed}"), caching, start_ms: 500, steps, events }
}

/// Whether a foreign-key join is made of what another one gave. Then records wait in three internal topics with one
/// timestamp; which is next is up to the layout of Kafka Streams' heap, and it shows where they meet again.
#[must_use]
pub fn joins_what_was_joined(case: &Case) -> bool {
    let mut joined = vec![false; case.steps.len()];
    let mut again = false;
    for (id, step) in case.steps.iter().enumerate() {
        let of_joined = step.operator.inputs().iter().any(|&input| joined[input]);
        let joins = matches!(step.operator, Operator::ForeignKeyJoin { .. });
        again |= joins && of_joined;
        joined[id] = joins || of_joined;
    }
    again
}

/// A topic that is read, with the types of its keys and values.
pub(crate) type SourceTopic = (String, Type, Type);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream,
    Table,
}

/// A result that operators can be put on.
#[derive(Debug, Clone, Copy)]
struct Live {
    step: StepId,
    kind: Kind,
    key: Type,
    value: Type,
    /// It is a count: the SDK's type is another one than that of other longs, so the two don't merge.
    counted: bool,
    used: bool,
}

struct Generator {
    random: Random,
    caching: bool,
    named_percent: usize,
    steps: Vec<Step>,
    live: Vec<Live>,
    topics: Vec<SourceTopic>,
    /// Global tables with the types of their keys.
    globals: Vec<(StepId, Type)>,
    /// Topics written so far, with their types.
    sinks: Vec<SourceTopic>,
}

impl Generator {
    fn push(&mut self, operator: Operator) -> StepId {
        let id = self.steps.len();
        let named = operator.takes_name() && self.random.chance(self.named_percent);
        // Branches append a number to the name of their split.
        let suffix = if matches!(operator, Operator::Split { .. }) { "-" } else { "" };
        let name = if named { Some(format!("n{id}{suffix}")) } else { None };
        self.steps.push(Step { name, operator });
        id
    }

    fn result(&mut self, operator: Operator, kind: Kind, key: Type, value: Type) {
        let counted = self.is_counted(&operator);
        let step = self.push(operator);
        self.live.push(Live { step, kind, key, value, counted, used: false });
    }

    /// Whether the result has the values of a count: it is one, or takes them over from one.
    fn is_counted(&self, operator: &Operator) -> bool {
        match operator {
            Operator::Count { .. } | Operator::TableCount { .. } => true,
            Operator::Map { .. }
            | Operator::MapValues { .. }
            | Operator::FlatMap { .. }
            | Operator::FlatMapValues { .. }
            | Operator::TableMapValues { .. }
            | Operator::TableTransformValues { .. }
            | Operator::Aggregate { .. }
            | Operator::Cogroup { .. }
            | Operator::TableGroupBy { .. }
            | Operator::TableReduce { .. }
            | Operator::TableAggregate { .. }
            | Operator::TableJoin { .. }
            | Operator::ForeignKeyJoin { .. }
            | Operator::StreamTableJoin { .. }
            | Operator::GlobalJoin { .. }
            | Operator::StreamJoin { .. }
            | Operator::Tally { .. }
            | Operator::Minutes { .. }
            | Operator::Visits { .. } => false,
            _ => operator.inputs().iter().any(|&input| match &self.steps[input].operator {
                between @ (Operator::GroupBy { .. }
                | Operator::GroupByKey { .. }
                | Operator::WindowedBy { .. }
                | Operator::Split { .. }) => self.is_counted(between),
                windowed @ (Operator::Count { .. } | Operator::Reduce { .. } | Operator::Aggregate { .. })
                    if matches!(operator, Operator::Unwindow { .. }) =>
                {
                    self.is_counted(windowed)
                }
                _ => self.live.iter().any(|live| live.step == input && live.counted),
            }),
        }
    }

    fn key_type(&mut self) -> Type {
        *self.random.pick(&[Type::String, Type::String, Type::String, Type::Long, Type::Integer])
    }

    fn value_type(&mut self) -> Type {
        *self.random.pick(&[
            Type::String,
            Type::String,
            Type::String,
            Type::Long,
            Type::Long,
            Type::Integer,
            Type::Double,
            Type::Json,
        ])
    }

    fn function(&mut self, names: &[&str]) -> String {
        (*self.random.pick(names)).to_owned()
    }

    /// The name of an internal topic.
    fn topic_name(&mut self) -> Option<String> {
        let id = self.steps.len();
        if self.random.chance(40) { Some(format!("t{id}")) } else { None }
    }

    fn store(&mut self) -> Store {
        let id = self.steps.len();
        Store {
            name: if self.random.chance(60) { Some(format!("s{id}")) } else { None },
            persistent: self.random.chance(60),
            logged: self.random.chance(80),
            cached: self.random.chance(75),
            history: None,
        }
    }

    /// Required where the defaults would not know the formats: without `Materialized`, Kafka
    /// Streams takes its default serdes, which are those of strings here.
    fn maybe_store(&mut self, key: Type, value: Type) -> Option<Store> {
        let default_fits = key == Type::String && value == Type::String;
        if default_fits && self.random.chance(40) { None } else { Some(self.store()) }
    }

    fn maybe_view_store(&mut self) -> Option<Store> {
        if self.random.chance(40) { Some(self.store()) } else { None }
    }

    fn sources(&mut self) {
        for _ in 0..1 + self.random.below(3) {
            let (key, value) = (self.key_type(), self.value_type());
            let number = self.topics.len();
            let table = self.random.chance(30);
            let count = if !table && self.random.chance(20) { 2 } else { 1 };
            let topics: Vec<String> = (number..number + count).map(|n| format!("in-{n}")).collect();
            self.topics.extend(topics.iter().map(|topic| (topic.clone(), key, value)));
            if table {
                let store = self.maybe_view_store();
                self.result(Operator::Table { topic: topics[0].clone(), key, value, store }, Kind::Table, key, value);
            } else {
                self.streams(topics, key, value);
            }
        }
    }

    fn global_table(&mut self) {
        let (key, value) = (self.key_type(), self.value_type());
        let topic = format!("global-{}", self.topics.len());
        self.topics.push((topic.clone(), key, value));
        let id = self.steps.len();
        let store = self.maybe_view_store().map(|store| Store { name: Some(format!("s{id}")), ..store });
        let step = self.push(Operator::GlobalTable { topic, key, value, store });
        self.globals.push((step, key));
    }

    /// One stream of the topics, or two, whose sources become one.
    fn streams(&mut self, topics: Vec<String>, key: Type, value: Type) {
        let extractor = if self.random.chance(15) { Some(self.function(EXTRACTORS)) } else { None };
        if self.random.chance(15) {
            let again = Operator::Stream { topics: topics.clone(), key, value, extractor: extractor.clone() };
            self.result(again, Kind::Stream, key, value);
        }
        self.result(Operator::Stream { topics, key, value, extractor }, Kind::Stream, key, value);
    }

    /// Puts an operator on a result, on a recent one more often.
    fn grow(&mut self) {
        let count = self.live.len();
        let index = if self.random.chance(60) { count - 1 } else { self.random.below(count) };
        self.live[index].used = true;
        let from = self.live[index];
        match from.kind {
            Kind::Stream => self.grow_stream(from),
            Kind::Table => self.grow_table(from),
        }
    }

    fn grow_stream(&mut self, from: Live) {
        match self.random.below(29) {
            18..=20 => self.join_stream(from),
            21..=23 => self.join_streams(from),
            24 | 25 => self.cogroup(from),
            26..=28 => self.join_global(from),
            0 => self.filter(from),
            1 => self.map(from),
            2 | 3 => self.map_values(from),
            4 => self.flat_map(from),
            5 => self.flat_map_values(from),
            6 => {
                let (selector, key) = (self.function(SELECTORS), self.key_type());
                self.result(Operator::SelectKey { from: from.step, selector, key }, Kind::Stream, key, from.value);
            }
            7 => self.result(Operator::Peek { from: from.step }, Kind::Stream, from.key, from.value),
            8 | 9 => self.merge(from),
            10 => self.split(from),
            11 => {
                let topic = self.topic_name();
                let operator = Operator::Repartition { from: from.step, key: from.key, value: from.value, topic };
                self.result(operator, Kind::Stream, from.key, from.value);
            }
            12 => {
                let store = self.maybe_store(from.key, from.value);
                let operator = Operator::ToTable { from: from.step, key: from.key, value: from.value, store };
                self.result(operator, Kind::Table, from.key, from.value);
            }
            13 => self.process(from),
            _ => self.group(from),
        }
    }

    fn filter(&mut self, from: Live) {
        let predicate = self.function(PREDICATES);
        let operator = if self.random.chance(70) {
            Operator::Filter { from: from.step, predicate }
        } else {
            Operator::FilterNot { from: from.step, predicate }
        };
        self.result(operator, Kind::Stream, from.key, from.value);
    }

    /// A mapper, and the type it answers.
    fn mapper(&mut self, value: Type) -> (String, Type) {
        let mapper = self.function(MAPPERS);
        let to = match mapper.as_str() {
            "convert" => self.value_type(),
            "mark" | "describe" => Type::String,
            _ => value,
        };
        (mapper, to)
    }

    fn expander(&mut self, value: Type) -> (String, Type) {
        let expander = self.function(EXPANDERS);
        let to = if expander == "words" { Type::String } else { value };
        (expander, to)
    }

    fn map(&mut self, from: Live) {
        let (selector, key) = (self.function(SELECTORS), self.key_type());
        let (mapper, value) = self.mapper(from.value);
        self.result(Operator::Map { from: from.step, selector, key, mapper, value }, Kind::Stream, key, value);
    }

    fn map_values(&mut self, from: Live) {
        let (mapper, value) = self.mapper(from.value);
        self.result(Operator::MapValues { from: from.step, mapper, value }, Kind::Stream, from.key, value);
    }

    fn flat_map(&mut self, from: Live) {
        let (selector, key) = (self.function(SELECTORS), self.key_type());
        let (expander, value) = self.expander(from.value);
        self.result(Operator::FlatMap { from: from.step, expander, selector, key, value }, Kind::Stream, key, value);
    }

    fn flat_map_values(&mut self, from: Live) {
        let (expander, value) = self.expander(from.value);
        self.result(Operator::FlatMapValues { from: from.step, expander, value }, Kind::Stream, from.key, value);
    }

    /// With another stream of the same types; a filter if there is none.
    fn merge(&mut self, from: Live) {
        let fits = |live: &&mut Live| {
            live.kind == Kind::Stream
                && live.step != from.step
                && (live.key, live.value, live.counted) == (from.key, from.value, from.counted)
        };
        let mut others: Vec<&mut Live> = self.live.iter_mut().filter(fits).collect();
        if others.is_empty() {
            return self.filter(from);
        }
        let other = self.random.below(others.len());
        others[other].used = true;
        let other = others[other].step;
        self.result(Operator::Merge { from: from.step, other }, Kind::Stream, from.key, from.value);
    }

    /// A table with the same keys, which may be the one given.
    fn table_like(&mut self, key: Type) -> Option<StepId> {
        let fits = |live: &&mut Live| live.kind == Kind::Table && live.key == key;
        let mut tables: Vec<&mut Live> = self.live.iter_mut().filter(fits).collect();
        if tables.is_empty() {
            return None;
        }
        let table = self.random.below(tables.len());
        tables[table].used = true;
        Some(tables[table].step)
    }

    /// With a table; a filter if there is none.
    fn join_stream(&mut self, from: Live) {
        let Some(other) = self.table_like(from.key) else { return self.filter(from) };
        let (kind, joiner) = (*self.random.pick(&[Join::Inner, Join::Left]), self.function(JOINERS));
        let (key, value) = (from.key, from.value);
        let operator = Operator::StreamTableJoin { from: from.step, other, kind, joiner, key, value, grace: None };
        self.result(operator, Kind::Stream, key, Type::String);
    }

    /// With a global table; a filter if there is none.
    fn join_global(&mut self, from: Live) {
        let Some(&(other, key)) = self.globals.last() else { return self.filter(from) };
        let (kind, selector) = (*self.random.pick(&[Join::Inner, Join::Left]), self.function(SELECTORS));
        let joiner = self.function(JOINERS);
        let operator = Operator::GlobalJoin { from: from.step, other, kind, selector, key, joiner };
        self.result(operator, Kind::Stream, from.key, Type::String);
    }

    /// With a stream, which may be the one given.
    fn join_streams(&mut self, from: Live) {
        let fits = |live: &&mut Live| live.kind == Kind::Stream && live.key == from.key;
        let mut others: Vec<&mut Live> = self.live.iter_mut().filter(fits).collect();
        let other = self.random.below(others.len());
        others[other].used = true;
        let (other, other_value) = (others[other].step, others[other].value);
        let kind = *self.random.pick(&[Join::Inner, Join::Left, Join::Outer]);
        let (joiner, key, value) = (self.function(JOINERS), from.key, from.value);
        let before = *self.random.pick(&[-10, 0, 10, 100, 700]);
        // Kafka Streams takes windows without a length, but can't show the stores of their records.
        let least = (1 - before).max(1);
        let after = *self.random.pick(&[1 - before, least, least.max(10), 100, 700]);
        let grace = *self.random.pick(&[0, 0, 30, 400]);
        let stores = self.random.chance(25).then(|| format!("joined-{}", self.steps.len()));
        let from = from.step;
        let operator =
            Operator::StreamJoin { from, other, kind, joiner, key, value, other_value, before, after, grace, stores };
        self.result(operator, Kind::Stream, key, Type::String);
    }

    fn join_tables(&mut self, from: Live) {
        let Some(other) = self.table_like(from.key) else { return };
        let kind = *self.random.pick(&[Join::Inner, Join::Left, Join::Outer]);
        let (joiner, store, key) = (self.function(JOINERS), self.maybe_view_store(), from.key);
        let operator = Operator::TableJoin { from: from.step, other, kind, joiner, key, value: Type::String, store };
        self.result(operator, Kind::Table, key, Type::String);
    }

    /// With any table, which may be the one given; with none if a serde is not known, which both sides write values with.
    fn join_on_foreign_key(&mut self, from: Live) {
        let knows = |live: &Live| live.kind == Kind::Table && self.knows_serdes(live.step);
        let others: Vec<usize> = (0..self.live.len()).filter(|&other| knows(&self.live[other])).collect();
        if !knows(&from) {
            return;
        }
        let other = *self.random.pick(&others);
        self.live[other].used = true;
        let (other, foreign) = (self.live[other].step, self.live[other].key);
        let (kind, selector) = (*self.random.pick(&[Join::Inner, Join::Left]), self.function(SELECTORS));
        let (joiner, store, key) = (self.function(JOINERS), self.maybe_view_store(), from.key);
        let (from, value) = (from.step, Type::String);
        let operator = Operator::ForeignKeyJoin { from, other, kind, selector, foreign, joiner, key, value, store };
        self.result(operator, Kind::Table, key, value);
    }

    fn split(&mut self, from: Live) {
        let named = self.random.chance(40);
        let branches: Vec<Branch> = (0..1 + self.random.below(3))
            .map(|index| Branch {
                predicate: self.function(PREDICATES),
                name: if named { Some(format!("b{index}")) } else { None },
            })
            .collect();
        let default = if self.random.chance(60) { DefaultBranch::Unnamed } else { DefaultBranch::None };
        let count = branches.len() + usize::from(default == DefaultBranch::Unnamed);
        let split = self.push(Operator::Split { from: from.step, branches, default });
        for index in 0..count {
            self.result(Operator::Branch { from: split, index }, Kind::Stream, from.key, from.value);
        }
    }

    fn process(&mut self, from: Live) {
        // What comes out of a cache is from nowhere in Millrace; Kafka Streams names the last record of the key.
        if self.random.chance(30) && !self.caching {
            let (fixed, step) = (self.random.chance(50), from.step);
            let stamp = if fixed { Operator::StampValues { from: step } } else { Operator::Stamp { from: step } };
            return self.result(stamp, Kind::Stream, from.key, from.value);
        }
        if self.random.chance(40) {
            return self.keep_times(from);
        }
        let mut store = self.store();
        store.name = Some(format!("tally{}", self.steps.len()));
        let clock = *self.random.pick(&[Clock::StreamTime, Clock::WallClock]);
        let interval_ms = *self.random.pick(&[1, 50, 100, 700]);
        let punctuation = if self.random.chance(60) { Some(Punctuation { clock, interval_ms }) } else { None };
        let operator = Operator::Tally { from: from.step, key: from.key, store, punctuation };
        self.result(operator, Kind::Stream, from.key, Type::Long);
    }

    /// A processor with a window or session store.
    fn keep_times(&mut self, from: Live) {
        let (id, key, span) = (self.steps.len(), from.key, *self.random.pick(&[1, 10, 100, 700]));
        let retention = span + *self.random.pick(&[0, 50, 1000]);
        let from = from.step;
        // Caches show what is gone by age.
        let store = |name: &str, store: Store| Store { name: Some(format!("{name}{id}")), cached: false, ..store };
        let (kept, duplicates) = (self.store(), self.random.chance(30));
        let operator = if self.random.chance(60) {
            let store = store(if duplicates { "duplicates" } else { "minutes" }, kept);
            Operator::Minutes { from, key, store, size: span, retention, duplicates }
        } else {
            Operator::Visits { from, key, store: store("visits", kept), gap: span, retention }
        };
        self.result(operator, Kind::Stream, key, Type::String);
    }

    fn group(&mut self, from: Live) {
        let windowed = self.random.chance(40);
        // Kafka Streams gives null values to functions that aggregate in windows, the SDK does not.
        let nulls = windowed && self.random.chance(30);
        let from = if windowed && !nulls {
            let counted = from.counted;
            let operator = Operator::Filter { from: from.step, predicate: "presentValue".to_owned() };
            let step = self.push(operator);
            let present = Live { step, counted, used: true, ..from };
            self.live.push(present);
            present
        } else {
            from
        };
        let topic = self.topic_name();
        let (grouped, key) = if self.random.chance(60) {
            let (selector, key) = (self.function(SELECTORS), self.key_type());
            (self.push(Operator::GroupBy { from: from.step, selector, key, value: from.value, topic }), key)
        } else {
            (self.push(Operator::GroupByKey { from: from.step, key: from.key, value: from.value, topic }), from.key)
        };
        if windowed {
            return self.aggregate_windows(grouped, key, from.value, nulls);
        }
        self.aggregate(grouped, key, from.value);
        if self.random.chance(15) {
            self.aggregate(grouped, key, from.value);
        }
    }

    fn aggregate(&mut self, from: StepId, key: Type, value: Type) {
        match self.random.below(3) {
            0 => {
                let store = self.maybe_view_store();
                self.result(Operator::Count { from, key, store }, Kind::Table, key, Type::Long);
            }
            1 => {
                let (combiner, store) = (self.function(COMBINERS), self.maybe_view_store());
                self.result(Operator::Reduce { from, combiner, key, value, store }, Kind::Table, key, value);
            }
            _ => {
                let (combiner, to) = (self.function(COMBINERS), self.value_type());
                let store = self.maybe_store(Type::String, to);
                self.result(Operator::Aggregate { from, combiner, key, value: to, store }, Kind::Table, key, to);
            }
        }
    }

    /// With a stream of a topic, which may be the one given; a filter if there is none. Both behind repartition topics would
    /// be in an order that is up to the layout of Kafka Streams' heap, see [`Self::has_internal_topics`].
    fn cogroup(&mut self, from: Live) {
        let is_source = |live: &&mut Live| matches!(self.steps[live.step].operator, Operator::Stream { .. });
        let Some(other) = self.live.iter_mut().rfind(is_source) else { return self.filter(from) };
        other.used = true;
        let (other, key) = (*other, other.key);
        let windows = if self.random.chance(50) { Some(self.windows()) } else { None };
        let [from, other] = [(from, false), (other, true)].map(|(live, direct)| {
            // Kafka Streams gives null values to functions that aggregate in windows, the SDK does not.
            let mut step = live.step;
            if windows.is_some() {
                step = self.push(Operator::Filter { from: step, predicate: "presentValue".to_owned() });
            }
            let (value, id) = (live.value, self.steps.len());
            let topic = Some(format!("t{id}"));
            if direct || (live.key == key && self.random.chance(40)) {
                return self.push(Operator::GroupByKey { from: step, key, value, topic });
            }
            let selector = self.function(SELECTORS);
            self.push(Operator::GroupBy { from: step, selector, key, value, topic })
        });
        let session = matches!(windows, Some(Windows::Session { .. }));
        let combiners = if session { &COMBINERS[..3] } else { COMBINERS };
        let (combiner, other_combiner) = (self.function(combiners), self.function(combiners));
        let kept = if self.random.chance(50) { Some(*self.random.pick(&[0, 50, 1000])) } else { None };
        let retention = windows.and_then(least).zip(kept).map(|(least, more)| least + more);
        let (value, store) = (self.value_type(), self.store());
        let operator = Operator::Cogroup {
            from,
            other,
            combiner,
            other_combiner,
            windows,
            retention,
            key,
            value,
            store: Some(store),
        };
        if windows.is_none() {
            return self.result(operator, Kind::Table, key, value);
        }
        let table = self.push(operator);
        if self.random.chance(70) {
            self.push(Operator::WindowedTo { from: table, topic: format!("windows-{table}"), key, value });
        } else {
            self.result(Operator::Unwindow { from: table, key }, Kind::Stream, Type::String, value);
        }
    }

    fn windows(&mut self) -> Windows {
        let size = *self.random.pick(&[1, 10, 100, 700]);
        let grace = *self.random.pick(&[0, 0, 30, 400]);
        match self.random.below(8) {
            0 => Windows::Unlimited { start: *self.random.pick(&[0, 500]) },
            1 | 2 => Windows::Sliding { difference: size, grace },
            3 | 4 => Windows::Session { gap: size, grace },
            5 => Windows::Time { size, advance: size, grace },
            _ => Windows::Time { size, advance: (size / 3).max(1), grace },
        }
    }

    fn aggregate_windows(&mut self, grouped: StepId, key: Type, value: Type, nulls: bool) {
        let windows = self.windows();
        let kept = if self.random.chance(50) { Some(*self.random.pick(&[0, 50, 1000])) } else { None };
        let least = least(windows);
        let retention = least.zip(kept).map(|(least, more)| least + more);
        // Kafka Streams forgets what gets old before it goes on.
        let closes = !matches!(windows, Windows::Unlimited { .. }) && self.random.chance(35);
        let (emit, retention) = match least.filter(|_| closes) {
            Some(least) => (Emit::WindowClose, Some(least + 1_000_000)),
            None => (Emit::WindowUpdate, retention),
        };
        let from = self.push(Operator::WindowedBy { from: grouped, windows, emit, retention });
        let kind = if nulls { 0 } else { self.random.below(3) };
        let (operator, to) = match kind {
            0 => {
                let store = if closes { Some(self.store()) } else { self.maybe_view_store() };
                (Operator::Count { from, key, store }, Type::Long)
            }
            1 => {
                let combiner = self.function(COMBINERS);
                let store = if closes { Some(self.store()) } else { self.maybe_view_store() };
                (Operator::Reduce { from, combiner, key, value, store }, value)
            }
            _ => {
                // A session's merger has to be given aggregates, which a combiner that drops them would not.
                let session = matches!(windows, Windows::Session { .. });
                let combiner = self.function(if session { &COMBINERS[..3] } else { COMBINERS });
                let to = self.value_type();
                let store = if closes { Some(self.store()) } else { self.maybe_store(Type::String, to) };
                (Operator::Aggregate { from, combiner, key, value: to, store }, to)
            }
        };
        let mut table = self.push(operator);
        // What comes out of a cache is from nowhere here, and a buffer tells from where an update is.
        if !self.caching && self.random.chance(35) {
            let limit = if self.random.chance(30) { Some(*self.random.pick(&[0, 30, 400])) } else { None };
            let (max_records, max_bytes) = if limit.is_some() { self.buffer() } else { (None, None) };
            table = self.push(Operator::Suppress { from: table, key, value: to, limit, max_records, max_bytes });
        }
        let written = self.random.chance(70);
        if written {
            let topic = format!("windows-{table}");
            self.push(Operator::WindowedTo { from: table, topic, key, value: to });
        }
        if !written || self.random.chance(40) {
            self.result(Operator::Unwindow { from: table, key }, Kind::Stream, Type::String, to);
        }
    }

    /// Kafka Streams has default serdes, which ours has not: a suppression needs a table that was given its own.
    fn has_serdes(&self, table: StepId) -> bool {
        matches!(
            self.steps[table].operator,
            Operator::Table { .. }
                | Operator::ToTable { .. }
                | Operator::Count { .. }
                | Operator::Reduce { .. }
                | Operator::Aggregate { .. }
                | Operator::TableCount { .. }
                | Operator::TableReduce { .. }
                | Operator::TableAggregate { .. }
        )
    }

    /// The same of a table that may be made of others.
    fn knows_serdes(&self, table: StepId) -> bool {
        match &self.steps[table].operator {
            Operator::TableMapValues { store, .. }
            | Operator::TableTransformValues { store, .. }
            | Operator::TableJoin { store, .. }
            | Operator::ForeignKeyJoin { store, .. } => store.is_some(),
            Operator::TableFilter { from, store, .. } | Operator::TableFilterNot { from, store, .. } => {
                store.is_some() || self.knows_serdes(*from)
            }
            Operator::Suppress { from, .. } => self.knows_serdes(*from),
            _ => self.has_serdes(table),
        }
    }

    fn buffer(&mut self) -> (Option<usize>, Option<usize>) {
        let records = if self.random.chance(40) { Some(*self.random.pick(&[0, 1, 3])) } else { None };
        let bytes = if self.random.chance(25) { Some(*self.random.pick(&[0, 100, 200])) } else { None };
        (records, bytes)
    }

    fn grow_table(&mut self, table: Live) {
        let (from, key, value) = (table.step, table.key, table.value);
        match self.random.below(14) {
            11..=13 => self.join_on_foreign_key(table),
            9 | 10 if !self.caching && self.has_serdes(from) => {
                let limit = Some(*self.random.pick(&[0, 30, 400]));
                let (max_records, max_bytes) = self.buffer();
                let operator = Operator::Suppress { from, key, value, limit, max_records, max_bytes };
                self.result(operator, Kind::Table, key, value);
            }
            5 => self.group_table(table),
            6..=8 => self.join_tables(table),
            0 | 1 => {
                let (predicate, store) = (self.function(PREDICATES), self.maybe_view_store());
                let operator = if self.random.chance(70) {
                    Operator::TableFilter { from, predicate, key, value, store }
                } else {
                    Operator::TableFilterNot { from, predicate, key, value, store }
                };
                self.result(operator, Kind::Table, key, value);
            }
            2 | 3 => {
                let (mapper, to) = self.mapper(value);
                let store = self.maybe_view_store();
                let operator = if self.random.chance(60) {
                    Operator::TableMapValues { from, mapper, key, value: to, store }
                } else {
                    // A store for calls is for cases by hand: Kafka Streams fails where a join looks into such a table.
                    Operator::TableTransformValues { from, mapper, calls: None, key, value: to, store }
                };
                self.result(operator, Kind::Table, key, to);
            }
            _ => self.result(Operator::ToStream { from }, Kind::Stream, key, value),
        }
    }

    fn group_table(&mut self, table: Live) {
        let topic = self.topic_name();
        let (selector, key) = (self.function(SELECTORS), self.key_type());
        let (mapper, value) = self.mapper(table.value);
        let from = self.push(Operator::TableGroupBy { from: table.step, selector, key, mapper, value, topic });
        let (adder, subtractor) = (self.function(COMBINERS), self.function(REMOVERS));
        match self.random.below(3) {
            0 => {
                let store = self.maybe_view_store();
                self.result(Operator::TableCount { from, key, store }, Kind::Table, key, Type::Long);
            }
            1 => {
                let store = self.maybe_view_store();
                let operator = Operator::TableReduce { from, adder, subtractor, key, value, store };
                self.result(operator, Kind::Table, key, value);
            }
            _ => {
                let to = self.value_type();
                let store = self.maybe_store(Type::String, to);
                let operator = Operator::TableAggregate { from, adder, subtractor, key, value: to, store };
                self.result(operator, Kind::Table, key, to);
            }
        }
    }

    /// Writes what nothing has taken yet, most of it, to topics.
    fn close(&mut self) {
        let mut leaves: Vec<Live> = self.live.iter().filter(|live| !live.used).copied().collect();
        if leaves.is_empty() {
            leaves.extend(self.live.last().copied());
        }
        for (index, leaf) in leaves.into_iter().enumerate() {
            if index == 0 || self.random.chance(85) {
                self.write(leaf);
            }
        }
    }

    /// With three of them a record can wait in three places with one timestamp; which is next is then up to
    /// the layout of Kafka Streams' heap, and shows where two of them end in one topic.
    fn has_internal_topics(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(
                step.operator,
                Operator::Repartition { .. }
                    | Operator::GroupBy { .. }
                    | Operator::GroupByKey { .. }
                    | Operator::TableGroupBy { .. }
                    | Operator::ToTable { .. }
                    | Operator::StreamTableJoin { .. }
                    | Operator::StreamJoin { .. }
                    | Operator::ForeignKeyJoin { .. }
            )
        })
    }

    fn write(&mut self, leaf: Live) {
        let from = match leaf.kind {
            Kind::Stream => leaf.step,
            Kind::Table => self.push(Operator::ToStream { from: leaf.step }),
        };
        if self.random.chance(8) {
            self.push(Operator::ForEach { from });
            return;
        }
        let (key, value) = (leaf.key, leaf.value);
        let shared = self.sinks.iter().find(|sink| (sink.1, sink.2) == (key, value)).map(|sink| sink.0.clone());
        let topic = match shared {
            Some(topic) if self.random.chance(30) && !self.has_internal_topics() => Topic::Named(topic),
            _ if self.random.chance(15) => Topic::ByWeight(format!("by{from}")),
            _ => {
                let topic = format!("out-{from}");
                self.sinks.push((topic.clone(), key, value));
                Topic::Named(topic)
            }
        };
        self.push(Operator::To { from, topic, key, value });
    }
}

/// How long windows have to be kept at least.
fn least(windows: Windows) -> Option<i64> {
    match windows {
        Windows::Time { size, grace, .. } => Some(size + grace),
        Windows::Sliding { difference, grace } => Some(2 * difference + grace),
        Windows::Session { gap, grace } => Some(gap + grace),
        Windows::Unlimited { .. } => None,
    }
}
