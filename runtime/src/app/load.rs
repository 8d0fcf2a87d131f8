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
use crate::module::{Activation, Reader, Recorded};

/// Below the application's state directory.
const CODE: &str = ".code";

/// Where compiled modules of an application are kept.
pub(super) fn cache(config: &Config) -> Option<CodeCache> {
    CodeCache::open(&config.state_dir.join(&config.application_id).join(CODE))
}

/// Loads the module that the configuration names and checks its topology.
pub(super) fn application(config: &Config, cache: Option<&CodeCache>) -> anyhow::Result<Application> {
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
        ModuleSource::Uploaded => {
            let (bytes, activation) = uploaded(config)?;
            let name = format!("version {}", activation.version);
            let application = Application::of(&bytes, &name, config, cache)?;
            Ok(Application { activation: Some(activation), ..application })
        }
    }
}

/// The active version of those that were pushed. Brokers that are away and a first version that is still to come are
/// waited for until the start-up deadline.
fn uploaded(config: &Config) -> anyhow::Result<(Vec<u8>, Activation)> {
    let clients = Clients::new(config, String::new());
    let deadline = Instant::now() + Duration::from_millis(config.startup_deadline_ms);
    loop {
        let reason = match active(&clients) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => anyhow!(
                "module.source is uploaded, and no version of the module is active: make one with `millrace module push FILE`"
            ),
            Err(Error::Retry(reason)) => anyhow!(reason),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(reason.context("the module can't be had, and startup.deadline.ms has passed"));
        }
        let left = deadline.saturating_duration_since(Instant::now()).as_secs();
        tracing::warn!("{reason:#}; trying again for {left} s");
        std::thread::sleep(ASK_AGAIN);
    }
}

fn active(clients: &Clients) -> Result<Option<(Vec<u8>, Activation)>, Error> {
    let Some(reader) = Reader::open(clients)? else { return Ok(None) };
    let catalogue = reader.catalogue();
    // One that is to run on some tasks is taken up by the follower, as by those who run already.
    let canary = catalogue.active.as_ref().filter(|active| active.canary.is_some());
    if let Some(active) = canary
        && let Some(version) = active.previous.and_then(|previous| catalogue.versions.get(&previous))
    {
        let before = Activation {
            change: active.change - 1,
            version: version.number,
            previous: None,
            canary: None,
            ..active.clone()
        };
        return Ok(Some((reader.fetch(version)?, before)));
    }
    match (catalogue.active(), &catalogue.active) {
        (Some((version, activation)), _) => Ok(Some((reader.fetch(version)?, activation.clone()))),
        (None, Some(activation)) => Err(Error::Fatal(format!(
            "version {} of the module is active, but there is no such version any more: activate another one, or push it again",
            activation.version
        ))),
        (None, None) => Ok(None),
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
