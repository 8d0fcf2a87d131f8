//! The overlay against a model that has nothing but ordered maps.

use std::collections::BTreeMap;

use super::*;
use crate::memory::Memory;
use crate::sim::Random;

type Map = BTreeMap<Vec<u8>, (i64, Vec<u8>)>;
/// Of a cached store: the value at the last flush, when the key changed last, and whether it was dirty
/// before its first change since, and the headers of its last change.
type Changed = BTreeMap<Vec<u8>, (Option<Vec<u8>>, u64, i64, bool, Vec<String>)>;

#[derive(Clone, Default)]
struct Model {
    now: Map,
    durable: Map,
    changed: Changed,
    dirty: BTreeMap<Vec<u8>, u64>,
    changes: u64,
}

impl Model {
    fn put(&mut self, key: &[u8], timestamp: i64, value: Option<&[u8]>, headers: &[String]) {
        self.changes += 1;
        let old = self.now.get(key).map(|(_, value)| value.clone());
        let changed = self.changed.entry(key.to_vec()).or_insert((old, 0, 0, self.dirty.contains_key(key), Vec::new()));
        (changed.1, changed.2, changed.4) = (self.changes, timestamp, headers.to_vec());
        self.dirty.insert(key.to_vec(), self.changes);
        match value {
            Some(value) => self.now.insert(key.to_vec(), (timestamp, value.to_vec())),
            None => self.now.remove(key),
        };
    }

    fn scan(
        &self,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Vec<(Vec<u8>, i64, Vec<u8>)> {
        let inside = |key: &[u8]| from.is_none_or(|from| from <= key) && to.is_none_or(|to| key < to);
        let rows = self.now.iter().filter(|(key, _)| inside(key));
        let rows = rows.map(|(key, (timestamp, value))| (key.clone(), *timestamp, value.clone()));
        let mut rows: Vec<_> = rows.collect();
        if reverse {
            rows.reverse();
        }
        rows.truncate(limit);
        rows
    }
}

struct Pair {
    overlay: Overlay,
    model: Model,
    saved: Model,
    random: Random,
}

impl Pair {
    fn new(seed: u64, cached: bool) -> Self {
        let mut random = Random::new(seed);
        // From none at all to more than everything there is.
        let cache_bytes = [0, 500, 5_000, 1 << 20][random.below(4)];
        let overlay =
            Overlay::new(Box::new(Memory::new(["s".to_owned()])), &[StoreKind { cached, expiry: None }], cache_bytes);
        Self { overlay, model: Model::default(), saved: Model::default(), random }
    }

    fn key(&mut self) -> Vec<u8> {
        let length = self.random.below(3);
        (0..length).map(|_| b'a' + u8::try_from(self.random.below(4)).expect("small")).collect()
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0..=3 => self.put(),
            4..=5 => self.get(),
            6 if self.random.once_in(2) => self.scan(),
            6 => self.scan_each(),
            7 => {
                self.overlay.rollback();
                self.model = self.saved.clone();
                self.savepoint();
            }
            8 => self.savepoint(),
            _ => self.commit(),
        }
        assert_eq!(self.overlay.is_dirty(), !self.model.dirty.is_empty());
        assert_eq!(self.overlay.dirty_bytes() > 0, self.overlay.is_dirty());
    }

    fn savepoint(&mut self) {
        self.overlay.savepoint();
        self.saved = self.model.clone();
    }

    fn put(&mut self) {
        let (mut entries, mut headers) = (Entries::default(), Vec::new());
        for index in 0..u32::try_from(self.random.below(6)).expect("small") {
            let (key, timestamp) = (self.key(), i64::try_from(self.random.below(100)).expect("small"));
            let value = vec![b'v'; self.random.below(20)];
            let value = Some(&value[..]).filter(|_| !self.random.once_in(4));
            let own: Vec<String> = (0..self.random.below(3)).map(|_| self.random.below(9).to_string()).collect();
            self.model.put(&key, timestamp, value, &own);
            entries.keys.push(Some(&key));
            entries.values.push(value);
            entries.timestamps.push(timestamp);
            headers.extend(own.into_iter().map(|key| Header { index, key, value: None }));
        }
        self.overlay.put(0, &entries, &headers).expect("memory does not fail");
    }

    fn get(&mut self) {
        let keys: Vec<Vec<u8>> = (0..self.random.below(6)).map(|_| self.key()).collect();
        let column = keys.iter().map(|key| Some(&key[..])).collect();
        let mut found = Vec::new();
        let collect = |value: Option<(i64, &[u8])>| found.push(value.map(|(time, value)| (time, value.to_vec())));
        self.overlay.get(0, &column, collect).expect("memory does not fail");
        let expected: Vec<_> = keys.iter().map(|key| self.model.now.get(key).cloned()).collect();
        assert_eq!(found, expected);
    }

    fn scan(&mut self) {
        let (from, to) = (self.key(), self.key());
        let from = Some(&from[..]).filter(|_| !self.random.once_in(3));
        let to = Some(&to[..]).filter(|_| !self.random.once_in(3));
        let (reverse, limit) = (self.random.once_in(2), 1 + self.random.below(8));
        let mut found = Vec::new();
        let visit = |key: &[u8], timestamp, value: &[u8]| {
            found.push((key.to_vec(), timestamp, value.to_vec()));
            found.len() < limit
        };
        self.overlay.scan(0, (from, to), reverse, visit).expect("memory does not fail");
        assert_eq!(found, self.model.scan(from, to, reverse, limit), "{from:?} {to:?} {reverse} {limit}");
    }

    fn scan_each(&mut self) {
        let ranges: Vec<_> = (0..self.random.below(4)).map(|_| (self.key(), self.key())).collect();
        let (limit, last) = (1 + self.random.below(4), self.random.below(4));
        let (mut found, mut of_range) = (Vec::new(), Vec::new());
        let visit = |index: usize, entry: Option<(&[u8], i64, &[u8])>| match entry {
            Some((key, timestamp, value)) => {
                of_range.push((key.to_vec(), timestamp, value.to_vec()));
                of_range.len() < limit
            }
            None => {
                found.push(std::mem::take(&mut of_range));
                index != last
            }
        };
        let asked: Vec<_> = ranges.iter().map(|(from, to)| (&from[..], &to[..])).collect();
        self.overlay.scan_each(0, &asked, visit).expect("memory does not fail");
        let each = asked.iter().take(last + 1);
        let expected: Vec<_> = each.map(|(from, to)| self.model.scan(Some(from), Some(to), false, limit)).collect();
        assert_eq!(found, expected, "{ranges:?} {limit}");
    }

    fn commit(&mut self) {
        if self.overlay.stores[0].is_cached() {
            self.flush();
        }
        let mut written = Vec::new();
        let visit = |key: &[u8], timestamp, value: Option<&[u8]>, _: &[RowHeader]| {
            written.push((key.to_vec(), value.map(|value| (timestamp, value.to_vec()))));
        };
        self.overlay.dirty(0, visit);
        let mut dirty: Vec<_> = std::mem::take(&mut self.model.dirty).into_iter().collect();
        dirty.sort_by_key(|(_, changed)| *changed);
        let expected: Vec<_> = dirty.iter().map(|(key, _)| (key.clone(), self.model.now.get(key).cloned())).collect();
        assert_eq!(written, expected);
        assert_eq!(self.durable(), self.model.durable, "nothing reaches the database before the write");
        self.overlay.write(Positions::default()).expect("memory does not fail");
        self.model.durable = self.model.now.clone();
        assert_eq!(self.durable(), self.model.durable);
        self.savepoint();
    }

    fn flush(&mut self) {
        let changes = self.overlay.take_changes(0);
        let changed = std::mem::take(&mut self.model.changed);
        let (mut expected, vanished): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|(key, (old, ..))| old.is_some() || self.model.now.contains_key(key));
        expected.sort_by_key(|(_, (_, changed, ..))| *changed);
        for (key, (.., was_dirty, _)) in vanished {
            if !was_dirty {
                self.model.dirty.remove(&key);
            }
        }
        assert_eq!(changes.len(), expected.len());
        let columns = changes.keys.iter().zip(changes.old_values.iter()).zip(changes.new_values.iter());
        let (mut headers, mut index) = (Vec::new(), 0);
        for (((key, old), new), (expected, timestamp)) in columns.zip(expected.iter().zip(&changes.timestamps)) {
            let (expected_key, (expected_old, _, expected_timestamp, _, expected_headers)) = expected;
            headers.extend(expected_headers.iter().map(|header| (index, header.as_str())));
            index += 1;
            assert_eq!((key, old), (Some(&expected_key[..]), expected_old.as_deref()));
            assert_eq!(new, self.model.now.get(expected_key).map(|(_, value)| &value[..]));
            assert_eq!(timestamp, expected_timestamp);
        }
        let told: Vec<_> = changes.headers.iter().map(|header| (header.index, header.key.as_str())).collect();
        assert_eq!(told, headers);
    }

    fn durable(&mut self) -> Map {
        let mut rows = Map::new();
        let visit = &mut |key: &[u8], value: &[u8]| {
            let (timestamp, value) = parse(value).expect("what was written is well-formed");
            rows.insert(key.to_vec(), (timestamp, value.to_vec()));
            true
        };
        self.overlay
            .database()
            .expect("there is one")
            .scan(0, (None, None), false, visit)
            .expect("memory does not fail");
        rows
    }
}

#[test]
fn it_is_what_the_model_is() {
    for seed in 0..2_000 {
        let ran = std::panic::catch_unwind(|| {
            let mut pair = Pair::new(seed, seed % 2 == 0);
            pair.savepoint();
            for _ in 0..100 {
                pair.step();
            }
        });
        assert!(ran.is_ok(), "seed {seed}");
    }
}

#[test]
fn the_cache_is_bounded() {
    let mut overlay = Overlay::new(Box::new(Memory::new(["s".to_owned()])), &[StoreKind::default()], 10_000);
    for round in 0_u32..1_000 {
        let keys: Vec<[u8; 4]> = (0..10).map(|i| (round * 10 + i).to_be_bytes()).collect();
        let keys: Column = keys.iter().map(|key| Some(&key[..])).collect();
        overlay.savepoint();
        overlay.get(0, &keys, |_| {}).expect("memory does not fail");
        let entries = Entries { keys: keys.clone(), values: keys.clone(), timestamps: vec![0; 10] };
        overlay.put(0, &entries, &[]).expect("memory does not fail");
        overlay.write(Positions::default()).expect("memory does not fail");
    }
    assert!(overlay.stores[0].row_count() < 100, "{} rows", overlay.stores[0].row_count());
}

#[test]
fn lookups_say_what_memory_had() {
    let mut overlay = Overlay::new(Box::new(Memory::new(["s".to_owned()])), &[StoreKind::default()], 10_000);
    let keys: Column = [Some(&b"a"[..]), Some(b"b"), Some(b"c")].into_iter().collect();
    for expected in [Lookups { hits: 0, misses: 3 }, Lookups { hits: 3, misses: 0 }] {
        overlay.get(0, &keys, |_| {}).expect("memory does not fail");
        assert_eq!(overlay.take_lookups(), expected);
    }
}

#[test]
fn a_torn_value_is_corruption() {
    let mut memory = Memory::new(["s".to_owned()]);
    let entries = vec![(0, &b"k"[..], Some(&b"short"[..]))];
    memory.write(Write { entries, positions: Positions::default() }).expect("memory does not fail");
    let mut overlay = Overlay::new(Box::new(memory), &[StoreKind::default()], 0);
    let read = overlay.get(0, &Column::from_iter([Some(&b"k"[..])]), |_| {});
    assert!(matches!(read, Err(Error::Corrupt(_))));
    let read = overlay.scan(0, (None, None), false, |_, _, _| true);
    assert!(matches!(read, Err(Error::Corrupt(_))));
}

/// A key of a window store.
fn window(key: &str, start: i64) -> Vec<u8> {
    [key.as_bytes(), &start.to_be_bytes(), &[0; 4]].concat()
}

#[test]
fn what_is_gone_by_age_is_not_seen() {
    let expiry = Expiry { keys: crate::expiry::TimedKeys::Window, retention_ms: 10 };
    let kind = StoreKind { cached: false, expiry: Some(expiry) };
    let mut overlay = Overlay::new(Box::new(Memory::new(["s".to_owned()])), &[kind], 10_000);
    let put = |overlay: &mut Overlay, start: i64| {
        let keys = Column::from_iter([Some(&window("k", start)[..])]);
        let entries = Entries { keys, values: Column::from_iter([Some(b"v".as_slice())]), timestamps: vec![start] };
        overlay.put(0, &entries, &[]).expect("memory does not fail");
    };
    let check = |overlay: &mut Overlay, expected: &[i64]| {
        let mut scanned = Vec::new();
        let visit = |_: &[u8], timestamp, _: &[u8]| {
            scanned.push(timestamp);
            true
        };
        overlay.scan(0, (None, None), false, visit).expect("memory does not fail");
        assert_eq!(scanned, expected);
        let keys: Vec<Vec<u8>> = (0..40).map(|start| window("k", start)).collect();
        let mut got = Vec::new();
        let found = |found: Option<(i64, &[u8])>| got.extend(found.map(|(timestamp, _)| timestamp));
        overlay.get(0, &keys.iter().map(|key| Some(&key[..])).collect(), found).expect("memory does not fail");
        assert_eq!(got, expected);
    };
    overlay.savepoint();
    put(&mut overlay, 1);
    put(&mut overlay, 10);
    check(&mut overlay, &[1, 10]);
    overlay.write(Positions::default()).expect("memory does not fail");
    overlay.savepoint();
    put(&mut overlay, 11);
    check(&mut overlay, &[10, 11]);
    // What made it old did not happen.
    overlay.rollback();
    check(&mut overlay, &[1, 10]);
    put(&mut overlay, 20);
    put(&mut overlay, 5);
    check(&mut overlay, &[20]);
    // Yet it is written: Kafka Streams' changelogs have it, too.
    let mut dirty = Vec::new();
    overlay.dirty(0, |_, timestamp, _, _| dirty.push(timestamp));
    assert_eq!(dirty, [20, 5]);
    assert_eq!(overlay.observed(0), Some(20));
}

#[test]
fn the_changelog_has_the_headers_of_an_uncached_store_until_the_commit() {
    let mut overlay = Overlay::new(Box::new(Memory::new(["s".to_owned()])), &[StoreKind::default()], 10_000);
    let put = |overlay: &mut Overlay, key: &str, value: Option<&str>, header: Option<&str>| {
        let keys = Column::from_iter([Some(key.as_bytes())]);
        let entries = Entries { keys, values: Column::from_iter([value.map(str::as_bytes)]), timestamps: vec![1] };
        let header = header.map(|key| Header { index: 0, key: key.to_owned(), value: None });
        overlay.put(0, &entries, header.as_slice()).expect("memory does not fail");
    };
    let check = |overlay: &mut Overlay, expected: &[(&str, &[&str])]| {
        let mut found = Vec::new();
        overlay.dirty(0, |key, _, _, headers| {
            let names: Vec<String> = headers.iter().map(|(name, _)| name.clone()).collect();
            found.push((String::from_utf8_lossy(key).into_owned(), names));
        });
        let found: Vec<(&str, Vec<&str>)> =
            found.iter().map(|(key, names)| (&**key, names.iter().map(|name| &**name).collect())).collect();
        let expected: Vec<(&str, Vec<&str>)> = expected.iter().map(|(key, names)| (*key, names.to_vec())).collect();
        assert_eq!(found, expected);
    };
    overlay.savepoint();
    put(&mut overlay, "a", Some("1"), Some("h"));
    put(&mut overlay, "b", None, Some("i"));
    check(&mut overlay, &[("a", &["h"]), ("b", &["i"])]);
    overlay.savepoint();
    put(&mut overlay, "a", Some("2"), None);
    put(&mut overlay, "c", Some("3"), Some("j"));
    check(&mut overlay, &[("b", &["i"]), ("a", &[]), ("c", &["j"])]);
    overlay.rollback();
    check(&mut overlay, &[("a", &["h"]), ("b", &["i"])]);
    let before = overlay.dirty_bytes();
    put(&mut overlay, "a", Some("1"), None);
    assert!(overlay.dirty_bytes() < before, "headers take memory");
    overlay.write(Positions::default()).expect("memory does not fail");
    assert_eq!(overlay.dirty_bytes(), 0);
    put(&mut overlay, "b", None, None);
    check(&mut overlay, &[("b", &[])]);
}

/// Versions against a model that has all that was put, and a store that is committed, undone and read again meanwhile.
mod versions {
    use super::*;
    use crate::expiry::{Expiry, TimedKeys};
    use crate::versions::{LATEST, NOT_PUT};

    const HISTORY_MS: i64 = 30;
    const KEYS: [&[u8]; 4] = [b"", b"a", b"a\0\0\0\0\0\0\0\0", b"b"];

    type Versions = BTreeMap<(Vec<u8>, i64), Option<Vec<u8>>>;

    #[derive(Clone, Default)]
    struct Model {
        versions: Versions,
        /// Deletions that were latest until a value followed.
        followed: std::collections::BTreeSet<(Vec<u8>, i64)>,
        observed: Option<i64>,
        log: Vec<(Vec<u8>, i64, Option<Vec<u8>>)>,
    }

    impl Model {
        fn begin(&self) -> i64 {
            self.observed.map_or(i64::MIN, |observed| observed - HISTORY_MS)
        }

        fn of<'a>(&'a self, key: &'a [u8]) -> impl DoubleEndedIterator<Item = (i64, Option<&'a [u8]>)> {
            let versions = self.versions.range((key.to_vec(), i64::MIN)..=(key.to_vec(), i64::MAX));
            versions.map(|((_, time), value)| (*time, value.as_deref()))
        }

        fn as_of(&self, key: &[u8], time: i64) -> Option<(Vec<u8>, i64, i64)> {
            let (from, value) = self.of(key).rfind(|(from, _)| *from <= time)?;
            let to = self.of(key).find(|(from, _)| *from > time).map_or(LATEST, |(from, _)| from);
            value.filter(|_| to == LATEST || time >= self.begin()).map(|value| (value.to_vec(), from, to))
        }

        fn put(&mut self, key: &[u8], time: i64, value: Option<&[u8]>) -> i64 {
            if time < self.begin() {
                return NOT_PUT;
            }
            self.observed = self.observed.max(Some(time));
            self.log.push((key.to_vec(), time, value.map(<[u8]>::to_vec)));
            let next = self.of(key).find(|(from, _)| *from > time).map_or(LATEST, |(from, _)| from);
            let was = self.versions.insert((key.to_vec(), time), value.map(<[u8]>::to_vec));
            self.followed.remove(&(key.to_vec(), time));
            let before = self.of(key).rfind(|(from, _)| *from < time).map(|(from, value)| (from, value.is_some()));
            if let (LATEST, Some(_), None, Some((from, false))) = (next, value, &was, before) {
                self.followed.insert((key.to_vec(), from));
            }
            // Kafka Streams forgets a deletion that ends what began at the same time, unless there is something before it.
            let forgotten = before.is_none_or(|(from, _)| self.followed.contains(&(key.to_vec(), from)));
            if next == LATEST && value.is_none() && was.flatten().is_some() && forgotten {
                self.versions.remove(&(key.to_vec(), time));
                self.followed.retain(|(known, from)| (known.as_slice(), Some(*from)) != (key, before.map(|it| it.0)));
            }
            next
        }
    }

    fn kind() -> StoreKind {
        StoreKind { cached: false, expiry: Some(Expiry { keys: TimedKeys::Versions, retention_ms: HISTORY_MS }) }
    }

    fn number(random: &mut Random, below: usize) -> i64 {
        i64::try_from(random.below(below)).expect("small")
    }

    fn entries(key: &[u8], time: i64, value: Option<&[u8]>) -> Entries {
        let mut entries = Entries::default();
        entries.keys.push(Some(key));
        entries.values.push(value);
        entries.timestamps.push(time);
        entries
    }

    fn compare(overlay: &mut Overlay, model: &Model, latest: i64) {
        for key in KEYS {
            for time in (0..latest + 3).chain([i64::MIN, LATEST]) {
                let mut keys = Column::default();
                keys.push(Some(key));
                let mut found = None;
                let read = overlay.get_as_of(0, &keys, &[time], |version| {
                    let version = version.and_then(|it| Some((it.value?.to_vec(), it.valid_from, it.valid_to)));
                    found = version;
                });
                read.unwrap();
                assert_eq!(found, model.as_of(key, time), "{key:?} as of {time}, since {}", model.begin());
            }
        }
    }

    #[test]
    fn a_store_has_what_was_valid_at_any_time_of_its_history() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut overlay = Overlay::new(Box::new(Memory::new(["s".to_owned()])), &[kind()], 400);
            overlay.savepoint();
            let (mut model, mut saved) = (Model::default(), Model::default());
            let mut now = 0;
            for step in 0..60 {
                now += number(&mut random, 4);
                let (key, time) = (KEYS[random.below(4)], (now - number(&mut random, 45)).max(0));
                let value = [b"x".as_slice(), b""][random.below(2)];
                let value = Some(value).filter(|_| !random.once_in(3));
                if random.once_in(4) {
                    overlay.savepoint();
                    saved = model.clone();
                }
                let put = overlay.put_versions(0, &entries(key, time, value)).unwrap();
                assert_eq!(put, [model.put(key, time, value)], "seed {seed}, step {step}");
                match random.below(8) {
                    0 => {
                        overlay.rollback();
                        model = saved.clone();
                        overlay.savepoint();
                    }
                    1 => {
                        let mut log = Vec::new();
                        overlay.dirty(0, |key, time, value, _| {
                            log.push((key.to_vec(), time, value.map(<[u8]>::to_vec)));
                        });
                        assert_eq!(log, std::mem::take(&mut model.log));
                        let mut positions = Positions::default();
                        if let Some(time) = overlay.observed(0) {
                            positions.observe("s", time);
                        }
                        overlay.write(positions).unwrap();
                        overlay.savepoint();
                        saved = model.clone();
                    }
                    _ => {}
                }
                compare(&mut overlay, &model, now);
            }
        }
    }
}
