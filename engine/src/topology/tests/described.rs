//! Descriptions, compared to the letter with what Kafka Streams 4.3.1 printed for the same graph.
//!
//! Each fixture has the graph, a node or store a line in the order of declaration, and after the
//! dashes the output of `Topology#describe`.

use std::fs;
use std::path::Path;

use crate::topology::sample::names;
use crate::topology::{Plan, Topology};

fn graph_of(spec: &str) -> Topology {
    spec.lines().fold(Topology::default(), |graph, line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let list = |field: usize| fields[field].split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        match fields[0] {
            "source" => {
                let mut graph = graph.source(fields[1], "");
                graph.sources.last_mut().unwrap().topics = list(2);
                graph
            }
            "pattern" => graph.pattern(fields[1], fields[2]),
            "processor" => {
                let mut graph = graph.processor(fields[1], "", "");
                let processor = graph.processors.last_mut().unwrap();
                (processor.parents, processor.stores) = (list(2), list(3));
                graph
            }
            "sink" => {
                let mut graph = graph.sink(fields[1], "", fields[3]);
                let sink = graph.sinks.last_mut().unwrap();
                sink.parents = list(2);
                sink.topic = Some(fields[3].to_owned()).filter(|topic| topic != "?");
                graph
            }
            "global" => graph.global(fields[1], fields[2], fields[3], fields[4]),
            "store" => graph.store(fields[1]),
            "repartition" => graph.repartition(fields[1], None),
            other => panic!("unknown line {other}"),
        }
    })
}

/// The first difference, if there is one.
fn check(fixture: &str) -> Result<(), String> {
    let (spec, expected) = fixture.split_once("----\n").ok_or("no dashes")?;
    let found = Plan::new("app", graph_of(spec)).map_err(|error| error.to_string())?.describe();
    if found == expected { Ok(()) } else { Err(format!("expected\n{expected}\nfound\n{found}")) }
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
fn as_kafka_streams_prints_them() {
    check_folder(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/topology/tests/described")), 19);
}

#[test]
fn a_large_graph_is_described_in_no_time() {
    // Each layer doubles the number of paths, and there are as many edges as a graph may have.
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
