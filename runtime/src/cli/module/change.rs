//! `millrace module push`, `activate`, `rollback` and `prune`: changes of what is active, each all or nothing.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, bail};
use millrace_engine::topology::{Difference, Effect, Partitioning, differences};

use super::{bytes, check_source, clients, short, show, version};
use crate::app::{Application, now_ms, refuse};
use crate::cli::print;
use crate::config::Config;
use crate::guest::CONTRACT;
use crate::kafka::Topics;
use crate::module::{Activation, Catalogue, Instance, Reason, Version, Writer};

/// How a version is to become active.
pub(super) struct Terms {
    /// Differences that are accepted.
    pub(super) allow: Vec<String>,
    /// Tasks that it is to run on first.
    pub(super) canary: Option<u32>,
}

pub(super) fn push(config: &Config, file: &Path, terms: Terms, note: Option<String>) -> anyhow::Result<()> {
    check_source(config)?;
    let component = super::read(file)?;
    let application = Application::of(&component, &file.display().to_string(), config, None)?;
    application.check_offered()?;
    check_topics(config, &application)?;
    let writer = Writer::open(&clients(config), config.replication_factor)?;
    let catalogue = writer.catalogue();
    let digest = application.module().digest();
    if let Some((version, _)) = catalogue.active().filter(|(version, _)| version.digest == digest) {
        return print(&format!("version {} is this component, and it is active already\n", version.number));
    }
    gate(config, &writer, &application, &terms)?;
    let stored = catalogue.versions.values().find(|version| version.digest == digest);
    let version = match stored.filter(|version| writer.reader().fetch(version).is_ok()) {
        Some(version) => Version { rolled_back: None, note: note.or_else(|| version.note.clone()), ..version.clone() },
        None => {
            let uploaded = writer.upload(&component)?;
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
    print(&format!("version {} is active{on}: {}, {}\n", version.number, short(digest), bytes(version.size)))
}

fn activation(catalogue: &Catalogue, number: u64, reason: Reason, terms: Terms) -> Activation {
    let activation = catalogue.activation(number, reason, terms.allow, now_ms());
    // The first of all has nothing beside it.
    Activation { canary: terms.canary.filter(|_| activation.previous.is_some()), ..activation }
}

pub(super) fn activate(config: &Config, number: u64, terms: Terms) -> anyhow::Result<()> {
    check_source(config)?;
    let writer = Writer::open(&clients(config), config.replication_factor)?;
    let catalogue = writer.catalogue();
    if catalogue.active.as_ref().is_some_and(|active| active.version == number) {
        if let Some(promotion) = catalogue.promotion(Reason::Activated, now_ms()) {
            let (key, value) = promotion.record();
            writer.change(&[(key, Some(value))])?;
            return print(&format!("version {number} is active on all tasks\n"));
        }
        return print(&format!("version {number} is active already\n"));
    }
    let application = version(config, writer.reader(), number)?;
    application.check_offered()?;
    check_topics(config, &application)?;
    gate(config, &writer, &application, &terms)?;
    let activation = activation(catalogue, number, Reason::Activated, terms);
    let mut changes = vec![activation.record()];
    // Whoever says so knows better than what took it back.
    let taken_back = catalogue.versions.get(&number).filter(|version| version.rolled_back.is_some());
    changes.extend(taken_back.map(|version| Version { rolled_back: None, ..version.clone() }.record()));
    let changes: Vec<_> = changes.into_iter().map(|(key, value)| (key, Some(value))).collect();
    writer.change(&changes)?;
    print(&format!("version {number} is active\n"))
}

pub(super) fn rollback(config: &Config, reason: String) -> anyhow::Result<()> {
    check_source(config)?;
    let writer = Writer::open(&clients(config), config.replication_factor)?;
    let (from, to) = roll_back(&writer, reason)?;
    print(&format!("version {to} is active again in place of {from}\n"))
}

fn roll_back(writer: &Writer, reason: String) -> anyhow::Result<(u64, u64)> {
    let catalogue = writer.catalogue();
    let Some(active) = &catalogue.active else { bail!("no version of the module is active") };
    let Some(previous) = active.previous.filter(|previous| catalogue.versions.contains_key(previous)) else {
        bail!("nothing is known of a version before {}: activate one by its number", active.version);
    };
    writer.change(&catalogue.roll_back(previous, reason, now_ms()))?;
    Ok((active.version, previous))
}

pub(super) fn prune(config: &Config, keep: usize, forget: &[String]) -> anyhow::Result<()> {
    let writer = Writer::open(&clients(config), config.replication_factor)?;
    let catalogue = writer.catalogue();
    if let Some(unknown) = forget.iter().find(|name| !catalogue.instances.contains_key(*name)) {
        let known: Vec<&str> = catalogue.instances.keys().map(String::as_str).collect();
        bail!("there is no instance {unknown}; there is {}", known.join(", "));
    }
    let active = catalogue.active.as_ref();
    let needed: BTreeSet<u64> =
        active.into_iter().flat_map(|active| [Some(active.version), active.previous]).flatten().collect();
    // The last one stays, so that its number is never given again.
    let last = catalogue.versions.keys().next_back().copied();
    let there = catalogue.instances.iter().filter(|(name, _)| !forget.contains(name)).map(|(_, instance)| instance);
    let running: BTreeSet<u64> = there.flat_map(|there| [Some(there.version), there.canary]).flatten().collect();
    let spare = catalogue.versions.values().rev();
    let spare = spare.filter(|version| !needed.contains(&version.number) && Some(version.number) != last);
    let surplus: Vec<&Version> = spare.skip(keep).filter(|version| !running.contains(&version.number)).collect();
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
    let versions = surplus.iter().map(|version| format!("version {}", version.number));
    let gone: Vec<String> = versions.chain(forget.iter().map(|name| format!("instance {name}"))).collect();
    print(&format!("deleted {}\n", if gone.is_empty() { "nothing".to_owned() } else { gone.join(", ") }))
}

/// Holds a topology against the active one. Prints what differs, and refuses what is not allowed.
fn gate(config: &Config, writer: &Writer, next: &Application, terms: &Terms) -> anyhow::Result<()> {
    let Some(number) = writer.catalogue().active.as_ref().and_then(Activation::settled) else { return Ok(()) };
    let running = match version(config, writer.reader(), number) {
        Ok(running) => running,
        // Else nothing could ever be pushed in its place.
        Err(error) => return print(&format!("version {number}, which is active, can't be compared: {error:#}\n")),
    };
    let found = differences(&running.plan().shape(), &next.plan().shape());
    print(&show::report(&found))?;
    let inputs = |each: &&Difference| each.effect == Effect::Refused && !each.name.starts_with("store:");
    if let (Some(other), Some(_)) = (found.iter().find(inputs), terms.canary) {
        bail!("{other}; so it can't run on some tasks beside version {number}: leave out --canary");
    }
    refuse(&found, &terms.allow).with_context(|| {
        format!("it can't take the place of version {number}, which goes on; accept what is named with --allow, once for each")
    })
}

/// Refuses what the topics of the cluster don't fit.
fn check_topics(config: &Config, application: &Application) -> anyhow::Result<()> {
    let counts = Topics::connect(&clients(config))?.partition_counts(std::time::Duration::from_secs(10))?;
    Partitioning::new(application.plan(), &counts)?.missing_topics(&counts)?;
    Ok(())
}
