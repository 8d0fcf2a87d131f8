//! Owns what follows from a graph alone: its subtopologies with Kafka Streams' numbers, and the
//! full names of topics. Must not know partition counts; see `partitioning` for what they add.

use std::collections::{BTreeSet, HashMap};

use super::check::check;
use super::error::TopologyError;
use super::graph::{GlobalStore, Processor, Repartition, Sink, Source, Store, Topology};
use super::names::{changelog_topic, internal_topic};
use super::union::Union;

/// A valid topology of one application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    application_id: String,
    subtopologies: Vec<Subtopology>,
    global_stores: Vec<FilledStore>,
    repartitions: Vec<Repartition>,
    /// Of each repartition topic.
    full_names: HashMap<String, String>,
    copartitioned: Vec<Vec<String>>,
}

/// The nodes that are connected, by records or by stores, each kind in the order of the graph. A
/// task runs one subtopology for one partition number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subtopology {
    pub id: u32,
    pub sources: Vec<Source>,
    pub processors: Vec<Processor>,
    pub sinks: Vec<Sink>,
    /// A [`crate::ports::StoreIndex`] is a position in here.
    pub stores: Vec<Store>,
}

/// A global store. It has a subtopology's number, as in Kafka Streams, but no tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilledStore {
    pub id: u32,
    pub filled: GlobalStore,
    pub store: Store,
}

impl Plan {
    pub fn new(application_id: &str, graph: Topology) -> Result<Self, TopologyError> {
        check(application_id, &graph)?;
        let mut plan = Self {
            application_id: application_id.to_owned(),
            subtopologies: Vec::new(),
            global_stores: Vec::new(),
            full_names: HashMap::new(),
            repartitions: Vec::new(),
            copartitioned: Vec::new(),
        };
        let numbers = plan.number(&graph);
        plan.distribute(graph, &numbers);
        Ok(plan)
    }

    #[must_use]
    pub fn application_id(&self) -> &str {
        &self.application_id
    }

    /// By ascending id. The ids have gaps where global stores took a number.
    #[must_use]
    pub fn subtopologies(&self) -> &[Subtopology] {
        &self.subtopologies
    }

    #[must_use]
    pub fn subtopology(&self, id: u32) -> Option<&Subtopology> {
        self.subtopologies.iter().find(|subtopology| subtopology.id == id)
    }

    #[must_use]
    pub fn global_stores(&self) -> &[FilledStore] {
        &self.global_stores
    }

    #[must_use]
    pub fn repartitions(&self) -> &[Repartition] {
        &self.repartitions
    }

    /// Groups of topics, under their names in the graph, that must have equal partition counts.
    #[must_use]
    pub fn copartitioned(&self) -> &[Vec<String>] {
        &self.copartitioned
    }

    /// What Kafka calls a topic that the graph, or a module's output, calls `topic`.
    #[must_use]
    pub fn full_name<'a>(&'a self, topic: &'a str) -> &'a str {
        self.full_names.get(topic).map_or(topic, String::as_str)
    }

    #[must_use]
    pub fn is_repartition(&self, topic: &str) -> bool {
        self.full_names.contains_key(topic)
    }

    /// The changelog of a store of a subtopology, `None` if it has none.
    #[must_use]
    pub fn changelog(&self, store: &Store) -> Option<String> {
        store.logged.then(|| changelog_topic(&self.application_id, &store.name))
    }

    /// The topics other applications write, under which names they must exist. What patterns take
    /// in is not among them.
    #[must_use]
    pub fn external_topics(&self) -> BTreeSet<&str> {
        let read = self.subtopologies.iter().flat_map(|subtopology| &subtopology.sources);
        let globals = self.global_stores.iter().map(|global| global.filled.topic.as_str());
        read.flat_map(|source| &source.topics)
            .map(String::as_str)
            .filter(|topic| !self.is_repartition(topic))
            .chain(globals)
            .collect()
    }

    /// Gives every connected group of nodes its number and makes the empty subtopologies. Kafka
    /// Streams numbers groups by their first node in the order of declaration, and a group's first
    /// node is always a source, since parents come before children.
    fn number(&mut self, graph: &Topology) -> HashMap<String, usize> {
        let mut groups = Groups::connect(graph);
        let mut next_id = 0;
        let mut of_root: HashMap<usize, usize> = HashMap::new();
        let mut globals: Vec<&GlobalStore> = graph.global_stores.iter().collect();
        globals.sort_by_key(|global| global.position);
        let mut globals = globals.into_iter().peekable();
        let stores: HashMap<&str, &Store> = graph.stores.iter().map(|store| (store.name.as_str(), store)).collect();
        let mut take_globals = |next_id: &mut u32, before: u32| {
            while let Some(global) = globals.next_if(|global| global.position <= before) {
                if let Some(store) = stores.get(global.store.as_str()) {
                    let (filled, store) = (global.clone(), (*store).clone());
                    self.global_stores.push(FilledStore { id: *next_id, filled, store });
                    *next_id += 1;
                }
            }
        };
        for (position, source) in (0_u32..).zip(&graph.sources) {
            take_globals(&mut next_id, position);
            of_root.entry(groups.root_of(&source.name)).or_insert_with(|| {
                self.subtopologies.push(Subtopology { id: next_id, ..Subtopology::default() });
                next_id += 1;
                self.subtopologies.len() - 1
            });
        }
        take_globals(&mut next_id, u32::MAX);
        node_names(graph).map(|name| (name.clone(), of_root[&groups.root_of(name)])).collect()
    }

    /// Moves every node and store into its subtopology; `numbers` has the index for each node.
    fn distribute(&mut self, graph: Topology, numbers: &HashMap<String, usize>) {
        let mut of_store: HashMap<String, usize> = HashMap::new();
        for source in graph.sources {
            self.subtopologies[numbers[&source.name]].sources.push(source);
        }
        for processor in graph.processors {
            let number = numbers[&processor.name];
            of_store.extend(processor.stores.iter().map(|store| (store.clone(), number)));
            self.subtopologies[number].processors.push(processor);
        }
        for sink in graph.sinks {
            self.subtopologies[numbers[&sink.name]].sinks.push(sink);
        }
        for store in graph.stores {
            // The others belong to global stores.
            if let Some(&number) = of_store.get(&store.name) {
                self.subtopologies[number].stores.push(store);
            }
        }
        let topics = graph.repartitions.iter().map(|repartition| repartition.topic.clone());
        self.full_names = topics.map(|topic| (topic.clone(), internal_topic(&self.application_id, &topic))).collect();
        self.repartitions = graph.repartitions;
        self.copartitioned = graph.copartitioned;
    }
}

/// The nodes of a checked graph, connected through parents and through stores.
struct Groups {
    of_node: HashMap<String, usize>,
    union: Union,
}

impl Groups {
    fn connect(graph: &Topology) -> Self {
        let of_node: HashMap<String, usize> =
            node_names(graph).enumerate().map(|(index, name)| (name.clone(), index)).collect();
        let mut union = Union::new(of_node.len());
        let processors = graph.processors.iter().map(|node| (&node.name, &node.parents));
        for (node, parents) in processors.chain(graph.sinks.iter().map(|sink| (&sink.name, &sink.parents))) {
            for parent in parents {
                union.unite(of_node[node], of_node[parent]);
            }
        }
        let mut users: HashMap<&str, usize> = HashMap::new();
        for processor in &graph.processors {
            let user = of_node[&processor.name];
            for store in &processor.stores {
                union.unite(*users.entry(store).or_insert(user), user);
            }
        }
        Self { of_node, union }
    }

    fn root_of(&mut self, node: &str) -> usize {
        self.union.root(self.of_node[node])
    }
}

fn node_names(graph: &Topology) -> impl Iterator<Item = &String> {
    let sources = graph.sources.iter().map(|source| &source.name);
    let processors = graph.processors.iter().map(|processor| &processor.name);
    sources.chain(processors).chain(graph.sinks.iter().map(|sink| &sink.name))
}
