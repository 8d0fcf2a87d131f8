//! Owns our side: the case's topology written with the SDK, run in the SDK's `TopologyTestDriver`.

mod serdes;
mod processors;
mod timed;
mod topology;
mod windows;
mod joins;
mod cogroups;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use millrace::{Headers, RawRecord, TestDriverConfig, TopologyTestDriver};

use crate::case::{Case, Event, Header, Operator, Record};
use crate::outcome::{Entry, Outcome, Written};

/// What came of the case; a panic is an error like any other.
#[must_use]
pub fn outcome(case: &Case) -> Outcome {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(case)));
    let error = match outcome {
        Ok(Ok(outcome)) => return outcome,
        Ok(Err(error)) => error,
        Err(panic) => panic
            .downcast::<String>()
            .map(|message| *message)
            .or_else(|panic| panic.downcast::<&str>().map(|message| (*message).to_owned()))
            .unwrap_or_else(|_| "a panic without a message".to_owned()),
    };
    Outcome { name: case.name.clone(), error: Some(error), ..Outcome::default() }
}

fn run(case: &Case) -> Result<Outcome, String> {
    let config = TestDriverConfig {
        application_id: "app".to_owned(),
        caching: case.caching,
        wall_clock_ms: case.start_ms,
        ..TestDriverConfig::default()
    };
    let driver = TopologyTestDriver::with(topology::topology(case)?, config).map_err(|error| error.to_string())?;
    for event in &case.events {
        match event {
            Event::Record(record) => driver.pipe_raw_record(&record.topic, raw(record)),
            Event::AdvanceWallClock { ms } => driver.try_advance_wall_clock_time(Duration::from_millis(*ms)),
        }
        .map_err(|error| error.to_string())?;
    }
    let topics: BTreeMap<String, Vec<Written>> =
        driver.produced_topic_names().into_iter().map(|topic| (topic.clone(), written(&driver, &topic))).collect();
    let stores = driver.state_store_names().into_iter();
    Ok(Outcome {
        name: case.name.clone(),
        describe: driver.describe(),
        internal_topics: driver.internal_topics(),
        stores: stores.map(|store| (store.clone(), shown(case, &driver, &store, &topics))).collect(),
        topics,
        histories: histories(case).collect(),
        error: None,
    })
}

fn histories(case: &Case) -> impl Iterator<Item = (String, i64)> {
    let stores = case.steps.iter().filter_map(|step| step.operator.store());
    stores.filter_map(|store| Some((store.name.clone()?, store.history?)))
}

fn raw(record: &Record) -> RawRecord {
    let mut headers = Headers::new();
    for header in &record.headers {
        match &header.value {
            Some(value) => headers.add(&header.key, value),
            None => headers.add_null(&header.key),
        };
    }
    RawRecord { key: record.key.clone(), value: record.value.clone(), timestamp: record.timestamp, headers }
}

fn written(driver: &TopologyTestDriver, topic: &str) -> Vec<Written> {
    let header = |(key, value): (&str, Option<&[u8]>)| Header { key: key.to_owned(), value: value.map(<[u8]>::to_vec) };
    let written = |record: RawRecord| Written {
        headers: record.headers.iter().map(header).collect(),
        key: record.key,
        value: record.value,
        timestamp: record.timestamp,
    };
    driver.read_raw_records(topic).into_iter().map(written).collect()
}

fn entries(driver: &TopologyTestDriver, store: &str) -> Vec<Entry> {
    let entry = |mut entry: millrace::StoreEntry| {
        if retains_duplicates(store)
            && let Some(sequence) = entry.key.last_chunk_mut::<4>()
        {
            *sequence = [0; 4];
        }
        Entry { key: Some(entry.key), value: Some(entry.value), timestamp: Some(entry.timestamp) }
    };
    driver.store_entries(store).into_iter().map(entry).collect()
}

/// What a versioned store has of each key of its changelog at times all over the cases': `Differential.java` has the same.
fn versions(driver: &TopologyTestDriver, store: &str, changelog: &[Written]) -> Vec<Entry> {
    let keys: BTreeSet<&Vec<u8>> = changelog.iter().filter_map(|record| record.key.as_ref()).collect();
    let times = || (0..=1_200).step_by(10);
    let asked = keys.into_iter().flat_map(|key| times().map(move |time: i64| (key, time)));
    let entry = |(key, time): (&Vec<u8>, i64)| {
        let found = driver.store_entry_as_of(store, key, time)?;
        let key = [key.as_slice(), &time.to_be_bytes()].concat();
        Some(Entry { key: Some(key), value: Some(found.value), timestamp: Some(found.timestamp) })
    };
    asked.filter_map(entry).collect()
}

/// Kafka Streams does not show the sequence numbers that tell entries of one key and time apart; their order does.
fn retains_duplicates(store: &str) -> bool {
    let generated = ["JOINTHIS", "JOINOTHER", "OUTERTHIS", "OUTEROTHER"];
    let named = ["-this-join-store", "-other-join-store"];
    store.starts_with("duplicates")
        || generated.iter().any(|prefix| store.starts_with(&format!("KSTREAM-{prefix}-")))
        || named.iter().any(|suffix| store.ends_with(suffix))
}

/// What is compared of a store: nothing of a suppression's buffer, which Kafka Streams does not show.
fn shown(case: &Case, driver: &TopologyTestDriver, store: &str, topics: &BTreeMap<String, Vec<Written>>) -> Vec<Entry> {
    let suppressing = case.steps.iter().filter(|step| matches!(step.operator, Operator::Suppress { .. }));
    let named = suppressing.filter_map(|step| step.name.as_ref()).any(|name| store == format!("{name}-store"));
    if named || store.starts_with("KTABLE-SUPPRESS-") || store.ends_with("-Buffer") {
        Vec::new()
    } else if histories(case).any(|(versioned, _)| versioned == store) {
        versions(driver, store, topics.get(&format!("app-{store}-changelog")).map_or(&[], Vec::as_slice))
    } else {
        entries(driver, store)
    }
}
