//! Owns `KStream`: the operators on a stream of records, and the names their nodes get. Must not
//! know how records flow.

mod branch;
mod join;
mod join_streams;
mod repartition;

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::graph::{Origins, SharedGraph, resolve};
use crate::kgrouped::KGroupedStream;
use crate::logic::{
    Destination, Filter, FlatMap, FlatMapValues, Logic, Map, MapOnlyValues, MapValues, Observe, PassThrough, Process,
    Produce, SelectKey,
};
use crate::options::{Grouped, Named, Produced, RecordContext, Serdes};
use crate::processor::Processor;
use crate::rows::{Data, Rows};
use crate::topology::{Kind, Shape};

pub use branch::{Branched, BranchedKStream};
pub(crate) use repartition::{Repartition, RepartitionNode, repartition_source};

/// A stream of records, each for itself.
///
/// Keys and values can be null in Kafka, so closures that see both get `Option`s. Closures that see
/// the value alone are not called for a null, which stays null.
///
/// The key of a record decides its partition. After an operator that may have changed it
/// (`select_key`, `map`, `flat_map`, `group_by`, `process`), the next aggregation or table sends the records
/// through a repartition topic first.
pub struct KStream<K, V> {
    pub(crate) graph: SharedGraph,
    pub(crate) name: String,
    pub(crate) serdes: Serdes<K, V>,
    /// Whether the key may have changed since the records were read.
    pub(crate) repartition: bool,
    pub(crate) node: usize,
    pub(crate) next_name: Option<String>,
    pub(crate) origins: Origins,
    /// The node of the repartition topic that was made for a join last.
    pub(crate) repartitioned: Rc<Cell<Option<usize>>>,
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            name: self.name.clone(),
            serdes: self.serdes.clone(),
            repartition: self.repartition,
            node: self.node,
            next_name: self.next_name.clone(),
            origins: Rc::clone(&self.origins),
            repartitioned: Rc::clone(&self.repartitioned),
        }
    }
}

impl<K, V> fmt::Debug for KStream<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KStream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    pub(crate) fn new(
        graph: &SharedGraph,
        name: String,
        serdes: Serdes<K, V>,
        repartition: bool,
        node: usize,
        origins: Origins,
    ) -> Self {
        let (graph, repartitioned) = (SharedGraph::clone(graph), Rc::default());
        Self { graph, name, serdes, repartition, node, next_name: None, origins, repartitioned }
    }

    /// The same stream; the next operator's node gets this name instead of a generated one.
    ///
    /// ```
    /// use millrace::prelude::*;
    ///
    /// let mut builder = StreamsBuilder::new();
    /// let lines = builder.stream("lines", Consumed::with(StringSerde, StringSerde));
    /// lines.named("long-lines").filter(|_, line| line.is_some_and(|line| line.len() > 80)).to("long", Produced::default());
    /// ```
    #[must_use]
    pub fn named(&self, name: impl Into<Named>) -> Self {
        Self { next_name: Some(name.into().0), ..self.clone() }
    }

    /// Adds a node below this one.
    pub(crate) fn add_node<R: 'static>(&self, prefix: &str, logic: impl Logic + 'static) -> (String, usize) {
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(self.next_name.as_deref(), prefix);
        let own = name.clone();
        let write = Box::new(move |topology: &mut crate::Topology, parents: &[String]| {
            let kind = Kind::Inner { logic: Arc::new(logic) };
            topology.insert_below(&own, kind, Shape::of::<Rows<K, V>>(), Some(Shape::of::<R>()), parents)
        });
        let node = graph.add(&[self.node], &name, write);
        (name, node)
    }

    /// The stream that comes out of a node below this one.
    fn then<K2: Data, V2: Data>(
        &self,
        prefix: &str,
        serdes: Serdes<K2, V2>,
        changes_key: bool,
        logic: impl Logic + 'static,
    ) -> KStream<K2, V2> {
        let (name, node) = self.add_node::<Rows<K2, V2>>(prefix, logic);
        KStream::new(&self.graph, name, serdes, self.repartition || changes_key, node, Rc::clone(&self.origins))
    }

    fn keeping_keys<V2>(&self) -> Serdes<K, V2> {
        Serdes { keys: self.serdes.keys.clone(), values: None }
    }

    /// The records for which the predicate says yes.
    #[must_use]
    pub fn filter(&self, predicate: impl Fn(Option<&K>, Option<&V>) -> bool + Send + Sync + 'static) -> Self {
        self.then("KSTREAM-FILTER-", self.serdes.clone(), false, Filter::new(true, predicate))
    }

    /// The records for which the predicate says no.
    #[must_use]
    pub fn filter_not(&self, predicate: impl Fn(Option<&K>, Option<&V>) -> bool + Send + Sync + 'static) -> Self {
        self.then("KSTREAM-FILTER-", self.serdes.clone(), false, Filter::new(false, predicate))
    }

    /// Other keys for the same values.
    #[must_use]
    pub fn select_key<K2: Data>(
        &self,
        selector: impl Fn(Option<&K>, Option<&V>) -> Option<K2> + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        let serdes = Serdes { keys: None, values: self.serdes.values.clone() };
        self.then("KSTREAM-KEY-SELECT-", serdes, true, SelectKey::new(selector))
    }

    /// Other keys and values.
    #[must_use]
    pub fn map<K2: Data, V2: Data>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> (Option<K2>, Option<V2>) + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.then("KSTREAM-MAP-", Serdes::default(), true, Map::new(mapper))
    }

    /// Other values for the same keys. A null value stays null.
    #[must_use]
    pub fn map_values<V2: Data>(&self, mapper: impl Fn(&V) -> V2 + Send + Sync + 'static) -> KStream<K, V2> {
        self.then("KSTREAM-MAPVALUES-", self.keeping_keys(), false, MapOnlyValues::<K, V, V2, _>::new(mapper))
    }

    /// Other values for the same keys, nulls included.
    #[must_use]
    pub fn map_values_with_key<V2: Data>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> Option<V2> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.then("KSTREAM-MAPVALUES-", self.keeping_keys(), false, MapValues::new(mapper))
    }

    /// Any number of records for each.
    #[must_use]
    pub fn flat_map<K2: Data, V2: Data, I: IntoIterator<Item = (Option<K2>, Option<V2>)> + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> I + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.then("KSTREAM-FLATMAP-", Serdes::default(), true, FlatMap::new(mapper))
    }

    /// Any number of values for each, under the same key. A null value gives none.
    #[must_use]
    pub fn flat_map_values<V2: Data, I: IntoIterator<Item = V2> + 'static>(
        &self,
        mapper: impl Fn(&V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.flat_map_values_with_key(move |_, value| value.map(&mapper).into_iter().flatten().map(Some))
    }

    /// Any number of values for each, under the same key, nulls included.
    #[must_use]
    pub fn flat_map_values_with_key<V2: Data, I: IntoIterator<Item = Option<V2>>>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.then("KSTREAM-FLATMAPVALUES-", self.keeping_keys(), false, FlatMapValues::new(mapper))
    }

    /// The same records, each shown to `action` on its way.
    #[must_use]
    pub fn peek(&self, action: impl Fn(Option<&K>, Option<&V>) + Send + Sync + 'static) -> Self {
        self.then("KSTREAM-PEEK-", self.serdes.clone(), false, Observe::new(action))
    }

    /// Ends the stream: each record is shown to `action`.
    pub fn foreach(&self, action: impl Fn(Option<&K>, Option<&V>) + Send + Sync + 'static) {
        self.add_node::<Rows<K, V>>("KSTREAM-FOREACH-", Observe::new(action));
    }

    /// The records of both streams. Those of one partition keep their order, the two streams are
    /// not ordered against each other.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(self.next_name.as_deref(), "KSTREAM-MERGE-");
        let own = name.clone();
        let write = Box::new(move |topology: &mut crate::Topology, parents: &[String]| {
            let kind = Kind::Inner { logic: Arc::new(PassThrough::<K, V>::new()) };
            let shape = Shape::of::<Rows<K, V>>();
            topology.insert_below(&own, kind, shape, Some(shape), parents)
        });
        let node = graph.add(&[self.node, other.node], &name, write);
        drop(graph);
        let origins = Origins::new(self.origins.union(&other.origins).cloned().collect());
        Self::new(&self.graph, name, Serdes::default(), self.repartition || other.repartition, node, origins)
    }

    /// Groups the records by their key, for an aggregation.
    #[must_use]
    pub fn group_by_key(&self, grouped: Grouped<K, V>) -> KGroupedStream<K, V> {
        let serdes = grouped.serdes.or(self.serdes.clone());
        KGroupedStream::new(&self.graph, serdes, grouped.name, self.repartition, self.node, &self.origins)
    }

    /// Groups the records by another key, for an aggregation. Records whose key is none are left out.
    #[must_use]
    pub fn group_by<K2: Data>(
        &self,
        selector: impl Fn(Option<&K>, Option<&V>) -> Option<K2> + Send + Sync + 'static,
        grouped: Grouped<K2, V>,
    ) -> KGroupedStream<K2, V> {
        let named = Self { next_name: grouped.name.clone(), ..self.clone() };
        let (_, node) = named.add_node::<Rows<K2, V>>("KSTREAM-KEY-SELECT-", SelectKey::new(selector));
        let serdes = grouped.serdes.or(Serdes { keys: None, values: self.serdes.values.clone() });
        KGroupedStream::new(&self.graph, serdes, grouped.name, true, node, &self.origins)
    }

    /// Sends the records through a processor, which may use the stores named.
    #[must_use]
    pub fn process<K2: Data, V2: Data, P: Processor<K, V, K2, V2>>(
        &self,
        supplier: impl Fn() -> P + Send + Sync + 'static,
        stores: &[&str],
    ) -> KStream<K2, V2> {
        let mut graph = self.graph.borrow_mut();
        // The one operator that takes no name off the counter when it is given one.
        let name = match &self.next_name {
            Some(name) => {
                graph.check_name(name);
                name.clone()
            }
            None => graph.generate("KSTREAM-PROCESSOR-"),
        };
        let (own, stores) = (name.clone(), stores.iter().map(|store| (*store).to_owned()).collect::<Vec<_>>());
        let write = Box::new(move |topology: &mut crate::Topology, parents: &[String]| {
            let kind = Kind::Inner { logic: Arc::new(Process::new(supplier)) };
            let (takes, gives) = (Shape::of::<Rows<K, V>>(), Shape::of::<Rows<K2, V2>>());
            topology.insert_below(&own, kind, takes, Some(gives), parents)?;
            stores.iter().try_for_each(|store| topology.connect(&own, store))
        });
        let node = graph.add(&[self.node], &name, write);
        drop(graph);
        KStream::new(&self.graph, name, Serdes::default(), true, node, Rc::clone(&self.origins))
    }

    /// Ends the stream: the records are written to a topic.
    pub fn to(&self, topic: impl Into<String>, produced: Produced<K, V>) {
        self.sink(Destination::Topic(topic.into()), produced);
    }

    /// Ends the stream: each record is written to the topic that `extractor` names. Topics are
    /// not created.
    pub fn to_by(
        &self,
        extractor: impl Fn(Option<&K>, Option<&V>, &RecordContext<'_>) -> String + Send + Sync + 'static,
        produced: Produced<K, V>,
    ) {
        self.sink(Destination::Extract(Box::new(extractor)), produced);
    }

    fn sink(&self, destination: Destination<K, V>, produced: Produced<K, V>) {
        let given = produced.name.as_deref().or(self.next_name.as_deref());
        let name = self.graph.borrow_mut().name(given, "KSTREAM-SINK-");
        let (keys, values) = resolve(&self.graph, &name, &produced.serdes.or(self.serdes.clone()));
        let own = name.clone();
        let write = Box::new(move |topology: &mut crate::Topology, parents: &[String]| {
            let topic = match &destination {
                Destination::Topic(topic) => Some(topic.clone()),
                Destination::Extract(_) => None,
            };
            let by_inner_key = keys.window_bytes() > 0;
            let logic =
                Arc::new(Produce { destination, keys, values, partitioner: produced.partitioner, by_inner_key });
            topology.insert_below(&own, Kind::Sink { logic, topic }, Shape::of::<Rows<K, V>>(), None, parents)
        });
        self.graph.borrow_mut().add(&[self.node], &name, write);
    }
}
