//! What is measured: the settings of both sides, and what output is right. Knows nothing of how runs are made.

use millrace_e2e::counts::Expect;

use crate::run::Side;

/// What is done in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Input that is there already is processed to its end.
    Drain,
    /// It is killed while it processes, and started again on its disk.
    Restart,
}

pub(crate) struct Scenario {
    pub name: &'static str,
    pub kind: Kind,
    /// What it shows, for the head of its table.
    pub about: &'static str,
    /// Keys of Millrace's config file.
    pub millrace: &'static [(&'static str, &'static str)],
    /// Variables that the module reads.
    pub module: &'static [(&'static str, &'static str)],
    /// Options of `CountsApp`.
    pub kafka_streams: &'static [(&'static str, &'static str)],
    pub expect: Expect,
    /// The end of its output counts the markers of transactions, and its offsets are committed often.
    pub exactly_once: bool,
}

impl Scenario {
    /// The pass-through emits every update without transactions, and so is no limit to what does not.
    pub(crate) fn has(&self, side: Side) -> bool {
        let like_it = self.kind == Kind::Drain && self.expect == Expect::EveryCount && !self.exactly_once;
        side != Side::PassThrough || like_it
    }
}

/// A commit interval is left at each side's default: 1 s here, 30 s there; 100 ms on both under exactly-once.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "alos",
        kind: Kind::Drain,
        about: "at-least-once, every update emitted",
        millrace: &[("statestore.cache.max.bytes", "0")],
        module: &[],
        kafka_streams: &[("statestore.cache.max.bytes", "0")],
        expect: Expect::EveryCount,
        exactly_once: false,
    },
    Scenario {
        name: "alos-cached",
        kind: Kind::Drain,
        about: "at-least-once, the last update of a key per commit",
        millrace: &[("statestore.cache.max.bytes", "10485760")],
        module: &[],
        kafka_streams: &[("statestore.cache.max.bytes", "10485760")],
        expect: Expect::Rising,
        exactly_once: false,
    },
    Scenario {
        name: "memory-store",
        kind: Kind::Drain,
        about: "at-least-once, every update emitted, the store in memory",
        millrace: &[("statestore.cache.max.bytes", "0")],
        module: &[("COUNTS_STORE", "memory")],
        kafka_streams: &[("statestore.cache.max.bytes", "0"), ("store", "memory")],
        expect: Expect::EveryCount,
        exactly_once: false,
    },
    Scenario {
        name: "eos",
        kind: Kind::Drain,
        about: "exactly-once, every update emitted",
        millrace: EXACTLY_ONCE,
        module: &[],
        kafka_streams: EXACTLY_ONCE,
        expect: Expect::EveryCount,
        exactly_once: true,
    },
    Scenario {
        name: "restart-eos",
        kind: Kind::Restart,
        about: "exactly-once, kill -9 while processing, started again on the same disk under the same name",
        millrace: EXACTLY_ONCE,
        module: &[],
        kafka_streams: EXACTLY_ONCE,
        expect: Expect::EveryCount,
        exactly_once: true,
    },
];

const EXACTLY_ONCE: &[(&str, &str)] =
    &[("processing.guarantee", "exactly_once_v2"), ("statestore.cache.max.bytes", "0")];
