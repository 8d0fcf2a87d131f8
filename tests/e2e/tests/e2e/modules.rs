//! Module files that are none, or not ours: refused before anything is touched, with the file's name and the remedy.

use std::fs;

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::kafka::Kafka;
use millrace_e2e::{setting, topics};

/// Starts with this file as the module and expects a refusal in these words that names the file.
fn refused(bytes: Option<&[u8]>, words: &[&str]) -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "module")?;
    let path = app.path("wrong.wasm");
    if let Some(bytes) = bytes {
        fs::write(&path, bytes)?;
    }
    app.set("module.source", &path.to_string_lossy());
    let text = app.refused("a", words)?;
    ensure!(text.contains("wrong.wasm"), "the message does not name the file:\n{text}");
    ensure!(topics::names(&app.kafka, &format!("{}-", app.id))?.is_empty(), "a topic was created");
    Ok(())
}

fn counts() -> Result<Vec<u8>> {
    fs::read(setting::module("guest-counts")?).context("read the module")
}

#[test]
fn missing() -> Result<()> {
    refused(None, &["No such file"])
}

#[test]
fn empty() -> Result<()> {
    refused(Some(b""), &["component"])
}

#[test]
fn truncated() -> Result<()> {
    let counts = counts()?;
    refused(Some(&counts[..counts.len() / 2]), &["truncated"])
}

#[test]
fn text() -> Result<()> {
    refused(Some(b"#!/bin/sh\n"), &["component"])
}

#[test]
fn a_core_module() -> Result<()> {
    refused(Some(b"\0asm\x01\0\0\0"), &["core WebAssembly module", "wasm32-wasip2"])
}

/// A component that exports nothing.
#[test]
fn another_world() -> Result<()> {
    refused(Some(b"\0asm\x0d\0\x01\0"), &["millrace:streams/module"])
}

/// The same module as if built for a contract of the future.
#[test]
fn another_version() -> Result<()> {
    let text: Vec<u8> = counts()?;
    let (old, new) = (b"@0.1.0", b"@9.1.0");
    let mut bytes = text.clone();
    let mut replaced = 0;
    for at in 0..text.len() - old.len() {
        // Only names of our package, which are followed by the version at once.
        let ours = text[..at].rsplitn(2, |b| *b == b':').next().is_some_and(|name| name.starts_with(b"streams/"));
        if ours && text[at..].starts_with(old) {
            bytes[at..at + old.len()].copy_from_slice(new);
            replaced += 1;
        }
    }
    ensure!(replaced > 0, "the module names no version of the contract");
    refused(Some(&bytes), &["9.1.0", "0.1.0"])
}

fn refused_mode(mode: &str, words: &[&str]) -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "mode")?;
    app.environment("COUNTS_MODE", mode);
    app.refused("a", words).map(drop)
}

#[test]
fn describe_panics() -> Result<()> {
    refused_mode("panic", &["describe", "no graph today"])
}

#[test]
fn describe_loops() -> Result<()> {
    refused_mode("loop", &["describe", "module.call.timeout.ms"])
}
