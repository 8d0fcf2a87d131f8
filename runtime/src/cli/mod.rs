//! Owns the commands of the binary and what they print.

mod check;
mod demo;
mod describe;
mod dev;
mod embedded;
mod group;
mod lag;
mod logging;
mod module;
mod new;
mod progress;
mod reset;
mod state;
mod table;
mod tasks;
mod test;
mod verify;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::app;
use crate::config::{self, Config, Environment, Invalid, LogConfig, LogFormat, Options};

/// Runs Kafka Streams topologies that are packed as WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 it worked, or a signal ended it in good order; 1 it failed; 2 the command line or the configuration is wrong.";

#[derive(Debug, Args)]
struct LogArgs {
    /// Log in lines for people or one JSON object per line; goes before log.format
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// Log more: our own steps, with -vv everybody's; goes before log.level
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the topology on Kafka until SIGTERM or SIGINT
    Run {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Run the topology on an embedded broker, with input from the terminal or a pipe
    Dev {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        dev: dev::DevArgs,
    },
    /// Show the reference topology at work on an embedded broker
    Demo {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Validate configuration and module, also against the state there is, without a broker
    Check(ConfigArgs),
    /// Print the topology of a module
    Describe(describe::DescribeArgs),
    /// Look into a component; push, activate, list and compare versions of the module
    Module {
        #[command(subcommand)]
        command: module::ModuleCommand,
    },
    /// Write a topology project that builds and tests
    New(new::NewArgs),
    /// Look into a state directory, while the application runs or not
    State {
        #[command(subcommand)]
        command: state::StateCommand,
    },
    /// Run cases against a module, without a broker: records in, outputs and stores compared
    Test(test::TestArgs),
    /// Print what all instances of a running application do
    Tasks(tasks::TasksArgs),
    /// Print how far the application is in what it reads, as its group has it
    Lag(lag::LagArgs),
    /// Have the application begin anew: offsets, internal topics, and the state on this machine
    Reset(reset::ResetArgs),
    /// Print completions for a shell, to be put where it looks for them
    Completions { shell: Shell },
    /// Write the manual pages of all commands into a directory
    Man { directory: PathBuf },
    /// Print the configuration in force, where it comes from, and no secret
    Config {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print the reference of all keys instead, as Markdown
        #[arg(long)]
        reference: bool,
    },
}

#[derive(Debug, Clone, Args)]
struct ConfigArgs {
    /// The configuration file [default: $MILLRACE_CONFIG, else millrace.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The WebAssembly component; goes before module.source
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::report(&error);
            if error.is::<Invalid>() || error.is::<test::BadCases>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let log = &cli.log;
    match cli.command {
        Command::Run { config } => app::run(&log.load(&config)?),
        Command::Dev { config, dev } => dev::run(log.load(&config)?, &dev),
        Command::Demo { config } => demo::run(log.load(&config)?),
        Command::Check(config) => check::run(&log.load(&config)?),
        Command::Describe(args) => describe::run(log, &args),
        Command::Module { command } => module::run(log, command),
        Command::New(args) => new::run(&args),
        Command::State { command } => state::run(log, &command),
        Command::Test(args) => test::run(log, &args),
        Command::Tasks(args) => tasks::run(log, &args),
        Command::Lag(args) => lag::run(log, &args),
        Command::Reset(args) => reset::run(log, &args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "millrace", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Man { directory } => clap_mangen::generate_to(Cli::command(), &directory)
            .with_context(|| format!("write manual pages into {}", directory.display())),
        Command::Config { reference: true, .. } => print(&config::reference()),
        Command::Config { config, reference: false } => print(&config::effective(&log.load(&config)?)),
    }
}

impl LogArgs {
    fn filter(&self) -> Option<&'static str> {
        match self.verbose {
            0 => None,
            1 => Some("info,millrace_runtime=debug,millrace_engine=debug"),
            _ => Some("debug"),
        }
    }

    /// Reads the configuration and starts the log as it says.
    fn load(&self, args: &ConfigArgs) -> anyhow::Result<Config> {
        let environment = Environment::read();
        let path = args.config.clone().unwrap_or_else(|| environment.config_file());
        let options = Options {
            module: args.module.clone(),
            log_format: self.log_format.map(|format| match format {
                Format::Text => "text".to_owned(),
                Format::Json => "json".to_owned(),
            }),
            log_level: self.filter().map(str::to_owned),
        };
        let config = Config::load(&path, &environment, &options)?;
        logging::start(&config.log)?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }

    /// Starts the log of a command that reads no configuration, at this level unless another is asked for.
    fn start(&self, level: &str) -> anyhow::Result<()> {
        let format = if matches!(self.log_format, Some(Format::Json)) { LogFormat::Json } else { LogFormat::Text };
        logging::start(&LogConfig { filter: self.filter().unwrap_or(level).to_owned(), format })
    }
}

/// Prints what was asked for. A reader that has seen enough (`head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("print"),
        _ => Ok(()),
    }
}
