//! One measured run on a state that is larger than all caches: each key is written once, then some of them again.

use std::fmt;
use std::str;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::verify;
use millrace_e2e::group::Group;
use millrace_e2e::{topics, wait};

use crate::bench::{self, Bench};
use crate::load::{Keys, Records};
use crate::machine::{Clocks, Memory};
use crate::report::{Figure, Measurement};
use crate::scenario::Scenario;
use crate::side::Side;

const LIMIT: Duration = Duration::from_secs(3600);

/// What the configuration of Millrace sets limits to: state, and records that wait.
const BUDGETS: &[&str] = &[
    "statestore.uncommitted.max.bytes",
    "rocksdb.block.cache.bytes",
    "rocksdb.write.buffer.bytes",
    "input.buffer.max.bytes",
];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Large {
    /// While each key came for the first time.
    fill_per_s: f64,
    updates_per_s: f64,
    cpu_s_per_million: f64,
    peak_rss_mb: f64,
    /// The sum of what the configuration allows, which Kafka Streams has no word for.
    budget_mb: f64,
    /// Of the stores on the disk, at the end.
    state_mb: f64,
    other_cores: f64,
}

impl Measurement for Large {
    const FIGURES: &[Figure<Self>] = &[
        ("fill_per_s", |m| m.fill_per_s),
        ("updates_per_s", |m| m.updates_per_s),
        ("cpu_s_per_million", |m| m.cpu_s_per_million),
        ("peak_rss_mb", |m| m.peak_rss_mb),
        ("budget_mb", |m| m.budget_mb),
        ("state_mb", |m| m.state_mb),
        ("other_cores", |m| m.other_cores),
    ];
    const COMPARED: &[(&str, &str)] = &[
        ("fill_per_s", "fill_per_s"),
        ("records_per_s", "updates_per_s"),
        ("cpu", "cpu_s_per_million"),
        ("rss", "peak_rss_mb"),
    ];
}

impl fmt::Display for Large {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fill_per_s, updates_per_s, cpu_s_per_million, peak_rss_mb, state_mb, .. } = self;
        write!(
            f,
            "{fill_per_s:.0} new keys/s, {updates_per_s:.0} updates/s, {cpu_s_per_million:.1} CPU-s per million, \
             {peak_rss_mb:.0} MB, {state_mb:.0} MB on disk"
        )
    }
}

impl Bench {
    pub(crate) fn measure_large_state(&self, scenario: &Scenario, keys: Keys) -> Result<()> {
        let count = self.sizes.keys(4_000_000, 200_000);
        let load = self.sizes.load(self.sizes.records.unwrap_or(count / 2), count);
        let records = Records { load, keys, filled: true, pairs: false, partitions: self.sizes.partitions };
        let input = self.inputs.topic(&records)?;
        self.compare(scenario, &bench::facts(&records), |side| self.large_state(scenario, side, &input, &records))?;
        self.inputs.forget(&input)
    }

    fn large_state(&self, scenario: &Scenario, side: Side, input: &str, records: &Records) -> Result<Large> {
        let mut app = App::without_topics(&self.kafka, "bench-large")?;
        app.read_from(input);
        topics::create(&self.kafka, &app.output, records.partitions, &[])?;
        let before = Clocks::read(&[])?;
        let mut process = self.instance(scenario, side).start(&mut app)?;
        let running = process.line(side.running())?.at;
        // There is an output for each input.
        let output = Group::new(&self.kafka, &app.id, &app.output)?;
        let mut reach = |goal: u64| {
            let goal = i64::try_from(goal)?;
            wait::until(&format!("{goal} records"), LIMIT, || {
                ensure!(process.is_running()?, "it ended:\n{}", process.tail());
                Ok((output.end()? >= goal).then(Instant::now))
            })
        };
        let filled = reach(records.load.keys)?;
        let done = reach(records.count())?;
        let used = Clocks::read(&[process.pid()])?.since(&before);
        let memory = Memory::of(process.pid())?;
        process.stop()?;
        let state = if side == Side::Millrace { app.state_dir("bench") } else { app.state_dir("java-bench") };
        let state_mb = size_of(&state)? as f64 / 1e6;
        verify(&self.kafka, input, &app.output, scenario.expect)?;
        let budget_mb = if side == Side::Millrace { budget_mb(&app)? } else { f64::NAN };
        self.forget(&app)?;
        Ok(Large {
            fill_per_s: records.load.keys as f64 / (filled - running).as_secs_f64(),
            updates_per_s: records.load.records as f64 / (done - filled).as_secs_f64(),
            cpu_s_per_million: used.app_cpu_s / records.count() as f64 * 1e6,
            peak_rss_mb: memory.peak,
            budget_mb,
            state_mb,
            other_cores: used.other_cores,
        })
    }
}

fn size_of(dir: &std::path::Path) -> Result<u64> {
    let sizes = millrace_e2e::app::files(dir)?.into_iter().map(|file| Ok(file.metadata()?.len()));
    sizes.sum()
}

/// What is in force, from `millrace config`.
fn budget_mb(app: &App) -> Result<f64> {
    let output = app.command("config", "bench")?.output().context("run millrace config")?;
    sum_of_budgets(str::from_utf8(&output.stdout)?)
}

fn sum_of_budgets(config: &str) -> Result<f64> {
    let value = |key: &&str| {
        let value = config.lines().find_map(|line| line.strip_prefix(*key)?.split_whitespace().next());
        mib(value.with_context(|| format!("millrace config says nothing of {key}"))?)
    };
    BUDGETS.iter().map(value).sum()
}

/// A size as `millrace config` prints it.
fn mib(text: &str) -> Result<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1.0 / 1024.0 / 1024.0,
        "KiB" => 1.0 / 1024.0,
        "MiB" => 1.0,
        "GiB" => 1024.0,
        other => anyhow::bail!("{text}: no such unit as {other}"),
    };
    Ok(digits.parse::<f64>().with_context(|| format!("{text} is no size"))? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_is_read_from_the_configuration() {
        let config = "application.id                    x      default\n\
                      statestore.uncommitted.max.bytes  64MiB  default\n\
                      rocksdb.block.cache.bytes         1GiB   default\n\
                      rocksdb.write.buffer.bytes        512KiB default\n\
                      input.buffer.max.bytes            524288 default\n";
        assert!((sum_of_budgets(config).expect("all is there") - 1089.0).abs() < 1e-9);
        assert!(sum_of_budgets("input.buffer.max.bytes 1MiB").is_err(), "a key that was renamed is not zero");
        assert!(mib("12parsecs").is_err());
    }
}
