//! What a killed process leaves: always a whole commit.

use super::*;

/// Written by each commit to each of two stores; the first gets much more, so that its memtable
/// fills and is flushed long before the other's.
const COMMITS: i64 = 400;
const BULK: usize = 100_000;

fn commit_until_aborted(state_dir: &Path, stores: &[StoreSpec]) -> ! {
    let directory = directory(state_dir);
    let mut database = open(&directory, stores);
    for n in 1..=COMMITS {
        // Each under its own key, so that the memtable grows.
        let (bulk_key, bulk, count) = (format!("bulk-{n}"), noise(n.unsigned_abs(), BULK), n.to_string());
        let mut write = commit(0, "count", Some(&count), ("a", n));
        write.entries.push((0, bulk_key.as_bytes(), Some(bulk.as_bytes())));
        write.entries.push((1, b"count", Some(count.as_bytes())));
        database.write(write).unwrap();
    }
    std::process::abort()
}

/// The commit that the two stores and the positions agree on after a crash.
fn survived(test: &str, stores: &[StoreSpec]) -> i64 {
    let dir = tempfile::tempdir().unwrap();
    let status = child(test, dir.path()).output().unwrap().status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(6), "the child ended otherwise: {status}");
    let database = open(&directory(dir.path()), stores);
    let found = position(&database, "a").unwrap_or(0);
    let expected = (found > 0).then(|| found.to_string());
    assert_eq!(get(&database, 0, "count"), expected);
    assert_eq!(get(&database, 1, "count"), expected);
    assert_eq!(get(&database, 0, &format!("bulk-{found}")).is_some(), found > 0);
    assert_eq!(get(&database, 0, &format!("bulk-{}", found + 1)), None);
    assert_eq!(database.positions().unwrap().stream_time, (found > 0).then_some(found));
    found
}

#[test]
fn without_a_log_a_crash_falls_back_to_a_whole_commit() {
    let stores = [store("a"), store("b")];
    if let Some(state_dir) = as_child() {
        commit_until_aborted(&state_dir, &stores);
    }
    let found = survived("crash::without_a_log_a_crash_falls_back_to_a_whole_commit", &stores);
    // 40 MB were written: two memtables at least were flushed, and the last one was not.
    assert!(0 < found && found < COMMITS, "found commit {found}");
}

#[test]
fn an_unlogged_store_loses_nothing_in_a_crash() {
    let stores = [store("a"), unlogged("b")];
    if let Some(state_dir) = as_child() {
        commit_until_aborted(&state_dir, &stores);
    }
    assert_eq!(survived("crash::an_unlogged_store_loses_nothing_in_a_crash", &stores), COMMITS);
}
