//! The peer: the same topology in Kafka Streams, as a process of its own.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::kafka::Kafka;
use crate::process::Process;
use crate::setting;

/// The options of `CountsApp`; see there.
pub struct Peer {
    command: Command,
    name: String,
}

impl Peer {
    pub fn new(kafka: &Kafka, application: &str, input: &str, output: &str, state_dir: &Path) -> Result<Self> {
        let mut command = java(&["-Xmx1g"], &setting::class_path()?);
        command.arg("millrace.harness.CountsApp");
        let peer = Self { command, name: format!("Kafka Streams {application}") };
        Ok(peer
            .option("bootstrap", &kafka.bootstrap)
            .option("application.id", application)
            .option("input", input)
            .option("output", output)
            .option("state.dir", &state_dir.to_string_lossy()))
    }

    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.command.arg(format!("--{name}={value}"));
        self
    }

    pub fn start(mut self) -> Result<Process> {
        Process::start(&self.name, &mut self.command)
    }
}

/// `java` with a quiet log.
#[must_use]
pub fn java(options: &[&str], class_path: &str) -> Command {
    let mut command = Command::new("java");
    command.args(options).args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dlog4j2.StatusLogger.level=OFF"]);
    command.args(["-cp", class_path]);
    command
}
