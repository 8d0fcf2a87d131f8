//! A network of its own: a bridge, and a namespace with one link to it for every member. Needs root. Names carry the pid of
//! the run, so that what a killed run left behind can be told from what a living one uses.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

const PREFIX: &str = "millrace-soak";

pub(crate) struct Network {
    run: u32,
    /// The first three numbers of its addresses.
    subnet: String,
    members: Vec<String>,
}

/// A namespace.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) namespace: String,
    pub(crate) address: String,
    /// This side's end of its link.
    link: String,
    bridge: String,
}

impl Network {
    pub(crate) fn new() -> Result<Self> {
        let run = std::process::id();
        let subnet = format!("10.{}.{}", 128 + run / 250 % 100, run % 250);
        let network = Self { run, subnet, members: Vec::new() };
        let bridge = network.bridge();
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {}.1/24 dev {bridge}", network.subnet))?;
        ip(&format!("link set {bridge} up"))?;
        Ok(network)
    }

    /// Adds a namespace that reaches all others and this one.
    pub(crate) fn join(&mut self, name: &str) -> Result<Member> {
        let number = self.members.len();
        let member = Member {
            namespace: format!("{PREFIX}-{}-{name}", self.run),
            address: format!("{}.{}", self.subnet, number + 2),
            link: format!("mlr{}.{number}", self.run),
            bridge: self.bridge(),
        };
        let Member { namespace, address, link, .. } = &member;
        ip(&format!("netns add {namespace}"))?;
        self.members.push(namespace.clone());
        ip(&format!("link add {link} type veth peer name eth0 netns {namespace}"))?;
        ip(&format!("-n {namespace} link set lo up"))?;
        ip(&format!("-n {namespace} addr add {address}/24 dev eth0"))?;
        ip(&format!("-n {namespace} link set eth0 up"))?;
        ip(&format!("link set {link} up"))?;
        member.mend()?;
        Ok(member)
    }

    fn bridge(&self) -> String {
        format!("mlr{}", self.run)
    }
}

impl Member {
    /// Takes the link off the bridge: it stays up, and what is sent there arrives nowhere.
    pub(crate) fn cut(&self) -> Result<()> {
        ip(&format!("link set {} nomaster", self.link))
    }

    pub(crate) fn mend(&self) -> Result<()> {
        ip(&format!("link set {} master {}", self.link, self.bridge))
    }

    /// The same command inside, with no environment but the one it names. It becomes the program, under the same pid.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.namespace, "env", "-i"]);
        for (name, value) in command.get_envs() {
            let mut variable = name.to_owned();
            variable.push("=");
            variable.push(value.unwrap_or_default());
            inside.arg(variable);
        }
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in &self.members {
            remove_namespace(namespace);
        }
        remove(&format!("link del {}", self.bridge()));
    }
}

/// Removes what runs left behind that were killed, and ends the processes in their namespaces.
pub(crate) fn sweep() -> Result<()> {
    let dead = |run: &str| fs::read_to_string(format!("/proc/{run}/comm")).map_or(true, |comm| comm.trim() != PREFIX);
    for line in ip_text("netns list")?.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let run = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if run.is_some_and(dead) {
            remove_namespace(name);
        }
    }
    for line in ip_text("-o link show type bridge")?.lines() {
        let name = line.split(": ").nth(1).unwrap_or_default();
        if name.strip_prefix("mlr").is_some_and(|run| run.parse::<u32>().is_ok() && dead(run)) {
            remove(&format!("link del {name}"));
        }
    }
    Ok(())
}

fn remove_namespace(namespace: &str) {
    for pid in ip_text(&format!("netns pids {namespace}")).unwrap_or_default().split_whitespace() {
        if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    remove(&format!("netns del {namespace}"));
}

fn remove(arguments: &str) {
    if let Err(error) = ip(arguments) {
        eprintln!("{error:#}");
    }
}

fn ip(arguments: &str) -> Result<()> {
    ip_text(arguments).map(drop)
}

fn ip_text(arguments: &str) -> Result<String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("run ip, of the package iproute2")?;
    ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
