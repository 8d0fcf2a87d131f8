//! Owns the comparison's tests. `MILLRACE_SEED=17` runs one generated case alone and shows it,
//! `MILLRACE_SEEDS=1000` generates more of them.

mod by_hand;

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use millrace_differential::case::Case;
use millrace_differential::compare::Order;
use millrace_differential::outcome::{Outcome, Written};
use millrace_differential::{compare, functions, generate, kafka, ours, readable, shrink};

const GENERATED: u64 = 200;
/// Of joins on foreign keys alone.
const FOREIGN_KEYS: u64 = 60;
/// Of versioned tables alone.
const VERSIONED: u64 = 80;

struct Judged {
    case: Case,
    kafka: Outcome,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

fn generated() -> Vec<Case> {
    match number("MILLRACE_SEED") {
        Some(seed) => {
            vec![generate::case(seed), generate::foreign_keys::case(seed), generate::versioned::case(seed)]
        }
        None => {
            let cases = (0..number("MILLRACE_SEEDS").unwrap_or(GENERATED)).map(generate::case);
            let seeds = 0..number("MILLRACE_SEEDS").unwrap_or(FOREIGN_KEYS);
            let versioned = 0..number("MILLRACE_SEEDS").unwrap_or(VERSIONED);
            // What comes of an order that is open, other operators than these would count or keep.
            let cases = cases.chain(versioned.map(generate::versioned::case));
            let cases = cases.filter(|case| !generate::joins_what_was_joined(case));
            cases.chain(seeds.map(generate::foreign_keys::case)).collect()
        }
    }
}

/// All cases, with what Kafka Streams makes of them: one JVM for all tests.
fn judged() -> &'static [Judged] {
    static JUDGED: OnceLock<Vec<Judged>> = OnceLock::new();
    JUDGED.get_or_init(|| {
        let cases: Vec<Case> = by_hand::cases().into_iter().map(|known| known.case).chain(generated()).collect();
        let outcomes = kafka::outcomes(&cases).unwrap_or_else(|error| panic!("{error:#}"));
        cases.into_iter().zip(outcomes).map(|(case, kafka)| Judged { case, kafka }).collect()
    })
}

#[test]
fn kafka_streams_accepts_every_case() {
    for Judged { case, kafka } in judged() {
        assert_eq!(kafka.error, None, "{}", readable::case(case));
    }
}

#[test]
fn millrace_does_what_kafka_streams_does() {
    let differing: Vec<(&Case, String)> =
        judged().iter().filter_map(|Judged { case, kafka }| Some((case, difference(case, kafka)?))).collect();
    let Some((case, found)) = differing.first() else { return };
    let first_line = |difference: &str| difference.lines().next().unwrap_or_default().to_owned();
    let all = differing.iter().map(|(case, difference)| format!("  {}: {}", case.name, first_line(difference)));
    let all: Vec<String> = all.collect();
    let small = shrink::shrink(case, first_differing);
    let kafka = kafka::fresh_outcomes(std::slice::from_ref(&small)).unwrap_or_else(|error| panic!("{error:#}"));
    let small_difference = difference(&small, &kafka[0]).unwrap_or_default();
    panic!(
        "{} of {} cases differ:\n{}\n\n{}\n{found}\nmade smaller:\n\n{}\n{small_difference}\n{}",
        all.len(),
        judged().len(),
        all.join("\n"),
        readable::case(case),
        readable::case(&small),
        case.name.rsplit_once("seed-").map_or_else(String::new, |(_, seed)| format!(
            "to replay this case alone: MILLRACE_SEED={seed} ./mill test differential"
        )),
    );
}

fn order(case: &Case) -> Order {
    if generate::joins_what_was_joined(case) { Order::Open } else { Order::Given }
}

fn difference(case: &Case, kafka: &Outcome) -> Option<String> {
    compare::check(kafka, &ours::outcome(case), order(case)).err()
}

/// The position of the first case that both sides take and that still differs.
fn first_differing(cases: &[Case]) -> Option<usize> {
    let kafka = kafka::fresh_outcomes(cases).unwrap_or_else(|error| panic!("{error:#}"));
    cases.iter().zip(&kafka).position(|(case, kafka)| {
        let ours = ours::outcome(case);
        kafka.error.is_none() && ours.error.is_none() && compare::check(kafka, &ours, order(case)).is_err()
    })
}

/// Names of operators and functions, as they stand in the cases' JSON.
fn words(cases: &[Case]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for case in cases {
        let steps = serde_json::to_string(&case.steps).expect("a case is JSON");
        let distinct: HashSet<&str> = steps.split('"').skip(1).step_by(2).collect();
        distinct.into_iter().for_each(|word| *counts.entry(word.to_owned()).or_default() += 1);
    }
    counts
}

/// The words of cases that have to be in two generated ones at least.
const OPERATORS: &[&str] = &[
    "stream",
    "table",
    "filter",
    "filterNot",
    "map",
    "mapValues",
    "flatMap",
    "flatMapValues",
    "selectKey",
    "peek",
    "merge",
    "split",
    "branch",
    "repartition",
    "toTable",
    "stamp",
    "stampValues",
    "tally",
    "minutes",
    "visits",
    "groupBy",
    "groupByKey",
    "count",
    "reduce",
    "aggregate",
    "tableFilter",
    "tableFilterNot",
    "tableMapValues",
    "tableTransformValues",
    "tableGroupBy",
    "tableCount",
    "tableReduce",
    "tableAggregate",
    "toStream",
    "windowedBy",
    "time",
    "unlimited",
    "sliding",
    "session",
    "windowUpdate",
    "windowClose",
    "windowedTo",
    "unwindow",
    "tableJoin",
    "foreignKeyJoin",
    "streamTableJoin",
    "streamJoin",
    "suppress",
    "cogroup",
    "globalTable",
    "globalJoin",
    "inner",
    "left",
    "outer",
    "to",
    "forEach",
    "named",
    "byWeight",
    "streamTime",
    "wallClock",
];

#[test]
fn the_generated_cases_use_everything_and_do_something() {
    if number("MILLRACE_SEED").is_some() {
        return;
    }
    let words = words(&generated());
    let functions = [
        functions::PREDICATES,
        functions::MAPPERS,
        functions::SELECTORS,
        functions::EXPANDERS,
        functions::COMBINERS,
        functions::JOINERS,
        functions::REMOVERS,
        functions::EXTRACTORS,
    ];
    for word in OPERATORS.iter().chain(functions.into_iter().flatten()) {
        assert!(words.get(*word).is_some_and(|count| *count >= 2), "{word} is in fewer than two cases");
    }
    let outcomes = judged().iter().skip(by_hand::cases().len()).map(|judged| &judged.kafka);
    let writing = outcomes.filter(|outcome| outcome.topics.keys().any(|topic| !topic.starts_with("app-"))).count();
    assert!(writing * 10 > generated().len() * 9, "only {writing} cases write to an output topic");
}

#[test]
fn kafka_streams_does_what_the_cases_by_hand_say() {
    let mut wrong = Vec::new();
    for (known, Judged { case, kafka }) in by_hand::cases().iter().zip(judged()) {
        for (topic, expected) in &known.written {
            let (key, value) = by_hand::types_of(case, topic);
            let show = |record: &Written| {
                let value = value.or_else(|| by_hand::long_if_eight_bytes(record.value.as_deref()));
                readable::record(key, value, record)
            };
            let written: Vec<String> = kafka.topics.get(*topic).into_iter().flatten().map(show).collect();
            if &written != expected {
                wrong.push(format!(
                    "{}\n{topic}: expected {expected:#?}, but there is {written:#?}",
                    readable::case(case)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
