//! Owns what "the same" means: `describe`, records, stores, changelogs. Kafka Streams is right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};

use crate::case::Header;
use crate::outcome::{Entry, Outcome, Written};
use crate::readable::{self, bytes_as};

/// What the Java side says instead of no timestamp.
const UNSTAMPED: i64 = -1;

/// How much is up to the order in which records with one timestamp wait in several topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Given,
    /// What goes through internal topics, and how often a key is written before its last record.
    Open,
}

/// The first difference, for people to read.
pub fn check(kafka: &Outcome, ours: &Outcome, order: Order) -> Result<(), String> {
    if kafka.error.is_some() != ours.error.is_some() {
        return Err(format!("Kafka Streams failed with {:?},\nMillrace with {:?}", kafka.error, ours.error));
    }
    let lines = |text: &str| text.split('\n').map(str::to_owned).collect::<Vec<_>>();
    rows("describe", &lines(&kafka.describe), &lines(&ours.describe), Clone::clone)?;
    let kept = as_kept(&ours.internal_topics, &kafka.internal_topics);
    rows("settings of internal topics", &settings(&kafka.internal_topics), &settings(&kept), Clone::clone)?;
    let names: BTreeSet<&String> = kafka.topics.keys().chain(ours.topics.keys()).collect();
    for name in names {
        let none = Vec::new();
        let left = kafka.topics.get(name).unwrap_or(&none);
        let right = ours.topics.get(name).unwrap_or(&none);
        if name.ends_with("-changelog") {
            // Kafka's producer stamps what has no timestamp, and its driver does not.
            let stamped = left.iter().all(|record| record.timestamp != UNSTAMPED);
            let as_stamped = |record: &Written| Written {
                timestamp: if stamped { record.timestamp } else { UNSTAMPED },
                ..record.clone()
            };
            let right: Vec<Written> = right.iter().map(as_stamped).collect();
            // Kafka Streams logs the headers of subscriptions, and its store drops them.
            let mut left = left.clone();
            if is_of_subscriptions(name) {
                left.iter_mut().for_each(|record| record.headers.clear());
            }
            let history = ours.histories.iter().find(|(store, _)| *name == format!("app-{store}-changelog"));
            if let Some((_, &history)) = history {
                rows(&format!("changelog {name}"), &accepted(left, history), &right, record_row)?;
                continue;
            }
            rows(&format!("changelog {name}, compacted"), &compacted(&left), &compacted(&right), changelog_row)?;
        } else if order == Order::Given {
            rows(&format!("topic {name}"), left, right, record_row)?;
        } else if !kafka.internal_topics.contains_key(name) {
            rows(&format!("topic {name}, compacted"), &compacted(left), &compacted(right), changelog_row)?;
        }
    }
    let (left, right) = (kafka.stores.keys().collect::<Vec<_>>(), ours.stores.keys().collect::<Vec<_>>());
    rows("the names of the stores", &left, &right, |name| (*name).clone())?;
    for (name, entries) in &kafka.stores {
        // Kafka's plain stores and those of sessions keep no timestamps; ours always do.
        let kept = entries.iter().any(|entry| entry.timestamp.is_some());
        let as_kept = |entry: &Entry| Entry { timestamp: entry.timestamp.filter(|_| kept), ..entry.clone() };
        let ours: Vec<Entry> = ours.stores[name].iter().map(as_kept).collect();
        rows(&format!("store {name}"), entries, &ours, entry_row)?;
    }
    Ok(())
}

type Settings = BTreeMap<String, BTreeMap<String, String>>;

fn settings(topics: &Settings) -> Vec<String> {
    let of = |(topic, settings): (&String, &BTreeMap<String, String>)| {
        settings.iter().map(|(key, value)| format!("{topic}: {key}={value}")).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of).collect()
}

/// Ours keep sessions a millisecond longer where results go on when they close.
fn as_kept(ours: &Settings, kafka: &Settings) -> Settings {
    const RETENTION: &str = "retention.ms";
    let number = |text: &String| text.parse::<i64>().ok();
    let mut ours = ours.clone();
    for (topic, settings) in &mut ours {
        let theirs = kafka.get(topic).and_then(|settings| settings.get(RETENTION));
        if let (Some(theirs), Some(own)) = (theirs, settings.get_mut(RETENTION))
            && number(theirs).is_some_and(|ms| number(own) == Some(ms + 1))
        {
            own.clone_from(theirs);
        }
    }
    ours
}

type Compacted = (Vec<u8>, Option<Vec<u8>>, i64, Vec<Header>);

/// The changelog of a foreign-key join.
fn is_of_subscriptions(changelog: &str) -> bool {
    changelog.contains("KTABLE-FK-JOIN-SUBSCRIPTION-STATE-STORE-")
        || changelog.ends_with("-subscription-store-changelog")
}

/// What a versioned store took: Kafka Streams logs what it leaves out, too, and leaves it out again when it restores.
fn accepted(records: Vec<Written>, history: i64) -> Vec<Written> {
    let mut observed = i64::MIN;
    let mut accepted = records;
    accepted.retain(|record| {
        let taken = record.timestamp >= observed.saturating_sub(history);
        observed = observed.max(record.timestamp);
        taken
    });
    accepted
}

/// The last record of each key.
fn compacted(records: &[Written]) -> Vec<Compacted> {
    let mut last = BTreeMap::new();
    for record in records {
        let key = record.key.clone().unwrap_or_default();
        last.insert(key, (record.value.clone(), record.timestamp, record.headers.clone()));
    }
    last.into_iter().map(|(key, (value, timestamp, headers))| (key, value, timestamp, headers)).collect()
}

fn changelog_row((key, value, timestamp, headers): &Compacted) -> String {
    let (key, value, headers) = (Some(key.clone()), value.clone(), headers.clone());
    readable::record(None, None, &Written { key, value, timestamp: *timestamp, headers })
}

fn record_row(record: &Written) -> String {
    readable::record(None, None, record)
}

fn entry_row(entry: &Entry) -> String {
    let (key, value) = (bytes_as(None, entry.key.as_deref()), bytes_as(None, entry.value.as_deref()));
    let timestamp = entry.timestamp.map_or_else(String::new, |timestamp| format!(" @ {timestamp}"));
    format!("{key} -> {value}{timestamp}")
}

/// Both sides from a little before the first row that differs.
fn rows<T: PartialEq + Debug>(what: &str, kafka: &[T], ours: &[T], show: impl Fn(&T) -> String) -> Result<(), String> {
    let Some(first) = (0..kafka.len().max(ours.len())).find(|&index| kafka.get(index) != ours.get(index)) else {
        return Ok(());
    };
    let mut out = format!("{what} differs from row {first} on ({} rows against {})\n", kafka.len(), ours.len());
    for (side, rows) in [("Kafka Streams", kafka), ("Millrace", ours)] {
        let _ = writeln!(out, "  {side}:");
        for (index, row) in rows.iter().enumerate().skip(first.saturating_sub(2)).take(6) {
            let mark = if index == first { ">" } else { " " };
            let _ = writeln!(out, "  {mark} {index}: {}", show(row));
        }
    }
    Err(out)
}

#[cfg(test)]
mod tests {
    use super::Order::{Given, Open};
    use super::*;

    fn written(key: &str, value: Option<&str>, timestamp: i64) -> Written {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Written { key: Some(bytes(key)), value: value.map(bytes), timestamp, headers: Vec::new() }
    }

    fn outcome(topic: &str, records: Vec<Written>) -> Outcome {
        Outcome { topics: BTreeMap::from([(topic.to_owned(), records)]), ..Outcome::default() }
    }

    #[test]
    fn every_record_of_a_topic_counts() {
        let all = vec![written("a", Some("1"), 5), written("a", Some("2"), 6)];
        assert_eq!(check(&outcome("t", all.clone()), &outcome("t", all.clone()), Given), Ok(()));
        let difference = check(&outcome("t", all.clone()), &outcome("t", all[..1].to_vec()), Given).unwrap_err();
        assert!(difference.contains("topic t differs from row 1 on (2 rows against 1)"), "{difference}");
        assert!(
            check(&outcome("t", all[..1].to_vec()), &outcome("t", vec![written("a", Some("1"), 6)]), Given).is_err()
        );
        assert!(check(&outcome("t", all), &Outcome::default(), Given).is_err());
    }

    #[test]
    fn only_the_last_record_of_a_key_counts_in_a_changelog() {
        let all = vec![written("b", Some("1"), 5), written("a", Some("1"), 6), written("b", None, 7)];
        let compact = vec![written("a", Some("1"), 6), written("b", None, 7)];
        assert_eq!(check(&outcome("x-changelog", all.clone()), &outcome("x-changelog", compact), Given), Ok(()));
        let stale = vec![written("a", Some("1"), 6), written("b", None, 5)];
        assert!(check(&outcome("x-changelog", all), &outcome("x-changelog", stale), Given).is_err());
    }

    #[test]
    fn the_last_record_of_a_key_counts_where_the_order_is_open() {
        let all = vec![written("a", Some("1"), 5), written("a", Some("2"), 6)];
        let last = |records: &[Written]| outcome("t", records.to_vec());
        assert_eq!(check(&last(&all), &last(&all[1..]), Open), Ok(()));
        assert!(check(&last(&all), &last(&all[..1]), Open).is_err());
        assert!(check(&last(&all), &last(&[]), Open).is_err());
    }

    #[test]
    fn every_line_of_describe_counts() {
        let of = |text: &str| Outcome { describe: text.to_owned(), ..Outcome::default() };
        assert_eq!(check(&of("a\nb\n"), &of("a\nb\n"), Given), Ok(()));
        let difference = check(&of("a\nb\n"), &of("a\nc\n"), Given).unwrap_err();
        assert!(difference.contains("describe differs from row 1 on"), "{difference}");
        assert!(check(&of("a\n"), &of("a\n\n"), Given).is_err());
    }
}
