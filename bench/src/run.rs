//! One measured run: start an application on input that is there already, watch it until the last record is through, stop
//! it, and verify its output. Both sides are watched in the same way, from outside.

use std::env;
use std::fmt;
use std::process::{self, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, verify};
use millrace_e2e::group::Group;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::process::Process;
use millrace_e2e::{setting, topics, wait};

use crate::machine;
use crate::report::{Figure, Measurement};
use crate::scenario::{Kind, Scenario};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    Millrace,
    KafkaStreams,
    /// No logic and no state: the limit.
    PassThrough,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Millrace => "Millrace",
            Self::KafkaStreams => "Kafka Streams",
            Self::PassThrough => "pass-through",
        })
    }
}

impl Side {
    /// The line it says that it is running with.
    pub(crate) fn running(self) -> &'static [&'static str] {
        if self == Self::Millrace { &["state=RUNNING"] } else { &["event=RUNNING"] }
    }
}

/// All of the application's own process, from its start on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// From RUNNING until the last record was through.
    pub records_per_s: f64,
    pub cpu_s_per_million: f64,
    pub peak_rss_mb: f64,
    pub start_to_running_s: f64,
    pub broker_cpu_s: f64,
    /// Cores that neither the application, nor the broker, nor the bench used.
    pub other_cores: f64,
    pub outputs: u64,
}

impl Measurement for Measured {
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

impl fmt::Display for Measured {
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

/// CPU seconds at one moment.
struct Clocks {
    app: f64,
    broker: f64,
    bench: f64,
    machine: f64,
}

impl Clocks {
    fn read(app: Option<u32>) -> Result<Self> {
        Ok(Self {
            app: app.map_or(Ok(0.0), machine::cpu_seconds)?,
            broker: machine::cpu_seconds(setting::kafka_pid()?)?,
            bench: machine::cpu_seconds(process::id())?,
            machine: machine::busy_seconds()?,
        })
    }
}

/// What all runs have in common.
pub(crate) struct Bench {
    pub kafka: Kafka,
    pub input: String,
    pub partitions: i32,
    pub records: u64,
    /// Of Millrace, over those of a scenario.
    pub settings: Vec<(String, String)>,
}

impl Bench {
    pub(crate) fn drain(&self, scenario: &Scenario, side: Side) -> Result<Measured> {
        let kafka = &self.kafka;
        let mut app = App::without_topics(kafka, "bench")?;
        app.read_from(&self.input);
        topics::create(kafka, &app.output, self.partitions, &[])?;
        if side == Side::PassThrough {
            topics::create(kafka, &app.changelog(), self.partitions, &[("cleanup.policy", "compact")])?;
        }

        let before = Clocks::read(None)?;
        let mut process = self.start(&mut app, scenario, side)?;
        let running = process.line(side.running())?.at;
        let done = self.last_record(&app, scenario, side, &mut process)?;
        let after = Clocks::read(Some(process.pid()))?;
        let peak_rss_mb = machine::peak_rss_mb(process.pid())?;
        let elapsed = process.started.elapsed().as_secs_f64();
        let outputs = self.verified(&app, scenario.expect, side, &mut process)?;

        let count = f64::from(u32::try_from(self.records)?);
        let (broker_cpu_s, bench_cpu_s) = (after.broker - before.broker, after.bench - before.bench);
        Ok(Measured {
            records_per_s: count / (done - running).as_secs_f64(),
            cpu_s_per_million: after.app / count * 1e6,
            peak_rss_mb,
            start_to_running_s: (running - process.started).as_secs_f64(),
            broker_cpu_s,
            other_cores: (after.machine - before.machine - after.app - broker_cpu_s - bench_cpu_s).max(0.0) / elapsed,
            outputs,
        })
    }

    pub(crate) fn start(&self, app: &mut App, scenario: &Scenario, side: Side) -> Result<Process> {
        match side {
            Side::Millrace => {
                for (key, value) in scenario.millrace {
                    app.set(key, value);
                }
                for (key, value) in &self.settings {
                    app.set(key, value);
                }
                for (name, value) in scenario.module {
                    app.environment(name, value);
                }
                app.start("bench")
            }
            Side::KafkaStreams => {
                let mut peer = app.plain_peer()?.option("expect", &self.records.to_string()).option("leave.group", "1");
                if scenario.kind == Kind::Restart {
                    peer = peer.option("instance.id", "bench");
                }
                for (name, value) in scenario.kafka_streams {
                    peer = peer.option(name, value);
                }
                peer.start()
            }
            Side::PassThrough => {
                let mut command = Command::new(env::current_exe().context("find this program")?);
                command.args(["pass-through", "--input", &app.input, "--output", &app.output]);
                Process::start("pass-through", command.args(["--changelog", &app.changelog()]))
            }
        }
    }

    /// Waits until the last record is through, and says when that was.
    fn last_record(&self, app: &App, scenario: &Scenario, side: Side, process: &mut Process) -> Result<Instant> {
        let goal = i64::try_from(self.records)?;
        let output = Group::new(&self.kafka, &app.id, &app.output)?;
        let group = Group::new(&self.kafka, &app.id, &self.input)?;
        wait::until("the last record", Duration::from_secs(900), || {
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
    fn verified(&self, app: &App, expect: Expect, side: Side, process: &mut Process) -> Result<u64> {
        if side == Side::PassThrough {
            process.kill()?;
            return Ok(u64::try_from(Group::new(&self.kafka, &app.id, &app.output)?.end()?)?);
        }
        process.stop()?;
        let verified = verify(&self.kafka, &self.input, &app.output, expect)?;
        ensure!(verified.input == self.records, "the input has {} records, not {}", verified.input, self.records);
        Ok(verified.output)
    }
}
