//! Follows the output while the run goes on: says at once what is odd, and knows for how long nothing came.

use std::time::{Duration, Instant};

use anyhow::Result;
use millrace_e2e::counts::Audit;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::Reader;
use rdkafka::Message;

use crate::journal::Journal;

/// Enough to find the place in the logs; the verdict counts them all.
const ODD_SHOWN: usize = 10;

/// The longest time without a record in one partition of the output.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stall {
    pub(crate) lasted: Duration,
    pub(crate) partition: usize,
    /// Since the beginning of the run.
    pub(crate) ended: Duration,
}

pub(crate) fn follow(kafka: &Kafka, topic: &str, partitions: usize, journal: &Journal) -> Result<Stall> {
    let mut audit = Audit::default();
    let mut stall = Stall::default();
    let mut last = vec![Instant::now(); partitions];
    let mut shown = 0;
    Reader::new(kafka, topic)?.follow(
        || !journal.is_over(),
        |message| {
            if let Some(odd) = audit.add_output(message)? {
                shown += 1;
                if shown <= ODD_SHOWN {
                    let key = String::from_utf8_lossy(message.key().unwrap_or_default());
                    journal.say(&format!("odd output: {key} {odd}"));
                }
            }
            let partition = usize::try_from(message.partition())?;
            let lasted = last[partition].elapsed();
            last[partition] = Instant::now();
            if lasted > stall.lasted {
                stall = Stall { lasted, partition, ended: journal.elapsed() };
            }
            Ok(())
        },
    )?;
    Ok(stall)
}
