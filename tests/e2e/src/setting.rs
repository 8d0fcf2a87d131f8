//! What `./mill` tells the tests through the environment. The only place that reads it.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| {
        format!("{name} is not set: these tests need a Kafka and what was built; run them with `./mill test e2e`")
    })
}

/// Bootstrap servers of the Kafka that all tests share.
pub fn kafka() -> Result<String> {
    variable("MILLRACE_TEST_KAFKA")
}

/// Process id of that Kafka, for its CPU time.
pub fn kafka_pid() -> Result<u32> {
    variable("MILLRACE_TEST_KAFKA_PID")?.parse().context("MILLRACE_TEST_KAFKA_PID is no number")
}

/// The binary under test.
pub fn millrace() -> Result<PathBuf> {
    variable("MILLRACE_TEST_BIN").map(PathBuf::from)
}

/// A module that was built beforehand.
pub fn module(package: &str) -> Result<PathBuf> {
    let file = format!("{}.wasm", package.replace('-', "_"));
    Ok(PathBuf::from(variable("MILLRACE_TEST_WASM")?).join(file))
}

/// Kafka's jars and our Java programs.
pub fn class_path() -> Result<String> {
    variable("MILLRACE_TEST_CLASSPATH")
}

/// Kafka's own tests that judge us, with all they need.
pub fn judges() -> Result<String> {
    variable("MILLRACE_TEST_JUDGES")
}

/// The one of them that Kafka has given up, out of an earlier version.
pub fn eos_judge() -> Result<String> {
    variable("MILLRACE_TEST_EOS_JUDGE")
}

/// The script that starts and stops brokers.
pub fn mill() -> Result<PathBuf> {
    variable("MILLRACE_TEST_MILL").map(PathBuf::from)
}
