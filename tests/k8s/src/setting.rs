//! What `./mill` tells the tests through the environment. The only place that reads it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| {
        format!("{name} is not set: these tests need a Kubernetes and an image; run them with `./mill test k8s`")
    })
}

/// The script that starts brokers and names images.
pub fn mill() -> Result<PathBuf> {
    variable("MILLRACE_TEST_MILL").map(PathBuf::from)
}

/// The binary that is in the image.
pub fn millrace() -> Result<PathBuf> {
    variable("MILLRACE_TEST_BIN").map(PathBuf::from)
}

/// The module that is in the image.
pub fn module() -> Result<PathBuf> {
    image().map(|root| root.join("opt/millrace/guest_wordcount.wasm"))
}

/// How to reach the cluster.
pub fn kubeconfig() -> Result<PathBuf> {
    variable("MILLRACE_TEST_KUBECONFIG").map(PathBuf::from)
}

/// The address of this machine for pods.
pub fn gateway() -> Result<String> {
    variable("MILLRACE_TEST_GATEWAY")
}

/// The root file system of the image.
pub fn image() -> Result<PathBuf> {
    variable("MILLRACE_TEST_IMAGE").map(PathBuf::from)
}

/// A folder with the definitions of the resources that operators bring.
pub fn definitions() -> Result<PathBuf> {
    variable("MILLRACE_TEST_DEFINITIONS").map(PathBuf::from)
}

/// A program beside the one that validates manifests.
pub fn validator(program: &str) -> Result<PathBuf> {
    variable("MILLRACE_TEST_VALIDATOR").map(|folder| PathBuf::from(folder).join(program))
}

/// The project.
#[must_use]
pub fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
