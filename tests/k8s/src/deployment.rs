//! The reference deployment, applied as an operator would: a copy of `k8s/` in which broker and settings are entered. Has a
//! namespace, a Kafka and images of its own, and takes all of them away at its end.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::{Context, Result, bail, ensure};
use millrace_e2e::group::Group;
use millrace_e2e::kafka::{Kafka, OwnKafka};
use millrace_e2e::{topics, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::dockerfile::Dockerfile;
use crate::kubectl::Kubectl;
use crate::{copy, setting};

pub const APPLICATION: &str = "counts-app";
pub const INPUT: &str = "input-topic";
pub const OUTPUT: &str = "counts-topic";
pub const PORT: u16 = 8642;
pub const SET: &str = "statefulset/kstreams-count";
/// Where the overlay says that the image is.
const REGISTRY: &str = "millrace.azurecr.io/kstreams-count";
const TAG: &str = "0.1.0";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The nodes of the cluster, which all tests share, and one may have for itself.
static NODES: RwLock<()> = RwLock::new(());

/// Held, not read.
#[allow(dead_code, reason = "a lock is held by having its guard")]
enum Nodes {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

pub struct Deployment {
    pub kubectl: Kubectl,
    pub kafka: Kafka,
    dir: TempDir,
    _broker: OwnKafka,
    _nodes: Nodes,
}

/// A pod as it was at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub uid: String,
    pub node: String,
    pub volume: String,
    pub restarts: u64,
    /// Of the container that runs.
    pub image: String,
}

/// What a pod says of itself, since its process began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// How often it was told its partitions: every rebalance tells every member.
    pub rebalances: u64,
    /// Records read back from changelogs.
    pub restored: u64,
    /// Those that run.
    pub tasks: Vec<String>,
}

impl Deployment {
    /// Everything is there, and nothing is applied yet.
    pub fn new(test: &str) -> Result<Self> {
        Self::on(Nodes::Shared(NODES.read().unwrap_or_else(PoisonError::into_inner)), test)
    }

    /// The same for a test that does something to nodes.
    pub fn alone(test: &str) -> Result<Self> {
        Self::on(Nodes::Alone(NODES.write().unwrap_or_else(PoisonError::into_inner)), test)
    }

    fn on(nodes: Nodes, test: &str) -> Result<Self> {
        let mut broker = OwnKafka::reserve()?;
        broker.listen_on(&setting::gateway()?);
        // Members that start together share the partitions in one rebalance. Brokers wait 3 s by default; a busy machine
        // may take longer to start two pods.
        broker.configure(&[("group.initial.rebalance.delay.ms", "8000")]);
        broker.start()?;
        let kafka = broker.kafka();
        topics::create(&kafka, INPUT, 4, &[])?;
        topics::create(&kafka, OUTPUT, 4, &[])?;
        let namespace = format!("{test}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let deployment = Self {
            kubectl: Kubectl { namespace: namespace.clone() },
            kafka,
            dir: TempDir::with_prefix("millrace-k8s.")?,
            _broker: broker,
            _nodes: nodes,
        };
        deployment.kubectl.run(&["create", "namespace", &namespace])?;
        copy(&setting::project().join("k8s"), &deployment.dir.path().join("k8s"))?;
        deployment.provide(TAG)?;
        deployment.edit("overlays/aks/kafka.env", |_| format!("KAFKA_BROKER={}\n", deployment.kafka.bootstrap))?;
        Ok(deployment)
    }

    /// Makes the image known under a tag.
    pub fn provide(&self, tag: &str) -> Result<()> {
        let dockerfile = Dockerfile::read()?;
        let (user, _) = dockerfile.last("USER")?.split_once(':').context("USER has a group")?;
        let mut command = Command::new(setting::mill()?);
        command.args(["k8s", "image", &format!("{REGISTRY}:{tag}")]).arg(setting::image()?);
        for variable in dockerfile.last("ENV")?.split(' ') {
            command.args(["--env", variable]);
        }
        command.args(["--user", user, "--"]).args(dockerfile.command()?);
        let output = command.output().context("run mill k8s image")?;
        ensure!(output.status.success(), "mill k8s image: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Changes a file of `k8s/`; it must change by that.
    pub fn edit(&self, file: &str, change: impl FnOnce(&str) -> String) -> Result<()> {
        let path = self.dir.path().join("k8s").join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {file}"))?;
        let changed = change(&text);
        ensure!(changed != text, "the change of {file} changes nothing:\n{text}");
        fs::write(&path, changed).with_context(|| format!("write {file}"))
    }

    /// Adds a line to the top of the application's configuration, or replaces the one that sets the same key.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let line = format!("{key} = {value}");
        self.edit("base/counts.toml", |text| {
            let replaces = |old: &&str| old.split(" =").next() == Some(key);
            match text.lines().find(replaces) {
                Some(old) => text.replace(old, &line),
                None => format!("{line}\n{text}"),
            }
        })
    }

    /// Runs another tag of the image.
    pub fn set_tag(&self, from: &str, to: &str) -> Result<()> {
        let line = |tag: &str| format!("newTag: {tag}\n");
        self.edit("overlays/aks/kustomization.yaml", |text| text.replace(&line(from), &line(to)))
    }

    pub fn apply(&self) -> Result<String> {
        let overlay = self.overlay();
        self.kubectl.run(&["apply", "-k", &overlay.to_string_lossy()])
    }

    #[must_use]
    pub fn overlay(&self) -> PathBuf {
        self.dir.path().join("k8s/overlays/aks")
    }

    /// Waits until all pods run what was applied last.
    pub fn rolled_out(&self) -> Result<()> {
        self.kubectl.run(&["rollout", "status", SET, "--timeout=180s"]).map(drop).with_context(|| self.state())
    }

    /// For the message of a test that fails.
    fn state(&self) -> String {
        let show = |arguments: &[&str]| self.kubectl.run(arguments).unwrap_or_else(|error| format!("{error:#}"));
        let mut text = show(&["get", "pods,pvc", "-o", "wide"]) + &show(&["get", "events", "--sort-by=.lastTimestamp"]);
        for number in 0..3 {
            text += &show(&["logs", &name(number), "--tail=40"]);
        }
        text
    }

    pub fn pod(&self, number: u32) -> Result<Pod> {
        let pod = self.kubectl.json(&["get", "pod", &name(number)])?;
        let container = &pod["status"]["containerStatuses"][0];
        Ok(Pod {
            uid: text(&pod["metadata"]["uid"])?,
            node: text(&pod["spec"]["nodeName"])?,
            volume: self.volume(number)?,
            restarts: container["restartCount"].as_u64().context("restartCount")?,
            image: text(&container["image"])?,
        })
    }

    /// Of the pod's claim, which there is without the pod, too.
    pub fn volume(&self, number: u32) -> Result<String> {
        let claim = self.kubectl.json(&["get", "pvc", &format!("count-store-{}", name(number))])?;
        text(&claim["spec"]["volumeName"])
    }

    /// Asked of the pod itself, through the API server.
    pub fn status(&self, number: u32) -> Result<Status> {
        let (namespace, name) = (&self.kubectl.namespace, name(number));
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{PORT}/proxy/v1/tasks");
        let answer: Value = serde_json::from_str(&self.kubectl.run(&["get", "--raw", &path])?)?;
        let tasks = answer["tasks"].as_array().context("tasks")?;
        let running = tasks.iter().filter(|task| task["state"] == "RUNNING");
        Ok(Status {
            rebalances: answer["rebalances"].as_u64().context("rebalances")?,
            restored: tasks.iter().filter_map(|task| task["restored_records"].as_u64()).sum(),
            tasks: running.filter_map(|task| task["id"].as_str()).map(str::to_owned).collect(),
        })
    }

    /// Waits until the pod runs so many tasks.
    pub fn runs(&self, number: u32, tasks: usize) -> Result<Status> {
        wait::until(&format!("{} to run {tasks} tasks", name(number)), wait::LONG, || {
            // One that is on its way does not answer yet.
            Ok(self.status(number).ok().filter(|status| status.tasks.len() == tasks))
        })
        .with_context(|| self.state())
    }

    /// What `kubectl exec … ls -lrt /data/count-store/counts-app` shows of tasks; compiled modules lie beside them.
    pub fn task_directories(&self, number: u32) -> Result<Vec<String>> {
        let path = format!("/data/count-store/{APPLICATION}");
        let text = self.kubectl.run(&["exec", &name(number), "--", "ls", "-lrt", &path])?;
        let directories = text.lines().filter(|line| line.starts_with('d'));
        let names = directories.filter_map(|line| line.split_whitespace().last());
        let mut names: Vec<_> = names.filter(|name| name.contains('_')).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    pub fn group(&self) -> Result<Group> {
        Group::new(&self.kafka, APPLICATION, INPUT)
    }

    /// `kill -9` of the pod's process, which nothing inside the container can do.
    pub fn kill(&self, number: u32) -> Result<()> {
        let variables =
            [format!("MILLRACE_GROUP_INSTANCE_ID={}", name(number)), format!("KAFKA_BROKER={}", self.kafka.bootstrap)];
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
            let has =
                |variable: &String| environment.split(|byte| *byte == 0).any(|found| found == variable.as_bytes());
            if variables.iter().all(has) {
                let pid = entry.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
                return kill_process(pid.context("a pid")?, Signal::KILL).context("kill the pod's process");
            }
        }
        bail!("{} has no process", name(number))
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        let namespace = &self.kubectl.namespace;
        if std::thread::panicking() {
            eprintln!("{}", self.state());
        }
        // Its pods end by themselves, broker or not, and the cluster ends with the run.
        let delete = ["delete", "namespace", namespace, "--wait=false"];
        if let Err(error) = self.kubectl.run(&delete) {
            eprintln!("could not delete the namespace {namespace}: {error:#}");
        }
    }
}

#[must_use]
pub fn name(number: u32) -> String {
    format!("kstreams-count-{number}")
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("a text is missing")
}
