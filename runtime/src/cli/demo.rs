//! `millrace demo`: the reference run on an embedded broker, told step by step.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::embedded::{Embedded, parse_line, show};
use crate::app::Running;
use crate::config::Config;
use crate::kafka::Tail;

const RECORDS: [&str; 5] = ["foo:bar", "hello:world", "hello:universe", "foo:baz", "john:doe"];
/// Goes on from the state of the first run: without it the count would be 1.
const ONE_MORE: &str = "foo:again";
/// A first join of the embedded broker's group alone takes three seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the demo; `config` is the reference configuration.
pub(super) fn run(config: Config) -> anyhow::Result<()> {
    let directory = tempfile::tempdir().context("make a directory for the state of the demo")?;
    let application_id = config.application_id.clone();
    let embedded = Embedded::start(config, directory.path(), 4)?;
    let mut tail = embedded.tail()?;
    step(&format!("an embedded broker listens on {}", embedded.config().kafka.bootstrap_servers));
    step(&format!(
        "running {application_id}: {} -> count -> {}",
        embedded.inputs().join(", "),
        embedded.outputs().join(", ")
    ));
    let running = embedded.run()?;
    step(&format!("five records: {}", RECORDS.join(" ")));
    feed(&embedded, &running, &RECORDS)?;
    expect(&mut tail, &running, &["foo = 2", "hello = 2", "john = 1"])?;
    let state = directory.path().join(&application_id);
    step(&format!("state directories: ls {}", state.display()));
    for task in task_directories(&state)? {
        println!("    {task}");
    }
    step("the application stops");
    running.stop()?;
    step("and starts again: its state is on disk, nothing is restored");
    let running = embedded.run()?;
    step(&format!("one more record: {ONE_MORE}"));
    feed(&embedded, &running, &[ONE_MORE])?;
    expect(&mut tail, &running, &["foo = 3"])?;
    running.stop()?;
    step("done: foo was counted on from where the first run left it");
    Ok(())
}

fn step(text: &str) {
    println!("==> {text}");
}

fn feed(embedded: &Embedded, running: &Running, lines: &[&str]) -> anyhow::Result<()> {
    let topic = embedded.inputs().first().context("the topology reads no topic by name")?;
    let mut feeder = embedded.feeder()?;
    for line in lines {
        let (key, value) = parse_line(line);
        feeder.feed(topic, key, value, &|| !running.is_finished())?;
    }
    feeder.flush()?;
    Ok(())
}

/// Prints what arrives until all of `wanted` has.
fn expect(tail: &mut Tail, running: &Running, wanted: &[&str]) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut missing = wanted.to_vec();
    while !missing.is_empty() {
        if let Some(seen) = tail.next(Duration::from_millis(100))? {
            let line = show(&seen);
            println!("    {line}");
            missing.retain(|wanted| !line.ends_with(wanted));
        } else if running.is_finished() {
            bail!("the application ended early; its messages are above");
        } else if Instant::now() > deadline {
            bail!("{} did not arrive within {} s", missing.join(", "), PATIENCE.as_secs());
        }
    }
    Ok(())
}

fn task_directories(state: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(state).with_context(|| format!("list {}", state.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", state.display()))?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
