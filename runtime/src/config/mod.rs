//! Owns the configuration: the TOML file, its environment overrides, validation. The only place
//! that reads the environment.
//!
//! A file is flattened to dotted keys (`file`), the environment is laid over it (`environment`),
//! and both are held against one table of keys (`keys`, whose types are in `value`) or, below
//! `kafka.`, against the properties that may be passed through (`clients`). `load` makes a
//! [`Config`] of it, or says everything that is wrong.

mod keys;
mod value;
mod file;
mod environment;
mod properties;
mod clients;
mod load;
mod problem;
mod listing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use millrace_engine::ports::FaultKind;
use millrace_engine::topology::OffsetReset;

pub use clients::KafkaConfig;
pub use environment::Environment;
pub use listing::{effective, reference};
pub use load::Options;
pub use problem::{Invalid, Origin};
pub use properties::{PROPERTIES, Scope};

/// An application and how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub application_id: String,
    /// `group.instance.id`: static membership.
    pub instance_id: Option<String>,
    pub group_protocol: GroupProtocol,
    /// A stop hands the partitions over at once instead of keeping them for a restart.
    pub leave_on_stop: bool,
    pub module: ModuleConfig,
    /// Who the process is in Azure.
    pub workload_identity: Option<WorkloadIdentity>,
    pub kafka: KafkaConfig,
    pub state_dir: PathBuf,
    pub state_cleanup_delay_ms: u64,
    pub guarantee: Guarantee,
    pub commit_interval_ms: u64,
    /// Commit before the interval is over when there is nothing to process: what a transaction wrote is read by nobody
    /// before. Whoever sets an interval has it kept.
    pub commit_early: bool,
    pub threads: usize,
    /// Copies of each task's state at other instances.
    pub standby_replicas: usize,
    /// Of all threads together. 0: cached stores forward every update.
    pub store_cache_bytes: usize,
    /// Of all threads together; a commit is brought forward when it is used up.
    pub overlay_bytes: usize,
    pub rocksdb: RocksDbConfig,
    pub buffered_records_per_partition: usize,
    /// Of all partitions together.
    pub input_buffer_bytes: usize,
    /// Most records in one call of the module.
    pub batch_records: usize,
    /// Most bytes in one call of the module, unless one record alone is larger.
    pub batch_bytes: usize,
    /// `None`: never wait for an empty partition.
    pub max_task_idle_ms: Option<u64>,
    /// -1: the brokers' default.
    pub replication_factor: i32,
    pub auto_offset_reset: OffsetReset,
    /// How long brokers and source topics may be absent at start.
    pub startup_deadline_ms: u64,
    pub faults: Faults,
    pub http: HttpConfig,
    /// Of the collector that traces go to; `None`: there are none.
    pub otlp_endpoint: Option<String>,
    pub log: LogConfig,
    /// Every key with its value and where it came from, secrets redacted.
    pub settings: Vec<Setting>,
    /// What is odd about the configuration, but no reason to refuse it.
    pub warnings: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct ModuleConfig {
    pub source: ModuleSource,
    /// Differences from the topology before that are accepted, as the gate calls them.
    pub allow: Vec<String>,
    /// How long a version is on trial after it became active.
    pub trial_ms: u64,
    /// Faults within a minute, at one instance, for which a version on trial is taken back.
    pub trial_faults: u32,
    /// What the module sees of the environment.
    pub env: Vec<(String, String)>,
    pub memory_bytes: usize,
    pub call_timeout_ms: u64,
    pub output_bytes: usize,
    pub state_bytes: usize,
}

/// Where the module comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleSource {
    File(PathBuf),
    /// An artifact in an OCI registry, `registry/repository@sha256:…`.
    Artifact(String),
    /// The active version of those pushed to the application's own topic.
    Uploaded,
}

impl fmt::Display for ModuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Artifact(artifact) => write!(f, "{OCI}{artifact}"),
            Self::Uploaded => f.write_str(UPLOADED),
        }
    }
}

/// As Azure's webhook tells it to pods whose service account has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadIdentity {
    pub client_id: String,
    pub tenant_id: String,
    pub authority: String,
    /// Has the token of the service account; the kubelet puts in a new one before it expires.
    pub token_file: PathBuf,
}

/// What stands for the name of an instance in `http.peers`.
pub const INSTANCE: &str = "{instance}";
/// What stands for [`ModuleSource::Uploaded`] in place of a path.
const UPLOADED: &str = "uploaded";
/// What an artifact's name begins with.
const OCI: &str = "oci://";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RocksDbConfig {
    pub block_cache_bytes: usize,
    pub write_buffer_bytes: usize,
}

/// Which of Kafka's group protocols the members speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    Classic,
    /// KIP-848.
    Consumer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    AtLeastOnce,
    ExactlyOnce,
}

/// What becomes of a record the module fails on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    pub policy: FaultPolicy,
    /// Of kinds of faults that have one of their own.
    pub kinds: Vec<(FaultKind, FaultPolicy)>,
}

impl Faults {
    /// Where dead letters go, if any policy says so.
    #[must_use]
    pub fn dead_letter_topic(&self) -> Option<&str> {
        let policies = std::iter::once(&self.policy).chain(self.kinds.iter().map(|(_, policy)| policy));
        policies.into_iter().find_map(|policy| match policy {
            FaultPolicy::DeadLetter(topic) => Some(topic.as_str()),
            FaultPolicy::Fail | FaultPolicy::Skip => None,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultPolicy {
    Fail,
    Skip,
    /// It goes to this topic.
    DeadLetter(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Where other instances serve, with `{instance}` for their name.
    pub peers: Option<String>,
    /// `None`: without TLS.
    pub tls: Option<TlsConfig>,
    /// Has the token that a change needs. `None`: nothing can be changed.
    pub token_file: Option<PathBuf>,
    /// Records that a task of a ready instance may still have to restore.
    pub acceptable_recovery_lag: u64,
}

/// Files with certificates and keys, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Of the other instances' certificates. `None`: the system's.
    pub authorities: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Directives as `tracing_subscriber::EnvFilter` takes them.
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// One key as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    /// `None`: nothing is set.
    pub value: Option<String>,
    pub origin: Origin,
}

impl fmt::Debug for ModuleConfig {
    /// Without the values of the granted variables: tokens are passed that way.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ModuleConfig")
            .field("source", &self.source)
            .field("allow", &self.allow)
            .field("trial_ms", &self.trial_ms)
            .field("trial_faults", &self.trial_faults)
            .field("env", &names)
            .field("memory_bytes", &self.memory_bytes)
            .field("call_timeout_ms", &self.call_timeout_ms)
            .field("output_bytes", &self.output_bytes)
            .field("state_bytes", &self.state_bytes)
            .finish()
    }
}
