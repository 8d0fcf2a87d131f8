//! `millrace module`: looks into a component, and pushes, activates and lists the versions of an application.

mod change;
mod inspect;
mod show;

use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;

pub(super) use show::report;

use super::{ConfigArgs, LogArgs};
use crate::app::{Terms, bytes};
use crate::config::Config;
use crate::kafka::Clients;
use crate::module::{COMPONENT_MAX_BYTES, Reader};

#[derive(Debug, Subcommand)]
pub(super) enum ModuleCommand {
    /// Say what a component is: imports, exports, contract, size, topology
    Inspect {
        /// The WebAssembly component
        file: PathBuf,
    },
    /// Store a component as the next version and make it active: running instances take it up
    Push {
        /// The WebAssembly component; - for standard input
        file: PathBuf,
        /// A difference of the topology that is accepted, as the refusal names it: store:counts
        #[arg(long, value_name = "DIFFERENCE")]
        allow: Vec<String>,
        /// Run it on so many tasks first; on all when it has come through its trial there
        #[arg(long, value_name = "TASKS", value_parser = clap::value_parser!(u32).range(1..))]
        canary: Option<u32>,
        /// What the version is, for `list`
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List versions, which one is active, and what each instance runs
    List(ConfigArgs),
    /// Print a version with its topology
    Show {
        version: u64,
        /// Write the component to this file, too
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Make a version active; one that runs on some tasks is run on all
    Activate {
        version: u64,
        /// Run it on so many tasks first; on all when it has come through its trial there
        #[arg(long, value_name = "TASKS", value_parser = clap::value_parser!(u32).range(1..))]
        canary: Option<u32>,
        /// A difference of the topology that is accepted, as the refusal names it: store:counts
        #[arg(long, value_name = "DIFFERENCE")]
        allow: Vec<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Make the version active that was so before
    Rollback {
        /// Why, for `list`
        #[arg(long, value_name = "TEXT", default_value = "by hand")]
        reason: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Delete old versions
    Prune {
        /// Of the versions that are neither active nor the one before, keep so many
        #[arg(long, default_value_t = 3)]
        keep: usize,
        /// Forget what this instance ran: it is gone for good
        #[arg(long, value_name = "INSTANCE")]
        forget: Vec<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Say in what two topologies differ, and whether the second may take the place of the first
    Diff {
        /// A version or a file; the active version if only one is given
        first: String,
        /// A version or a file
        second: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) fn run(log: &LogArgs, command: ModuleCommand) -> anyhow::Result<()> {
    match command {
        ModuleCommand::Inspect { file } => inspect::run(log, &file),
        ModuleCommand::Push { file, allow, canary, note, config } => {
            change::push(&log.load(&config)?, &file, Terms { allow, canary }, note)
        }
        ModuleCommand::List(config) => show::list(&log.load(&config)?),
        ModuleCommand::Show { version, output, config } => show::show(&log.load(&config)?, version, output.as_deref()),
        ModuleCommand::Activate { version, canary, allow, config } => {
            change::activate(&log.load(&config)?, version, Terms { allow, canary })
        }
        ModuleCommand::Rollback { reason, config } => change::rollback(&log.load(&config)?, reason),
        ModuleCommand::Prune { keep, forget, config } => change::prune(&log.load(&config)?, keep, &forget),
        ModuleCommand::Diff { first, second, config } => show::diff(&log.load(&config)?, &first, second.as_deref()),
    }
}

/// Clients of a command, which process nothing.
fn clients(config: &Config) -> Clients {
    Clients::new(config, String::new())
}

/// The versions there are; the command has nothing to do without any.
fn reader(config: &Config) -> anyhow::Result<Reader> {
    match Reader::open(&clients(config))? {
        Some(reader) => Ok(reader),
        None => bail!(
            "nothing was ever pushed for {}: `millrace module push FILE` makes a first version",
            config.application_id
        ),
    }
}

/// The component in a file, or in the standard input if that is called `-`: a user that is not the one who made the
/// pipe can't open `/dev/stdin`.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let doing = || format!("read module {}", file.display());
    let most = COMPONENT_MAX_BYTES as u64;
    let opened: Box<dyn Read> =
        if file == Path::new("-") { Box::new(stdin()) } else { Box::new(File::open(file).with_context(doing)?) };
    let mut component = Vec::new();
    opened.take(most + 1).read_to_end(&mut component).with_context(doing)?;
    if component.len() as u64 > most {
        bail!(
            "module {} has more than {}, which is the most: build it without debug information (strip = true), and keep \
             data in topics",
            file.display(),
            bytes(most)
        );
    }
    Ok(component)
}

/// How long ago that was, for people.
fn age(at_ms: i64) -> String {
    let seconds = (crate::app::now_ms() - at_ms).max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
