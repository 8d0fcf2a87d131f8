//! What goes wrong next, and for how long, drawn from a seed. Knows nothing of how it is done.

use std::fmt;
use std::time::Duration;

use millrace_e2e::counts::next;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// kill -9, and a start after a while.
    Kill,
    /// SIGTERM, and a start after a while.
    Stop,
    /// SIGSTOP, and SIGCONT after a while.
    Freeze,
    /// Packets to and from it are dropped.
    Cut,
    /// Its disk has no room.
    FullDisk,
    /// kill -9 and a start while its disk has no room.
    KillOnFullDisk,
    /// kill -9, and a start on an empty disk.
    LoseDisk,
    /// All instances but one are stopped for a while.
    ScaleIn,
    KillBroker,
    FreezeBroker,
    CutBroker,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "kill -9 of an instance",
            Self::Stop => "SIGTERM of an instance",
            Self::Freeze => "SIGSTOP of an instance",
            Self::Cut => "network of an instance cut",
            Self::FullDisk => "disk full",
            Self::KillOnFullDisk => "kill -9 on a full disk",
            Self::LoseDisk => "kill -9 and disk lost",
            Self::ScaleIn => "scaled in (one instance stopped)",
            Self::KillBroker => "kill -9 of a broker",
            Self::FreezeBroker => "SIGSTOP of a broker",
            Self::CutBroker => "network of the brokers cut",
        })
    }
}

/// One fault of one instance or of the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// An instance must be up before it: not all are, so that starts meet faults, too.
    pub(crate) waits_for_running: bool,
    pub(crate) pause: Duration,
    pub(crate) fault: Fault,
    pub(crate) lasts: Duration,
    /// Which broker, counted from 1.
    pub(crate) node: u16,
}

/// All instances but one stop at a moment of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScaleIn {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) survivor: usize,
}

/// What can be done on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    pub(crate) networks: bool,
    pub(crate) disks: bool,
    pub(crate) brokers: u16,
}

/// Between two faults of one instance; short enough to meet restores and rebalances under way.
const PAUSE: (u64, u64) = (200, 6_000);
const BROKER_PAUSE: (u64, u64) = (8_000, 40_000);
/// On both sides of the time-outs of sessions (6 s) and transactions (10 s).
const LASTS: (u64, u64) = (500, 20_000);
const SCALE_IN_EVERY: (u64, u64) = (60_000, 150_000);

/// The faults of one instance or of the brokers, one after the other, without end.
pub(crate) struct Faults {
    chance: Chance,
    kinds: Vec<(Fault, u64)>,
    pause: (u64, u64),
    brokers: u16,
}

impl Faults {
    pub(crate) fn of_instance(seed: u64, number: usize, means: Means) -> Self {
        // With how often each comes up.
        let mut kinds = vec![(Fault::Kill, 8), (Fault::Stop, 4), (Fault::Freeze, 4), (Fault::LoseDisk, 1)];
        if means.networks {
            kinds.push((Fault::Cut, 4));
        }
        if means.disks {
            kinds.extend([(Fault::FullDisk, 2), (Fault::KillOnFullDisk, 1)]);
        }
        Self { chance: Chance::new(seed, 1 + number as u64), kinds, pause: PAUSE, brokers: means.brokers }
    }

    pub(crate) fn of_brokers(seed: u64, means: Means) -> Self {
        let mut kinds = vec![(Fault::KillBroker, 3), (Fault::FreezeBroker, 1)];
        if means.networks {
            kinds.push((Fault::CutBroker, 1));
        }
        Self { chance: Chance::new(seed, 0), kinds, pause: BROKER_PAUSE, brokers: means.brokers }
    }
}

impl Iterator for Faults {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let chance = &mut self.chance;
        let fault = chance.one_of(&self.kinds);
        // Most processes are started again at once, as an orchestrator would.
        let at_once = matches!(fault, Fault::Kill | Fault::Stop | Fault::KillBroker) && chance.below(3) > 0;
        Some(Step {
            waits_for_running: chance.below(4) > 0,
            pause: chance.between(self.pause),
            fault,
            lasts: if at_once { Duration::ZERO } else { chance.between(LASTS) },
            node: 1 + u16::try_from(chance.below(u64::from(self.brokers))).unwrap_or_default(),
        })
    }
}

pub(crate) fn scale_ins(seed: u64, length: Duration, instances: usize) -> Vec<ScaleIn> {
    let mut chance = Chance::new(seed, u64::MAX);
    let mut scale_ins = Vec::new();
    let mut at = chance.between(SCALE_IN_EVERY);
    while at < length && instances > 1 {
        let survivor = usize::try_from(chance.below(instances as u64)).unwrap_or_default();
        scale_ins.push(ScaleIn { at, lasts: chance.between(LASTS), survivor });
        at += chance.between(SCALE_IN_EVERY);
    }
    scale_ins
}

struct Chance(u64);

impl Chance {
    /// Independent of others of the same seed.
    fn new(seed: u64, stream: u64) -> Self {
        let mut state = seed ^ stream.wrapping_mul(0x2545_f491_4f6c_dd1d);
        Self(next(&mut state))
    }

    fn below(&mut self, end: u64) -> u64 {
        next(&mut self.0) % end
    }

    /// Milliseconds, as likely to be between 1 and 2 s as between 10 and 20 s.
    fn between(&mut self, (low, high): (u64, u64)) -> Duration {
        let octaves = (high / low).ilog2();
        let low = low << self.below(u64::from(octaves) + 1);
        Duration::from_millis(low + self.below(low.min(high - low)))
    }

    fn one_of(&mut self, faults: &[(Fault, u64)]) -> Fault {
        let mut left = self.below(faults.iter().map(|(_, weight)| weight).sum());
        let mut each = faults.iter();
        loop {
            match each.next() {
                Some((_, weight)) if left >= *weight => left -= weight,
                Some((fault, _)) => return *fault,
                None => unreachable!("below the sum of all weights"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: Means = Means { networks: true, disks: true, brokers: 3 };

    fn steps(seed: u64, number: usize, means: Means) -> Vec<Step> {
        Faults::of_instance(seed, number, means).take(300).collect()
    }

    fn kinds(steps: &[Step]) -> BTreeSet<Fault> {
        steps.iter().map(|step| step.fault).collect()
    }

    #[test]
    fn a_seed_and_a_number_are_a_list() {
        assert_eq!(steps(7, 0, ALL), steps(7, 0, ALL));
        assert_ne!(steps(7, 0, ALL), steps(7, 1, ALL));
        assert_ne!(steps(7, 0, ALL), steps(8, 0, ALL));
    }

    #[test]
    fn every_fault_comes_up_within_its_limits() {
        let brokers: Vec<Step> = Faults::of_brokers(7, ALL).take(300).collect();
        let instance = steps(7, 0, ALL);
        assert_eq!((kinds(&instance).len(), kinds(&brokers).len()), (7, 3));
        for step in instance.iter().chain(&brokers) {
            assert!(step.lasts <= Duration::from_millis(LASTS.1) && (1..=3).contains(&step.node), "{step:?}");
        }
        assert!(instance.iter().all(|step| step.pause <= Duration::from_millis(PAUSE.1)));
    }

    #[test]
    fn without_means_nothing_is_cut_or_filled() {
        let none = Means { networks: false, disks: false, brokers: 1 };
        let brokers: Vec<Step> = Faults::of_brokers(7, none).take(300).collect();
        let found: Vec<Fault> = kinds(&steps(7, 0, none)).union(&kinds(&brokers)).copied().collect();
        assert_eq!(
            found,
            [Fault::Kill, Fault::Stop, Fault::Freeze, Fault::LoseDisk, Fault::KillBroker, Fault::FreezeBroker]
        );
    }

    #[test]
    fn one_instance_survives_a_scale_in() {
        let length = Duration::from_secs(600);
        let found = scale_ins(7, length, 3);
        assert!((4..=10).contains(&found.len()) && found.is_sorted_by_key(|scale_in| scale_in.at), "{found:?}");
        assert!(found.iter().all(|scale_in| scale_in.at < length && scale_in.survivor < 3));
        assert_eq!(scale_ins(7, length, 1), []);
    }
}
