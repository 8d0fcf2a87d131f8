//! Exactly-once as Apache Kafka judges it: the short form of `./mill oracle eos`.

use anyhow::{Result, ensure};
use millrace_e2e::eos::Fault::{Kill, Stop};
use millrace_e2e::eos::Return::AtOnce;
use millrace_e2e::eos::Step::Instances;
use millrace_e2e::eos::{self, Options};
use millrace_e2e::kafka::Kafka;

#[test]
fn all_records_are_delivered() -> Result<()> {
    let settings = [("processing.guarantee", "exactly_once_v2"), ("kafka.consumer.session.timeout.ms", "6000")];
    let steps = [Instances(Kill, &["a"], AtOnce), Instances(Stop, &["b"], AtOnce)];
    let report = eos::run(&Kafka::shared()?, &Options { settings: &settings, logs: None }, steps.into_iter())?;
    for verdict in report.verdicts {
        ensure!(verdict.delivered, "{}:\n{}", verdict.command, verdict.log);
    }
    Ok(())
}
