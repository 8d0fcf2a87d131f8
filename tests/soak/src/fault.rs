//! What goes wrong, to whom and when, drawn from a seed before the run begins. Knows nothing of how it is done.

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
    /// Since the beginning of the run. Not before that; later if the step before takes its time.
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    pub(crate) lasts: Duration,
    /// Which broker, counted from 1, is for the step to say; instances have a list of their own.
    pub(crate) node: u16,
}

/// What can be done on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    pub(crate) networks: bool,
    pub(crate) disks: bool,
    pub(crate) brokers: u16,
}

/// What happens to whom. Each list is for one instance, and in order of time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) instances: Vec<Vec<Step>>,
    pub(crate) brokers: Vec<Step>,
}

/// Between two faults of one instance; short enough to meet restores and rebalances under way.
const PAUSE: (u64, u64) = (400, 9_000);
const BROKER_PAUSE: (u64, u64) = (8_000, 40_000);
/// On both sides of the time-outs of sessions (6 s) and transactions (10 s).
const LASTS: (u64, u64) = (500, 20_000);
const SCALE_IN_EVERY: (u64, u64) = (60_000, 150_000);

impl Plan {
    pub(crate) fn new(seed: u64, length: Duration, instances: usize, means: Means) -> Self {
        let mut chance = Chance(seed);
        let mut lists: Vec<Vec<Step>> = vec![Vec::new(); instances];
        let mut from = Duration::ZERO;
        while from < length {
            let to = (from + chance.between(SCALE_IN_EVERY)).min(length);
            for list in &mut lists {
                list.extend(chance.steps(from, to, PAUSE, &instance_faults(means)));
            }
            if to < length && instances > 1 {
                let survivor = chance.below(instances as u64);
                let lasts = chance.between(LASTS);
                for (_, list) in lists.iter_mut().enumerate().filter(|(number, _)| *number as u64 != survivor) {
                    list.push(Step { at: to, fault: Fault::ScaleIn, lasts, node: 0 });
                }
            }
            from = to;
        }
        let mut brokers = chance.steps(Duration::ZERO, length, BROKER_PAUSE, &broker_faults(means));
        for step in &mut brokers {
            step.node = 1 + u16::try_from(chance.below(u64::from(means.brokers))).unwrap_or_default();
        }
        Self { instances: lists, brokers }
    }
}

/// With how often each comes up.
fn instance_faults(means: Means) -> Vec<(Fault, u64)> {
    let mut faults = vec![(Fault::Kill, 8), (Fault::Stop, 4), (Fault::Freeze, 4), (Fault::LoseDisk, 1)];
    if means.networks {
        faults.push((Fault::Cut, 4));
    }
    if means.disks {
        faults.extend([(Fault::FullDisk, 2), (Fault::KillOnFullDisk, 1)]);
    }
    faults
}

fn broker_faults(means: Means) -> Vec<(Fault, u64)> {
    let mut faults = vec![(Fault::KillBroker, 3), (Fault::FreezeBroker, 1)];
    if means.networks {
        faults.push((Fault::CutBroker, 1));
    }
    faults
}

struct Chance(u64);

impl Chance {
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

    fn steps(&mut self, from: Duration, to: Duration, pause: (u64, u64), faults: &[(Fault, u64)]) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = from + self.between(pause);
        while at < to {
            let fault = self.one_of(faults);
            // Most processes are started again at once, as an orchestrator would.
            let at_once = matches!(fault, Fault::Kill | Fault::Stop | Fault::KillBroker) && self.below(3) > 0;
            let lasts = if at_once { Duration::ZERO } else { self.between(LASTS) };
            steps.push(Step { at, fault, lasts, node: 0 });
            at += lasts + self.between(pause);
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Means = Means { networks: true, disks: true, brokers: 3 };

    fn plan(seed: u64, means: Means) -> Plan {
        Plan::new(seed, Duration::from_secs(600), 3, means)
    }

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(plan(7, ALL), plan(7, ALL));
        assert_ne!(plan(7, ALL), plan(8, ALL));
    }

    #[test]
    fn every_fault_comes_up_and_in_order() {
        let plan = plan(7, ALL);
        for list in plan.instances.iter().chain([&plan.brokers]) {
            assert!(list.is_sorted_by_key(|step| step.at), "{list:?}");
            assert!(list.iter().all(|step| step.lasts <= Duration::from_millis(LASTS.1)));
        }
        let mut kinds: Vec<Fault> =
            plan.instances.concat().iter().chain(&plan.brokers).map(|step| step.fault).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), 11, "{kinds:?}");
        assert!(plan.brokers.iter().all(|step| (1..=3).contains(&step.node)));
    }

    #[test]
    fn without_means_nothing_is_cut_or_filled() {
        let plan = plan(7, Means { networks: false, disks: false, brokers: 1 });
        let needs = |fault| matches!(fault, Fault::Cut | Fault::CutBroker | Fault::FullDisk | Fault::KillOnFullDisk);
        assert!(!plan.instances.concat().iter().chain(&plan.brokers).any(|step| needs(step.fault)));
    }

    #[test]
    fn all_but_one_are_scaled_in_at_once() {
        let plan = plan(7, ALL);
        let scaled: Vec<Vec<Duration>> = plan
            .instances
            .iter()
            .map(|list| list.iter().filter(|step| step.fault == Fault::ScaleIn).map(|step| step.at).collect())
            .collect();
        let mut times = scaled.concat();
        times.sort_unstable();
        assert!(!times.is_empty());
        assert!(times.chunks(2).all(|pair| pair[0] == pair[1]), "{scaled:?}");
    }
}
