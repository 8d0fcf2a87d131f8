//! Sets up the log, once. Lines go to standard error: standard output is for what was asked for.

use std::io::IsTerminal;
use std::sync::OnceLock;

use anyhow::{Context, anyhow};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::fmt;

use crate::config::{Invalid, LogConfig, LogFormat};

/// How lines are written, once the log has started.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

pub(super) fn start(log: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&log.filter).with_context(|| format!("read log.level {}", log.filter))?;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|error| anyhow!("start the log: {error}"))?;
    FORMAT.get_or_init(|| log.format);
    Ok(())
}

/// Says why a command failed: plainly, unless a machine reads the log.
pub(super) fn report(error: &anyhow::Error) {
    match (FORMAT.get(), error.downcast_ref::<Invalid>()) {
        (Some(LogFormat::Json), _) => tracing::error!("{error:#}"),
        (_, Some(invalid)) => invalid.lines().iter().for_each(|line| eprintln!("error: {line}")),
        (_, None) => eprintln!("error: {error:#}"),
    }
}
