//! The database of global stores: what is kept over a restart, and what is begun anew.

use std::fs;

use millrace_engine::topology::{FilledStore, Format, GlobalStore, Layout, Store};

use super::*;

fn globals(topic: &str, value: &str) -> Vec<FilledStore> {
    let name = |text: &str| text.to_owned();
    let store = Store {
        name: name("rates"),
        layout: Layout::KeyValue,
        format: Format { key: name("string"), value: name(value) },
        persistent: true,
        logged: false,
        cached: false,
        changelog_config: Vec::new(),
    };
    let (source, processor) = (name("source"), name("fill"));
    let filled = GlobalStore { store: name("rates"), source, topic: name(topic), processor, position: 0 };
    vec![FilledStore { id: 0, filled, store }]
}

/// Opens it, says what it has and how far it is, and leaves an entry there.
fn visit(state_dir: &Path, globals: &[FilledStore], emptied: bool) -> (bool, usize) {
    let directory = directory(state_dir);
    let mut database = directory.open_global(globals, &[unlogged("rates")], emptied, &resources()).unwrap();
    let mut found = false;
    database.get(0, &[b"a"], &mut |_, _| found = true).unwrap();
    let positions = database.positions().unwrap().inputs.len();
    database.write(commit(0, "a", Some("1"), ("rates", 7))).unwrap();
    let view = directory.views().of(TaskId { subtopology: 0, partition: 0 }).expect("it can be asked");
    assert_eq!(view.get("rates", b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    (found, positions)
}

#[test]
fn it_is_kept_unless_it_was_filled_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, filled) = ((false, 0), (true, 1));
    assert_eq!(visit(dir.path(), &globals("rates", "long"), false), empty);
    assert_eq!(visit(dir.path(), &globals("rates", "long"), false), filled);
    assert_eq!(visit(dir.path(), &globals("other", "long"), false), empty, "another topic");
    assert_eq!(visit(dir.path(), &globals("other", "long"), false), filled);
    assert_eq!(visit(dir.path(), &globals("other", "json"), false), empty, "other types");
    assert_eq!(visit(dir.path(), &globals("other", "json"), true), empty, "asked for");
    assert_eq!(visit(dir.path(), &globals("other", "json"), false), filled);
}

#[test]
fn a_damaged_one_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    visit(dir.path(), &globals("rates", "long"), false);
    let database = dir.path().join("counts-app/global/rocksdb");
    fs::write(database.join("CURRENT"), "nonsense").unwrap();
    assert_eq!(visit(dir.path(), &globals("rates", "long"), false), (false, 0));
    assert!(dir.path().join("counts-app/global/rocksdb.corrupt-1").exists());
    assert_eq!(visit(dir.path(), &globals("rates", "long"), false), (true, 1));
}
