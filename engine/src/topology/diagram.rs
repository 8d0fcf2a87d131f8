//! Owns what a drawing of a plan shows: topics, subtopologies with their nodes and stores, and what
//! flows between them. Must not know in which language it is drawn; see `dot` and `mermaid`.

use std::collections::BTreeMap;

use super::graph::{Layout, Store};
use super::plan::{FilledStore, Plan, Subtopology};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A topic other applications may read and write.
    Topic,
    /// A repartition topic.
    Internal,
    /// A pattern, or topics a module names by record.
    Unnamed,
    Source,
    Processor,
    Sink,
    Store,
}

/// One box. Its id has only letters and digits; the lines of its label are a module's own words.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) lines: Vec<String>,
    pub(super) shape: Shape,
}

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) id: u32,
    pub(super) title: String,
    pub(super) items: Vec<Item>,
}

#[derive(Debug)]
pub(super) struct Edge {
    pub(super) from: String,
    pub(super) to: String,
    /// Reads and writes of state, rather than a flow of records.
    pub(super) state: bool,
}

#[derive(Debug, Default)]
pub(super) struct Diagram {
    pub(super) topics: Vec<Item>,
    pub(super) clusters: Vec<Cluster>,
    pub(super) edges: Vec<Edge>,
    /// Ids of topics, by kind and name.
    ids: BTreeMap<(bool, String), String>,
}

impl Diagram {
    pub(super) fn of(plan: &Plan) -> Self {
        let mut diagram = Self::default();
        for subtopology in plan.subtopologies() {
            diagram.add_subtopology(plan, subtopology);
        }
        for global in plan.global_stores() {
            diagram.add_global_store(plan, global);
        }
        diagram.clusters.sort_by_key(|cluster| cluster.id);
        diagram
    }

    fn add_subtopology(&mut self, plan: &Plan, subtopology: &Subtopology) {
        let mut items: Vec<Item> = Vec::new();
        let mut ids: BTreeMap<&str, String> = BTreeMap::new();
        let mut add = |name: &str, lines: Vec<String>, shape, of: char| {
            let id = format!("{of}{}x{}", subtopology.id, items.len());
            items.push(Item { id: id.clone(), lines: [vec![name.to_owned()], lines].concat(), shape });
            id
        };
        for source in &subtopology.sources {
            let id = add(&source.name, Vec::new(), Shape::Source, 'n');
            for topic in &source.topics {
                let topic = self.topic(plan, topic);
                self.flow(&topic, &id);
            }
            if let Some(pattern) = &source.pattern {
                let topic = self.unnamed(&format!("topics like {pattern}"));
                self.flow(&topic, &id);
            }
            ids.insert(&source.name, id);
        }
        for processor in &subtopology.processors {
            ids.insert(&processor.name, add(&processor.name, Vec::new(), Shape::Processor, 'n'));
        }
        for sink in &subtopology.sinks {
            let id = add(&sink.name, Vec::new(), Shape::Sink, 'n');
            let topic = match &sink.topic {
                Some(topic) => self.topic(plan, topic),
                None => self.unnamed("topics named by record"),
            };
            self.flow(&id, &topic);
            ids.insert(&sink.name, id);
        }
        let stores: BTreeMap<&str, String> = subtopology
            .stores
            .iter()
            .map(|store| (store.name.as_str(), add(&store.name, traits_of(store), Shape::Store, 's')))
            .collect();
        let processors = subtopology.processors.iter().map(|node| (&node.name, &node.parents));
        for (name, parents) in processors.chain(subtopology.sinks.iter().map(|sink| (&sink.name, &sink.parents))) {
            for parent in parents {
                self.flow(&ids[parent.as_str()], &ids[name.as_str()]);
            }
        }
        for processor in &subtopology.processors {
            for store in &processor.stores {
                let (from, to) = (ids[processor.name.as_str()].clone(), stores[store.as_str()].clone());
                self.edges.push(Edge { from, to, state: true });
            }
        }
        let title = format!("Subtopology {}", subtopology.id);
        self.clusters.push(Cluster { id: subtopology.id, title, items });
    }

    fn add_global_store(&mut self, plan: &Plan, global: &FilledStore) {
        let (id, filled) = (global.id, &global.filled);
        let item = |of: &str, lines: Vec<String>, shape| Item { id: format!("{of}{id}"), lines, shape };
        let items = vec![
            item("gn", vec![filled.source.clone()], Shape::Source),
            item("gp", vec![filled.processor.clone()], Shape::Processor),
            item("gs", vec![global.store.name.clone()], Shape::Store),
        ];
        let topic = self.topic(plan, &filled.topic);
        self.flow(&topic, &items[0].id);
        self.flow(&items[0].id, &items[1].id);
        self.edges.push(Edge { from: items[1].id.clone(), to: items[2].id.clone(), state: true });
        self.clusters.push(Cluster { id, title: "Global store, on every instance".to_owned(), items });
    }

    fn topic(&mut self, plan: &Plan, name: &str) -> String {
        let shape = if plan.is_repartition(name) { Shape::Internal } else { Shape::Topic };
        self.outside((true, name.to_owned()), shape)
    }

    fn unnamed(&mut self, label: &str) -> String {
        self.outside((false, label.to_owned()), Shape::Unnamed)
    }

    fn outside(&mut self, key: (bool, String), shape: Shape) -> String {
        let next = format!("t{}", self.topics.len());
        let id = self.ids.entry(key.clone()).or_insert_with(|| {
            self.topics.push(Item { id: next.clone(), lines: vec![key.1], shape });
            next
        });
        id.clone()
    }

    fn flow(&mut self, from: &str, to: &str) {
        self.edges.push(Edge { from: from.to_owned(), to: to.to_owned(), state: false });
    }
}

/// What is unlike the plain store: key-value, persistent, with a changelog.
fn traits_of(store: &Store) -> Vec<String> {
    let layout = match store.layout {
        Layout::KeyValue => None,
        Layout::Window(_) => Some("windows"),
        Layout::Session(_) => Some("sessions"),
        Layout::Versioned(_) => Some("versioned"),
    };
    let memory = (!store.persistent).then_some("in memory");
    let logged = (!store.logged).then_some("no changelog");
    let traits: Vec<&str> = [layout, memory, logged].into_iter().flatten().collect();
    if traits.is_empty() { Vec::new() } else { vec![traits.join(", ")] }
}
