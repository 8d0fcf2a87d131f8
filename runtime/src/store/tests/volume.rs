//! Volumes that are full or can't be written. They need a file system of their own, which takes
//! root; elsewhere these tests say that they did not run.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

/// A small file system in memory, unmounted when dropped.
struct Volume(tempfile::TempDir);

impl Volume {
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(dir));
        }
        eprintln!("NOT RUN: this test mounts a file system, which takes root");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "unmount {}", self.path().display());
    }
}

#[test]
fn a_read_only_volume_is_named() {
    let Some(volume) = Volume::mount("size=1m,ro") else { return };
    let error = StateDirectory::open(volume.path(), "counts-app").map(|_| ()).unwrap_err();
    let place = volume.path().join("counts-app");
    assert!(matches!(names(error, &[place.to_str().unwrap(), "state.dir"]), Error::Fatal(_)));
}

/// Fills the volume, writes until it is refused, frees the space and writes the rest.
fn a_full_volume_is_survived(stores: &[StoreSpec]) {
    let Some(volume) = Volume::mount("size=64m") else { return };
    let directory = directory(volume.path());
    // As the runtime has it. Without the log a close in the midst of the recovery falls back to the last flush.
    let resources = Resources::new(Budget {
        block_cache_bytes: 8 << 20,
        write_buffer_bytes: 32 << 20,
        background_threads: 2,
        write_ahead_log: true,
    });
    let open = || directory.open_task(TASK, stores, &resources).unwrap();
    let mut database = open();
    let ballast = volume.path().join("ballast");
    fs::write(&ballast, vec![1; 40 << 20]).unwrap();

    let value = |n: i64| noise(n.unsigned_abs(), 200_000);
    let mut failures = 0;
    let mut n = 1;
    let deadline = Instant::now() + Duration::from_secs(120);
    // Compactions may make room in time for a while.
    while n <= 300 || (failures == 0 && n <= 3_000) {
        let (key, value) = (format!("k{}", n % 40), value(n));
        match database.write(commit(0, &key, Some(&value), ("a", n))) {
            Ok(()) => n += 1,
            Err(Error::Retry(message)) => {
                assert!(message.contains("free space"), "{message}");
                failures += 1;
                // Reads go on, and show the last whole commit.
                assert_eq!(position(&database, "a"), (n > 1).then(|| n - 1));
                assert!(Instant::now() < deadline, "still refused: {message}");
                if ballast.exists() {
                    fs::remove_file(&ballast).unwrap();
                }
                std::thread::park_timeout(Duration::from_millis(100));
            }
            Err(error) => panic!("class of {error}"),
        }
    }
    assert!(failures > 0, "the volume was never full");
    drop(database);
    let database = open();
    assert_eq!(position(&database, "a"), Some(n - 1));
    for n in n - 40..n {
        assert_eq!(get(&database, 0, &format!("k{}", n % 40)), Some(value(n)));
    }
}

#[test]
fn a_full_volume_delays_writes_and_loses_none() {
    a_full_volume_is_survived(&[store("a")]);
}

#[test]
fn a_full_volume_delays_writes_of_an_unlogged_store_and_loses_none() {
    a_full_volume_is_survived(&[unlogged("a")]);
}
