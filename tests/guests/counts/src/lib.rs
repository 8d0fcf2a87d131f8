//! The reference topology with what the tests want to choose, from the environment: its topics, so that many tests share
//! one Kafka, where its store is kept, and faults. It owns only this logic.

mod faults;

use std::env;

use millrace::prelude::*;

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
        _ => {}
    }
    let store = match variable("COUNTS_STORE", "").as_str() {
        "memory" => Materialized::as_("count-store").in_memory(),
        _ => Materialized::as_("count-store"),
    };
    builder
        .stream(variable("COUNTS_INPUT", "input-topic"), Consumed::with(StringSerde, StringSerde))
        .group_by_key(Grouped::with(StringSerde, StringSerde))
        .count(store)
        .to_stream()
        .map_values(|count| count.to_string())
        .to(variable("COUNTS_OUTPUT", "counts-topic"), Produced::with(StringSerde, StringSerde));
}

millrace::export!(topology);
