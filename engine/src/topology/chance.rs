//! Owns graphs made by chance for tests, good ones and hostile ones.

use super::graph::Topology;
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
