//! Finds the module that a configuration names, and holds it against what ran before.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use millrace_engine::ports::Error;
use millrace_engine::topology::{Difference, Effect, Plan, differences};

use super::{ASK_AGAIN, Application};
use crate::config::{Config, ModuleSource};
use crate::guest::{CodeCache, Limits, Module, Settings};
use crate::kafka::Clients;
use crate::module::{Activation, COMPONENT_MAX_BYTES, Reader, Recorded};
use crate::registry;

/// Below the application's state directory.
const CODE: &str = ".code";
const ARTIFACTS: &str = ".artifacts";

/// Where compiled modules of an application are kept.
pub(super) fn cache(config: &Config) -> Option<CodeCache> {
    CodeCache::open(&config.state_dir.join(&config.application_id).join(CODE))
}

/// Loads the module that the configuration names and checks its topology. To be run it is waited for, and what was made of
/// it is kept.
pub(super) fn application(config: &Config, to_run: bool) -> anyhow::Result<Application> {
    let kept = if to_run { cache(config) } else { None };
    let cache = kept.as_ref();
    let patience = Duration::from_millis(if to_run { config.startup_deadline_ms } else { 0 });
    match &config.module.source {
        ModuleSource::File(path) => {
            let bytes = std::fs::read(path).with_context(|| {
                format!(
                    "read module {}; set module.source, or MILLRACE_MODULE_SOURCE, to the built .wasm",
                    path.display()
                )
            })?;
            Application::of(&bytes, &path.display().to_string(), config, cache)
        }
        ModuleSource::Artifact(artifact) => {
            let keep = to_run.then(|| config.state_dir.join(&config.application_id).join(ARTIFACTS));
            let bytes = patiently(patience, || {
                registry::fetch(artifact, COMPONENT_MAX_BYTES, keep.as_deref(), config.workload_identity.as_ref())
            })?;
            Application::of(&bytes, &config.module.source.to_string(), config, cache)
        }
        ModuleSource::Uploaded => {
            let clients = Clients::new(config, String::new());
            patiently(patience, || uploaded(config, &clients, cache))
        }
    }
}

/// Tries as long as it may come to pass, and the patience lasts.
fn patiently<T>(patience: Duration, mut attempt: impl FnMut() -> Result<T, Error>) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let reason = match attempt() {
            Ok(done) => return Ok(done),
            Err(Error::Retry(reason)) => anyhow!(reason),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            let passed = if patience.is_zero() { "" } else { ", and startup.deadline.ms has passed" };
            return Err(reason.context(format!("the module can't be had{passed}")));
        }
        let left = deadline.saturating_duration_since(Instant::now()).as_secs();
        tracing::warn!("{reason:#}; trying again for {left} s");
        std::thread::sleep(ASK_AGAIN);
    }
}

/// The active version of those that were pushed or, if that can't be run here, the one before it. As long as there is
/// neither, brokers that are away, a first version that is still to come, and a better one are waited for.
fn uploaded(config: &Config, clients: &Clients, cache: Option<&CodeCache>) -> Result<Application, Error> {
    let none =
        "module.source is uploaded, and no version of the module is active: make one with `millrace module push FILE`";
    let none = || Error::Retry(none.to_owned());
    let reader = Reader::open(clients)?.ok_or_else(none)?;
    let catalogue = reader.catalogue();
    let active = catalogue.active.as_ref().ok_or_else(none)?;
    let load = |number: u64| {
        let version = catalogue.versions.get(&number);
        let version = version.context("there is no such version any more: activate another one, or push it again")?;
        let application = Application::of(&reader.fetch(version)?, &format!("version {number}"), config, cache)?;
        application.check_offered()?;
        anyhow::Ok(application)
    };
    let before = || {
        let before = active.previous.filter(|number| catalogue.versions.contains_key(number))?;
        Some(Activation { change: active.change - 1, version: before, previous: None, canary: None, ..active.clone() })
    };
    // One that is to run on some tasks is taken up by the follower, as by those who run already.
    let first = before().filter(|_| active.canary.is_some()).unwrap_or_else(|| active.clone());
    let why = match load(first.version) {
        Ok(application) => return Ok(Application { activation: Some(first), ..application }),
        Err(error) => match error.downcast_ref::<Error>() {
            Some(Error::Retry(reason)) => return Err(Error::Retry(reason.clone())),
            _ => format!("version {} of the module is active, and can't be run here: {error:#}", first.version),
        },
    };
    // The group has to agree on inputs; whatever differs in them was allowed by name.
    let alike = active.allow.iter().all(|name| name.starts_with("store:"));
    let before = before().filter(|before| alike && before.version != first.version);
    match before.and_then(|before| Some((load(before.version).ok()?, before))) {
        Some((application, before)) => {
            tracing::error!(running = before.version, "{why}; the version before runs in its place");
            Ok(Application { activation: Some(before), ..application })
        }
        None => Err(Error::Retry(why)),
    }
}

impl Application {
    /// Compiles a component and checks its topology; `name` is what messages call it.
    pub fn of(bytes: &[u8], name: &str, config: &Config, cache: Option<&CodeCache>) -> anyhow::Result<Self> {
        let settings = Settings {
            application_id: config.application_id.clone(),
            environment: config.module.env.clone(),
            limits: Limits {
                memory_bytes: config.module.memory_bytes,
                call_timeout: Duration::from_millis(config.module.call_timeout_ms),
                output_bytes: config.module.output_bytes,
                state_bytes: config.module.state_bytes,
            },
        };
        let module = Module::load(bytes, settings, cache).with_context(|| format!("load module {name}"))?;
        let topology = module.describe().with_context(|| format!("describe {name}"))?;
        let plan = Plan::new(&config.application_id, topology.clone())
            .with_context(|| format!("check the topology of {name}"))?;
        Ok(Self { module, topology, plan, activation: None })
    }

    /// In what it differs from the topology that the state of this directory was made by.
    #[must_use]
    pub fn differences_from_state(&self, directory: &Path) -> Vec<Difference> {
        let Some(recorded) = Recorded::read(directory) else { return Vec::new() };
        differences(&recorded.shape(), &self.plan.shape())
    }

    /// Refuses a topology that would orphan what is in the state directory, and records the one that is taken. What was
    /// pushed has been held against the version before it, and what was accepted then is accepted here. Says whether it
    /// reads other topics than before.
    pub(super) fn check_state(&self, directory: &Path, config: &Config) -> anyhow::Result<bool> {
        let found = self.differences_from_state(directory);
        match self.activation {
            Some(_) => found.iter().for_each(|difference| tracing::info!(%difference, "the topology has changed")),
            None => refuse(&found, &config.module.allow).with_context(|| {
                format!(
                    "the topology of {} does not fit the state in {}; allow each difference by its name in module.allow, or give \
                     the application another application.id",
                    config.module.source,
                    directory.display()
                )
            })?,
        }
        let recorded = Recorded::of(&self.plan.shape(), self.module.digest());
        recorded.write(directory).with_context(|| format!("record the topology in {}", directory.display()))?;
        Ok(found.iter().any(|each| each.effect == Effect::Refused && !each.name.starts_with("store:")))
    }
}

/// Fails where a difference is refused and not allowed by its name.
pub fn refuse(found: &[Difference], allow: &[String]) -> anyhow::Result<()> {
    let refused = found.iter().filter(|each| each.effect == Effect::Refused && !allow.contains(&each.name));
    let refused: Vec<String> = refused.map(ToString::to_string).collect();
    if refused.is_empty() { Ok(()) } else { bail!("refused: {}", refused.join("; ")) }
}
