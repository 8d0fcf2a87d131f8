//! Apache Kafka's own test of exactly-once, `StreamsEosTest`, with Millrace as the processor: Kafka's driver writes the
//! records and judges what became of them; here are the instances, and what is done to them in between. Must not know
//! which results are right: that is the judge's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::app::App;
use crate::group::Group;
use crate::kafka::Kafka;
use crate::peer::java;
use crate::process::Process;
use crate::records::Reader;
use crate::{setting, topics, wait};

/// All of these names are the driver's.
const DRIVER: &str = "org.apache.kafka.streams.tests.StreamsEosTest";
const APPLICATION: &str = "EosTest";
const INPUT: &str = "data";
/// Has a record for each of the input, at the far end of the topology.
const LAST: &str = "cnt";
const TOPICS: [&str; 7] = [INPUT, "echo", "min", "sum", "repartition", "max", LAST];
const VERDICTS: [&str; 2] = ["verify", "verify-complex"];
/// What the driver says when all is right.
pub const DELIVERED: &str = "ALL-RECORDS-DELIVERED";

const PARTITIONS: i32 = 5;
/// The first two are static members, the third leaves the group when it stops and comes back as a stranger.
const INSTANCES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGTERM.
    Stop,
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT instead of a new start: it goes on as if nothing had happened.
    Freeze,
}

/// When an instance is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    AtOnce,
    /// When others have taken over and committed in every partition.
    Late,
}

/// What is done to whom.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Instances(Fault, &'static [&'static str], Return),
    /// SIGKILL to a node of the cluster, which is started again once the others do without it.
    Broker(u32),
}

/// How a run went.
#[derive(Debug)]
pub struct Report {
    pub faults: BTreeMap<Fault, u32>,
    pub broker_kills: u32,
    pub records: i64,
    pub processed_for: Duration,
    pub verdicts: Vec<Verdict>,
}

/// What the driver said to one of its commands.
#[derive(Debug)]
pub struct Verdict {
    pub command: &'static str,
    pub delivered: bool,
    pub log: String,
}

/// What differs between a short form and a long one.
pub struct Options<'a> {
    /// Keys of the config file.
    pub settings: &'a [(&'a str, &'a str)],
    /// Where the logs of all processes are kept.
    pub logs: Option<&'a Path>,
}

/// Runs the whole test: instances and driver are started, then come the steps, and the verdicts at the end.
pub fn run(kafka: &Kafka, options: &Options<'_>, steps: impl Iterator<Item = Step>) -> Result<Report> {
    let mut eos = Eos::start(kafka, options)?;
    for step in steps {
        match step {
            Step::Instances(fault, instances, returns) => eos.fault(fault, instances, returns),
            Step::Broker(node) => eos.broker(node),
        }
        .with_context(|| format!("{step:?}"))?;
    }
    let records = eos.drain()?;
    let processed_for = eos.started.elapsed();
    for instance in INSTANCES {
        eos.end(instance, Process::stop)?;
    }
    let (faults, broker_kills) = (eos.faults.clone(), eos.broker_kills);
    Ok(Report { faults, broker_kills, records, processed_for, verdicts: eos.verdicts()? })
}

struct Eos<'a> {
    app: App,
    group: Group,
    driver: Process,
    properties: PathBuf,
    instances: BTreeMap<&'static str, Process>,
    logs: Option<&'a Path>,
    faults: BTreeMap<Fault, u32>,
    broker_kills: u32,
    started: Instant,
}

impl<'a> Eos<'a> {
    fn start(kafka: &Kafka, options: &Options<'a>) -> Result<Self> {
        for topic in TOPICS {
            topics::create(kafka, topic, PARTITIONS, &[])?;
        }
        let mut app = App::without_topics(kafka, "eos")?;
        APPLICATION.clone_into(&mut app.id);
        INPUT.clone_into(&mut app.input);
        app.set("application.id", APPLICATION);
        app.set("module.source", &setting::module("guest-eos")?.to_string_lossy());
        for (key, value) in options.settings {
            app.set(key, value);
        }
        app.leaves_on_stop("c");
        let properties = app.path("driver.properties");
        let text = format!("bootstrap.servers={}\nprocessing.guarantee=exactly_once_v2\n", kafka.bootstrap);
        fs::write(&properties, text).context("write the driver's properties")?;
        let mut eos = Self {
            group: app.group()?,
            driver: driver("run", &properties)?,
            app,
            properties,
            instances: BTreeMap::new(),
            logs: options.logs,
            faults: BTreeMap::new(),
            broker_kills: 0,
            started: Instant::now(),
        };
        for instance in INSTANCES {
            eos.begin(instance)?;
        }
        eos.progress("all three instances run")?;
        Ok(eos)
    }

    fn begin(&mut self, instance: &'static str) -> Result<()> {
        let process = self.app.run(instance)?;
        self.instances.insert(instance, process);
        Ok(())
    }

    fn end(&mut self, instance: &'static str, how: impl FnOnce(&mut Process) -> Result<()>) -> Result<()> {
        let mut process = self.instances.remove(instance).context("it was not started")?;
        let ended = how(&mut process);
        self.keep_log(instance, &process)?;
        ended
    }

    fn broker(&mut self, node: u32) -> Result<()> {
        self.app.kafka.kill_node(node)?;
        self.broker_kills += 1;
        self.progress("the other brokers took over")?;
        self.app.kafka.start_node(node)?;
        self.progress("the broker was back")
    }

    fn fault(&mut self, fault: Fault, instances: &[&'static str], returns: Return) -> Result<()> {
        for &instance in instances {
            match fault {
                Fault::Stop => self.end(instance, Process::stop)?,
                Fault::Kill => self.end(instance, Process::kill)?,
                Fault::Freeze => self.signal(instance, Signal::STOP)?,
            }
            *self.faults.entry(fault).or_default() += 1;
        }
        if returns == Return::Late {
            self.progress("others took over")?;
        }
        for &instance in instances {
            match fault {
                Fault::Stop | Fault::Kill => self.begin(instance)?,
                Fault::Freeze => self.signal(instance, Signal::CONT)?,
            }
        }
        self.progress("all were back")
    }

    fn signal(&self, instance: &str, signal: Signal) -> Result<()> {
        self.instances.get(instance).context("it was not started")?.signal(signal)
    }

    /// Waits until every input partition has got on, while no instance ends by itself.
    fn progress(&mut self, since: &str) -> Result<()> {
        let (group, instances) = (&self.group, &mut self.instances);
        // A broker that is away is no failure of the test, it is a part of it.
        let before = wait::until("committed offsets", wait::LONG, || Ok(group.committed().ok()))?;
        wait::until(&format!("progress in all partitions since {since}"), wait::LONG, || {
            for (name, process) in &mut *instances {
                ensure!(process.is_running()?, "instance {name} ended by itself; its log:\n{}", process.tail());
            }
            let Ok(now) = group.committed() else { return Ok(None) };
            Ok(now.iter().zip(&before).all(|((now, _), (before, _))| now > before).then_some(()))
        })
    }

    /// Ends the driver, and waits until all it wrote has come through.
    fn drain(&mut self) -> Result<i64> {
        let stopped = self.driver.stop();
        self.keep_log("driver", &self.driver)?;
        stopped?;
        let records = self.group.end()?;
        let all = usize::try_from(records)?;
        let what = format!("all {records} records");
        Reader::new(&self.app.kafka, LAST)?.until(&what, wait::LONG, |found| found.len() >= all)?;
        Ok(records)
    }

    /// Asks for both verdicts side by side, since the driver mostly waits.
    fn verdicts(&self) -> Result<Vec<Verdict>> {
        let judges: Vec<_> = VERDICTS.iter().map(|command| driver(command, &self.properties)).collect::<Result<_>>()?;
        let mut verdicts = Vec::new();
        for (command, mut judge) in VERDICTS.into_iter().zip(judges) {
            let ended = judge.ended(wait::LONG);
            self.keep_log(command, &judge)?;
            ended?; // its exit code says nothing
            let delivered = judge.has_line(&[DELIVERED]).is_some();
            verdicts.push(Verdict { command, delivered, log: judge.tail() });
        }
        Ok(verdicts)
    }
}

impl Eos<'_> {
    /// Named by the moment of the end, so that the logs of a run stand in their order.
    fn keep_log(&self, name: &str, process: &Process) -> Result<()> {
        let Some(logs) = self.logs else { return Ok(()) };
        let file = format!("{:08}-{name}.log", self.started.elapsed().as_millis());
        fs::write(logs.join(file), process.text()).context("keep a log")
    }
}

/// A run that fails leaves the logs of those that still ran, too.
impl Drop for Eos<'_> {
    fn drop(&mut self) {
        for (name, process) in &self.instances {
            if let Err(error) = self.keep_log(name, process) {
                eprintln!("the log of instance {name} is lost: {error:#}");
            }
        }
    }
}

fn driver(command: &str, properties: &Path) -> Result<Process> {
    let mut driver = java(&["-Xmx512m", "-XX:+UseSerialGC"], &setting::eos_judge()?);
    Process::start(&format!("Kafka's driver {command}"), driver.arg(DRIVER).arg(properties).arg(command))
}
