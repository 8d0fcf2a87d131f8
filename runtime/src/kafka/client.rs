//! The settings of every Kafka client, in one place. What is set here is set on purpose: the
//! comment beside each line says why; `[kafka.*]` of the configuration may override all that
//! `config` does not refuse.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_engine::ports::Error;
use millrace_engine::topology::OffsetReset;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::classify;
use super::objections::Objections;
use crate::config::{Config, GroupProtocol, Guarantee, KafkaConfig};

/// Makes the settings of the clients of one application.
#[derive(Debug, Clone)]
pub struct Clients {
    application_id: String,
    instance_id: Option<String>,
    group_protocol: GroupProtocol,
    /// Tells this process's transactions from those of other instances, also after a restart.
    process_id: String,
    guarantee: Guarantee,
    auto_offset_reset: OffsetReset,
    kafka: KafkaConfig,
    /// Most bytes of a batch that is sent, if that is less than the client's own default.
    batch_bytes: Option<usize>,
    objections: Arc<Objections>,
}

/// What a producer adds to its settings under at-least-once.
const FOREVER: &[(&str, &str)] = &[
    // A record is given up by nobody but the broker: while it is away, the worker waits.
    ("message.timeout.ms", "0"),
];

/// What it adds under exactly-once.
const TRANSACTIONAL: &[(&str, &str)] = &[
    // How long an instance that vanished holds up who reads its topics, and who takes over its tasks. A record is
    // given up after as long, having missed its transaction.
    ("transaction.timeout.ms", "10000"),
];
/// What the client adds to a batch beside the records it counts, and some.
const BATCH_OVERHEAD: usize = 1024;
/// The client's default.
const BATCH_BYTES: usize = 1_000_000;

/// The client's default, and that of Java's.
const TOPIC_REFRESH: Duration = Duration::from_secs(300);

/// The settings every client starts from: where, and quietly.
const COMMON: &[(&str, &str)] = &[
    // Brokers close idle connections; that is no event.
    ("log.connection.close", "false"),
    // A broker that is back is found within a second, as by Java's clients; the default takes up to ten.
    ("reconnect.backoff.max.ms", "1000"),
    // A topic that is missing is an error with a remedy, not something to be made up.
    ("allow.auto.create.topics", "false"),
];

const CONSUMER: &[(&str, &str)] = &[
    // Offsets are committed by the worker, after the state that goes with them.
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // Fetched ahead: enough to keep workers busy while a fetch is under way, and no more than the memory we want to be
    // known for, since a small record takes three times its size here. The defaults are 64 MiB, and 1 MiB a partition.
    ("queued.max.messages.kbytes", "2048"),
    ("fetch.message.max.bytes", "524288"),
    // The default, one second, stalls a consumer whose queue was full for a moment.
    ("fetch.queue.backoff.ms", "5"),
    // Idle brokers answer after this long: what an idle fetch costs against how late it notices.
    ("fetch.wait.max.ms", "100"),
    // The first time; then twice as long each time. Committed offsets are asked for again until the transaction of a process
    // that was killed is over, which takes some 100 to 300 ms.
    ("retry.backoff.ms", "20"),
];

const RESTORE: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // How the reader learns that it is through.
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_committed"),
    ("auto.offset.reset", "error"),
    ("queued.max.messages.kbytes", "32768"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "20"),
];

/// Where a reader that goes on and on differs from one that is waited for.
const STANDBY: &[(&str, &str)] = &[
    // What an idle changelog costs; a record ends the wait.
    ("fetch.wait.max.ms", "500"),
    ("queued.max.messages.kbytes", "8192"),
];

/// The same for global stores, of which an update is to be seen soon.
const GLOBAL: &[(&str, &str)] = &[("fetch.wait.max.ms", "100"), ("queued.max.messages.kbytes", "8192")];

const PRODUCER: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    // Java's default partitioner: with librdkafka's own, co-partitioning would break silently.
    ("partitioner", "murmur2_random"),
    ("linger.ms", "5"),
    // Records wait here for their acknowledgement; past it the worker waits for room.
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "65536"),
    // How large a record may be is the topic's to say.
    ("message.max.bytes", "104857600"),
];

impl Clients {
    #[must_use]
    pub fn new(config: &Config, process_id: String) -> Self {
        Self {
            application_id: config.application_id.clone(),
            instance_id: config.instance_id.clone(),
            group_protocol: config.group_protocol,
            process_id,
            guarantee: config.guarantee,
            auto_offset_reset: config.auto_offset_reset,
            kafka: config.kafka.clone(),
            batch_bytes: None,
            objections: Arc::default(),
        }
    }

    /// How often it is looked for topics that have come or gone; none: never.
    #[must_use]
    pub fn topic_refresh(&self) -> Option<Duration> {
        let set = self.consumer().get("topic.metadata.refresh.interval.ms").and_then(|text| text.parse::<i64>().ok());
        set.map_or(Some(TOPIC_REFRESH), |ms| u64::try_from(ms).ok().map(Duration::from_millis))
    }

    /// Learns how large a batch topics take. Producers make no larger ones, as long as a single record is smaller: a
    /// broker refuses a batch as a whole.
    pub fn hold_limits(&mut self, limits: &BTreeMap<String, usize>) {
        let least = limits.values().min().map(|limit| limit.saturating_sub(BATCH_OVERHEAD).max(1));
        self.batch_bytes = least.filter(|&least| least < BATCH_BYTES);
        // How large a record is once it is compressed nobody knows before: then a limit counts only where a broker has
        // refused something.
        if !self.is_compressing() {
            for (topic, &limit) in limits {
                self.objections.limit(topic, limit);
            }
        }
    }

    /// Which records brokers won't take.
    #[must_use]
    pub fn objections(&self) -> &Objections {
        &self.objections
    }

    fn is_compressing(&self) -> bool {
        let properties = self.kafka.for_producer();
        let codec = properties.get("compression.type").or_else(|| properties.get("compression.codec"));
        codec.is_some_and(|codec| codec != "none")
    }

    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.kafka.bootstrap_servers
    }

    /// The member of the group.
    #[must_use]
    pub fn consumer(&self) -> ClientConfig {
        let mut settings = self.base("consumer", CONSUMER);
        settings.set("group.id", &self.application_id);
        // The only assignor that gives equal partitions of co-partitioned topics to one member, whoever runs it.
        match self.group_protocol {
            GroupProtocol::Classic => settings.set("partition.assignment.strategy", "range"),
            GroupProtocol::Consumer => settings.set("group.protocol", "consumer").set("group.remote.assignor", "range"),
        };
        let reset = match self.auto_offset_reset {
            OffsetReset::Earliest => "earliest",
            OffsetReset::Latest => "latest",
            OffsetReset::None => "error",
        };
        settings.set("auto.offset.reset", reset);
        settings.set("isolation.level", self.isolation());
        if let Some(instance) = &self.instance_id {
            settings.set("group.instance.id", instance);
        }
        overlay(&mut settings, self.kafka.for_consumer());
        settings
    }

    /// Asks where topics end for whoever writes to them, open transactions included.
    #[must_use]
    pub fn watermarks(&self) -> ClientConfig {
        let mut settings = self.restore();
        settings.set("isolation.level", "read_uncommitted");
        settings
    }

    /// A reader of changelogs, which is a member of no group.
    #[must_use]
    pub fn restore(&self) -> ClientConfig {
        let mut settings = self.base("restore", RESTORE);
        // The client wants a group to read for, though it joins none and commits nothing; this is the
        // one that the cluster's access rules allow.
        settings.set("group.id", &self.application_id);
        overlay(&mut settings, self.kafka.for_consumer());
        for (key, value) in RESTORE {
            settings.set(*key, *value);
        }
        settings
    }

    /// The same for standbys.
    #[must_use]
    pub fn standby(&self) -> ClientConfig {
        let mut settings = self.restore();
        for (key, value) in STANDBY {
            settings.set(*key, *value);
        }
        settings
    }

    /// A reader of what fills global stores: from where it is told, on and on. Under exactly-once it sees what is committed.
    #[must_use]
    pub fn global(&self) -> ClientConfig {
        let mut settings = self.restore();
        for (key, value) in GLOBAL {
            settings.set(*key, *value);
        }
        settings.set("isolation.level", self.isolation());
        settings
    }

    fn isolation(&self) -> &'static str {
        match self.guarantee {
            Guarantee::AtLeastOnce => "read_uncommitted",
            Guarantee::ExactlyOnce => "read_committed",
        }
    }

    #[must_use]
    pub fn producer(&self, worker: usize) -> ClientConfig {
        let mut settings = self.base(&format!("producer-{worker}"), PRODUCER);
        let transactional = self.guarantee == Guarantee::ExactlyOnce;
        for (key, value) in if transactional { TRANSACTIONAL } else { FOREVER } {
            settings.set(*key, *value);
        }
        if let Some(bytes) = self.batch_bytes {
            settings.set("batch.size", bytes.to_string());
        }
        overlay(&mut settings, self.kafka.for_producer());
        if transactional {
            // The same after a restart, so that the broker ends at once what the former process left open.
            let instance = self.instance_id.as_ref().unwrap_or(&self.process_id);
            settings.set("transactional.id", format!("{}-{instance}-{worker}", self.application_id));
            wait_no_longer_than_a_transaction(&mut settings);
        }
        settings
    }

    /// Writes versions of the module, or what an instance runs. With `alone`, the one that may change what is active:
    /// who registers next takes that right from it.
    #[must_use]
    pub fn module_writer(&self, alone: bool) -> ClientConfig {
        let mut settings = self.base("modules", PRODUCER);
        // People wait for it.
        settings.set("message.timeout.ms", "30000");
        // Of a large module so much is in memory a second time.
        settings.set("queue.buffering.max.kbytes", "16384");
        overlay(&mut settings, self.kafka.for_producer());
        if alone {
            settings.set("message.timeout.ms", "10000").set("transaction.timeout.ms", "10000");
            settings.set("transactional.id", format!("{}-modules", self.application_id));
            wait_no_longer_than_a_transaction(&mut settings);
        }
        settings
    }

    #[must_use]
    pub fn application_id(&self) -> &str {
        &self.application_id
    }

    #[must_use]
    pub fn admin(&self) -> ClientConfig {
        let mut settings = self.base("admin", &[]);
        overlay(&mut settings, self.kafka.for_admin());
        settings
    }

    fn base(&self, role: &str, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut settings = ClientConfig::new();
        settings.set_log_level(RDKafkaLogLevel::Info);
        let name = self.instance_id.as_ref().unwrap_or(&self.application_id);
        settings.set("client.id", format!("{name}-{role}"));
        for (key, value) in COMMON.iter().chain(defaults) {
            settings.set(*key, *value);
        }
        settings
    }
}

/// Properties that the client has under two names, the second of which is used here.
const ALIASES: &[(&str, &str)] =
    &[("max.partition.fetch.bytes", "fetch.message.max.bytes"), ("queue.buffering.max.ms", "linger.ms")];

fn overlay(settings: &mut ClientConfig, properties: BTreeMap<String, String>) {
    if properties.contains_key("debug") {
        settings.set_log_level(RDKafkaLogLevel::Debug);
    }
    for (key, value) in properties {
        let alias = ALIASES.iter().find(|(alias, _)| *alias == key);
        settings.set(alias.map_or(key.as_str(), |(_, name)| name), value);
    }
}

/// The client refuses to wait for an answer for longer than a transaction lasts, which may be what all clients are told.
fn wait_no_longer_than_a_transaction(settings: &mut ClientConfig) {
    let ms = |name| settings.get(name).and_then(|value: &str| value.parse::<u64>().ok());
    if let (Some(socket), Some(transaction)) = (ms("socket.timeout.ms"), ms("transaction.timeout.ms"))
        && socket > transaction
    {
        settings.set("socket.timeout.ms", transaction.to_string());
    }
}

/// Creates a client, with the settings' own fault named when that is why it fails.
pub(crate) fn create_with<C: ClientContext, T: FromClientConfigAndContext<C>>(
    settings: &ClientConfig,
    context: C,
    what: &str,
) -> Result<T, Error> {
    settings.create_with_context(context).map_err(|error| classify(&format!("create the {what}"), &error))
}

/// Sends librdkafka's own log lines to ours.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientLog;

impl ClientLog {
    pub(crate) fn line(level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{line}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, "{line}"),
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
        }
    }
}

impl ClientContext for ClientLog {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        Self::line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // How a reader learns that it is through is no fault.
        if !matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
            tracing::warn!(target: "librdkafka", %error, "{reason}");
        }
    }
}

impl rdkafka::consumer::ConsumerContext for ClientLog {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_under_another_name_replaces_our_own() {
        let mut settings = ClientConfig::new();
        settings.set("linger.ms", "5").set("fetch.message.max.bytes", "524288");
        let own = [("queue.buffering.max.ms", "0"), ("max.partition.fetch.bytes", "1048576"), ("acks", "all")];
        overlay(&mut settings, own.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(settings.get("linger.ms"), Some("0"));
        assert_eq!(settings.get("fetch.message.max.bytes"), Some("1048576"));
        assert_eq!(settings.get("acks"), Some("all"));
        assert_eq!(settings.config_map().len(), 3);
    }

    #[test]
    fn a_transactional_client_waits_no_longer_than_a_transaction() {
        let settings = |socket: &str| {
            let mut settings = ClientConfig::new();
            settings.set("socket.timeout.ms", socket).set("transaction.timeout.ms", "10000");
            settings.set("transactional.id", "t").set("bootstrap.servers", "127.0.0.1:1");
            wait_no_longer_than_a_transaction(&mut settings);
            settings
        };
        assert_eq!(settings("20000").get("socket.timeout.ms"), Some("10000"));
        assert_eq!(settings("5000").get("socket.timeout.ms"), Some("5000"));
        settings("20000").create::<rdkafka::producer::BaseProducer>().expect("the client takes it");
    }
}
