//! Reads an output topic while it is written, and notices each committed record as soon as it can be read.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use millrace_e2e::kafka::Kafka;
use millrace_e2e::topics;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};

pub(crate) struct Outputs {
    consumer: BaseConsumer,
}

impl Outputs {
    pub(crate) fn from_beginning(kafka: &Kafka, topic: &str) -> Result<Self> {
        Self::from(kafka, topic, |_, _| Ok(Offset::Beginning))
    }

    /// What comes from now on.
    pub(crate) fn from_end(kafka: &Kafka, topic: &str) -> Result<Self> {
        Self::from(kafka, topic, |consumer, partition| {
            let (_, end) =
                consumer.fetch_watermarks(topic, partition, Duration::from_secs(30)).context("ask for the end")?;
            Ok(Offset::Offset(end))
        })
    }

    fn from(kafka: &Kafka, topic: &str, at: impl Fn(&BaseConsumer, i32) -> Result<Offset>) -> Result<Self> {
        let partitions =
            topics::partition_count(kafka, topic)?.with_context(|| format!("there is no topic {topic}"))?;
        let consumer: BaseConsumer = kafka
            .client()
            .set("group.id", "millrace-bench-outputs") // asked for, and never used: nothing is committed
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .create()
            .context("create a consumer")?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, at(&consumer, partition)?)?;
        }
        consumer.assign(&list).context("assign partitions")?;
        Ok(Self { consumer })
    }

    /// The next record, if one comes in time.
    pub(crate) fn next(&self, limit: Duration) -> Result<Option<BorrowedMessage<'_>>> {
        self.consumer.poll(limit).transpose().context("read the output")
    }

    /// When the next record came.
    pub(crate) fn first(&self, limit: Duration) -> Result<Instant> {
        self.next(limit)?.with_context(|| format!("no output in {} s", limit.as_secs()))?;
        Ok(Instant::now())
    }
}
