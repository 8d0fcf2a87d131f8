//! Brokers that are away: at the start, while running, and silent with their connections open.

use std::time::Duration;

use anyhow::{Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::kafka::{Kafka, OwnKafka};
use millrace_e2e::records::{Record, Writer};
use millrace_e2e::topics;

#[test]
fn nobody_there() -> Result<()> {
    let nowhere = Kafka { bootstrap: "127.0.0.1:9".into() };
    let mut app = App::without_topics(&nowhere, "nobody")?;
    app.set("startup.deadline.ms", "2000");
    app.refused("a", &["127.0.0.1:9", "startup.deadline.ms"]).map(drop)
}

#[test]
fn comes_goes_and_comes_back() -> Result<()> {
    let own = OwnKafka::reserve()?;
    let kafka = own.kafka();
    let app = App::without_topics(&kafka, "away")?;
    let mut instance = app.start("a")?;
    instance.line(&[&kafka.bootstrap])?;

    own.start()?;
    topics::create(&kafka, &app.input, 4, &[])?;
    topics::create(&kafka, &app.output, 4, &[])?;
    app.write(&[Record::new("foo", "1")])?;
    app.counts(&[("foo", 1)])?;

    // Silent until a client has given up on it, yet not so long that the group's session ends.
    own.freeze(1)?;
    let unheard = Writer::giving_up_after(&kafka, Duration::from_secs(8))?;
    unheard.write(&app.output, &Record::new("never", "acknowledged"))?;
    ensure!(unheard.finish().is_err(), "a frozen broker acknowledged a record");
    own.thaw(1)?;
    app.write(&[Record::new("foo", "2")])?;
    app.counts(&[("foo", 2)])?;

    own.stop()?;
    own.start()?;
    app.write(&[Record::new("foo", "3"), Record::new("hello", "1")])?;
    app.counts(&[("foo", 3), ("hello", 1)])?;
    instance.stop()
}
