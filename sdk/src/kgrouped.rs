//! Owns `KGroupedStream`: the aggregations of a grouped stream, and the names of their nodes and
//! stores. Must not know how aggregates are kept.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use crate::graph::{Origins, SharedGraph, resolve, store_definition};
use crate::kstream::{Repartition, RepartitionNode, repartition_source};
use crate::ktable::{KTable, Lineage};
use crate::kwindowed::WindowedBy;
use crate::logic::{Aggregate, Count, Fold, Logic, Step, StoreView, TableState, TableStore, View};
use crate::options::{Materialized, Named, Serdes};
use crate::rows::{Data, Rows, Updates};
use crate::serdes::{LongSerde, SharedSerde};
use crate::topology::{Kind, Shape, StoreDefinition, Topology};

/// Records grouped by key, to be aggregated into a table, which is kept in a store with a changelog.
///
/// Records with a null key or a null value are left out, and counted as dropped. The timestamp of an aggregate is the highest
/// one of its records.
pub struct KGroupedStream<K, V> {
    pub(crate) graph: SharedGraph,
    pub(crate) serdes: Serdes<K, V>,
    /// The name of the repartition topic.
    name: Option<String>,
    pub(crate) repartition: bool,
    node: usize,
    /// The node of a repartition topic with a name, shared by all aggregations of this group.
    pub(crate) repartitioned: Rc<Cell<Option<usize>>>,
    next_name: Option<String>,
    origins: Origins,
}

/// What an aggregation is called, and what it writes.
pub(crate) struct Aggregation<K, A> {
    pub(crate) store: String,
    pub(crate) node: String,
    /// As they were given.
    pub(crate) serdes: Serdes<K, A>,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<A>,
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
            origins: Rc::clone(&self.origins),
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
        origins: &Origins,
    ) -> Self {
        let (graph, origins, repartitioned) = (SharedGraph::clone(graph), Rc::clone(origins), Rc::default());
        Self { graph, serdes, name, repartition, node, repartitioned, next_name: None, origins }
    }

    /// The same group; the next aggregation's node gets this name instead of a generated one.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let clicks = builder.stream("clicks", Consumed::with(StringSerde, StringSerde));
    /// clicks.group_by_key(Grouped::default()).named("count-clicks").count(Materialized::as_("counts"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// assert!(driver.describe().contains("Processor: count-clicks"));
    /// ```
    #[must_use]
    pub fn named(&self, name: impl Into<Named>) -> Self {
        Self { next_name: Some(name.into().0), ..self.clone() }
    }

    /// How many records with a value there were of each key.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .count(Materialized::as_("counts"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// clicks.pipe_key_values([("ann", "home"), ("ann", "help")]);
    /// clicks.pipe_nullable(Some("ann".to_owned()), None);
    /// assert_eq!(driver.get_key_value_store("counts").unwrap().get(&"ann".to_owned()), Some(2_i64));
    /// ```
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        self.skip_name(&materialized);
        let serdes = self.count_serdes(&materialized);
        self.fold(AGGREGATE, serdes, materialized, || Some(0), Count)
    }

    /// Joins the values of each key into one: the first is taken as it is, `reducer` joins each further one to it.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("bids", Consumed::with(StringSerde, LongSerde))
    ///     .group_by_key(Grouped::default())
    ///     .reduce(|highest, bid| highest.max(*bid), Materialized::as_("highest"))
    ///     .to_stream()
    ///     .to("highest", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let bids = driver.create_input_topic("bids", StringSerde, LongSerde);
    /// # let highest = driver.create_output_topic("highest", StringSerde, LongSerde);
    /// bids.pipe_key_values([("lamp", 5), ("lamp", 9), ("lamp", 7)]);
    /// assert_eq!(highest.read_lines(), ["lamp:5", "lamp:9", "lamp:9"]);
    /// ```
    pub fn reduce(
        &self,
        reducer: impl Fn(V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        self.reduce_nullable(move |joined, value| Some(reducer(joined, value)), materialized)
    }

    /// As [`Self::reduce`]; none deletes the key, and its next value is the first again.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// // A zero empties the basket.
    /// builder
    ///     .stream("items", Consumed::with(StringSerde, LongSerde))
    ///     .group_by_key(Grouped::default())
    ///     .reduce_nullable(|sum, item| (*item != 0).then(|| sum + item), Materialized::as_("baskets"))
    ///     .to_stream()
    ///     .to("baskets", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let items = driver.create_input_topic("items", StringSerde, LongSerde);
    /// # let baskets = driver.create_output_topic("baskets", StringSerde, LongSerde);
    /// items.pipe_key_values([("ann", 5), ("ann", 2), ("ann", 0), ("ann", 4)]);
    /// assert_eq!(baskets.read_lines(), ["ann:5", "ann:7", "ann:null", "ann:4"]);
    /// ```
    pub fn reduce_nullable(
        &self,
        reducer: impl Fn(V, &V) -> Option<V> + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        self.fold(REDUCE, self.serdes.clone(), materialized, || None, Fold(reducing(reducer)))
    }

    /// Folds the values of each key into an aggregate of any type, which begins as `initializer` says.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .aggregate(
    ///         Vec::new,
    ///         |_user, page, mut pages: Vec<String>| {
    ///             pages.push(page.clone());
    ///             pages
    ///         },
    ///         Materialized::as_("paths").with_value_serde(JsonSerde::new()),
    ///     );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// clicks.pipe_key_values([("ann", "home"), ("ann", "help")]);
    /// let paths = driver.get_key_value_store::<String, Vec<String>>("paths").unwrap();
    /// assert_eq!(paths.get(&"ann".to_owned()).unwrap(), ["home", "help"]);
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregate_nullable(move || Some(initializer()), never_null(aggregator), materialized)
    }

    /// As [`Self::aggregate`] with aggregates that may be null; none deletes the key, whose next value begins anew.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("steps", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .aggregate_nullable(
    ///         || Some(0),
    ///         |_job, step, done: Option<i64>| if step == "end" { None } else { Some(done? + 1) },
    ///         Materialized::as_("running"),
    ///     )
    ///     .to_stream()
    ///     .to("running", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let steps = driver.create_input_topic("steps", StringSerde, StringSerde);
    /// # let running = driver.create_output_topic("running", StringSerde, LongSerde);
    /// steps.pipe_key_values([("job", "begin"), ("job", "end"), ("job", "begin")]);
    /// assert_eq!(running.read_lines(), ["job:1", "job:null", "job:1"]);
    /// ```
    pub fn aggregate_nullable<A: Data>(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let serdes = Serdes { keys: self.serdes.keys.clone(), values: None };
        self.fold(AGGREGATE, serdes, materialized, initializer, Fold(aggregator))
    }

    /// Cuts the group into windows, to be aggregated in each of them: [`crate::TimeWindows`],
    /// [`crate::SlidingWindows`], [`crate::SessionWindows`] or [`crate::UnlimitedWindows`].
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(60)))
    ///     .count(Materialized::as_("per-minute"))
    ///     .to_stream()
    ///     .to("per-minute", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// # let counts = driver.create_output_topic("per-minute", TimeWindowedSerde::new(StringSerde, 60_000), LongSerde);
    /// clicks.pipe_input_at("ann", "home", 59_999);
    /// clicks.pipe_input_at("ann", "help", 60_000);
    /// assert_eq!(counts.read_lines(), ["[ann@0/60000]:1", "[ann@60000/120000]:1"]);
    /// ```
    #[must_use]
    pub fn windowed_by<W: WindowedBy<K, V>>(&self, windows: W) -> W::Stream {
        windows.cut(self)
    }

    fn fold<A: Data>(
        &self,
        prefix: &str,
        inherited: Serdes<K, A>,
        materialized: Materialized<K, A>,
        start: impl Fn() -> Option<A> + Send + Sync + 'static,
        step: impl Step<K, V, A> + 'static,
    ) -> KTable<K, A> {
        let Aggregation { store, node, serdes, keys, values } = self.name_aggregation(prefix, inherited, &materialized);
        let definition = store_definition(&store, &keys, &values, &materialized);
        let state = Arc::new(TableState::default());
        let view = StoreView::of(&store, &keys, &values, materialized.history_ms);
        let store = TableStore::of(store, keys, values, &materialized);
        let logic = Arc::new(Aggregate { store, state: Arc::clone(&state), start, step, types: PhantomData });
        self.attach(node, definition, (state, None), logic, serdes, view)
    }

    /// A count takes a name off the counter that Kafka Streams does not use, for no reason but that it always has.
    pub(crate) fn skip_name(&self, materialized: &Materialized<K, i64>) {
        if materialized.given && materialized.name.is_none() {
            self.graph.borrow_mut().generate_store(AGGREGATE);
        }
    }

    /// What a count is kept as, if nothing else is said.
    pub(crate) fn count_serdes(&self, materialized: &Materialized<K, i64>) -> Serdes<K, i64> {
        let values = materialized.serdes.values.clone().or_else(|| Some(Arc::new(LongSerde)));
        Serdes { keys: self.serdes.keys.clone(), values }
    }

    /// The names of an aggregation, which come off the counter in this order, and its serdes.
    pub(crate) fn name_aggregation<A: Data>(
        &self,
        prefix: &str,
        inherited: Serdes<K, A>,
        materialized: &Materialized<K, A>,
    ) -> Aggregation<K, A> {
        let (store, node) = {
            let mut graph = self.graph.borrow_mut();
            let store = materialized.name.clone().unwrap_or_else(|| graph.generate_store(prefix));
            (store, graph.name(self.next_name.as_deref(), prefix))
        };
        let serdes = materialized.serdes.clone().or(inherited);
        let (keys, values) = resolve(&self.graph, &node, &serdes);
        Aggregation { store, node, serdes, keys, values }
    }

    /// Hangs an aggregation with its store on this group. In windows they close so long after their end.
    pub(crate) fn attach<K2: Data, A: Data>(
        &self,
        name: String,
        definition: StoreDefinition,
        (state, grace_ms): (Arc<TableState>, Option<i64>),
        logic: Arc<dyn Logic>,
        serdes: Serdes<K2, A>,
        view: Arc<dyn View<K2, A>>,
    ) -> KTable<K2, A> {
        state.materialize();
        let (parent, origins) = self.parent(&definition.declared.name);
        let own = name.clone();
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let (takes, gives) = (Shape::of::<Rows<K, V>>(), Shape::of::<Updates<K2, A>>());
            topology.insert_below(&own, Kind::Inner { logic }, takes, Some(gives), parents)?;
            topology.insert_owned(&own, definition)
        });
        let mut graph = self.graph.borrow_mut();
        let node = graph.add(&[parent], &name, write);
        graph.close_after(node, grace_ms);
        drop(graph);
        KTable::new(&self.graph, serdes, node, Lineage::aggregate(state), view, origins)
    }

    /// The node that aggregations hang on: this group's, or the source of a repartition topic.
    fn parent(&self, store: &str) -> (usize, Origins) {
        if !self.repartition {
            return (self.node, Rc::clone(&self.origins));
        }
        let created = self.repartition_source(store);
        let origins = Rc::clone(&created.origins);
        if let (Some(node), Some(_)) = (self.repartitioned.get(), &self.name) {
            self.graph.borrow_mut().adopt(self.node, node);
            return (node, origins);
        }
        let node = created.add(&self.graph, self.node);
        self.repartitioned.set(Some(node));
        (node, origins)
    }

    /// The node that the aggregation hangs on where the group is one of several, which share no repartition topic with
    /// other aggregations of the group: the one known, or a new one.
    pub(crate) fn own_parent(&self, store: &str, known: Option<(usize, Origins)>) -> (usize, Origins) {
        if !self.repartition {
            return (self.node, Rc::clone(&self.origins));
        }
        let created = self.repartition_source(store);
        known.unwrap_or_else(|| {
            let origins = Rc::clone(&created.origins);
            (created.add(&self.graph, self.node), origins)
        })
    }

    fn repartition_source(&self, store: &str) -> RepartitionNode {
        let wanted = Repartition {
            prefix: self.name.clone().unwrap_or_else(|| store.to_owned()),
            serdes: self.serdes.clone(),
            partitioner: None,
            partitions: None,
        };
        repartition_source(&self.graph, wanted)
    }
}

pub(crate) const AGGREGATE: &str = "KSTREAM-AGGREGATE-";
pub(crate) const REDUCE: &str = "KSTREAM-REDUCE-";

/// A step that takes the first value as it is and joins each further one to it.
pub(crate) fn reducing<K, V: Data>(
    reducer: impl Fn(V, &V) -> Option<V> + Send + Sync + 'static,
) -> impl Fn(&K, &V, Option<V>) -> Option<V> + Send + Sync + 'static {
    move |_, value, joined| match joined {
        None => Some(value.clone()),
        Some(joined) => reducer(joined, value),
    }
}

/// A step of an aggregate that its initializer begins and that is never null after.
pub(crate) fn never_null<K, V, A>(
    aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
) -> impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static {
    move |key, value, aggregate| aggregate.map(|aggregate| aggregator(key, value, aggregate))
}
