//! Owns the lock of an application's directory. Must not know what the directory holds.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_engine::ports::Error;
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use super::error::from_io;

/// Paths locked by this process. A POSIX record lock is the process's, not the file handle's: a
/// second handle would get it too, and closing that handle would release the first one's.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A POSIX record lock on the whole of `.lock`, which is what Kafka Streams takes there: the two
/// exclude each other. Released when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// Closing it releases the lock.
    _file: File,
}

impl Lock {
    /// `directory` exists.
    pub(super) fn take(directory: &Path) -> Result<Self, Error> {
        let directory = directory.canonicalize().map_err(|e| from_io("open state directory", directory, &e))?;
        let path = directory.join(".lock");
        let mut held = held();
        if held.contains(&path) {
            return Err(locked(&path, &format!("this process ({})", std::process::id())));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| from_io("create the lock file", &path, &e))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => return Err(locked(&path, &owner(&file))),
            Err(error) => return Err(from_io("lock", &path, &error.into())),
        }
        held.insert(path.clone());
        Ok(Self { path, _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        held().remove(&self.path);
    }
}

fn locked(path: &Path, owner: &str) -> Error {
    Error::Fatal(format!(
        "lock {}: held by {owner}; stop the other instance, or give this one its own state.dir",
        path.display()
    ))
}

fn owner(file: &File) -> String {
    let wanted = Flock { start: 0, length: 0, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
    match fcntl_getlk(file, &wanted) {
        // The kernel says 0 for a process of another pid namespace.
        Ok(Some(Flock { pid: Some(pid), .. })) => format!("process {}", pid.as_raw_nonzero()),
        _ => "another process, perhaps on another machine or in another container".to_owned(),
    }
}
