//! Changes of what version of the module is active, each all or nothing: what `millrace module` and HTTP have in common.
//! Must not know who asks.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, anyhow};
use millrace_engine::ports::Error;
use millrace_engine::topology::{Difference, Effect, Partitioning, differences};

use super::load::refuse;
use super::{Application, now_ms};
use crate::config::{Config, ModuleSource};
use crate::guest::{CONTRACT, CodeCache};
use crate::kafka::{Clients, Topics};
use crate::module::{Activation, Catalogue, Instance, Reader, Reason, Version, Writer};

const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// How a version is to become active.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Differences that are accepted.
    pub allow: Vec<String>,
    /// Tasks that it is to run on first.
    pub canary: Option<u32>,
}

/// A change that was made, or was not needed.
#[derive(Debug, Clone)]
pub struct Change {
    /// What is active now.
    pub version: u64,
    pub done: String,
    /// In what it differs from the version before.
    pub differences: Vec<Difference>,
    /// The version before can't be compared, because of this.
    pub uncompared: Option<String>,
}

/// Why a change was not made, by what can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// The component is none, or does not fit this host or this cluster.
    #[error(transparent)]
    Wrong(anyhow::Error),
    /// There is no such version.
    #[error(transparent)]
    Absent(anyhow::Error),
    /// It does not fit what is there now.
    #[error(transparent)]
    Conflict(anyhow::Error),
    /// Kafka's answer.
    #[error(transparent)]
    Kafka(#[from] Error),
}

impl Denied {
    /// Wrong, unless Kafka is.
    fn wrong(error: anyhow::Error) -> Self {
        match error.downcast_ref::<Error>() {
            Some(of_kafka) => Self::Kafka(of_kafka.clone()),
            None => Self::Wrong(error),
        }
    }
}

/// The versions of an application, to be changed.
pub struct Changes<'a> {
    config: &'a Config,
    clients: Clients,
    /// Where code is kept that is compiled here.
    cache: Option<CodeCache>,
}

impl<'a> Changes<'a> {
    #[must_use]
    pub fn new(config: &'a Config, cache: Option<CodeCache>) -> Self {
        Self { config, clients: Clients::new(config, String::new()), cache }
    }

    /// Stores a component and makes it active; `name` is what messages call it.
    pub fn push(&self, component: &[u8], name: &str, terms: Terms, note: Option<String>) -> Result<Change, Denied> {
        self.check_source()?;
        let application = self.fitting(component, name)?;
        let writer = self.writer()?;
        let catalogue = writer.catalogue();
        let digest = application.module().digest();
        if let Some((version, _)) = catalogue.active().filter(|(version, _)| version.digest == digest) {
            let done = format!("version {} is this component, and it is active already", version.number);
            return Ok(Change::none_needed(version.number, done));
        }
        let compared = self.gate(&writer, &application, &terms)?;
        let stored = catalogue.versions.values().find(|version| version.digest == digest);
        let version = match stored.filter(|version| writer.reader().fetch(version).is_ok()) {
            Some(version) => {
                Version { rolled_back: None, note: note.or_else(|| version.note.clone()), ..version.clone() }
            }
            None => {
                let uploaded = writer.upload(component)?;
                Version {
                    number: catalogue.next_number(),
                    digest: digest.to_owned(),
                    size: component.len() as u64,
                    upload: uploaded.upload,
                    chunks: uploaded.chunks,
                    contract: CONTRACT.to_owned(),
                    pushed_at_ms: now_ms(),
                    note,
                    rolled_back: None,
                }
            }
        };
        let activation = activation(catalogue, version.number, Reason::Pushed, terms);
        let changes = [version.record(), activation.record()].map(|(key, value)| (key, Some(value)));
        if let Err(error) = writer.change(&changes) {
            if stored.is_none_or(|stored| stored.upload != version.upload) {
                // They are of no version. If even that fails, they take room and do no harm.
                let _ = writer.delete_chunks(&version.upload, version.chunks.len());
            }
            return Err(error.into());
        }
        let on = activation.canary.map_or_else(String::new, |tasks| format!(" on {tasks} tasks"));
        let done = format!("version {} is active{on}: {}, {}", version.number, short(digest), bytes(version.size));
        Ok(compared.made(version.number, done))
    }

    /// Makes a stored version active, or has one that runs on some tasks run on all.
    pub fn activate(&self, number: u64, terms: Terms) -> Result<Change, Denied> {
        self.check_source()?;
        let writer = self.writer()?;
        let catalogue = writer.catalogue();
        if catalogue.active.as_ref().is_some_and(|active| active.version == number) {
            let Some(promotion) = catalogue.promotion(Reason::Activated, now_ms()) else {
                return Ok(Change::none_needed(number, format!("version {number} is active already")));
            };
            let (key, value) = promotion.record();
            writer.change(&[(key, Some(value))])?;
            return Ok(Change::none_needed(number, format!("version {number} is active on all tasks")));
        }
        let component = writer.reader().fetch(known(catalogue, number)?)?;
        let application = self.fitting(&component, &format!("version {number}"))?;
        let compared = self.gate(&writer, &application, &terms)?;
        let activation = activation(catalogue, number, Reason::Activated, terms);
        let mut changes = vec![activation.record()];
        // Whoever says so knows better than what took it back.
        let taken_back = catalogue.versions.get(&number).filter(|version| version.rolled_back.is_some());
        changes.extend(taken_back.map(|version| Version { rolled_back: None, ..version.clone() }.record()));
        let changes: Vec<_> = changes.into_iter().map(|(key, value)| (key, Some(value))).collect();
        writer.change(&changes)?;
        let on = activation.canary.map_or_else(String::new, |tasks| format!(" on {tasks} tasks"));
        Ok(compared.made(number, format!("version {number} is active{on}")))
    }

    /// Makes the version active that was so before.
    pub fn roll_back(&self, reason: String) -> Result<Change, Denied> {
        self.check_source()?;
        let writer = self.writer()?;
        let catalogue = writer.catalogue();
        let Some(active) = &catalogue.active else {
            return Err(Denied::Conflict(anyhow!("no version of the module is active")));
        };
        let Some(previous) = active.previous.filter(|previous| catalogue.versions.contains_key(previous)) else {
            let version = active.version;
            let why = anyhow!("nothing is known of a version before {version}: activate one by its number");
            return Err(Denied::Conflict(why));
        };
        writer.change(&catalogue.roll_back(previous, reason, now_ms()))?;
        let done = format!("version {previous} is active again in place of {}", active.version);
        Ok(Change::none_needed(previous, done))
    }

    /// Deletes versions and what is known of instances; says which.
    pub fn prune(&self, keep: usize, forget: &[String]) -> Result<Vec<String>, Denied> {
        let writer = self.writer()?;
        let catalogue = writer.catalogue();
        if let Some(unknown) = forget.iter().find(|name| !catalogue.instances.contains_key(*name)) {
            let there: Vec<&str> = catalogue.instances.keys().map(String::as_str).collect();
            return Err(Denied::Absent(anyhow!("there is no instance {unknown}; there is {}", there.join(", "))));
        }
        let surplus = surplus(catalogue, keep, forget);
        let versions = surplus.iter().map(|version| Version::key(version.number));
        let changes: Vec<_> =
            versions.chain(forget.iter().map(|name| Instance::key(name))).map(|key| (key, None)).collect();
        if !changes.is_empty() {
            writer.change(&changes)?;
        }
        for version in &surplus {
            let shared =
                catalogue.versions.values().any(|other| other.upload == version.upload && !surplus.contains(&other));
            if !shared {
                writer.delete_chunks(&version.upload, version.chunks.len())?;
            }
        }
        let gone = surplus.iter().map(|version| format!("version {}", version.number));
        Ok(gone.chain(forget.iter().map(|name| format!("instance {name}"))).collect())
    }

    /// A version, ready to be looked at or compared.
    pub fn version(&self, reader: &Reader, number: u64) -> anyhow::Result<Application> {
        let version = known(reader.catalogue(), number)?;
        Application::of(&reader.fetch(version)?, &format!("version {number}"), self.config, self.cache.as_ref())
    }

    fn writer(&self) -> Result<Writer, Denied> {
        Ok(Writer::open(&self.clients, self.config.replication_factor)?)
    }

    /// Versions only matter to instances that look for them.
    fn check_source(&self) -> Result<(), Denied> {
        match &self.config.module.source {
            ModuleSource::Uploaded => Ok(()),
            other => Err(Denied::Conflict(anyhow!(
                "module.source is {other}: instances of this configuration run that and no version that is pushed; set \
                 module.source = \"uploaded\", push, then restart them"
            ))),
        }
    }

    /// A component that this host and this cluster can run.
    fn fitting(&self, component: &[u8], name: &str) -> Result<Application, Denied> {
        let made = || {
            let application = Application::of(component, name, self.config, self.cache.as_ref())?;
            application.check_offered()?;
            let counts = Topics::connect(&self.clients)?.partition_counts(ASK_TIMEOUT)?;
            Partitioning::new(application.plan(), &counts)?.missing_topics(&counts)?;
            anyhow::Ok(application)
        };
        made().map_err(Denied::wrong)
    }

    /// Holds a topology against the active one, and refuses what is not allowed.
    fn gate(&self, writer: &Writer, next: &Application, terms: &Terms) -> Result<Compared, Denied> {
        let catalogue = writer.catalogue();
        let Some(number) = catalogue.active.as_ref().and_then(Activation::settled) else {
            return Ok(Compared::default());
        };
        let running = match self.version(writer.reader(), number) {
            Ok(running) => running,
            // Else nothing could ever be pushed in its place.
            Err(error) => {
                let why = format!("version {number}, which is active, can't be compared: {error:#}");
                return Ok(Compared { uncompared: Some(why), ..Compared::default() });
            }
        };
        let found = differences(&running.plan().shape(), &next.plan().shape());
        let apart = |each: &&Difference| match each.effect {
            Effect::Restart => true,
            Effect::Refused => !each.name.starts_with("store:"),
            Effect::None | Effect::Reopen => false,
        };
        if let (Some(other), Some(_)) = (found.iter().find(apart), terms.canary) {
            let why = anyhow!("{other}; so it can't run on some tasks beside version {number}: leave out the canary");
            return Err(Denied::Conflict(why));
        }
        let refused = refuse(&found, &terms.allow).with_context(|| {
            format!(
                "it can't take the place of version {number}, which goes on; accept what is named with --allow, once for each \
                 (over HTTP allow=…, with commas)"
            )
        });
        refused.map_err(Denied::Conflict)?;
        Ok(Compared { found, uncompared: None })
    }
}

/// What the gate has seen.
#[derive(Default)]
struct Compared {
    found: Vec<Difference>,
    uncompared: Option<String>,
}

impl Compared {
    fn made(self, version: u64, done: String) -> Change {
        Change { version, done, differences: self.found, uncompared: self.uncompared }
    }
}

impl Change {
    /// Without another topology.
    fn none_needed(version: u64, done: String) -> Self {
        Compared::default().made(version, done)
    }
}

fn activation(catalogue: &Catalogue, number: u64, reason: Reason, terms: Terms) -> Activation {
    let activation = catalogue.activation(number, reason, terms.allow, now_ms());
    // The first of all has nothing beside it.
    Activation { canary: terms.canary.filter(|_| activation.previous.is_some()), ..activation }
}

/// Versions that nothing needs, beyond the last ones that are kept.
fn surplus<'a>(catalogue: &'a Catalogue, keep: usize, forget: &[String]) -> Vec<&'a Version> {
    let active = catalogue.active.as_ref();
    let needed: BTreeSet<u64> =
        active.into_iter().flat_map(|active| [Some(active.version), active.previous]).flatten().collect();
    // The last one stays, so that its number is never given again.
    let last = catalogue.versions.keys().next_back().copied();
    let there = catalogue.instances.iter().filter(|(name, _)| !forget.contains(name)).map(|(_, instance)| instance);
    let running: BTreeSet<u64> = there.flat_map(|there| [Some(there.version), there.canary]).flatten().collect();
    let spare = catalogue.versions.values().rev();
    let spare = spare.filter(|version| !needed.contains(&version.number) && Some(version.number) != last);
    spare.skip(keep).filter(|version| !running.contains(&version.number)).collect()
}

fn known(catalogue: &Catalogue, number: u64) -> Result<&Version, Denied> {
    catalogue.versions.get(&number).ok_or_else(|| {
        let there: Vec<String> = catalogue.versions.keys().map(ToString::to_string).collect();
        Denied::Absent(anyhow!("there is no version {number} of the module; there is {}", there.join(", ")))
    })
}

/// For people.
pub fn bytes(count: u64) -> String {
    match count {
        0..10_240 => format!("{count} B"),
        10_240..10_485_760 => format!("{} KiB", count / 1024),
        _ => format!("{} MiB", count / (1024 * 1024)),
    }
}

/// The first digits of a digest, which tell versions apart.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
