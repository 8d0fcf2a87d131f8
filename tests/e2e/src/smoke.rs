//! Apache Kafka's own `StreamsSmokeTest`, with Millrace as the processor: Kafka's driver writes for a minute and a half and
//! judges what became of it; here are the instances, and what is done to them meanwhile. Must not know which results are
//! right: that is the judge's.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::app::App;
use crate::in_turn::{InTurn, Options, Report};
use crate::kafka::Kafka;
use crate::peer::java;
use crate::process::Process;
use crate::{setting, topics};

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
const DELIVERED: &str = "ALL-RECORDS-DELIVERED";

const PARTITIONS: i32 = 5;
/// The driver gives up after six minutes.
const VERDICT: Duration = Duration::from_secs(600);

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
    let mut instances = InTurn::start(&app, options.logs)?;
    let mut driver = java(&["-Xmx512m", "-XX:+UseSerialGC"], &setting::judges()?);
    let log = options.logs.join("driver.log");
    let mut driver = Process::start_logged("Kafka's driver", driver.arg(DRIVER).arg(&properties).arg("run"), &log)?;

    let (group, begin) = (app.group()?, Instant::now());
    while begin.elapsed() < options.end_for {
        instances.end_next(&group, options.end)?;
    }
    driver.ended(VERDICT)?; // its exit code says nothing
    let ends = instances.stop()?;
    let said = |word: &'static str| driver.has_line(&[word]).map(|_| word);
    let verdict = said(SUCCESS).or_else(|| said(DELIVERED).and(said(MORE))).unwrap_or("FAILURE");
    Ok(Report { ends, verdict, log: driver.tail() })
}
