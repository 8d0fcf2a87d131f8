//! Stops, kills and starts: nothing is lost, and no more is restored than must be.

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, Load, verify};
use millrace_e2e::kafka::Kafka;
use millrace_e2e::wait;

const LOAD: Load = Load { records: 20_000, keys: 1_000, value_size: 20, seed: 3 };

#[test]
fn a_clean_restart_restores_nothing() -> Result<()> {
    let app = App::new(&Kafka::shared()?, "clean")?;
    LOAD.write(&app.kafka, &app.input)?;
    let mut first = app.run("a")?;
    app.outputs(20_000)?;
    first.stop()?;
    let group = app.group()?;
    ensure!(group.progress()? == group.end()?, "SIGTERM must commit what was processed");

    let mut second = app.run("a")?;
    ensure!(second.restored() == 0, "restored {}:\n{}", second.restored(), second.tail());
    LOAD.write(&app.kafka, &app.input)?;
    app.outputs(40_000)?;
    second.stop()?;
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}

#[test]
fn lost_state_is_restored_from_the_changelog() -> Result<()> {
    let app = App::new(&Kafka::shared()?, "lost")?;
    LOAD.write(&app.kafka, &app.input)?;
    let mut first = app.run("a")?;
    app.outputs(20_000)?;
    first.stop()?;
    app.remove_state("a")?;

    let mut second = app.run("a")?;
    // At least every key once; more if several commits wrote it and nothing was compacted since.
    ensure!(second.restored() >= 1_000, "restored {}:\n{}", second.restored(), second.tail());
    LOAD.write(&app.kafka, &app.input)?;
    app.outputs(40_000)?;
    second.stop()?;
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}

/// Local state and the input offset are stored together, so on the same disk nothing is counted twice.
#[test]
fn a_kill_counts_nothing_twice_on_the_same_disk() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "kill")?;
    app.set("commit.interval.ms", "200");
    let load = Load { records: 200_000, keys: 5_000, ..LOAD };
    load.write(&app.kafka, &app.input)?;
    let group = app.group()?;
    let mut goal = 30_000;
    for _ in 0..3 {
        let mut instance = app.run("a")?;
        wait::until("some progress", wait::LONG, || Ok((group.progress()? >= goal).then_some(())))?;
        instance.kill()?;
        goal += 40_000;
    }
    let mut last = app.run("a")?;
    group.caught_up()?;
    last.stop()?;
    // Outputs of a commit that was cut short are there twice; the counts are right.
    verify(&app.kafka, &app.input, &app.output, Expect::Last).map(drop)
}

/// Restoring from the changelog alone, under at-least-once, may count the last commit's records again, and never fewer.
#[test]
fn a_kill_and_a_lost_disk_lose_nothing() -> Result<()> {
    let app = App::new(&Kafka::shared()?, "disk")?;
    LOAD.write(&app.kafka, &app.input)?;
    let mut first = app.run("a")?;
    app.group()?.caught_up()?;
    first.kill()?;
    app.remove_state("a")?;
    let mut second = app.run("a")?;
    LOAD.write(&app.kafka, &app.input)?;
    app.group()?.caught_up()?;
    second.stop()?;
    // Everything was committed before the kill, so even here the counts are exact.
    verify(&app.kafka, &app.input, &app.output, Expect::Last).map(drop)
}
