//! Descriptions and internal topics, compared to the letter with what Kafka Streams 4.3.1 made of
//! the same graph.
//!
//! Each fixture has three parts, divided by dashes: the graph in the order of declaration, with the
//! source topics that exist; the output of `Topology#describe`; the internal topics, each with the
//! subtopology that reads it or writes it as changelog, its partitions and configs.

use std::fs;
use std::path::Path;

use crate::topology::sample::names;
use crate::topology::{Layout, PartitionCounts, Partitioning, Plan, Topology, TopologyError, Windows};

struct Fixture<'a> {
    graph: Topology,
    existing: PartitionCounts,
    description: &'a str,
    topics: &'a str,
}

impl<'a> Fixture<'a> {
    fn parse(text: &'a str) -> Self {
        let [graph, description, topics] = text.split("----\n").collect::<Vec<_>>()[..] else {
            panic!("a fixture has three parts")
        };
        let mut fixture = Self { graph: Topology::default(), existing: PartitionCounts::new(), description, topics };
        for line in graph.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            fixture.add(fields[0], &fields[1..]);
        }
        fixture
    }

    fn add(&mut self, kind: &str, fields: &[&str]) {
        let list = |field: usize| fields[field].split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let graph = std::mem::take(&mut self.graph);
        let name = fields[0];
        self.graph = match kind {
            "source" => graph.source(name, ""),
            "pattern" => graph.pattern(name, fields[1]),
            "processor" => graph.processor(name, "", ""),
            "sink" => graph.sink(name, "", fields[2]),
            "global" => graph.global(name, fields[1], fields[2], fields[3]),
            "store" => graph.store(name),
            "repartition" => graph.repartition(name, fields[1].parse().ok()),
            "copartitioned" => graph.copartitioned(&name.replace(',', " ")),
            "existing" => graph,
            other => panic!("unknown line {other}"),
        };
        let graph = &mut self.graph;
        match kind {
            "source" => graph.sources.last_mut().unwrap().topics = list(1),
            "processor" => {
                let processor = graph.processors.last_mut().unwrap();
                (processor.parents, processor.stores) = (list(1), list(2));
            }
            "sink" => {
                let sink = graph.sinks.last_mut().unwrap();
                (sink.parents, sink.topic) = (list(1), Some(fields[2].to_owned()).filter(|topic| topic != "?"));
            }
            "store" => {
                let store = graph.stores.last_mut().unwrap();
                (store.layout, store.logged) = (layout(fields[1]), fields[2] == "logged");
                let setting = |setting: &str| setting.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
                store.changelog_config = fields[3].split(' ').filter_map(setting).collect();
            }
            "existing" => {
                self.existing.insert(name.to_owned(), fields[1].parse().unwrap());
            }
            _ => {}
        }
    }
}

fn layout(text: &str) -> Layout {
    let time = |text: &str| text.parse().unwrap();
    match text.split_once(':') {
        Some(("window", kept)) => {
            Layout::Window(Windows { size_ms: 0, retention_ms: time(kept), retain_duplicates: false })
        }
        Some((_, history)) => Layout::Versioned(time(history)),
        None => Layout::KeyValue,
    }
}

/// As in the third part of a fixture.
fn topics_of(plan: &Plan, existing: &PartitionCounts) -> Result<String, TopologyError> {
    let partitioning = Partitioning::new(plan, existing)?;
    let mut lines: Vec<String> = Vec::new();
    for topic in partitioning.internal_topics() {
        let reads_or_keeps = |id: &&u32| {
            let reads = partitioning.subtopologies().iter().filter(|sub| sub.subtopology == **id);
            let keeps = plan.subtopology(**id).into_iter().flat_map(|sub| &sub.stores);
            reads.flat_map(|sub| &sub.inputs).any(|input| *input.full_name == topic.name)
                || keeps.filter_map(|store| plan.changelog(store)).any(|changelog| changelog == topic.name)
        };
        let ids: Vec<u32> = plan.subtopologies().iter().map(|subtopology| subtopology.id).collect();
        let id = ids.iter().find(reads_or_keeps).unwrap();
        let configs: Vec<String> = topic.configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        lines.push(format!("{id} {} {} {{{}}}", topic.name, topic.partitions, configs.join(", ")));
    }
    lines.sort();
    Ok(lines.join("\n") + "\n")
}

/// The first difference, if there is one.
fn check(text: &str) -> Result<(), String> {
    let fixture = Fixture::parse(text);
    let plan = Plan::new("app", fixture.graph).map_err(|error| error.to_string())?;
    let topics = topics_of(&plan, &fixture.existing).map_err(|error| error.to_string())?;
    for (found, expected) in [(plan.describe().as_str(), fixture.description), (topics.as_str(), fixture.topics)] {
        if found != expected {
            return Err(format!("expected\n{expected}\nfound\n{found}"));
        }
    }
    Ok(())
}

fn check_folder(folder: &Path, at_least: usize) {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= at_least, "{} fixtures in {}", paths.len(), folder.display());
    let mut failed = 0;
    for path in &paths {
        if let Err(difference) = check(&fs::read_to_string(path).unwrap()) {
            failed += 1;
            if failed <= 3 {
                eprintln!("{}: {difference}", path.display());
            }
        }
    }
    assert_eq!(failed, 0, "of {}", paths.len());
}

#[test]
fn as_in_kafka_streams() {
    check_folder(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/topology/tests/described")), 29);
}

#[test]
fn a_large_graph_is_described_in_no_time() {
    // Each layer multiplies the number of paths, and there are as many edges as a graph may have.
    let mut graph = Topology::default().source("S", "a").processor("P0", "S", "");
    let mut layer = "P0".to_owned();
    for i in 0..40 {
        let next: Vec<String> = (0..40).map(|j| format!("L{i}-{j}")).collect();
        for name in &next {
            graph = graph.processor(name, "", "");
            graph.processors.last_mut().unwrap().parents = names(&layer);
        }
        layer = next.join(" ");
    }
    let text = Plan::new("app", graph).unwrap().describe();
    assert_eq!(text.matches("Processor: ").count(), 1601);
}
