//! Owns a finished graph of nodes: what the host is told of it and what an instance runs. Must not
//! know whether it was written with the DSL or node by node.

mod by_hand;

use std::any::{Any, TypeId, type_name};
use std::sync::Arc;

use crate::TopologyError;
use crate::contract::{self, Graph, OffsetReset};
use crate::logic::{Logic, ProcessorInstance, SourceLogic};

/// What flows over an edge, compared when two nodes are connected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    id: TypeId,
    name: &'static str,
}

impl Shape {
    pub(crate) fn of<R: 'static>() -> Self {
        Self { id: TypeId::of::<R>(), name: type_name::<R>() }
    }
}

pub(crate) enum Kind {
    Source { logic: Arc<dyn SourceLogic>, topics: Vec<String>, pattern: Option<String>, reset: Option<OffsetReset> },
    Inner { logic: Arc<dyn Logic> },
    Sink { logic: Arc<dyn Logic>, topic: Option<String> },
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// What its children get. None: it has none.
    gives: Option<Shape>,
    pub(crate) parents: Vec<usize>,
    pub(crate) children: Vec<usize>,
    pub(crate) stores: Vec<String>,
}

impl Node {
    pub(crate) fn instantiate(&self) -> Option<Box<dyn ProcessorInstance>> {
        match &self.kind {
            Kind::Inner { logic } => logic.instantiate(),
            _ => None,
        }
    }
}

/// What fills a global store: a source of one topic, and the processor below it.
pub(crate) struct GlobalNodes {
    pub(crate) source: String,
    pub(crate) read: Arc<dyn SourceLogic>,
    pub(crate) topic: String,
    pub(crate) processor: String,
    pub(crate) logic: Arc<dyn Logic>,
    /// What the source gives.
    pub(crate) gives: Shape,
}

/// A store as it is declared, and what a processor needs to use it.
#[derive(Clone)]
pub(crate) struct StoreDefinition {
    pub(crate) declared: contract::Store,
    /// A `StoreSerdes` of the store's types.
    pub(crate) serdes: Arc<dyn Any + Send + Sync>,
}

/// A topology: sources, processors, sinks and stores, ready to be run by the host or by a
/// `TopologyTestDriver`. [`crate::StreamsBuilder::build`] makes one from the DSL.
#[derive(Default)]
pub struct Topology {
    pub(crate) nodes: Vec<Node>,
    pub(crate) stores: Vec<StoreDefinition>,
    /// The node to which a table's store belongs, by the position of the store.
    owners: Vec<Option<usize>>,
    repartitions: Vec<contract::Repartition>,
    globals: Vec<contract::GlobalStore>,
    /// Topics of streams and tables that are joined.
    copartitioned: Vec<Vec<String>>,
    /// The first mistake, told when the topology is used.
    error: Option<String>,
}

impl Topology {
    /// The topology, unless it was put together wrong.
    pub(crate) fn checked(mut self) -> Result<Self, TopologyError> {
        match self.error.take() {
            None => Ok(self),
            Some(error) => Err(TopologyError(error)),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    pub(crate) fn store(&self, name: &str) -> Option<usize> {
        self.stores.iter().position(|store| store.declared.name == name)
    }

    pub(crate) fn owner_of(&self, store: &str) -> Option<usize> {
        self.owners[self.store(store)?]
    }

    /// The source that reads a topic: the one that names it, else the one with a pattern.
    pub(crate) fn source_of(&self, topic: &str) -> Option<usize> {
        let reads =
            |node: &Node| matches!(&node.kind, Kind::Source { topics, .. } if topics.iter().any(|t| t == topic));
        let matches = |node: &Node| matches!(&node.kind, Kind::Source { pattern: Some(_), .. });
        self.nodes.iter().position(reads).or_else(|| self.nodes.iter().position(matches))
    }

    pub(crate) fn insert_source(&mut self, name: &str, kind: Kind, gives: Shape) -> Result<(), String> {
        if let Kind::Source { topics, pattern, .. } = &kind {
            self.check_source(name, topics, pattern.as_deref())?;
        }
        self.insert(name, kind, Some(gives), &[])
    }

    fn check_source(&self, name: &str, topics: &[String], pattern: Option<&str>) -> Result<(), String> {
        if topics.is_empty() && pattern.is_none() {
            return Err(format!("source {name} reads no topic: name at least one"));
        }
        for node in &self.nodes {
            let Kind::Source { topics: taken, pattern: other, .. } = &node.kind else { continue };
            if let Some(topic) = topics.iter().find(|topic| taken.contains(topic)) {
                return Err(format!(
                    "sources {} and {name} both read topic {topic}: read it once and branch",
                    node.name
                ));
            }
            if pattern.is_some() && other.is_some() {
                return Err(format!("sources {} and {name} both read a pattern: use one pattern for both", node.name));
            }
        }
        Ok(())
    }

    /// Adds a processor or a sink below its parents; `takes` must be what they give.
    pub(crate) fn insert_below(
        &mut self,
        name: &str,
        kind: Kind,
        takes: Shape,
        gives: Option<Shape>,
        parents: &[String],
    ) -> Result<(), String> {
        if parents.is_empty() {
            return Err(format!("node {name} has no parents: connect it to a source or a processor"));
        }
        let mut found = Vec::new();
        for parent in parents {
            let position = self.find(parent).ok_or_else(|| {
                format!("node {name} has the parent {parent}, which is unknown: add parents before their children")
            })?;
            match self.nodes[position].gives {
                None => {
                    return Err(format!(
                        "node {name} has the parent {parent}, which is a sink: sinks have no children"
                    ));
                }
                Some(given) if given.id != takes.id => {
                    return Err(format!(
                        "node {name} takes {} but its parent {parent} gives {}: use the same key and value types",
                        takes.name, given.name
                    ));
                }
                Some(_) => found.push(position),
            }
        }
        self.insert(name, kind, gives, &found)
    }

    fn insert(&mut self, name: &str, kind: Kind, gives: Option<Shape>, parents: &[usize]) -> Result<(), String> {
        if self.find(name).is_some() {
            return Err(format!("there are two nodes named {name}: names must be unique"));
        }
        let position = self.nodes.len();
        for &parent in parents {
            self.nodes[parent].children.push(position);
        }
        self.nodes.push(Node {
            name: name.to_owned(),
            kind,
            gives,
            parents: parents.to_vec(),
            children: Vec::new(),
            stores: Vec::new(),
        });
        Ok(())
    }

    pub(crate) fn insert_store(&mut self, store: StoreDefinition) -> Result<(), String> {
        let name = &store.declared.name;
        if self.store(name).is_some() {
            return Err(format!("there are two stores named {name}: names must be unique"));
        }
        self.stores.push(store);
        self.owners.push(None);
        Ok(())
    }

    /// Adds a store that belongs to the node, which forwards what is flushed from it.
    pub(crate) fn insert_owned(&mut self, node: &str, store: StoreDefinition) -> Result<(), String> {
        let name = store.declared.name.clone();
        self.insert_store(store)?;
        self.connect(node, &name)?;
        if let Some(owner) = self.owners.last_mut() {
            *owner = self.nodes.iter().position(|other| other.name == node);
        }
        Ok(())
    }

    /// Adds a store that every instance of the application fills: the nodes that do, and the store. The processor hands
    /// on nothing.
    pub(crate) fn insert_global(&mut self, filled: GlobalNodes, store: StoreDefinition) -> Result<(), String> {
        let GlobalNodes { source, read, topic, processor, logic, gives } = filled;
        let sources = self.nodes.iter().filter(|node| matches!(node.kind, Kind::Source { .. })).count();
        let position = contract::index(sources - self.globals.len());
        let kind = Kind::Source { logic: read, topics: vec![topic.clone()], pattern: None, reset: None };
        self.insert_source(&source, kind, gives)?;
        self.insert_below(&processor, Kind::Inner { logic }, gives, None, std::slice::from_ref(&source))?;
        let mut store = store;
        // The topic is its changelog, and nothing waits for its flushes.
        (store.declared.logged, store.declared.cached) = (false, false);
        let name = store.declared.name.clone();
        self.insert_store(store)?;
        self.connect(&processor, &name)?;
        self.globals.push(contract::GlobalStore { store: name, source, topic, processor, position });
        Ok(())
    }

    /// Whether a store is one that all processors may read.
    pub(crate) fn is_global(&self, store: &str) -> bool {
        self.globals.iter().any(|global| global.store == store)
    }

    pub(crate) fn connect(&mut self, node: &str, store: &str) -> Result<(), String> {
        if self.store(store).is_none() {
            return Err(format!("processor {node} uses the store {store}, which is unknown: add it first"));
        }
        let position = self.find(node).ok_or_else(|| format!("there is no processor {node} to use store {store}"))?;
        if self.is_global(store) {
            return Err(format!(
                "processor {node} names the global store {store}: every processor can read it, don't name it"
            ));
        }
        let node = &mut self.nodes[position];
        if !matches!(node.kind, Kind::Inner { .. }) {
            return Err(format!("{} is a source or a sink, which can't use the store {store}", node.name));
        }
        if !node.stores.iter().any(|known| known == store) {
            node.stores.push(store.to_owned());
        }
        Ok(())
    }

    pub(crate) fn insert_repartition(&mut self, topic: &str, partitions: Option<u32>) {
        if !self.repartitions.iter().any(|known| known.topic == topic) {
            self.repartitions.push(contract::Repartition { topic: topic.to_owned(), partitions });
        }
    }

    pub(crate) fn insert_copartitioned(&mut self, topics: Vec<String>) {
        if topics.len() > 1 && !self.copartitioned.contains(&topics) {
            self.copartitioned.push(topics);
        }
    }

    pub(crate) fn is_repartition(&self, topic: &str) -> bool {
        self.repartitions.iter().any(|known| known.topic == topic)
    }

    /// What the host is told. Stores that no processor uses are left out.
    pub(crate) fn graph(&self) -> Graph {
        let (mut sources, mut processors, mut sinks) = (Vec::new(), Vec::new(), Vec::new());
        let fills =
            |node: &Node| self.globals.iter().any(|global| [&global.source, &global.processor].contains(&&node.name));
        for node in self.nodes.iter().filter(|node| !fills(node)) {
            let parents = node.parents.iter().map(|&parent| self.nodes[parent].name.clone()).collect();
            let name = node.name.clone();
            match &node.kind {
                Kind::Source { logic, topics, pattern, reset } => sources.push(contract::Source {
                    name,
                    topics: topics.clone(),
                    pattern: pattern.clone(),
                    offset_reset: *reset,
                    extracts_timestamps: logic.extracts_timestamps(),
                }),
                Kind::Inner { .. } => {
                    processors.push(contract::Processor { name, parents, stores: node.stores.clone() });
                }
                Kind::Sink { topic, .. } => sinks.push(contract::Sink { name, parents, topic: topic.clone() }),
            }
        }
        let used = |store: &StoreDefinition| self.nodes.iter().any(|node| node.stores.contains(&store.declared.name));
        // What has no owner has nobody to forward what is flushed.
        let declared = |(store, owner): (&StoreDefinition, &Option<usize>)| contract::Store {
            cached: store.declared.cached && owner.is_some(),
            ..store.declared.clone()
        };
        Graph {
            sources,
            processors,
            sinks,
            repartitions: self.repartitions.clone(),
            stores: self.stores.iter().zip(&self.owners).filter(|(store, _)| used(store)).map(declared).collect(),
            global_stores: self.globals.clone(),
            copartitioned: self.copartitioned.clone(),
        }
    }
}
