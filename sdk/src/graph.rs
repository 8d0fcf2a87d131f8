//! Owns the order in which a topology written with the DSL comes about: names off one counter,
//! nodes written by priority, sources of the same topics made one, all exactly as Kafka Streams
//! does it. Must not know what the operators do.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::contract::{self, Format, Layout};
use crate::kstream::KStream;
use crate::ktable::KTable;
use crate::logic::RecordSource;
use crate::options::{Consumed, Materialized, Serdes};
use crate::rows::{Data, Rows};
use crate::serdes::{Serde, SerdeError, SharedSerde};
use crate::stores::StoreBuilder;
use crate::topology::{Kind, Shape, StoreDefinition, Topology};

/// What is wrong with a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyError(pub(crate) String);

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for TopologyError {}

/// Adds the nodes of an operator to the topology, below the parents named.
pub(crate) type Write = Box<dyn FnOnce(&mut Topology, &[String]) -> Result<(), String>>;

/// What sources are compared by.
#[derive(PartialEq, Eq)]
enum Subscription {
    Topics(BTreeSet<String>),
    Pattern(String),
}

/// An operator. Its name is that of the node its children hang on.
struct GraphNode {
    name: String,
    parents: Vec<usize>,
    children: Vec<usize>,
    priority: usize,
    subscription: Option<Subscription>,
    write: Option<Write>,
    /// A join that records without a key take part in.
    takes_null_keys: bool,
    /// A repartition topic leaves records without a key out, unless this is set.
    keeps_null_keys: Option<Arc<AtomicBool>>,
    /// An aggregation in windows, which close so long after their end.
    grace_ms: Option<i64>,
}

impl GraphNode {
    fn new(name: &str, write: Option<Write>) -> Self {
        Self {
            name: name.to_owned(),
            parents: Vec::new(),
            children: Vec::new(),
            priority: 0,
            subscription: None,
            write,
            takes_null_keys: false,
            keeps_null_keys: None,
            grace_ms: None,
        }
    }
}

/// The topics a stream or a table stems from: those of joined ones need as many partitions.
pub(crate) type Origins = Rc<BTreeSet<String>>;

/// The node all operators without a parent hang on.
pub(crate) const ROOT: usize = 0;

pub(crate) struct Graph {
    counter: usize,
    priority: usize,
    nodes: Vec<GraphNode>,
    copartitioned: Vec<Origins>,
    /// The first mistake, told when the topology is built.
    error: Option<String>,
}

pub(crate) type SharedGraph = Rc<RefCell<Graph>>;

impl Graph {
    fn new() -> Self {
        let nodes = vec![GraphNode::new("root", None)];
        Self { counter: 0, priority: 1, nodes, copartitioned: Vec::new(), error: None }
    }

    pub(crate) fn fail(&mut self, message: impl Into<String>) {
        self.error.get_or_insert(message.into());
    }

    /// The next generated name with that prefix.
    pub(crate) fn generate(&mut self, prefix: &str) -> String {
        let name = format!("{prefix}{:010}", self.counter);
        self.counter += 1;
        name
    }

    pub(crate) fn generate_store(&mut self, prefix: &str) -> String {
        self.generate(&format!("{prefix}STATE-STORE-"))
    }

    /// The name given, or a generated one. The counter moves on either way.
    pub(crate) fn name(&mut self, given: Option<&str>, prefix: &str) -> String {
        self.name_with_suffix(given, "", prefix)
    }

    pub(crate) fn name_with_suffix(&mut self, given: Option<&str>, suffix: &str, prefix: &str) -> String {
        let generated = self.generate(prefix);
        match given {
            None => generated,
            Some(name) => {
                let name = format!("{name}{suffix}");
                self.check_name(&name);
                name
            }
        }
    }

    pub(crate) fn check_name(&mut self, name: &str) {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name == "." || name == ".." || name.len() > 249 || !name.chars().all(legal) {
            self.fail(format!(
                "{name:?} can't be a name: take 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'"
            ));
        }
    }

    /// Adds an operator below its parents; again, if it is already there.
    pub(crate) fn add(&mut self, parents: &[usize], name: &str, write: Write) -> usize {
        let node = self.nodes.len();
        self.nodes.push(GraphNode::new(name, Some(write)));
        for &parent in parents {
            self.adopt(parent, node);
        }
        node
    }

    /// Puts a node below a parent and to the end of the line.
    pub(crate) fn adopt(&mut self, parent: usize, child: usize) {
        if !self.nodes[parent].children.contains(&child) {
            self.nodes[parent].children.push(child);
            self.nodes[child].parents.push(parent);
        }
        self.nodes[child].priority = self.priority;
        self.priority += 1;
    }

    /// The name of the node that children of this one hang on.
    pub(crate) fn name_of(&self, node: usize) -> String {
        self.nodes[node].name.clone()
    }

    /// Streams or tables that are joined: the topics of both.
    pub(crate) fn copartition(&mut self, one: &Origins, other: &Origins) -> Origins {
        let all = Origins::new(one.union(other).cloned().collect());
        self.copartitioned.push(Rc::clone(&all));
        all
    }

    /// Says that records without a key take part in the join.
    pub(crate) fn take_null_keys(&mut self, node: usize) {
        self.nodes[node].takes_null_keys = true;
    }

    /// Says where it is asked whether a repartition topic has records without a key.
    pub(crate) fn ask_for_null_keys(&mut self, node: usize, keeps: Arc<AtomicBool>) {
        self.nodes[node].keeps_null_keys = Some(keeps);
    }

    /// Says how long after their end the windows of an aggregation close.
    pub(crate) fn close_after(&mut self, node: usize, grace_ms: Option<i64>) {
        self.nodes[node].grace_ms = grace_ms;
    }

    /// How long after their end the windows close that the rows of a node are of; none: not all of them come of windows.
    pub(crate) fn grace_ms(&self, node: usize) -> Option<i64> {
        let node = &self.nodes[node];
        node.grace_ms.or_else(|| {
            let (first, others) = node.parents.split_first()?;
            others.iter().try_fold(self.grace_ms(*first)?, |most, parent| Some(most.max(self.grace_ms(*parent)?)))
        })
    }

    /// Has all repartition topics above such a join keep them.
    fn keep_null_keys(&self) {
        let mut pending: Vec<usize> = (0..self.nodes.len()).filter(|&node| self.nodes[node].takes_null_keys).collect();
        let mut seen = vec![false; self.nodes.len()];
        while let Some(node) = pending.pop() {
            for &parent in &self.nodes[node].parents {
                if !std::mem::replace(&mut seen[parent], true) {
                    pending.push(parent);
                    if let Some(keeps) = &self.nodes[parent].keeps_null_keys {
                        keeps.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    fn merge_sources(&mut self) -> Result<(), String> {
        let mut firsts: Vec<usize> = Vec::new();
        for source in self.nodes[ROOT].children.clone() {
            let Some(subscription) = &self.nodes[source].subscription else { continue };
            let same = firsts.iter().find(|first| self.nodes[**first].subscription.as_ref() == Some(subscription));
            match same.copied() {
                None => {
                    if let Some(first) = firsts.iter().find(|first| self.overlaps(**first, source)) {
                        let names = (&self.nodes[*first].name, &self.nodes[source].name);
                        return Err(format!(
                            "sources {} and {} read overlapping but not equal topics: give both the same",
                            names.0, names.1
                        ));
                    }
                    firsts.push(source);
                }
                Some(first) => self.merge(first, source),
            }
        }
        Ok(())
    }

    fn overlaps(&self, one: usize, other: usize) -> bool {
        match (&self.nodes[one].subscription, &self.nodes[other].subscription) {
            (Some(Subscription::Topics(one)), Some(Subscription::Topics(other))) => !one.is_disjoint(other),
            _ => false,
        }
    }

    fn merge(&mut self, into: usize, source: usize) {
        for child in std::mem::take(&mut self.nodes[source].children) {
            self.nodes[child].parents.retain(|parent| *parent != source);
            if !self.nodes[into].children.contains(&child) {
                self.nodes[into].children.push(child);
            }
            if !self.nodes[child].parents.contains(&into) {
                self.nodes[child].parents.push(into);
            }
        }
        self.nodes[ROOT].children.retain(|child| *child != source);
    }

    /// Writes the operators, the one added last of all whose parents are written first.
    fn build(&mut self) -> Result<Topology, String> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.merge_sources()?;
        self.keep_null_keys();
        let mut topology = Topology::default();
        for topics in &self.copartitioned {
            topology.insert_copartitioned(topics.iter().cloned().collect());
        }
        let mut line = BinaryHeap::from([Reverse((0, ROOT))]);
        let mut written = vec![false; self.nodes.len()];
        while let Some(Reverse((_, position))) = line.pop() {
            if written[position] || !self.nodes[position].parents.iter().all(|parent| written[*parent]) {
                continue;
            }
            let names = self.nodes[position].parents.iter().map(|parent| self.nodes[*parent].name.clone());
            let parents: Vec<String> = names.collect();
            if let Some(write) = self.nodes[position].write.take() {
                write(&mut topology, &parents)?;
            }
            written[position] = true;
            line.extend(
                self.nodes[position].children.iter().map(|child| Reverse((self.nodes[*child].priority, *child))),
            );
        }
        Ok(topology)
    }
}

/// Stands in for a serde that was not given, until the topology is refused for it.
struct Missing<T>(PhantomData<fn() -> T>);

impl<T: 'static> Serde for Missing<T> {
    type Value = T;

    fn serialize(&self, _value: &T, _out: &mut Vec<u8>) -> Result<(), SerdeError> {
        Err(SerdeError::new("no serde was given"))
    }

    fn deserialize(&self, _bytes: &[u8]) -> Result<T, SerdeError> {
        Err(SerdeError::new("no serde was given"))
    }

    fn format(&self) -> String {
        "unknown".to_owned()
    }
}

/// The serdes of a node, which must be there by now.
pub(crate) fn resolve<K: Data, V: Data>(
    graph: &SharedGraph,
    node: &str,
    serdes: &Serdes<K, V>,
) -> (SharedSerde<K>, SharedSerde<V>) {
    let (keys, values, missing) = resolve_if_needed(node, serdes);
    if let Some(message) = missing {
        graph.borrow_mut().fail(message);
    }
    (keys, values)
}

/// The serdes of a node that may come to need none, and what to say if it does and there is none.
pub(crate) fn resolve_if_needed<K: Data, V: Data>(
    node: &str,
    serdes: &Serdes<K, V>,
) -> (SharedSerde<K>, SharedSerde<V>, Option<String>) {
    fn or_missing<T: Data>(missing: &mut Option<String>, serde: Result<SharedSerde<T>, String>) -> SharedSerde<T> {
        serde.unwrap_or_else(|message| {
            missing.get_or_insert(message);
            Arc::new(Missing::<T>(PhantomData))
        })
    }
    let mut missing = None;
    let keys = or_missing(&mut missing, serdes.keys_of(node));
    let values = or_missing(&mut missing, serdes.values_of(node));
    (keys, values, missing)
}

/// The serdes of a store as a processor asks for them.
pub(crate) struct StoreSerdes<K, V> {
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
}

/// A key-value store as the operator's options describe it.
pub(crate) fn store_definition<K: Data, V: Data>(
    name: &str,
    keys: &SharedSerde<K>,
    values: &SharedSerde<V>,
    options: &Materialized<K, V>,
) -> StoreDefinition {
    let layout = options.history_ms.map_or(Layout::KeyValue, Layout::Versioned);
    stored_as(layout, name, keys, values, options)
}

/// A store of that layout, whose keys the serde writes whole.
pub(crate) fn stored_as<K: Data, V: Data, O>(
    layout: Layout,
    name: &str,
    keys: &SharedSerde<K>,
    values: &SharedSerde<V>,
    options: &Materialized<O, V>,
) -> StoreDefinition {
    StoreDefinition {
        declared: contract::Store {
            name: name.to_owned(),
            layout,
            format: Format { key: keys.format(), value: values.format() },
            persistent: options.persistent,
            logged: options.logged,
            cached: options.cached,
            changelog_config: options.changelog_config.clone(),
        },
        serdes: Arc::new(StoreSerdes { keys: Arc::clone(keys), values: Arc::clone(values) }),
    }
}

/// Where a topology begins: streams and tables of topics.
///
/// ```
/// use millrace::prelude::*;
///
/// let mut builder = StreamsBuilder::new();
/// builder
///     .stream("lines", Consumed::with(StringSerde, StringSerde))
///     .flat_map_values(|line: &String| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
///     .to("words", Produced::default());
/// let topology = builder.build().unwrap();
/// ```
pub struct StreamsBuilder {
    pub(crate) graph: SharedGraph,
}

impl Default for StreamsBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamsBuilder {
    /// An empty topology.
    #[must_use]
    pub fn new() -> Self {
        Self { graph: Rc::new(RefCell::new(Graph::new())) }
    }

    /// The records of a topic, which must be there. Null keys and values come as they are. Operators that begin at one topic
    /// twice share its source.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder.stream("lines", Consumed::with(StringSerde, StringSerde)).to("copy", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// # let copy = driver.create_output_topic("copy", StringSerde, StringSerde);
    /// lines.pipe_nullable(None, Some("x".to_owned()));
    /// assert_eq!(copy.read_lines(), ["null:x"]);
    /// ```
    pub fn stream<K: Data, V: Data>(&mut self, topic: impl Into<String>, consumed: Consumed<K, V>) -> KStream<K, V> {
        self.source(vec![topic.into()], None, consumed)
    }

    /// The records of several topics, as if they were one.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder.stream_of(["web", "app"], Consumed::with(StringSerde, StringSerde)).to("all", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let web = driver.create_input_topic("web", StringSerde, StringSerde);
    /// # let app = driver.create_input_topic("app", StringSerde, StringSerde);
    /// # let all = driver.create_output_topic("all", StringSerde, StringSerde);
    /// web.pipe_input("a", "1");
    /// app.pipe_input("b", "2");
    /// assert_eq!(all.read_lines(), ["a:1", "b:2"]);
    /// ```
    pub fn stream_of<K: Data, V: Data, T: Into<String>>(
        &mut self,
        topics: impl IntoIterator<Item = T>,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        let mut distinct: Vec<String> = Vec::new();
        for topic in topics.into_iter().map(Into::into) {
            if !distinct.contains(&topic) {
                distinct.push(topic);
            }
        }
        self.source(distinct, None, consumed)
    }

    /// The records of all topics whose whole name matches a regular expression, also of those that come while the
    /// application runs.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// # use millrace::TestDriverConfig;
    /// builder.stream_matching("clicks-.*", Consumed::with(StringSerde, StringSerde)).to("all", Produced::default());
    /// let config = TestDriverConfig { pattern_topics: vec!["clicks-eu".to_owned()], ..TestDriverConfig::default() };
    /// let driver = TopologyTestDriver::with(builder.build().unwrap(), config).unwrap();
    /// # let clicks = driver.create_input_topic("clicks-eu", StringSerde, StringSerde);
    /// # let all = driver.create_output_topic("all", StringSerde, StringSerde);
    /// clicks.pipe_input("a", "1");
    /// assert_eq!(all.read_lines(), ["a:1"]);
    /// ```
    pub fn stream_matching<K: Data, V: Data>(
        &mut self,
        pattern: impl Into<String>,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        self.source(Vec::new(), Some(pattern.into()), consumed)
    }

    fn source<K: Data, V: Data>(
        &mut self,
        topics: Vec<String>,
        pattern: Option<String>,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        let name = self.graph.borrow_mut().name(consumed.name.as_deref(), "KSTREAM-SOURCE-");
        let (keys, values) = resolve(&self.graph, &name, &consumed.serdes);
        let subscription = match &pattern {
            None => Subscription::Topics(topics.iter().cloned().collect()),
            Some(pattern) => Subscription::Pattern(pattern.clone()),
        };
        let (source, origins) = (name.clone(), Origins::new(topics.iter().cloned().collect()));
        let write: Write = Box::new(move |topology, _| {
            let logic = Arc::new(RecordSource { keys, values, extractor: consumed.extractor });
            let kind = Kind::Source { logic, topics, pattern, reset: consumed.reset.map(Into::into) };
            topology.insert_source(&source, kind, Shape::of::<Rows<K, V>>())
        });
        let node = {
            let mut graph = self.graph.borrow_mut();
            let node = graph.add(&[ROOT], &name, write);
            graph.nodes[node].subscription = Some(subscription);
            node
        };
        KStream::new(&self.graph, name, consumed.serdes, false, node, origins)
    }

    /// A topic as a table: its records are the updates of its keys. A null value deletes; a null key is left out and counted as
    /// dropped.
    ///
    /// It gets a store when it is given a name, or when an operator further down needs one. The changelog of that is a topic of
    /// its own.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder.table("users", Consumed::with(StringSerde, StringSerde), Materialized::as_("users"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let users = driver.create_input_topic("users", StringSerde, StringSerde);
    /// users.pipe_key_values([("u1", "Ada"), ("u1", "Eva")]);
    /// let users = driver.get_key_value_store::<String, String>("users").unwrap();
    /// assert_eq!(users.get(&"u1".to_owned()).as_deref(), Some("Eva"));
    /// ```
    pub fn table<K: Data, V: Data>(
        &mut self,
        topic: impl Into<String>,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        KTable::of_topic(&self.graph, topic.into(), consumed, materialized)
    }

    /// Adds a store for processors and transformers of values, which are given its name. One that nobody uses is left out.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder.add_state_store(Stores::key_value_store("seen", StringSerde, LongSerde));
    /// builder.table("users", Consumed::with(StringSerde, StringSerde), Materialized::default()).transform_values(
    ///     |context, user, name: Option<&String>| {
    ///         context.key_value_store::<String, i64>("seen")?.put(user, 1)?;
    ///         Ok(name.cloned())
    ///     },
    ///     &["seen"],
    /// );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// assert_eq!(driver.state_store_names(), ["seen"]);
    /// ```
    pub fn add_state_store<K: Data, V: Data>(&mut self, store: StoreBuilder<K, V>) -> &mut Self {
        let definition = store.definition();
        let name = definition.declared.name.clone();
        let write: Write = Box::new(move |topology, _| topology.insert_store(definition));
        self.graph.borrow_mut().add(&[ROOT], &name, write);
        self
    }

    /// The finished topology, or what is wrong with it: the first mistake, which names its node and what to do.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("numbers", Consumed::with(StringSerde, StringSerde))
    ///     .map_values(|text| text.parse::<u16>().unwrap_or(0))
    ///     .to("parsed", Produced::default());
    /// let mistake = builder.build().err().unwrap().to_string();
    /// assert!(mistake.contains("has no serde for its values of type u16"));
    /// ```
    pub fn build(self) -> Result<Topology, TopologyError> {
        self.graph.borrow_mut().build().map_err(TopologyError)
    }
}
