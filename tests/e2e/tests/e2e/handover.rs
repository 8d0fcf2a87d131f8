//! Carried on in place: one application id, now in Kafka Streams, now in Millrace.

use anyhow::Result;
use millrace_e2e::app::App;
use millrace_e2e::counts::{Expect, Load, verify};
use millrace_e2e::kafka::Kafka;

#[test]
fn kafka_streams_then_millrace_then_kafka_streams() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "handover")?;
    // Else Kafka Streams could not join before Millrace's session has timed out.
    app.leave_on_stop();
    let group = app.group()?;
    let third = |seed| Load { records: 20_000, keys: 2_000, value_size: 20, seed }.write(&app.kafka, &app.input);

    third(4)?;
    let mut java = app.peer()?.start()?;
    group.caught_up()?;
    java.stop()?;

    third(5)?;
    let mut millrace = app.run("a")?;
    group.caught_up()?;
    millrace.stop()?;

    third(6)?;
    let mut java = app.peer()?.start()?;
    group.caught_up()?;
    java.stop()?;
    verify(&app.kafka, &app.input, &app.output, Expect::EveryCount).map(drop)
}
