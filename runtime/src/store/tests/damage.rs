//! Databases that can't be trusted, or are not ours to use.

use std::fs;
use std::path::PathBuf;

use super::*;

/// A database of one store with 10,000 keys in files, closed, and its directory.
fn filled(state_dir: &Path, stores: &[StoreSpec]) -> (StateDirectory, PathBuf) {
    let directory = directory(state_dir);
    let mut database = open(&directory, stores);
    let keys: Vec<String> = (0..10_000).map(|n| format!("{n:05}")).collect();
    let entries = keys.iter().map(|key| (0, key.as_bytes(), Some(key.as_bytes()))).collect();
    let positions = Positions { changelogs: vec![(stores[0].name.clone(), Offset(10_000))], ..Positions::default() };
    database.write(Write { entries, positions }).unwrap();
    drop(database);
    let path = directory.path().join("0_1/rocksdb");
    (directory, path)
}

fn files(path: &Path, part: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().contains(part)).collect()
}

/// Overwrites a stretch of each file whose name contains `part`: of a table, entries only.
fn damage(path: &Path, part: &str) {
    let damaged = files(path, part);
    assert!(!damaged.is_empty(), "no {part} in {}", path.display());
    for file in damaged {
        let mut bytes = fs::read(&file).unwrap();
        let (start, end) = (bytes.len() / 10, bytes.len() / 4);
        bytes[start..end].fill(0x5a);
        fs::write(&file, bytes).unwrap();
    }
}

#[test]
fn a_database_that_does_not_open_is_set_aside_and_rebuilt() {
    type Break = (&'static str, fn(&Path));
    let break_it: [Break; 4] = [
        ("manifest", |path| damage(path, "MANIFEST")),
        ("current", |path| fs::write(path.join("CURRENT"), "nonsense").unwrap()),
        ("no manifest", |path| files(path, "MANIFEST").iter().for_each(|file| fs::remove_file(file).unwrap())),
        ("no tables", |path| files(path, ".sst").iter().for_each(|file| fs::remove_file(file).unwrap())),
    ];
    for (what, break_it) in break_it {
        let dir = tempfile::tempdir().unwrap();
        let (directory, path) = filled(dir.path(), &[store("a")]);
        break_it(&path);
        let mut database = open(&directory, &[store("a")]);
        assert_eq!(position(&database, "a"), None, "{what}");
        assert_eq!(get(&database, 0, "00001"), None, "{what}");
        assert!(path.with_file_name("rocksdb.corrupt-1").is_dir(), "{what}");
        database.write(commit(0, "00001", Some("restored"), ("a", 1))).unwrap();
        drop(database);
        assert_eq!(get(&open(&directory, &[store("a")]), 0, "00001").as_deref(), Some("restored"), "{what}");
    }
}

#[test]
fn damage_found_while_reading_is_corrupt_and_rebuilt_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, path) = filled(dir.path(), &[store("a")]);
    let tables = files(&path, ".sst");
    let largest = tables.iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap();
    // Not the one of the positions, which opening reads.
    damage(&path, largest.file_name().unwrap().to_str().unwrap());
    let database = open(&directory, &[store("a")]);
    assert_eq!(position(&database, "a"), Some(10_000));
    let error = database.scan(0, (None, None), false, &mut |_, _| true).unwrap_err();
    let Error::Corrupt(why) = names(error, &[path.to_str().unwrap()]) else { panic!("another class") };
    drop(database);
    directory.set_aside(TASK, &[store("a")], &why).unwrap();
    let database = open(&directory, &[store("a")]);
    assert_eq!((position(&database, "a"), get(&database, 0, "00001")), (None, None));
}

#[test]
fn an_unlogged_store_is_not_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let stores = [unlogged("a")];
    let (directory, path) = filled(dir.path(), &stores);
    damage(&path, "MANIFEST");
    let tables = files(&path, ".sst");
    let error = try_open(&directory, &stores).map(|_| ()).unwrap_err();
    let error = names(error, &["`a`", "no changelog", "put back a copy", path.to_str().unwrap()]);
    assert!(matches!(error, Error::Fatal(_)));
    assert_eq!(files(&path, ".sst"), tables);
}

#[test]
fn at_most_two_corrupt_copies_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, path) = filled(dir.path(), &[store("a")]);
    for _ in 0..4 {
        directory.set_aside(TASK, &[store("a")], "test").unwrap();
        drop(open(&directory, &[store("a")]));
    }
    let mut copies = files(path.parent().unwrap(), "corrupt");
    copies.sort();
    assert_eq!(copies, [path.with_file_name("rocksdb.corrupt-3"), path.with_file_name("rocksdb.corrupt-4")]);
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, path) = filled(dir.path(), &[store("a")]);
    {
        let options = rocksdb::Options::default();
        let families = rocksdb::DB::list_cf(&options, &path).unwrap();
        let db = rocksdb::DB::open_cf(&options, &path, families).unwrap();
        db.put("version", 2_u32.to_be_bytes()).unwrap();
    }
    let error = try_open(&directory, &[store("a")]).map(|_| ()).unwrap_err();
    let error = names(error, &["format is 2", "up to 1", "newer millrace", path.to_str().unwrap()]);
    assert!(matches!(error, Error::Fatal(_)));
}

#[test]
fn the_database_of_another_application_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), &[store("a")]));
    fs::rename(dir.path().join("counts-app"), dir.path().join("other-app")).unwrap();
    let other = StateDirectory::open(dir.path(), "other-app").unwrap();
    let error = try_open(&other, &[store("a")]).map(|_| ()).unwrap_err();
    assert!(matches!(names(error, &["counts-app/0_1", "other-app/0_1", "state.dir"]), Error::Fatal(_)));
}

#[test]
fn state_of_kafka_streams_is_left_beside_ours() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let theirs = directory.path().join("0_1/rocksdb/count-store");
    fs::create_dir_all(&theirs).unwrap();
    let table = theirs.join("000009.sst");
    fs::write(&table, "theirs").unwrap();
    fs::write(directory.path().join("0_1/.checkpoint"), "0\n0\n").unwrap();

    let stores = [store("count-store")];
    open(&directory, &stores).write(commit(0, "k", Some("1"), ("count-store", 1))).unwrap();
    assert_eq!(get(&open(&directory, &stores), 0, "k").as_deref(), Some("1"));
    assert_eq!(fs::read_to_string(&table).unwrap(), "theirs");

    directory.set_aside(TASK, &stores, "test").unwrap();
    assert_eq!(fs::read_to_string(&table).unwrap(), "theirs");

    drop(open(&directory, &stores));
    let now = std::time::Instant::now();
    let none = std::collections::BTreeSet::new();
    assert_eq!(directory.clean(&none, std::time::Duration::ZERO, now).unwrap(), [TASK]);
    assert_eq!(fs::read_to_string(&table).unwrap(), "theirs");
    assert!(files(&directory.path().join("0_1"), "corrupt").is_empty());
    assert!(directory.tasks().unwrap().is_empty());
}

#[test]
fn state_of_kafka_streams_without_a_changelog_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    fs::create_dir_all(directory.path().join("0_1/rocksdb/a")).unwrap();
    let error = try_open(&directory, &[unlogged("a")]).map(|_| ()).unwrap_err();
    assert!(matches!(names(error, &["Kafka Streams", "`a`", "no changelog"]), Error::Fatal(_)));
}
