//! Owns partitions with offsets, what readers of them see, and the group's offsets. Must not know who writes.

use std::collections::BTreeMap;

use crate::ports::Committed;
use crate::record::{Batch, Header, Offset, TopicPartition};
use crate::sim::log::coordinator::{Outcome, Transactions};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) timestamp: i64,
    pub(crate) headers: Vec<Header>,
    /// Written in a transaction, which may be open still.
    pub(super) transaction: Option<usize>,
    /// A later record of its key has replaced it: nobody reads it any more, but the audit.
    compacted: bool,
}

/// All there is in the brokers.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    partitions: BTreeMap<TopicPartition, Partition>,
    pub(super) transactions: Transactions,
    /// What whoever asks the group is told.
    pub(super) group: BTreeMap<TopicPartition, Committed>,
    /// What it will be told when all transactions that are decided have ended everywhere.
    pub(super) decided: BTreeMap<TopicPartition, Committed>,
    /// Of the group: who is not of it is fenced.
    pub(crate) generation: u64,
}

#[derive(Debug, Default)]
struct Partition {
    records: Vec<Record>,
    end: i64,
}

/// The last value and timestamp of each key.
pub(crate) type Latest = BTreeMap<Vec<u8>, (i64, Vec<u8>)>;

fn latest<'a>(records: impl Iterator<Item = &'a Record>) -> Latest {
    let mut state = Latest::new();
    for record in records {
        let key = record.key.clone().expect("changelog records have keys");
        match &record.value {
            Some(value) => state.insert(key, (record.timestamp, value.clone())),
            None => state.remove(&key),
        };
    }
    state
}

impl Cluster {
    pub(crate) fn append(&mut self, partition: &TopicPartition, batch: &Batch) -> i64 {
        self.append_in(partition, batch, None)
    }

    pub(super) fn append_in(&mut self, to: &TopicPartition, batch: &Batch, transaction: Option<usize>) -> i64 {
        let log = self.partitions.entry(to.clone()).or_default();
        let rows = batch.keys.iter().zip(batch.values.iter()).zip(&batch.timestamps).enumerate();
        for (index, ((key, value), &timestamp)) in rows {
            let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
            let headers = batch.headers.iter().filter(|header| header.index as usize == index).cloned().collect();
            let offset = log.end;
            log.records.push(Record { offset, key, value, timestamp, headers, transaction, compacted: false });
            log.end += 1;
        }
        if let Some(transaction) = transaction {
            self.transactions.wrote(transaction, to);
        }
        self.partitions[to].end
    }

    /// A marker takes an offset, too.
    pub(super) fn append_marker(&mut self, to: &TopicPartition) {
        self.partitions.entry(to.clone()).or_default().end += 1;
    }

    fn is_committed(&self, record: &Record) -> bool {
        record.transaction.is_none_or(|number| self.transactions.outcome(number) == Some(Outcome::Committed))
    }

    /// What a reader at `from` sees under read_committed: committed records up to the first that is not decided.
    pub(crate) fn read(&self, partition: &TopicPartition, from: i64) -> Vec<&Record> {
        let stable = self.stable_end(partition);
        let range = self.records(partition).iter().filter(|record| record.offset >= from && record.offset < stable);
        range.filter(|record| !record.compacted && self.is_committed(record)).collect()
    }

    /// What a reader sees that does not ask for what is committed.
    pub(crate) fn read_uncommitted(&self, partition: &TopicPartition, from: i64) -> Vec<&Record> {
        let records = self.records(partition).iter();
        records.filter(|record| record.offset >= from && !record.compacted).collect()
    }

    /// What is decided to be committed, be the markers written or not.
    pub(crate) fn committed_records(&self, partition: &TopicPartition) -> impl Iterator<Item = &Record> {
        self.records(partition).iter().filter(|record| self.is_committed(record))
    }

    fn records(&self, partition: &TopicPartition) -> &[Record] {
        self.partitions.get(partition).map_or(&[], |log| &log.records)
    }

    /// The high watermark.
    pub(crate) fn end(&self, partition: &TopicPartition) -> i64 {
        self.partitions.get(partition).map_or(0, |log| log.end)
    }

    /// The last stable offset: where the first transaction begins that has no marker here, or the end.
    pub(crate) fn stable_end(&self, partition: &TopicPartition) -> i64 {
        let pending = |record: &&Record| {
            record.transaction.is_some_and(|transaction| self.transactions.is_pending(transaction, partition))
        };
        self.records(partition).iter().find(pending).map_or(self.end(partition), |record| record.offset)
    }

    /// Whether nothing is undecided anywhere.
    pub(crate) fn is_stable(&self) -> bool {
        self.partitions.keys().all(|partition| self.stable_end(partition) == self.end(partition))
    }

    pub(crate) fn committed(&self, partition: &TopicPartition) -> Option<&Committed> {
        self.group.get(partition)
    }

    /// Whether the group does not tell the offset, because a transaction that has added one is not at its end.
    pub(crate) fn is_unstable(&self, partition: &TopicPartition) -> bool {
        self.transactions.has_offset(partition)
    }

    /// What is decided to be committed.
    pub(crate) fn decided(&self, partition: &TopicPartition) -> i64 {
        self.decided.get(partition).map_or(0, |committed| committed.offset.0)
    }

    pub(super) fn commit_offsets(&mut self, offsets: &[(TopicPartition, Committed)]) {
        self.decided.extend(offsets.iter().cloned());
        self.group.extend(offsets.iter().cloned());
    }

    /// Removes what a later record of the same key replaces, as far as all is decided.
    pub(crate) fn compact(&mut self, partition: &TopicPartition) {
        let stable = self.stable_end(partition);
        let mut last: BTreeMap<Option<Vec<u8>>, i64> = BTreeMap::new();
        for record in self.read(partition, 0) {
            last.insert(record.key.clone(), record.offset);
        }
        let records = self.partitions.get_mut(partition).into_iter().flat_map(|log| &mut log.records);
        for record in records.filter(|record| record.offset < stable) {
            record.compacted |= last.get(&record.key) != Some(&record.offset);
        }
    }

    /// Keys whose last record before an offset is not there any more.
    pub(crate) fn compacted_away(&self, partition: &TopicPartition, before: Offset) -> Vec<Vec<u8>> {
        let mut last = BTreeMap::new();
        for record in self.committed_records(partition).filter(|record| record.offset < before.0) {
            last.insert(record.key.clone(), record.compacted);
        }
        last.into_iter().filter(|(_, compacted)| *compacted).filter_map(|(key, _)| key).collect()
    }

    /// The last value and timestamp of each key, as far as is decided, before an offset.
    pub(crate) fn compacted(&self, partition: &TopicPartition, before: Option<Offset>) -> Latest {
        latest(self.committed_records(partition).filter(|record| before.is_none_or(|end| record.offset < end.0)))
    }
}
