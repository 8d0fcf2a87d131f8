//! Owns a producer and what it says to the group: the log of an instance. Must not know what becomes of a transaction after
//! its end was asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::ports::{Committed, Error, Log, Partitions, Rejected};
use crate::record::{Batch, Header, Offset, TopicPartition};
use crate::sim::audit::Audit;
use crate::sim::fuse::Fuse;
use crate::sim::log::cluster::Cluster;
use crate::sim::log::coordinator::Outcome;

/// A producer and its group.
#[derive(Debug, Default)]
pub(crate) struct Producer {
    pub(crate) cluster: Arc<Mutex<Cluster>>,
    pub(crate) transactional: bool,
    /// A topic whose records with a certain value are refused.
    pub(crate) refuses: Option<(String, Vec<u8>)>,
    /// And says so beforehand.
    pub(crate) foresees: bool,
    /// Requests before one fails, and how.
    pub(crate) fails_in: Option<(usize, fn() -> Error)>,
    /// Answers before one is lost: what was asked for is done.
    pub(crate) loses_answer_in: Option<usize>,
    /// Of the group, as far as the instance knows.
    pub(crate) generation: u64,
    pub(crate) fuse: Fuse,
    pub(crate) audit: Option<Audit>,
    /// Its transactional id.
    id: usize,
    epoch: u64,
    transaction: Option<usize>,
    /// Taken over, not written yet.
    queue: Vec<(TopicPartition, Batch)>,
    ends: BTreeMap<TopicPartition, Offset>,
}

fn lock(cluster: &Mutex<Cluster>) -> std::sync::MutexGuard<'_, Cluster> {
    cluster.lock().expect("no test panics with it")
}

impl Producer {
    pub(crate) fn new(cluster: &Arc<Mutex<Cluster>>, transactional: bool) -> Self {
        Self { cluster: cluster.clone(), transactional, ..Self::default() }
    }

    /// Takes a transactional id over.
    pub(crate) fn with_id(mut self, id: usize) -> Self {
        let epoch = lock(&self.cluster).take_over(id);
        (self.id, self.epoch) = (id, epoch);
        self
    }

    /// What happens at each request, before its effect.
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

    /// What happens at each answer that says what became of a request.
    fn answer(&mut self) -> Result<(), Error> {
        self.fuse.after()?;
        match &mut self.loses_answer_in {
            Some(0) => {
                self.loses_answer_in = None;
                Err(Error::Retry("the answer is lost".to_owned()))
            }
            Some(answers) => {
                *answers -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn is_fenced(&self, cluster: &Cluster) -> bool {
        self.transactional && cluster.transactions.epoch(self.id) != self.epoch
    }

    fn check_epoch(&self) -> Result<(), Error> {
        let fenced = self.is_fenced(&lock(&self.cluster));
        if fenced { Err(Error::Fenced("the transactional id was taken over".to_owned())) } else { Ok(()) }
    }

    fn check_generation(&self) -> Result<(), Error> {
        let known = lock(&self.cluster).generation;
        if known == self.generation { Ok(()) } else { Err(Error::Fenced("another generation".to_owned())) }
    }

    /// Writes the first `count` of what was taken over, or none of it if it is fenced.
    pub(crate) fn write(&mut self, count: usize) {
        let cluster = self.cluster.clone();
        let mut cluster = lock(&cluster);
        if self.is_fenced(&cluster) {
            return self.queue.clear();
        }
        for (partition, batch) in self.queue.drain(..count) {
            let end = cluster.append_in(&partition, &batch, self.transaction);
            self.ends.insert(partition.clone(), Offset(end));
        }
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The transaction, if one is open, with the offsets, to its end.
    fn commit_transaction(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result<(), Error> {
        self.check_epoch()?;
        self.write(self.queue.len());
        let Some(transaction) = self.transaction else { return Ok(()) };
        lock(&self.cluster).add_offsets(transaction, offsets);
        if let Err(error) = self.call() {
            if self.fuse.is_dead() {
                lock(&self.cluster).send_late(transaction, self.epoch);
            }
            return Err(error);
        }
        self.transaction = None;
        lock(&self.cluster).decide(transaction, Outcome::Committed);
        Ok(())
    }
}

/// Which partition of an output topic a record goes to; the tests have one.
const OUTPUT_PARTITION: u32 = 0;

impl Log for Producer {
    fn begin(&mut self) -> Result<(), Error> {
        self.call()?;
        if self.transactional && self.transaction.is_none() {
            self.check_epoch()?;
            let mut cluster = lock(&self.cluster);
            // The coordinator lets nobody begin another one before the last one has ended everywhere.
            cluster.end_last_of(self.id);
            self.transaction = Some(cluster.transactions.begin(self.id));
        }
        Ok(())
    }

    fn objection(&self, topic: &str, records: &Batch) -> Option<Rejected> {
        let (name, bad) = self.refuses.as_ref().filter(|_| self.foresees)?;
        let index = records.values.iter().position(|value| name == topic && value == Some(&bad[..]))?;
        Some(Rejected { index, message: "too large".to_owned() })
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
        self.check_epoch()?;
        self.write(self.queue.len());
        self.answer()?;
        Ok(std::mem::take(&mut self.ends).into_iter().collect())
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result<(), Error> {
        self.call()?;
        // The group is asked only if there is something to tell it.
        if !offsets.is_empty() {
            self.check_generation()?;
        }
        if self.transactional {
            self.commit_transaction(offsets)?;
        } else {
            lock(&self.cluster).commit_offsets(offsets);
        }
        if let Some(audit) = &self.audit {
            audit.offsets_committed();
        }
        self.answer()
    }

    fn abort(&mut self) -> Result<(), Error> {
        self.fuse.before()?;
        self.queue.clear();
        self.ends.clear();
        self.check_epoch()?;
        if let Some(transaction) = self.transaction.take() {
            lock(&self.cluster).decide(transaction, Outcome::Aborted);
        }
        Ok(())
    }
}
