//! Topics that are not as they must be: named in the message with the remedy, and nothing is lost.

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, verify};
use millrace_e2e::kafka::Kafka;
use millrace_e2e::process::Process;
use millrace_e2e::records::{self, Record};
use millrace_e2e::{topics, wait};

#[test]
fn no_source_topic() -> Result<()> {
    let mut app = App::without_topics(&Kafka::shared()?, "no-source")?;
    app.set("startup.deadline.ms", "2000");
    let input = app.input.clone();
    app.refused("a", &[&input]).map(drop)
}

/// A topic that is created late is waited for.
#[test]
fn late_source_topic() -> Result<()> {
    let app = App::without_topics(&Kafka::shared()?, "late-source")?;
    let mut instance = app.start("a")?;
    instance.line(&[&app.input])?;
    topics::create(&app.kafka, &app.output, 4, &[])?;
    topics::create(&app.kafka, &app.input, 4, &[])?;
    app.write(&[Record::new("foo", "bar")])?;
    app.counts(&[("foo", 1)])?;
    instance.stop()
}

#[test]
fn changelog_with_other_partitions() -> Result<()> {
    let app = App::new(&Kafka::shared()?, "changelog")?;
    topics::create(&app.kafka, &app.changelog(), 3, &[("cleanup.policy", "compact")])?;
    let changelog = app.changelog();
    app.refused("a", &[&changelog, "3 partitions", "needs 4"]).map(drop)
}

/// A source topic that grows has more partitions than the changelog: an error to tell, not one to hide.
#[test]
fn source_topic_grows() -> Result<()> {
    let app = App::new(&Kafka::shared()?, "grows")?;
    app.write(&[Record::new("foo", "bar")])?;
    let mut instance = app.run("a")?;
    app.counts(&[("foo", 1)])?;
    instance.stop()?;
    topics::add_partitions(&app.kafka, &app.input, 6)?;
    wait::until("the new partitions", wait::LONG, || {
        Ok((topics::partition_count(&app.kafka, &app.input)? == Some(6)).then_some(()))
    })?;
    let changelog = app.changelog();
    app.refused("a", &[&changelog, "4 partitions", "needs 6", "source topics"]).map(drop)
}

/// Partitions that come while it runs would be read by nobody, or their keys counted in two places: it stops, and what
/// it had processed is committed.
#[test]
fn source_topic_grows_while_it_is_read() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "grows-live")?;
    app.set("kafka.consumer.topic.metadata.refresh.interval.ms", "1000");
    app.write(&[Record::new("foo", "bar")])?;
    let mut instance = app.run("a")?;
    app.counts(&[("foo", 1)])?;
    topics::add_partitions(&app.kafka, &app.input, 6)?;
    let new_partition = format!("{}-4", app.input);
    instance.line_within(&["error", &new_partition, "start it again"], wait::LONG)?;
    ensure!(!instance.ended(wait::LONG)?.success(), "it ended as if nothing had happened");
    ensure!(app.group()?.progress()? == 1, "what was processed before is not committed");
    Ok(())
}

/// A sink that refuses records, for their size or for their age, ends the process; once it takes them again, nothing is
/// missing.
fn sink_refuses(name: &str, words: &str, setting: &str, strict: &str, lenient: &str) -> Result<()> {
    let app = App::new(&Kafka::shared()?, name)?;
    let output = app.output.clone();
    app.write(&[Record::new("foo", "1"), Record::new("hello", "1")])?;
    let mut instance = app.run("a")?;
    app.group()?.caught_up()?;
    instance.stop()?;

    topics::set_config(&app.kafka, &output, setting, strict)?;
    app.write(&[Record::new("foo", "2"), Record::new("foo", "3"), Record::new("hello", "2")])?;
    app.refused("a", &[&output, words])?;
    ensure!(app.group()?.progress()? == 2, "offsets were committed although outputs were refused");

    topics::set_config(&app.kafka, &output, setting, lenient)?;
    let mut instance = app.run("a")?;
    app.counts(&[("foo", 3), ("hello", 2)])?;
    instance.stop()?;
    verify(&app.kafka, &app.input, &output, Expect::EveryCount).map(drop)
}

#[test]
fn sink_topic_refuses_large_records() -> Result<()> {
    sink_refuses("refuses-size", "was refused", "max.message.bytes", "40", "1000000")
}

#[test]
fn sink_topic_refuses_old_records() -> Result<()> {
    sink_refuses("refuses-age", "write a record", "message.timestamp.before.max.ms", "1", "9223372036854775807")
}

/// A topic below a pattern that comes while instances run is read by all of them together, also one that was there before
/// an instance comes back, and the others are read on when it goes.
#[test]
fn topics_of_a_pattern() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "pattern")?;
    app.environment("COUNTS_MODE", "pattern");
    app.environment("COUNTS_INPUT", &format!("{}.*", app.input));
    app.set("kafka.consumer.topic.metadata.refresh.interval.ms", "1000");
    let mut instances = [app.run("a")?, app.run("b")?];
    let words = ["foo", "bar", "baz"];
    let records = words.map(|word| Record::new(word, ""));
    let all = |count| words.map(|word| (word, count));
    app.write(&records)?;
    app.counts(&all(1))?;
    let second = format!("{}-2", app.input);
    topics::create(&app.kafka, &second, 4, &[])?;
    records::write(&app.kafka, &second, &records)?;
    app.counts(&all(2))?;
    instances.iter_mut().try_for_each(Process::stop)?;
    let third = format!("{}-3", app.input);
    topics::create(&app.kafka, &third, 4, &[])?;
    records::write(&app.kafka, &third, &records)?;
    let mut instance = app.start("a")?;
    app.counts(&all(3))?;
    topics::delete(&app.kafka, &[&second])?;
    instance.line(&["topics of patterns", "start"])?;
    app.write(&records)?;
    app.counts(&all(4))?;
    instance.stop()
}
