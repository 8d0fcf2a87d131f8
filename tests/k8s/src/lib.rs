//! What the tests of the deployment are made of: a real Kubernetes control plane, and in it the reference deployment of
//! `k8s/` on a Kafka of its own. Knows `kubectl`, the names in the manifests and the log lines of `millrace`.

pub mod setting;
pub mod dockerfile;
pub mod kubectl;
pub mod overlay;
pub mod deployment;
pub mod load;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A folder with all that is in it.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
