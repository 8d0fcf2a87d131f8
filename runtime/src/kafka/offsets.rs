//! What a group has committed and where its topics end, asked from outside the group; and setting it back. Must not know
//! what is read there.

use std::time::Duration;

use millrace_engine::ports::Error;
use millrace_engine::record::{Offset, TopicPartition};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};

use super::group::GroupContext;
use super::{Clients, GroupConsumer, GroupMember, classify, classify_question, create_with, number, present, to_list};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How far a group is in a partition.
#[derive(Debug, Clone)]
pub struct Progress {
    pub partition: TopicPartition,
    /// The next record to read; `None`: nothing was committed.
    pub committed: Option<Offset>,
    pub begin: Offset,
    pub end: Offset,
}

impl Progress {
    /// Records that are left, as Kafka counts them: in offsets.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let next = self.committed.unwrap_or(self.begin).max(self.begin);
        u64::try_from(self.end.0.saturating_sub(next.0)).unwrap_or(0)
    }
}

/// A client that asks about the group of an application, and never joins it.
pub struct GroupOffsets {
    group: String,
    consumer: GroupConsumer,
}

impl GroupOffsets {
    pub fn connect(clients: &Clients) -> Result<Self, Error> {
        let consumer = create_with(&clients.consumer(), GroupContext::default(), "client that asks for the group")?;
        Ok(Self { group: clients.application_id().to_owned(), consumer })
    }

    /// Who is in it.
    pub fn members(&self) -> Result<Vec<GroupMember>, Error> {
        let members = present(&self.consumer, &self.group, REQUEST_TIMEOUT)?;
        members.ok_or_else(|| Error::Fatal("the brokers do not know who is in a group".to_owned()))
    }

    pub fn progress(&self, partitions: &[TopicPartition]) -> Result<Vec<Progress>, Error> {
        let committed = self.committed(partitions)?;
        let mut all = Vec::with_capacity(partitions.len());
        for (partition, committed) in partitions.iter().zip(committed) {
            let (begin, end) = self
                .consumer
                .fetch_watermarks(&partition.topic, number(partition), REQUEST_TIMEOUT)
                .map_err(|error| classify_question(&format!("ask where {partition} begins and ends"), &error))?;
            all.push(Progress { partition: partition.clone(), committed, begin: Offset(begin), end: Offset(end) });
        }
        Ok(all)
    }

    fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<Offset>>, Error> {
        let asked = self.consumer.committed_offsets(to_list(partitions), REQUEST_TIMEOUT);
        let answer = asked.map_err(|error| classify_question("ask the group for committed offsets", &error))?;
        Ok(partitions.iter().map(|partition| offset_in(&answer, partition)).collect())
    }

    /// The first record of each partition that is no older; `None`: there is none yet.
    pub fn at_time(&self, partitions: &[TopicPartition], time_ms: i64) -> Result<Vec<Option<Offset>>, Error> {
        let doing = "ask for the offsets of a time";
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition_offset(&partition.topic, number(partition), rdkafka::Offset::Offset(time_ms))
                .map_err(|error| classify(doing, &error))?;
        }
        let asked = self.consumer.offsets_for_times(list, REQUEST_TIMEOUT);
        let answer = asked.map_err(|error| classify_question(doing, &error))?;
        for element in answer.elements() {
            element.error().map_err(|error| classify_question(doing, &error))?;
        }
        Ok(partitions.iter().map(|partition| offset_in(&answer, partition)).collect())
    }

    /// Has the group go on here. The broker refuses it as long as somebody is in the group.
    pub fn commit(&self, offsets: &[(TopicPartition, Offset)]) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let doing = "commit offsets to the group";
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            list.add_partition_offset(&partition.topic, number(partition), rdkafka::Offset::Offset(offset.0))
                .map_err(|error| classify(doing, &error))?;
        }
        self.consumer.commit(&list, CommitMode::Sync).map_err(|error| classify(doing, &error))?;
        // The client calls it a success if some of them were taken.
        let partitions: Vec<_> = offsets.iter().map(|(partition, _)| partition.clone()).collect();
        let committed = self.committed(&partitions)?;
        let refused = offsets.iter().zip(committed).find(|((_, wanted), committed)| *committed != Some(*wanted));
        match refused {
            Some(((partition, _), _)) => Err(Error::Fatal(format!("{doing}: that of {partition} was not taken"))),
            None => Ok(()),
        }
    }
}

fn offset_in(list: &TopicPartitionList, partition: &TopicPartition) -> Option<Offset> {
    match list.find_partition(&partition.topic, number(partition))?.offset() {
        rdkafka::Offset::Offset(offset) => Some(Offset(offset)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deleted_before_it_was_read_is_not_left() {
        let progress = |committed: Option<i64>| Progress {
            partition: TopicPartition::new("t", 0),
            committed: committed.map(Offset),
            begin: Offset(10),
            end: Offset(30),
        };
        for (committed, lag) in [(None, 20), (Some(5), 20), (Some(25), 5), (Some(30), 0), (Some(40), 0)] {
            assert_eq!(progress(committed).lag(), lag, "{committed:?}");
        }
    }
}
