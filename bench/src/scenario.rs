//! What is measured: the settings of both sides, what output is right, and what is to be reached. Knows nothing of how
//! runs are made.

use millrace_e2e::counts::Expect;

use crate::load::Keys;
use crate::side::Side;

/// What is done in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Input that is there already is processed to its end.
    Drain,
    /// The same, counted in windows of a second.
    Windows,
    /// The same of two inputs that are joined.
    Join,
    /// So is input that comes after a state that is larger than all caches.
    LargeState(Keys),
    /// Records come at a steady rate, and each is waited for.
    Latency,
    /// It is killed while it processes, and started again on its disk.
    Restart,
    /// It starts on an empty disk, with a state to be read back.
    Restore,
    /// It starts with nothing.
    Start(Waits),
    /// Two instances share this many partitions.
    ManyTasks(i32),
    /// One measure of the load or the configuration after the other takes its values.
    Growth,
    /// Clients ask for keys while it processes.
    Queries,
}

/// How long a broker holds up the first members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// As brokers do by default.
    Default,
    Never,
}

/// What Millrace is held to.
pub(crate) struct Goal {
    pub figure: &'static str,
    pub bound: Bound,
    pub to: To,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What its figure is divided by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    KafkaStreams,
    PassThrough,
    /// Another figure of its own.
    Figure(&'static str),
    Nothing,
}

const fn at_least(figure: &'static str, times: f64) -> Goal {
    Goal { figure, bound: Bound::AtLeast(times), to: To::KafkaStreams }
}

const fn at_most(figure: &'static str, times: f64) -> Goal {
    Goal { figure, bound: Bound::AtMost(times), to: To::KafkaStreams }
}

type Settings = &'static [(&'static str, &'static str)];

pub(crate) struct Scenario {
    pub name: &'static str,
    pub kind: Kind,
    /// What it shows, for the head of its table.
    pub about: &'static str,
    /// Keys of Millrace's config file.
    pub millrace: Settings,
    /// Variables that the module reads.
    pub module: Settings,
    /// Options of `CountsApp`.
    pub kafka_streams: Settings,
    pub expect: Expect,
    /// The end of its output counts the markers of transactions, and its offsets are committed often.
    pub exactly_once: bool,
    pub goals: &'static [Goal],
}

impl Scenario {
    /// The pass-through emits every update without transactions, and so is no limit to what does not. Kafka Streams serves
    /// nothing over HTTP.
    pub(crate) fn has(&self, side: Side) -> bool {
        let like_it = self.kind == Kind::Drain && self.expect == Expect::EveryCount && !self.exactly_once;
        match side {
            Side::Millrace => true,
            Side::KafkaStreams => self.kind != Kind::Queries,
            Side::PassThrough => like_it,
        }
    }
}

/// At-least-once, every update emitted; a scenario says what it does otherwise.
const PLAIN: Scenario = Scenario {
    name: "",
    kind: Kind::Drain,
    about: "",
    millrace: EVERY_UPDATE,
    module: &[],
    kafka_streams: EVERY_UPDATE,
    expect: Expect::EveryCount,
    exactly_once: false,
    goals: &[],
};

const EVERY_UPDATE: Settings = &[("statestore.cache.max.bytes", "0")];
const EXACTLY_ONCE: Settings = &[("processing.guarantee", "exactly_once_v2"), ("statestore.cache.max.bytes", "0")];
const CACHE: Settings = &[("statestore.cache.max.bytes", "10485760")];
/// As often as Millrace does by default, so that a kill leaves both as much to do again.
const COMMIT_EACH_SECOND: Settings = &[("statestore.cache.max.bytes", "0"), ("commit.interval.ms", "1000")];

/// A commit interval is left at each side's default, if nothing else is said: 1 s here, 30 s there; 100 ms on both under
/// exactly-once.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "alos",
        about: "at-least-once, every update emitted",
        goals: &[
            at_least("records_per_s", 4.0),
            Goal { figure: "records_per_s", bound: Bound::AtLeast(0.75), to: To::PassThrough },
            at_most("cpu_s_per_million", 0.2),
            at_most("peak_rss_mb", 0.2),
        ],
        ..PLAIN
    },
    Scenario {
        name: "alos-cached",
        about: "at-least-once, the last update of a key per commit",
        millrace: CACHE,
        kafka_streams: CACHE,
        expect: Expect::Rising,
        goals: &[at_least("records_per_s", 4.0), at_most("cpu_s_per_million", 0.2), at_most("peak_rss_mb", 0.1)],
        ..PLAIN
    },
    Scenario {
        name: "memory-store",
        about: "at-least-once, every update emitted, the store in memory",
        module: &[("COUNTS_STORE", "memory")],
        kafka_streams: &[("statestore.cache.max.bytes", "0"), ("store", "memory")],
        goals: &[at_least("records_per_s", 4.0), at_most("cpu_s_per_million", 0.2)],
        ..PLAIN
    },
    Scenario {
        name: "eos",
        about: "exactly-once, every update emitted",
        millrace: EXACTLY_ONCE,
        kafka_streams: EXACTLY_ONCE,
        exactly_once: true,
        goals: &[at_least("records_per_s", 4.0), at_most("cpu_s_per_million", 0.2), at_most("peak_rss_mb", 0.2)],
        ..PLAIN
    },
    Scenario {
        name: "windowed-count",
        kind: Kind::Windows,
        about: "counts in windows of a second by the time of the records, at-least-once, every update emitted",
        module: &[("COUNTS_MODE", "windows")],
        kafka_streams: &[("statestore.cache.max.bytes", "0"), ("windows", "1")],
        goals: &[at_least("records_per_s", 2.0), at_most("cpu_s_per_million", 0.5)],
        ..PLAIN
    },
    Scenario {
        name: "stream-join",
        kind: Kind::Join,
        about: "an inner join of two streams in which each record meets one, at-least-once",
        module: &[("COUNTS_MODE", "join")],
        kafka_streams: &[("statestore.cache.max.bytes", "0"), ("join", "1")],
        goals: &[at_least("records_per_s", 2.0), at_most("cpu_s_per_million", 0.5)],
        ..PLAIN
    },
    Scenario {
        name: "large-state-uniform",
        kind: Kind::LargeState(Keys::Uniform),
        about: "updates of a state larger than the caches, each key as likely as the next",
        goals: LARGE_STATE,
        ..PLAIN
    },
    Scenario {
        name: "large-state-zipf",
        kind: Kind::LargeState(Keys::Zipf),
        about: "updates of a state larger than the caches, few keys often and many seldom (Zipf, 0.99)",
        goals: LARGE_STATE,
        ..PLAIN
    },
    Scenario {
        name: "latency-alos",
        kind: Kind::Latency,
        about: "from when a record was due to its output, at-least-once, defaults of each side",
        goals: &[at_most("p50_ms", 0.2), at_most("p99_ms", 0.2)],
        ..PLAIN
    },
    Scenario {
        name: "latency-alos-tuned",
        kind: Kind::Latency,
        about: "from when a record was due to its output, at-least-once, each side tuned for it",
        millrace: &[("statestore.cache.max.bytes", "0"), ("kafka.producer.linger.ms", "0")],
        kafka_streams: &[("statestore.cache.max.bytes", "0"), ("streams.producer.linger.ms", "0")],
        goals: &[at_most("p50_ms", 0.5), at_most("p99_ms", 0.5)],
        ..PLAIN
    },
    Scenario {
        name: "latency-eos",
        kind: Kind::Latency,
        about: "from when a record was due to its committed output, exactly-once, defaults of each side",
        millrace: EXACTLY_ONCE,
        kafka_streams: EXACTLY_ONCE,
        exactly_once: true,
        goals: &[at_most("p50_ms", 0.2), at_most("p99_ms", 0.2)],
        ..PLAIN
    },
    Scenario {
        name: "latency-eos-tuned",
        kind: Kind::Latency,
        about: "from when a record was due to its committed output, exactly-once, linger 0, commits each 20 ms (here: when idle)",
        millrace: &[
            ("processing.guarantee", "exactly_once_v2"),
            ("statestore.cache.max.bytes", "0"),
            ("kafka.producer.linger.ms", "0"),
        ],
        kafka_streams: &[
            ("processing.guarantee", "exactly_once_v2"),
            ("statestore.cache.max.bytes", "0"),
            ("commit.interval.ms", "20"),
            ("streams.producer.linger.ms", "0"),
        ],
        exactly_once: true,
        goals: &[at_most("p50_ms", 0.5), at_most("p99_ms", 0.5)],
        ..PLAIN
    },
    Scenario {
        name: "restart-alos",
        kind: Kind::Restart,
        about: "at-least-once, kill -9 while processing, started again on the same disk under the same name",
        millrace: COMMIT_EACH_SECOND,
        kafka_streams: COMMIT_EACH_SECOND,
        // Output is repeated after a kill.
        expect: Expect::Last,
        goals: RESTART,
        ..PLAIN
    },
    Scenario {
        name: "restart-eos",
        kind: Kind::Restart,
        about: "exactly-once, kill -9 while processing, started again on the same disk under the same name",
        millrace: EXACTLY_ONCE,
        kafka_streams: EXACTLY_ONCE,
        exactly_once: true,
        goals: RESTART,
        ..PLAIN
    },
    Scenario {
        name: "restore",
        kind: Kind::Restore,
        about: "started on an empty disk, the state read back from its changelog",
        goals: &[at_least("restored_per_s", 4.0)],
        ..PLAIN
    },
    Scenario {
        name: "start-default",
        kind: Kind::Start(Waits::Default),
        about: "from the start of the process to its first output; the broker waits 3 s for more members, its default",
        goals: START,
        ..PLAIN
    },
    Scenario {
        name: "start-no-wait",
        kind: Kind::Start(Waits::Never),
        about: "from the start of the process to its first output; the broker does not wait for more members",
        goals: START,
        ..PLAIN
    },
    Scenario {
        name: "start-new-protocol",
        kind: Kind::Start(Waits::Default),
        about: "the same with the defaults of a broker, and group.protocol consumer here and streams there",
        millrace: &[("statestore.cache.max.bytes", "0"), ("group.protocol", "consumer")],
        kafka_streams: &[("statestore.cache.max.bytes", "0"), ("streams.group.protocol", "streams")],
        goals: START,
        ..PLAIN
    },
    Scenario {
        name: "many-tasks-64",
        kind: Kind::ManyTasks(64),
        about: "64 partitions and two instances: idle, then 2,000 records/s",
        goals: &[at_most("rss_mb", 0.2)],
        ..PLAIN
    },
    Scenario {
        name: "many-tasks-512",
        kind: Kind::ManyTasks(512),
        about: "512 partitions and two instances: idle, then 2,000 records/s",
        goals: &[at_most("rss_mb", 0.2)],
        ..PLAIN
    },
    Scenario {
        name: "queries",
        kind: Kind::Queries,
        about: "at-least-once, every update emitted, without and with clients that ask for keys over HTTP",
        ..PLAIN
    },
    Scenario {
        name: "growth",
        kind: Kind::Growth,
        about: "records/s and CPU against value size, keys, partitions and threads; only when asked for",
        ..PLAIN
    },
];

const LARGE_STATE: &[Goal] = &[
    at_least("updates_per_s", 2.0),
    Goal { figure: "peak_rss_mb", bound: Bound::AtMost(1.0), to: To::Figure("budget_mb") },
];
const RESTART: &[Goal] = &[at_most("start_to_output_s", 0.125)];
const START: &[Goal] = &[Goal { figure: "start_to_output_s", bound: Bound::AtMost(0.4), to: To::Nothing }];
