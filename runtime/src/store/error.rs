//! Owns what a failure of the disk or of RocksDB asks for, and the remedy named to the operator.
//! Must not know which operation is worth what.

use std::io;
use std::path::Path;

use millrace_engine::ports::Error;

const NO_SPACE: &str = "free space or enlarge the volume; nothing is lost, the write is tried again";

/// A failed system call on `path`. `action` is a verb and its object.
pub(super) fn from_io(action: &str, path: &Path, error: &io::Error) -> Error {
    let place = format!("{action} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Retry(format!("{place}; {NO_SPACE}")),
        io::ErrorKind::ReadOnlyFilesystem => {
            Error::Fatal(format!("{place}; mount the volume of state.dir for writing, or set state.dir to another one"))
        }
        io::ErrorKind::PermissionDenied => Error::Fatal(format!(
            "{place}; give the user that runs millrace the right to write there, or set state.dir to another directory"
        )),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            Error::Fatal(format!("{place}; a file is in the way: move it, or set state.dir to another directory"))
        }
        _ => Error::Fatal(format!("{place}; check the volume of state.dir")),
    }
}

/// A failed call of RocksDB on the database at `path`.
pub(super) fn from_rocksdb(action: &str, path: &Path, error: &rocksdb::Error) -> Error {
    use rocksdb::ErrorKind;

    let text: &str = error.as_ref();
    let place = format!("{action} in {}: {text}", path.display());
    match error.kind() {
        ErrorKind::Corruption => Error::Corrupt(place),
        // RocksDB gives the class of a system error in its text only.
        ErrorKind::IOError if text.contains("No space left") || text.contains("quota exceeded") => {
            Error::Retry(format!("{place}; {NO_SPACE}"))
        }
        ErrorKind::IOError if text.contains("No such file") => Error::Corrupt(place),
        ErrorKind::IOError if text.contains("lock") => {
            Error::Fatal(format!("{place}; the database is open elsewhere: stop the other process that uses it"))
        }
        ErrorKind::IOError if text.contains("Read-only file system") || text.contains("Permission denied") => {
            Error::Fatal(format!("{place}; make the volume of state.dir writable"))
        }
        ErrorKind::Busy | ErrorKind::TryAgain | ErrorKind::TimedOut | ErrorKind::Incomplete => Error::Retry(place),
        _ => Error::Fatal(format!("{place}; check the volume of state.dir")),
    }
}
