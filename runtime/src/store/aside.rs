//! Owns what becomes of a database that can't be trusted: it is moved aside, never deleted with
//! anything foreign beside it. Must not decide when.

use std::fs;
use std::path::{Path, PathBuf};

use millrace_engine::ports::Error;

use super::error::from_io;

const PREFIX: &str = "rocksdb.corrupt-";

/// Moves the files of the database at `path` to `rocksdb.corrupt-<n>` beside it and returns that.
/// Folders stay: they are Kafka Streams' stores. One earlier copy is kept at most, because a
/// failing disk would otherwise fill itself with them.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let task = path.parent().expect("a database lies in its task's directory");
    let earlier = copies(task)?;
    let next = earlier.last().map_or(1, |(n, _)| n + 1);
    for (_, old) in earlier.iter().rev().skip(1) {
        fs::remove_dir_all(old).map_err(|e| from_io("delete the oldest corrupt copy", old, &e))?;
    }
    let target = task.join(format!("{PREFIX}{next}"));
    fs::create_dir(&target).map_err(|e| from_io("create", &target, &e))?;
    for entry in fs::read_dir(path).map_err(|e| from_io("read", path, &e))? {
        let entry = entry.map_err(|e| from_io("read", path, &e))?;
        let file = entry.file_type().map_err(|e| from_io("read", &entry.path(), &e))?;
        if !file.is_dir() {
            fs::rename(entry.path(), target.join(entry.file_name()))
                .map_err(|e| from_io("set aside", &entry.path(), &e))?;
        }
    }
    Ok(target)
}

/// Deletes all copies in a task's directory.
pub(super) fn delete_copies(task: &Path) -> Result<(), Error> {
    for (_, copy) in copies(task)? {
        fs::remove_dir_all(&copy).map_err(|e| from_io("delete a corrupt copy", &copy, &e))?;
    }
    Ok(())
}

/// Copies in a task's directory, oldest first.
fn copies(task: &Path) -> Result<Vec<(u32, PathBuf)>, Error> {
    let mut copies = Vec::new();
    for entry in fs::read_dir(task).map_err(|e| from_io("read", task, &e))? {
        let path = entry.map_err(|e| from_io("read", task, &e))?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX)?.parse().ok());
        copies.extend(number.map(|n| (n, path)));
    }
    copies.sort_unstable();
    Ok(copies)
}
