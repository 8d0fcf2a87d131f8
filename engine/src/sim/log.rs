//! Owns a Kafka that fits into a test: partitions with offsets, the group's offsets, transactions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::ports::{Committed, Error, Log, Partitions, Rejected};
use crate::record::{Batch, Header, Offset, TopicPartition};
use crate::sim::audit::Audit;
use crate::sim::fuse::Fuse;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) timestamp: i64,
    pub(crate) headers: Vec<Header>,
    /// Written in a transaction, which may be open still.
    transaction: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    Open,
    Committed,
    Aborted,
}

/// All there is in the brokers.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    partitions: BTreeMap<TopicPartition, Partition>,
    group: BTreeMap<TopicPartition, Committed>,
    transactions: Vec<Transaction>,
    /// Of the group: whoever owned the tasks before is fenced.
    generation: u64,
}

#[derive(Debug, Default)]
struct Partition {
    records: Vec<Record>,
    end: i64,
}

impl Cluster {
    pub(crate) fn append(&mut self, partition: &TopicPartition, batch: &Batch) -> i64 {
        self.append_in(partition, batch, None)
    }

    fn append_in(&mut self, partition: &TopicPartition, batch: &Batch, transaction: Option<u64>) -> i64 {
        let log = self.partitions.entry(partition.clone()).or_default();
        let rows = batch.keys.iter().zip(batch.values.iter()).zip(&batch.timestamps).enumerate();
        for (index, ((key, value), &timestamp)) in rows {
            let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
            let headers = batch.headers.iter().filter(|header| header.index as usize == index).cloned().collect();
            log.records.push(Record { offset: log.end, key, value, timestamp, headers, transaction });
            log.end += 1;
        }
        log.end
    }

    /// A marker of a transaction takes an offset, too.
    fn mark(&mut self, transaction: u64, outcome: Transaction) {
        self.transactions[usize::try_from(transaction).expect("small")] = outcome;
        for log in self.partitions.values_mut() {
            if log.records.iter().any(|record| record.transaction == Some(transaction)) {
                log.end += 1;
            }
        }
    }

    fn outcome(&self, record: &Record) -> Transaction {
        let number = record.transaction.map(|number| usize::try_from(number).expect("small"));
        number.map_or(Transaction::Committed, |number| self.transactions[number])
    }

    /// What a reader at `from` sees under read_committed: committed records up to the first open one.
    pub(crate) fn read(&self, partition: &TopicPartition, from: i64) -> Vec<&Record> {
        let Some(log) = self.partitions.get(partition) else { return Vec::new() };
        let stable = self.stable_end(partition);
        let range = log.records.iter().filter(|record| record.offset >= from && record.offset < stable);
        range.filter(|record| self.outcome(record) == Transaction::Committed).collect()
    }

    /// Where the first open transaction begins, or the end.
    pub(crate) fn stable_end(&self, partition: &TopicPartition) -> i64 {
        let Some(log) = self.partitions.get(partition) else { return 0 };
        let open = log.records.iter().find(|record| self.outcome(record) == Transaction::Open);
        open.map_or(log.end, |record| record.offset)
    }

    /// The group gives the tasks to somebody, who waits until all transactions have ended: the broker aborts those of
    /// members that are gone.
    pub(crate) fn join(&mut self) -> u64 {
        for transaction in 0..self.transactions.len() {
            if self.transactions[transaction] == Transaction::Open {
                self.mark(transaction as u64, Transaction::Aborted);
            }
        }
        self.generation += 1;
        self.generation
    }

    pub(crate) fn committed(&self, partition: &TopicPartition) -> Option<&Committed> {
        self.group.get(partition)
    }

    /// Removes what a later record of the same key replaces, as far as no transaction is open.
    pub(crate) fn compact(&mut self, partition: &TopicPartition) {
        let stable = self.stable_end(partition);
        let outcome: Vec<Transaction> = self.transactions.clone();
        let Some(log) = self.partitions.get_mut(partition) else { return };
        let committed = |record: &Record| {
            record.transaction.is_none_or(|n| outcome[usize::try_from(n).expect("small")] == Transaction::Committed)
        };
        let mut last: BTreeMap<Option<Vec<u8>>, i64> = BTreeMap::new();
        for record in log.records.iter().filter(|record| record.offset < stable && committed(record)) {
            last.insert(record.key.clone(), record.offset);
        }
        log.records.retain(|record| {
            record.offset >= stable || (committed(record) && last.get(&record.key) == Some(&record.offset))
        });
    }

    /// The last value and timestamp of each key, as anybody who restores finds it.
    pub(crate) fn compacted(&self, partition: &TopicPartition) -> BTreeMap<Vec<u8>, (i64, Vec<u8>)> {
        let mut state = BTreeMap::new();
        for record in self.read(partition, 0) {
            let key = record.key.clone().expect("changelog records have keys");
            match &record.value {
                Some(value) => state.insert(key, (record.timestamp, value.clone())),
                None => state.remove(&key),
            };
        }
        state
    }
}

/// A producer and its group.
#[derive(Debug, Default)]
pub(crate) struct Producer {
    pub(crate) cluster: Arc<Mutex<Cluster>>,
    pub(crate) transactional: bool,
    /// A topic whose records with a certain value are refused.
    pub(crate) refuses: Option<(String, Vec<u8>)>,
    /// Port calls before one fails, and how.
    pub(crate) fails_in: Option<(usize, fn() -> Error)>,
    pub(crate) generation: u64,
    pub(crate) fuse: Fuse,
    pub(crate) audit: Option<Audit>,
    transaction: Option<u64>,
    /// Taken over, not written yet.
    queue: Vec<(TopicPartition, Batch)>,
    ends: BTreeMap<TopicPartition, Offset>,
}

impl Producer {
    pub(crate) fn new(cluster: &Arc<Mutex<Cluster>>, transactional: bool) -> Self {
        Self { cluster: cluster.clone(), transactional, ..Self::default() }
    }

    /// What happens at each call of a port, before its effect.
    fn call(&mut self) -> Result<(), Error> {
        self.fuse.before()?;
        match &mut self.fails_in {
            Some((0, error)) => {
                let error = error();
                self.fails_in = None;
                Err(error)
            }
            Some((calls, _)) => {
                *calls -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check_owner(&self) -> Result<(), Error> {
        let owner = self.cluster.lock().expect("no test panics with it").generation;
        if owner == self.generation { Ok(()) } else { Err(Error::Fenced("another generation".to_owned())) }
    }

    /// Writes the first `count` of what was taken over.
    pub(crate) fn write(&mut self, count: usize) {
        let cluster = self.cluster.clone();
        let mut cluster = cluster.lock().expect("no test panics with it");
        for (partition, batch) in self.queue.drain(..count) {
            let end = cluster.append_in(&partition, &batch, self.transaction);
            self.ends.insert(partition.clone(), Offset(end));
        }
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// A transaction the broker has aborted meanwhile stays so.
    fn end(&mut self, outcome: Transaction) {
        if let Some(transaction) = self.transaction.take() {
            let mut cluster = self.cluster.lock().expect("no test panics with it");
            if cluster.transactions[usize::try_from(transaction).expect("small")] == Transaction::Open {
                cluster.mark(transaction, outcome);
            }
        }
    }
}

/// Which partition of an output topic a record goes to; the tests have one.
const OUTPUT_PARTITION: u32 = 0;

impl Log for Producer {
    fn begin(&mut self) -> Result<(), Error> {
        self.call()?;
        if self.transactional {
            self.check_owner()?;
        }
        if self.transactional && self.transaction.is_none() {
            let mut cluster = self.cluster.lock().expect("no test panics with it");
            self.transaction = Some(cluster.transactions.len() as u64);
            cluster.transactions.push(Transaction::Open);
        }
        Ok(())
    }

    fn send(&mut self, topic: &str, partitions: Partitions<'_>, records: &Batch) -> Result<Vec<Rejected>, Error> {
        self.call()?;
        let refused = |value: Option<&[u8]>| {
            self.refuses.as_ref().is_some_and(|(name, bad)| name == topic && value == Some(&bad[..]))
        };
        let mut rejected = Vec::new();
        let mut taken = Batch::default();
        let rows = records.keys.iter().zip(records.values.iter()).zip(&records.timestamps).enumerate();
        for (index, ((key, value), &timestamp)) in rows {
            if refused(value) {
                rejected.push(Rejected { index, message: "too large".to_owned() });
                continue;
            }
            let to = u32::try_from(taken.len()).expect("small");
            let own = records.headers.iter().filter(|header| header.index as usize == index);
            taken.headers.extend(own.map(|header| Header { index: to, ..header.clone() }));
            taken.push(key, value, timestamp);
        }
        let partition = match partitions {
            Partitions::One(partition) => partition,
            Partitions::ByKey | Partitions::Each(_) => OUTPUT_PARTITION,
        };
        self.queue.push((TopicPartition::new(topic, partition), taken));
        self.fuse.after()?;
        Ok(rejected)
    }

    fn flush(&mut self) -> Result<Vec<(TopicPartition, Offset)>, Error> {
        self.call()?;
        if self.transactional {
            self.check_owner()?;
        }
        self.write(self.queue.len());
        self.fuse.after()?;
        Ok(std::mem::take(&mut self.ends).into_iter().collect())
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result<(), Error> {
        self.call()?;
        self.check_owner()?;
        if self.transactional {
            self.write(self.queue.len());
            self.end(Transaction::Committed);
        }
        self.cluster.lock().expect("no test panics with it").group.extend(offsets.iter().cloned());
        if let Some(audit) = &self.audit {
            audit.offsets_committed();
        }
        self.fuse.after()
    }

    fn abort(&mut self) -> Result<(), Error> {
        self.fuse.before()?;
        self.queue.clear();
        self.ends.clear();
        self.end(Transaction::Aborted);
        Ok(())
    }
}
