//! What is wrong with a topology, and where a record fails, is said in words that name the place.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millrace::prelude::*;
use millrace::{RawRecord, TestDriverConfig, TopologyTestDriver};

fn refused(build: impl FnOnce(&mut StreamsBuilder), expected: &str) {
    let mut builder = StreamsBuilder::new();
    build(&mut builder);
    let error = builder.build().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains(expected), "{error}");
}

fn strings(builder: &mut StreamsBuilder, topic: &str) -> KStream<String, String> {
    builder.stream(topic, Consumed::with(StringSerde, StringSerde))
}

#[test]
fn versions_are_where_they_can_be() {
    let hour = Duration::from_secs(3_600);
    let table = |builder: &mut StreamsBuilder, kept: Materialized<String, String>| {
        builder.table("t", Consumed::with(StringSerde, StringSerde), kept)
    };
    refused(
        |builder| {
            let table = table(builder, Materialized::as_("t"));
            let grace = Joined::as_("j").with_grace_period(hour);
            strings(builder, "a").join_table(&table, |a, _| a.clone(), grace).to("b", Produced::default());
        },
        "node j has a grace period of 3600000 ms, but its table keeps no versions",
    );
    refused(
        |builder| {
            let table = table(builder, Materialized::versioned("t", hour / 2));
            let grace = Joined::as_("j").with_grace_period(hour);
            strings(builder, "a").join_table(&table, |a, _| a.clone(), grace).to("b", Produced::default());
        },
        "its table keeps versions for 1800000 ms: have it keep them that long",
    );
    refused(
        |builder| {
            let until = Suppressed::until_time_limit(hour, BufferConfig::unbounded());
            let _ = table(builder, Materialized::versioned("t", hour)).suppress(until.with_name("s"));
        },
        "node s suppresses a versioned table",
    );
    refused(
        |builder| {
            let minute = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
            let grouped = strings(builder, "a").group_by_key(Grouped::default()).windowed_by(minute);
            let _ = grouped.count(Materialized::versioned("t", hour));
        },
        "keeps versions, which windows don't have",
    );
    refused(
        |builder| {
            let consumed = Consumed::with(StringSerde, StringSerde);
            let _ = builder.global_table("a", consumed, Materialized::versioned("t", hour));
        },
        "global table t can't keep versions",
    );
}

#[test]
fn topologies_that_are_refused() {
    refused(
        |builder| strings(builder, "a").map_values(|_| Some(7_u16)).to("b", Produced::default()),
        "node KSTREAM-SINK-0000000002 has no serde for its values of type core::option::Option<u16>",
    );
    refused(
        |builder| strings(builder, "a").named("no spaces").filter(|_, _| true).to("b", Produced::default()),
        "\"no spaces\" can't be a name",
    );
    refused(
        |builder| {
            let a = strings(builder, "a");
            a.named("same").filter(|_, _| true).to("b", Produced::default());
            a.named("same").filter(|_, _| true).to("c", Produced::default());
        },
        "two nodes named same",
    );
    refused(
        |builder| {
            strings(builder, "a").to("b", Produced::default());
            builder.table("a", Consumed::with(StringSerde, StringSerde), Materialized::as_("t"));
        },
        "both read topic a",
    );
    refused(
        |builder| {
            strings(builder, "a").to("b", Produced::default());
            builder.stream("a", Consumed::with(StringSerde, LongSerde)).to("c", Produced::default());
        },
        "use the same key and value types",
    );
    refused(
        |builder| {
            builder.stream_of(["a", "b"], Consumed::with(StringSerde, StringSerde)).to("c", Produced::default());
            strings(builder, "b").to("d", Produced::default());
        },
        "overlapping but not equal topics",
    );
    refused(
        |builder| {
            let grouped = strings(builder, "a").group_by_key(Grouped::default());
            grouped.count(Materialized::as_("twice"));
            grouped.reduce(|_, new| new.clone(), Materialized::as_("twice"));
        },
        "two stores named twice",
    );
}

/// Two tables of strings, and their join.
fn joined<R: millrace::Data>(
    builder: &mut StreamsBuilder,
    joined: TableJoined<String, String>,
    joiner: impl Fn(&String, &String) -> R + Send + Sync + 'static,
) -> KTable<String, R> {
    let [left, right] = ["left", "right"]
        .map(|topic| builder.table(topic, Consumed::with(StringSerde, StringSerde), Materialized::default()));
    left.join_on_foreign_key(&right, |_, value| Some(value.clone()), joiner, joined)
}

#[test]
fn a_foreign_key_join_asks_for_serdes_where_it_needs_them() {
    refused(
        |builder| {
            let strings = builder.table("a", Consumed::with(StringSerde, StringSerde), Materialized::default());
            let numbers = strings.map_values(|_| 7_u16);
            let join = strings.join_on_foreign_key(
                &numbers,
                |_, value| Some(value.clone()),
                |value, _| value.clone(),
                TableJoined::as_("fk"),
            );
            join.to_stream().to("b", Produced::default());
        },
        "node fk-subscription-join-foreign has no serde for its values of type u16",
    );
    refused(
        |builder| {
            let numbers = joined(builder, TableJoined::default(), |_, _| 7_u16);
            // What was there before is asked for, so that it has to be kept.
            numbers
                .group_by(|key, _| (Some(key.clone()), Some(1)), Grouped::with(StringSerde, LongSerde))
                .count(Materialized::default());
        },
        "node KTABLE-FK-JOIN-OUTPUT-0000000018 has no serde for its values of type u16",
    );
    let mut builder = StreamsBuilder::new();
    let lengths = joined(&mut builder, TableJoined::default(), |_, _| 7_u16).to_stream();
    lengths.map_values(|length| i32::from(*length)).to("b", Produced::default());
    builder.build().unwrap();
}

#[test]
fn a_foreign_key_join_goes_by_the_partitioners_given() {
    let fails = |options: TableJoined<String, String>| {
        let mut builder = StreamsBuilder::new();
        joined(&mut builder, options, |left, right| format!("{left}{right}"))
            .to_stream()
            .to("out", Produced::with(StringSerde, StringSerde));
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        driver.create_input_topic("right", StringSerde, StringSerde).pipe_input("f", "x");
        let left = driver.create_input_topic("left", StringSerde, StringSerde);
        let record = millrace::TestRecord::new("k".to_owned(), "f".to_owned(), 0);
        left.try_pipe_record(record).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let seventh = |key: Option<&String>, expected: &str| (key.map(String::as_str) == Some(expected)).then_some(7);
    let error = fails(TableJoined::default().with_other_partitioner(move |_, key, _| seventh(key, "f")));
    assert!(error.contains("KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-0000000006-topic has no partition 7"), "{error}");
    let error =
        fails(TableJoined::as_("j").with_partitioner(move |_, key, count| seventh(key, "k").filter(|_| count == 1)));
    assert!(error.contains("j-subscription-response-topic has no partition 7"), "{error}");
    assert_eq!(fails(TableJoined::as_("j").with_partitioner(|_, _, _| None)), "");
}

#[test]
fn topologies_by_hand_that_are_refused() {
    let refused = |topology: Topology, expected: &str| {
        let error = TopologyTestDriver::new(topology).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{error}");
    };
    let mut topology = Topology::new();
    topology.add_sink("sink", "out", Produced::with(StringSerde, StringSerde), &["nobody"]);
    refused(topology, "has the parent nobody, which is unknown");

    let mut topology = Topology::new();
    topology.add_source("source", ["in"], Consumed::with(StringSerde, StringSerde)).add_sink(
        "sink",
        "out",
        Produced::with(StringSerde, LongSerde),
        &["source"],
    );
    refused(topology, "use the same key and value types");
}

/// Fails on every "bad".
struct Picky;

impl Processor<String, String, String, String> for Picky {
    fn process(
        &mut self,
        context: &mut ProcessorContext<'_, String, String>,
        record: Record<String, String>,
    ) -> ProcessResult {
        if record.value.as_deref() == Some("bad") {
            return Err(ProcessError::new("a bad one"));
        }
        let number: Result<u8, _> = record.value.as_deref().unwrap_or("0").parse();
        context.forward(record.with_value(Some(number?.to_string())));
        Ok(())
    }
}

#[test]
fn a_record_that_fails_is_named_and_left_out() {
    let mut builder = StreamsBuilder::new();
    strings(&mut builder, "in").named("picky").process(|| Picky, &[]).to("out", Produced::default());
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.create_input_topic("in", StringSerde, StringSerde);
    let pipe = |value: &str| {
        let record = millrace::TestRecord::new("k".to_owned(), value.to_owned(), 0);
        input.try_pipe_record(record).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(pipe("1"), "");
    let error = pipe("bad");
    assert!(error.contains("in-0 offset 1, node picky: Processing: a bad one"), "{error}");
    let error = pipe("300");
    assert!(error.contains("number too large"), "{error}");
    assert_eq!(pipe("2"), "");
    let output = driver.create_output_topic("out", StringSerde, StringSerde);
    let values: Vec<_> = output.read_key_values_to_list().into_iter().filter_map(|(_, value)| value).collect();
    assert_eq!(values, ["1", "2"]);
}

#[test]
fn a_poison_pill_in_a_batch_is_named() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let mut builder = StreamsBuilder::new();
    builder.stream("in", Consumed::with(StringSerde, LongSerde)).foreach(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let config = TestDriverConfig { batch_records: 10, ..TestDriverConfig::default() };
    let driver = TopologyTestDriver::with(builder.build().unwrap(), config).unwrap();
    let record = |value: &[u8]| RawRecord { value: Some(value.to_vec()), ..RawRecord::default() };
    let records = vec![record(&[0; 8]), record(&[0; 8]), record(&[1, 2, 3]), record(&[0; 8])];
    let error = driver.pipe_raw_records("in", records).unwrap_err().to_string();
    let expected = "in-0 offset 2, node KSTREAM-SOURCE-0000000000: Deserialization: a long takes 8 bytes";
    assert!(error.contains(expected), "{error}");
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}
