//! Owns the cases written by hand: what Kafka Streams is known to do, said twice, by the case and
//! by the records it must write. The expectation is held against Kafka Streams too, so that it
//! can't be wrong.

use millrace_differential::bytes;
use millrace_differential::case::{
    Branch, Case, Clock, DefaultBranch, Emit, Event, Header, Join, Operator, Punctuation, Record,
};
use millrace_differential::case::{Step, Store, Topic, Windows};
use millrace_differential::value::{Type, Value};

use Type::{Long, String as Text};

pub(crate) struct Known {
    pub(crate) case: Case,
    /// Of some topics, the records: key, value, timestamp, headers, as `readable` shows them.
    pub(crate) written: Vec<(&'static str, Vec<&'static str>)>,
}

struct Sketch(Known);

fn sketch(name: &str, steps: Vec<Operator>) -> Sketch {
    let steps = steps.into_iter().map(|operator| Step { name: None, operator }).collect();
    let case = Case { name: name.to_owned(), caching: false, start_ms: 0, steps, events: Vec::new() };
    Sketch(Known { case, written: Vec::new() })
}

impl Sketch {
    fn caching(mut self) -> Self {
        self.0.case.caching = true;
        self
    }

    fn pipe(self, key: &str, value: &str, timestamp: i64) -> Self {
        self.record("in", key, value, timestamp, &[])
    }

    /// An empty key or value: null.
    fn record(mut self, topic: &str, key: &str, value: &str, timestamp: i64, headers: &[(&str, &str)]) -> Self {
        let text = |text: &str| Some(text.as_bytes().to_vec()).filter(|bytes| !bytes.is_empty());
        let headers =
            headers.iter().map(|(key, value)| Header { key: (*key).to_owned(), value: text(value) }).collect();
        let record = Record { topic: topic.to_owned(), key: text(key), value: text(value), timestamp, headers };
        self.0.case.events.push(Event::Record(record));
        self
    }

    fn advance(mut self, ms: u64) -> Self {
        self.0.case.events.push(Event::AdvanceWallClock { ms });
        self
    }

    fn writes(mut self, topic: &'static str, records: &[&'static str]) -> Self {
        self.0.written.push((topic, records.to_vec()));
        self
    }
}

fn stream(topics: &[&str]) -> Operator {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    Operator::Stream { topics, key: Text, value: Text, extractor: None }
}

fn table(store: Option<Store>) -> Operator {
    Operator::Table { topic: "in".to_owned(), key: Text, value: Text, store }
}

fn store(name: &str) -> Option<Store> {
    Some(Store { name: Some(name.to_owned()), persistent: true, logged: true, cached: true, history: None })
}

fn to(from: usize, topic: &str, value: Type) -> Operator {
    Operator::To { from, topic: Topic::Named(topic.to_owned()), key: Text, value }
}

fn group_by_key(from: usize) -> Operator {
    Operator::GroupByKey { from, key: Text, value: Text, topic: None }
}

fn select_key(from: usize, selector: &str) -> Operator {
    Operator::SelectKey { from, selector: selector.to_owned(), key: Text }
}

fn count(from: usize, name: &str) -> Operator {
    Operator::Count { from, key: Text, store: store(name) }
}

fn reduce(from: usize, combiner: &str) -> Operator {
    Operator::Reduce { from, combiner: combiner.to_owned(), key: Text, value: Text, store: store("reduced") }
}

pub(crate) fn cases() -> Vec<Known> {
    let mut all = grouping();
    all.extend(repartitioning());
    all.extend(tables());
    all.extend(streams());
    all.extend(processors());
    all.extend(caches());
    all.extend(windows());
    all.extend(closed_windows());
    all.extend(window_stores());
    all.extend(joins());
    all.extend(foreign_key_joins());
    all.extend(stream_joins());
    all.extend(suppressions());
    all.extend(cogroups());
    all.extend(globals());
    all.extend(transformed_values());
    all.into_iter().map(|sketch| sketch.0).collect()
}

fn grouping() -> Vec<Sketch> {
    vec![
        sketch(
            "grouping drops null keys and aggregations null values",
            vec![
                stream(&["in"]),
                group_by_key(0),
                count(1, "counts"),
                Operator::ToStream { from: 2 },
                to(3, "out", Long),
            ],
        )
        .pipe("a", "x", 1)
        .pipe("", "x", 2)
        .pipe("a", "", 3)
        .pipe("a", "x", 4)
        .writes("out", &["\"a\" -> 1L @ 1", "\"a\" -> 2L @ 4"])
        .writes("app-counts-changelog", &["\"a\" -> 1L @ 1", "\"a\" -> 2L @ 4"]),
        sketch(
            "an aggregate has the highest timestamp and the headers of the record in hand",
            vec![
                stream(&["in"]),
                group_by_key(0),
                reduce(1, "add"),
                Operator::ToStream { from: 2 },
                to(3, "out", Text),
            ],
        )
        .record("in", "a", "x", 9, &[("h", "1")])
        .record("in", "a", "y", 5, &[("h", "2")])
        .writes("out", &["\"a\" -> \"x\" @ 9 [h=\"1\"]", "\"a\" -> \"x+y\" @ 9 [h=\"2\"]"])
        .writes("app-reduced-changelog", &["\"a\" -> \"x\" @ 9", "\"a\" -> \"x+y\" @ 9"]),
        sketch(
            "a reducer that answers null deletes, and the next record starts anew with its own timestamp",
            vec![
                stream(&["in"]),
                group_by_key(0),
                reduce(1, "addDropLarge"),
                Operator::ToStream { from: 2 },
                to(3, "out", Text),
            ],
        )
        .pipe("a", "123456", 9)
        .pipe("a", "123456", 5)
        .pipe("a", "x", 2)
        .writes("out", &["\"a\" -> \"123456\" @ 9", "\"a\" -> null @ 9", "\"a\" -> \"x\" @ 2"]),
        sketch(
            "a tombstone in a changelog has the timestamp of the record in hand",
            vec![stream(&["in"]), group_by_key(0), reduce(1, "addDropLarge")],
        )
        .pipe("a", "123456", 9)
        .pipe("a", "123456", 5)
        .writes("app-reduced-changelog", &["\"a\" -> \"123456\" @ 9", "\"a\" -> null @ 5"]),
    ]
}

fn repartitioning() -> Vec<Sketch> {
    vec![
        sketch(
            "a changed key goes through a repartition topic, with its timestamp and headers and without null keys",
            vec![
                stream(&["in"]),
                select_key(0, "dropOdd"),
                group_by_key(1),
                count(2, "counts"),
                Operator::ToStream { from: 3 },
                to(4, "out", Long),
            ],
        )
        .record("in", "a", "xx", 7, &[("h", "1")])
        .record("in", "a", "x", 8, &[])
        .record("in", "", "xx", 3, &[])
        .writes("app-counts-repartition", &["\"xx\" -> \"xx\" @ 7 [h=\"1\"]", "\"xx\" -> \"xx\" @ 3"])
        .writes("out", &["\"xx\" -> 1L @ 7 [h=\"1\"]", "\"xx\" -> 2L @ 7"]),
        sketch(
            "two aggregations of one unnamed grouping have a repartition topic each",
            vec![
                stream(&["in"]),
                Operator::GroupBy { from: 0, selector: "ofValue".to_owned(), key: Text, value: Text, topic: None },
                count(1, "counts"),
                reduce(1, "latest"),
            ],
        )
        .pipe("a", "x", 1)
        .writes("app-counts-repartition", &["\"x\" -> \"x\" @ 1"])
        .writes("app-reduced-repartition", &["\"x\" -> \"x\" @ 1"]),
        sketch(
            "two aggregations of one named grouping share its repartition topic",
            vec![
                stream(&["in"]),
                Operator::GroupBy {
                    from: 0,
                    selector: "ofValue".to_owned(),
                    key: Text,
                    value: Text,
                    topic: Some("shared".to_owned()),
                },
                count(1, "counts"),
                reduce(1, "latest"),
            ],
        )
        .pipe("a", "x", 1)
        .writes("app-shared-repartition", &["\"x\" -> \"x\" @ 1"])
        .writes("app-counts-changelog", &["\"x\" -> 1L @ 1"])
        .writes("app-reduced-changelog", &["\"x\" -> \"x\" @ 1"]),
    ]
}

fn tables() -> Vec<Sketch> {
    let filter =
        |store| Operator::TableFilter { from: 0, predicate: "evenValue".to_owned(), key: Text, value: Text, store };
    vec![
        sketch(
            "a table forwards every tombstone and drops null keys",
            vec![table(store("all")), Operator::ToStream { from: 0 }, to(1, "out", Text)],
        )
        .pipe("a", "x", 1)
        .pipe("a", "", 2)
        .pipe("b", "", 3)
        .pipe("", "x", 4)
        .writes("out", &["\"a\" -> \"x\" @ 1", "\"a\" -> null @ 2", "\"b\" -> null @ 3"])
        .writes("app-all-changelog", &["\"a\" -> \"x\" @ 1", "\"a\" -> null @ 2", "\"b\" -> null @ 3"]),
        sketch(
            "a table takes records that are out of order, with their own timestamps",
            vec![table(store("all")), Operator::ToStream { from: 0 }, to(1, "out", Text)],
        )
        .pipe("a", "new", 9)
        .pipe("a", "old", 5)
        .writes("out", &["\"a\" -> \"new\" @ 9", "\"a\" -> \"old\" @ 5"]),
        sketch(
            "a filter of a table without a store forwards a tombstone for whatever it leaves out",
            vec![table(None), filter(None), Operator::ToStream { from: 1 }, to(2, "out", Text)],
        )
        .pipe("a", "x", 1)
        .pipe("a", "xx", 2)
        .pipe("a", "x", 3)
        .pipe("a", "x", 4)
        .writes("out", &["\"a\" -> null @ 1", "\"a\" -> \"xx\" @ 2", "\"a\" -> null @ 3", "\"a\" -> null @ 4"]),
        sketch(
            "a filter of a table with a store forwards only tombstones that delete something",
            vec![table(store("all")), filter(store("even")), Operator::ToStream { from: 1 }, to(2, "out", Text)],
        )
        .pipe("a", "x", 1)
        .pipe("a", "xx", 2)
        .pipe("a", "x", 3)
        .pipe("a", "x", 4)
        .writes("out", &["\"a\" -> \"xx\" @ 2", "\"a\" -> null @ 3"])
        .writes("app-even-changelog", &["\"a\" -> \"xx\" @ 2", "\"a\" -> null @ 3"]),
        sketch(
            "to_table after a new key repartitions and takes null as a deletion",
            vec![
                stream(&["in"]),
                Operator::Map {
                    from: 0,
                    selector: "ofKey".to_owned(),
                    key: Text,
                    mapper: "dropOdd".to_owned(),
                    value: Text,
                },
                Operator::ToTable { from: 1, key: Text, value: Text, store: store("all") },
                Operator::ToStream { from: 2 },
                to(3, "out", Text),
            ],
        )
        .pipe("a", "xx", 1)
        .pipe("a", "x", 2)
        .pipe("", "xx", 3)
        .writes("out", &["\"a\" -> \"xx\" @ 1", "\"a\" -> null @ 2"])
        .writes("app-all-changelog", &["\"a\" -> \"xx\" @ 1", "\"a\" -> null @ 2"]),
    ]
}

fn streams() -> Vec<Sketch> {
    let branch = |predicate: &str| Branch { predicate: predicate.to_owned(), name: None };
    vec![
        sketch(
            "merged streams keep the order in which records go through the graph",
            vec![
                stream(&["in"]),
                Operator::FlatMapValues { from: 0, expander: "words".to_owned(), value: Text },
                Operator::MapValues { from: 0, mapper: "mark".to_owned(), value: Text },
                Operator::Merge { from: 2, other: 1 },
                to(3, "out", Text),
            ],
        )
        .pipe("a", "x y", 1)
        .writes("out", &["\"a\" -> \"x\" @ 1", "\"a\" -> \"y\" @ 1", "\"a\" -> \"x y!\" @ 1"]),
        sketch(
            "a record goes to the first branch that takes it, else to the default",
            vec![
                stream(&["in"]),
                Operator::Split {
                    from: 0,
                    branches: vec![branch("largeValue"), branch("evenValue")],
                    default: DefaultBranch::Unnamed,
                },
                Operator::Branch { from: 1, index: 0 },
                Operator::Branch { from: 1, index: 1 },
                Operator::Branch { from: 1, index: 2 },
                to(2, "large", Text),
                to(3, "even", Text),
                to(4, "rest", Text),
            ],
        )
        .pipe("a", "123456", 1)
        .pipe("b", "12", 2)
        .pipe("c", "1", 3)
        .writes("large", &["\"a\" -> \"123456\" @ 1"])
        .writes("even", &["\"b\" -> \"12\" @ 2"])
        .writes("rest", &["\"c\" -> \"1\" @ 3"]),
        sketch(
            "a repartition drops null keys and keeps null values",
            vec![
                stream(&["in"]),
                Operator::Repartition { from: 0, key: Text, value: Text, topic: Some("r".to_owned()) },
                to(1, "out", Text),
            ],
        )
        .pipe("", "x", 5)
        .pipe("a", "", 2)
        .writes("app-r-repartition", &["\"a\" -> null @ 2"])
        .writes("out", &["\"a\" -> null @ 2"]),
        sketch(
            "a topic chosen by the record",
            vec![
                stream(&["in"]),
                Operator::To { from: 0, topic: Topic::ByWeight("by".to_owned()), key: Text, value: Text },
            ],
        )
        .pipe("a", "x", 1)
        .pipe("a", "xx", 2)
        .writes("by-odd", &["\"a\" -> \"x\" @ 1"])
        .writes("by-even", &["\"a\" -> \"xx\" @ 2"]),
    ]
}

fn processors() -> Vec<Sketch> {
    let tally = |clock| Operator::Tally {
        from: 0,
        key: Text,
        store: store("sums").expect("a store"),
        punctuation: Some(Punctuation { clock, interval_ms: 10 }),
    };
    vec![
        sketch(
            "a processor sees where a record is from",
            vec![stream(&["in"]), Operator::Stamp { from: 0 }, to(1, "out", Text)],
        )
        .pipe("a", "xx", 4)
        .record("in", "b", "xx", 3, &[("h", "1")])
        .writes(
            "out",
            &[
                "\"a\" -> \"xx\" @ 4 [from=\"in-0@0\" times=\"4/0\"]",
                "\"b\" -> \"xx\" @ 3 [h=\"1\" from=\"in-0@1\" times=\"4/0\"]",
            ],
        ),
        sketch(
            "stream time punctuates at multiples of the interval, once however many have passed",
            vec![stream(&["in"]), tally(Clock::StreamTime), to(1, "out", Long)],
        )
        .pipe("a", "x", 4)
        .pipe("a", "x", 9)
        .pipe("a", "xx", 45)
        .pipe("a", "xx", 49)
        .pipe("a", "xx", 50)
        .writes(
            "out",
            &[
                "\"a\" -> 1L @ 4",
                "null -> 4L @ 4",
                "\"a\" -> 1L @ 4",
                "\"a\" -> 2L @ 9",
                "\"a\" -> 4L @ 45",
                "null -> 45L @ 45",
                "\"a\" -> 4L @ 45",
                "\"a\" -> 6L @ 49",
                "\"a\" -> 8L @ 50",
                "null -> 50L @ 50",
                "\"a\" -> 8L @ 50",
            ],
        ),
        sketch(
            "the wall clock punctuates from the start on, and what the punctuation deletes is gone",
            vec![stream(&["in"]), tally(Clock::WallClock), to(1, "out", Long)],
        )
        .pipe("a", "0123456789", 4)
        .advance(9)
        .advance(1)
        .advance(35)
        .pipe("a", "x", 5)
        .writes(
            "out",
            &["\"a\" -> 10L @ 4", "null -> 10L @ 10", "\"a\" -> 10L @ 10", "null -> 45L @ 45", "\"a\" -> 1L @ 5"],
        ),
    ]
}

fn caches() -> Vec<Sketch> {
    let steps = || {
        vec![
            stream(&["in"]),
            Operator::FlatMapValues { from: 0, expander: "words".to_owned(), value: Text },
            group_by_key(1),
            count(2, "counts"),
            Operator::ToStream { from: 3 },
            to(4, "out", Long),
        ]
    };
    vec![
        sketch("without a cache every update is forwarded", steps())
            .pipe("a", "x y z", 1)
            .writes("out", &["\"a\" -> 1L @ 1", "\"a\" -> 2L @ 1", "\"a\" -> 3L @ 1"]),
        sketch("a cached store forwards the headers of the last record of a key", steps())
            .caching()
            .record("in", "a", "x", 1, &[("h", "1"), ("i", "")])
            .record("in", "a", "x", 2, &[("h", "2")])
            .record("in", "b", "x", 3, &[])
            .writes("out", &["\"a\" -> 1L @ 1 [h=\"1\" i=null]", "\"a\" -> 2L @ 2 [h=\"2\"]", "\"b\" -> 1L @ 3"]),
        sketch(
            "a tombstone out of a cache has the timestamp of the record in hand",
            vec![
                stream(&["in"]),
                group_by_key(0),
                reduce(1, "addDropLarge"),
                Operator::ToStream { from: 2 },
                to(3, "out", Text),
            ],
        )
        .caching()
        .pipe("a", "123456", 9)
        .pipe("a", "123456", 5)
        .writes("out", &["\"a\" -> \"123456\" @ 9", "\"a\" -> null @ 5"]),
        sketch(
            "a key that comes and goes between two commits is nowhere, without a cache it leaves a tombstone",
            vec![
                stream(&["in"]),
                Operator::FlatMapValues { from: 0, expander: "words".to_owned(), value: Text },
                group_by_key(1),
                reduce(2, "addDropLarge"),
                Operator::ToStream { from: 3 },
                to(4, "out", Text),
                Operator::Reduce {
                    from: 2,
                    combiner: "addDropLarge".to_owned(),
                    key: Text,
                    value: Text,
                    store: Some(Store { cached: false, ..store("uncached").expect("a store") }),
                },
            ],
        )
        .caching()
        .pipe("a", "123456 123456", 9)
        .writes("out", &[])
        .writes("app-reduced-changelog", &[])
        .writes("app-uncached-changelog", &["\"a\" -> \"123456\" @ 9", "\"a\" -> null @ 9"]),
        sketch("a cached store forwards the last update of a key at the commit", steps())
            .caching()
            .pipe("a", "x y z", 1)
            .pipe("a", "x", 2)
            .writes("out", &["\"a\" -> 3L @ 1", "\"a\" -> 4L @ 2"]),
    ]
}

fn foreign_key_joins() -> Vec<Sketch> {
    let table = |topic: &str| Operator::Table { topic: topic.to_owned(), key: Text, value: Text, store: None };
    let steps = |kind, selector: &str| {
        let (joiner, selector) = ("pair".to_owned(), selector.to_owned());
        let (key, value, foreign, store) = (Text, Text, Text, None);
        vec![
            table("left"),
            table("right"),
            Operator::ForeignKeyJoin { from: 0, other: 1, kind, selector, foreign, joiner, key, value, store },
            Operator::ToStream { from: 2 },
            to(3, "out", Text),
        ]
    };
    vec![
        sketch("an inner join on foreign keys follows rows from key to key", steps(Join::Inner, "ofValue"))
            .record("left", "p", "a", 1, &[])
            .record("left", "q", "a", 2, &[("h", "1")])
            .record("right", "a", "x", 5, &[("h", "2")])
            .record("left", "p", "b", 7, &[])
            .record("right", "a", "", 8, &[])
            .record("right", "b", "y", 3, &[])
            .record("left", "q", "", 9, &[])
            .writes(
                "out",
                &[
                    "\"p\" -> \"a&x\" @ 5 [h=\"2\"]",
                    "\"q\" -> \"a&x\" @ 5 [h=\"2\"]",
                    "\"p\" -> null @ 7",
                    "\"q\" -> null @ 8",
                    "\"p\" -> \"b&y\" @ 3",
                    "\"q\" -> null @ 9",
                ],
            ),
        sketch("a left join on foreign keys has rows that refer to nothing", steps(Join::Left, "dropOdd"))
            .record("left", "p", "ab", 1, &[])
            .record("right", "ab", "x", 5, &[])
            .record("left", "p", "odd", 6, &[])
            .record("left", "p", "", 7, &[])
            .record("left", "p", "", 8, &[])
            .writes(
                "out",
                &["\"p\" -> \"ab&~\" @ 1", "\"p\" -> \"ab&x\" @ 5", "\"p\" -> \"odd&~\" @ 6", "\"p\" -> null @ 7"],
            ),
    ]
}

fn globals() -> Vec<Sketch> {
    let steps = |kind| {
        let (selector, joiner) = ("firstWord".to_owned(), "pair".to_owned());
        vec![
            Operator::GlobalTable { topic: "global".to_owned(), key: Text, value: Text, store: store("global") },
            stream(&["in"]),
            Operator::GlobalJoin { from: 1, other: 0, kind, selector, key: Text, joiner },
            to(2, "out", Text),
        ]
    };
    let piped = |name, kind| {
        sketch(name, steps(kind))
            .pipe("k", "a early", 1)
            .record("global", "a", "y", 9, &[])
            .record("global", "", "no key", 9, &[])
            .pipe("k", "a x", 2)
            .pipe("", "a z", 3)
            .pipe("k", "", 4)
            .record("global", "a", "", 10, &[])
            .pipe("k", "a late", 5)
    };
    vec![
        piped("an inner join with a global table finds what it has by any key", Join::Inner)
            .writes("out", &["\"k\" -> \"a x&y\" @ 2", "null -> \"a z&y\" @ 3"]),
        piped("a left join with a global table goes on without it", Join::Left).writes(
            "out",
            &[
                "\"k\" -> \"a early&~\" @ 1",
                "\"k\" -> \"a x&y\" @ 2",
                "null -> \"a z&y\" @ 3",
                "\"k\" -> \"a late&~\" @ 5",
            ],
        ),
    ]
}

fn cogroups() -> Vec<Sketch> {
    let cogroup = |windows| Operator::Cogroup {
        from: 1,
        other: 3,
        combiner: "add".to_owned(),
        other_combiner: "latest".to_owned(),
        windows,
        retention: None,
        key: Text,
        value: Text,
        store: store("cogrouped"),
    };
    let to_stream = |windows: Option<Windows>| match windows {
        None => Operator::ToStream { from: 4 },
        Some(_) => Operator::Unwindow { from: 4, key: Text },
    };
    let steps = |windows, other: Operator| {
        vec![
            stream(&["in"]),
            group_by_key(0),
            other,
            group_by_key(2),
            cogroup(windows),
            to_stream(windows),
            to(5, "out", Text),
        ]
    };
    let sessions = Some(Windows::Session { gap: 10, grace: 0 });
    vec![
        sketch("two streams make one aggregate, each in its own way", steps(None, stream(&["other"])))
            .pipe("a", "x", 1)
            .pipe("a", "y", 2)
            .record("other", "a", "z", 3, &[])
            .pipe("a", "x", 4)
            .writes(
                "out",
                &["\"a\" -> \"+x\" @ 1", "\"a\" -> \"+x+y\" @ 2", "\"a\" -> \"z\" @ 3", "\"a\" -> \"z+x\" @ 4"],
            ),
        sketch("one group behind a repartition topic, the other not", steps(None, select_key(0, "firstWord")))
            .pipe("a", "a x", 1)
            .pipe("a", "b y", 2)
            .writes(
                "out",
                &["\"a\" -> \"+a x\" @ 1", "\"a\" -> \"a x\" @ 1", "\"a\" -> \"a x+b y\" @ 2", "\"b\" -> \"b y\" @ 2"],
            ),
        sketch("both streams are in the same sessions", steps(sessions, stream(&["other"])))
            .pipe("a", "x", 1)
            .record("other", "a", "z", 5, &[])
            .pipe("a", "y", 30)
            .writes(
                "out",
                &[
                    "\"a@1/1\" -> \"+x\" @ 1",
                    "\"a@1/1\" -> null @ 1",
                    "\"a@1/5\" -> \"z\" @ 5",
                    "\"a@30/30\" -> \"+y\" @ 30",
                ],
            ),
    ]
}

fn joins() -> Vec<Sketch> {
    let table = |topic: &str| Operator::Table { topic: topic.to_owned(), key: Text, value: Text, store: None };
    let tables = |kind| {
        let joiner = "pair".to_owned();
        vec![
            table("left"),
            table("right"),
            Operator::TableJoin { from: 0, other: 1, kind, joiner, key: Text, value: Text, store: None },
            Operator::ToStream { from: 2 },
            to(3, "out", Text),
        ]
    };
    let piped = |name, kind| {
        sketch(name, tables(kind))
            .record("left", "a", "x", 5, &[])
            .record("right", "a", "y", 3, &[])
            .record("left", "a", "", 7, &[])
            .record("right", "a", "", 8, &[])
    };
    let with_table = |kind| {
        let joiner = "pair".to_owned();
        vec![
            stream(&["in"]),
            table("table"),
            select_key(0, "firstWord"),
            Operator::StreamTableJoin { from: 2, other: 1, kind, joiner, key: Text, value: Text, grace: None },
            to(3, "out", Text),
        ]
    };
    vec![
        piped("an inner join of tables forwards a tombstone when one side goes", Join::Inner)
            .writes("out", &["\"a\" -> \"x&y\" @ 5", "\"a\" -> null @ 7"]),
        piped("a left join of tables goes on while the left side is there", Join::Left)
            .writes("out", &["\"a\" -> \"x&~\" @ 5", "\"a\" -> \"x&y\" @ 5", "\"a\" -> null @ 7"]),
        piped("an outer join of tables goes on while either side is there", Join::Outer).writes(
            "out",
            &["\"a\" -> \"x&~\" @ 5", "\"a\" -> \"x&y\" @ 5", "\"a\" -> \"~&y\" @ 7", "\"a\" -> null @ 8"],
        ),
        sketch("a record meets what the table has when it comes, after a repartition topic", with_table(Join::Inner))
            .pipe("k", "a early", 1)
            .record("table", "a", "y", 9, &[])
            .pipe("k", "a x", 2)
            .writes("out", &["\"a\" -> \"a x&y\" @ 2"]),
        sketch(
            "a left join with a table takes records without a key",
            vec![
                stream(&["in"]),
                table("table"),
                Operator::StreamTableJoin {
                    from: 0,
                    other: 1,
                    kind: Join::Left,
                    joiner: "pair".to_owned(),
                    key: Text,
                    value: Text,
                    grace: None,
                },
                to(2, "out", Text),
            ],
        )
        .pipe("", "x", 1)
        .pipe("a", "", 2)
        .writes("out", &["null -> \"x&~\" @ 1"]),
    ]
}

fn in_windows(windows: Windows, aggregate: impl Fn(usize) -> Operator) -> Vec<Operator> {
    vec![
        stream(&["in"]),
        group_by_key(0),
        Operator::WindowedBy { from: 1, windows, emit: Emit::WindowUpdate, retention: None },
        aggregate(2),
        Operator::Unwindow { from: 3, key: Text },
    ]
}

fn stream_join(kind: Join, before: i64, after: i64, grace: i64) -> Vec<Operator> {
    vec![
        stream(&["in"]),
        stream(&["other"]),
        Operator::StreamJoin {
            from: 0,
            other: 1,
            kind,
            joiner: "pair".to_owned(),
            key: Text,
            value: Text,
            other_value: Text,
            before,
            after,
            grace,
            stores: None,
        },
        to(2, "out", Text),
    ]
}

fn stream_joins() -> Vec<Sketch> {
    vec![
        sketch(
            "records of two streams meet within their windows, the earliest first",
            stream_join(Join::Inner, 0, 10, 0),
        )
        .pipe("a", "x", 5)
        .record("other", "a", "y", 8, &[])
        .record("other", "a", "z", 4, &[])
        .pipe("a", "w", 0)
        .pipe("a", "too late", 9)
        .writes("out", &["\"a\" -> \"x&y\" @ 8", "\"a\" -> \"w&z\" @ 4", "\"a\" -> \"w&y\" @ 8"]),
        sketch("a record that meets none goes on when its window is closed", stream_join(Join::Left, 10, 10, 5))
            .pipe("a", "x", 5)
            .pipe("a", "x2", 5)
            .pipe("b", "y", 21)
            .pipe("c", "z", 22)
            .record("other", "c", "met", 22, &[])
            .pipe("d", "end", 100)
            .writes(
                "out",
                &["\"a\" -> \"x&~\" @ 5", "\"a\" -> \"x2&~\" @ 5", "\"c\" -> \"z&met\" @ 22", "\"b\" -> \"y&~\" @ 21"],
            ),
        sketch(
            "a window may lie before or after a record, and its changelogs have headers and nulls",
            stream_join(Join::Inner, -5, 10, 0),
        )
        .record("in", "a", "x", 10, &[("h", "1")])
        .record("in", "a", "", 11, &[])
        .record("other", "a", "y", 14, &[])
        .record("other", "a", "z", 15, &[])
        .writes("out", &["\"a\" -> \"x&z\" @ 15"]),
        sketch("an outer join does not wait for what is late", stream_join(Join::Outer, 10, 10, 0))
            .pipe("a", "x", 50)
            .record("other", "a", "y", 5, &[])
            .record("other", "", "no key", 6, &[])
            .writes("out", &["\"a\" -> \"~&y\" @ 5", "null -> \"~&no key\" @ 6"]),
    ]
}

fn suppressions() -> Vec<Sketch> {
    let suppress = |from, limit, max_records| Operator::Suppress {
        from,
        key: Text,
        value: Long,
        limit,
        max_records,
        max_bytes: None,
    };
    let closing = |windows| {
        vec![
            stream(&["in"]),
            group_by_key(0),
            Operator::WindowedBy { from: 1, windows, emit: Emit::WindowUpdate, retention: None },
            count(2, "counts"),
            suppress(3, None, None),
            Operator::Unwindow { from: 4, key: Text },
            to(5, "out", Long),
        ]
    };
    let limited = |limit, max_records| {
        vec![
            stream(&["in"]),
            group_by_key(0),
            count(1, "counts"),
            suppress(2, Some(limit), max_records),
            Operator::ToStream { from: 3 },
            to(4, "out", Long),
        ]
    };
    vec![
        sketch(
            "of a window the last count goes on, once its grace period is over",
            closing(Windows::Time { size: 10, advance: 10, grace: 5 }),
        )
        .pipe("a", "x", 3)
        .pipe("a", "x", 14)
        .pipe("a", "x", 9)
        .pipe("b", "x", 15)
        .pipe("b", "x", 30)
        .writes("out", &["\"a@0/10\" -> 2L @ 9", "\"a@10/20\" -> 1L @ 14", "\"b@10/20\" -> 1L @ 15"]),
        sketch("the first update of a key sets the time of the last one", limited(10, None))
            .pipe("a", "x", 1)
            .pipe("a", "x", 9)
            .pipe("b", "x", 10)
            .pipe("b", "x", 11)
            .writes("out", &["\"a\" -> 2L @ 9"]),
        sketch("a full buffer sends on what has waited longest", limited(100, Some(1)))
            .pipe("a", "x", 5)
            .pipe("b", "x", 3)
            .pipe("a", "x", 6)
            .writes("out", &["\"b\" -> 1L @ 3"]),
    ]
}

fn windows() -> Vec<Sketch> {
    let counted = |windows| {
        let mut steps = in_windows(windows, |from| count(from, "counts"));
        steps.push(to(4, "out", Long));
        steps
    };
    let joined = |windows| {
        let mut steps = in_windows(windows, |from| reduce(from, "add"));
        steps.push(to(4, "out", Text));
        steps
    };
    vec![
        sketch(
            "a window takes what is late until its grace period is over, by the highest timestamp of any key",
            counted(Windows::Time { size: 10, advance: 10, grace: 5 }),
        )
        .pipe("a", "x", 3)
        .pipe("b", "x", 14)
        .pipe("a", "x", 9)
        .pipe("b", "x", 15)
        .pipe("a", "x", 9)
        .pipe("a", "x", 10)
        .writes(
            "out",
            &[
                "\"a@0/10\" -> 1L @ 3",
                "\"b@10/20\" -> 1L @ 14",
                "\"a@0/10\" -> 2L @ 9",
                "\"b@10/20\" -> 2L @ 15",
                "\"a@10/20\" -> 1L @ 10",
            ],
        ),
        sketch(
            "a record is in each of the windows that overlap, and a null value counts",
            counted(Windows::Time { size: 10, advance: 5, grace: 0 }),
        )
        .pipe("a", "x", 7)
        .pipe("a", "", 12)
        .writes(
            "out",
            &["\"a@0/10\" -> 1L @ 7", "\"a@5/15\" -> 1L @ 7", "\"a@5/15\" -> 2L @ 12", "\"a@10/20\" -> 1L @ 12"],
        ),
        sketch(
            "a record between two sessions makes one of them, and those that were are deleted",
            joined(Windows::Session { gap: 10, grace: 100 }),
        )
        .pipe("a", "x", 0)
        .pipe("a", "y", 20)
        .pipe("a", "z", 10)
        .writes(
            "out",
            &[
                "\"a@0/0\" -> \"x\" @ 0",
                "\"a@20/20\" -> \"y\" @ 20",
                "\"a@0/0\" -> null @ 0",
                "\"a@20/20\" -> null @ 20",
                "\"a@0/20\" -> \"x+y+z\" @ 20",
            ],
        ),
        sketch(
            "a sliding window ends at each record, and begins after each that others follow",
            joined(Windows::Sliding { difference: 10, grace: 100 }),
        )
        .pipe("a", "x", 20)
        .pipe("a", "y", 25)
        .writes("out", &["\"a@10/20\" -> \"x\" @ 20", "\"a@21/31\" -> \"y\" @ 25", "\"a@15/25\" -> \"x+y\" @ 25"]),
    ]
}

fn closed_windows() -> Vec<Sketch> {
    let closing = |windows| {
        vec![
            stream(&["in"]),
            group_by_key(0),
            Operator::WindowedBy { from: 1, windows, emit: Emit::WindowClose, retention: None },
            count(2, "counts"),
            Operator::Unwindow { from: 3, key: Text },
            to(4, "out", Long),
        ]
    };
    vec![
        sketch(
            "a window goes on once, when its grace period is over, with the headers of the record that closes it",
            closing(Windows::Time { size: 10, advance: 10, grace: 5 }),
        )
        .pipe("b", "x", 3)
        .pipe("a", "x", 14)
        .pipe("a", "x", 9)
        .record("in", "b", "x", 15, &[("h", "1")])
        .pipe("a", "x", 9)
        .pipe("b", "x", 25)
        .writes(
            "out",
            &[
                "\"a@0/10\" -> 1L @ 9 [h=\"1\"]",
                "\"b@0/10\" -> 1L @ 3 [h=\"1\"]",
                "\"a@10/20\" -> 1L @ 14",
                "\"b@10/20\" -> 1L @ 15",
            ],
        ),
        sketch(
            "a session goes on once, when nothing can join it any more",
            closing(Windows::Session { gap: 10, grace: 0 }),
        )
        .pipe("a", "x", 0)
        .pipe("a", "x", 10)
        .pipe("b", "x", 12)
        .pipe("b", "x", 21)
        .pipe("b", "x", 23)
        .pipe("c", "x", 34)
        .writes("out", &["\"a@0/10\" -> 2L @ 10", "\"b@12/23\" -> 3L @ 23"]),
        sketch(
            "a sliding window goes on once, but not by a record that has no left window of its own",
            closing(Windows::Sliding { difference: 10, grace: 0 }),
        )
        .pipe("a", "x", 3)
        .pipe("a", "x", 9)
        .pipe("a", "x", 16)
        .pipe("a", "x", 28)
        .writes(
            "out",
            &["\"a@0/10\" -> 2L @ 9", "\"a@4/14\" -> 1L @ 9", "\"a@6/16\" -> 2L @ 16", "\"a@10/20\" -> 1L @ 16"],
        ),
    ]
}

fn window_stores() -> Vec<Sketch> {
    let kept = |name| Store { cached: false, ..store(name).expect("a store") };
    let minutes = |name, duplicates| {
        let (store, key) = (kept(name), Text);
        let operator = Operator::Minutes { from: 0, key, store, size: 10, retention: 30, duplicates };
        vec![stream(&["in"]), operator, to(1, "out", Text)]
    };
    vec![
        sketch("a window store is read by key, by keys and by time, and forgets", minutes("minutes", false))
            .pipe("a", "x", 5)
            .pipe("b", "xx", 12)
            .pipe("a", "xxx", 19)
            .pipe("a", "x", 39)
            .writes(
                "out",
                &[
                    "\"a\" -> \"0=1|0=1|a@0/10=1|a@0/10=1|a@0/10=1|a@0/10=1\" @ 5",
                    "\"b\" -> \"10=2|10=2|b@10/20=2|a@0/10=1 b@10/20=2|a@0/10=1 b@10/20=2|a@0/10=1 b@10/20=2\" @ 12",
                    "\"a\" -> \"0=1 10=3|10=3 0=1|a@0/10=1 a@10/20=3 b@10/20=2|a@0/10=1 a@10/20=3|\
                     a@0/10=1 a@10/20=3 b@10/20=2|a@0/10=1 a@10/20=3 b@10/20=2\" @ 19",
                    "\"a\" -> \"10=3 30=1|30=1 10=3|a@10/20=3 a@30/40=1 b@10/20=2|a@10/20=3 a@30/40=1|\
                     a@10/20=3 a@30/40=1 b@10/20=2|a@10/20=3 a@30/40=1 b@10/20=2\" @ 39",
                ],
            ),
        sketch("duplicates stand side by side, and a deletion is but logged", minutes("duplicates", true))
            .pipe("a", "x", 5)
            .pipe("a", "", 6)
            .pipe("a", "xx", 7)
            .writes(
                "out",
                &[
                    "\"a\" -> \"0=1|0=1|a@0/10=1|a@0/10=1|a@0/10=1|a@0/10=1\" @ 5",
                    "\"a\" -> \"0=1|0=1|a@0/10=1|a@0/10=1|a@0/10=1|a@0/10=1\" @ 6",
                    "\"a\" -> \"0=1 0=2|0=2 0=1|a@0/10=1 a@0/10=2|a@0/10=1 a@0/10=2|\
                     a@0/10=1 a@0/10=2|a@0/10=1 a@0/10=2\" @ 7",
                ],
            ),
        sketch(
            "a session store finds what lies near",
            vec![
                stream(&["in"]),
                Operator::Visits { from: 0, key: Text, store: kept("visits"), gap: 10, retention: 100 },
                to(1, "out", Text),
            ],
        )
        .pipe("a", "x", 0)
        .pipe("a", "xx", 20)
        .pipe("a", "x", 10)
        .writes(
            "out",
            &[
                "\"a\" -> \"1|a@0/0=1|a@0/0=1|a@0/0=1|a@0/0=1\" @ 0",
                "\"a\" -> \"2|a@0/0=1 a@20/20=2|a@20/20=2 a@0/0=1|a@20/20=2|a@0/0=1 a@20/20=2\" @ 20",
                "\"a\" -> \"4|a@0/20=4|a@0/20=4|a@0/20=4|a@0/20=4\" @ 10",
            ],
        ),
    ]
}

/// Types for showing what was written: those of the step that writes the topic.
pub(crate) fn types_of(case: &Case, topic: &str) -> (Option<Type>, Option<Type>) {
    case.steps
        .iter()
        .find_map(|step| match &step.operator {
            Operator::To { topic: Topic::Named(named), key, value, .. } if named == topic => {
                Some((Some(*key), Some(*value)))
            }
            _ => None,
        })
        .unwrap_or((None, None))
}

/// Shows a changelog's bytes as a long where they can be one.
pub(crate) fn long_if_eight_bytes(value: Option<&[u8]>) -> Option<Type> {
    value.filter(|value| value.len() == bytes::write(&Value::Long(0)).len()).map(|_| Long)
}

/// Called for each update, and for its old value where the table is not kept and those are wanted.
fn transformed_values() -> Vec<Sketch> {
    let transform = |store| Operator::TableTransformValues {
        from: 0,
        mapper: "same".to_owned(),
        calls: Some("calls".to_owned()),
        key: Text,
        value: Text,
        store,
    };
    let group = Operator::TableGroupBy {
        from: 1,
        selector: "ofKey".to_owned(),
        key: Text,
        mapper: "same".to_owned(),
        value: Text,
        topic: None,
    };
    vec![
        sketch(
            "a transformer of a table's values is called for what is deleted, too",
            vec![table(None), transform(None), Operator::ToStream { from: 1 }, to(2, "out", Text)],
        )
        .pipe("a", "x", 1)
        .pipe("a", "", 2)
        .pipe("b", "y", 3)
        .writes("out", &["\"a\" -> \"1 x\" @ 1", "\"a\" -> \"2 ~\" @ 2", "\"b\" -> \"1 y\" @ 3"])
        .writes("app-calls-changelog", &["\"a\" -> 1L @ 1", "\"a\" -> 2L @ 2", "\"b\" -> 1L @ 3"]),
        sketch(
            "a transformer of values that are not kept is called for old values, too",
            vec![
                table(None),
                transform(None),
                group.clone(),
                Operator::TableCount { from: 2, key: Text, store: store("counts") },
            ],
        )
        .pipe("a", "x", 1)
        .pipe("a", "y", 2)
        .writes("app-calls-changelog", &["\"a\" -> 1L @ 1", "\"a\" -> 2L @ 1", "\"a\" -> 3L @ 2", "\"a\" -> 4L @ 2"]),
        sketch(
            "a transformer of values that are kept is called once",
            vec![
                table(None),
                transform(store("kept")),
                group,
                Operator::TableCount { from: 2, key: Text, store: store("counts") },
            ],
        )
        .pipe("a", "x", 1)
        .pipe("a", "y", 2)
        .writes("app-kept-changelog", &["\"a\" -> \"1 x\" @ 1", "\"a\" -> \"2 y\" @ 2"])
        .writes("app-calls-changelog", &["\"a\" -> 1L @ 1", "\"a\" -> 2L @ 2"]),
    ]
}
