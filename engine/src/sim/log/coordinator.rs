//! Owns transactions as their coordinator sees them: who may write, what was decided, and where the markers of that are
//! missing yet. Must not know what is in the records.

use std::collections::{BTreeMap, BTreeSet};

use crate::ports::Committed;
use crate::record::TopicPartition;
use crate::sim::Random;
use crate::sim::log::cluster::Cluster;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    Aborted,
}

#[derive(Debug, Default)]
pub(super) struct Transactions {
    all: Vec<Transaction>,
    /// Of each transactional id: how often it was taken over.
    epochs: BTreeMap<usize, u64>,
    /// Requests to commit that are on their way, of producers that are gone.
    late: Vec<(usize, u64)>,
}

#[derive(Debug)]
struct Transaction {
    producer: usize,
    outcome: Option<Outcome>,
    /// Where it has written and no marker is.
    unmarked: BTreeSet<TopicPartition>,
    /// The group's offsets, as long as they have no marker.
    offsets: Vec<(TopicPartition, Committed)>,
}

impl Transaction {
    fn is_ended(&self) -> bool {
        self.outcome.is_some() && self.unmarked.is_empty() && self.offsets.is_empty()
    }
}

impl Transactions {
    pub(super) fn begin(&mut self, producer: usize) -> usize {
        self.all.push(Transaction { producer, outcome: None, unmarked: BTreeSet::new(), offsets: Vec::new() });
        self.all.len() - 1
    }

    pub(super) fn wrote(&mut self, transaction: usize, to: &TopicPartition) {
        self.all[transaction].unmarked.insert(to.clone());
    }

    pub(super) fn outcome(&self, transaction: usize) -> Option<Outcome> {
        self.all[transaction].outcome
    }

    /// Whether readers of a partition it has written to have to wait for it.
    pub(super) fn is_pending(&self, transaction: usize, partition: &TopicPartition) -> bool {
        let Transaction { outcome, unmarked, .. } = &self.all[transaction];
        outcome.is_none() || unmarked.contains(partition)
    }

    pub(super) fn has_offset(&self, partition: &TopicPartition) -> bool {
        self.all.iter().any(|transaction| transaction.offsets.iter().any(|(known, _)| known == partition))
    }

    pub(super) fn epoch(&self, producer: usize) -> u64 {
        self.epochs.get(&producer).copied().unwrap_or(0)
    }

    fn numbers(&self, chosen: impl Fn(&Transaction) -> bool) -> Vec<usize> {
        (0..self.all.len()).filter(|&number| chosen(&self.all[number])).collect()
    }
}

impl Cluster {
    /// A transaction gets the group's offsets: until it ends nobody is told what the group knows.
    pub(super) fn add_offsets(&mut self, transaction: usize, offsets: &[(TopicPartition, Committed)]) {
        self.transactions.all[transaction].offsets = offsets.to_vec();
    }

    /// Says how a transaction ends, unless that was said before.
    pub(super) fn decide(&mut self, transaction: usize, outcome: Outcome) {
        let decided = &mut self.transactions.all[transaction];
        if decided.outcome.is_none() {
            decided.outcome = Some(outcome);
            if outcome == Outcome::Committed {
                self.decided.extend(decided.offsets.iter().cloned());
            }
        }
    }

    /// All markers of a transaction that is decided.
    pub(super) fn mark_all(&mut self, transaction: usize) {
        for partition in std::mem::take(&mut self.transactions.all[transaction].unmarked) {
            self.append_marker(&partition);
        }
        self.mark_offsets(transaction);
    }

    fn mark_offsets(&mut self, transaction: usize) {
        let Transaction { outcome, offsets, .. } = &mut self.transactions.all[transaction];
        let offsets = std::mem::take(offsets);
        if *outcome == Some(Outcome::Committed) {
            self.group.extend(offsets);
        }
    }

    /// One of the markers that are missing is written.
    pub(crate) fn write_a_marker(&mut self, random: &mut Random) {
        let waiting = self.transactions.numbers(|known| known.outcome.is_some() && !known.is_ended());
        if waiting.is_empty() {
            return;
        }
        let number = waiting[random.below(waiting.len())];
        let unmarked = &mut self.transactions.all[number].unmarked;
        let at = random.below(unmarked.len() + 1);
        match unmarked.iter().nth(at).cloned() {
            Some(partition) => {
                unmarked.remove(&partition);
                self.append_marker(&partition);
            }
            None => self.mark_offsets(number),
        }
    }

    pub(crate) fn write_all_markers(&mut self) {
        for number in self.transactions.numbers(|known| known.outcome.is_some()) {
            self.mark_all(number);
        }
    }

    /// A producer takes a transactional id over: whoever had it is fenced, and what it had under way comes to its end.
    pub(super) fn take_over(&mut self, producer: usize) -> u64 {
        self.end_of(producer);
        self.end_last_of(producer);
        self.transactions.epoch(producer)
    }

    /// What was decided of a producer's transactions gets its markers.
    pub(super) fn end_last_of(&mut self, producer: usize) {
        for number in self.transactions.numbers(|known| known.producer == producer && known.outcome.is_some()) {
            self.mark_all(number);
        }
    }

    /// The time of a producer's transaction is over, if it has one.
    pub(crate) fn time_out(&mut self, producer: usize) -> bool {
        let open = self.transactions.all.iter().any(|known| known.producer == producer && known.outcome.is_none());
        if open {
            self.end_of(producer);
        }
        open
    }

    fn end_of(&mut self, producer: usize) {
        *self.transactions.epochs.entry(producer).or_default() += 1;
        for number in self.transactions.numbers(|known| known.producer == producer) {
            self.decide(number, Outcome::Aborted);
        }
    }

    /// The request of a producer that is gone to commit its transaction is still on its way.
    pub(super) fn send_late(&mut self, transaction: usize, epoch: u64) {
        self.transactions.late.push((transaction, epoch));
    }

    /// What is on its way arrives, and does what it asks for unless the transaction has ended. Says how often it did.
    pub(crate) fn receive_late(&mut self) -> usize {
        let mut late = std::mem::take(&mut self.transactions.late);
        late.retain(|&(transaction, epoch)| {
            let Transaction { producer, outcome, .. } = self.transactions.all[transaction];
            outcome.is_none() && self.transactions.epoch(producer) == epoch
        });
        late.iter().for_each(|&(transaction, _)| self.decide(transaction, Outcome::Committed));
        late.len()
    }
}
