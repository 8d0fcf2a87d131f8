//! Lets Apache Kafka's own tests judge Millrace. Run by `./mill oracle`, which starts the brokers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, process};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use millrace_e2e::eos::Fault::{Freeze, Kill, Stop};
use millrace_e2e::eos::Return::{AtOnce, Late};
use millrace_e2e::eos::Step::{Broker, Instances};
use millrace_e2e::eos::{self, Report, Step};
use millrace_e2e::kafka::Kafka;
use millrace_e2e::process::Process;
use millrace_e2e::{in_turn, relational, smoke};

const AT_LEAST_ONCE: &str = "at_least_once";

/// Apache Kafka's own tests, with Millrace as the application under test.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    judge: Judge,
}

#[derive(Subcommand)]
enum Judge {
    /// `StreamsEosTest`: instances are stopped, killed and frozen in turn, and brokers killed, while its driver writes;
    /// then it verifies.
    Eos(Eos),
    /// `StreamsSmokeTest`: instances are killed in turn, or stopped, while its driver writes, under the guarantee given.
    Smoke(Turns),
    /// `RelationalSmokeTest`: the same; under at-least-once instances are stopped in any case.
    Relational(Turns),
}

#[derive(clap::Args)]
struct Turns {
    /// How long instances are ended; the drivers write for longer.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(long, default_value = "exactly_once_v2")]
    guarantee: String,
    /// Instances are stopped in good order instead of killed.
    #[arg(long)]
    stop: bool,
    /// A key of the configuration file, as key=value; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    settings: Vec<(String, String)>,
    /// Where the logs of all processes go, in a folder for each run [millrace-oracle in the temporary files].
    #[arg(long)]
    logs: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Eos {
    /// How long to go on with that.
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// What may be done, to look into one of them; all without this option.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// A key of the configuration file, as key=value; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    settings: Vec<(String, String)>,
    /// Where the logs of all processes go, in a folder for each run [millrace-oracle in the temporary files].
    #[arg(long)]
    logs: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Stop,
    Kill,
    Freeze,
    Broker,
}

fn kind(step: &Step) -> Kind {
    match step {
        Instances(Stop, ..) => Kind::Stop,
        Instances(Kill, ..) => Kind::Kill,
        Instances(Freeze, ..) => Kind::Freeze,
        Broker(_) => Kind::Broker,
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("there is no =")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Again and again, until the time is over. Every instance gets each fault that it may get, and comes back both before
/// and after the others have noticed.
const STEPS: [Step; 12] = [
    Instances(Kill, &["a"], AtOnce),
    Instances(Stop, &["b"], AtOnce),
    Instances(Kill, &["c"], AtOnce),
    Instances(Stop, &["a"], Late),
    Instances(Kill, &["b"], Late),
    Instances(Stop, &["c"], AtOnce),
    Instances(Kill, &["a", "b", "c"], AtOnce),
    Broker(1),
    Instances(Freeze, &["b"], Late),
    Instances(Kill, &["c"], Late),
    Broker(2),
    Instances(Freeze, &["c"], Late),
];

fn main() -> Result<ExitCode> {
    let (passed, failed) = match Options::parse().judge {
        Judge::Eos(options) => {
            let logs = logs("eos", options.logs.as_deref())?;
            let report = eos(&options, &logs).map(|report| {
                let passed = report.verdicts.iter().filter(|verdict| verdict.delivered).count();
                (passed, report.verdicts.len() - passed)
            });
            counted(report, &logs)
        }
        Judge::Smoke(options) => {
            let logs = logs("smoke", options.logs.as_deref())?;
            let report = in_turn(&options, &logs, smoke::run).map(|report| {
                // As in Kafka's own tests: what is killed under at-least-once may have sent the last of it again.
                let twice = options.guarantee == AT_LEAST_ONCE && !options.stop && report.ends > 0;
                judged(&options, &report, report.verdict == smoke::SUCCESS || report.verdict == smoke::MORE && twice)
            });
            counted(report, &logs)
        }
        Judge::Relational(mut options) => {
            // Comments that were on their way when an instance was killed may be counted twice, which the driver takes for
            // a mistake.
            options.stop |= options.guarantee == AT_LEAST_ONCE;
            let logs = logs("relational", options.logs.as_deref())?;
            let report = in_turn(&options, &logs, relational::run);
            counted(report.map(|report| judged(&options, &report, report.verdict == relational::PASSED)), &logs)
        }
    };
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each run has a folder of its own: what found a flaw is not swept away by the next.
fn logs(judge: &str, given: Option<&Path>) -> Result<PathBuf> {
    let logs = given.map_or_else(|| env::temp_dir().join("millrace-oracle"), Path::to_path_buf);
    let logs = logs.join(format!("{judge}-{}", process::id()));
    fs::create_dir_all(&logs).context("create the directory for logs")?;
    Ok(logs)
}

/// How many verdicts were good and how many not.
fn counted(report: Result<(usize, usize)>, logs: &Path) -> (usize, usize) {
    println!("logs are in {}", logs.display());
    report.unwrap_or_else(|error| {
        println!("{error:?}");
        (0, 1)
    })
}

type Run = fn(&Kafka, &in_turn::Options<'_>) -> Result<in_turn::Report>;

/// One of the tests that instances are ended in turn during.
fn in_turn(options: &Turns, logs: &Path, run: Run) -> Result<in_turn::Report> {
    let mut settings = vec![("kafka.consumer.session.timeout.ms", "10000")];
    settings.extend(options.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let end_for = Duration::from_secs(options.seconds);
    let end = if options.stop { Process::stop } else { Process::kill };
    run(&Kafka::shared()?, &in_turn::Options { guarantee: &options.guarantee, settings: &settings, end, end_for, logs })
}

/// Tells how it went, and counts it.
fn judged(options: &Turns, report: &in_turn::Report, good: bool) -> (usize, usize) {
    let ended = if options.stop { "stopped" } else { "killed" };
    println!("{} instances {ended} under {}: {}", report.ends, options.guarantee, report.verdict);
    if !good {
        println!("{}", last_lines(&report.log));
    }
    (usize::from(good), usize::from(!good))
}

fn eos(options: &Eos, logs: &Path) -> Result<Report> {
    let mut settings =
        vec![("processing.guarantee", "exactly_once_v2"), ("kafka.consumer.session.timeout.ms", "10000")];
    settings.extend(options.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let kafka = Kafka::shared()?;
    let cluster = kafka.bootstrap.contains(',');
    let wanted = |kind| options.faults.is_empty() || options.faults.contains(&kind);
    let possible = |step: &Step| wanted(kind(step)) && (cluster || kind(step) != Kind::Broker);
    ensure!(STEPS.iter().any(possible), "no fault is left to be tried: brokers are killed in a cluster only");
    let (start, limit) = (Instant::now(), Duration::from_secs(options.seconds));
    let steps = STEPS.into_iter().cycle().filter(possible).take_while(|step| {
        let seconds = start.elapsed().as_secs_f64();
        let goes_on = start.elapsed() < limit;
        println!("{seconds:5.1} s  {}", if goes_on { format!("{step:?}") } else { "the end".to_owned() });
        goes_on
    });
    let report = eos::run(&kafka, &eos::Options { settings: &settings, logs: Some(logs) }, steps)?;

    let seconds = report.processed_for.as_secs_f64();
    println!(
        "{} records in {seconds:.0} s; {:?}, brokers killed: {}",
        report.records, report.faults, report.broker_kills
    );
    for verdict in &report.verdicts {
        let said = if verdict.delivered { eos::DELIVERED } else { last_lines(&verdict.log) };
        println!("{}: {said}", verdict.command);
    }
    Ok(report)
}

/// Where a Java program says what it died of.
fn last_lines(text: &str) -> &str {
    let start = text.trim_end().rmatch_indices('\n').nth(7).map_or(0, |(at, _)| at);
    &text[start..]
}
