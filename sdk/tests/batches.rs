//! A topology does the same whether its records come one by one or in batches.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that fails may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use millrace::prelude::*;
use millrace::{RawRecord, StoreEntry, TestDriverConfig, TopologyTestDriver};

type Build = fn(&mut StreamsBuilder);

/// What a run leaves: the records of each topic, compacted for changelogs, and the stores.
#[derive(Debug, PartialEq)]
struct Outcome {
    topics: BTreeMap<String, Vec<RawRecord>>,
    stores: BTreeMap<String, Vec<StoreEntry>>,
}

fn records() -> Vec<RawRecord> {
    let mut state = 42_u64;
    let mut below = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut record = || {
        let key = (below(10) > 0).then(|| format!("k{}", below(7)).into_bytes());
        let words: Vec<String> = (0..below(4)).map(|_| format!("w{}", below(5))).collect();
        let value = (below(8) > 0).then(|| words.join(" ").into_bytes());
        let mut headers = Headers::new();
        for _ in 0..below(3) {
            headers.add(format!("h{}", below(3)), [below(200) as u8]);
        }
        RawRecord { key, value, timestamp: 1_000 + below(500) as i64, headers }
    };
    (0..400).map(|_| record()).collect()
}

fn driver(build: Build, batch_records: usize, caching: bool) -> TopologyTestDriver {
    let mut builder = StreamsBuilder::new();
    build(&mut builder);
    let config = TestDriverConfig { batch_records, caching, ..TestDriverConfig::default() };
    TopologyTestDriver::with(builder.build().unwrap(), config).unwrap()
}

fn run(build: Build, batch_records: usize, caching: bool) -> Outcome {
    let driver = driver(build, batch_records, caching);
    let records = records();
    for some in records.chunks(batch_records) {
        driver.pipe_raw_records("in", some.to_vec()).unwrap();
    }
    outcome(&driver)
}

/// Records of two topics, all of which are there before the first one is processed.
fn run_both(build: Build, records: Vec<RawRecord>, batch_records: usize) -> Outcome {
    let driver = driver(build, batch_records, false);
    let topic = |row: usize| if (row % 7).is_multiple_of(2) { "in" } else { "other" };
    driver.pipe_backlog(records.into_iter().enumerate().map(|(row, record)| (topic(row), record)).collect()).unwrap();
    outcome(&driver)
}

fn outcome(driver: &TopologyTestDriver) -> Outcome {
    driver.advance_wall_clock_time(Duration::from_secs(10));
    let mut topics = BTreeMap::new();
    for topic in driver.produced_topic_names() {
        let mut records = driver.read_raw_records(&topic);
        if topic.ends_with("-changelog") {
            let last: BTreeMap<_, _> = records.into_iter().map(|record| (record.key.clone(), record)).collect();
            records = last.into_values().filter(|record| record.value.is_some()).collect();
        }
        topics.insert(topic, records);
    }
    let stores =
        driver.state_store_names().into_iter().map(|name| (name.clone(), driver.store_entries(&name))).collect();
    Outcome { topics, stores }
}

/// The same for records of two topics that take turns.
fn check_both(build: Build, records: fn() -> Vec<RawRecord>) {
    let one_by_one = run_both(build, records(), 1);
    assert!(one_by_one.topics["out"].len() > 20, "{one_by_one:?}");
    for batch in [7, 100, 1_000] {
        assert_eq!(run_both(build, records(), batch), one_by_one, "in batches of {batch}");
    }
}

fn check(build: Build) {
    let one_by_one = run(build, 1, false);
    assert!(one_by_one.topics.values().any(|records| records.len() > 20), "{one_by_one:?}");
    for batch in [7, 100, 1_000] {
        assert_eq!(run(build, batch, false), one_by_one, "in batches of {batch}");
    }
}

fn strings(builder: &mut StreamsBuilder) -> KStream<String, String> {
    builder.stream("in", Consumed::with(StringSerde, StringSerde))
}

#[test]
fn a_chain_of_stateless_operators() {
    check(|builder| {
        strings(builder)
            .filter(|key, _| key.is_some_and(|key| key != "k3"))
            .flat_map_values(|words: &String| words.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .map(|key, word| (word.cloned(), key.map(|key| key.len() as i64)))
            .filter_not(|word, _| word.is_some_and(String::is_empty))
            .select_key(|word, length| Some(format!("{word:?}{length:?}")))
            .to("out", Produced::default());
    });
}

#[test]
fn counts_of_repeated_keys() {
    check(|builder| {
        strings(builder)
            .group_by_key(Grouped::default())
            .count(Materialized::as_("counts"))
            .to_stream()
            .map_values(|count| count.to_string())
            .to("out", Produced::default());
    });
}

#[test]
fn aggregates_that_delete_and_begin_anew() {
    check(|builder| {
        strings(builder)
            .group_by_key(Grouped::default())
            .aggregate_nullable(
                || Some(0_i64),
                |_, words, sum| sum.map(|sum| sum + words.len() as i64).filter(|sum| sum % 5 != 0),
                Materialized::as_("sums"),
            )
            .filter(|_, sum| sum % 2 == 0)
            .map_values_materialized(|sum| sum * 10, Materialized::as_("tenfold"))
            .to_stream()
            .to("out", Produced::default());
    });
}

#[test]
fn tables_with_old_values() {
    check(|builder| {
        let table = strings(builder).to_table(Materialized::as_("latest"));
        table
            .filter_materialized(|_, words| words.contains("w1"), Materialized::as_("with-w1"))
            .group_by(|key, words| (Some(words.clone()), Some(key.clone())), Grouped::with(StringSerde, StringSerde))
            .reduce(
                |joined, key| format!("{joined}+{key}"),
                |joined, key| joined.replacen(key.as_str(), "", 1),
                Materialized::as_("joined"),
            )
            .to_stream()
            .to("out", Produced::default());
    });
}

#[test]
fn tables_that_are_joined() {
    check(|builder| {
        let table = strings(builder).to_table(Materialized::as_("latest"));
        let long = table.filter(|_, words| words.len() > 4);
        table
            .left_join(&long, |words, long| format!("{words}|{long:?}"))
            .outer_join_materialized(
                &long.map_values(String::len),
                |joined, length| format!("{joined:?}{length:?}"),
                Materialized::as_("joined").with_key_serde(StringSerde).with_value_serde(StringSerde),
            )
            .to_stream()
            .to("out", Produced::default());
    });
}

/// Which responses are outdated when they come depends on what was processed before; what is left in the end does not.
#[test]
fn a_join_on_a_foreign_key_ends_the_same() {
    let build: Build = |builder| {
        let latest = strings(builder).to_table(Materialized::as_("latest"));
        let first_word = |_: &String, words: &String| (words.split(' ').next().map(str::to_owned), Some(1));
        let counts =
            latest.group_by(first_word, Grouped::with(StringSerde, LongSerde)).count(Materialized::as_("counts"));
        latest
            .left_join_on_foreign_key(
                &counts,
                |_, words| words.split(' ').next_back().map(str::to_owned),
                |words, count| format!("{words}: {count:?}"),
                TableJoined::default(),
            )
            .to_stream()
            .to("out", Produced::with(StringSerde, StringSerde));
    };
    let last = |outcome: &Outcome| -> BTreeMap<_, _> {
        let records = outcome.topics["out"].iter().map(|record| (record.key.clone(), record.value.clone()));
        records.collect::<BTreeMap<_, _>>().into_iter().filter(|(_, value)| value.is_some()).collect()
    };
    let one_by_one = run(build, 1, false);
    assert!(last(&one_by_one).len() > 5);
    for batch in [7, 100, 1_000] {
        let batched = run(build, batch, false);
        assert_eq!(last(&batched), last(&one_by_one), "in batches of {batch}");
        assert_eq!(batched.stores, one_by_one.stores, "in batches of {batch}");
    }
}

#[test]
fn a_stream_joined_with_a_table() {
    check(|builder| {
        let counts = strings(builder).group_by_key(Grouped::default()).count(Materialized::as_("counts"));
        strings(builder)
            .left_join_table_with_key(
                &counts,
                |key, words, count| format!("{key:?} {words} {count:?}"),
                Joined::default(),
            )
            .to("out", Produced::with(StringSerde, StringSerde));
    });
}

#[test]
fn windows_that_overlap() {
    check(|builder| {
        let windows = TimeWindows::of_size_and_grace(Duration::from_millis(50), Duration::from_millis(100));
        strings(builder)
            .group_by_key(Grouped::default())
            .windowed_by(windows.advance_by(Duration::from_millis(20)))
            .count(Materialized::as_("counts"))
            .filter(|_, count| count % 2 == 0)
            .to_stream()
            .to("out", Produced::default());
    });
}

#[test]
fn sliding_windows() {
    check(|builder| {
        strings(builder)
            .group_by_key(Grouped::default())
            .windowed_by(SlidingWindows::of_time_difference_and_grace(Duration::from_millis(9), Duration::from_secs(1)))
            .reduce(|joined, words| format!("{joined}+{words}"), Materialized::as_("joined"))
            .to_stream()
            .to("out", Produced::default());
    });
}

#[test]
fn sessions_that_merge() {
    check(|builder| {
        strings(builder)
            .group_by_key(Grouped::default())
            .windowed_by(SessionWindows::of_inactivity_gap_and_grace(Duration::from_millis(9), Duration::from_secs(1)))
            .aggregate(
                || 0_i64,
                |_, words, sum| sum + words.len() as i64,
                |_, one, other| one + other,
                Materialized::as_("sums"),
            )
            .to_stream()
            .to("out", Produced::default());
    });
}

#[test]
fn branches_that_meet_again() {
    check(|builder| {
        let branches = strings(builder)
            .named("b-")
            .split()
            .branch(|_, words| words.is_some_and(|words| words.len() > 4), Branched::as_("long"))
            .branch(|key, _| key.is_none(), Branched::default())
            .default_branch(Branched::as_("rest"));
        let upper = branches["b-long"].map_values(|words| words.to_uppercase());
        upper.merge(&branches["b-rest"]).merge(&branches["b-2"]).to("out", Produced::with(StringSerde, StringSerde));
    });
}

#[test]
fn two_aggregations_of_one_repartition_topic() {
    check(|builder| {
        let words = strings(builder)
            .flat_map_values(|words: &String| words.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .group_by(|_, word| word.cloned(), Grouped::as_("by-word").with_value_serde(StringSerde));
        words.count(Materialized::as_("counts")).to_stream().to("counts", Produced::default());
        words
            .reduce(|longest, word| longest.max(word.clone()), Materialized::as_("longest"))
            .to_stream()
            .to("longest", Produced::default());
    });
}

/// Numbers the records of each key, and tells every second one to a child by name.
struct Number;

impl Processor<String, String, String, String> for Number {
    fn init(&mut self, context: &mut ProcessorContext<'_, String, String>) -> ProcessResult {
        context.schedule(Duration::from_millis(100), PunctuationType::StreamTime)?;
        context.schedule(Duration::from_secs(1), PunctuationType::WallClockTime)?;
        Ok(())
    }

    fn process(
        &mut self,
        context: &mut ProcessorContext<'_, String, String>,
        mut record: Record<String, String>,
    ) -> ProcessResult {
        let Some(key) = &record.key else {
            context.dropped("no key", 1);
            return Ok(());
        };
        let mut numbers = context.key_value_store::<String, i64>("numbers")?;
        let number = numbers.get(key)?.unwrap_or(0) + 1;
        numbers.put(key, number)?;
        let from = context.record_metadata().map(|from| format!("{}-{}@{}", from.topic, from.partition, from.offset));
        record.headers.add("from", from.unwrap_or_default());
        record.headers.add("time", format!("{:?}", context.current_stream_time_ms()));
        if number % 2 == 0 {
            context.forward_to("even", record.clone().with_timestamp(1));
        }
        context.forward(record.with_value(Some(number.to_string())));
        Ok(())
    }

    fn punctuate(
        &mut self,
        context: &mut ProcessorContext<'_, String, String>,
        _schedule: Schedule,
        timestamp: i64,
    ) -> ProcessResult {
        let entries: Result<Vec<(String, i64)>, ProcessError> =
            context.key_value_store("numbers")?.reverse_all().collect();
        for (key, number) in entries? {
            context.forward(Record::new(Some(key.clone()), Some(format!("{number} so far")), timestamp));
            if number > 20 {
                context.key_value_store::<String, i64>("numbers")?.delete(&key)?;
            }
        }
        Ok(())
    }
}

#[test]
fn processors_see_each_record_as_if_it_came_alone() {
    check(|builder| {
        builder.add_state_store(Stores::key_value_store("numbers", StringSerde, LongSerde));
        let numbered = strings(builder).named("number").process(|| Number, &["numbers"]);
        numbered.named("all").filter(|_, _| true).to("all", Produced::default());
        numbered.named("even").map_values(|words| format!("even: {words}")).to("even", Produced::default());
    });
}

#[test]
fn caches_send_the_last_update_of_each_commit() {
    let build: Build = |builder| {
        strings(builder)
            .group_by_key(Grouped::default())
            .count(Materialized::as_("counts"))
            .filter(|_, count| count % 2 == 0)
            .to_stream()
            .to("out", Produced::default());
    };
    let every = run(build, 1, false);
    assert_eq!(run(build, 1, true).stores, every.stores);
    let (cached, at_once) = (run(build, 400, true), run(build, 400, false));
    assert_eq!(cached.stores, every.stores);
    let last: BTreeMap<_, _> = cached.topics["out"].iter().map(|record| (&record.key, &record.value)).collect();
    assert_eq!(last.len(), cached.topics["out"].len());
    assert!(at_once.topics["out"].len() > 10 * last.len());
}

fn both(builder: &mut StreamsBuilder) -> (KStream<String, String>, KStream<String, String>) {
    (strings(builder), builder.stream("other", Consumed::with(StringSerde, StringSerde)))
}

fn joined() -> StreamJoined<String, String, String> {
    StreamJoined::with(StringSerde, StringSerde, StringSerde)
}

fn windows(difference_ms: u64, grace_ms: u64) -> JoinWindows {
    JoinWindows::of_time_difference_and_grace(Duration::from_millis(difference_ms), Duration::from_millis(grace_ms))
}

/// The records are up to 500 ms out of order: with the long windows all of a batch meet at once, with the short ones few do,
/// and some find nothing any more.
#[test]
fn streams_that_are_joined_with_each_other() {
    let builds: [Build; 4] = [
        |builder| {
            let (left, right) = both(builder);
            let joined = left.join(&right, |left, right| format!("{left}|{right}"), windows(1_000, 2_000), joined());
            joined.to("out", Produced::with(StringSerde, StringSerde));
        },
        |builder| {
            let (left, right) = both(builder);
            let left = left.filter(|_, words| words.is_some_and(|words| !words.is_empty()));
            let right = right.flat_map_values(|words: &String| words.split(' ').map(str::to_owned).collect::<Vec<_>>());
            left.join(&right, |left, right| format!("{left}|{right}"), windows(20, 30), joined())
                .group_by_key(Grouped::with(StringSerde, StringSerde))
                .count(Materialized::as_("counts"))
                .to_stream()
                .to("out", Produced::with(StringSerde, LongSerde));
        },
        |builder| {
            let (left, right) = both(builder);
            let windows = windows(200, 0).before(Duration::ZERO);
            let joined = left.join(&right, |left, right| format!("{left}|{right}"), windows, joined());
            joined.to("out", Produced::with(StringSerde, StringSerde));
        },
        |builder| {
            let (left, right) = both(builder);
            let joiner = |left: Option<&String>, right: Option<&String>| format!("{left:?}|{right:?}");
            let joined = left.outer_join(&right, joiner, windows(5, 10), joined());
            joined.to("out", Produced::with(StringSerde, StringSerde));
        },
    ];
    builds.into_iter().for_each(|build| check_both(build, records));
}

/// A record meets more than the host is asked for at once.
#[test]
fn streams_of_one_key_that_are_joined_with_each_other() {
    let of_one_key = || {
        let one_key = |record| RawRecord { key: Some(b"k".to_vec()), ..record };
        records().into_iter().map(one_key).collect::<Vec<_>>()
    };
    check_both(
        |builder| {
            let (left, right) = both(builder);
            let joined = left.join(&right, |left, right| format!("{left}|{right}"), windows(1_000, 2_000), joined());
            joined.to("out", Produced::with(StringSerde, StringSerde));
        },
        of_one_key,
    );
}
