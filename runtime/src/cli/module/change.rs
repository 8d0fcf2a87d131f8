//! `millrace module push`, `activate`, `rollback` and `prune`: asks for a change and prints what was done.

use std::path::Path;

use super::show;
use crate::app::{Change, Changes, Terms};
use crate::cli::print;
use crate::config::Config;

pub(super) fn push(config: &Config, file: &Path, terms: Terms, note: Option<String>) -> anyhow::Result<()> {
    let component = super::read(file)?;
    tell(&Changes::new(config, None).push(&component, &file.display().to_string(), terms, note)?)
}

pub(super) fn activate(config: &Config, number: u64, terms: Terms) -> anyhow::Result<()> {
    tell(&Changes::new(config, None).activate(number, terms)?)
}

pub(super) fn rollback(config: &Config, reason: String) -> anyhow::Result<()> {
    tell(&Changes::new(config, None).roll_back(reason)?)
}

pub(super) fn prune(config: &Config, keep: usize, forget: &[String]) -> anyhow::Result<()> {
    let gone = Changes::new(config, None).prune(keep, forget)?;
    print(&format!("deleted {}\n", if gone.is_empty() { "nothing".to_owned() } else { gone.join(", ") }))
}

fn tell(change: &Change) -> anyhow::Result<()> {
    if let Some(why) = &change.uncompared {
        print(&format!("{why}\n"))?;
    } else if !change.differences.is_empty() {
        print(&show::report(&change.differences))?;
    }
    print(&format!("{}\n", change.done))
}
