//! One measured run on input that is there already: start an application, watch it until the last record is through, stop
//! it, and verify its output. Both sides are watched in the same way, from outside.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, verify, verify_windows};
use millrace_e2e::group::Group;
use millrace_e2e::process::Process;
use millrace_e2e::{topics, wait};

use crate::bench::Bench;
use crate::load::Records;
use crate::machine::{Clocks, Memory};
use crate::report::{Figure, Measurement};
use crate::scenario::{Kind, Scenario};
use crate::side::Side;

/// All of the application's own process, from its start on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    /// From RUNNING until the last record was through.
    pub records_per_s: f64,
    pub cpu_s_per_million: f64,
    pub peak_rss_mb: f64,
    pub start_to_running_s: f64,
    pub broker_cpu_s: f64,
    pub other_cores: f64,
    pub outputs: u64,
}

impl Measurement for Drained {
    const FIGURES: &[Figure<Self>] = &[
        ("records_per_s", |m| m.records_per_s),
        ("cpu_s_per_million", |m| m.cpu_s_per_million),
        ("peak_rss_mb", |m| m.peak_rss_mb),
        ("start_to_running_s", |m| m.start_to_running_s),
        ("broker_cpu_s", |m| m.broker_cpu_s),
        ("other_cores", |m| m.other_cores),
    ];
    const COMPARED: &[(&str, &str)] =
        &[("records_per_s", "records_per_s"), ("cpu", "cpu_s_per_million"), ("rss", "peak_rss_mb")];
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} records/s, {:.1} CPU-s per million, {:.0} MB, running after {:.2} s, {} outputs, other load {:.2} cores",
            self.records_per_s,
            self.cpu_s_per_million,
            self.peak_rss_mb,
            self.start_to_running_s,
            self.outputs,
            self.other_cores
        )
    }
}

impl Bench {
    /// `settings` are those of both sides.
    pub(crate) fn drain(
        &self,
        scenario: &Scenario,
        side: Side,
        input: &str,
        records: &Records,
        settings: &[(&str, &str)],
    ) -> Result<Drained> {
        let kafka = &self.kafka;
        let mut app = App::without_topics(kafka, "bench")?;
        app.read_from(input);
        topics::create(kafka, &app.output, records.partitions, &[])?;
        if side == Side::PassThrough {
            topics::create(kafka, &app.changelog(), records.partitions, &[("cleanup.policy", "compact")])?;
        }
        let count = records.count();
        let mut instance = self.instance(scenario, side).peer_option("expect", &count.to_string());
        for (name, value) in settings {
            instance = instance.setting(name, value);
        }

        let before = Clocks::read(&[])?;
        let mut process = instance.start(&mut app)?;
        let running = process.line(side.running())?.at;
        let done = last_record(&app, scenario, side, &mut process, count)?;
        let used = Clocks::read(&[process.pid()])?.since(&before);
        let memory = Memory::of(process.pid())?;
        let outputs = verified(&app, scenario, side, &mut process, count)?;
        self.forget(&app)?;

        let count = records.read() as f64;
        Ok(Drained {
            records_per_s: count / (done - running).as_secs_f64(),
            cpu_s_per_million: used.app_cpu_s / count * 1e6,
            peak_rss_mb: memory.peak,
            start_to_running_s: (running - process.started).as_secs_f64(),
            broker_cpu_s: used.broker_cpu_s,
            other_cores: used.other_cores,
            outputs,
        })
    }
}

/// Waits until the last record is through, and says when that was.
pub(crate) fn last_record(
    app: &App,
    scenario: &Scenario,
    side: Side,
    process: &mut Process,
    count: u64,
) -> Result<Instant> {
    let goal = i64::try_from(count)?;
    let output = Group::new(&app.kafka, &app.id, &app.output)?;
    let group = app.group()?;
    wait::until("the last record", Duration::from_secs(1800), || {
        ensure!(process.is_running()?, "it ended:\n{}", process.tail());
        Ok(match (scenario.expect, side) {
            _ if scenario.exactly_once => (group.progress()? >= goal).then(Instant::now),
            // An output for each input: the end of the output tells.
            (Expect::EveryCount, _) => (output.end()? >= goal).then(Instant::now),
            // Fewer outputs than inputs. Kafka Streams commits every 30 s, so its own counter of records is asked,
            // which is before its commit and so in its favour.
            (_, Side::KafkaStreams) => process.has_line(&["event=PROCESSED"]).map(|line| line.at),
            (_, Side::Millrace | Side::PassThrough) => (group.progress()? >= goal).then(Instant::now),
        })
    })
}

/// Stops it, and returns how many outputs there are, if they are right.
pub(crate) fn verified(app: &App, scenario: &Scenario, side: Side, process: &mut Process, count: u64) -> Result<u64> {
    if side == Side::PassThrough {
        process.kill()?;
        return Ok(u64::try_from(Group::new(&app.kafka, &app.id, &app.output)?.end()?)?);
    }
    process.stop()?;
    let verified = match scenario.kind {
        Kind::Windows => verify_windows(&app.kafka, &app.input, &app.output, 1_000, scenario.expect)?,
        _ => verify(&app.kafka, &app.input, &app.output, scenario.expect)?,
    };
    ensure!(verified.input == count, "the input has {} records, not {count}", verified.input);
    Ok(verified.output)
}
