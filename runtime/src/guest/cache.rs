//! Owns compiled code on disk, so that a process that starts again does not compile its module again. Must not know
//! what a module is for.
//!
//! Compiled code is run as it is, so a file is loaded only if it was made here: each one carries a MAC under a key that
//! lies beside it, belongs to this user and is open to no others. Whatever else is wrong with the disk, too, is no
//! fault: the module is compiled, as if there were no cache.

#![allow(unsafe_code, reason = "wasmtime can't check compiled code; the one block below says why it is sound")]

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const KEY: &str = "key";
const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;
const SUFFIX: &str = "cwasm";
/// Files kept: the version that runs, those before it that one may go back to, and another millrace's.
const KEPT: usize = 6;

/// A directory of compiled modules.
#[derive(Debug)]
pub struct CodeCache {
    directory: PathBuf,
    key: [u8; KEY_BYTES],
}

impl CodeCache {
    /// Makes the directory and its key if need be. `None`: there can't be a cache there.
    #[must_use]
    pub fn open(directory: &Path) -> Option<Self> {
        let opened = fs::create_dir_all(directory).and_then(|()| key(&directory.join(KEY)));
        match opened {
            Ok(key) => Some(Self { directory: directory.to_owned(), key }),
            Err(error) => {
                tracing::info!(directory = %directory.display(), %error, "compiled modules can't be kept; each start compiles");
                None
            }
        }
    }

    /// The code of the component with this digest, if it was compiled by this very host.
    pub(super) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(engine, digest);
        let file = fs::read(&path).ok()?;
        let (mac, code) = file.split_at_checked(MAC_BYTES)?;
        if !is_equal(&self.mac(engine, digest, code), mac) {
            tracing::warn!(path = %path.display(), "compiled code that was not made here, or is damaged: compiling again");
            return None;
        }
        // SAFETY: the bytes are what `Component::serialize` gave, here and for an engine of this configuration: the MAC
        // over them is right, and nobody else has the key. They are in memory, so nobody changes them any more.
        match unsafe { Component::deserialize(engine, code) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = format!("{error:#}"), "compiled code can't be used: compiling again");
                None
            }
        }
    }

    /// Keeps the code of a component that was compiled just now.
    pub(super) fn store(&self, component: &Component, digest: &str) {
        let engine = component.engine();
        let path = self.path(engine, digest);
        let kept = component.serialize().map_err(|error| io::Error::other(format!("{error:#}"))).and_then(|code| {
            let mac = self.mac(engine, digest, &code);
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(&mac)?;
            file.write_all(&code)?;
            file.persist(&path).map_err(|error| error.error)?;
            self.tidy()
        });
        if let Err(error) = kept {
            tracing::info!(path = %path.display(), %error, "the compiled module can't be kept; the next start compiles again");
        }
    }

    fn path(&self, engine: &Engine, digest: &str) -> PathBuf {
        self.directory.join(format!("{digest}-{:016x}.{SUFFIX}", host(engine)))
    }

    fn mac(&self, engine: &Engine, digest: &str, code: &[u8]) -> [u8; MAC_BYTES] {
        hmac(&self.key, &[digest.as_bytes(), &host(engine).to_be_bytes(), code])
    }

    /// Deletes the oldest files.
    fn tidy(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|suffix| suffix == SUFFIX) {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort_unstable();
        let surplus = files.len().saturating_sub(KEPT);
        files.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// HMAC-SHA256 (RFC 2104). By hand: the crate for it asks for a feature of `digest` that has wasmtime compiled anew.
fn hmac(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; MAC_BYTES] {
    let keyed = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        Sha256::new_with_prefix(block)
    };
    let inner = parts.iter().fold(keyed(0x36), |hash, part| hash.chain_update(part)).finalize();
    keyed(0x5c).chain_update(inner).finalize().into()
}

/// Takes as long whatever the first difference is.
fn is_equal(mac: &[u8; MAC_BYTES], other: &[u8]) -> bool {
    mac.len() == other.len() && mac.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// This millrace, its wasmtime and how that is set up.
fn host(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// Reads the key, or makes one: also in place of one that others may know, and then all that was kept is void.
fn key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    if let Ok(metadata) = fs::symlink_metadata(path) {
        let ours = metadata.uid() == rustix::process::geteuid().as_raw();
        if metadata.is_file()
            && ours
            && metadata.mode() & 0o007 == 0
            && let Ok(key) = fs::read(path)?.try_into()
        {
            return Ok(key);
        }
        fs::remove_file(path)?;
    }
    let mut key = [0; KEY_BYTES];
    for half in key.chunks_mut(16) {
        half.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 1 of RFC 4231, whose key of 20 bytes is as good as one with zeros behind it.
    #[test]
    fn the_mac_is_the_one_of_the_rfc() {
        let mut key = [0; KEY_BYTES];
        key[..20].fill(0x0b);
        let text: String = hmac(&key, &[b"Hi ", b"There"]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }

    #[test]
    fn a_key_that_others_may_know_is_made_anew() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEY);
        let first = key(&path).unwrap();
        assert_eq!((fs::metadata(&path).unwrap().mode() & 0o777, key(&path).unwrap()), (0o600, first));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let second = key(&path).unwrap();
        assert_ne!(first, second);
        fs::write(&path, b"short").unwrap();
        assert_ne!(second, key(&path).unwrap());
    }
}
