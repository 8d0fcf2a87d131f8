//! Owns the text of a plan, to the letter what `Topology#describe` prints in Kafka Streams 4.3 on
//! Java 17, so that the two can be compared with `diff`.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Write};

use super::java_order::{TreeSet, compare, copied, grown, hash_order};
use super::plan::{FilledStore, Plan, Subtopology};

/// Where Kafka Streams prints the address of a lambda.
const DYNAMIC_SINK: &str = "module";
/// The order of siblings in Kafka Streams hangs on the order in which edges are met. Above this
/// many edges, which nobody compares by eye, it is that of the nodes: finding theirs takes a time
/// that grows with the square of the edges.
const MAX_EDGES_IN_JAVA_ORDER: usize = 2_000;

impl Plan {
    /// As Kafka Streams describes the same topology.
    #[must_use]
    pub fn describe(&self) -> String {
        let globals = self.global_stores().iter().map(|global| (global.id, describe_global(global)));
        let subtopologies = self.subtopologies().iter().map(|sub| (sub.id, Description::of(sub).to_string()));
        let mut parts: Vec<(u32, String)> = globals.chain(subtopologies).collect();
        parts.sort_by_key(|(id, _)| *id);
        parts.into_iter().fold("Topologies:\n ".to_owned(), |text, (_, part)| text + "  " + &part)
    }
}

fn describe_global(global: &FilledStore) -> String {
    let (id, store, filled) = (global.id, &global.store.name, &global.filled);
    format!(
        "Sub-topology: {id} for global store (will not generate tasks)\n\
         \x20   Source: {source} (topics: [{topic}])\n      --> {processor}\n\
         \x20   Processor: {processor} (stores: [{store}])\n      --> none\n      <-- {source}\n",
        source = filled.source,
        topic = filled.topic,
        processor = filled.processor,
    )
}

/// The nodes of a subtopology as positions in `nodes`.
struct Description<'a> {
    id: u32,
    nodes: Vec<Node<'a>>,
    /// Of each node, one more than the number of paths that start there.
    sizes: Vec<u64>,
    predecessors: Vec<TreeSet>,
    successors: Vec<TreeSet>,
}

struct Node<'a> {
    name: &'a str,
    parents: &'a [String],
    /// The first line without the name: kind, and what is in brackets.
    kind: &'static str,
    details: String,
}

impl<'a> Description<'a> {
    fn of(subtopology: &'a Subtopology) -> Self {
        let nodes = in_order_of_creation(nodes_of(subtopology));
        let mut description = Self {
            id: subtopology.id,
            sizes: vec![1; nodes.len()],
            predecessors: nodes.iter().map(|_| TreeSet::default()).collect(),
            successors: nodes.iter().map(|_| TreeSet::default()).collect(),
            nodes,
        };
        description.connect();
        description
    }

    /// Hangs nodes below each other as Kafka Streams does, sizes growing meanwhile.
    fn connect(&mut self) {
        let position: HashMap<&str, usize> = self.nodes.iter().enumerate().map(|(i, node)| (node.name, i)).collect();
        let edges: usize = self.nodes.iter().map(|node| node.parents.len()).sum();
        let order = if edges <= MAX_EDGES_IN_JAVA_ORDER {
            let mut names: Vec<&str> = self.nodes.iter().map(|node| node.name).collect();
            let capacity = grown(names.len());
            hash_order(&mut names, capacity);
            names.into_iter().map(|name| position[name]).collect()
        } else {
            self.children_first(&position)
        };
        let mut connected: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for child in order {
            let parents = self.nodes[child].parents;
            for parent in parents.iter().map(|name| position[name.as_str()]) {
                let mut predecessors = std::mem::take(&mut self.predecessors[child]);
                predecessors.insert(parent, |one, other| self.compare(one, other));
                self.predecessors[child] = predecessors;
                let mut successors = std::mem::take(&mut self.successors[parent]);
                successors.insert(child, |one, other| self.compare(one, other));
                self.successors[parent] = successors;
                connected[child].push(parent);
                self.grow(parent, self.sizes[child], &connected);
            }
        }
    }

    /// With every child connected before its parents, a growing node has no parents yet.
    fn children_first(&self, position: &HashMap<&str, usize>) -> Vec<usize> {
        let mut unmet = vec![0_usize; self.nodes.len()];
        for parent in self.nodes.iter().flat_map(|node| node.parents) {
            unmet[position[parent.as_str()]] += 1;
        }
        let mut order: Vec<usize> = (0..self.nodes.len()).filter(|&node| unmet[node] == 0).collect();
        let mut next = 0;
        while let Some(&node) = order.get(next) {
            next += 1;
            for parent in self.nodes[node].parents.iter().map(|name| position[name.as_str()]) {
                unmet[parent] -= 1;
                if unmet[parent] == 0 {
                    order.push(parent);
                }
            }
        }
        order
    }

    /// Adds to a node and, along every path, to all that are connected above it.
    fn grow(&mut self, node: usize, by: u64, connected: &[Vec<usize>]) {
        let mut above = vec![node];
        let mut unmet: HashMap<usize, usize> = HashMap::new();
        let mut seen = vec![node];
        while let Some(at) = seen.pop() {
            for &parent in &connected[at] {
                let edges = unmet.entry(parent).or_insert(0);
                *edges += 1;
                if *edges == 1 {
                    seen.push(parent);
                }
            }
        }
        let mut growth: HashMap<usize, u64> = HashMap::from([(node, by)]);
        while let Some(at) = above.pop() {
            let by = growth.remove(&at).unwrap_or_default();
            self.sizes[at] = self.sizes[at].saturating_add(by);
            for &parent in &connected[at] {
                let sum = growth.entry(parent).or_insert(0);
                *sum = sum.saturating_add(by);
                let Some(edges) = unmet.get_mut(&parent) else { continue };
                *edges -= 1;
                if *edges == 0 {
                    above.push(parent);
                }
            }
        }
    }

    fn compare(&self, one: usize, other: usize) -> Ordering {
        if one == other {
            return Ordering::Equal;
        }
        self.sizes[other].cmp(&self.sizes[one]).then_with(|| compare(self.nodes[one].name, self.nodes[other].name))
    }

    fn names(&self, set: &TreeSet) -> String {
        let names: Vec<&str> = set.items().into_iter().map(|item| self.nodes[item].name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Sub-topology: {}", self.id)?;
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by(|&one, &other| self.compare(one, other));
        for index in order {
            let node = &self.nodes[index];
            write!(f, "    {}: {} ({})", node.kind, node.name, node.details)?;
            if node.kind != SINK {
                write!(f, "\n      --> {}", self.names(&self.successors[index]))?;
            }
            if node.kind != SOURCE {
                write!(f, "\n      <-- {}", self.names(&self.predecessors[index]))?;
            }
            f.write_char('\n')?;
        }
        f.write_char('\n')
    }
}

const SOURCE: &str = "Source";
const PROCESSOR: &str = "Processor";
const SINK: &str = "Sink";

fn nodes_of(subtopology: &Subtopology) -> Vec<Node<'_>> {
    let sources = subtopology.sources.iter().map(|source| Node {
        name: &source.name,
        parents: &[],
        kind: SOURCE,
        details: match &source.pattern {
            Some(pattern) => format!("topics: {pattern}"),
            None => format!("topics: [{}]", copy_of_set(&source.topics, copied(source.topics.len()))),
        },
    });
    let processors = subtopology.processors.iter().map(|processor| Node {
        name: &processor.name,
        parents: &processor.parents,
        kind: PROCESSOR,
        details: format!("stores: [{}]", copy_of_set(&processor.stores, grown(processor.stores.len()))),
    });
    let sinks = subtopology.sinks.iter().map(|sink| Node {
        name: &sink.name,
        parents: &sink.parents,
        kind: SINK,
        details: match &sink.topic {
            Some(topic) => format!("topic: {topic}"),
            None => format!("extractor class: {DYNAMIC_SINK}"),
        },
    });
    sources.chain(processors).chain(sinks).collect()
}

/// The elements of a copy of a hash set whose table has `capacity` buckets.
fn copy_of_set(names: &[String], capacity: usize) -> String {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    let copy = copied(names.len());
    hash_order(&mut names, capacity);
    hash_order(&mut names, copy);
    names.join(", ")
}

/// Puts the kinds of nodes, which a graph lists apart, into the order in which Kafka Streams' DSL most
/// likely created them: parents first, then by the number in the generated name. It decides what
/// comes first in a bucket of a hash table, no more, so a wrong guess swaps two siblings at worst.
fn in_order_of_creation(nodes: Vec<Node<'_>>) -> Vec<Node<'_>> {
    let mut created: HashMap<&str, u64> = HashMap::new();
    let mut kinds: Vec<VecDeque<Node<'_>>> = Vec::new();
    for node in nodes {
        match kinds.last_mut() {
            Some(kind) if kind.front().is_some_and(|first| first.kind == node.kind) => kind.push_back(node),
            _ => kinds.push(VecDeque::from([node])),
        }
    }
    let mut ordered = Vec::new();
    loop {
        let next = kinds.iter_mut().filter_map(|kind| {
            let first = kind.front()?;
            let parents = first.parents.iter().map(|parent| created.get(parent.as_str()).copied());
            let after = parents.clone().flatten().max().unwrap_or_default();
            let number = generated_number(first.name).unwrap_or(after);
            Some((parents.clone().any(|parent| parent.is_none()), number, kind))
        });
        let Some((_, number, kind)) = next.min_by_key(|(waits, number, _)| (*waits, *number)) else { return ordered };
        if let Some(node) = kind.pop_front() {
            created.insert(node.name, number);
            ordered.push(node);
        }
    }
}

/// 12 of `KSTREAM-MAP-0000000012`.
fn generated_number(name: &str) -> Option<u64> {
    let (_, number) = name.rsplit_once('-')?;
    if number.len() == 10 { number.parse().ok() } else { None }
}
