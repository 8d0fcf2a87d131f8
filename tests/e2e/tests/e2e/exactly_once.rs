//! Exactly-once: whatever becomes of instances and brokers, each count is forwarded once and in order, and what was
//! committed is on disk, so that a restart on it replays next to nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, Load, verify};
use millrace_e2e::group::Group;
use millrace_e2e::kafka::{Kafka, OwnKafka};
use millrace_e2e::process::Process;
use millrace_e2e::wait;
use rustix::process::Signal;

const LOAD: Load = Load { records: 200_000, keys: 5_000, value_size: 20, seed: 7 };

fn app(kafka: &Kafka, name: &str) -> Result<App> {
    let mut app = App::new(kafka, name)?;
    app.set("processing.guarantee", "exactly_once_v2");
    Ok(app)
}

fn progress(group: &Group, goal: i64) -> Result<()> {
    wait::until("some progress", wait::LONG, || Ok((group.progress()? >= goal).then_some(())))
}

fn every_count(app: &App) -> Result<()> {
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}

/// A killed instance comes back on its disk, under its name: the broker ends the former one's transaction at once.
#[test]
fn kills_on_the_same_disk() -> Result<()> {
    let app = app(&Kafka::shared()?, "eos-kill")?;
    LOAD.write(&app.kafka, &app.input)?;
    let group = app.group()?;
    for kill in 1..=3 {
        let mut instance = app.run("a")?;
        progress(&group, kill * 40_000)?;
        instance.kill()?;
    }
    let mut last = app.run("a")?;
    // At most one commit was in the changelog and not yet on the disk.
    ensure!(last.restored() < 20_000, "restored {}:\n{}", last.restored(), last.tail());
    group.caught_up()?;
    last.stop()?;
    every_count(&app)
}

/// A killed instance without its disk has all of its state from the changelog, and not more.
#[test]
fn kills_and_lost_disks() -> Result<()> {
    let app = app(&Kafka::shared()?, "eos-disk")?;
    LOAD.write(&app.kafka, &app.input)?;
    let group = app.group()?;
    for kill in 1..=2 {
        let mut instance = app.run("a")?;
        progress(&group, kill * 60_000)?;
        instance.kill()?;
        app.remove_state("a")?;
    }
    let mut last = app.run("a")?;
    group.caught_up()?;
    last.stop()?;
    every_count(&app)
}

/// One of two is stopped for longer than its session and its transaction last, while the other takes over. When it
/// wakes up it must not get anything of its former work committed, and goes on working.
#[test]
fn a_zombie() -> Result<()> {
    let mut app = app(&Kafka::shared()?, "eos-zombie")?;
    app.set("kafka.consumer.session.timeout.ms", "3000");
    app.set("kafka.consumer.heartbeat.interval.ms", "500");
    app.set("kafka.producer.transaction.timeout.ms", "2000");
    let group = app.group()?;
    let (mut zombie, mut other) = (app.run("a")?, app.run("b")?);
    LOAD.write(&app.kafka, &app.input)?;
    progress(&group, 20_000)?;
    zombie.signal(Signal::STOP)?;
    group.caught_up()?;
    zombie.signal(Signal::CONT)?;
    LOAD.write(&app.kafka, &app.input)?;
    group.caught_up()?;
    // Both have their share again.
    zombie.line_within(&["lost=true"], wait::LONG)?;
    zombie.nth_line(&["state=RUNNING"], 2, wait::LONG)?;
    ensure!(zombie.is_running()? && other.is_running()?, "an instance ended");
    zombie.stop()?;
    other.stop()?;
    every_count(&app)
}

/// What an instance goes through whose broker is not there for a while: it must stay.
fn outage(name: &str, happens: impl FnOnce(&OwnKafka, &Process) -> Result<()>) -> Result<()> {
    let own = OwnKafka::reserve()?;
    own.start()?;
    let app = app(&own.kafka(), name)?;
    let mut instance = app.run("a")?;
    let group = app.group()?;
    LOAD.write(&app.kafka, &app.input)?;
    progress(&group, 20_000)?;
    happens(&own, &instance)?;
    group.caught_up()?;
    ensure!(instance.is_running()?, "the instance ended:\n{}", instance.tail());
    instance.stop()?;
    every_count(&app)
}

/// Killed and started again: transactions time out or lose their coordinator.
#[test]
fn a_broker_that_dies() -> Result<()> {
    outage("eos-broker", |own, _| {
        own.kill(1)?;
        own.start()
    })
}

/// Frozen for longer than a transaction lasts: the commit under way times out at the client.
#[test]
fn a_broker_that_hangs() -> Result<()> {
    outage("eos-hang", |own, instance| {
        own.freeze(1)?;
        instance.line_within(&["dropped uncommitted"], Duration::from_secs(60))?;
        own.thaw(1)
    })
}
