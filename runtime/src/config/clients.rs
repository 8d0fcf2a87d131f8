//! Owns what is passed through to librdkafka: which properties, to which client, and which are
//! refused because Millrace must set them itself.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use super::problem::{SIMILAR, nearest};
use super::properties::{PROPERTIES, Scope};
use super::value::Raw;

pub(super) const UNDER_KAFKA: &str = "kafka.";

/// Which clients a property is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Common,
    Consumer,
    Producer,
    Admin,
}

impl Target {
    /// Those with a table of their own.
    pub(super) const ALL: [Self; 3] = [Self::Consumer, Self::Producer, Self::Admin];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Common => "",
            Self::Consumer => "consumer",
            Self::Producer => "producer",
            Self::Admin => "admin",
        }
    }

    pub(super) fn key(self, property: &str) -> String {
        match self {
            Self::Common => format!("{UNDER_KAFKA}{property}"),
            other => format!("{UNDER_KAFKA}{}.{property}", other.name()),
        }
    }

    fn takes(self, scope: Scope) -> bool {
        match scope {
            Scope::All => true,
            Scope::Consumer => matches!(self, Self::Common | Self::Consumer),
            Scope::Producer => matches!(self, Self::Common | Self::Producer),
        }
    }
}

/// How Millrace's clients are set up, apart from what it sets itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaConfig {
    pub bootstrap_servers: String,
    pub common: BTreeMap<String, String>,
    pub consumer: BTreeMap<String, String>,
    pub producer: BTreeMap<String, String>,
    pub admin: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// All properties of consumers, the more specific ones over the common ones.
    #[must_use]
    pub fn for_consumer(&self) -> BTreeMap<String, String> {
        self.merged(Target::Consumer)
    }

    #[must_use]
    pub fn for_producer(&self) -> BTreeMap<String, String> {
        self.merged(Target::Producer)
    }

    #[must_use]
    pub fn for_admin(&self) -> BTreeMap<String, String> {
        self.merged(Target::Admin)
    }

    fn merged(&self, target: Target) -> BTreeMap<String, String> {
        let fits = |name: &str| scope(name).is_some_and(|scope| target.takes(scope));
        let mut all: BTreeMap<_, _> = self.common.clone().into_iter().filter(|(name, _)| fits(name)).collect();
        all.extend(self.own(target).clone());
        all.insert("bootstrap.servers".to_owned(), self.bootstrap_servers.clone());
        all
    }

    /// The property that has clients log in by a mechanism that is not built in, if they are to.
    pub(super) fn unknown_login(&self) -> Option<String> {
        let lacks = |target: Target| {
            let all = self.merged(target);
            let get = |property| all.get(property).map(|value| value.to_ascii_lowercase());
            let mechanism = get("sasl.mechanism").or_else(|| get("sasl.mechanisms"));
            get("security.protocol").is_some_and(|protocol| protocol.starts_with("sasl_"))
                && mechanism.is_none_or(|mechanism| mechanism == "gssapi")
        };
        let target = Target::ALL.into_iter().find(|target| lacks(*target))?;
        let of = if self.own(target).contains_key("security.protocol") { target } else { Target::Common };
        Some(of.key("security.protocol"))
    }

    fn own(&self, target: Target) -> &BTreeMap<String, String> {
        match target {
            Target::Common => &self.common,
            Target::Consumer => &self.consumer,
            Target::Producer => &self.producer,
            Target::Admin => &self.admin,
        }
    }

    pub(super) fn set(&mut self, target: Target, property: &str, value: String) {
        let table = match target {
            Target::Common => &mut self.common,
            Target::Consumer => &mut self.consumer,
            Target::Producer => &mut self.producer,
            Target::Admin => &mut self.admin,
        };
        table.insert(property.to_owned(), value);
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |table: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            table.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
        };
        f.debug_struct("KafkaConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("common", &shown(&self.common))
            .field("consumer", &shown(&self.consumer))
            .field("producer", &shown(&self.producer))
            .field("admin", &shown(&self.admin))
            .finish()
    }
}

/// What stands in place of a secret.
pub(super) const REDACTED: &str = "********";

/// The value of a property as it may be printed.
pub(super) fn shown(property: &str, value: &str) -> String {
    let words = ["password", "secret", "passphrase", "key.pem", "oauthbearer.config"];
    if words.iter().any(|word| property.contains(word)) { REDACTED.to_owned() } else { value.to_owned() }
}

/// Splits `kafka.consumer.fetch.min.bytes`; `None`: no key of a client.
pub(super) fn split(key: &str) -> Option<(Target, &str)> {
    let rest = key.strip_prefix(UNDER_KAFKA)?;
    let own = |target: Target| Some((target, rest.strip_prefix(target.name())?.strip_prefix('.')?));
    Some(Target::ALL.into_iter().find_map(own).unwrap_or((Target::Common, rest)))
}

/// Why a property may not be given to a client, if so.
pub(super) fn objection(target: Target, property: &str) -> Option<String> {
    let key = target.key(property);
    if let Some((_, reason)) = OWNED.iter().find(|(names, _)| names.contains(&property)) {
        return Some(format!("`{key}` is not yours to set: {reason}"));
    }
    let Some(scope) = scope(property) else {
        if let Some((_, instead)) = ELSEWHERE.iter().find(|(name, _)| *name == property) {
            return Some(format!("librdkafka has no property `{property}`: {instead}"));
        }
        let near = nearest(property, PROPERTIES.iter().map(|(name, _)| *name), SIMILAR);
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{}`?", target.key(near)));
        return Some(format!("librdkafka has no property `{property}`{hint}"));
    };
    let owner = if scope == Scope::Consumer { Target::Consumer } else { Target::Producer };
    let reason = (target == Target::Consumer && property == "request.timeout.ms")
        .then_some("; the time a consumer waits for an answer is `kafka.consumer.socket.timeout.ms`");
    (!target.takes(scope)).then(|| {
        format!(
            "`{property}` is a property of {}s: say `{}`{}",
            owner.name(),
            owner.key(property),
            reason.unwrap_or_default()
        )
    })
}

/// Why librdkafka doesn't take a value, if so.
pub(super) fn refusal(target: Target, property: &str, value: &str) -> Option<String> {
    match ClientConfig::new().set(property, value).create_native_config() {
        Err(KafkaError::ClientConfig(_, reason, ..)) => {
            Some(format!("`{}`: {}", target.key(property), reason.trim_end()))
        }
        Err(error) => Some(format!("`{}`: {error}", target.key(property))),
        Ok(_) => None,
    }
}

/// A property's value as librdkafka reads it.
pub(super) fn text(raw: &Raw) -> Option<String> {
    match raw {
        Raw::Plain(text) | Raw::Text(text) => Some(text.clone()),
        Raw::Integer(number) => Some(number.to_string()),
        Raw::Flag(flag) => Some(flag.to_string()),
        Raw::List(items) => items.iter().map(text).collect::<Option<Vec<_>>>().map(|items| items.join(",")),
        Raw::Other(_) => None,
    }
}

/// Every property there is something to say about.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let owned = OWNED.iter().flat_map(|(names, _)| names.iter().copied());
    let elsewhere = ELSEWHERE.iter().map(|(name, _)| *name);
    PROPERTIES.iter().map(|(name, _)| *name).chain(owned).chain(elsewhere)
}

fn scope(property: &str) -> Option<Scope> {
    PROPERTIES.iter().find(|(name, _)| *name == property).map(|(_, scope)| *scope)
}

/// What Millrace sets, because what it promises hangs on it.
const OWNED: &[(&[&str], &str)] = &[
    (&["bootstrap.servers", "metadata.broker.list"], "all clients talk to one cluster; use `kafka.bootstrap.servers`"),
    (&["group.id"], "the group is the application; use `application.id`"),
    (&["group.instance.id"], "use `group.instance.id` without a prefix"),
    (
        &[
            "enable.auto.commit",
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "enable.auto.offset.store",
            "offset.store.method",
            "offset.store.path",
            "offset.store.sync.interval.ms",
        ],
        "offsets are committed with the state they belong to; use `commit.interval.ms`",
    ),
    (&["auto.offset.reset"], "use `auto.offset.reset` without a prefix"),
    (
        &["partition.assignment.strategy", "group.protocol.type", "group.remote.assignor"],
        "`range` is what gives one instance the same partitions of all topics of a task",
    ),
    (&["group.protocol"], "use `group.protocol` without a prefix"),
    (&["isolation.level"], "it follows from `processing.guarantee`"),
    (
        &["transactional.id", "enable.idempotence", "enable.gapless.guarantee"],
        "it follows from `processing.guarantee`, and records must neither repeat nor change places",
    ),
    (&["acks", "request.required.acks"], "a commit waits for all replicas, or it would not be one"),
    (&["partitioner"], "only murmur2 puts a key where Kafka Streams and Java producers put it"),
    (&["queuing.strategy"], "records must not change places"),
    (
        &["delivery.report.only.error", "produce.offset.report"],
        "every acknowledgement counts: it says how far the changelog is",
    ),
    (&["enable.partition.eof"], "a restore ends there"),
    (
        &["allow.auto.create.topics"],
        "a source topic that is missing is an error, and internal topics are created with their own settings",
    ),
    (
        &[
            "consume.callback.max.messages",
            "enabled_events",
            "log.queue",
            "builtin.features",
            "internal.termination.signal",
            "opaque",
            "interceptors",
            "default_topic_conf",
        ],
        "it is a matter of code, not of settings",
    ),
];

/// Java's properties that librdkafka has under another name or not at all.
const ELSEWHERE: &[(&str, &str)] = &[
    ("sasl.jaas.config", "say `sasl.username` and `sasl.password`"),
    ("ssl.truststore.location", "say `ssl.ca.location`, a PEM file"),
    ("ssl.truststore.password", "`ssl.ca.location` is a PEM file without a password"),
    ("ssl.truststore.certificates", "say `ssl.ca.pem`"),
    ("ssl.keystore.key", "say `ssl.key.pem`"),
    ("ssl.keystore.certificate.chain", "say `ssl.certificate.pem`"),
    ("fetch.max.wait.ms", "say `fetch.wait.max.ms`"),
    ("max.poll.records", "how much a task takes at once is `batch.records`"),
    ("default.api.timeout.ms", "say `socket.timeout.ms`"),
    ("max.block.ms", "say `message.timeout.ms`"),
    ("buffer.memory", "say `queue.buffering.max.kbytes`"),
    ("key.deserializer", "keys and values are the module's affair"),
    ("value.deserializer", "keys and values are the module's affair"),
    ("key.serializer", "keys and values are the module's affair"),
    ("value.serializer", "keys and values are the module's affair"),
    ("interceptor.classes", "there are no interceptors"),
    ("partitioner.class", "the module decides, else murmur2 of the key does"),
];
