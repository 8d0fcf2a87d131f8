//! Lets Apache Kafka's own tests judge Millrace. Run by `./mill oracle`, which starts the brokers.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use millrace_e2e::eos::Fault::{Freeze, Kill, Stop};
use millrace_e2e::eos::Return::{AtOnce, Late};
use millrace_e2e::eos::{self, Step};
use millrace_e2e::kafka::Kafka;

/// Apache Kafka's own tests, with Millrace as the application under test.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    judge: Judge,
}

#[derive(Subcommand)]
enum Judge {
    /// `StreamsEosTest`: instances are stopped, killed and frozen in turn while its driver writes; then it verifies.
    Eos(Eos),
}

#[derive(clap::Args)]
struct Eos {
    /// How long to go on with that.
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// A key of the configuration file, as key=value; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    settings: Vec<(String, String)>,
    /// Where the logs of all processes go [millrace-oracle in the directory for temporary files].
    #[arg(long)]
    logs: Option<PathBuf>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("there is no =")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Again and again, until the time is over. Every instance gets each fault that it may get, and comes back both before
/// and after the others have noticed.
const STEPS: [Step; 10] = [
    Step(Kill, &["a"], AtOnce),
    Step(Stop, &["b"], AtOnce),
    Step(Kill, &["c"], AtOnce),
    Step(Stop, &["a"], Late),
    Step(Kill, &["b"], Late),
    Step(Stop, &["c"], AtOnce),
    Step(Kill, &["a", "b", "c"], AtOnce),
    Step(Freeze, &["b"], Late),
    Step(Kill, &["c"], Late),
    Step(Freeze, &["c"], Late),
];

fn main() -> Result<ExitCode> {
    match Options::parse().judge {
        Judge::Eos(options) => eos(&options),
    }
}

fn eos(options: &Eos) -> Result<ExitCode> {
    let logs = options.logs.clone().unwrap_or_else(|| env::temp_dir().join("millrace-oracle"));
    if logs.exists() {
        fs::remove_dir_all(&logs).context("remove the logs of the last run")?;
    }
    fs::create_dir_all(&logs).context("create the directory for logs")?;
    let mut settings =
        vec![("processing.guarantee", "exactly_once_v2"), ("kafka.consumer.session.timeout.ms", "10000")];
    settings.extend(options.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let start = Instant::now();
    let limit = Duration::from_secs(options.seconds);
    let steps = STEPS.into_iter().cycle().take_while(|step| {
        let goes_on = start.elapsed() < limit;
        if goes_on {
            println!("{:5.1} s  {step:?}", start.elapsed().as_secs_f64());
        }
        goes_on
    });
    let report = eos::run(&Kafka::shared()?, &eos::Options { settings: &settings, logs: Some(&logs) }, steps)
        .with_context(|| format!("the logs are in {}", logs.display()))?;

    println!("{} records in {:.0} s; faults: {:?}", report.records, report.processed_for.as_secs_f64(), report.faults);
    let (passed, failed): (Vec<_>, Vec<_>) = report.verdicts.iter().partition(|verdict| verdict.delivered);
    for verdict in &report.verdicts {
        let said = if verdict.delivered { eos::DELIVERED } else { last_lines(&verdict.log) };
        println!("{}: {said}", verdict.command);
    }
    println!("logs are in {}", logs.display());
    println!("{} passed, {} failed", passed.len(), failed.len());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a Java program says what it died of.
fn last_lines(text: &str) -> &str {
    let start = text.trim_end().rmatch_indices('\n').nth(7).map_or(0, |(at, _)| at);
    &text[start..]
}
