//! What is written to input topics, and which keys it has. A load that several scenarios use is written once.

use std::cell::RefCell;
use std::process;

use anyhow::Result;
use millrace_e2e::counts::Load;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::topics;

/// Which keys the records of a load have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Each as likely as the next.
    Uniform,
    /// A few often and most seldom, as it is with words, users and cities.
    Zipf,
}

/// Records of a topic: a first one of each key in turn, if asked for, then others as `keys` says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Records {
    pub load: Load,
    pub keys: Keys,
    /// Begins with one record of each key.
    pub filled: bool,
    /// Of each record there is another one in a second topic.
    pub pairs: bool,
    pub partitions: i32,
}

impl Records {
    pub(crate) fn count(&self) -> u64 {
        self.load.records + if self.filled { self.load.keys } else { 0 }
    }

    /// All that an application has to read.
    pub(crate) fn read(&self) -> u64 {
        self.count() * if self.pairs { 2 } else { 1 }
    }

    fn write(&self, kafka: &Kafka, topic: &str) -> Result<()> {
        let Self { load, keys, filled, .. } = *self;
        eprintln!("writing {} records, {} keys, values of {} bytes", self.count(), load.keys, load.value_size);
        if self.pairs {
            return load.write_pairs(kafka, [topic, &other(topic)]);
        }
        if filled {
            Load { records: load.keys, ..load }.write_in_turn(kafka, topic)?;
        }
        match keys {
            Keys::Uniform => load.write(kafka, topic),
            Keys::Zipf => {
                let zipf = Zipf::new(load.keys);
                load.write_keys(kafka, topic, |_, random| zipf.key(random))
            }
        }
    }
}

/// The second topic of pairs.
fn other(topic: &str) -> String {
    format!("{topic}.other")
}

/// The input topics of a run of the bench.
pub(crate) struct Inputs {
    kafka: Kafka,
    written: RefCell<Vec<(String, String)>>,
}

impl Inputs {
    pub(crate) fn new(kafka: &Kafka) -> Self {
        Self { kafka: kafka.clone(), written: RefCell::default() }
    }

    /// The topic that has these records.
    pub(crate) fn topic(&self, records: &Records) -> Result<String> {
        let what = format!("{records:?}");
        if let Some((_, topic)) = self.written.borrow().iter().find(|(of, _)| *of == what) {
            return Ok(topic.clone());
        }
        let topic = format!("bench-input-{}-{}", process::id(), self.written.borrow().len());
        topics::create(&self.kafka, &topic, records.partitions, &[("retention.ms", "-1")])?;
        if records.pairs {
            topics::create(&self.kafka, &other(&topic), records.partitions, &[("retention.ms", "-1")])?;
        }
        records.write(&self.kafka, &topic)?;
        self.written.borrow_mut().push((what, topic.clone()));
        Ok(topic)
    }

    /// Makes room on the disk.
    pub(crate) fn forget(&self, topic: &str) -> Result<()> {
        self.written.borrow_mut().retain(|(_, written)| written != topic);
        topics::delete(&self.kafka, &[topic])
    }
}

/// Draws keys so that the one of rank r comes 1/r^0.99 as often as the first: Gray and others, "Quickly generating
/// billion-record synthetic databases", SIGMOD 1994, as in YCSB.
#[derive(Debug)]
pub(crate) struct Zipf {
    keys: u64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

const SKEW: f64 = 0.99;
/// A prime beyond any number of keys: its multiple, modulo the keys, is another key for every rank.
const SCATTER: u64 = 2_654_435_761;

impl Zipf {
    pub(crate) fn new(keys: u64) -> Self {
        let zeta = |upto: u64| (1..=upto).map(|rank| (rank as f64).powf(-SKEW)).sum::<f64>();
        let all = zeta(keys);
        let eta = (1.0 - (2.0 / keys as f64).powf(1.0 - SKEW)) / (1.0 - zeta(2) / all);
        Self { keys, alpha: 1.0 / (1.0 - SKEW), zeta: all, eta }
    }

    /// The rank, from 0 on, that a random number stands for.
    fn rank(&self, random: u64) -> u64 {
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let scaled = share * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(SKEW) {
            return 1.min(self.keys - 1);
        }
        let rank = self.keys as f64 * (self.eta * share - self.eta + 1.0).powf(self.alpha);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is between 0 and the keys")]
        (rank as u64).min(self.keys - 1)
    }

    /// Often drawn keys are not neighbours in the store.
    pub(crate) fn key(&self, random: u64) -> u64 {
        self.rank(random) * SCATTER % self.keys
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use millrace_e2e::counts::next;

    use super::*;

    #[test]
    fn zipf_draws_ranks_as_often_as_it_should() {
        let zipf = Zipf::new(1_000);
        let (mut seed, draws) = (1, 200_000);
        let mut counts = vec![0_u32; 1_000];
        for _ in 0..draws {
            counts[usize::try_from(zipf.rank(next(&mut seed))).expect("a rank")] += 1;
        }
        for rank in [0_u32, 1, 9, 99] {
            let wanted = f64::from(draws) * f64::from(rank + 1).powf(-SKEW) / zipf.zeta;
            let found = f64::from(counts[rank as usize]);
            // The method is exact for the first two ranks, and an approximation after them.
            assert!((found / wanted - 1.0).abs() < 0.2, "rank {rank} came {found} times, not about {wanted}");
        }
        assert!(counts.iter().filter(|&&count| count > 0).count() > 900, "all ranks are drawn");
    }

    #[test]
    fn zipf_scatters_ranks_over_all_keys() {
        for keys in [1, 2, 1_000, 65_536] {
            let zipf = Zipf::new(keys);
            let found: HashSet<_> = (0..keys).map(|rank| rank * SCATTER % zipf.keys).collect();
            assert_eq!(found.len() as u64, keys);
            assert!([0, 1, u64::MAX / 2, u64::MAX].into_iter().all(|random| zipf.key(random) < keys));
        }
    }
}
