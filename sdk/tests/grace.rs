//! Until when updates wait for their windows to close is said by the windows above, however far: through joins, streams
//! and internal topics.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::time::Duration;

use millrace::prelude::*;
use millrace::{TestInputTopic, TestRecord, TopologyTestDriver};

type Counts = KTable<Windowed<String>, i64>;

fn counts(builder: &mut StreamsBuilder, topic: &str, grace_ms: u64) -> Counts {
    let (size, grace) = (Duration::from_millis(10), Duration::from_millis(grace_ms));
    builder
        .stream(topic, Consumed::with(StringSerde, StringSerde))
        .group_by_key(Grouped::default())
        .windowed_by(TimeWindows::of_size_and_grace(size, grace))
        .count(Materialized::default())
}

/// What an update of the first window comes with, if all inputs get a record at each of these times.
fn closes_at(table: &Counts, builder: StreamsBuilder, topics: &[&str], times: &[i64]) -> Option<i64> {
    let keys = || TimeWindowedSerde::new(StringSerde, 10);
    table
        .suppress(Suppressed::until_window_closes(BufferConfig::unbounded()))
        .to_stream()
        .to("out", Produced::with(keys(), LongSerde));
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let inputs = topics.iter().map(|topic| driver.create_input_topic(*topic, StringSerde, StringSerde));
    let inputs: Vec<TestInputTopic<String, String>> = inputs.collect();
    let output = driver.create_output_topic("out", keys(), LongSerde);
    times.iter().copied().find(|&time| {
        inputs.iter().for_each(|input| input.pipe_record(TestRecord::new("k".to_owned(), String::new(), time)));
        !output.is_empty()
    })
}

#[test]
fn a_foreign_key_join_closes_with_the_later_of_both() {
    for (left, right) in [(5, 20), (20, 5)] {
        let mut builder = StreamsBuilder::new();
        let (left, right) = (counts(&mut builder, "left", left), counts(&mut builder, "right", right));
        let own = |key: &Windowed<String>, _: &i64| Some(key.clone());
        let joined = left.join_on_foreign_key(&right, own, |left, right| left + right, TableJoined::default());
        let joined = joined.map_values_materialized(|sum| *sum, kept());
        assert_eq!(closes_at(&joined, builder, &["left", "right"], &[0, 15, 29, 30, 31]), Some(30));
    }
}

fn kept() -> Materialized<Windowed<String>, i64> {
    Materialized::with(TimeWindowedSerde::new(StringSerde, 10), LongSerde)
}

#[test]
fn a_table_of_a_stream_closes_as_what_the_stream_is_of() {
    let mut builder = StreamsBuilder::new();
    let again = counts(&mut builder, "in", 7).to_stream().to_table(kept());
    assert_eq!(closes_at(&again, builder, &["in"], &[0, 16, 17, 18]), Some(17));
}

#[test]
fn a_join_with_a_table_without_windows_never_closes() {
    let mut builder = StreamsBuilder::new();
    let left = counts(&mut builder, "left", 5);
    let right = builder.table("right", Consumed::with(StringSerde, LongSerde), Materialized::default());
    left.join_on_foreign_key(&right, |key, _| Some(key.key.clone()), |one, other| one + other, TableJoined::default())
        .suppress(Suppressed::until_window_closes(BufferConfig::unbounded()))
        .to_stream()
        .foreach(|_, _| {});
    let error = builder.build().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("its table does not come of windows"), "{error}");
}
