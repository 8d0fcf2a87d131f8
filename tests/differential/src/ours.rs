//! Owns our side: the case's topology written with the SDK, run in the SDK's `TopologyTestDriver`.

mod serdes;
mod processors;
mod timed;
mod topology;
mod windows;
mod joins;
mod cogroups;

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
    let topics = driver.produced_topic_names().into_iter();
    let stores = driver.state_store_names().into_iter();
    Ok(Outcome {
        name: case.name.clone(),
        describe: driver.describe(),
        topics: topics.map(|topic| (topic.clone(), written(&driver, &topic))).collect(),
        stores: stores.map(|store| (store.clone(), shown(case, &driver, &store))).collect(),
        error: None,
    })
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

/// Kafka Streams does not show the sequence numbers that tell entries of one key and time apart; their order does.
fn retains_duplicates(store: &str) -> bool {
    let generated = ["JOINTHIS", "JOINOTHER", "OUTERTHIS", "OUTEROTHER"];
    let named = ["-this-join-store", "-other-join-store"];
    store.starts_with("duplicates")
        || generated.iter().any(|prefix| store.starts_with(&format!("KSTREAM-{prefix}-")))
        || named.iter().any(|suffix| store.ends_with(suffix))
}

/// What is compared of a store: nothing of a suppression's buffer, which Kafka Streams does not show.
fn shown(case: &Case, driver: &TopologyTestDriver, store: &str) -> Vec<Entry> {
    let suppressing = case.steps.iter().filter(|step| matches!(step.operator, Operator::Suppress { .. }));
    let named = suppressing.filter_map(|step| step.name.as_ref()).any(|name| store == format!("{name}-store"));
    if named || store.starts_with("KTABLE-SUPPRESS-") { Vec::new() } else { entries(driver, store) }
}
