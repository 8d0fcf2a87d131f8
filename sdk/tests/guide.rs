//! The guide for those who come from Kafka Streams names every call there is, and only calls that the SDK has.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const CALLS: &str = include_str!("kafka-streams-4.3.1.txt");
const GUIDE: &str = include_str!("../../docs/from-kafka-streams.md");

/// The words of what stands in backticks.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split('`').skip(1).step_by(2);
    code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_')).filter(|word| !word.is_empty())
}

/// Of each class in the heading of a section, the rows of its table: Java and here.
fn rows() -> BTreeMap<&'static str, Vec<(&'static str, &'static str)>> {
    let mut rows: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    let mut classes: Vec<&str> = Vec::new();
    for line in GUIDE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            classes = heading.split(", ").collect();
        }
        let Some((java, here)) = line.strip_prefix("| ").and_then(|row| row.split_once(" | ")) else { continue };
        classes.iter().for_each(|class| rows.entry(class).or_default().push((java, here)));
    }
    rows
}

#[test]
fn every_call_of_kafka_streams_has_a_row() {
    let rows = rows();
    let mut missing = Vec::new();
    for line in CALLS.lines().filter(|line| !line.starts_with('#')) {
        let (class, calls) = line.split_once(": ").unwrap();
        let told: BTreeSet<&str> = rows.get(class).into_iter().flatten().flat_map(|(java, _)| words(java)).collect();
        missing.extend(calls.split(' ').filter(|call| !told.contains(call)).map(|call| format!("{class}.{call}")));
    }
    assert!(missing.is_empty(), "docs/from-kafka-streams.md says nothing of {}", missing.join(", "));
}

#[test]
fn every_call_that_is_named_here_exists() {
    let mut source = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut source);
    let mut unknown = BTreeSet::new();
    for (_, here) in rows().into_values().flatten() {
        // Arguments stand in parentheses, and what is none is followed by what else to do.
        let told = here.split(" |").next().unwrap_or(here);
        for code in told.split('`').skip(1).step_by(2) {
            let call = code.split(['(', '<', '[', ' ', '?']).next().unwrap_or(code);
            let call = call.rsplit([':', '.']).next().unwrap_or(call);
            let is_method = call.contains('_') && call.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if is_method && !call.starts_with('_') && !source.contains(&format!("fn {call}")) {
                unknown.insert(call);
            }
        }
    }
    assert!(unknown.is_empty(), "docs/from-kafka-streams.md names {unknown:?}, which the SDK does not have");
}

fn read(folder: &Path, source: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            read(&entry, source);
        } else {
            source.push_str(&std::fs::read_to_string(entry).unwrap());
        }
    }
}
