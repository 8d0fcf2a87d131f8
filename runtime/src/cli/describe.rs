//! `millrace describe`: prints the topology of a module. Must not know how a module is run.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::{ConfigArgs, LogArgs};
use crate::app::Application;
use crate::config::{Config, Environment, Options};

#[derive(Debug, clap::Args)]
pub(super) struct DescribeArgs {
    /// The WebAssembly component, in place of a configuration
    #[arg(conflicts_with_all = ["config", "module"])]
    component: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// As Kafka Streams describes the same topology, so that `diff` can compare them
    #[default]
    Text,
    /// For Graphviz
    Dot,
    /// For Markdown that draws it
    Mermaid,
}

pub(super) fn run(log: &LogArgs, args: &DescribeArgs) -> anyhow::Result<()> {
    let config = match &args.component {
        Some(module) => without_file(log, module)?,
        None => log.load(&args.config)?,
    };
    let application = Application::load(&config)?;
    let plan = application.plan();
    super::print(&match args.format {
        Format::Text => plan.describe(),
        Format::Dot => plan.dot(),
        Format::Mermaid => plan.mermaid(),
    })
}

/// A module alone has no application id and no brokers, and neither shows in what is printed.
pub(super) fn without_file(log: &LogArgs, module: &Path) -> anyhow::Result<Config> {
    log.start("info")?;
    bare_config(module)
}

/// The same with the log left alone.
pub(super) fn bare_config(module: &Path) -> anyhow::Result<Config> {
    let options = Options { module: Some(module.to_owned()), ..Options::default() };
    let text = "application.id = 'topology'\nkafka.bootstrap.servers = 'none'";
    Ok(Config::parse(Path::new("no file"), text, &Environment::default(), &options)?)
}
