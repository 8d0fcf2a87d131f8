//! Runs of the simulation: by chance, killed at every moment, and with mistakes that must be found.

use super::audit::Kind;
use super::rules::Mistake;
use super::world::World;
use super::*;
use crate::commit::{Guarantee, Step};

const SEEDS: u64 = 10_000;
/// Among which each mistake has to show.
const MISTAKE_SEEDS: u64 = 20_000;

/// The seeds to run: one if `MILLRACE_SEED` names it, another number of them if `MILLRACE_SEEDS` does.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    match (number("MILLRACE_SEED"), number("MILLRACE_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, seeds) => 0..seeds.unwrap_or(SEEDS),
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
        persistent: [true; 3],
        inputs,
        partitions: 2,
        punctuates: false,
        windows: inputs == 1,
    };
    guarantees.into_iter().flat_map(move |guarantee| {
        [false, true].into_iter().flat_map(move |cached| [1, 2].map(move |inputs| kind(guarantee, cached, inputs)))
    })
}

/// A crash between any two calls of a port, and between a call and its answer: of who runs the tasks and of who follows.
#[test]
fn a_crash_at_any_moment_loses_nothing() {
    for kind in kinds() {
        for (killed, on) in [(0, 0), (0, 1), (1, 0)] {
            let mut moment = 0;
            while World::of_kind(kind, Random::new(7)).run_killed_at(moment, killed, on).expect("no violation") {
                moment += 1;
            }
            assert!(moment > 20, "{kind:?} was through after {moment} moments");
        }
    }
}

/// Whether any run with these rules and this guarantee is found to be wrong.
fn is_caught(guarantee: Guarantee, with: impl Fn(World) -> World) -> bool {
    (0..MISTAKE_SEEDS).any(|seed| {
        let world = World::new(seed);
        world.guarantee() == guarantee && with(world).run().is_err()
    })
}

/// The simulation sees what each place in the order is for.
#[test]
fn a_broken_commit_order_is_caught() {
    use Step::{Acks, Changelog, Flush, Offsets, Write};
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
        let caught = is_caught(guarantee, |world| world.with_steps(&steps));
        assert!(caught, "{guarantee:?} in the order {steps:?} was not caught");
    }
}

/// And what each rule is for by which the host carries out what the core decides.
#[test]
fn a_broken_rule_is_caught() {
    for (guarantee, mistake) in [
        (Guarantee::AtLeastOnce, Mistake::StandbyKeepsInputs),
        (Guarantee::AtLeastOnce, Mistake::SwappedUncommitted),
        (Guarantee::ExactlyOnce, Mistake::SwappedUncommitted),
        (Guarantee::AtLeastOnce, Mistake::AddedUnasked),
        (Guarantee::ExactlyOnce, Mistake::AddedUnasked),
        (Guarantee::ExactlyOnce, Mistake::StandbyReadsUncommitted),
        (Guarantee::ExactlyOnce, Mistake::RestoreStopsAtStable),
        (Guarantee::ExactlyOnce, Mistake::OffsetsAreUnstable),
        (Guarantee::ExactlyOnce, Mistake::FailureMeansAborted),
        (Guarantee::ExactlyOnce, Mistake::HandedOverUncommitted),
        (Guarantee::ExactlyOnce, Mistake::ClosedTaskStaysInTransaction),
    ] {
        let caught = is_caught(guarantee, |world| world.with_mistake(mistake));
        assert!(caught, "{mistake:?} under {guarantee:?} was not caught");
    }
}
