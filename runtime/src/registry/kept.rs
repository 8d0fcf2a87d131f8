//! Artifacts that were fetched, on disk. What is read is checked against the digest it was asked for by, so it does not
//! matter who has written it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci_client::manifest::OciManifest;
use sha2::{Digest, Sha256};

use super::WASM;

/// Of the artifacts that were fetched last so many stay: what runs, and what one may go back to.
const KEPT: usize = 3;
const MANIFEST: &str = "manifest.json";
const COMPONENT: &str = "component.wasm";

/// Where an artifact is, or would be.
pub(super) struct Kept {
    all: PathBuf,
    /// SHA-256 of the manifest, in hexadecimal.
    digest: String,
}

impl Kept {
    /// `None`: it is named by another kind of digest.
    pub(super) fn new(directory: &Path, digest: &str) -> Option<Self> {
        Some(Self { all: directory.to_owned(), digest: digest.strip_prefix("sha256:")?.to_owned() })
    }

    /// The component, if all of it is there.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let directory = self.all.join(&self.digest);
        let manifest = fs::read(directory.join(MANIFEST)).ok().filter(|found| sha256(found) == self.digest)?;
        let Ok(OciManifest::Image(manifest)) = serde_json::from_slice(&manifest) else { return None };
        let layer = manifest.layers.into_iter().find(|layer| layer.media_type == WASM)?;
        let component = fs::read(directory.join(COMPONENT)).ok()?;
        (layer.digest.strip_prefix("sha256:") == Some(&*sha256(&component))).then_some(component)
    }

    /// Puts it there as a whole, and removes what was fetched long ago.
    pub(super) fn write(&self, manifest: &[u8], component: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.all)?;
        let made = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.all)?;
        fs::write(made.path().join(MANIFEST), manifest)?;
        fs::write(made.path().join(COMPONENT), component)?;
        let directory = self.all.join(&self.digest);
        // Only what could not be read is in its way.
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(made.path(), &directory)?;
        self.remove_others()
    }

    fn remove_others(&self) -> io::Result<()> {
        let mut others: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.all)? {
            let entry = entry?;
            if entry.file_name() != *self.digest {
                others.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        others.sort();
        let surplus = (others.len() + 1).saturating_sub(KEPT);
        others.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_dir_all(path))
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
