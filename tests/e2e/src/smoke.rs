//! Apache Kafka's own `StreamsSmokeTest`, with Millrace as the processor: Kafka's driver writes for a minute and a half and
//! judges what became of it; here are the instances, and what is done to them meanwhile. Must not know which results are
//! right: that is the judge's.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::app::App;
use crate::kafka::Kafka;
use crate::peer::java;
use crate::process::Process;
use crate::{setting, topics, wait};

/// All of these names are the driver's.
const DRIVER: &str = "org.apache.kafka.streams.tests.StreamsSmokeTest";
const APPLICATION: &str = "SmokeTest";
const INPUT: &str = "data";
const TOPICS: [&str; 14] = [
    INPUT,
    "echo",
    "max",
    "min",
    "min-suppressed",
    "min-raw",
    "dif",
    "sum",
    "sws-raw",
    "sws-suppressed",
    "cnt",
    "avg",
    "tagg",
    "fk",
];
/// What the driver says when all is right, and when something came twice and nothing was lost.
pub const SUCCESS: &str = "SUCCESS";
pub const MORE: &str = "PROCESSED-MORE-THAN-GENERATED";

const PARTITIONS: i32 = 5;
/// Static members, killed in turn.
const INSTANCES: [&str; 3] = ["a", "b", "c"];
/// The driver gives up after six minutes.
const VERDICT: Duration = Duration::from_secs(600);

/// How a run went.
#[derive(Debug)]
pub struct Report {
    pub kills: u32,
    pub verdict: &'static str,
    pub log: String,
}

/// What differs between runs.
pub struct Options<'a> {
    pub guarantee: &'a str,
    /// Keys of the config file.
    pub settings: &'a [(&'a str, &'a str)],
    /// How long instances are killed in turn, while the driver writes.
    pub kill_for: Duration,
    /// Where the logs of all processes are kept.
    pub logs: &'a Path,
}

/// Runs the whole test.
pub fn run(kafka: &Kafka, options: &Options<'_>) -> Result<Report> {
    for topic in TOPICS {
        topics::create(kafka, topic, PARTITIONS, &[])?;
    }
    let mut app = App::without_topics(kafka, "smoke")?;
    APPLICATION.clone_into(&mut app.id);
    INPUT.clone_into(&mut app.input);
    app.set("application.id", APPLICATION);
    app.set("module.source", &setting::module("guest-smoke")?.to_string_lossy());
    app.set("processing.guarantee", options.guarantee);
    for (key, value) in options.settings {
        app.set(key, value);
    }
    let properties = app.path("driver.properties");
    let text = format!("bootstrap.servers={}\nprocessing.guarantee={}\n", kafka.bootstrap, options.guarantee);
    fs::write(&properties, text).context("write the driver's properties")?;
    let start = |name: &'static str, run: u32| {
        let log = options.logs.join(format!("{name}-{run}.log"));
        Process::start_logged(name, &mut app.command("run", name)?, &log)
    };
    let mut instances = INSTANCES.iter().map(|name| start(name, 0)).collect::<Result<Vec<_>>>()?;
    for instance in &instances {
        instance.line(&["state=RUNNING"])?;
    }
    let mut driver = java(&["-Xmx512m", "-XX:+UseSerialGC"], &setting::judges()?);
    let log = options.logs.join("driver.log");
    let mut driver = Process::start_logged("Kafka's driver", driver.arg(DRIVER).arg(&properties).arg("run"), &log)?;

    let (group, begin) = (app.group()?, Instant::now());
    let mut kills = 0;
    while begin.elapsed() < options.kill_for {
        let before = group.committed()?;
        wait::until("progress in all partitions", wait::LONG, || {
            let now = group.committed()?;
            Ok(now.iter().zip(&before).all(|((now, _), (before, _))| now > before).then_some(()))
        })?;
        let place = kills as usize % INSTANCES.len();
        instances[place].kill()?;
        kills += 1;
        instances[place] = start(INSTANCES[place], kills)?;
        instances[place].line(&["state=RUNNING"])?;
    }
    driver.ended(VERDICT)?; // its exit code says nothing
    for (name, instance) in INSTANCES.iter().zip(&mut instances) {
        ensure!(instance.is_running()?, "instance {name} ended by itself; its log:\n{}", instance.tail());
        instance.stop()?;
    }
    let said = |word: &'static str| driver.has_line(&[word]).map(|_| word);
    let verdict = said(SUCCESS).or_else(|| said(MORE)).unwrap_or("FAILURE");
    Ok(Report { kills, verdict, log: driver.tail() })
}
