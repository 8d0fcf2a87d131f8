//! The sides that are compared, and how each is started.

use std::env;
use std::fmt;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use millrace_e2e::app::App;
use millrace_e2e::process::Process;

use crate::scenario::Scenario;

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

    /// The lines it says that it has filled a store with: how many records they were, and how many ms it took.
    pub(crate) fn restored(self) -> &'static [&'static str] {
        if self == Self::Millrace { &["restored", "records="] } else { &["event=RESTORE "] }
    }
}

/// One instance of an application.
pub(crate) struct Instance<'a> {
    scenario: &'a Scenario,
    side: Side,
    name: &'a str,
    /// Keys of Millrace's config file, asked for on the command line.
    asked: &'a [(String, String)],
    /// Settings that both sides call the same.
    both: Vec<(&'a str, String)>,
    /// Options of `CountsApp`.
    peer: Vec<(&'a str, String)>,
}

impl<'a> Instance<'a> {
    pub(crate) fn new(scenario: &'a Scenario, side: Side, asked: &'a [(String, String)]) -> Self {
        Self { scenario, side, name: "bench", asked, both: Vec::new(), peer: Vec::new() }
    }

    /// Of several that run at the same time.
    pub(crate) fn named(self, name: &'a str) -> Self {
        Self { name, ..self }
    }

    pub(crate) fn setting(mut self, name: &'a str, value: &str) -> Self {
        self.both.push((name, value.to_owned()));
        self
    }

    pub(crate) fn peer_option(mut self, name: &'a str, value: &str) -> Self {
        self.peer.push((name, value.to_owned()));
        self
    }

    /// A static member of its group. Millrace is one anyway, unless it is told to leave when it stops.
    pub(crate) fn stays(self) -> Self {
        let name = self.name;
        self.peer_option("instance.id", name)
    }

    pub(crate) fn start(self, app: &mut App) -> Result<Process> {
        match self.side {
            Side::Millrace => self.millrace(app),
            Side::KafkaStreams => self.kafka_streams(app),
            Side::PassThrough => {
                let mut command = Command::new(env::current_exe().context("find this program")?);
                command.args(["pass-through", "--input", &app.input, "--output", &app.output]);
                Process::start("pass-through", command.args(["--changelog", &app.changelog()]))
            }
        }
    }

    fn millrace(self, app: &mut App) -> Result<Process> {
        for (key, value) in self.scenario.millrace {
            app.set(key, value);
        }
        for (key, value) in &self.both {
            app.set(key, value);
        }
        for (key, value) in self.asked {
            app.set(key, value);
        }
        for (name, value) in self.scenario.module {
            app.environment(name, value);
        }
        app.start(self.name)
    }

    fn kafka_streams(self, app: &App) -> Result<Process> {
        let state = app.state_dir(&format!("java-{}", self.name));
        let mut peer = app.plain_peer()?.option("state.dir", &state.to_string_lossy()).option("leave.group", "1");
        for (name, value) in self.scenario.kafka_streams {
            peer = peer.option(name, value);
        }
        for (name, value) in self.both.iter().chain(&self.peer) {
            peer = peer.option(name, value);
        }
        peer.start()
    }
}
