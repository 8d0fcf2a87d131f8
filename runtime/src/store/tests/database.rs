//! What a database does while all is well.

use millrace_engine::expiry::{Expiry, TimedKeys};

use super::*;

#[test]
fn finds_again_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let stores = [store("a"), store("b")];
    let mut database = open(&directory, &stores);
    assert_eq!(database.positions().unwrap(), Positions::default());
    database.write(commit(0, "k", Some("1"), ("a", 10))).unwrap();
    database.write(commit(1, "k", Some("2"), ("b", 20))).unwrap();
    database.write(commit(1, "gone", Some("x"), ("b", 21))).unwrap();
    database.write(commit(1, "gone", None, ("b", 22))).unwrap();

    let check = |database: &TaskDatabase| {
        assert_eq!(get(database, 0, "k").as_deref(), Some("1"));
        assert_eq!(get(database, 1, "k").as_deref(), Some("2"));
        assert_eq!(get(database, 1, "gone"), None);
        // Positions a write does not name stay.
        let positions = database.positions().unwrap();
        assert_eq!(positions.changelogs, [("a".to_owned(), Offset(10)), ("b".to_owned(), Offset(22))]);
        assert_eq!(positions.inputs, [(TopicPartition::new("input-topic", 1), Offset(22))]);
        assert_eq!(positions.stream_time, Some(22));
    };
    check(&database);
    drop(database);
    check(&open(&directory, &stores));
}

#[test]
fn gets_many_keys_at_once_by_their_index() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let mut database = open(&directory, &[store("a")]);
    let keys: Vec<String> = (0..1000).map(|n| format!("{n:04}")).collect();
    let even = keys.iter().step_by(2).map(|key| (0, key.as_bytes(), Some(key.as_bytes()))).collect();
    database.write(Write { entries: even, positions: Positions::default() }).unwrap();

    let asked: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let mut found = Vec::new();
    database.get(0, &asked, &mut |index, value| found.push((index, value.to_vec()))).unwrap();
    let expected: Vec<_> = keys.iter().enumerate().step_by(2).map(|(n, key)| (n, key.clone().into_bytes())).collect();
    assert_eq!(found, expected);
}

#[test]
fn counts_which_blocks_were_in_the_cache() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = directory(temporary.path());
    let stores = [store("counts")];
    let mut database = open(&directory, &stores);
    database.write(commit(0, "foo", Some("1"), ("counts", 1))).unwrap();
    // Closed, it has everything in files.
    drop(database);
    let database = open(&directory, &stores);
    let read = || {
        database.get(0, &[b"foo"], &mut |_, _| {}).unwrap();
        database.view().blocks().unwrap()
    };
    let first = read();
    let second = read();
    assert!(first.misses > 0, "{first:?}");
    assert_eq!(second.misses, first.misses);
    assert!(second.hits > first.hits, "{second:?}");
}

#[test]
fn scans_both_ways_between_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let mut database = open(&directory, &[store("a"), store("b")]);
    for key in ["b", "d", "f", "h"] {
        database.write(commit(0, key, Some(key), ("a", 1))).unwrap();
        database.write(commit(1, "z", Some("other store"), ("b", 1))).unwrap();
    }
    let check = |from: Option<&str>, to: Option<&str>, limit: usize, forward: &str, backward: &str| {
        for (reverse, expected) in [(false, forward), (true, backward)] {
            let mut seen = String::new();
            let range = (from.map(str::as_bytes), to.map(str::as_bytes));
            let mut visit = |key: &[u8], value: &[u8]| {
                assert_eq!(key, value);
                seen.push_str(std::str::from_utf8(key).unwrap());
                seen.len() < limit
            };
            database.scan(0, range, reverse, &mut visit).unwrap();
            assert_eq!(seen, expected, "{from:?} to {to:?}, reverse {reverse}");
        }
    };
    check(None, None, 9, "bdfh", "hfdb");
    check(Some("d"), None, 9, "dfh", "hfd");
    check(None, Some("f"), 9, "bd", "db");
    check(Some("c"), Some("g"), 9, "df", "fd");
    check(None, None, 2, "bd", "hf");
    check(Some("d"), Some("d"), 9, "", "");
    check(Some("g"), Some("c"), 9, "", "");
    check(Some("x"), None, 9, "", "");
}

#[test]
fn scans_several_ranges_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let mut database = open(&directory, &[store("a"), store("b")]);
    for key in ["b", "d", "f", "h"] {
        database.write(commit(0, key, Some(key), ("a", 1))).unwrap();
        database.write(commit(1, "c", Some("other store"), ("b", 1))).unwrap();
    }
    let ranges: [(&[u8], &[u8]); 6] =
        [(b"e", b"z"), (b"a", b"b"), (b"b", b"g"), (b"f", b"f"), (b"g", b"c"), (b"h", b"i")];
    let scan = |limit: usize, last: usize| {
        let (mut all, mut seen) = (String::new(), 0);
        let mut visit = |index: usize, entry: Option<(&[u8], &[u8])>| match entry {
            Some((key, value)) => {
                assert_eq!(key, value);
                all.push_str(std::str::from_utf8(key).unwrap());
                seen += 1;
                seen < limit
            }
            None => {
                all.push('|');
                seen = 0;
                index < last
            }
        };
        database.scan_each(0, &ranges, &mut visit).unwrap();
        all
    };
    assert_eq!(scan(9, 9), "fh||bdf|||h|");
    assert_eq!(scan(1, 9), "f||b|||h|");
    assert_eq!(scan(9, 2), "fh||bdf|");
}

#[test]
fn clears_one_store_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let stores = [store("a"), store("b")];
    let mut database = open(&directory, &stores);
    for key in ["", "k", "\u{ff}"] {
        database.write(commit(0, key, Some("1"), ("a", 10))).unwrap();
        database.write(commit(1, key, Some("2"), ("b", 20))).unwrap();
    }
    let inputs = database.positions().unwrap().inputs;
    database.clear(0).unwrap();
    database.clear(0).unwrap();
    drop(database);
    let mut database = open(&directory, &stores);
    assert_eq!(database.positions().unwrap().inputs, inputs);
    for key in ["", "k", "\u{ff}"] {
        assert_eq!(get(&database, 0, key), None);
        assert_eq!(get(&database, 1, key).as_deref(), Some("2"));
    }
    assert_eq!((position(&database, "a"), position(&database, "b")), (None, Some(20)));
    database.write(commit(0, "k", Some("again"), ("a", 1))).unwrap();
    assert_eq!(get(&database, 0, "k").as_deref(), Some("again"));
}

/// Another version of the module has other stores: they are made in the open database, also if the process is killed then.
#[test]
fn gets_other_stores_while_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let state = directory(dir.path());
    let mut database = open(&state, &[store("a"), in_memory("m")]);
    database.write(commit(0, "k", Some("of a"), ("a", 10))).unwrap();
    database.write(commit(1, "k", Some("of m"), ("m", 11))).unwrap();
    let view = database.view();

    let began = std::time::Instant::now();
    assert!(database.set_stores(&[store("b"), in_memory("m"), in_memory("n"), store("a")]).unwrap());
    println!("two stores more took {:?}", began.elapsed());
    for (index, value) in [(0, None), (1, Some("of m")), (2, None), (3, Some("of a"))] {
        assert_eq!(get(&database, index, "k").as_deref(), value);
    }
    database.write(commit(0, "k", Some("of b"), ("b", 20))).unwrap();
    assert_eq!(view.get("b", b"k").unwrap().unwrap(), b"of b");
    assert_eq!(view.get("a", b"k").unwrap().unwrap(), b"of a");
    assert_eq!(
        [position(&database, "a"), position(&database, "b"), position(&database, "m")],
        [Some(10), Some(20), Some(11)]
    );

    // What goes is not looked at any more, and has no position when it comes back.
    assert!(database.set_stores(&[store("a")]).unwrap());
    names(view.get("b", b"k").unwrap_err(), &["no store b"]);
    assert!(database.set_stores(&[store("a"), store("b"), in_memory("m")]).unwrap());
    assert_eq!([position(&database, "b"), position(&database, "m")], [None, None]);
    assert_eq!((get(&database, 1, "k").as_deref(), get(&database, 2, "k")), (Some("of b"), None));
    drop(database);
    drop(open(&state, &[store("a")]));
    let database = open(&state, &[store("a"), store("b")]);
    assert_eq!((position(&database, "a"), position(&database, "b")), (Some(10), None));
}

/// How a database is written, and what its compactions delete, is said when it is opened.
#[test]
fn some_stores_take_opening_it_anew() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let expiry = |retention_ms| Some(Expiry { keys: TimedKeys::Window, retention_ms });
    let mut database = open(&directory, &[store("a"), StoreSpec { expiry: expiry(5), ..store("w") }]);
    database.write(commit(0, "k", Some("1"), ("a", 10))).unwrap();
    for other in [unlogged("u"), StoreSpec { expiry: expiry(6), ..store("w") }, store("w")] {
        assert!(!database.set_stores(&[store("a"), other]).unwrap());
        assert_eq!((get(&database, 0, "k").as_deref(), position(&database, "a")), (Some("1"), Some(10)));
    }
    assert!(database.set_stores(&[StoreSpec { expiry: expiry(7), ..store("x") }, store("a")]).unwrap());
    let observed = vec![("x".to_owned(), 9)];
    let positions = Positions { observed, ..Positions::default() };
    database.write(Write { entries: Vec::new(), positions }).unwrap();
    assert_eq!(database.view().observed("x").unwrap(), Some(9));
    let mut none = try_open(&directory, &[in_memory("m")]).unwrap();
    assert!(!none.set_stores(&[store("a")]).unwrap());
}

#[test]
fn forgets_its_inputs_and_nothing_else() {
    for stores in [[store("a")], [in_memory("a")]] {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory(dir.path());
        let mut database = open(&directory, &stores);
        database.write(commit(0, "k", Some("1"), ("a", 10))).unwrap();
        let inputs = ["in", "a much longer name"].map(|topic| (TopicPartition::new(topic, 3), Offset(7)));
        let positions = Positions { inputs: inputs.into(), ..Positions::default() };
        database.write(Write { entries: Vec::new(), positions }).unwrap();
        database.forget_inputs().unwrap();
        if stores[0].persistent {
            drop(database);
            database = open(&directory, &stores);
        }
        let positions = database.positions().unwrap();
        assert_eq!((positions.inputs, positions.stream_time), (Vec::new(), Some(10)));
        assert_eq!((position(&database, "a"), get(&database, 0, "k").as_deref()), (Some(10), Some("1")));
    }
}

#[test]
fn keeps_memory_and_disk_apart() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let stores = [in_memory("m"), store("d"), in_memory("n")];
    let mut database = open(&directory, &stores);
    for (index, name) in ["m", "d", "n"].into_iter().enumerate() {
        database.write(commit(index, "k", Some(name), (name, 5))).unwrap();
    }
    for (index, name) in ["m", "d", "n"].into_iter().enumerate() {
        assert_eq!(get(&database, index, "k").as_deref(), Some(name));
        assert_eq!(position(&database, name), Some(5));
    }
    drop(database);
    let database = open(&directory, &stores);
    // What was in memory is gone, and so is its position: it is restored from the beginning.
    for (index, kept) in [(0, None), (1, Some("d")), (2, None)] {
        assert_eq!(get(&database, index, "k").as_deref(), kept);
    }
    assert_eq!((position(&database, "m"), position(&database, "d")), (None, Some(5)));
}

#[test]
fn a_store_that_moved_to_memory_does_not_inherit_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    open(&directory, &[store("a"), store("b")]).write(commit(0, "k", Some("1"), ("a", 10))).unwrap();
    let moved = open(&directory, &[in_memory("a"), store("b")]);
    assert_eq!(position(&moved, "a"), None);
}

#[test]
fn a_task_without_persistent_stores_leaves_the_disk_alone() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let mut database = open(&directory, &[in_memory("m")]);
    database.write(commit(0, "k", Some("1"), ("m", 3))).unwrap();
    assert_eq!(get(&database, 0, "k").as_deref(), Some("1"));
    assert_eq!(position(&database, "m"), Some(3));
    assert_eq!(database.positions().unwrap().stream_time, Some(3));
    assert!(!directory.path().join("0_1").exists());
}

#[test]
fn a_store_that_left_the_topology_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    open(&directory, &[store("a"), store("b")]).write(commit(1, "k", Some("old"), ("b", 7))).unwrap();
    open(&directory, &[store("a")]).write(commit(0, "k", Some("new"), ("a", 8))).unwrap();
    let database = open(&directory, &[store("b"), store("a")]);
    assert_eq!(get(&database, 0, "k").as_deref(), Some("old"));
    // It is not what it was at the inputs that were written meanwhile.
    assert_eq!((position(&database, "a"), position(&database, "b")), (Some(8), None));
}

/// A key of a window store.
fn window(key: &str, start: i64) -> Vec<u8> {
    [key.as_bytes(), &start.to_be_bytes(), &[0; 4]].concat()
}

/// One commit of windows that begin then.
fn windows(database: &mut TaskDatabase, starts: std::ops::Range<i64>) {
    let keys: Vec<Vec<u8>> = starts.clone().map(|start| window("key", start)).collect();
    let entries = keys.iter().map(|key| (0, key.as_slice(), Some(b"12345678value".as_slice()))).collect();
    let positions = Positions { observed: vec![("w".to_owned(), starts.end - 1)], ..Positions::default() };
    database.write(Write { entries, positions }).unwrap();
}

fn count(database: &TaskDatabase) -> usize {
    let mut count = 0;
    let visit = &mut |_: &[u8], _: &[u8]| {
        count += 1;
        true
    };
    database.scan(0, (None, None), false, visit).unwrap();
    count
}

#[test]
fn compactions_delete_what_is_gone_by_age() {
    let expiry = Some(Expiry { keys: TimedKeys::Window, retention_ms: 1_000 });
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let stores = [StoreSpec { expiry, ..store("w") }];
    let mut database = open(&directory, &stores);
    windows(&mut database, 0..2_000);
    drop(database);
    // What a store has observed outlives the process.
    let mut database = open(&directory, &stores);
    assert_eq!(database.positions().unwrap().observed("w"), Some(1_999));
    assert_eq!(database.view().observed("w").unwrap(), Some(1_999), "who reads is told");
    // An earlier time does not set it back.
    windows(&mut database, 100..101);
    assert_eq!(database.positions().unwrap().observed("w"), Some(1_999));
    database.compact();
    assert_eq!(count(&database), 1_000, "those that begin after 999");
    windows(&mut database, 2_000..2_500);
    database.compact();
    assert_eq!(count(&database), 1_500, "what is not on disk makes nothing old yet");
    drop(database);
    let mut database = open(&directory, &stores);
    database.compact();
    assert_eq!(count(&database), 1_000);
    database.clear(0).unwrap();
    assert_eq!(database.positions().unwrap().observed("w"), None);
}

#[test]
fn memory_deletes_what_is_gone_by_age() {
    let expiry = Some(Expiry { keys: TimedKeys::Window, retention_ms: 1_000 });
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let mut database = open(&directory, &[StoreSpec { expiry, ..in_memory("w") }]);
    for start in (0..100_000).step_by(100) {
        windows(&mut database, start..start + 100);
        assert!(count(&database) < 5_000, "{}", count(&database));
    }
    assert!(count(&database) >= 1_000);
}
