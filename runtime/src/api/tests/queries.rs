//! Queries, of stores that a test fills, and between two servers.

mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_engine::memory::Memory;
use millrace_engine::overlay::stored;
use millrace_engine::partitioner::partition;
use millrace_engine::ports::{CommittedState, Database, Error, Positions, Write};
use millrace_engine::record::TaskId;
use millrace_engine::topology::{Format, Layout, Partitioning, Plan, Processor, Source, Store, Topology, Windows};
use serde_json::{Value, json};

use super::{ask, json, serve_facts, status};
use crate::api::{Blocks, Catalog, Catalogs, Owners, Range, Server, Sizes, Stores};
use crate::status::{Identity, Stage, State, Status};

const PARTITIONS: u32 = 3;

/// Tasks in memory.
struct Shelf(BTreeMap<TaskId, Memory>);

const NAMES: [&str; 2] = ["counts", "windows"];

impl Shelf {
    fn task(&self, task: TaskId, store: &str) -> Result<(&Memory, usize), Error> {
        let index = NAMES.iter().position(|name| *name == store).expect("a store of the topology");
        Ok((self.0.get(&task).ok_or_else(|| Error::Retry("it is not open".to_owned()))?, index))
    }
}

impl Stores for Shelf {
    fn get(&self, task: TaskId, store: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let (task, store) = self.task(task, store)?;
        let mut value = None;
        task.get(store, &[key], &mut |_, found| value = Some(found.to_vec()))?;
        Ok(value)
    }

    fn scan(
        &self,
        task: TaskId,
        store: &str,
        range: Range<'_>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        let (task, store) = self.task(task, store)?;
        task.scan(store, range, reverse, visit)
    }

    fn observed(&self, task: TaskId, store: &str) -> Result<Option<i64>, Error> {
        Ok(self.task(task, store)?.0.positions()?.observed(store))
    }

    fn sizes(&self, _: TaskId, _: &str) -> Option<Sizes> {
        Some(Sizes { entries: 7, file_bytes: 8, memtable_bytes: 9 })
    }

    fn blocks(&self, _: TaskId) -> Option<Blocks> {
        Some(Blocks { hits: 3, misses: 1 })
    }
}

/// All tasks are at this instance.
struct All(&'static str);

impl Owners for All {
    fn ask(&self) -> Result<BTreeMap<TaskId, String>, Error> {
        Ok((0..PARTITIONS).map(|partition| (task(partition), self.0.to_owned())).collect())
    }

    fn instances(&self) -> Result<Option<Vec<String>>, Error> {
        Ok(Some(vec![self.0.to_owned(), "pod-3".to_owned()]))
    }
}

fn task(partition: u32) -> TaskId {
    TaskId { subtopology: 0, partition }
}

fn store(name: &str, layout: Layout) -> Store {
    let format = Format { key: "string".to_owned(), value: "long".to_owned() };
    let (persistent, logged, cached, changelog_config) = (true, true, false, Vec::new());
    Store { name: name.to_owned(), layout, format, persistent, logged, cached, changelog_config }
}

fn topology() -> Topology {
    let windows = Windows { size_ms: 10, retention_ms: 100, retain_duplicates: false };
    Topology {
        sources: vec![Source {
            name: "source".to_owned(),
            topics: vec!["in".to_owned()],
            pattern: None,
            offset_reset: None,
            extracts_timestamps: false,
        }],
        processors: vec![Processor {
            name: "count".to_owned(),
            parents: vec!["source".to_owned()],
            stores: NAMES.map(str::to_owned).to_vec(),
        }],
        stores: vec![store(NAMES[0], Layout::KeyValue), store(NAMES[1], Layout::Window(windows))],
        ..Topology::default()
    }
}

/// Ten keys `k0` to `k9` with their numbers as counts, and two windows of `k1` and one of `k12`.
fn shelf() -> Shelf {
    let mut tasks: BTreeMap<TaskId, Memory> =
        (0..PARTITIONS).map(|number| (task(number), Memory::new(NAMES.map(str::to_owned)))).collect();
    let mut put = |store: usize, key: &str, suffix: &[u8], value: i64| {
        let of_key = task(partition(key.as_bytes(), PARTITIONS));
        let (key, value) = ([key.as_bytes(), suffix].concat(), stored(1000 + value, &value.to_be_bytes()));
        let write = Write { entries: vec![(store, &key, Some(&value))], positions: Positions::default() };
        tasks.get_mut(&of_key).expect("a task for each partition").write(write).expect("memory takes everything");
    };
    for number in 0..10 {
        put(0, &format!("k{number}"), b"", number);
    }
    for (key, start) in [("k1", 10_i64), ("k1", 20), ("k12", 10)] {
        put(1, key, &[start.to_be_bytes().as_slice(), &[0; 4]].concat(), start);
    }
    Shelf(tasks)
}

fn catalog(owner: &'static str) -> Arc<Catalogs> {
    catalog_of(shelf(), owner)
}

fn catalog_of(shelf: Shelf, owner: &'static str) -> Arc<Catalogs> {
    let plan = Plan::new("counts-app", topology()).expect("the topology is sound");
    let counts = [("in".to_owned(), PARTITIONS)].into();
    let partitioning = Arc::new(Partitioning::new(&plan, &counts).expect("the topic is there"));
    let catalogs = Catalogs::default();
    catalogs.set(Catalog { plan, partitioning, stores: Arc::new(shelf), owners: Arc::new(All(owner)) });
    Arc::new(catalogs)
}

fn place(status: &Status, stage: Stage) {
    let stages = (0..PARTITIONS).map(|partition| (task(partition), stage)).collect();
    status.place(State::Running, &stages);
}

/// A server that runs all tasks.
fn owner() -> Server {
    let status = status();
    place(&status, Stage::Running(0));
    serve_facts(&status, catalog("pod-1"), None)
}

fn keys(page: &Value) -> Vec<String> {
    let entries = page["entries"].as_array().unwrap_or_else(|| panic!("no page: {page}"));
    entries.iter().map(|entry| entry["key"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_key_is_found_in_its_partition_and_shown_by_its_format() {
    let server = owner();
    let (code, body) = ask(&server, "GET /v1/stores/counts/keys/k7");
    let at = task(partition(b"k7", PARTITIONS)).to_string();
    let expected =
        json!({ "store": "counts", "task": at, "stale": false, "key": "k7", "value": 7, "timestamp_ms": 1007 });
    assert_eq!((code, json(&body)), (200, expected));
    for (path, code, word) in [
        ("/v1/stores/counts/keys/nobody", 404, "no key nobody"),
        ("/v1/stores/sums/keys/k7", 404, "the topology has: counts, windows"),
        ("/v1/stores/counts/keys/k7?partition=3", 400, "partitions 0 to 2"),
        ("/v1/stores/counts/keys/k7?partition=x", 400, "partition"),
        ("/v1/stores/windows/keys/k1", 400, "/v1/stores/windows/entries?key=k1"),
    ] {
        let (found, body) = ask(&server, &format!("GET {path}"));
        let error = json(&body)["error"].as_str().unwrap_or_default().to_owned();
        assert!(found == code && error.contains(word), "{path}: {found} {body}");
    }
    server.stop();
}

#[test]
fn pages_go_through_all_partitions_once() {
    let server = owner();
    for limit in [1, 3, 100] {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/stores/counts/entries?limit={limit}{after}");
            let page = json(&ask(&server, &format!("GET {path}")).1);
            let keys = keys(&page);
            assert!(keys.len() <= limit && keys.is_sorted(), "{page}");
            found.extend(keys);
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        found.sort();
        assert_eq!(found, (0..10).map(|number| format!("k{number}")).collect::<Vec<_>>(), "limit {limit}");
    }
    server.stop();
}

#[test]
fn ranges_prefixes_and_windows_are_cut_out() {
    let server = owner();
    let all = |query: &str| {
        let pages = (0..PARTITIONS).map(|partition| {
            let path = format!("/v1/stores/counts/entries?partition={partition}&{query}");
            keys(&json(&ask(&server, &format!("GET {path}")).1))
        });
        pages.collect::<Vec<_>>()
    };
    let sorted = |pages: Vec<Vec<String>>| {
        let mut keys = pages.concat();
        keys.sort();
        keys
    };
    assert_eq!(sorted(all("from=k3&to=k6")), ["k3", "k4", "k5"]);
    assert_eq!(sorted(all("prefix=k7")), ["k7"]);
    assert_eq!(sorted(all("prefix=k&from=k8")), ["k8", "k9"]);
    assert!(all("reverse=true").iter().all(|page| page.iter().rev().is_sorted()));
    let page = json(&ask(&server, "GET /v1/stores/windows/entries?key=k1").1);
    let windows = json!([{ "key": "k1", "start": 10, "end": 20 }, { "key": "k1", "start": 20, "end": 30 }]);
    let found: Vec<_> = page["entries"].as_array().into_iter().flatten().map(|entry| entry["key"].clone()).collect();
    assert_eq!(json!(found), windows);
    for wrong in ["limit=0", "limit=1001", "after=x", "partition=x", "reverse=maybe"] {
        assert_eq!(ask(&server, &format!("GET /v1/stores/counts/entries?{wrong}")).0, 400, "{wrong}");
    }
    server.stop();
}

#[test]
fn a_question_goes_to_who_has_the_task() {
    let right = owner();
    // The port stands for the name: an instance called so is reached there.
    let wrong_status = status();
    place(&wrong_status, Stage::Standby);
    let peers = right.address().to_string().replace("127", "{instance}");
    let wrong = serve_facts(&wrong_status, catalog("127"), Some(peers));
    let (code, body) = ask(&wrong, "GET /v1/stores/counts/keys/k7");
    assert_eq!((code, &json(&body)["value"], &json(&body)["stale"]), (200, &json!(7), &json!(false)), "{body}");
    let page = json(&ask(&wrong, "GET /v1/stores/counts/entries?partition=0&limit=1").1);
    assert_eq!(keys(&page).len(), 1, "{page}");
    let (_, body) = ask(&wrong, "GET /v1/stores/counts/keys/k7?stale=true");
    assert_eq!(json(&body)["stale"], json!(true), "its standby may answer: {body}");
    right.stop();
    let (code, body) = ask(&wrong, "GET /v1/stores/counts/keys/k7");
    assert!(code == 503 && body.contains("does not answer"), "{code} {body}");
    wrong.stop();
}

#[test]
fn lines_of_another_instance_are_asked_of_it() {
    let identity = Identity { application_id: "counts-app".to_owned(), instance: "127".to_owned(), threads: 1 };
    let other = Arc::new(Status::new(identity));
    other.guest_log.add(task(0), "abc", "stdout", "over here");
    let right = serve_facts(&other, catalog("127"), None);
    let peers = right.address().to_string().replace("127", "{instance}");
    let asked = serve_facts(&status(), catalog("127"), Some(peers));
    let (code, body) = ask(&asked, "GET /v1/logs?instance=127&limit=5");
    let log = json(&body);
    assert_eq!((code, &log["instance"], &log["lines"][0]["text"]), (200, &json!("127"), &json!("over here")), "{body}");
    let (code, body) = ask(&asked, "GET /v1/logs?instance=pod-1");
    assert_eq!((code, &json(&body)["lines"]), (200, &json!([])), "that is itself: {body}");
    // Whoever asks can't have just any host asked.
    let (code, body) = ask(&asked, "GET /v1/logs?instance=127.0.0.1:1/x?");
    assert!(code == 404 && body.contains("the group has: 127, pod-3"), "{code} {body}");
    let (code, body) = ask(&asked, "GET /v1/logs?instance=pod-3");
    assert!(code == 503 && body.contains("pod-3 does not answer"), "{code} {body}");
    let (code, body) = ask(&right, "GET /v1/logs?instance=pod-3");
    assert_eq!((code, &json(&body)["instance"]), (421, &json!("pod-3")), "{body}");
    asked.stop();
    right.stop();
}

#[test]
fn a_question_that_can_t_be_passed_on_names_who_has_the_task() {
    let status = status();
    status.place(State::Running, &BTreeMap::new());
    let server = serve_facts(&status, catalog("pod-2"), None);
    let (code, body) = ask(&server, "GET /v1/stores/counts/keys/k7");
    assert_eq!((code, &json(&body)["instance"]), (421, &json!("pod-2")), "{body}");
    server.stop();
    // The group says it is here, and it is not yet.
    let server = serve_facts(&status, catalog("pod-1"), None);
    let (code, body) = ask(&server, "GET /v1/stores/counts/keys/k7");
    assert!(code == 503 && body.contains("being restored"), "{code} {body}");
    server.stop();
}

#[test]
fn the_topology_and_its_stores_are_told() {
    let server = owner();
    let topology = json(&ask(&server, "GET /v1/topology").1);
    assert!(topology["description"].as_str().is_some_and(|text| text.starts_with("Topologies:")), "{topology}");
    let subtopology = &topology["subtopologies"][0];
    assert_eq!((&subtopology["tasks"], &subtopology["sources"][0]["topics"]), (&json!(3), &json!(["in"])));
    assert_eq!(subtopology["stores"][0]["changelog"], json!("counts-app-counts-changelog"));
    let stores = json(&ask(&server, "GET /v1/stores").1);
    assert_eq!((&stores[1]["layout"], &stores[1]["value_format"]), (&json!("window"), &json!("long")));
    assert_eq!((&stores[0]["tasks"][2]["task"], &stores[0]["tasks"][2]["entries"]), (&json!("0_2"), &json!(7)));
    server.stop();
}

#[test]
fn windows_that_are_past_their_retention_are_not_shown() {
    let mut shelf = shelf();
    for task in shelf.0.values_mut() {
        // Those that begin at 10 are gone as of now, and no compaction has seen them yet.
        let positions = Positions { observed: vec![("windows".to_owned(), 110)], ..Positions::default() };
        task.write(Write { entries: Vec::new(), positions }).expect("memory takes everything");
    }
    let status = status();
    place(&status, Stage::Running(0));
    let server = serve_facts(&status, catalog_of(shelf, "pod-1"), None);
    let starts = |key: &str| {
        let page = json(&ask(&server, &format!("GET /v1/stores/windows/entries?key={key}")).1);
        let entries = page["entries"].as_array().unwrap_or_else(|| panic!("no page: {page}")).iter();
        entries.map(|entry| entry["key"]["start"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((starts("k1"), starts("k12")), (vec![json!(20)], Vec::new()));
    server.stop();
}
