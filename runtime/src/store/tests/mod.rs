//! Tests of the task databases against a real RocksDB and a real file system.

mod database;
mod crash;
mod damage;
mod directory;
mod volume;
mod global;

use std::path::Path;

use millrace_engine::ports::{CommittedState, Database, Error, Positions, Write};
use millrace_engine::record::{Offset, TaskId, TopicPartition};
use millrace_engine::task::StoreSpec;

use super::{Budget, Resources, StateDirectory, TaskDatabase};

const TASK: TaskId = TaskId { subtopology: 0, partition: 1 };

fn store(name: &str) -> StoreSpec {
    let changelog = format!("counts-app-{name}-changelog");
    StoreSpec {
        name: name.to_owned(),
        cached: false,
        persistent: true,
        changelog: Some(changelog.into()),
        expiry: None,
    }
}

fn unlogged(name: &str) -> StoreSpec {
    StoreSpec { changelog: None, ..store(name) }
}

fn in_memory(name: &str) -> StoreSpec {
    StoreSpec { persistent: false, ..store(name) }
}

fn resources() -> Resources {
    Resources::new(Budget {
        block_cache_bytes: 8 << 20,
        write_buffer_bytes: 32 << 20,
        background_threads: 2,
        write_ahead_log: false,
    })
}

fn directory(state_dir: &Path) -> StateDirectory {
    StateDirectory::open(state_dir, "counts-app").unwrap()
}

fn try_open(directory: &StateDirectory, stores: &[StoreSpec]) -> Result<TaskDatabase, Error> {
    directory.open_task(TASK, stores, &resources())
}

fn open(directory: &StateDirectory, stores: &[StoreSpec]) -> TaskDatabase {
    try_open(directory, stores).unwrap()
}

/// One commit: an entry, the changelog position of `changelog` and an input position.
fn commit<'a>(index: usize, key: &'a str, value: Option<&'a str>, changelog: (&str, i64)) -> Write<'a> {
    Write {
        entries: vec![(index, key.as_bytes(), value.map(str::as_bytes))],
        positions: Positions {
            changelogs: vec![(changelog.0.to_owned(), Offset(changelog.1))],
            inputs: vec![(TopicPartition::new("input-topic", 1), Offset(changelog.1))],
            stream_time: Some(changelog.1),
            ..Positions::default()
        },
    }
}

fn get(database: &TaskDatabase, index: usize, key: &str) -> Option<String> {
    let mut value = None;
    database
        .get(index, &[key.as_bytes()], &mut |_, bytes| value = Some(String::from_utf8_lossy(bytes).into_owned()))
        .unwrap();
    value
}

fn position(database: &TaskDatabase, store: &str) -> Option<i64> {
    let positions = database.positions().unwrap();
    positions.changelogs.iter().find(|(name, _)| name == store).map(|(_, offset)| offset.0)
}

/// Incompressible text, the same for the same seed.
fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'!' + (state >> 33).to_le_bytes()[0] % 90)
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// The message of the expected class of error, after a check that it names `parts`.
fn names(error: Error, parts: &[&str]) -> Error {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
    error
}

/// Runs one test of this program in a process of its own, as `child`.
fn child(test: &str, state_dir: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", &format!("store::tests::{test}")]).env(CHILD, state_dir);
    command
}

const CHILD: &str = "MILLRACE_TEST_CHILD_STATE_DIR";

/// The state directory, in a process made by [`child`].
fn as_child() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD).map(Into::into)
}
