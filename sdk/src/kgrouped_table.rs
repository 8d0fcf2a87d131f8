//! Owns `KGroupedTable`: the aggregations of a table grouped by another key, and the names of their
//! nodes, stores and repartition topics. Must not know how aggregates are kept.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use crate::graph::{Origins, SharedGraph, resolve, store_definition};
use crate::ktable::{KTable, Lineage};
use crate::logic::{AggregateChanges, ChangeSource, ProduceChanges, StoreView, TableState, TableStore};
use crate::options::{Materialized, Named, Serdes};
use crate::rows::{Data, Updates};
use crate::serdes::LongSerde;
use crate::topology::{Kind, Shape, Topology};

/// A table grouped by another key, to be aggregated into a table again, which is kept in a store with a changelog.
///
/// When an entry of the table changes, its old value is taken from the aggregate of its old group
/// and its new value added to that of its new one.
pub struct KGroupedTable<K, V> {
    graph: SharedGraph,
    serdes: Serdes<K, V>,
    /// The name of the repartition topic.
    name: Option<String>,
    node: usize,
    /// The node of a repartition topic with a name and its source, shared by all aggregations.
    repartitioned: Rc<Cell<Option<usize>>>,
    next_name: Option<String>,
}

impl<K, V> Clone for KGroupedTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            serdes: self.serdes.clone(),
            name: self.name.clone(),
            node: self.node,
            repartitioned: Rc::clone(&self.repartitioned),
            next_name: self.next_name.clone(),
        }
    }
}

impl<K, V> fmt::Debug for KGroupedTable<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KGroupedTable").field("name", &self.name).finish_non_exhaustive()
    }
}

const AGGREGATE: &str = "KTABLE-AGGREGATE-";
const REDUCE: &str = "KTABLE-REDUCE-";

impl<K: Data, V: Data> KGroupedTable<K, V> {
    pub(crate) fn new(graph: &SharedGraph, serdes: Serdes<K, V>, name: Option<String>, node: usize) -> Self {
        let graph = SharedGraph::clone(graph);
        Self { graph, serdes, name, node, repartitioned: Rc::default(), next_name: None }
    }

    /// The same group; the next aggregation's node gets this name instead of a generated one.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let users = builder.table("users", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// users
    ///     .group_by(|user, city| (Some(city.clone()), Some(user.clone())), Grouped::with(StringSerde, StringSerde))
    ///     .named("count-users")
    ///     .count(Materialized::as_("counts"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// assert!(driver.describe().contains("Processor: count-users"));
    /// ```
    #[must_use]
    pub fn named(&self, name: impl Into<Named>) -> Self {
        Self { next_name: Some(name.into().0), ..self.clone() }
    }

    /// How many entries each group has.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("users", Consumed::with(StringSerde, StringSerde), Materialized::default())
    ///     .group_by(|user, city| (Some(city.clone()), Some(user.clone())), Grouped::with(StringSerde, StringSerde))
    ///     .count(Materialized::as_("counts"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let users = driver.create_input_topic("users", StringSerde, StringSerde);
    /// users.pipe_key_values([("u1", "Oslo"), ("u2", "Oslo")]);
    /// users.pipe_nullable(Some("u1".to_owned()), None);
    /// assert_eq!(driver.get_key_value_store("counts").unwrap().get(&"Oslo".to_owned()), Some(1_i64));
    /// ```
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        let values = materialized.serdes.values.clone().or_else(|| Some(Arc::new(LongSerde)));
        let serdes = Serdes { keys: self.serdes.keys.clone(), values };
        self.fold(AGGREGATE, serdes, materialized, |_, left, entered, count: Option<i64>| {
            let count = if left.is_some() { count.map(|count| count - 1) } else { count };
            if entered.is_some() { Some(count.unwrap_or(0) + 1) } else { count }
        })
    }

    /// Joins the values of each group into one: `adder` joins a value that enters, `subtractor` takes one out that leaves.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// // The stock of each warehouse, by the one where a product lies: "warehouse 3".
    /// builder
    ///     .table("products", Consumed::with(StringSerde, LongSerde), Materialized::default())
    ///     .group_by(
    ///         |product, count| (product.split('/').next().map(str::to_owned), Some(*count)),
    ///         Grouped::with(StringSerde, LongSerde),
    ///     )
    ///     .reduce(|sum, count| sum + count, |sum, count| sum - count, Materialized::as_("stock"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let products = driver.create_input_topic("products", StringSerde, LongSerde);
    /// products.pipe_key_values([("north/tea", 5), ("north/salt", 3), ("north/tea", 1)]);
    /// assert_eq!(driver.get_key_value_store("stock").unwrap().get(&"north".to_owned()), Some(4_i64));
    /// ```
    pub fn reduce(
        &self,
        adder: impl Fn(V, &V) -> V + Send + Sync + 'static,
        subtractor: impl Fn(V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        let adder = move |joined, value: &V| Some(adder(joined, value));
        self.reduce_nullable(adder, move |joined, value| Some(subtractor(joined, value)), materialized)
    }

    /// As [`Self::reduce`]; none deletes the group, and the next value to enter is its first again.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("products", Consumed::with(StringSerde, LongSerde), Materialized::default())
    ///     .group_by(|_, count| (Some("all".to_owned()), Some(*count)), Grouped::with(StringSerde, LongSerde))
    ///     .reduce_nullable(
    ///         |sum, count| Some(sum + count),
    ///         |sum, count| (sum != *count).then(|| sum - count),
    ///         Materialized::as_("stock"),
    ///     )
    ///     .to_stream()
    ///     .to("stock", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let products = driver.create_input_topic("products", StringSerde, LongSerde);
    /// # let stock = driver.create_output_topic("stock", StringSerde, LongSerde);
    /// products.pipe_input("tea", 5);
    /// products.pipe_nullable(Some("tea".to_owned()), None);
    /// assert_eq!(stock.read_lines(), ["all:5", "all:null"]);
    /// ```
    pub fn reduce_nullable(
        &self,
        adder: impl Fn(V, &V) -> Option<V> + Send + Sync + 'static,
        subtractor: impl Fn(V, &V) -> Option<V> + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        self.fold(REDUCE, self.serdes.clone(), materialized, move |_, left, entered, joined: Option<V>| {
            let joined = match (left, joined) {
                (Some(left), Some(joined)) => subtractor(joined, left),
                (_, joined) => joined,
            };
            match (entered, joined) {
                (Some(entered), None) => Some(entered.clone()),
                (Some(entered), Some(joined)) => adder(joined, entered),
                (None, joined) => joined,
            }
        })
    }

    /// Folds the values of each group into an aggregate of any type: `adder` for a value that enters, `subtractor` for one that
    /// leaves.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("users", Consumed::with(StringSerde, StringSerde), Materialized::default())
    ///     .group_by(|user, city| (Some(city.clone()), Some(user.clone())), Grouped::with(StringSerde, StringSerde))
    ///     .aggregate(
    ///         String::new,
    ///         |_city, user, users| users + user + " ",
    ///         |_city, user, users| users.replace(&format!("{user} "), ""),
    ///         Materialized::as_("users-of-city").with_value_serde(StringSerde),
    ///     );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let users = driver.create_input_topic("users", StringSerde, StringSerde);
    /// users.pipe_key_values([("ann", "Oslo"), ("bob", "Oslo"), ("ann", "Rome")]);
    /// let users = driver.get_key_value_store::<String, String>("users-of-city").unwrap();
    /// assert_eq!(users.all(), [("Oslo", "bob "), ("Rome", "ann ")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        adder: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        subtractor: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregate_nullable(
            move || Some(initializer()),
            move |key, value, aggregate| aggregate.map(|aggregate| adder(key, value, aggregate)),
            move |key, value, aggregate| Some(subtractor(key, value, aggregate)),
            materialized,
        )
    }

    /// As [`Self::aggregate`] with aggregates that may be null; none deletes the group.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("users", Consumed::with(StringSerde, StringSerde), Materialized::default())
    ///     .group_by(|user, city| (Some(city.clone()), Some(user.clone())), Grouped::with(StringSerde, StringSerde))
    ///     .aggregate_nullable(
    ///         || Some(0),
    ///         |_city, _user, count| Some(count? + 1),
    ///         |_city, _user, count: i64| (count > 1).then(|| count - 1),
    ///         Materialized::as_("counts"),
    ///     );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let users = driver.create_input_topic("users", StringSerde, StringSerde);
    /// users.pipe_key_values([("ann", "Oslo"), ("ann", "Rome")]);
    /// let counts = driver.get_key_value_store::<String, i64>("counts").unwrap();
    /// assert_eq!(counts.all(), [("Rome".to_owned(), 1)]);
    /// ```
    pub fn aggregate_nullable<A: Data>(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        adder: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        subtractor: impl Fn(&K, &V, A) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let serdes = Serdes { keys: self.serdes.keys.clone(), values: None };
        self.fold(AGGREGATE, serdes, materialized, move |key, left, entered, aggregate: Option<A>| {
            let aggregate = match (left, aggregate) {
                (Some(left), Some(aggregate)) => subtractor(key, left, aggregate),
                (_, aggregate) => aggregate,
            };
            match entered {
                Some(entered) => adder(key, entered, aggregate.or_else(&initializer)),
                None => aggregate,
            }
        })
    }

    fn fold<A: Data>(
        &self,
        prefix: &str,
        inherited: Serdes<K, A>,
        materialized: Materialized<K, A>,
        fold: impl Fn(&K, Option<&V>, Option<&V>, Option<A>) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let given = self.next_name.as_deref();
        let (store, sink, source, name) = {
            let mut graph = self.graph.borrow_mut();
            (
                materialized.name.clone().unwrap_or_else(|| graph.generate_store(AGGREGATE)),
                graph.name_with_suffix(given, "-sink", "KSTREAM-SINK-"),
                graph.name_with_suffix(given, "-source", "KSTREAM-SOURCE-"),
                graph.name(given, prefix),
            )
        };
        let serdes = materialized.serdes.clone().or(inherited);
        let (keys, values) = resolve(&self.graph, &name, &serdes);
        let definition = store_definition(&store, &keys, &values, &materialized);
        let state = Arc::new(TableState::default());
        state.materialize();
        let (parent, origins) = self.parent(sink, source, &store);
        let view = StoreView::of(&store, &keys, &values, materialized.history_ms);
        let store = TableStore::of(store, keys, values, &materialized);
        let logic = Arc::new(AggregateChanges { store, state: Arc::clone(&state), fold, types: PhantomData });
        let own = name.clone();
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let (takes, gives) = (Shape::of::<Updates<K, V>>(), Shape::of::<Updates<K, A>>());
            topology.insert_below(&own, Kind::Inner { logic }, takes, Some(gives), parents)?;
            topology.insert_owned(&own, definition)
        });
        let node = self.graph.borrow_mut().add(&[parent], &name, write);
        KTable::new(&self.graph, serdes, node, Lineage::aggregate(state), view, origins)
    }

    /// The source of the repartition topic.
    fn parent(&self, sink: String, source: String, store: &str) -> (usize, Origins) {
        let topic = format!("{}-repartition", self.name.as_deref().unwrap_or(store));
        let origins = Origins::new([topic.clone()].into());
        if let (Some(node), Some(_)) = (self.repartitioned.get(), &self.name) {
            self.graph.borrow_mut().adopt(self.node, node);
            return (node, origins);
        }
        let (keys, values) = resolve(&self.graph, &source, &self.serdes);
        let own = source.clone();
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let shape = Shape::of::<Updates<K, V>>();
            topology.insert_repartition(&topic, None);
            let (sink_keys, sink_values) = (Arc::clone(&keys), Arc::clone(&values));
            let logic = Arc::new(ProduceChanges { topic: topic.clone(), keys: sink_keys, values: sink_values });
            topology.insert_below(&sink, Kind::Sink { logic, topic: Some(topic.clone()) }, shape, None, parents)?;
            let logic = Arc::new(ChangeSource { keys, values });
            let kind = Kind::Source { logic, topics: vec![topic], pattern: None, reset: None };
            topology.insert_source(&own, kind, shape)
        });
        let node = self.graph.borrow_mut().add(&[self.node], &source, write);
        self.repartitioned.set(Some(node));
        (node, origins)
    }
}
