//! The reference topology with what the tests want to choose, from the environment: its topics, so that many tests share
//! one Kafka, where its store is kept, and faults; and what tests make of it to have several versions. It owns only
//! this logic.

mod faults;

use std::env;
use std::time::Duration;

use millrace::prelude::*;

/// What a test makes other versions of: it writes another word over the last one, in the built component.
static VERSION: &str = "counts-version:plain..";

fn version() -> &'static str {
    std::hint::black_box(VERSION).split_once(':').map_or("", |(_, word)| word.trim_end_matches('.'))
}

fn variable(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

fn topology(builder: &mut StreamsBuilder) {
    match variable("COUNTS_MODE", "").as_str() {
        "panic" => panic!("no graph today"),
        "loop" => loop {
            std::hint::spin_loop();
        },
        "faults" => return faults::topology(builder),
        "names" => return names(builder),
        "windows" => return windows(builder, EmitStrategy::OnWindowUpdate),
        "closing" => return windows(builder, EmitStrategy::OnWindowClose),
        "join" => return join(builder),
        _ => {}
    }
    let name = if version() == "renamed" { "tally-store" } else { "count-store" };
    let store = match variable("COUNTS_STORE", "").as_str() {
        "memory" => Materialized::as_(name).in_memory(),
        _ => Materialized::as_(name),
    };
    let (topic, consumed) = texts("");
    let input = match variable("COUNTS_MODE", "").as_str() {
        "pattern" => builder.stream_matching(topic, consumed),
        _ => builder.stream(topic, consumed),
    };
    if matches!(version(), "added" | "stocked") {
        input.group_by_key(Grouped::with(StringSerde, StringSerde)).count(Materialized::as_("second-store"));
    }
    if version() == "widened" {
        let topic = format!("{}.more", variable("COUNTS_INPUT", "input-topic"));
        let more = builder.stream(topic, Consumed::with(StringSerde, StringSerde));
        more.to(variable("COUNTS_OUTPUT", "counts-topic"), Produced::with(StringSerde, StringSerde));
    }
    input
        .group_by_key(Grouped::with(StringSerde, StringSerde))
        .count(store)
        .to_stream()
        .map_values(|count| match version() {
            "padded" | "stocked" => format!("{count:012}"),
            "faulty" => panic!("the count {count} is beyond me"),
            _ => count.to_string(),
        })
        .to(variable("COUNTS_OUTPUT", "counts-topic"), Produced::with(StringSerde, StringSerde));
}

fn texts(topic: &str) -> (String, Consumed<String, String>) {
    (variable("COUNTS_INPUT", "input-topic") + topic, Consumed::with(StringSerde, StringSerde))
}

/// The same in windows of a second, which are part of the output's keys. They are kept for longer than they can change.
fn windows(builder: &mut StreamsBuilder, emit: EmitStrategy) {
    let (topic, consumed) = texts("");
    let second = Duration::from_secs(1);
    builder
        .stream(topic, consumed)
        .group_by_key(Grouped::default())
        .windowed_by(TimeWindows::of_size_and_grace(second, second))
        .emit_strategy(emit)
        .count(Materialized::as_("count-store").with_retention(Duration::from_secs(60)))
        .to_stream()
        .select_key(|key, _| key.map(|key| format!("{}@{}", key.key, key.window.start)))
        .map_values(|count| count.to_string())
        .to(variable("COUNTS_OUTPUT", "counts-topic"), Produced::with(StringSerde, StringSerde));
}

/// Two streams that have each key once: 1 for what has met its like.
fn join(builder: &mut StreamsBuilder) {
    let (topic, consumed) = texts("");
    let stream = builder.stream(topic, consumed);
    let (topic, consumed) = texts(".other");
    let other = builder.stream(topic, consumed);
    let minute = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(60));
    stream
        .join(&other, |one, other| u8::from(one == other).to_string(), minute, StreamJoined::default())
        .to(variable("COUNTS_OUTPUT", "counts-topic"), Produced::with(StringSerde, StringSerde));
}

/// Each record with the last name that its key has in a second topic.
fn names(builder: &mut StreamsBuilder) {
    let (topic, consumed) = texts(".names");
    let names = builder.table(topic, consumed, Materialized::as_("names"));
    let (topic, consumed) = texts("");
    builder
        .stream(topic, consumed)
        .left_join_table(
            &names,
            |value, name| format!("{value} {}", name.map_or("nobody", String::as_str)),
            Joined::default(),
        )
        .to(variable("COUNTS_OUTPUT", "counts-topic"), Produced::with(StringSerde, StringSerde));
}

millrace::export!(topology);
