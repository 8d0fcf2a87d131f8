//! Wires the parts together, starts and stops them in order, and handles signals. The only place
//! that constructs.

mod load;
mod versions;
mod changes;
mod registry;
mod follower;
mod patterns;
mod queries;
mod tasks;
mod globals;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use millrace_engine::global::GlobalStores;
use millrace_engine::ports::Error;
use millrace_engine::record::TaskId;
use millrace_engine::task::BufferLimits;
use millrace_engine::topology::{Layout, PartitionCounts, Partitioning, Plan, Topology, TopologyError};

use crate::api::{self, Catalog, Catalogs, Facts, Server, Tls};
use crate::config::{Config, GroupProtocol, Guarantee};
use crate::global::{Following, Globals};
use crate::guest::Module;
use crate::kafka::{Clients, Membership, Topics};
use crate::module::Activation;
use crate::sink::{Sink, Switches};
use crate::source::{Farewell, Settings as SourceSettings, Source};
use crate::status::{Identity, Status};
use crate::store::{Budget as StoreBudget, Resources, StateDirectory};
use crate::traces::Traces;
use crate::worker::{Budget, Handle, Meter, Pace, Report, Worker};
use follower::Follower;
use globals::Fillers;
use patterns::Patterns;
use queries::{Group, OpenStores};
use registry::Registry;
use tasks::Tasks;
use versions::{Version, Versions};

/// Kafka's clock.
pub(crate) use crate::worker::now_ms;
pub use changes::{Change, Changes, Terms, bytes, short};
pub use load::refuse;

/// How long one question to the cluster may take before it is asked again.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Bytes handed to a worker at once: some ten batches of ordinary records.
const CHUNK_BYTES: usize = 1 << 20;
/// How long a stop may take before it stops waiting for a broker that is away.
const STOP_PATIENCE: Duration = Duration::from_secs(25);

/// What workers and the global stores' thread tell the source by.
type Reports = (Sender<Report>, Receiver<Report>);

/// A module and the plan that its topology makes, before any task is made of it.
#[derive(Debug, Clone)]
pub struct Application {
    module: Module,
    topology: Topology,
    plan: Plan,
    /// The activation that said to run it, if it was pushed.
    activation: Option<Activation>,
}

impl Application {
    /// Loads the module and checks its topology.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        load::application(config, false)
    }

    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The topics the topology writes for others, as far as it names them.
    #[must_use]
    pub fn output_topics(&self) -> Vec<String> {
        let sinks = self.topology.sinks.iter().filter_map(|sink| sink.topic.as_ref());
        let mut topics: Vec<String> = sinks.filter(|topic| !self.plan.is_repartition(topic)).cloned().collect();
        topics.sort();
        topics.dedup();
        topics
    }

    /// Refuses what the configuration or the topology may ask for and this version does not do.
    pub fn check_offered(&self) -> anyhow::Result<()> {
        for global in self.plan.global_stores() {
            if global.store.layout != Layout::KeyValue {
                bail!(
                    "global store {} must be a key-value store: windows and versions don't age there",
                    global.store.name
                );
            }
        }
        if self.plan.subtopologies().is_empty() {
            bail!("the topology fills global stores, and nothing reads them: give it a stream");
        }
        Ok(())
    }

    /// Starts processing in threads of its own.
    pub fn start(self, config: &Config) -> anyhow::Result<Running> {
        self.start_on(Base::open(config)?, config)
    }

    fn start_on(self, base: Base, config: &Config) -> anyhow::Result<Running> {
        self.check_offered()?;
        let Base { mut state, process_id, status, catalogs, registry, server, mut clients, membership, topics } = base;
        let other_inputs = self.check_state(state.path(), config)?;
        let resources = Arc::new(Resources::new(store_budget(config)));
        let stores = |task: TaskId| self.plan.store_specs(task.subtopology, tasks::is_caching(config));
        state.open_ahead(stores, &resources)?;
        let state = Arc::new(state);
        status.runs(self.module.digest());
        tracing::info!(
            application = config.application_id, module = self.module.digest(),
            version = self.activation.as_ref().map(|active| active.version),
            state = %state.path().display(), threads = config.threads, "starting"
        );
        let partitioning = prepare_topics(&self.plan, config, &clients, &topics)?;
        clients.hold_limits(&self.record_limits(&topics, &partitioning, config));
        let partitioning = Arc::new(partitioning);
        catalogs.set(Catalog {
            plan: self.plan.clone(),
            partitioning: Arc::clone(&partitioning),
            stores: Arc::new(OpenStores(state.views())),
            owners: Arc::new(Group::new(config, Arc::clone(&membership), Arc::clone(&partitioning))),
        });
        let (told, news) = channel();
        let directory = state.path().to_owned();
        let Self { module, plan, activation, .. } = self;
        let version = Version { module, plan, partitioning };
        let versions = Arc::new(Versions::new(version, activation.is_some().then_some(told)));
        let ends = Ends::default();
        let traces = status.traces.clone();
        let settings = tasks::settings(config, &versions);
        let (reports, received) = channel();
        let fillers = Fillers::new(&versions, &state, &resources, &settings, &status);
        let (readable, following) = fill_globals(&clients, fillers, &status, &reports)?;
        let tasks = Tasks::new(
            Arc::clone(&versions),
            (state, resources, readable),
            settings,
            config,
            (Arc::clone(&status), Arc::clone(&catalogs)),
        );
        let shared = (membership, status, (reports, received));
        if patterns::are_in(&versions.current().plan) {
            let (clients, versions, status) = (clients.clone(), Arc::clone(&versions), Arc::clone(&shared.1));
            Patterns { clients, versions, status, ends: ends.clone() }.watch()?;
        }
        let source = Self::wire(config, &clients, tasks, &versions, other_inputs, ends.clone(), shared)?;
        if let Some(activation) = activation {
            let follower = Follower {
                config: config.clone(),
                clients: clients.clone(),
                name: config.instance_id.clone().unwrap_or(process_id),
                state: directory,
                versions,
                registry,
                news,
                activation,
                ends: ends.clone(),
            };
            let thread = std::thread::Builder::new().name("modules".to_owned());
            thread.spawn(move || follower.run()).context("start the thread that follows the versions of the module")?;
        }
        let thread = std::thread::Builder::new()
            .name("source".to_owned())
            .spawn(move || {
                let ended = source.run();
                // Who starts anew opens their database again.
                following.into_iter().for_each(Following::stop);
                ended.map_err(|error| anyhow!("{error}"))
            })
            .context("start the source thread")?;
        Ok(Running { ends, thread, server, traces })
    }

    /// Of the topics that are written to. To read them is a right of its own, which the application can do without.
    fn record_limits(&self, topics: &Topics, partitioning: &Partitioning, config: &Config) -> BTreeMap<String, usize> {
        let outputs = self.output_topics();
        let internal = partitioning.internal_topics().iter().map(|topic| topic.name.as_str());
        let written = outputs.iter().map(String::as_str).chain(internal).chain(config.faults.dead_letter_topic());
        topics.record_limits(written).unwrap_or_else(|error| {
            tracing::debug!(%error, "the limits of topics are not known");
            BTreeMap::new()
        })
    }

    fn wire(
        config: &Config,
        clients: &Clients,
        tasks: Tasks,
        versions: &Arc<Versions>,
        other_inputs: bool,
        ends: Ends,
        (membership, status, (reports, received)): (Arc<Membership>, Arc<Status>, Reports),
    ) -> anyhow::Result<Source> {
        let guarantee = engine_guarantee(config.guarantee);
        let pace = Pace {
            guarantee,
            commit_interval: Duration::from_millis(config.commit_interval_ms),
            commit_early: config.commit_early,
            overlay_bytes: config.overlay_bytes / config.threads.max(1),
            buffer: BufferLimits {
                records: config.buffered_records_per_partition,
                bytes: config.input_buffer_bytes / config.threads.max(1),
            },
        };
        let mut workers = Vec::new();
        for number in 0..config.threads {
            let lease = Arc::new(AtomicBool::new(true));
            let switches = Switches { lease: Arc::clone(&lease), abandon: Arc::clone(&ends.abandon) };
            let log = Sink::new(clients, number, config.guarantee, Arc::clone(&membership), switches);
            let budget = Arc::new(Budget::new(config.input_buffer_bytes / config.threads.max(1)));
            let meter = Meter::new(Arc::clone(&status), number);
            let (leased, budgeted) = (Arc::clone(&lease), Arc::clone(&budget));
            let worker = Worker::new(Box::new(log), pace, leased, budgeted, reports.clone(), meter);
            let handle = Handle::start(format!("worker-{number}"), lease, budget, |orders| worker.run(&orders))
                .context("start a worker thread")?;
            workers.push(handle);
        }
        let patterns = patterns::are_in(&versions.current().plan);
        let settings = SourceSettings {
            clients: clients.clone(),
            guarantee,
            application_id: config.application_id.clone(),
            auto_offset_reset: config.auto_offset_reset,
            partitioning: Arc::clone(&versions.current().partitioning),
            chunk_records: config.batch_records,
            chunk_bytes: CHUNK_BYTES,
            instance_id: config.instance_id.clone(),
            standby_replicas: config.standby_replicas,
            farewell: farewell(config),
            anew: ends.again,
            patterns,
            status,
            other_inputs: config.instance_id.is_some() && (other_inputs || patterns),
        };
        Source::new(settings, membership, workers, Arc::new(tasks), (reports, received), ends.stop)
            .context("start the threads of the source")
    }
}

/// What there is before the module: the state directory, locked, HTTP, so that probes are answered, and a first version
/// can be pushed, while it is waited for, and the clients, which find their brokers meanwhile.
struct Base {
    state: StateDirectory,
    process_id: String,
    status: Arc<Status>,
    catalogs: Arc<Catalogs>,
    registry: Arc<Registry>,
    server: Option<Server>,
    clients: Clients,
    membership: Arc<Membership>,
    topics: Topics,
}

impl Base {
    fn open(config: &Config) -> anyhow::Result<Self> {
        let state = StateDirectory::open(&config.state_dir, &config.application_id)?;
        let process_id = state.process_id()?;
        let identity = Identity {
            application_id: config.application_id.clone(),
            instance: config.instance_id.clone().unwrap_or_else(|| process_id.clone()),
            threads: config.threads,
        };
        let traces = traces(config, &identity)?;
        let status = Arc::new(Status::new(identity).with_traces(traces));
        let catalogs = Arc::new(Catalogs::default());
        let registry = Arc::new(Registry::new(config.clone()));
        let server = serve(config, &status, &registry, &catalogs)?;
        let clients = Clients::new(config, process_id.clone());
        let membership = Arc::new(Membership::new(&clients)?);
        let topics = Topics::connect(&clients)?;
        Ok(Self { state, process_id, status, catalogs, registry, server, clients, membership, topics })
    }
}

/// How the threads are told to end.
#[derive(Clone, Default)]
struct Ends {
    stop: Arc<AtomicBool>,
    /// Set when nothing is to wait for a broker any more.
    abandon: Arc<AtomicBool>,
    /// Set with `stop` when the application is to start anew.
    again: Arc<AtomicBool>,
}

impl Ends {
    fn start_anew(&self) {
        self.again.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// An application that is processing.
pub struct Running {
    ends: Ends,
    thread: JoinHandle<anyhow::Result<()>>,
    server: Option<Server>,
    traces: Traces,
}

impl Running {
    /// Whether it has ended, by itself or because it was stopped.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Whether it ends to start anew with another version of the module.
    #[must_use]
    pub fn starts_anew(&self) -> bool {
        self.ends.again.load(Ordering::Relaxed)
    }

    /// Commits, closes and ends; gives back why it ended if not because of this.
    pub fn stop(self) -> anyhow::Result<()> {
        self.ends.stop.store(true, Ordering::Relaxed);
        let patience = Instant::now() + STOP_PATIENCE;
        while !self.thread.is_finished() {
            if Instant::now() > patience {
                // From here on nothing waits for the broker; what is uncommitted stays uncommitted.
                self.ends.abandon.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let ended = self.thread.join();
        if let Some(server) = self.server {
            server.stop();
        }
        self.traces.stop();
        ended.unwrap_or_else(|_| bail!("the source thread panicked; its message is above"))
    }

    /// Where it is served over HTTP.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }
}

/// Runs until SIGTERM or SIGINT, or until something fails that only a person can mend.
pub fn run(config: &Config) -> anyhow::Result<()> {
    while run_once(config)? {}
    Ok(())
}

/// Says whether it is to start anew, with another version of the module.
fn run_once(config: &Config) -> anyhow::Result<bool> {
    let signals = tokio::runtime::Builder::new_current_thread().enable_all().build().context("listen for signals")?;
    let mut signalled = false;
    let stopped = signals.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let config = config.clone();
        // Away from this thread, on which nothing may block: loading calls the module.
        let starting = tokio::task::spawn_blocking(move || {
            let base = Base::open(&config)?;
            load::application(&config, true)?.start_on(base, &config)
        });
        let running = tokio::select! {
            running = starting => running.context("start the application")??,
            // Nothing was processed yet, so there is nothing to commit.
            _ = terminate.recv() => return Ok(None),
            _ = interrupt.recv() => return Ok(None),
        };
        while !running.is_finished() {
            tokio::select! {
                _ = terminate.recv() => { tracing::info!("SIGTERM: stopping"); signalled = true; break; }
                _ = interrupt.recv() => { tracing::info!("SIGINT: stopping"); signalled = true; break; }
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
        anyhow::Ok(Some(running))
    });
    // A start that is still asking for a broker is left behind: the process ends.
    signals.shutdown_background();
    match stopped? {
        Some(running) => {
            let anew = running.starts_anew() && !signalled;
            running.stop().map(|()| anew)
        }
        None => Ok(false),
    }
}

fn traces(config: &Config, identity: &Identity) -> anyhow::Result<Traces> {
    let Some(endpoint) = &config.otlp_endpoint else { return Ok(Traces::default()) };
    crate::tls::choose_provider();
    Traces::to(endpoint, &identity.application_id, &identity.instance)
}

fn serve(
    config: &Config,
    status: &Arc<Status>,
    registry: &Arc<Registry>,
    catalogs: &Arc<Catalogs>,
) -> anyhow::Result<Option<Server>> {
    let Some(listen) = config.http.listen else { return Ok(None) };
    // Who changes something later would be the first to learn that it can't be read.
    config
        .http
        .token_file
        .as_deref()
        .map(api::read_token)
        .transpose()
        .context("read the token of changes over HTTP")?;
    let tls = config.http.tls.as_ref().map(|files| Tls::open(files, config.http.peers.is_some()));
    let tls = tls.transpose().context("read the certificates of HTTP (http.tls)")?;
    let facts = Facts {
        status: Arc::clone(status),
        acceptable_lag: config.http.acceptable_recovery_lag,
        peers: config.http.peers.clone(),
        tls,
        token: config.http.token_file.clone(),
        modules: Arc::clone(registry) as _,
        catalogs: Arc::clone(catalogs),
    };
    let server = Server::start(listen, facts).with_context(|| {
        format!("serve HTTP on {listen}; set http.listen, or MILLRACE_HTTP_LISTEN, to another address or to `off`")
    })?;
    tracing::info!(address = %server.address(), tls = config.http.tls.is_some(), "serving HTTP");
    Ok(Some(server))
}

fn farewell(config: &Config) -> Farewell {
    if config.leave_on_stop {
        Farewell::Leave
    } else if config.group_protocol == GroupProtocol::Consumer && config.instance_id.is_some() {
        // Under this protocol nobody gets the place of a member that is silent, not even itself.
        Farewell::Return
    } else {
        Farewell::Silent
    }
}

fn store_budget(config: &Config) -> StoreBudget {
    StoreBudget {
        block_cache_bytes: config.rocksdb.block_cache_bytes,
        write_buffer_bytes: config.rocksdb.write_buffer_bytes,
        background_threads: 2,
        // A killed process finds its last commit again, state and input offsets together: under
        // at-least-once that is what makes its counts exact.
        write_ahead_log: true,
    }
}

fn engine_guarantee(guarantee: Guarantee) -> millrace_engine::commit::Guarantee {
    match guarantee {
        Guarantee::AtLeastOnce => millrace_engine::commit::Guarantee::AtLeastOnce,
        Guarantee::ExactlyOnce => millrace_engine::commit::Guarantee::ExactlyOnce,
    }
}

/// Fills the global stores, if there are any, before anything is processed, and has them kept up to date.
fn fill_globals(
    clients: &Clients,
    fillers: Fillers,
    status: &Status,
    reports: &Sender<Report>,
) -> anyhow::Result<(GlobalStores, Option<Following>)> {
    if fillers.are_idle() {
        return Ok((GlobalStores::default(), None));
    }
    let globals = Globals::fill(clients, Box::new(fillers), status).context("fill the global stores")?;
    let (stores, reports) = (globals.stores(), reports.clone());
    // Nobody takes it: the process is ending.
    let following = globals.follow(move |error| drop(reports.send(Report::Globals(error))));
    Ok((stores, Some(following.context("start the thread that keeps the global stores up to date")?)))
}

/// Finds the source topics, and sees that the internal ones exist. Brokers and topics that are not
/// there yet are waited for until the start-up deadline.
fn prepare_topics(plan: &Plan, config: &Config, clients: &Clients, topics: &Topics) -> anyhow::Result<Partitioning> {
    let deadline = Instant::now() + Duration::from_millis(config.startup_deadline_ms);
    let dead_letters = config.faults.dead_letter_topic();
    let (partitioning, counts) = loop {
        let asked = topics.partition_counts(ASK_TIMEOUT).map_err(Absent::Broker);
        let measured = asked.and_then(|counts| match Partitioning::new(plan, &counts) {
            Ok(_) if dead_letters.is_some_and(|topic| !counts.contains_key(topic)) => {
                Err(Absent::DeadLetters(dead_letters.unwrap_or_default().to_owned()))
            }
            Ok(partitioning) => Ok((partitioning, counts)),
            Err(missing @ TopologyError::MissingTopics(_)) => Err(Absent::Topics(missing)),
            Err(error) => Err(Absent::Never(error)),
        });
        match measured {
            Ok(measured) => break measured,
            Err(absent) => absent.wait(clients, deadline)?,
        }
    };
    create_internal(clients, topics, &partitioning, &counts, config, deadline)?;
    Ok(partitioning)
}

fn create_internal(
    clients: &Clients,
    topics: &Topics,
    partitioning: &Partitioning,
    counts: &PartitionCounts,
    config: &Config,
    deadline: Instant,
) -> anyhow::Result<()> {
    let missing = partitioning.missing_topics(counts)?;
    check_policies(clients, partitioning, counts)?;
    topics.create(&missing, config.replication_factor)?;
    // The consumer takes a subscribed topic that its broker does not know yet for one that is gone.
    while !missing.is_empty() {
        let counts = topics.partition_counts(ASK_TIMEOUT)?;
        if partitioning.missing_topics(&counts)?.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            bail!("internal topics were created, but the brokers don't show them");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Says which internal topics would lose records. That takes a while and changes nothing, so the
/// start does not wait for it.
fn check_policies(clients: &Clients, partitioning: &Partitioning, counts: &PartitionCounts) -> anyhow::Result<()> {
    let internal = partitioning.internal_topics().iter();
    let existing: Vec<_> = internal.filter(|topic| counts.contains_key(&topic.name)).cloned().collect();
    if existing.is_empty() {
        return Ok(());
    }
    let clients = clients.clone();
    let check = move || match Topics::connect(&clients).and_then(|topics| topics.wrong_policies(&existing)) {
        Ok(wrong) => wrong.iter().for_each(|wrong| tracing::error!("internal topic may lose records: {wrong}")),
        // Reading configurations is a right of its own, which the application can do without.
        Err(error) => tracing::debug!(%error, "internal topics are not checked"),
    };
    std::thread::Builder::new().name("topic-check".to_owned()).spawn(check).context("start a thread")?;
    Ok(())
}

/// Why an application can't start yet.
enum Absent {
    Broker(Error),
    Topics(TopologyError),
    /// The topic of that name.
    DeadLetters(String),
    /// Waiting would not help.
    Never(TopologyError),
}

impl Absent {
    fn wait(self, clients: &Clients, deadline: Instant) -> anyhow::Result<()> {
        let (what, error) = match self {
            Self::Broker(Error::Retry(reason)) => {
                (format!("no broker answers at {}", clients.bootstrap_servers()), anyhow!(reason))
            }
            Self::Broker(error) => return Err(error.into()),
            Self::Topics(error) => ("source topics are missing".to_owned(), error.into()),
            // As in Kafka Streams, which does not create it either: how many partitions it has and how long it keeps
            // what is in it is for people to say.
            Self::DeadLetters(topic) => {
                let remedy = "create it, or name another as faults.dead.letter.topic";
                ("the dead-letter topic is missing".to_owned(), anyhow!("topic {topic} doesn't exist: {remedy}"))
            }
            Self::Never(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(error.context(format!("{what}, and startup.deadline.ms has passed")));
        }
        let left = deadline.saturating_duration_since(Instant::now()).as_secs();
        tracing::warn!("{what}: {error}; trying again for {left} s");
        std::thread::sleep(ASK_AGAIN);
        Ok(())
    }
}
