//! Owns the world the core is tested in: a Kafka, disks, modules and a source of chance, and runs of the core through
//! anything that may happen to it. Must not be built into anything but tests.

pub(crate) mod audit;
mod disk;
pub(crate) mod fuse;
pub(crate) mod guest;
pub(crate) mod log;
mod random;
mod world;

pub(crate) use random::Random;

#[cfg(test)]
mod tests {
    use super::audit::Kind;
    use super::world::World;
    use super::*;
    use crate::commit::{Guarantee, Step};

    const SEEDS: u64 = 10_000;

    /// The seeds to run: one, if `MILLRACE_SEED` names it.
    fn seeds() -> std::ops::Range<u64> {
        match std::env::var("MILLRACE_SEED") {
            Ok(seed) => {
                let seed = seed.parse().expect("MILLRACE_SEED is a number");
                seed..seed + 1
            }
            Err(_) => 0..SEEDS,
        }
    }

    fn check(seed: u64, run: Result<(), String>) {
        if let Err(violation) = run {
            panic!("{violation}\nreplay: MILLRACE_SEED={seed} cargo test -p millrace-engine --release sim");
        }
    }

    #[test]
    fn nothing_that_happens_breaks_an_invariant() {
        let seeds = seeds();
        let one = seeds.end - seeds.start == 1;
        for seed in seeds {
            let world = World::new(seed);
            check(seed, if one { world.with_story() } else { world }.run());
        }
    }

    fn kinds() -> impl Iterator<Item = Kind> {
        let guarantees = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce];
        let kind = |guarantee, cached, inputs| Kind {
            guarantee,
            cached,
            logged: true,
            persistent: true,
            inputs,
            partitions: 2,
        };
        guarantees.into_iter().flat_map(move |guarantee| {
            [false, true].into_iter().flat_map(move |cached| [1, 2].map(move |inputs| kind(guarantee, cached, inputs)))
        })
    }

    /// A crash between any two calls of a port, and between a call and its answer.
    #[test]
    fn a_crash_at_any_moment_loses_nothing() {
        for kind in kinds() {
            for restart_on in [0, 1] {
                let mut moment = 0;
                while World::of_kind(kind, Random::new(7)).run_killed_at(moment, restart_on).expect("no violation") {
                    moment += 1;
                }
                assert!(moment > 50, "{kind:?} was through after {moment} moments");
            }
        }
    }

    /// The simulation sees what each place in the order is for.
    #[test]
    fn a_broken_commit_order_is_caught() {
        use Step::{Acks, Changelog, Flush, Offsets, Write};
        let caught = |guarantee, steps: &[Step]| {
            (0..1_000).any(|seed| {
                let world = World::new(seed);
                world.guarantee() == guarantee && world.with_steps(steps).run().is_err()
            })
        };
        for (guarantee, steps) in [
            (Guarantee::AtLeastOnce, [Changelog, Flush, Acks, Write, Offsets]),
            (Guarantee::AtLeastOnce, [Flush, Acks, Changelog, Write, Offsets]),
            (Guarantee::AtLeastOnce, [Flush, Changelog, Write, Acks, Offsets]),
            (Guarantee::AtLeastOnce, [Flush, Changelog, Acks, Offsets, Write]),
            (Guarantee::AtLeastOnce, [Offsets, Flush, Changelog, Acks, Write]),
            (Guarantee::ExactlyOnce, [Flush, Changelog, Acks, Write, Offsets]),
            (Guarantee::ExactlyOnce, [Changelog, Flush, Acks, Offsets, Write]),
            (Guarantee::ExactlyOnce, [Flush, Offsets, Changelog, Acks, Write]),
            (Guarantee::ExactlyOnce, [Offsets, Flush, Changelog, Acks, Write]),
        ] {
            assert!(caught(guarantee, &steps), "{guarantee:?} in the order {steps:?} was not caught");
        }
        for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
            assert!(!caught(guarantee, guarantee.steps()), "{guarantee:?} in its own order was");
        }
    }
}
