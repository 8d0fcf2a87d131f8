//! The reference topology with what the tests want to choose, from the environment: its topics, so that many tests share
//! one Kafka, where its store is kept, and faults; and what tests make of it to have several versions. It owns only
//! this logic.

mod faults;

use std::env;

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
        _ => {}
    }
    let name = if version() == "renamed" { "tally-store" } else { "count-store" };
    let store = match variable("COUNTS_STORE", "").as_str() {
        "memory" => Materialized::as_(name).in_memory(),
        _ => Materialized::as_(name),
    };
    let input = builder.stream(variable("COUNTS_INPUT", "input-topic"), Consumed::with(StringSerde, StringSerde));
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

/// Each record with the last name that its key has in a second topic.
fn names(builder: &mut StreamsBuilder) {
    let input = variable("COUNTS_INPUT", "input-topic");
    let names =
        builder.table(format!("{input}.names"), Consumed::with(StringSerde, StringSerde), Materialized::as_("names"));
    builder
        .stream(input, Consumed::with(StringSerde, StringSerde))
        .left_join_table(
            &names,
            |value, name| format!("{value} {}", name.map_or("nobody", String::as_str)),
            Joined::default(),
        )
        .to(variable("COUNTS_OUTPUT", "counts-topic"), Produced::with(StringSerde, StringSerde));
}

millrace::export!(topology);
