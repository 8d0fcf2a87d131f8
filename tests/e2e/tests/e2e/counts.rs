//! What comes out: counts, records and topics, compared with what Kafka Streams makes of the same input.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, Load, verify};
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::{self, Record};
use millrace_e2e::{setting, topics, wait};

/// The input of the README.
fn five() -> Vec<Record> {
    [("foo", "bar"), ("hello", "world"), ("foo", "baz"), ("hello", "there"), ("john", "doe")]
        .map(|(key, value)| Record::new(key, value))
        .to_vec()
}

#[test]
fn five_records() -> Result<()> {
    let app = App::new(&Kafka::shared()?, "five")?;
    app.write(&five())?;
    let mut instance = app.run("a")?;
    let mut outputs: Vec<_> = app.outputs(5)?.into_iter().map(|found| found.record.text()).collect();
    outputs.sort();
    let expected = [("foo", "1"), ("foo", "2"), ("hello", "1"), ("hello", "2"), ("john", "1")];
    ensure!(outputs == expected.map(|(key, count)| (key.into(), count.into())), "{outputs:?}");
    ensure!(app.tasks_on_disk("a")? == ["0_0", "0_1", "0_2", "0_3"]);
    instance.stop()
}

/// The reference topology with its own topics, as the README runs it.
#[test]
fn reference_module() -> Result<()> {
    let kafka = Kafka::shared()?;
    let mut app = App::without_topics(&kafka, "reference")?;
    app.set("module.source", &setting::module("guest-wordcount")?.to_string_lossy());
    app.input = "input-topic".into();
    app.output = "counts-topic".into();
    topics::create(&kafka, &app.input, 4, &[])?;
    topics::create(&kafka, &app.output, 4, &[])?;
    app.write(&five())?;
    let mut instance = app.run("a")?;
    app.counts(&[("foo", 2), ("hello", 2), ("john", 1)])?;
    instance.stop()
}

#[test]
fn two_instances_share_the_partitions() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "share")?;
    app.leave_on_stop();
    app.set("num.stream.threads", "2");
    let mut first = app.run("a")?;
    let mut second = app.run("b")?;
    first.line(&["state=RUNNING", "tasks=2"])?;
    second.line(&["state=RUNNING", "tasks=2"])?;
    let load = Load { records: 20_000, keys: 1_000, value_size: 20, seed: 2 };
    load.write(&app.kafka, &app.input)?;
    app.group()?.caught_up()?;
    ensure!(app.tasks_on_disk("b")?.len() == 2);
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount)?;
    second.stop()?;
    load.write(&app.kafka, &app.input)?;
    app.group()?.caught_up()?;
    first.stop()?;
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}

/// Input with everything that may be in a record.
fn varied() -> Vec<Record> {
    let mut records = vec![
        Record::new("foo", "bar").at(1_700_000_000_000),
        Record::new("foo", "later").at(1_700_000_005_000),
        Record::new("foo", "out of order").at(1_700_000_001_000),
        Record::new("hello", "").at(1_700_000_002_000).header("trace", Some(b"\x00\xff")).header("none", None),
        Record::new("hello", "again").at(1_700_000_003_000).header("trace", Some(b"2")).header("trace", Some(b"3")),
        Record::new("", "an empty key").at(1_700_000_004_000),
        Record::new("grüße, 世界", "not ascii").at(1_700_000_006_000),
        Record { key: None, ..Record::new("", "no key").at(1_700_000_007_000) },
        Record { value: None, ..Record::new("foo", "").at(1_700_000_008_000) },
    ];
    records.extend((0..200).map(|n| Record::new(&format!("key-{}", n % 37), "v").at(1_700_000_010_000 + n * 7 % 900)));
    records
}

/// By partition and key, the records of a topic in order.
type ByKey = BTreeMap<(i32, Option<Vec<u8>>), Vec<Record>>;

fn by_key(kafka: &Kafka, topic: &str) -> Result<ByKey> {
    let mut keys = ByKey::new();
    for found in records::read(kafka, topic)? {
        keys.entry((found.partition, found.record.key.clone())).or_default().push(found.record);
    }
    Ok(keys)
}

#[test]
fn records_are_those_of_kafka_streams() -> Result<()> {
    let kafka = Kafka::shared()?;
    let ours = App::new(&kafka, "ours")?;
    let theirs = App::new(&kafka, "theirs")?;
    ours.write(&varied())?;
    theirs.write(&varied())?;
    let mut peer = theirs.peer()?.start()?;
    let mut instance = ours.run("a")?;
    theirs.outputs(207)?;
    ours.outputs(207)?;
    instance.stop()?;
    peer.stop()?;

    let (our_output, their_output) = (by_key(&kafka, &ours.output)?, by_key(&kafka, &theirs.output)?);
    for (key, records) in &their_output {
        ensure!(our_output.get(key) == Some(records), "output of {key:?}: {:?}, not {records:?}", our_output.get(key));
    }
    ensure!(our_output.len() == their_output.len());

    let config = topics::config(&kafka, &ours.changelog())?;
    ensure!(config["cleanup.policy"] == "compact", "{config:?}");
    ensure!(config["message.timestamp.type"] == "CreateTime", "{config:?}");
    ensure!(config == topics::config(&kafka, &theirs.changelog())?);
    ensure!(topics::names(&kafka, &format!("{}-", ours.id))? == [ours.changelog()]);
    ensure!(topics::partition_count(&kafka, &ours.changelog())? == Some(4));

    // Kafka Streams writes every update of a key and Millrace the last one of a commit: each of ours is one of theirs,
    // and what is left after compaction is the same.
    let (our_changes, their_changes) = (by_key(&kafka, &ours.changelog())?, by_key(&kafka, &theirs.changelog())?);
    for (key, records) in &our_changes {
        let theirs = their_changes.get(key).with_context(|| format!("Kafka Streams has no change of {key:?}"))?;
        ensure!(
            records.iter().all(|record| theirs.contains(record)),
            "changes of {key:?}: {records:?}, not {theirs:?}"
        );
        ensure!(records.last() == theirs.last(), "last change of {key:?}: {records:?}, not {theirs:?}");
    }
    ensure!(our_changes.len() == their_changes.len());
    Ok(())
}

/// Committed offsets carry stream time in the format of Kafka Streams, so that it survives a change of hands.
#[test]
fn committed_metadata_is_that_of_kafka_streams() -> Result<()> {
    let kafka = Kafka::shared()?;
    let (ours, theirs) = (App::new(&kafka, "ours-meta")?, App::new(&kafka, "theirs-meta")?);
    // A record without a key goes to any partition, so the two inputs would differ.
    let records: Vec<_> = varied().into_iter().filter(|record| record.key.is_some()).collect();
    ours.write(&records)?;
    theirs.write(&records)?;
    let mut peer = theirs.peer()?.start()?;
    let mut instance = ours.run("a")?;
    theirs.group()?.caught_up()?;
    ours.group()?.caught_up()?;
    instance.stop()?;
    peer.stop()?;
    let (our_offsets, their_offsets) = (ours.group()?.committed()?, theirs.group()?.committed()?);
    ensure!(our_offsets == their_offsets, "{our_offsets:?}, not {their_offsets:?}");
    Ok(())
}

#[test]
fn the_graph_is_described_as_kafka_streams_does() -> Result<()> {
    let app = App::without_topics(&Kafka::shared()?, "describe")?;
    let ours = app.command("describe", "a")?.output()?;
    ensure!(ours.status.success(), "{}", String::from_utf8_lossy(&ours.stderr));
    let mut peer = app.peer()?.option("describe", "true").start()?;
    peer.ended(wait::LONG)?;
    let ours = String::from_utf8(ours.stdout)?;
    ensure!(ours.trim_end() == peer.text().trim_end(), "{ours}\nnot\n{}", peer.text());
    Ok(())
}

#[test]
fn a_record_of_a_megabyte() -> Result<()> {
    let app = App::new(&Kafka::shared()?, "megabyte")?;
    let large = Record { value: Some(vec![b'x'; 1_000_000]), ..Record::new("large", "") };
    app.write(&[Record::new("small", "1"), large.clone(), large, Record::new("small", "2")])?;
    let mut instance = app.run("a")?;
    app.counts(&[("large", 2), ("small", 2)])?;
    instance.stop()
}
