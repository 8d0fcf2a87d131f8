//! The lock, the listing and the cleaning of an application's directory.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn one_process_opens_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = directory(dir.path());
    let error = StateDirectory::open(dir.path(), "counts-app").map(|_| ()).unwrap_err();
    names(error, &["counts-app/.lock", &std::process::id().to_string(), "stop the other instance"]);
    // The refused attempt did not release the first one's lock.
    StateDirectory::open(dir.path(), "other-app").unwrap();
    drop(first);
    directory(dir.path());
}

#[test]
fn another_process_is_locked_out_and_told_by_whom() {
    if let Some(state_dir) = as_child() {
        let _held = directory(&state_dir);
        println!("locked");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = child("directory::another_process_is_locked_out_and_told_by_whom", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut said = String::new();
    while !said.contains("locked") {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).unwrap(), 1, "the child ended: {said}");
        said.push(char::from(byte[0]));
    }
    let error = StateDirectory::open(dir.path(), "counts-app").map(|_| ()).unwrap_err();
    names(error, &["counts-app/.lock", &format!("process {}", child.id())]);
    child.stdin.take().unwrap().flush().unwrap();
    assert!(child.wait().unwrap().success());
    directory(dir.path());
}

#[test]
fn an_application_id_does_not_lead_out_of_the_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    for id in ["", ".", "..", "../x", "a/b", "a b"] {
        let error = StateDirectory::open(dir.path(), id).map(|_| ()).unwrap_err();
        names(error, &["application.id"]);
    }
}

#[test]
fn a_file_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("counts-app"), "").unwrap();
    let error = StateDirectory::open(dir.path(), "counts-app").map(|_| ()).unwrap_err();
    names(error, &["counts-app", "a file is in the way"]);
}

#[test]
fn lists_and_cleans_tasks_that_are_not_owned_after_the_delay() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let task = |partition| TaskId { subtopology: 0, partition };
    for partition in 0..3 {
        directory.open_task(task(partition), &[store("a")], &resources()).unwrap();
    }
    fs::create_dir(directory.path().join("0_9")).unwrap();
    fs::create_dir(directory.path().join("global")).unwrap();
    assert_eq!(directory.tasks().unwrap(), [task(0), task(1), task(2)]);

    let (start, delay) = (Instant::now(), Duration::from_secs(600));
    let clean = |keep: &[TaskId], after: u64| {
        let keep: BTreeSet<TaskId> = keep.iter().copied().collect();
        directory.clean(&keep, delay, start + Duration::from_secs(after)).unwrap()
    };
    assert!(clean(&[task(0)], 0).is_empty());
    assert!(clean(&[task(0)], 599).is_empty());
    // Owned in between: its delay begins anew.
    assert!(clean(&[task(0), task(1)], 599).is_empty());
    assert_eq!(clean(&[task(0)], 600), [task(2)]);
    assert!(!directory.path().join("0_2").exists());
    assert_eq!(clean(&[task(0)], 1200), [task(1)]);
    assert_eq!(directory.tasks().unwrap(), [task(0)]);
    assert!(directory.path().join("0_9").exists() && directory.path().join("global").exists());
}

#[test]
fn what_was_opened_ahead_is_used_and_what_is_not_asked_for_is_closed() {
    let state_dir = tempfile::tempdir().unwrap();
    let stores = [store("counts")];
    let other = TaskId { partition: 2, ..TASK };
    {
        let directory = directory(state_dir.path());
        open(&directory, &stores).write(commit(0, "foo", Some("1"), ("counts", 1))).unwrap();
        directory.open_task(other, &stores, &resources()).unwrap();
    }
    let mut directory = directory(state_dir.path());
    directory.open_ahead(|_| Some(stores.to_vec()), &resources()).unwrap();
    let database = open(&directory, &stores);
    assert_eq!(get(&database, 0, "foo").as_deref(), Some("1"));
    assert!(directory.views().of(TASK).is_some());
    assert!(directory.views().of(other).is_none());

    directory.clean(&[TASK].into(), Duration::MAX, Instant::now()).unwrap();
    // RocksDB lets nobody open it twice.
    directory.open_task(other, &stores, &resources()).unwrap();
    assert_eq!(get(&database, 0, "foo").as_deref(), Some("1"));
}
