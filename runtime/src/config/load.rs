//! Makes a [`Config`] of the settings from all sources, or says everything that is wrong with
//! them. Must not know how a source is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use millrace_engine::ports::FaultKind;
use millrace_engine::topology::OffsetReset;

use super::clients::{self, KafkaConfig};
use super::environment::{Environment, KAFKA_BROKER};
use super::file::{self, Given};
use super::keys::{BOOTSTRAP_SERVERS, FAULTS_ON, Fallback, KEYS, Key, MODULE_SOURCE, find, variable};
use super::problem::{Invalid, Origin, Problem, SIMILAR, nearest};
use super::value::{Kind, Raw, Size, Value};
use super::{
    Config, FaultPolicy, Faults, GroupProtocol, Guarantee, HttpConfig, LogConfig, LogFormat, ModuleConfig,
    ModuleSource, OCI, RocksDbConfig, Setting, TlsConfig, UPLOADED,
};

/// What the command line says. It goes before the environment, which goes before the file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--module`
    pub module: Option<PathBuf>,
    /// `--log-format`
    pub log_format: Option<String>,
    /// `-v`
    pub log_level: Option<String>,
}

impl Config {
    /// Reads a file and lays the environment and the command line over it.
    pub fn load(path: &Path, environment: &Environment, options: &Options) -> Result<Self, Invalid> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text, environment, options),
            Err(error) => {
                let remedy = "name the configuration file with `-c FILE` or MILLRACE_CONFIG";
                Err(Invalid::new(path, vec![Problem::missing(format!("cannot be read: {error}; {remedy}"))]))
            }
        }
    }

    /// The same for a text; `path` is what it is called in messages, and what it is relative to.
    pub fn parse(path: &Path, text: &str, environment: &Environment, options: &Options) -> Result<Self, Invalid> {
        let in_file = file::settings(path, text).map_err(|problems| Invalid::new(path, problems))?;
        let in_environment = environment.settings();
        let mut resolved = Resolved { problems: in_environment.problems, ..Resolved::default() };
        resolved.refuse_repetition(&in_file);
        for given in in_file.into_iter().chain(in_environment.settings).chain(options.settings()) {
            resolved.take(given);
        }
        resolved.into_config(path, environment, in_environment.warnings)
    }
}

impl Options {
    fn settings(&self) -> Vec<Given> {
        let module = self.module.as_ref().map(|path| path.display().to_string());
        let given = [
            (MODULE_SOURCE, "--module", module),
            ("log.format", "--log-format", self.log_format.clone()),
            ("log.level", "-v", self.log_level.clone()),
        ];
        let settings = given.into_iter().filter_map(|(key, option, value)| {
            Some(Given { key: key.to_owned(), raw: Raw::Plain(value?), origin: Origin::Option(option) })
        });
        settings.collect()
    }
}

/// What every source says, the later over the earlier.
#[derive(Default)]
struct Resolved {
    values: BTreeMap<&'static str, (Value, Origin)>,
    kafka: KafkaConfig,
    /// Keys of properties that are passed through.
    passed: BTreeMap<String, (String, Origin)>,
    problems: Vec<Problem>,
}

impl Resolved {
    /// TOML itself refuses a key twice, but not `"a.b"` beside `[a] b`.
    fn refuse_repetition(&mut self, settings: &[Given]) {
        let mut seen = BTreeSet::new();
        for given in settings {
            if !seen.insert(&given.key) {
                self.problems.push(Problem::at(&given.origin, format!("`{}` is given twice", given.key)));
            }
        }
    }

    fn take(&mut self, Given { key, raw, origin }: Given) {
        if let Some(known) = find(&key) {
            match known.kind.read(&raw) {
                Ok(value) => {
                    self.values.insert(known.name, (value, origin));
                }
                Err(wrong) => {
                    let message = format!("`{key}` must be {}, not {}", wrong.wanted, wrong.got);
                    self.problems.push(Problem::at(&origin, message));
                }
            }
        } else if let Some((target, property)) = clients::split(&key) {
            let text = clients::text(&raw);
            let fault =
                clients::objection(target, property).or_else(|| clients::refusal(target, property, text.as_ref()?));
            match (fault, text) {
                (Some(message), _) => self.problems.push(Problem::at(&origin, message)),
                (None, None) => {
                    let message = format!("`{key}` must be a string, an integer or a boolean, not {raw}");
                    self.problems.push(Problem::at(&origin, message));
                }
                (None, Some(text)) => {
                    self.passed.insert(key.clone(), (clients::shown(property, &text), origin));
                    self.kafka.set(target, property, text);
                }
            }
        } else {
            self.problems.push(Problem::at(&origin, unknown(&key)));
        }
    }

    fn into_config(
        mut self,
        path: &Path,
        environment: &Environment,
        mut warnings: Vec<String>,
    ) -> Result<Config, Invalid> {
        let guarantee = match self.text("processing.guarantee").as_str() {
            "exactly_once_v2" => Guarantee::ExactlyOnce,
            _ => Guarantee::AtLeastOnce,
        };
        self.fill(guarantee);
        self.require_login();
        let faults = self.faults();
        let module = self.module(path, environment, &mut warnings);
        let tls = self.tls(path);
        let workload_identity = environment.workload_identity(&mut warnings);
        let mut config = Config {
            application_id: self.text("application.id"),
            instance_id: self.optional("group.instance.id"),
            group_protocol: match self.text("group.protocol").as_str() {
                "consumer" => GroupProtocol::Consumer,
                _ => GroupProtocol::Classic,
            },
            leave_on_stop: self.text("group.leave.on.stop") == "true",
            module,
            workload_identity,
            kafka: KafkaConfig { bootstrap_servers: self.text(BOOTSTRAP_SERVERS), ..self.kafka.clone() },
            state_dir: self.path("state.dir", path),
            state_cleanup_delay_ms: self.size("state.cleanup.delay.ms"),
            guarantee,
            commit_interval_ms: self.size("commit.interval.ms"),
            commit_early: guarantee == Guarantee::ExactlyOnce && self.is_default("commit.interval.ms"),
            threads: self.size("num.stream.threads"),
            standby_replicas: self.size("num.standby.replicas"),
            store_cache_bytes: self.size("statestore.cache.max.bytes"),
            overlay_bytes: self.size("statestore.uncommitted.max.bytes"),
            rocksdb: RocksDbConfig {
                block_cache_bytes: self.size("rocksdb.block.cache.bytes"),
                write_buffer_bytes: self.size("rocksdb.write.buffer.bytes"),
            },
            buffered_records_per_partition: self.size("buffered.records.per.partition"),
            input_buffer_bytes: self.size("input.buffer.max.bytes"),
            batch_records: self.size("batch.records"),
            batch_bytes: self.size("batch.bytes"),
            max_task_idle_ms: u64::try_from(self.number("max.task.idle.ms")).ok(),
            replication_factor: self.size("replication.factor"),
            auto_offset_reset: match self.text("auto.offset.reset").as_str() {
                "latest" => OffsetReset::Latest,
                "none" => OffsetReset::None,
                _ => OffsetReset::Earliest,
            },
            startup_deadline_ms: self.size("startup.deadline.ms"),
            faults,
            http: HttpConfig {
                // What is no address is `off`.
                listen: self.text("http.listen").parse().ok(),
                peers: self.optional("http.peers"),
                tls,
                token_file: self.optional_path("http.token.file", path),
                acceptable_recovery_lag: self.size("acceptable.recovery.lag"),
            },
            otlp_endpoint: self.optional("otlp.endpoint"),
            log: LogConfig {
                filter: self.text("log.level"),
                format: if self.text("log.format") == "json" { LogFormat::Json } else { LogFormat::Text },
            },
            settings: Vec::new(),
            warnings,
        };
        if !self.problems.is_empty() {
            return Err(Invalid::new(path, self.problems));
        }
        config.settings = self.settings();
        Ok(config)
    }

    /// Puts the defaults in. A required key without a value is a problem, unless what was given
    /// for it is one already.
    fn fill(&mut self, guarantee: Guarantee) {
        for key in KEYS {
            let text = match key.fallback {
                Fallback::Is(text) => text,
                Fallback::ByGuarantee(text, _) if guarantee == Guarantee::AtLeastOnce => text,
                Fallback::ByGuarantee(_, text) => text,
                Fallback::Unset => continue,
                Fallback::Required => {
                    self.require(key);
                    continue;
                }
            };
            if !self.values.contains_key(key.name)
                && let Some(value) = key.kind.parse(text)
            {
                self.values.insert(key.name, (value, Origin::Default));
            }
        }
    }

    fn require(&mut self, key: &Key) {
        let quoted = format!("`{}` ", key.name);
        if self.values.contains_key(key.name) || self.problems.iter().any(|problem| problem.message.contains(&quoted)) {
            return;
        }
        let or = if key.name == BOOTSTRAP_SERVERS { format!(" or {KAFKA_BROKER}") } else { String::new() };
        let message = format!("`{}` is missing: set it here or by {}{or}. {}", key.name, variable(key.name), key.doc);
        self.problems.push(Problem::missing(message));
    }

    fn require_login(&mut self) {
        let Some(key) = self.kafka.unknown_login() else { return };
        let message = format!(
            "`{key}` asks for SASL: `kafka.sasl.mechanism` must say which, PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or \
             OAUTHBEARER; GSSAPI, librdkafka's default, is not built in"
        );
        let origin = self.passed.get(&key).map(|(_, origin)| origin.clone());
        self.problems.push(Problem { origin, message });
    }

    fn module(&mut self, path: &Path, environment: &Environment, warnings: &mut Vec<String>) -> ModuleConfig {
        let mut env = Vec::new();
        if let Some((Value::List(names), origin)) = self.values.get("module.env") {
            for name in names {
                match environment.get(name) {
                    Some(value) => env.push((name.clone(), value)),
                    None => warnings.push(format!("{origin}: `module.env` grants {name}, which is not set")),
                }
            }
        }
        let source = match self.text(MODULE_SOURCE).as_str() {
            UPLOADED => ModuleSource::Uploaded,
            text if text.starts_with(OCI) => ModuleSource::Artifact(text.trim_start_matches(OCI).to_owned()),
            _ => ModuleSource::File(self.path(MODULE_SOURCE, path)),
        };
        let allow = match self.values.get("module.allow") {
            Some((Value::List(names), _)) => names.clone(),
            _ => Vec::new(),
        };
        ModuleConfig {
            source,
            allow,
            trial_ms: self.size("module.trial.ms"),
            trial_faults: self.size("module.trial.faults"),
            env,
            memory_bytes: self.size("module.memory.bytes"),
            call_timeout_ms: self.size("module.call.timeout.ms"),
            output_bytes: self.size("module.output.bytes"),
            state_bytes: self.size("module.state.bytes"),
        }
    }

    fn tls(&mut self, path: &Path) -> Option<TlsConfig> {
        let keys = ["http.tls.certificate.file", "http.tls.key.file", "http.tls.ca.file"];
        match keys.map(|key| self.optional_path(key, path)) {
            [Some(certificate), Some(key), authorities] => Some(TlsConfig { certificate, key, authorities }),
            [None, None, None] => None,
            files => {
                let missing = keys.into_iter().zip(&files).find(|(_, file)| file.is_none()).map_or("", |(key, _)| key);
                let given = keys.into_iter().find_map(|key| Some((key, self.values.get(key)?.1.clone())));
                let message = format!("`{}` needs `{missing}`", given.as_ref().map_or("", |(key, _)| key));
                self.problems.push(Problem { origin: given.map(|(_, origin)| origin), message });
                None
            }
        }
    }

    fn faults(&mut self) -> Faults {
        let own = |kind: FaultKind| Some((kind, self.fault_policy(&format!("{FAULTS_ON}{}", kind.name()))?));
        let kinds = FaultKind::ALL.into_iter().filter_map(own).collect();
        Faults { policy: self.fault_policy("faults.policy").unwrap_or(FaultPolicy::Fail), kinds }
    }

    /// `None`: the key is not set, or not soundly.
    fn fault_policy(&mut self, key: &str) -> Option<FaultPolicy> {
        match self.optional(key)?.as_str() {
            "fail" => Some(FaultPolicy::Fail),
            "skip" => Some(FaultPolicy::Skip),
            _ => {
                let topic = self.optional("faults.dead.letter.topic");
                if topic.is_none() {
                    let message = format!("`{key}` is dead-letter, so `faults.dead.letter.topic` must name the topic");
                    let origin = self.values.get(key).map(|(_, origin)| origin.clone());
                    self.problems.push(Problem { origin, message });
                }
                topic.map(FaultPolicy::DeadLetter)
            }
        }
    }

    fn optional(&self, name: &str) -> Option<String> {
        self.values.get(name).map(|(value, _)| value.to_string())
    }

    /// Empty only where a problem was found, and then nobody will see it.
    fn text(&self, name: &str) -> String {
        self.optional(name).unwrap_or_default()
    }

    fn number(&self, name: &str) -> i64 {
        match self.values.get(name) {
            Some((Value::Number(number), _)) => *number,
            _ => 0,
        }
    }

    /// Ranges are checked when a value is read, so that what does not fit is not there.
    fn size<T: TryFrom<i64> + Default>(&self, name: &str) -> T {
        T::try_from(self.number(name)).unwrap_or_default()
    }

    fn is_default(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some((_, Origin::Default)))
    }

    /// A path in the file is relative to the file, one from elsewhere to the current directory.
    fn path(&self, name: &str, file: &Path) -> PathBuf {
        match self.values.get(name) {
            Some((Value::Text(text), Origin::File(..) | Origin::Default)) => {
                file.parent().unwrap_or(Path::new("")).join(text)
            }
            _ => PathBuf::from(self.text(name)),
        }
    }

    fn optional_path(&self, name: &str, file: &Path) -> Option<PathBuf> {
        self.values.contains_key(name).then(|| self.path(name, file))
    }

    fn settings(&self) -> Vec<Setting> {
        let known = KEYS.iter().map(|key| {
            let found = self.values.get(key.name);
            let value = found.map(|(value, _)| match (key.kind, value) {
                (Kind::Bytes { .. }, Value::Number(bytes)) => Size(*bytes).to_string(),
                _ => value.to_string(),
            });
            let origin = found.map_or(Origin::Default, |(_, origin)| origin.clone());
            Setting { key: key.name.to_owned(), value: value.filter(|text| !text.is_empty()), origin }
        });
        let passed = self.passed.iter().map(|(key, (value, origin))| Setting {
            key: key.clone(),
            value: Some(value.clone()),
            origin: origin.clone(),
        });
        known.chain(passed).collect()
    }
}

fn unknown(key: &str) -> String {
    if let Some((_, instead)) = ELSEWHERE.iter().find(|(name, _)| {
        *name == key || key.strip_prefix(name).is_some_and(|rest| name.ends_with('.') && !rest.is_empty())
    }) {
        return format!("unknown key `{key}`: {instead}");
    }
    match nearest(key, KEYS.iter().map(|key| key.name), SIMILAR) {
        Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
        None => format!("unknown key `{key}`; `millrace config --reference` lists all keys"),
    }
}

/// What Kafka Streams has under a name that is none here. With a dot at the end: everything below.
const ELSEWHERE: &[(&str, &str)] = &[
    ("bootstrap.servers", "say `kafka.bootstrap.servers`"),
    ("consumer.", "say `kafka.consumer.…`"),
    ("main.consumer.", "say `kafka.consumer.…`"),
    ("restore.consumer.", "say `kafka.consumer.…`"),
    ("producer.", "say `kafka.producer.…`"),
    ("admin.", "say `kafka.admin.…`"),
    ("cache.max.bytes.buffering", "say `statestore.cache.max.bytes`"),
    ("default.key.serde", "serdes are the module's affair"),
    ("default.value.serde", "serdes are the module's affair"),
    ("default.timestamp.extractor", "timestamps are the module's affair"),
    ("default.deserialization.exception.handler", "say `faults.on.deserialization`, or `faults.policy` for all faults"),
    ("deserialization.exception.handler", "say `faults.on.deserialization`, or `faults.policy` for all faults"),
    ("processing.exception.handler", "say `faults.on.processing`, or `faults.policy` for all faults"),
    ("default.production.exception.handler", "say `faults.on.serialization`, or `faults.policy` for all faults"),
    ("production.exception.handler", "say `faults.on.serialization`, or `faults.policy` for all faults"),
    ("errors.dead.letter.queue.topic.name", "say `faults.policy = \"dead-letter\"` and `faults.dead.letter.topic`"),
    ("rocksdb.config.setter", "say `rocksdb.block.cache.bytes` and `rocksdb.write.buffer.bytes`"),
    ("task.timeout.ms", "a passing failure is tried again without end; at start, until `startup.deadline.ms`"),
];
