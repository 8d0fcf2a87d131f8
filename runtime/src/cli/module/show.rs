//! `millrace module list`, `show` and `diff`: what there is, without changing anything.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use millrace_engine::topology::{Difference, Effect, differences};

use super::{age, reader};
use crate::app::{Application, Changes, bytes, short};
use crate::cli::print;
use crate::config::Config;
use crate::module::{Catalogue, Reader, Reason};

pub(super) fn list(config: &Config) -> anyhow::Result<()> {
    let reader = reader(config)?;
    print(&listing(reader.catalogue()))
}

fn listing(catalogue: &Catalogue) -> String {
    let mut text = String::new();
    let active = catalogue.active.as_ref();
    for version in catalogue.versions.values() {
        let is_active = active.is_some_and(|active| active.version == version.number);
        let state = if is_active {
            if active.is_some_and(|active| active.canary.is_some()) { "on trial" } else { "active" }
        } else if version.rolled_back.is_some() {
            "rolled back"
        } else {
            "stored"
        };
        let pushed = format!("pushed {}", age(version.pushed_at_ms));
        let (size, digest) = (bytes(version.size), short(&version.digest));
        let note = version.note.as_deref().map(|note| format!("  {note}")).unwrap_or_default();
        let _ = writeln!(text, "version {:<4} {state:12} {digest}  {size:>8}  {pushed}{note}", version.number);
        if let Some(why) = &version.rolled_back {
            let _ = writeln!(text, "             because: {why}");
        }
    }
    if let Some(active) = active {
        let how = match &active.reason {
            Reason::Pushed => "pushed".to_owned(),
            Reason::Activated => "activated".to_owned(),
            Reason::Promoted => "through its trial on some tasks".to_owned(),
            Reason::RolledBack(_) => "rolled back to".to_owned(),
        };
        let on = active.canary.map(|tasks| format!(" on {tasks} tasks")).unwrap_or_default();
        let _ = writeln!(text, "\nactive since {}: version {}{on}, {how}", age(active.at_ms), active.version);
    }
    for (name, instance) in &catalogue.instances {
        let pause = instance.pause_us.map(|us| format!(", after a pause of {:.1} ms", us as f64 / 1000.0));
        let problem = instance.problem.as_ref().map(|problem| format!("; {problem}"));
        let canary = instance.canary.map(|version| format!(", and {version} on some tasks,")).unwrap_or_default();
        let more = [pause, problem].map(Option::unwrap_or_default).concat();
        let (version, since) = (instance.version, age(instance.since_ms));
        let _ = writeln!(text, "instance {name}: version {version}{canary} since {since}{more}");
    }
    text
}

pub(super) fn show(config: &Config, number: u64, output: Option<&Path>) -> anyhow::Result<()> {
    let reader = reader(config)?;
    let application = Changes::new(config, None).version(&reader, number)?;
    let version = &reader.catalogue().versions[&number];
    let mut text = format!("version    {number}\n");
    let _ = writeln!(text, "digest     {}", version.digest);
    let _ = writeln!(text, "size       {}", bytes(version.size));
    let _ = writeln!(text, "contract   millrace:streams@{}", version.contract);
    let _ = writeln!(text, "pushed     {}", age(version.pushed_at_ms));
    if let Some(note) = &version.note {
        let _ = writeln!(text, "note       {note}");
    }
    if let Some(why) = &version.rolled_back {
        let _ = writeln!(text, "rolled back because: {why}");
    }
    if let Some(path) = output {
        std::fs::write(path, reader.fetch(version)?).with_context(|| format!("write {}", path.display()))?;
        let _ = writeln!(text, "written to {}", path.display());
    }
    let _ = write!(text, "\n{}", application.plan().describe());
    print(&text)
}

pub(super) fn diff(config: &Config, first: &str, second: Option<&str>) -> anyhow::Result<()> {
    let (first, second) = match second {
        Some(second) => (loaded(config, first)?, loaded(config, second)?),
        None => (active(config, &reader(config)?)?, loaded(config, first)?),
    };
    let found = differences(&first.plan().shape(), &second.plan().shape());
    print(&report(&found))?;
    if first.module().digest() == second.module().digest() {
        print("it is the same component\n")?;
    }
    Ok(())
}

/// A number is a version, anything else a file.
fn loaded(config: &Config, name: &str) -> anyhow::Result<Application> {
    match name.parse() {
        Ok(number) => Changes::new(config, None).version(&reader(config)?, number),
        Err(_) => Application::of(&super::read(Path::new(name))?, name, config, None),
    }
}

fn active(config: &Config, reader: &Reader) -> anyhow::Result<Application> {
    match &reader.catalogue().active {
        Some(active) => Changes::new(config, None).version(reader, active.version),
        None => bail!("no version of the module is active: name two to compare"),
    }
}

/// What differs, and what it means.
pub(in crate::cli) fn report(found: &[Difference]) -> String {
    if found.is_empty() {
        return "the topologies have the same inputs, outputs, stores and internal topics\n".to_owned();
    }
    let mut text = String::new();
    for difference in found {
        let effect = match difference.effect {
            Effect::None => "safe",
            Effect::Reopen => "safe, stores are opened anew",
            Effect::Restart => "safe, the application starts anew",
            Effect::Refused => "refused unless allowed",
        };
        let _ = writeln!(text, "{difference} ({effect})");
    }
    text
}
