//! Owns `KGroupedStream`: the aggregations of a grouped stream, and the names of their nodes and
//! stores. Must not know how aggregates are kept.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use crate::graph::{SharedGraph, resolve, store_definition};
use crate::kstream::{Repartition, repartition_source};
use crate::ktable::{KTable, Lineage};
use crate::logic::{Aggregate, Count, Fold, Step, TableState, TableStore};
use crate::options::{Materialized, Named, Serdes};
use crate::rows::{Data, Rows, Updates};
use crate::serdes::LongSerde;
use crate::topology::{Kind, Shape, Topology};

/// Records grouped by key, to be aggregated into a table.
///
/// Records with a null key or a null value are left out, and counted as dropped.
pub struct KGroupedStream<K, V> {
    graph: SharedGraph,
    serdes: Serdes<K, V>,
    /// The name of the repartition topic.
    name: Option<String>,
    repartition: bool,
    node: usize,
    /// The node of a repartition topic with a name, shared by all aggregations of this group.
    repartitioned: Rc<Cell<Option<usize>>>,
    next_name: Option<String>,
}

impl<K, V> Clone for KGroupedStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            serdes: self.serdes.clone(),
            name: self.name.clone(),
            repartition: self.repartition,
            node: self.node,
            repartitioned: Rc::clone(&self.repartitioned),
            next_name: self.next_name.clone(),
        }
    }
}

impl<K, V> fmt::Debug for KGroupedStream<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KGroupedStream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> KGroupedStream<K, V> {
    pub(crate) fn new(
        graph: &SharedGraph,
        serdes: Serdes<K, V>,
        name: Option<String>,
        repartition: bool,
        node: usize,
    ) -> Self {
        let repartitioned = Rc::default();
        Self { graph: SharedGraph::clone(graph), serdes, name, repartition, node, repartitioned, next_name: None }
    }

    /// The same group; the next aggregation's node gets this name instead of a generated one.
    #[must_use]
    pub fn named(&self, name: impl Into<Named>) -> Self {
        Self { next_name: Some(name.into().0), ..self.clone() }
    }

    /// How many records there were of each key.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        // A name that Kafka Streams takes off its counter for no reason but that it always has.
        if materialized.given && materialized.name.is_none() {
            self.graph.borrow_mut().generate_store(AGGREGATE);
        }
        let values = materialized.serdes.values.clone().or_else(|| Some(Arc::new(LongSerde)));
        let serdes = Serdes { keys: self.serdes.keys.clone(), values };
        self.fold(AGGREGATE, serdes, materialized, || Some(0), Count)
    }

    /// Joins the values of each key into one: the first is taken as it is, `reducer` joins each
    /// further one to it.
    pub fn reduce(
        &self,
        reducer: impl Fn(V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        self.reduce_nullable(move |joined, value| Some(reducer(joined, value)), materialized)
    }

    /// As [`Self::reduce`]; none deletes the key, and its next value is the first again.
    pub fn reduce_nullable(
        &self,
        reducer: impl Fn(V, &V) -> Option<V> + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        let step = move |_: &K, value: &V, joined: Option<V>| match joined {
            None => Some(value.clone()),
            Some(joined) => reducer(joined, value),
        };
        self.fold(REDUCE, self.serdes.clone(), materialized, || None, Fold(step))
    }

    /// Folds the values of each key into an aggregate of any type, which begins as `initializer`
    /// says.
    pub fn aggregate<A: Data>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let step = move |key: &K, value: &V, aggregate: Option<A>| {
            aggregate.map(|aggregate| aggregator(key, value, aggregate))
        };
        self.aggregate_nullable(move || Some(initializer()), step, materialized)
    }

    /// As [`Self::aggregate`] with aggregates that may be null; none deletes the key, whose next
    /// value begins anew.
    pub fn aggregate_nullable<A: Data>(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let serdes = Serdes { keys: self.serdes.keys.clone(), values: None };
        self.fold(AGGREGATE, serdes, materialized, initializer, Fold(aggregator))
    }

    fn fold<A: Data>(
        &self,
        prefix: &str,
        inherited: Serdes<K, A>,
        materialized: Materialized<K, A>,
        start: impl Fn() -> Option<A> + Send + Sync + 'static,
        step: impl Step<K, V, A> + 'static,
    ) -> KTable<K, A> {
        let store = {
            let mut graph = self.graph.borrow_mut();
            materialized.name.clone().unwrap_or_else(|| graph.generate_store(prefix))
        };
        let name = self.graph.borrow_mut().name(self.next_name.as_deref(), prefix);
        let serdes = materialized.serdes.clone().or(inherited);
        let (keys, values) = resolve(&self.graph, &name, &serdes);
        let definition = store_definition(&store, &keys, &values, &materialized);
        let state = Arc::new(TableState::default());
        state.materialize();
        let store = TableStore { name: store, keys, values, cached: materialized.cached };
        let parent = self.parent(&store.name);
        let logic = Arc::new(Aggregate { store, state: Arc::clone(&state), start, step, types: PhantomData });
        let own = name.clone();
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let (takes, gives) = (Shape::of::<Rows<K, V>>(), Shape::of::<Updates<K, A>>());
            topology.insert_below(&own, Kind::Inner { logic }, takes, Some(gives), parents)?;
            topology.insert_owned(&own, definition)
        });
        let node = self.graph.borrow_mut().add(&[parent], &name, write);
        KTable::new(&self.graph, serdes, node, Lineage::aggregate(state))
    }

    /// The node that aggregations hang on: this group's, or the source of a repartition topic.
    fn parent(&self, store: &str) -> usize {
        if !self.repartition {
            return self.node;
        }
        let wanted = Repartition {
            prefix: self.name.clone().unwrap_or_else(|| store.to_owned()),
            serdes: self.serdes.clone(),
            partitioner: None,
            partitions: None,
        };
        let created = repartition_source(&self.graph, wanted);
        let mut graph = self.graph.borrow_mut();
        if let (Some(node), Some(_)) = (self.repartitioned.get(), &self.name) {
            graph.adopt(self.node, node);
            return node;
        }
        let node = graph.add(&[self.node], &created.source, created.write);
        self.repartitioned.set(Some(node));
        node
    }
}

const AGGREGATE: &str = "KSTREAM-AGGREGATE-";
const REDUCE: &str = "KSTREAM-REDUCE-";
