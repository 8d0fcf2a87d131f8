//! The table of all keys: what they are called, what they may be and what they are for. Parsing,
//! the names of environment variables, the listing and `docs/configuration.md` all follow from it.
//! Must not know where values come from.

use super::value::Kind::{
    self, Brokers, Bytes, Choice, Differences, Filter, Flag, Listen, Module, Name, Names, Number, Path, Peers, Topic,
    Url,
};

/// What a key is when nothing is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    Required,
    /// Nothing, and that is fine.
    Unset,
    /// As it would be written in the file, without quotes.
    Is(&'static str),
    /// One value under at-least-once, another under exactly-once.
    ByGuarantee(&'static str, &'static str),
}

use Fallback::{ByGuarantee, Is, Required, Unset};

#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) fallback: Fallback,
    pub(super) doc: &'static str,
}

impl Key {
    /// The environment variable that overrides it.
    #[must_use]
    pub(super) fn variable(&self) -> String {
        variable(self.name)
    }
}

/// `commit.interval.ms` is `MILLRACE_COMMIT_INTERVAL_MS`.
#[must_use]
pub(super) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase().replace('.', "_"))
}

#[must_use]
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

pub(super) const PREFIX: &str = "MILLRACE_";
/// Of the two keys named outside this folder's table look-ups.
pub(super) const MODULE_SOURCE: &str = "module.source";
pub(super) const BOOTSTRAP_SERVERS: &str = "kafka.bootstrap.servers";

const POLICIES: &[&str] = &["fail", "skip", "dead-letter"];
/// The policies of single kinds of faults, whose names come after this.
pub(super) const FAULTS_ON: &str = "faults.on.";

const fn key(name: &'static str, kind: Kind, fallback: Fallback, doc: &'static str) -> Key {
    Key { name, kind, fallback, doc }
}

const fn fault(name: &'static str, doc: &'static str) -> Key {
    key(name, Choice(POLICIES), Unset, doc)
}

const fn ms(min: i64) -> Kind {
    Number { min, max: MAX_MS }
}

const fn count(max: i64) -> Kind {
    Number { min: 1, max }
}

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
/// A month. Longer is a slip of the unit, and stays clear of overflow in sums.
const MAX_MS: i64 = 31 * 24 * 60 * 60 * 1000;

pub(super) const KEYS: &[Key] = &[
    key(
        "application.id",
        Name,
        Required,
        "Names the application: it is the consumer group, and the prefix of internal topics and of the state directory.",
    ),
    key(
        "group.instance.id",
        Name,
        Unset,
        "Stable name of this instance (the pod's). With it a restarted instance gets its partitions back without a rebalance.",
    ),
    key(
        "group.protocol",
        Choice(&["classic", "consumer"]),
        Is("classic"),
        "`consumer` is KIP-848's: brokers assign, and tasks that stay don't pause. But a killed instance that returns waits for its old session to end.",
    ),
    key(
        "group.leave.on.stop",
        Flag,
        Is("false"),
        "Whether a stop hands the partitions over at once. Off, they wait for this instance until the session times out.",
    ),
    key(
        "processing.guarantee",
        Choice(&["at_least_once", "exactly_once_v2"]),
        Is("at_least_once"),
        "What a crash may do to results: count a record again, or not.",
    ),
    key(
        "module.source",
        Module,
        Required,
        "The WebAssembly component: a file, an artifact in an OCI registry, pinned by its digest, or `uploaded`: the version made active by `millrace module push`. A path in the file is relative to the file's directory, elsewhere to the current one.",
    ),
    key(
        "module.allow",
        Differences,
        Is(""),
        "Differences from the topology that ran before which the start is to accept, as the refusal names them: `store:counts`. Not for `uploaded`, where push says so.",
    ),
    key(
        "module.trial.ms",
        ms(0),
        Is("300000"),
        "How long a version that was pushed is on trial: if it fails meanwhile, the version before is made active again for all instances. 0: no trial.",
    ),
    key(
        "module.trial.faults",
        count(1_000_000),
        Is("10"),
        "Records left out for faults, within a minute and at one instance, that end a trial. Where the policy is `fail`, the first fault ends it.",
    ),
    key("module.env", Names, Is(""), "Environment variables of the host that the module may read. It sees no others."),
    key(
        "module.memory.bytes",
        Bytes { min: MIB, max: 4 * GIB },
        Is("256MiB"),
        "Most memory one instance of the module may have. There is one instance per task.",
    ),
    key(
        "module.call.timeout.ms",
        ms(1),
        Is("5000"),
        "Longest that one call of the module may take; it holds up the tasks of its thread that long. A call is a batch of records.",
    ),
    key(
        "module.output.bytes",
        Bytes { min: MIB, max: 2 * GIB },
        Is("64MiB"),
        "Most output that one call of the module may hand back.",
    ),
    key(
        "module.state.bytes",
        Bytes { min: MIB, max: 2 * GIB },
        Is("64MiB"),
        "Most state that one call of the module may write, and most that one read may return.",
    ),
    key(
        "kafka.bootstrap.servers",
        Brokers,
        Required,
        "Brokers to start from, comma-separated `host` or `host:port`; without a port 9092 is meant. `KAFKA_BROKER` sets it too.",
    ),
    key(
        "auto.offset.reset",
        Choice(&["earliest", "latest", "none"]),
        Is("earliest"),
        "Where to begin in a source partition without a committed offset; `none` is an error then. A source may say otherwise.",
    ),
    key(
        "startup.deadline.ms",
        ms(0),
        Is("300000"),
        "How long to wait at start for brokers and source topics to appear before giving up.",
    ),
    key(
        "replication.factor",
        Number { min: -1, max: 32_767 },
        Is("-1"),
        "Of internal topics that are created; -1 is the brokers' default.",
    ),
    key(
        "state.dir",
        Path,
        Is("state"),
        "Where state lives, in `<application.id>/<task>` below it. Relative as `module.source` is. Should outlive the process.",
    ),
    key(
        "state.cleanup.delay.ms",
        ms(0),
        Is("600000"),
        "How long the state of a task that moved away is kept in case it returns.",
    ),
    key("num.stream.threads", count(256), Is("1"), "Worker threads. Tasks are divided among them."),
    key(
        "num.standby.replicas",
        Number { min: 0, max: 16 },
        Is("0"),
        "Copies of each task's state that other instances keep up, so that one of them can take over without a long restore.",
    ),
    key(
        "commit.interval.ms",
        ms(0),
        ByGuarantee("1000", "100"),
        "Time between commits. Shorter means fewer records done again after a crash, and more writes. Unless it is set, a worker under `exactly_once_v2` commits earlier when it has nothing to process, so that its output can be read.",
    ),
    key(
        "statestore.uncommitted.max.bytes",
        Bytes { min: MIB, max: 64 * GIB },
        Is("32MiB"),
        "Memory for state written since the last commit, over all threads. A commit is brought forward when it is used up.",
    ),
    key(
        "statestore.cache.max.bytes",
        Bytes { min: 0, max: 64 * GIB },
        Is("10MiB"),
        "0: every update of a store is forwarded; else caching stores forward the last one per key and commit. Their memory is part of statestore.uncommitted.max.bytes.",
    ),
    key(
        "rocksdb.block.cache.bytes",
        Bytes { min: MIB, max: 256 * GIB },
        Is("32MiB"),
        "RocksDB's block cache, shared by all tasks.",
    ),
    key(
        "rocksdb.write.buffer.bytes",
        Bytes { min: MIB, max: 64 * GIB },
        Is("32MiB"),
        "RocksDB's memtables, all tasks together.",
    ),
    key(
        "batch.records",
        count(100_000),
        Is("2000"),
        "Most records in one call of the module. Fewer are taken when fewer are there.",
    ),
    key(
        "batch.bytes",
        Bytes { min: MIB, max: GIB },
        Is("8MiB"),
        "Most bytes of keys, values and headers in one call of the module; a larger record goes alone.",
    ),
    key(
        "buffered.records.per.partition",
        count(1_000_000),
        Is("30000"),
        "Records held ready per partition of a task with several inputs; beyond it the partition is paused.",
    ),
    key(
        "input.buffer.max.bytes",
        Bytes { min: MIB, max: 64 * GIB },
        Is("4MiB"),
        "Fetched records that may wait for the worker threads, all together. Tasks with several inputs have it per partition.",
    ),
    key(
        "max.task.idle.ms",
        Number { min: -1, max: MAX_MS },
        Is("0"),
        "How long a task with several inputs waits for one that is empty here and on the broker, to keep timestamp order. What the broker has is waited for anyway, unless this is -1.",
    ),
    key(
        "faults.policy",
        Choice(POLICIES),
        Is("fail"),
        "What becomes of a record the module fails on: stop, leave it out, or send it to the dead-letter topic.",
    ),
    fault("faults.on.deserialization", "The same for a record that can't be decoded, in place of `faults.policy`."),
    fault("faults.on.processing", "For a record that the module says it can't process."),
    fault(
        "faults.on.serialization",
        "For one whose output can't be encoded, or is refused by Kafka: too large, invalid.",
    ),
    fault("faults.on.trap", "For one on which the module panics or does what it must not."),
    fault("faults.on.timeout", "For one that takes longer than `module.call.timeout.ms` by itself."),
    fault("faults.on.memory", "For one that takes more than `module.memory.bytes`."),
    fault(
        "faults.on.flood",
        "For one that makes more output than `module.output.bytes`, or writes more than `module.state.bytes`.",
    ),
    key(
        "faults.dead.letter.topic",
        Topic,
        Unset,
        "Where failing records go under `dead-letter`, with what went wrong as headers. It has to exist.",
    ),
    key(
        "http.listen",
        Listen,
        Is("127.0.0.1:8642"),
        "Where health, metrics and queries are served. Whoever can reach it can read them; `off`: nobody can.",
    ),
    key(
        "http.peers",
        Peers,
        Unset,
        "Where the other instances serve HTTP, as `{instance}.counts:8642`: `{instance}` stands for their `group.instance.id`. With it a query is passed on to the instance that has the key.",
    ),
    key(
        "http.tls.certificate.file",
        Path,
        Unset,
        "A certificate, and those between it and its authority, as PEM. With it HTTP is served over TLS, and only so. Read again when it was renewed.",
    ),
    key("http.tls.key.file", Path, Unset, "The key of that certificate, as PEM."),
    key(
        "http.tls.ca.file",
        Path,
        Unset,
        "The authorities that the other instances' certificates must be of, as PEM. Unset: those of the system.",
    ),
    key(
        "http.token.file",
        Path,
        Unset,
        "A file with a token, such as a mounted secret. Who brings it (`Authorization: Bearer …`) may change things over HTTP: push a module, roll it back. Read anew for each request. Unset: nothing can be changed.",
    ),
    key(
        "acceptable.recovery.lag",
        Number { min: 0, max: i64::MAX },
        Is("10000"),
        "Records that a task may still have to restore for this instance to count as ready.",
    ),
    key(
        "log.level",
        Filter,
        Is("info"),
        "`off`, `error`, `warn`, `info`, `debug` or `trace`, and exceptions: `info,millrace_runtime=debug`.",
    ),
    key(
        "otlp.endpoint",
        Url,
        Unset,
        "Where an OpenTelemetry collector takes OTLP over HTTP, as `http://collector:4318`: traces of rebalances, restores, commits, swaps and of records that come with a sampled `traceparent` go there. Unset: there are none.",
    ),
    key("log.format", Choice(&["text", "json"]), Is("text"), "Lines for people, or one JSON object per line."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_variables_are_unique() {
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        let variables: BTreeSet<_> = KEYS.iter().map(Key::variable).collect();
        assert_eq!((names.len(), variables.len()), (KEYS.len(), KEYS.len()));
        assert_eq!(variable("commit.interval.ms"), "MILLRACE_COMMIT_INTERVAL_MS");
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for key in KEYS {
            let texts = match key.fallback {
                Is(text) => vec![text],
                ByGuarantee(one, other) => vec![one, other],
                Required | Unset => vec![],
            };
            for text in texts {
                assert!(key.kind.parse(text).is_some(), "{}", key.name);
            }
        }
    }

    /// Else a policy would be read by nobody.
    #[test]
    fn every_kind_of_fault_has_a_key() {
        let keys: Vec<_> = KEYS.iter().filter_map(|key| key.name.strip_prefix(FAULTS_ON)).collect();
        assert_eq!(keys, millrace_engine::ports::FaultKind::ALL.map(|kind| kind.name()));
    }

    /// A key that is also a table of others could not be written in the nested form.
    #[test]
    fn no_key_is_the_beginning_of_another() {
        for key in KEYS {
            let table = format!("{}.", key.name);
            assert!(!KEYS.iter().any(|other| other.name.starts_with(&table)), "{}", key.name);
        }
    }
}
