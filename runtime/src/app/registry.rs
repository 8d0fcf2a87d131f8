//! The versions of the module as HTTP shows and changes them.

use std::sync::{Mutex, PoisonError};

use millrace_engine::ports::Error;

use super::changes::{Change, Changes, Denied, Terms};
use super::load::cache;
use crate::api::{self, ActiveVersion, ModuleChange, ModuleInstance, ModuleOverview, ModuleVersion, Modules};
use crate::config::Config;
use crate::module::{Activation, COMPONENT_MAX_BYTES, Catalogue, Instance, Reason, Version};

pub(super) struct Registry {
    config: Config,
    /// As the follower has read it last.
    known: Mutex<Catalogue>,
}

impl Registry {
    pub(super) fn new(config: Config) -> Self {
        Self { config, known: Mutex::default() }
    }

    pub(super) fn note(&self, known: &Catalogue) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone_from(known);
    }

    /// Code that is compiled for a change is there when the version is taken up.
    fn changes(&self) -> Changes<'_> {
        Changes::new(&self.config, cache(&self.config))
    }
}

impl Modules for Registry {
    fn known(&self) -> ModuleOverview {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        ModuleOverview {
            source: self.config.module.source.to_string(),
            active: known.active.as_ref().map(active),
            versions: known.versions.values().map(version).collect(),
            instances: known.instances.iter().map(|(name, instance)| self::instance(name, instance)).collect(),
        }
    }

    fn most_bytes(&self) -> usize {
        COMPONENT_MAX_BYTES
    }

    fn push(&self, component: &[u8], terms: api::Terms, note: Option<String>) -> Result<ModuleChange, api::Denied> {
        told(self.changes().push(component, "the component", of_terms(terms), note))
    }

    fn activate(&self, version: u64, terms: api::Terms) -> Result<ModuleChange, api::Denied> {
        told(self.changes().activate(version, of_terms(terms)))
    }

    fn roll_back(&self, reason: String) -> Result<ModuleChange, api::Denied> {
        told(self.changes().roll_back(reason))
    }
}

fn of_terms(terms: api::Terms) -> Terms {
    Terms { allow: terms.allow, canary: terms.canary }
}

fn told(outcome: Result<Change, Denied>) -> Result<ModuleChange, api::Denied> {
    let why = |error: &anyhow::Error| format!("{error:#}");
    match outcome {
        Ok(Change { version, done, differences, uncompared }) => {
            let differences = differences.iter().map(ToString::to_string).chain(uncompared).collect();
            Ok(ModuleChange { version, done, differences })
        }
        Err(Denied::Wrong(error)) => Err(api::Denied::Wrong(why(&error))),
        Err(Denied::Absent(error)) => Err(api::Denied::Absent(why(&error))),
        Err(Denied::Conflict(error)) => Err(api::Denied::Conflict(why(&error))),
        Err(Denied::Kafka(Error::Retry(why))) => Err(api::Denied::Later(why)),
        Err(Denied::Kafka(Error::Fenced(why))) => Err(api::Denied::Conflict(why)),
        Err(Denied::Kafka(error)) => Err(api::Denied::Failed(error.to_string())),
    }
}

fn active(active: &Activation) -> ActiveVersion {
    let reason = match active.reason {
        Reason::Pushed => "pushed",
        Reason::Activated => "activated",
        Reason::Promoted => "promoted",
        Reason::RolledBack(_) => "rolled back",
    };
    let Activation { version, previous, canary, at_ms, .. } = *active;
    ActiveVersion { version, previous, canary, reason, at_ms }
}

fn version(version: &Version) -> ModuleVersion {
    let Version { number, digest, size, contract, pushed_at_ms, note, rolled_back, .. } = version.clone();
    ModuleVersion { version: number, digest, bytes: size, contract, pushed_at_ms, note, rolled_back }
}

fn instance(name: &str, instance: &Instance) -> ModuleInstance {
    let Instance { version, canary, since_ms, pause_us, problem, .. } = instance.clone();
    let pause_ms = pause_us.map(|us| us as f64 / 1000.0);
    ModuleInstance { instance: name.to_owned(), version, canary, since_ms, pause_ms, problem }
}
