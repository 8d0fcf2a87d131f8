//! A load at a steady rate. When a record is due is fixed beforehand: a sender that is late does not put off those that
//! follow, and what it is late counts as waited for.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_e2e::kafka::Kafka;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;

/// Record `i` has key `i % keys`, and is the `i / keys + 1`-th of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steady {
    pub records_per_s: u32,
    pub seconds: u32,
    pub keys: u64,
    pub value_size: usize,
}

/// A record that is sent later than this is one that the sender, not the application, is late with.
const LATE: Duration = Duration::from_millis(5);

impl Steady {
    pub(crate) fn count(&self) -> u64 {
        u64::from(self.records_per_s) * u64::from(self.seconds)
    }

    /// When a record is due.
    pub(crate) fn due(&self, begin: Instant, record: u64) -> Instant {
        begin + Duration::from_nanos(record * 1_000_000_000 / u64::from(self.records_per_s))
    }

    pub(crate) fn key(&self, record: u64) -> String {
        format!("key-{:08}", record % self.keys)
    }

    /// The record that made the count of a key become this. The key is the number in its name.
    pub(crate) fn record(&self, key: u64, count: u64) -> Option<u64> {
        count.checked_sub(1)?.checked_mul(self.keys)?.checked_add(key).filter(|&record| record < self.count())
    }

    /// Sends all of it, from `begin` on, and says how many it was late with.
    pub(crate) fn send(&self, kafka: &Kafka, topic: &str, begin: Instant) -> Result<u64> {
        let producer: BaseProducer = kafka
            .client()
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .create()
            .context("create a producer")?;
        let value = vec![b'v'; self.value_size];
        let mut late = 0;
        for record in 0..self.count() {
            let due = self.due(begin, record);
            loop {
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                thread::park_timeout(left);
            }
            late += u64::from(due.elapsed() > LATE);
            let key = self.key(record);
            let mut message = BaseRecord::<[u8], [u8]>::to(topic).key(key.as_bytes()).payload(&value);
            while let Err((error, back)) = producer.send(message) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    bail!("produce: {error}");
                }
                message = back;
                producer.poll(Duration::from_millis(1));
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(Duration::from_secs(60)).context("wait for acknowledgements")?;
        Ok(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_names_the_record_that_made_it() {
        let steady = Steady { records_per_s: 10, seconds: 2, keys: 3, value_size: 0 };
        let mut counts = [0; 3];
        for record in 0..steady.count() {
            let key = record % 3;
            let count = &mut counts[usize::try_from(key).expect("small")];
            *count += 1;
            assert_eq!(steady.record(key, *count), Some(record));
            assert_eq!(steady.key(record), format!("key-{key:08}"));
        }
        assert_eq!(steady.record(2, 7), None, "there are 20 records, 0 to 19");
        assert_eq!(steady.record(0, 0), None, "no record makes a count of nothing");
    }

    #[test]
    fn records_are_due_evenly() {
        let steady = Steady { records_per_s: 2_000, seconds: 30, keys: 1_000, value_size: 0 };
        let begin = Instant::now();
        assert_eq!(steady.due(begin, 0), begin);
        assert_eq!(steady.due(begin, 1) - begin, Duration::from_micros(500));
        assert_eq!(steady.due(begin, 59_999) - begin, Duration::from_micros(29_999_500));
    }
}
