//! Owns the way from the declared graph to the engine's. Must not judge it.

use millrace_engine::topology as engine;

use super::bindings::millrace::streams::graph;

impl From<graph::Topology> for engine::Topology {
    fn from(declared: graph::Topology) -> Self {
        Self {
            sources: declared.sources.into_iter().map(source).collect(),
            processors: declared.processors.into_iter().map(processor).collect(),
            sinks: declared.sinks.into_iter().map(sink).collect(),
            repartitions: declared.repartitions.into_iter().map(repartition).collect(),
            stores: declared.stores.into_iter().map(store).collect(),
            global_stores: declared.global_stores.into_iter().map(global_store).collect(),
            copartitioned: declared.copartitioned,
        }
    }
}

fn source(graph::Source { name, topics, pattern, offset_reset, extracts_timestamps }: graph::Source) -> engine::Source {
    let offset_reset = offset_reset.map(|reset| match reset {
        graph::OffsetReset::Earliest => engine::OffsetReset::Earliest,
        graph::OffsetReset::Latest => engine::OffsetReset::Latest,
        graph::OffsetReset::None => engine::OffsetReset::None,
    });
    engine::Source { name, topics, pattern, offset_reset, extracts_timestamps }
}

fn processor(graph::Processor { name, parents, stores }: graph::Processor) -> engine::Processor {
    engine::Processor { name, parents, stores }
}

fn sink(graph::Sink { name, parents, topic }: graph::Sink) -> engine::Sink {
    engine::Sink { name, parents, topic }
}

fn repartition(graph::Repartition { topic, partitions }: graph::Repartition) -> engine::Repartition {
    engine::Repartition { topic, partitions }
}

fn store(declared: graph::Store) -> engine::Store {
    let graph::Store { name, layout, format, persistent, logged, cached, changelog_config } = declared;
    let layout = match layout {
        graph::Layout::KeyValue => engine::Layout::KeyValue,
        graph::Layout::Window(graph::Windows { size_ms, retention_ms, retain_duplicates }) => {
            engine::Layout::Window(engine::Windows { size_ms, retention_ms, retain_duplicates })
        }
        graph::Layout::Session(retention_ms) => engine::Layout::Session(retention_ms),
        graph::Layout::Versioned(retention_ms) => engine::Layout::Versioned(retention_ms),
    };
    let format = engine::Format { key: format.key, value: format.value };
    engine::Store { name, layout, format, persistent, logged, cached, changelog_config }
}

fn global_store(declared: graph::GlobalStore) -> engine::GlobalStore {
    let graph::GlobalStore { store, source, topic, processor, position } = declared;
    engine::GlobalStore { store, source, topic, processor, position }
}
