//! The Kafka under the tests: the one they share, or one of a test's own that may be stopped and started.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::setting;

/// Where a Kafka listens. Cheap to clone; all helpers take it.
#[derive(Clone, Debug)]
pub struct Kafka {
    pub bootstrap: String,
}

impl Kafka {
    /// The one that `./mill` started for all tests.
    pub fn shared() -> Result<Self> {
        Ok(Self { bootstrap: setting::kafka()? })
    }

    /// SIGKILL to a node of the cluster that `./mill` started for this run.
    pub fn kill_node(&self, node: u32) -> Result<()> {
        mill(&["kill", &node.to_string()], &[])
    }

    /// Starts it again, and waits until it takes requests.
    pub fn start_node(&self, node: u32) -> Result<()> {
        mill(&["start", &node.to_string()], &[])
    }

    /// A client configuration with what every client needs.
    #[must_use]
    pub fn client(&self) -> rdkafka::ClientConfig {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("allow.auto.create.topics", "false");
        config
    }
}

/// A broker of one test, for what a shared one must not suffer. Its data outlive a stop, not the test.
pub struct OwnKafka {
    port: u16,
    dir: TempDir,
}

impl OwnKafka {
    /// Chooses a port; nothing listens there yet.
    pub fn reserve() -> Result<Self> {
        for port in (31_000 + port_offset()..32_000).step_by(2) {
            let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
            if free(port) && free(port + 1) {
                return Ok(Self { port, dir: TempDir::with_prefix("millrace-own-kafka.")? });
            }
        }
        bail!("no free pair of ports between 31000 and 32000")
    }

    #[must_use]
    pub fn kafka(&self) -> Kafka {
        Kafka { bootstrap: format!("127.0.0.1:{}", self.port) }
    }

    pub fn start(&self) -> Result<()> {
        self.mill("start")
    }

    pub fn stop(&self) -> Result<()> {
        self.mill("stop")
    }

    /// Stops its clock: connections stay open, and nothing answers.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let text = fs::read_to_string(self.data().join("pid")).context("read the broker's pid")?;
        let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        kill_process(pid.context("no pid in the broker's pid file")?, signal).context("signal the broker")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("broker")
    }

    fn mill(&self, command: &str) -> Result<()> {
        let (port, data) = (self.port.to_string(), self.data().to_string_lossy().into_owned());
        let options = "-Xmx384m -XX:+UseSerialGC";
        mill(&[command], &[("NODES", "1"), ("PORT", &port), ("DIR", &data), ("OPTS", options)])
    }
}

/// `./mill kafka` with settings for it; without any it acts on the brokers of the run.
fn mill(arguments: &[&str], settings: &[(&str, &str)]) -> Result<()> {
    let settings = settings.iter().map(|(name, value)| (format!("MILL_KAFKA_{name}"), value));
    let mut command = Command::new(setting::mill()?);
    let output = command.arg("kafka").args(arguments).envs(settings).output().context("run mill kafka")?;
    ensure!(output.status.success(), "mill kafka {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        // It may be frozen, and would not hear the request to stop.
        let _ = self.thaw();
        if let Err(error) = self.stop() {
            eprintln!("could not stop the broker on port {}: {error:#}", self.port);
        }
    }
}

/// Test runs side by side on one machine start looking at different ports.
fn port_offset() -> u16 {
    u16::try_from(std::process::id() % 400).unwrap_or_default() * 2
}
