//! The limit with this client on this broker: each record is consumed, and one output and one changelog record are produced
//! for it, with no module, no state and no commit. A process of its own, so that it is measured as the others are.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::topics;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message, Offset, TopicPartitionList};

#[derive(Args)]
pub(crate) struct PassThrough {
    #[arg(long)]
    input: String,
    #[arg(long)]
    output: String,
    #[arg(long)]
    changelog: String,
}

/// Records between two looks at what was acknowledged.
const BATCH: usize = 1_000;

impl PassThrough {
    /// Runs until it is killed.
    pub(crate) fn run(&self, kafka: &Kafka) -> Result<()> {
        let partitions = topics::partition_count(kafka, &self.input)?.context("there is no input topic")?;
        let consumer: BaseConsumer = kafka
            .client()
            .set("group.id", "pass-through") // asked for, and never used
            .set("enable.auto.commit", "false")
            .set("queued.max.messages.kbytes", "65536")
            // The default is a second, in which a consumer whose queue was full fetches nothing.
            .set("fetch.queue.backoff.ms", "5")
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(&self.input, partition, Offset::Beginning)?;
        }
        let producer: BaseProducer = kafka
            .client()
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "500000")
            .create()?;
        consumer.assign(&list)?;
        println!("event=RUNNING");
        loop {
            for _ in 0..BATCH {
                let Some(message) = consumer.poll(Duration::from_millis(50)) else { break };
                let message = message.context("consume")?;
                let key = message.key().context("a record without key")?;
                produce(&producer, BaseRecord::to(&self.output).key(key).payload("12345"))?;
                let change = BaseRecord::to(&self.changelog).key(key).payload(&[0_u8; 8][..]);
                produce(&producer, change.partition(message.partition()))?;
            }
            producer.poll(Duration::ZERO);
        }
    }
}

fn produce<P: rdkafka::message::ToBytes + ?Sized>(
    producer: &BaseProducer,
    mut record: BaseRecord<'_, [u8], P>,
) -> Result<()> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => bail!("produce: {error}"),
        }
    }
}
