//! What is measured: the settings of both sides, and what output is right. Knows nothing of how runs are made.

use millrace_e2e::counts::Expect;

use crate::run::Side;

pub(crate) struct Scenario {
    pub name: &'static str,
    /// What it shows, for the head of its table.
    pub about: &'static str,
    /// Keys of Millrace's config file.
    pub millrace: &'static [(&'static str, &'static str)],
    /// Variables that the module reads.
    pub module: &'static [(&'static str, &'static str)],
    /// Options of `CountsApp`.
    pub kafka_streams: &'static [(&'static str, &'static str)],
    pub expect: Expect,
}

impl Scenario {
    /// The pass-through emits every update, and so is no limit to one that does not.
    pub(crate) fn has(&self, side: Side) -> bool {
        side != Side::PassThrough || self.expect == Expect::EveryCount
    }
}

/// A commit interval is left at each side's default: 1 s here, 30 s there.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "alos",
        about: "at-least-once, every update emitted",
        millrace: &[("statestore.cache.max.bytes", "0")],
        module: &[],
        kafka_streams: &[("statestore.cache.max.bytes", "0")],
        expect: Expect::EveryCount,
    },
    Scenario {
        name: "alos-cached",
        about: "at-least-once, the last update of a key per commit",
        millrace: &[("statestore.cache.max.bytes", "10485760")],
        module: &[],
        kafka_streams: &[("statestore.cache.max.bytes", "10485760")],
        expect: Expect::Rising,
    },
    Scenario {
        name: "memory-store",
        about: "at-least-once, every update emitted, the store in memory",
        millrace: &[("statestore.cache.max.bytes", "0")],
        module: &[("COUNTS_STORE", "memory")],
        kafka_streams: &[("statestore.cache.max.bytes", "0"), ("store", "memory")],
        expect: Expect::EveryCount,
    },
];
