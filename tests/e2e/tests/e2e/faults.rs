//! Records that a module fails on, each in its own way: exactly they are dealt with, all others are counted, and the log
//! says what happened. The module is the count that does what a record's value says.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::{self, Found, Record};
use millrace_e2e::topics;

/// A value, the fault it makes of its record, and what the log says of it beside that.
const FAULTS: [(&str, &str, &str); 9] = [
    ("panic", "Trap", "the record is cursed"),
    ("err", "Processing", "refused"),
    ("loop", "Timeout", "faults::spin"),
    ("memory", "Memory", "bytes of memory wanted"),
    ("output", "Flood", "output allowed to one call"),
    ("state", "Flood", "bytes to stores"),
    ("large", "Serialization", "max.message.bytes of the topic is 1048588"),
    ("unspeakable", "Serialization", "there are no bytes for it"),
    // Stands for bytes that are no text.
    (UNDECODABLE, "Deserialization", "utf-8"),
];
const UNDECODABLE: &str = "undecodable";

/// An application whose module makes faults, with limits that are soon met, though not by a machine that is busy.
fn app(name: &str, guarantee: &str, partitions: i32) -> Result<App> {
    let mut app = App::without_topics(&Kafka::shared()?, name)?;
    topics::create(&app.kafka, &app.input, partitions, &[])?;
    topics::create(&app.kafka, &app.output, partitions, &[])?;
    app.environment("COUNTS_MODE", "faults");
    app.set("processing.guarantee", guarantee);
    for (key, value) in [
        ("module.call.timeout.ms", "1000"),
        ("module.memory.bytes", "32MiB"),
        ("module.output.bytes", "4MiB"),
        ("module.state.bytes", "1MiB"),
        ("commit.interval.ms", "100"),
        ("faults.policy", "dead-letter"),
        ("faults.dead.letter.topic", &letters(&app)),
    ] {
        app.set(key, value);
    }
    topics::create(&app.kafka, &letters(&app), 2, &[])?;
    Ok(app)
}

fn letters(app: &App) -> String {
    format!("{}.letters", app.id)
}

fn poison(key: &str, value: &str) -> Record {
    let mut record = Record::new(key, value).header("own", Some(b"header")).at(now());
    if value == UNDECODABLE {
        record.value = Some(vec![0xff, 0xfe]);
    }
    record
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or_default()
}

/// Every value of a key, in order: 1, 2, … as many as there are good records.
fn counted(app: &App, expected: &BTreeMap<String, usize>) -> Result<()> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Found { record, .. } in records::read(&app.kafka, &app.output)? {
        let (key, value) = record.text();
        found.entry(key).or_default().push(value);
    }
    let expected = expected.iter().map(|(key, count)| (key.clone(), (1..=*count).map(|n| n.to_string()).collect()));
    let expected: BTreeMap<String, Vec<String>> = expected.collect();
    ensure!(found == expected, "counted {found:?}, not {expected:?}");
    Ok(())
}

/// Of the headers that Millrace adds, by their short names.
fn error(letter: &Record, name: &str) -> Result<String> {
    let name = format!("__streams.errors.{name}");
    let header = letter.headers.iter().find(|(key, _)| *key == name).with_context(|| format!("no header {name}"))?;
    Ok(String::from_utf8_lossy(header.1.as_deref().unwrap_or_default()).into_owned())
}

/// Exactly the records that failed, as they were, with what went wrong.
fn dead_letters_are(app: &App, poison: &[Record]) -> Result<()> {
    let input = records::read(&app.kafka, &app.input)?;
    let letters = records::read(&app.kafka, &letters(app))?;
    ensure!(letters.len() == poison.len(), "{} dead letters for {} records", letters.len(), poison.len());
    for bad in poison {
        let source = input.iter().find(|found| found.record == *bad).context("the record is not in the input")?;
        let same = |found: &&Found| found.record.key == bad.key;
        let letter = &letters.iter().find(same).with_context(|| format!("no letter of {:?}", bad.text()))?.record;
        ensure!((&letter.value, letter.timestamp) == (&bad.value, bad.timestamp), "{letter:?} is not {bad:?}");
        ensure!(letter.headers[..bad.headers.len()] == bad.headers, "own headers: {:?}", letter.headers);
        ensure!(error(letter, "topic")? == app.input, "{letter:?}");
        ensure!(error(letter, "partition")? == source.partition.to_string(), "{letter:?}");
        ensure!(error(letter, "offset")? == source.offset.to_string(), "{letter:?}");
        let key = bad.text().0;
        let (_, kind, message) = FAULTS.iter().find(|(value, ..)| *value == key).context("keys name faults")?;
        ensure!(error(letter, "exception")? == *kind, "{letter:?}");
        let said = format!("{} {}", error(letter, "message")?, error(letter, "stacktrace")?);
        ensure!(*kind == "Trap" || said.contains(message), "{message} is missing in: {said}");
    }
    Ok(())
}

/// Each fault among good records of its own and of other keys.
fn each_fault_is_a_dead_letter(guarantee: &str) -> Result<()> {
    let app = app("letters", guarantee, 2)?;
    let mut records = Vec::new();
    let mut expected = BTreeMap::new();
    let mut bad = Vec::new();
    for (value, ..) in FAULTS {
        records.extend([Record::new(value, "good"), Record::new("neighbour", "good")]);
        bad.push(poison(value, value));
        records.extend(bad.last().cloned());
        records.extend([Record::new(value, "good"), Record::new("neighbour", "good"), Record::new(value, "good")]);
        expected.insert(value.to_owned(), 3);
    }
    expected.insert("neighbour".to_owned(), 2 * FAULTS.len());
    app.write(&records)?;
    let mut instance = app.run("a")?;
    app.group()?.caught_up()?;
    instance.stop()?;

    counted(&app, &expected)?;
    dead_letters_are(&app, &bad)?;
    for (value, kind, message) in FAULTS {
        let (fault, key) = (format!("fault={kind}"), format!("key=\"\\\"{value}\\\"\""));
        let line = instance.line(&[&fault, &key, message, "policy=dead-letter", &format!("at=\"{}-", app.input)])?;
        if ["panic", "err", "loop"].contains(&value) {
            let said = format!("{value} comes to 2");
            ensure!(line.text.contains(&said), "the module's own line is missing in: {}", line.text);
        }
    }
    Ok(())
}

#[test]
fn each_fault_is_a_dead_letter_at_least_once() -> Result<()> {
    each_fault_is_a_dead_letter("at_least_once")
}

#[test]
fn each_fault_is_a_dead_letter_exactly_once() -> Result<()> {
    each_fault_is_a_dead_letter("exactly_once_v2")
}

/// The policy of the kind of fault goes before the general one, and a policy may change: what it stopped at is what
/// it goes on with.
fn a_policy_stops_and_another_goes_on(guarantee: &str) -> Result<()> {
    let mut app = app("policies", guarantee, 1)?;
    app.set("faults.on.trap", "skip");
    app.set("faults.on.processing", "fail");
    let good = |value: &str| Record::new("k", value);
    app.write(&[good("1"), poison("k", "panic"), good("2"), poison("k", "err"), good("3")])?;
    let words = ["fault=Processing", "policy=fail", "k comes to 3", "error: ", "refused"];
    app.refused("a", &words)?;
    ensure!(app.group()?.progress()? == 3, "committed up to {} and not the record", app.group()?.progress()?);
    counted(&app, &[("k".to_owned(), 2)].into())?;

    app.set("faults.on.processing", "skip");
    let mut instance = app.run("a")?;
    app.group()?.caught_up()?;
    instance.stop()?;
    counted(&app, &[("k".to_owned(), 3)].into())?;
    dead_letters_are(&app, &[])
}

#[test]
fn a_policy_stops_and_another_goes_on_at_least_once() -> Result<()> {
    a_policy_stops_and_another_goes_on("at_least_once")
}

#[test]
fn a_policy_stops_and_another_goes_on_exactly_once() -> Result<()> {
    a_policy_stops_and_another_goes_on("exactly_once_v2")
}

/// A limit that was lowered since the start: the broker refuses the record, and what was begun with it is begun anew,
/// with that record held back.
fn a_record_that_only_the_broker_refuses(guarantee: &str) -> Result<()> {
    let app = app("refused", guarantee, 1)?;
    let limit = |bytes: &str| topics::set_config(&app.kafka, &app.output, "max.message.bytes", bytes);
    limit("8000000")?;
    let mut instance = app.run("a")?;
    limit("1000000")?;
    let bad = poison("large", "large");
    let good = |value: &str| Record::new("large", value);
    app.write(&[good("1"), bad.clone(), good("2"), good("3")])?;
    app.group()?.caught_up()?;
    instance.stop()?;
    instance.line(&["write a record of 2097152 bytes", "it will be held back"])?;
    let found = records::read(&app.kafka, &app.output)?;
    let last = found.last().map(|found| found.record.text().1);
    ensure!(last.as_deref() == Some("3"), "counted {last:?}, not 3");
    let letters = records::read(&app.kafka, &letters(&app))?;
    ensure!(letters.len() == 1 && letters[0].record.value == bad.value, "{letters:?}");
    Ok(())
}

#[test]
fn a_record_that_only_the_broker_refuses_at_least_once() -> Result<()> {
    a_record_that_only_the_broker_refuses("at_least_once")
}

#[test]
fn a_record_that_only_the_broker_refuses_exactly_once() -> Result<()> {
    a_record_that_only_the_broker_refuses("exactly_once_v2")
}

/// A dead letter that can't be written would be found out by the first one.
#[test]
fn a_dead_letter_topic_has_to_exist() -> Result<()> {
    let mut app = app("no-letters", "at_least_once", 1)?;
    app.set("faults.dead.letter.topic", "nowhere-to-be-found");
    app.set("startup.deadline.ms", "500");
    app.refused("a", &["topic nowhere-to-be-found doesn't exist", "faults.dead.letter.topic"]).map(drop)
}
