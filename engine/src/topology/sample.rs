//! Owns a short way to write graphs down in tests.

use super::graph::{
    Format, GlobalStore, Layout, OffsetReset, Processor, Repartition, Sink, Source, Store, Topology, Windows,
};
use super::partitioning::{PartitionCounts, Partitioning};
use crate::record::TopicPartition;

pub(crate) fn names(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

pub(crate) fn counts(list: &[(&str, u32)]) -> PartitionCounts {
    list.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
}

/// Names are given separated by spaces.
impl Topology {
    pub(crate) fn source(mut self, name: &str, topics: &str) -> Self {
        self.sources.push(Source {
            name: name.into(),
            topics: names(topics),
            pattern: None,
            offset_reset: Some(OffsetReset::Earliest),
            extracts_timestamps: false,
        });
        self
    }

    pub(crate) fn pattern(mut self, name: &str, pattern: &str) -> Self {
        self.sources.push(Source {
            name: name.into(),
            topics: Vec::new(),
            pattern: Some(pattern.into()),
            offset_reset: None,
            extracts_timestamps: true,
        });
        self
    }

    pub(crate) fn processor(mut self, name: &str, parents: &str, stores: &str) -> Self {
        self.processors.push(Processor { name: name.into(), parents: names(parents), stores: names(stores) });
        self
    }

    pub(crate) fn sink(mut self, name: &str, parents: &str, topic: &str) -> Self {
        self.sinks.push(Sink { name: name.into(), parents: names(parents), topic: Some(topic.into()) });
        self
    }

    pub(crate) fn dynamic_sink(mut self, name: &str, parents: &str) -> Self {
        self.sinks.push(Sink { name: name.into(), parents: names(parents), topic: None });
        self
    }

    pub(crate) fn repartition(mut self, topic: &str, partitions: Option<u32>) -> Self {
        self.repartitions.push(Repartition { topic: topic.into(), partitions });
        self
    }

    pub(crate) fn store(mut self, name: &str) -> Self {
        self.stores.push(store(name, Layout::KeyValue));
        self
    }

    pub(crate) fn window_store(mut self, name: &str, size_ms: i64, retention_ms: i64) -> Self {
        let windows = Windows { size_ms, retention_ms, retain_duplicates: true };
        self.stores.push(store(name, Layout::Window(windows)));
        self
    }

    pub(crate) fn global(mut self, store: &str, source: &str, topic: &str, processor: &str) -> Self {
        self.global_stores.push(GlobalStore {
            store: store.into(),
            source: source.into(),
            topic: topic.into(),
            processor: processor.into(),
            position: u32::try_from(self.sources.len()).unwrap(),
        });
        self
    }

    pub(crate) fn copartitioned(mut self, topics: &str) -> Self {
        self.copartitioned.push(names(topics));
        self
    }
}

fn store(name: &str, layout: Layout) -> Store {
    Store {
        name: name.into(),
        layout,
        format: Format::default(),
        persistent: true,
        logged: true,
        cached: false,
        changelog_config: Vec::new(),
    }
}

/// The reference topology: counts per key.
pub(crate) fn word_count() -> Topology {
    Topology::default()
        .source("KSTREAM-SOURCE-0000000000", "input-topic")
        .processor("KSTREAM-AGGREGATE-0000000002", "KSTREAM-SOURCE-0000000000", "count-store")
        .processor("KTABLE-TOSTREAM-0000000006", "KSTREAM-AGGREGATE-0000000002", "")
        .sink("KSTREAM-SINK-0000000007", "KTABLE-TOSTREAM-0000000006", "counts-topic")
        .store("count-store")
}

/// Numbers by chance, the same for the same seed (`splitmix64`).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.next() % u64::from(limit)).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(u32::try_from(from.len()).unwrap()) as usize].clone()
    }

    /// One to three different ones, separated by spaces.
    pub(crate) fn some_of(&mut self, from: &[String]) -> String {
        let mut picked: Vec<String> = (0..=self.below(3)).map(|_| self.pick(from)).collect();
        picked.sort();
        picked.dedup();
        picked.join(" ")
    }
}

/// A valid graph and the topics it reads. Their partition counts may still not fit.
pub(crate) fn random_graph(random: &mut Random) -> (Topology, PartitionCounts) {
    let mut graph = Topology::default();
    let mut existing = PartitionCounts::new();
    let usual = 1 + random.below(6);
    let mut parents: Vec<String> = Vec::new();
    let mut processors: Vec<String> = Vec::new();
    for i in 0..1 + random.below(4) {
        let name = format!("S{i}");
        let topics: Vec<String> = (0..1 + random.below(2)).map(|j| format!("t{i}-{j}")).collect();
        for topic in &topics {
            let count = if random.one_in(8) { 1 + random.below(6) } else { usual };
            existing.insert(topic.clone(), count);
        }
        if random.one_in(6) {
            graph = graph.pattern(&name, &format!("t{i}-.*"));
        } else {
            graph = graph.source(&name, &topics.join(" "));
        }
        parents.push(name);
        if random.one_in(5) {
            let (store, topic) = (format!("g{i}"), format!("global{i}"));
            graph = graph.global(&store, &format!("GS{i}"), &topic, &format!("GP{i}")).store(&store);
            existing.insert(topic, 1 + random.below(9));
        }
    }
    for i in 0..random.below(12) {
        let name = format!("P{i}");
        graph = graph.processor(&name, &random.some_of(&parents), "");
        processors.push(name.clone());
        parents.push(name);
        if random.one_in(4) {
            let topic = format!("r{i}-repartition");
            let declared = random.one_in(3).then(|| 1 + random.below(6));
            graph = graph.sink(&format!("RK{i}"), &random.some_of(&parents), &topic).repartition(&topic, declared);
            graph = graph.source(&format!("RS{i}"), &topic);
            parents.push(format!("RS{i}"));
        }
    }
    for i in 0..random.below(4) {
        let parents = random.some_of(&parents);
        let name = format!("K{i}");
        graph = if random.one_in(4) {
            graph.dynamic_sink(&name, &parents)
        } else {
            graph.sink(&name, &parents, &format!("out{i}"))
        };
    }
    for i in 0..if processors.is_empty() { 0 } else { random.below(4) } {
        let store = format!("s{i}");
        graph = if random.one_in(3) { graph.window_store(&store, 10, 20) } else { graph.store(&store) };
        for user in names(&random.some_of(&processors)) {
            let node = graph.processors.iter_mut().find(|node| node.name == user).unwrap();
            node.stores.push(store.clone());
        }
    }
    let read: Vec<String> = graph.sources.iter().flat_map(|source| source.topics.clone()).collect();
    if !read.is_empty() && random.one_in(3) {
        graph = graph.copartitioned(&random.some_of(&read));
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
