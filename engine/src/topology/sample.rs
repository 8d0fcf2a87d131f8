//! Owns a short way to write graphs down in tests.

use super::graph::{
    Format, GlobalStore, Layout, OffsetReset, Processor, Repartition, Sink, Source, Store, Topology, Windows,
};
use super::partitioning::PartitionCounts;

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
