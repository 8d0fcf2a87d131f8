//! Azure's overlay with components switched on, as its comment says how.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{copy, setting};

/// A copy of `k8s/`.
pub struct Overlay(TempDir);

impl Overlay {
    pub fn with(components: &[&str]) -> Result<Self> {
        let overlay = Self(TempDir::with_prefix("millrace-manifests.")?);
        copy(&setting::project().join("k8s"), &overlay.0.path().join("k8s"))?;
        overlay.edit("overlays/aks/kustomization.yaml", "# components:", "components:")?;
        for component in components {
            let line = format!("   - ../../components/{component} ");
            overlay.edit("overlays/aks/kustomization.yaml", &format!("#{line}"), &format!(" {line}"))?;
        }
        Ok(overlay)
    }

    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path().join("k8s/overlays/aks")
    }

    /// Replaces what stands in a file of `k8s/`, and must stand there.
    pub fn edit(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.0.path().join("k8s").join(file);
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{file} has no {from}:\n{text}");
        Ok(fs::write(&path, text.replace(from, to))?)
    }
}
