//! The Kafka under the tests: the one they share, or one of a test's own that may be stopped and started.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};
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
        mill(None, &["kill", &node.to_string()], &[])
    }

    /// Starts it again, and waits until it takes requests.
    pub fn start_node(&self, node: u32) -> Result<()> {
        mill(None, &["start", &node.to_string()], &[])
    }

    /// A client configuration with what every client needs.
    #[must_use]
    pub fn client(&self) -> rdkafka::ClientConfig {
        let mut config = rdkafka::ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.max.ms", "1000");
        config
    }
}

static RESERVED: AtomicU16 = AtomicU16::new(0);

/// A broker of one test, or a cluster, for what a shared one must not suffer. Its data outlive a stop.
pub struct OwnKafka {
    host: String,
    port: u16,
    nodes: u16,
    data: PathBuf,
    /// A network namespace it runs in.
    namespace: Option<String>,
    /// Lines of its server.properties, over those that all brokers have.
    properties: String,
    /// Holds the data of those that are of no use after the test.
    dir: Option<TempDir>,
}

impl OwnKafka {
    /// Chooses a port; nothing listens there yet.
    pub fn reserve() -> Result<Self> {
        let dir = TempDir::with_prefix("millrace-own-kafka.")?;
        let mut own = Self::cluster(1, &dir.path().join("broker"))?;
        own.dir = Some(dir);
        Ok(own)
    }

    /// Several nodes, whose data stay behind.
    pub fn cluster(nodes: u16, data: &Path) -> Result<Self> {
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let port = loop {
            // Tests of one run that look at the same time must not find the same.
            let port = 31_000 + port_offset() + RESERVED.fetch_add(2 * nodes, Ordering::Relaxed);
            ensure!(port < 32_000, "no free ports in a row between 31000 and 32000");
            if (port..port + 2 * nodes).all(free) {
                break port;
            }
        };
        let host = "127.0.0.1".to_owned();
        Ok(Self { host, port, nodes, data: data.to_owned(), namespace: None, properties: String::new(), dir: None })
    }

    /// Moves it into a network namespace, where it has this address.
    pub fn move_to(&mut self, namespace: &str, host: &str) {
        self.namespace = Some(namespace.to_owned());
        host.clone_into(&mut self.host);
    }

    /// Lets it listen on another address of this machine.
    pub fn listen_on(&mut self, host: &str) {
        host.clone_into(&mut self.host);
    }

    /// Settings of the broker, before it is started.
    pub fn configure(&mut self, properties: &[(&str, &str)]) {
        for (name, value) in properties {
            self.properties += &format!("{name}={value}\n");
        }
    }

    #[must_use]
    pub fn kafka(&self) -> Kafka {
        let address = |node: u16| format!("{}:{}", self.host, self.port + 2 * node);
        Kafka { bootstrap: (0..self.nodes).map(address).collect::<Vec<_>>().join(",") }
    }

    /// Starts the nodes that don't run.
    pub fn start(&self) -> Result<()> {
        self.mill(&["start"])
    }

    pub fn stop(&self) -> Result<()> {
        self.mill(&["stop"])
    }

    /// kill -9 of one node, counted from 1.
    pub fn kill(&self, node: u16) -> Result<()> {
        self.mill(&["kill", &node.to_string()])
    }

    /// Stops the clock of a node: connections stay open, and nothing answers.
    pub fn freeze(&self, node: u16) -> Result<()> {
        self.signal(node, Signal::STOP)
    }

    pub fn thaw(&self, node: u16) -> Result<()> {
        self.signal(node, Signal::CONT)
    }

    fn signal(&self, node: u16, signal: Signal) -> Result<()> {
        let dir = if self.nodes == 1 { self.data.clone() } else { self.data.join(format!("node{node}")) };
        let text = fs::read_to_string(dir.join("pid")).context("read the broker's pid")?;
        let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        kill_process(pid.context("no pid in the broker's pid file")?, signal).context("signal the broker")
    }

    fn mill(&self, arguments: &[&str]) -> Result<()> {
        let (port, nodes, data) = (self.port.to_string(), self.nodes.to_string(), self.data.to_string_lossy());
        let options = "-Xmx384m -XX:+UseSerialGC";
        let properties = ("PROPERTIES", &*self.properties);
        let settings =
            [("HOST", &*self.host), ("NODES", &nodes), ("PORT", &port), ("DIR", &data), ("OPTS", options), properties];
        mill(self.namespace.as_deref(), arguments, &settings)
    }
}

/// `./mill kafka`, in a network namespace, with settings for it; without any it acts on the brokers of the run.
fn mill(namespace: Option<&str>, arguments: &[&str], settings: &[(&str, &str)]) -> Result<()> {
    let settings = settings.iter().map(|(name, value)| (format!("MILL_KAFKA_{name}"), value));
    let mill = setting::mill()?;
    let mut command = match namespace {
        None => Command::new(mill),
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(mill);
            command
        }
    };
    let output = command.arg("kafka").args(arguments).envs(settings).output().context("run mill kafka")?;
    ensure!(output.status.success(), "mill kafka {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        // They may be frozen, and would not hear the request to stop.
        for node in 1..=self.nodes {
            let _ = self.thaw(node);
        }
        if let Err(error) = self.stop() {
            eprintln!("could not stop the broker on port {}: {error:#}", self.port);
        }
    }
}

/// Test runs side by side on one machine start looking at different ports.
fn port_offset() -> u16 {
    u16::try_from(std::process::id() % 400).unwrap_or_default() * 2
}
