//! Reads a partition from its beginning to where it ends now, for a command that compares. Must not know what is in it.

use std::time::{Duration, Instant};

use millrace_engine::ports::Error;
use millrace_engine::record::{Offset, TopicPartition};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;

use super::{ClientLog, Clients, classify, classify_question, create_with, number};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long nothing may come of what is there before the broker counts as away.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// A record, as long as it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub offset: Offset,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub timestamp: i64,
}

pub struct PartitionReader {
    consumer: BaseConsumer<ClientLog>,
}

impl PartitionReader {
    pub fn connect(clients: &Clients) -> Result<Self, Error> {
        Ok(Self { consumer: create_with(&clients.restore(), ClientLog, "reader of changelogs")? })
    }

    /// Where it begins and ends, transactions that are open left out.
    pub fn bounds(&self, partition: &TopicPartition) -> Result<(Offset, Offset), Error> {
        let asked = self.consumer.fetch_watermarks(&partition.topic, number(partition), REQUEST_TIMEOUT);
        let (begin, end) =
            asked.map_err(|error| classify_question(&format!("ask for the bounds of {partition}"), &error))?;
        Ok((Offset(begin), Offset(end)))
    }

    /// Visits what there is between two offsets.
    pub fn read(
        &self,
        partition: &TopicPartition,
        (begin, end): (Offset, Offset),
        visit: &mut dyn FnMut(Seen<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if begin >= end {
            return Ok(());
        }
        let doing = format!("read {partition}");
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&partition.topic, number(partition), rdkafka::Offset::Offset(begin.0))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| classify(&doing, &error))?;
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) if message.offset() >= end.0 => return Ok(()),
                Some(Ok(message)) => {
                    visit(Seen {
                        offset: Offset(message.offset()),
                        key: message.key(),
                        value: message.payload(),
                        timestamp: message.timestamp().to_millis().unwrap_or(0).max(0),
                    })?;
                    if message.offset() + 1 >= end.0 {
                        return Ok(());
                    }
                    deadline = Instant::now() + PATIENCE;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => match classify(&doing, &error) {
                    error @ (Error::Fatal(_) | Error::Fenced(_)) => return Err(error),
                    passing => tracing::debug!(%passing, "will try again"),
                },
                None if Instant::now() > deadline => {
                    return Err(Error::Retry(format!("{doing}: no answer in {} s", PATIENCE.as_secs())));
                }
                None => {}
            }
        }
    }
}
