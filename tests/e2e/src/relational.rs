//! Apache Kafka's own `RelationalSmokeTest`, with Millrace as the processor: Kafka's driver writes articles and comments for a
//! minute, and judges what they were joined to; here are the instances, and what is done to them meanwhile. Must not know
//! which results are right: that is the judge's.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::app::App;
use crate::in_turn::{InTurn, Options, Report};
use crate::kafka::Kafka;
use crate::peer::java;
use crate::process::Process;
use crate::{setting, topics};

/// All of these names are the driver's.
const DRIVER: &str = "org.apache.kafka.streams.tests.RelationalSmokeTest";
/// Most of what it writes.
const INPUT: &str = "in-comment";
const TOPICS: [&str; 4] = ["in-article", INPUT, "out-augmented-article", "out-augmented-comment"];
/// What the driver says when all is right.
pub const PASSED: &str = "Smoke test complete: passed";
/// It says this in its log, at a level that is not shown otherwise.
const LOG: &str = "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.streams.tests.RelationalSmokeTest=info";

const PARTITIONS: i32 = 5;
/// The driver gives up after eleven minutes.
const VERDICT: Duration = Duration::from_secs(900);

/// Runs the whole test.
pub fn run(kafka: &Kafka, options: &Options<'_>) -> Result<Report> {
    for topic in TOPICS {
        topics::create(kafka, topic, PARTITIONS, &[])?;
    }
    let mut app = App::without_topics(kafka, "relational")?;
    INPUT.clone_into(&mut app.input);
    app.set("module.source", &setting::module("guest-relational")?.to_string_lossy());
    app.set("processing.guarantee", options.guarantee);
    for (key, value) in options.settings {
        app.set(key, value);
    }
    let mut instances = InTurn::start(&app, options.logs)?;
    let mut driver = java(&["-Xmx512m", "-XX:+UseSerialGC", LOG], &setting::judges()?);
    let log = options.logs.join("driver.log");
    let mut driver =
        Process::start_logged("Kafka's driver", driver.arg(DRIVER).args(["driver", &kafka.bootstrap]), &log)?;

    let (group, begin) = (app.group()?, Instant::now());
    while begin.elapsed() < options.end_for {
        instances.end_next(&group, options.end)?;
    }
    driver.ended(VERDICT)?; // its exit code says nothing
    let ends = instances.stop()?;
    let verdict = driver.has_line(&[PASSED]).map_or("FAILURE", |_| PASSED);
    Ok(Report { ends, verdict, log: driver.tail() })
}
