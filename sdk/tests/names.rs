//! Generated names are those Kafka Streams generates. The differential tests compare many more; these
//! are the ones its documentation and the project's own name.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use millrace::TopologyTestDriver;
use millrace::prelude::*;

fn check(build: fn(&mut StreamsBuilder), expected: &[&str]) {
    let mut builder = StreamsBuilder::new();
    build(&mut builder);
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let described = driver.describe();
    let words = described.split([' ', '\n', ',', '[', ']', '(', ')']);
    let mut names: Vec<&str> = words.filter(|word| word.contains("-00000")).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, expected, "{described}");
}

#[test]
fn word_count() {
    check(
        |builder| {
            builder
                .stream("lines", Consumed::with(StringSerde, StringSerde))
                .flat_map_values(|line: &String| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
                .group_by(|_, word| word.cloned(), Grouped::default())
                .count(Materialized::default())
                .to_stream()
                .to("counts", Produced::default());
        },
        &[
            "KSTREAM-AGGREGATE-0000000004",
            "KSTREAM-AGGREGATE-STATE-STORE-0000000003",
            "KSTREAM-AGGREGATE-STATE-STORE-0000000003-repartition",
            "KSTREAM-FILTER-0000000006",
            "KSTREAM-FLATMAPVALUES-0000000001",
            "KSTREAM-KEY-SELECT-0000000002",
            "KSTREAM-SINK-0000000005",
            "KSTREAM-SINK-0000000009",
            "KSTREAM-SOURCE-0000000000",
            "KSTREAM-SOURCE-0000000007",
            "KTABLE-TOSTREAM-0000000008",
        ],
    );
}

#[test]
fn a_count_with_a_nameless_store_takes_one_more() {
    check(
        |builder| {
            builder
                .stream("lines", Consumed::with(StringSerde, StringSerde))
                .group_by_key(Grouped::default())
                .count(Materialized::with(StringSerde, LongSerde));
        },
        &["KSTREAM-AGGREGATE-0000000003", "KSTREAM-AGGREGATE-STATE-STORE-0000000002", "KSTREAM-SOURCE-0000000000"],
    );
}

#[test]
fn a_table_names_its_store_first() {
    check(
        |builder| {
            builder
                .table("users", Consumed::with(StringSerde, StringSerde), Materialized::default())
                .group_by(|id, name| (Some(name.clone()), Some(id.clone())), Grouped::with(StringSerde, StringSerde))
                .count(Materialized::as_("by-name"));
        },
        &[
            "KSTREAM-SINK-0000000004",
            "KSTREAM-SOURCE-0000000001",
            "KSTREAM-SOURCE-0000000005",
            "KTABLE-AGGREGATE-0000000006",
            "KTABLE-SELECT-0000000003",
            "KTABLE-SOURCE-0000000002",
            "users-STATE-STORE-0000000000",
        ],
    );
}
