//! State directories that are taken, can't be written, or hold damaged files.

use std::fs;

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::{App, files};
use millrace_e2e::kafka::Kafka;
use millrace_e2e::records::Record;

#[test]
fn locked() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "locked")?;
    let shared = app.path("shared-state").to_string_lossy().into_owned();
    app.set("state.dir", &shared);
    let mut first = app.run("a")?;
    app.refused("b", &[&shared, "state.dir"])?;
    app.write(&[Record::new("foo", "bar")])?;
    app.counts(&[("foo", 1)])?;
    first.stop()
}

/// A place where nobody can make directories, root neither.
#[test]
fn not_writable() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "not-writable")?;
    app.set("state.dir", "/sys/millrace-state");
    app.refused("a", &["/sys/millrace-state", "state.dir"]).map(drop)
}

#[test]
fn a_file_in_its_place() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "a-file")?;
    let file = app.path("a-file");
    fs::write(&file, "")?;
    let path = file.to_string_lossy().into_owned();
    app.set("state.dir", &path);
    app.refused("a", &[&path]).map(drop)
}

/// A damaged database is rebuilt from the changelog, and the log says so.
#[test]
fn damaged() -> Result<()> {
    let app = App::new(&Kafka::shared()?, "damaged")?;
    app.write(&[
        Record::new("foo", "1"),
        Record::new("hello", "1"),
        Record::new("foo", "2"),
        Record::new("john", "1"),
    ])?;
    let mut first = app.run("a")?;
    app.counts(&[("foo", 2), ("hello", 1), ("john", 1)])?;
    first.stop()?;

    let manifests: Vec<_> = files(&app.state_dir("a"))?
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST")))
        .collect();
    ensure!(manifests.len() == 4, "expected one database per task, found {manifests:?}");
    for manifest in &manifests {
        fs::write(manifest, b"not a manifest").context("damage the manifest")?;
    }
    let mut second = app.run("a")?;
    second.line(&["rebuil"])?;
    app.write(&[Record::new("foo", "3"), Record::new("hello", "2"), Record::new("john", "2")])?;
    app.counts(&[("foo", 3), ("hello", 2), ("john", 2)])?;
    second.stop()
}
