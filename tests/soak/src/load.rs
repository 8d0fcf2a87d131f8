//! Writes records at an even pace, and knows how many were acknowledged.

use std::time::Duration;

use anyhow::Result;
use millrace_e2e::counts::next;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::{Record, Writer};

use crate::journal::Journal;

const PER_SECOND: u128 = 1_000;
const KEYS: u64 = 2_000;

/// Writes until that moment of the run. All that was written is acknowledged then.
pub(crate) fn write(kafka: &Kafka, topic: &str, seed: u64, until: Duration, journal: &Journal) -> Result<u64> {
    let writer = Writer::giving_up_after(kafka, Writer::NEVER)?;
    let mut random = seed;
    let mut sent = 0_u64;
    // What could not be written while brokers were away is made up for.
    let due = || journal.elapsed().min(until).as_millis() * PER_SECOND / 1_000;
    journal.wait_until(until, || {
        while u128::from(sent) < due() {
            let key = format!("key-{:04}", next(&mut random) % KEYS);
            writer.write(topic, &Record::new(&key, "v"))?;
            sent += 1;
        }
        Ok(())
    })?;
    writer.finish()?;
    Ok(sent)
}
