//! Owns graphs made by chance for tests, good ones and hostile ones.

use super::graph::{Layout, Topology, Windows};
use super::partitioning::{PartitionCounts, Partitioning};
use super::sample::names;
use crate::record::TopicPartition;
use crate::sim::Random;

/// A number below `end`, for counts.
pub(crate) fn below(random: &mut Random, end: u32) -> u32 {
    u32::try_from(random.below(end as usize)).unwrap()
}

/// One to three different ones, separated by spaces.
fn some_of(random: &mut Random, from: &[String]) -> String {
    let mut picked: Vec<&str> = (0..=random.below(3)).map(|_| from[random.below(from.len())].as_str()).collect();
    picked.sort_unstable();
    picked.dedup();
    picked.join(" ")
}

/// A valid graph and the topics it reads. Their partition counts may still not fit.
pub(crate) fn random_graph(random: &mut Random) -> (Topology, PartitionCounts) {
    let mut graph = Topology::default();
    let mut existing = PartitionCounts::new();
    let usual = 1 + below(random, 6);
    let mut parents: Vec<String> = Vec::new();
    let mut processors: Vec<String> = Vec::new();
    for i in 0..1 + below(random, 4) {
        let name = format!("S{i}");
        let topics: Vec<String> = (0..1 + below(random, 2)).map(|j| format!("t{i}-{j}")).collect();
        for topic in &topics {
            let count = if random.once_in(8) { 1 + below(random, 6) } else { usual };
            existing.insert(topic.clone(), count);
        }
        if random.once_in(6) {
            graph = graph.pattern(&name, &format!("t{i}-.*"));
        } else {
            graph = graph.source(&name, &topics.join(" "));
        }
        parents.push(name);
        if random.once_in(5) {
            let (store, topic) = (format!("g{i}"), format!("global{i}"));
            graph = graph.global(&store, &format!("GS{i}"), &topic, &format!("GP{i}")).store(&store);
            existing.insert(topic, 1 + below(random, 9));
        }
    }
    for i in 0..below(random, 12) {
        let name = format!("P{i}");
        graph = graph.processor(&name, &some_of(random, &parents), "");
        processors.push(name.clone());
        parents.push(name);
        if random.once_in(4) {
            let topic = format!("r{i}-repartition");
            let declared = random.once_in(3).then(|| 1 + below(random, 6));
            graph = graph.sink(&format!("RK{i}"), &some_of(random, &parents), &topic).repartition(&topic, declared);
            graph = graph.source(&format!("RS{i}"), &topic);
            parents.push(format!("RS{i}"));
        }
    }
    for i in 0..below(random, 4) {
        let parents = some_of(random, &parents);
        let name = format!("K{i}");
        graph = if random.once_in(4) {
            graph.dynamic_sink(&name, &parents)
        } else {
            graph.sink(&name, &parents, &format!("out{i}"))
        };
    }
    for i in 0..if processors.is_empty() { 0 } else { below(random, 4) } {
        let store = format!("s{i}");
        graph = if random.once_in(3) { graph.window_store(&store, 10, 20) } else { graph.store(&store) };
        for user in names(&some_of(random, &processors)) {
            let node = graph.processors.iter_mut().find(|node| node.name == user).unwrap();
            node.stores.push(store.clone());
        }
    }
    let read: Vec<String> = graph.sources.iter().flat_map(|source| source.topics.clone()).collect();
    if !read.is_empty() && random.once_in(3) {
        graph = graph.copartitioned(&some_of(random, &read));
    }
    (graph, existing)
}

/// What the `range` assignor gives to one of the members, all of which read all topics.
pub(crate) fn range_assignment(partitioning: &Partitioning, member: u32, members: u32) -> Vec<TopicPartition> {
    let mut assigned = Vec::new();
    for topic in partitioning.subscription() {
        let (each, more) = (topic.partitions / members, topic.partitions % members);
        let first = member * each + member.min(more);
        let count = each + u32::from(member < more);
        assigned
            .extend((first..first + count).map(|partition| TopicPartition::new(topic.full_name.clone(), partition)));
    }
    assigned
}

/// What a hostile or broken module might declare: a valid graph with some of its parts replaced.
pub(crate) fn hostile_graph(random: &mut Random) -> (Topology, PartitionCounts) {
    let (mut graph, mut existing) = random_graph(random);
    for _ in 0..random.below(4) {
        break_something(random, &mut graph);
    }
    for count in existing.values_mut() {
        if random.once_in(20) {
            *count = [0, 1, u32::MAX][random.below(3)];
        }
    }
    (graph, existing)
}

fn break_something(random: &mut Random, graph: &mut Topology) {
    let name = hostile_name(random, graph);
    match random.below(16) {
        0 => *graph = std::mem::take(graph).source(&name, ""),
        1 => *graph = std::mem::take(graph).pattern(&name, &hostile_pattern(random)),
        2 => *graph = std::mem::take(graph).processor(&name, "", ""),
        3 => *graph = std::mem::take(graph).store(&name),
        4 => *graph = std::mem::take(graph).repartition(&name, [None, Some(0), Some(u32::MAX)][random.below(3)]),
        5 => graph.copartitioned.push(vec![name]),
        6 => *graph = std::mem::take(graph).global(&name, "S0", &name, &name),
        7 => drop(take(random, &mut graph.sources)),
        8 => drop(take(random, &mut graph.processors)),
        9 => drop(take(random, &mut graph.sinks)),
        10 => drop(take(random, &mut graph.stores)),
        11 => drop(take(random, &mut graph.repartitions)),
        12 => {
            if let Some(mut source) = take(random, &mut graph.sources) {
                if random.once_in(3) {
                    source.pattern = Some(hostile_pattern(random));
                } else {
                    source.topics.push(name);
                }
                graph.sources.insert(0, source);
            }
        }
        13 => {
            if let Some(mut node) = take(random, &mut graph.processors) {
                if random.once_in(2) {
                    node.parents.push(name)
                } else {
                    node.stores.push(name)
                }
                graph.processors.push(node);
            }
        }
        14 => {
            if let Some(mut sink) = take(random, &mut graph.sinks) {
                if random.once_in(2) {
                    sink.parents.push(name)
                } else {
                    sink.topic = Some(name)
                }
                graph.sinks.push(sink);
            }
        }
        _ => {
            if let Some(mut store) = take(random, &mut graph.stores) {
                let time = [i64::MIN, -1, 0, i64::MAX][random.below(4)];
                store.layout = match random.below(3) {
                    0 => {
                        Layout::Window(Windows { size_ms: time, retention_ms: -time.max(-1), retain_duplicates: true })
                    }
                    1 => Layout::Session(time),
                    _ => Layout::Versioned(time),
                };
                store.changelog_config.push((name, "\0".into()));
                graph.stores.push(store);
            }
        }
    }
}

fn take<T>(random: &mut Random, from: &mut Vec<T>) -> Option<T> {
    let index = (!from.is_empty()).then(|| random.below(from.len()))?;
    Some(from.remove(index))
}

/// One that occurs in the graph, or one that no graph should have.
fn hostile_name(random: &mut Random, graph: &Topology) -> String {
    let known: Vec<&String> = (graph.sources.iter().flat_map(|source| source.topics.iter().chain([&source.name])))
        .chain(graph.processors.iter().map(|node| &node.name))
        .chain(graph.sinks.iter().flat_map(|sink| sink.topic.iter().chain([&sink.name])))
        .chain(graph.stores.iter().map(|store| &store.name))
        .chain(graph.global_stores.iter().flat_map(|global| [&global.source, &global.processor, &global.topic]))
        .collect();
    if !known.is_empty() && !random.once_in(3) {
        return known[random.below(known.len())].clone();
    }
    let odd = [
        "",
        ".",
        "..",
        "a b",
        "ü",
        "\u{0}",
        "\n",
        "\"]",
        "\u{1f980}",
        "__consumer_offsets",
        "app-s0-changelog",
        "new",
        "x-topic",
    ];
    match random.below(odd.len() + 2) {
        0 => "x".repeat(249),
        1 => "\u{1f980}".repeat(100_000),
        other => odd[other - 2].to_owned(),
    }
}

fn hostile_pattern(random: &mut Random) -> String {
    let patterns = ["", ".*", "t.*", "(", ")(", "[^", "(?x)a #", "a{9999}", r"\pL", "(a*)*b", "new"];
    match random.below(patterns.len() + 1) {
        0 => "(".repeat(1_000) + &")".repeat(1_000),
        other => patterns[other - 1].to_owned(),
    }
}
