//! Lets an application count on a Kafka while everything goes wrong around it, and then looks whether every record was
//! counted once. Run by `./mill soak`.

mod fault;
mod journal;
mod network;
mod disk;
mod instance;
mod brokers;
mod load;
mod watch;
mod verdict;
mod report;
mod run;

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::journal::Journal;

/// Faults by chance for some minutes, then a verdict. As root it cuts networks and fills disks, too.
#[derive(Parser, Debug)]
#[command(args_override_self = true)]
struct Options {
    /// How long faults are made.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The same seed makes the same faults; without one, a new one is chosen and said.
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    instances: u8,
    /// A single broker that is killed may forget to end a transaction (Apache Kafka 4.3), which blocks its readers for good.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
    brokers: u8,
    #[arg(long, value_enum, default_value = "exactly_once_v2")]
    guarantee: Guarantee,
    /// Where the logs of all processes are kept; if it fails, the brokers' data, too.
    #[arg(long)]
    logs: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Guarantee {
    AtLeastOnce,
    ExactlyOnceV2,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtLeastOnce => "at_least_once",
            Self::ExactlyOnceV2 => "exactly_once_v2",
        })
    }
}

impl Options {
    fn length(&self) -> Duration {
        Duration::from_secs_f64((self.minutes * 60.0).max(0.0))
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = options.seed.unwrap_or(now.as_secs() % 1_000_000);
    fs::create_dir_all(&options.logs).with_context(|| format!("create {}", options.logs.display()))?;
    let journal = Arc::new(Journal::new(&options.logs)?);
    listen(&journal)?;
    journal.say(&format!("seed {seed}: {options:?}"));
    let passed = run::run(&options, seed, &journal)?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A signal ends the run, and everything is cleaned up as at its end.
fn listen(journal: &Arc<Journal>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("listen for signals")?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let journal = Arc::clone(journal);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        journal.interrupt();
    });
    Ok(())
}
