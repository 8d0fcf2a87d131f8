//! Owns the rules a graph must keep before anything is derived from it. The graph comes from a
//! module, so nothing here may trust it: sizes first, then names, then what refers to what.

use std::collections::{BTreeSet, HashMap};

use super::error::TopologyError;
use super::graph::{Layout, Topology};
use super::names::{
    MAX_NAME_LEN, changelog_topic, check_node_name, check_topic_name, internal_topic, is_reserved, shorten,
};
use super::pattern::Pattern;

/// The largest applications we know of have some hundred nodes.
const MAX_NODES: usize = 4_096;
/// Each is a column family and a changelog in every task.
const MAX_STORES: usize = 1_000;
/// Topics, parents and stores named by all nodes together, repeats included.
const MAX_REFERENCES: usize = 100_000;
/// Each is matched against every topic of the cluster.
const MAX_PATTERNS: usize = 100;
const MAX_CHANGELOG_CONFIGS: usize = 100;
/// More than a broker is advised to hold.
const MAX_PARTITIONS: u32 = 10_000;
/// What internal topics end in, by which Kafka's own tools know them; `-topic` is that of
/// foreign-key joins.
const INTERNAL_SUFFIXES: [&str; 2] = ["-repartition", "-topic"];

type Checked = Result<(), TopologyError>;

pub(super) fn check(application_id: &str, graph: &Topology) -> Checked {
    check_sizes(graph)?;
    check_names(application_id, graph)?;
    check_sources(graph)?;
    check_patterns(graph)?;
    let kinds = nodes_by_kind(graph)?;
    check_parents(graph, &kinds)?;
    check_acyclic(graph)?;
    check_stores(graph)?;
    check_store_use(graph)?;
    check_repartitions(graph)?;
    check_topics_of_others(application_id, graph)
}

fn check_sizes(graph: &Topology) -> Checked {
    let references = graph.sources.iter().map(|source| source.topics.len()).sum::<usize>()
        + graph.processors.iter().map(|node| node.parents.len() + node.stores.len()).sum::<usize>()
        + graph.sinks.iter().map(|sink| sink.parents.len()).sum::<usize>()
        + graph.copartitioned.iter().map(|group| group.len() + 1).sum::<usize>();
    let nodes = graph.sources.len() + graph.processors.len() + graph.sinks.len() + 2 * graph.global_stores.len();
    let patterns = graph.sources.iter().filter(|source| source.pattern.is_some()).count();
    let configs = graph.stores.iter().map(|store| store.changelog_config.len()).max().unwrap_or(0);
    for (what, count, limit) in [
        ("nodes", nodes, MAX_NODES),
        ("stores", graph.stores.len(), MAX_STORES),
        ("repartition topics", graph.repartitions.len(), MAX_NODES),
        ("topics, parents and stores of nodes", references, MAX_REFERENCES),
        ("patterns", patterns, MAX_PATTERNS),
        ("settings of one changelog", configs, MAX_CHANGELOG_CONFIGS),
    ] {
        if count > limit {
            return Err(TopologyError::TooMany { what, count, limit });
        }
    }
    if graph.sources.is_empty() && graph.global_stores.is_empty() {
        return Err(TopologyError::Empty);
    }
    Ok(())
}

/// Every name that occurs, so that later messages can show names as they are.
fn check_names(application_id: &str, graph: &Topology) -> Checked {
    check_topic_name("application id", application_id)?;
    let parents = graph.processors.iter().map(|node| &node.parents).chain(graph.sinks.iter().map(|sink| &sink.parents));
    let nodes = (graph.sources.iter().map(|source| &source.name))
        .chain(graph.processors.iter().map(|node| &node.name))
        .chain(graph.sinks.iter().map(|sink| &sink.name))
        .chain(graph.global_stores.iter().flat_map(|global| [&global.source, &global.processor]))
        .chain(parents.flatten());
    for name in nodes {
        check_node_name(name)?;
    }
    let topics = (graph.sources.iter().flat_map(|source| &source.topics))
        .chain(graph.sinks.iter().filter_map(|sink| sink.topic.as_ref()))
        .chain(graph.global_stores.iter().map(|global| &global.topic))
        .chain(graph.copartitioned.iter().flatten());
    for topic in topics {
        check_topic_name("topic", topic)?;
    }
    let stores = (graph.stores.iter().map(|store| &store.name))
        .chain(graph.processors.iter().flat_map(|node| &node.stores))
        .chain(graph.global_stores.iter().map(|global| &global.store));
    for store in stores {
        check_topic_name("store", store)?;
    }
    for store in graph.stores.iter().filter(|store| store.logged) {
        check_length(&changelog_topic(application_id, &store.name))?;
    }
    for repartition in &graph.repartitions {
        check_topic_name("repartition topic", &repartition.topic)?;
        check_length(&internal_topic(application_id, &repartition.topic))?;
    }
    Ok(())
}

fn check_length(internal_topic: &str) -> Checked {
    if internal_topic.len() <= MAX_NAME_LEN {
        return Ok(());
    }
    check_topic_name("internal topic", internal_topic)
}

fn check_sources(graph: &Topology) -> Checked {
    let mut readers: HashMap<&str, &str> = HashMap::new();
    for source in &graph.sources {
        match (source.topics.is_empty(), &source.pattern) {
            (true, None) => return Err(TopologyError::SourceWithoutTopics(source.name.clone())),
            (false, Some(_)) => return Err(TopologyError::SourceWithTopicsAndPattern(source.name.clone())),
            _ => {}
        }
    }
    let sources = graph.sources.iter().flat_map(|source| source.topics.iter().map(|topic| (topic, &source.name)));
    let globals = graph.global_stores.iter().map(|global| (&global.topic, &global.source));
    for (topic, reader) in sources.chain(globals) {
        if let Some(first) = readers.insert(topic, reader) {
            return Err(TopologyError::TopicReadTwice {
                topic: topic.clone(),
                first: first.to_owned(),
                second: reader.clone(),
            });
        }
    }
    Ok(())
}

fn check_patterns(graph: &Topology) -> Checked {
    for source in &graph.sources {
        let Some(text) = &source.pattern else { continue };
        let pattern = Pattern::new(text).map_err(|problem| TopologyError::Pattern {
            source_name: source.name.clone(),
            pattern: shorten(text),
            problem,
        })?;
        let sources = graph.sources.iter().flat_map(|other| other.topics.iter().map(|topic| (topic, &other.name)));
        let globals = graph.global_stores.iter().map(|global| (&global.topic, &global.source));
        if let Some((topic, other)) = sources.chain(globals).find(|(topic, _)| pattern.takes_in(topic)) {
            return Err(TopologyError::PatternTakesTopic {
                source_name: source.name.clone(),
                pattern: shorten(text),
                topic: topic.clone(),
                other: other.clone(),
            });
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inner,
    Sink,
    Global,
}

fn nodes_by_kind(graph: &Topology) -> Result<HashMap<&str, Kind>, TopologyError> {
    let nodes = (graph.sources.iter().map(|source| (&source.name, Kind::Inner)))
        .chain(graph.processors.iter().map(|node| (&node.name, Kind::Inner)))
        .chain(graph.sinks.iter().map(|sink| (&sink.name, Kind::Sink)))
        .chain(graph.global_stores.iter().flat_map(|g| [(&g.source, Kind::Global), (&g.processor, Kind::Global)]));
    let mut kinds = HashMap::new();
    for (name, kind) in nodes {
        if kinds.insert(name.as_str(), kind).is_some() {
            return Err(TopologyError::NodeTwice(name.clone()));
        }
    }
    Ok(kinds)
}

fn check_parents(graph: &Topology, kinds: &HashMap<&str, Kind>) -> Checked {
    let children = (graph.processors.iter().map(|node| (&node.name, &node.parents)))
        .chain(graph.sinks.iter().map(|sink| (&sink.name, &sink.parents)));
    for (node, parents) in children {
        if parents.is_empty() {
            return Err(TopologyError::NoParents(node.clone()));
        }
        let mut seen = BTreeSet::new();
        for parent in parents {
            let (node, parent) = (node.clone(), parent.clone());
            match kinds.get(parent.as_str()) {
                None => return Err(TopologyError::UnknownParent { node, parent }),
                Some(Kind::Sink) => return Err(TopologyError::SinkAsParent { node, parent }),
                Some(Kind::Global) => return Err(TopologyError::GlobalAsParent { node, parent }),
                Some(Kind::Inner) if seen.contains(&parent) => return Err(TopologyError::ParentTwice { node, parent }),
                Some(Kind::Inner) => seen.insert(parent),
            };
        }
    }
    Ok(())
}

/// Takes away nodes whose parents are all gone; what stays is on a cycle or behind one.
fn check_acyclic(graph: &Topology) -> Checked {
    let mut children: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut missing: Vec<usize> = Vec::new();
    for (index, node) in graph.processors.iter().enumerate() {
        missing.push(node.parents.len());
        for parent in &node.parents {
            children.entry(parent).or_default().push(index);
        }
    }
    let mut ready: Vec<&str> = graph.sources.iter().map(|source| source.name.as_str()).collect();
    while let Some(name) = ready.pop() {
        for &child in children.get(name).into_iter().flatten() {
            missing[child] -= 1;
            if missing[child] == 0 {
                ready.push(&graph.processors[child].name);
            }
        }
    }
    let stuck: Vec<&str> =
        missing.iter().zip(&graph.processors).filter(|(left, _)| **left > 0).map(|(_, p)| p.name.as_str()).collect();
    if stuck.is_empty() {
        return Ok(());
    }
    let more = if stuck.len() > 5 { ", …" } else { "" };
    Err(TopologyError::Cycle(stuck[..stuck.len().min(5)].join(", ") + more))
}

fn check_stores(graph: &Topology) -> Checked {
    let mut names = BTreeSet::new();
    for store in &graph.stores {
        if !names.insert(&store.name) {
            return Err(TopologyError::StoreTwice(store.name.clone()));
        }
        let problem = match &store.layout {
            Layout::Window(windows) if windows.size_ms < 0 => {
                format!("has windows of {} ms: make the size 0 or more", windows.size_ms)
            }
            Layout::Window(windows) if windows.retention_ms < windows.size_ms => format!(
                "keeps windows for {} ms but they are {} ms long: make the retention at least their size",
                windows.retention_ms, windows.size_ms
            ),
            Layout::Session(retention) | Layout::Versioned(retention) if *retention < 0 => {
                format!("keeps entries for {retention} ms: make the retention 0 or more")
            }
            Layout::Versioned(_) if store.cached => {
                "keeps versions and can't be cached: every one of them goes on at once".to_owned()
            }
            _ => match store.changelog_config.iter().find(|(key, _)| key.trim().is_empty()) {
                Some(_) => "has a changelog setting without a name: name it as Kafka's topic settings are".to_owned(),
                None => continue,
            },
        };
        return Err(TopologyError::Store { store: store.name.clone(), problem });
    }
    Ok(())
}

fn check_store_use(graph: &Topology) -> Checked {
    let declared: BTreeSet<&str> = graph.stores.iter().map(|store| store.name.as_str()).collect();
    let mut unused = declared.clone();
    let mut global = BTreeSet::new();
    for filled in &graph.global_stores {
        let (processor, store) = (filled.processor.clone(), filled.store.clone());
        if !declared.contains(store.as_str()) {
            return Err(TopologyError::UnknownGlobalStore { processor, store });
        }
        unused.remove(store.as_str());
        if !global.insert(filled.store.as_str()) {
            return Err(TopologyError::GlobalStoreTwice(store));
        }
    }
    for node in &graph.processors {
        let mut seen = BTreeSet::new();
        for name in &node.stores {
            let (processor, store) = (node.name.clone(), name.clone());
            if global.contains(name.as_str()) {
                return Err(TopologyError::GlobalStoreConnected { processor, store });
            }
            if !declared.contains(name.as_str()) {
                return Err(TopologyError::UnknownStore { processor, store });
            }
            if !seen.insert(name) {
                return Err(TopologyError::StoreNamedTwice { processor, store });
            }
            unused.remove(name.as_str());
        }
    }
    // In the order of the graph, so that the message is the same each time.
    match graph.stores.iter().find(|store| unused.contains(store.name.as_str())) {
        Some(store) => Err(TopologyError::UnusedStore(store.name.clone())),
        None => Ok(()),
    }
}

fn check_repartitions(graph: &Topology) -> Checked {
    let read: BTreeSet<&str> = graph.sources.iter().flat_map(|s| &s.topics).map(String::as_str).collect();
    let written: BTreeSet<&str> = graph.sinks.iter().filter_map(|sink| sink.topic.as_deref()).collect();
    let mut names = BTreeSet::new();
    for repartition in &graph.repartitions {
        let topic = repartition.topic.as_str();
        let problem = if !names.insert(topic) {
            "is declared twice: declare it once".to_owned()
        } else if !INTERNAL_SUFFIXES.iter().any(|suffix| topic.ends_with(suffix)) {
            "has another ending: let its name end in -repartition".to_owned()
        } else if let Some(count) = repartition.partitions.filter(|count| !(1..=MAX_PARTITIONS).contains(count)) {
            format!("is to have {count} partitions: choose 1 to {MAX_PARTITIONS}, or none to take those of its sources")
        } else if !written.contains(topic) {
            "is written by no sink: add one, or drop the topic".to_owned()
        } else if !read.contains(topic) {
            "is read by no source: add one, or drop the topic".to_owned()
        } else {
            continue;
        };
        return Err(TopologyError::Repartition { topic: topic.to_owned(), problem });
    }
    for topic in graph.copartitioned.iter().flatten() {
        if !read.contains(topic.as_str()) {
            return Err(TopologyError::CopartitionedUnread(topic.clone()));
        }
    }
    Ok(())
}

/// Topics that belong to Kafka, or to the host.
fn check_topics_of_others(application_id: &str, graph: &Topology) -> Checked {
    for sink in &graph.sinks {
        if let Some(topic) = sink.topic.as_ref().filter(|topic| is_reserved(topic)) {
            return Err(TopologyError::SinkIntoReserved { sink: sink.name.clone(), topic: topic.clone() });
        }
    }
    let repartitions = graph.repartitions.iter().map(|r| internal_topic(application_id, &r.topic));
    let changelogs = graph.stores.iter().filter(|s| s.logged).map(|s| changelog_topic(application_id, &s.name));
    let internal: BTreeSet<String> = repartitions.chain(changelogs).collect();
    let sources = graph.sources.iter().flat_map(|source| source.topics.iter().map(|topic| (&source.name, topic)));
    let globals = graph.global_stores.iter().map(|global| (&global.source, &global.topic));
    match sources.chain(globals).find(|(_, topic)| internal.contains(*topic)) {
        Some((source, topic)) => {
            Err(TopologyError::SourceReadsInternal { source_name: source.clone(), topic: topic.clone() })
        }
        None => Ok(()),
    }
}
