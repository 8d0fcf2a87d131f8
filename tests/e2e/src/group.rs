//! What a consumer group has committed.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::Kafka;
use crate::{topics, wait};

const REQUEST: Duration = Duration::from_secs(5);

/// Asks again and again at little cost: one client, one request each time.
pub struct Group {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Group {
    pub fn new(kafka: &Kafka, group: &str, topic: &str) -> Result<Self> {
        let partitions =
            topics::partition_count(kafka, topic)?.with_context(|| format!("there is no topic {topic}"))?;
        let consumer = kafka.client().set("group.id", group).create().context("create a consumer")?;
        Ok(Self { consumer, topic: topic.to_owned(), partitions })
    }

    /// By partition: the next offset to read, if any was committed, and its metadata.
    pub fn committed(&self) -> Result<Vec<(Option<i64>, String)>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, self.partitions - 1);
        let ask = || self.consumer.committed_offsets(list.clone(), REQUEST);
        let answer = answered(ask).context("ask for committed offsets")?;
        let elements = answer.elements();
        Ok(elements
            .iter()
            .map(|element| match element.offset() {
                Offset::Offset(offset) => (Some(offset), element.metadata().to_owned()),
                _ => (None, String::new()),
            })
            .collect())
    }

    /// Sum over the partitions.
    pub fn progress(&self) -> Result<i64> {
        Ok(self.committed()?.iter().filter_map(|(offset, _)| *offset).sum())
    }

    /// Sum of the end offsets of the topic.
    pub fn end(&self) -> Result<i64> {
        (0..self.partitions)
            .map(|partition| {
                let ask = || self.consumer.fetch_watermarks(&self.topic, partition, REQUEST);
                Ok(answered(ask).context("ask for the end")?.1)
            })
            .sum()
    }

    /// Waits until everything there is in the topic now is committed.
    pub fn caught_up(&self) -> Result<()> {
        self.caught_up_within(wait::LONG)
    }

    pub fn caught_up_within(&self, limit: Duration) -> Result<()> {
        let end = self.end()?;
        wait::until(&format!("all {end} records of {} to be committed", self.topic), limit, || {
            Ok((self.progress()? >= end).then_some(()))
        })
    }
}

/// Asks again while the broker is away, or has not found its place after it came up.
fn answered<T>(ask: impl Fn() -> KafkaResult<T>) -> Result<T> {
    use RDKafkaErrorCode::{
        BrokerTransportFailure, CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator,
        NotLeaderForPartition, OperationTimedOut,
    };
    wait::until("the broker to have its place", wait::LONG, || match ask() {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => match error.rdkafka_error_code() {
            Some(
                BrokerTransportFailure
                | CoordinatorLoadInProgress
                | CoordinatorNotAvailable
                | NotCoordinator
                | NotLeaderForPartition
                | OperationTimedOut,
            ) => Ok(None),
            _ => Err(error.into()),
        },
    })
}
