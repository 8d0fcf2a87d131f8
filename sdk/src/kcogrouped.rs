//! Owns the cogrouped streams: grouped streams that are folded into one aggregate, and the names of their nodes and
//! stores. Must not know how aggregates are kept.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use crate::graph::{Origins, SharedGraph, resolve, store_definition};
use crate::kgrouped::{KGroupedStream, never_null};
use crate::ktable::{KTable, Lineage};
use crate::kwindowed::{Kept, Kind as Windows, Span, WindowedBy, retention};
use crate::logic::{
    Aggregate, AggregateSessions, AggregateSliding, AggregateWindows, Fold, Logic, MergeJoined, StoreView, TableState,
    TableStore, View,
};
use crate::options::{Materialized, Named, Serdes};
use crate::rows::{Data, Rows, Updates};
use crate::serdes::SharedSerde;
use crate::topology::{Kind, Shape, StoreDefinition, Topology};
use crate::windows::{FixedWindows, SessionWindows, SlidingWindows, Windowed};

const AGGREGATE: &str = "COGROUPKSTREAM-AGGREGATE-";
const MERGE: &str = "COGROUPKSTREAM-MERGE-";

type Initializer<A> = Arc<dyn Fn() -> Option<A> + Send + Sync>;
type Aggregator<K, V, A> = Arc<dyn Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync>;
type Merger<K, A> = Arc<dyn Fn(&K, Option<A>, A) -> Option<A> + Send + Sync>;

/// What the nodes of one table have in common.
#[derive(Clone)]
struct Common<K, A> {
    store: TableStore<K, A>,
    state: Arc<TableState>,
    start: Initializer<A>,
}

/// One of the grouped streams: its values have a type of their own.
trait Member<K, A> {
    fn is_of(&self, group: &Group) -> bool;
    /// The node that the aggregation hangs on.
    fn parent(&self, store: &str) -> (usize, Origins);
    fn takes(&self) -> Shape;
    fn aggregate(&self, common: Common<K, A>) -> Arc<dyn Logic>;
    fn windows(&self, windows: FixedWindows, common: Common<Windowed<K>, A>) -> Arc<dyn Logic>;
    fn sliding(&self, windows: SlidingWindows, keys: SharedSerde<K>, common: Common<Windowed<K>, A>) -> Arc<dyn Logic>;
    fn sessions(
        &self,
        windows: SessionWindows,
        keys: SharedSerde<K>,
        common: Common<Windowed<K>, A>,
        merge: Merger<K, A>,
    ) -> Arc<dyn Logic>;
}

/// What tells a group from others.
type Group = Rc<std::cell::Cell<Option<usize>>>;

struct Folded<K, V, A> {
    grouped: KGroupedStream<K, V>,
    aggregator: Aggregator<K, V, A>,
    /// The node that brings the records back from a repartition topic, shared by all tables of these groups.
    repartitioned: RefCell<Option<(usize, Origins)>>,
}

impl<K: Data, V: Data, A: Data> Folded<K, V, A> {
    fn step(&self) -> Fold<impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static + use<K, V, A>> {
        let aggregator = Arc::clone(&self.aggregator);
        Fold(move |key: &K, value: &V, aggregate| aggregator(key, value, aggregate))
    }
}

fn begin<A: 'static>(start: Initializer<A>) -> impl Fn() -> Option<A> + Send + Sync + 'static {
    move || start()
}

impl<K: Data, V: Data, A: Data> Member<K, A> for Folded<K, V, A> {
    fn is_of(&self, group: &Group) -> bool {
        Rc::ptr_eq(&self.grouped.repartitioned, group)
    }

    fn parent(&self, store: &str) -> (usize, Origins) {
        let mut known = self.repartitioned.borrow_mut();
        let made = self.grouped.own_parent(store, known.take());
        if self.grouped.repartition {
            *known = Some((made.0, Rc::clone(&made.1)));
        }
        made
    }

    fn takes(&self) -> Shape {
        Shape::of::<Rows<K, V>>()
    }

    fn aggregate(&self, Common { store, state, start }: Common<K, A>) -> Arc<dyn Logic> {
        Arc::new(Aggregate { store, state, start: begin(start), step: self.step(), types: PhantomData::<fn() -> V> })
    }

    fn windows(&self, windows: FixedWindows, common: Common<Windowed<K>, A>) -> Arc<dyn Logic> {
        let Common { store, state, start } = common;
        let aggregator = Arc::clone(&self.aggregator);
        let step = Fold(move |key: &Windowed<K>, value: &V, aggregate| aggregator(&key.key, value, aggregate));
        let aggregate = Aggregate { store, state, start: begin(start), step, types: PhantomData::<fn() -> V> };
        Arc::new(AggregateWindows { windows, aggregate, closes: None })
    }

    fn sliding(&self, windows: SlidingWindows, keys: SharedSerde<K>, common: Common<Windowed<K>, A>) -> Arc<dyn Logic> {
        let Common { store, state, start } = common;
        let (start, step, types) = (begin(start), self.step(), PhantomData::<fn() -> V>);
        Arc::new(AggregateSliding { windows, inner: keys, store, state, start, step, closes: None, types })
    }

    fn sessions(
        &self,
        windows: SessionWindows,
        keys: SharedSerde<K>,
        common: Common<Windowed<K>, A>,
        merge: Merger<K, A>,
    ) -> Arc<dyn Logic> {
        let Common { store, state, start } = common;
        let (start, step, types) = (begin(start), self.step(), PhantomData::<fn() -> V>);
        let merge = move |key: &K, one, other| merge(key, one, other);
        Arc::new(AggregateSessions { windows, inner: keys, store, state, start, step, merge, closes: None, types })
    }
}

/// Grouped streams whose values are folded into one aggregate, each by an aggregator of its own. The topics of all of
/// them need as many partitions.
///
/// Records with a null key or a null value are left out, and counted as dropped.
pub struct CogroupedKStream<K, A> {
    graph: SharedGraph,
    keys: Option<SharedSerde<K>>,
    members: Vec<Rc<dyn Member<K, A>>>,
    next_name: Option<String>,
}

impl<K, A> Clone for CogroupedKStream<K, A> {
    fn clone(&self) -> Self {
        Self {
            graph: SharedGraph::clone(&self.graph),
            keys: self.keys.clone(),
            members: self.members.clone(),
            next_name: self.next_name.clone(),
        }
    }
}

impl<K, A> fmt::Debug for CogroupedKStream<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CogroupedKStream").field("groups", &self.members.len()).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> KGroupedStream<K, V> {
    /// Begins an aggregate of several grouped streams: `aggregator` folds the values of this one into it,
    /// [`CogroupedKStream::cogroup`] adds the others.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let orders = builder.stream("orders", Consumed::with(StringSerde, LongSerde)).group_by_key(Grouped::default());
    /// let returns = builder.stream("returns", Consumed::with(StringSerde, LongSerde)).group_by_key(Grouped::default());
    /// orders
    ///     .cogroup(|_customer, amount, balance| balance + amount)
    ///     .cogroup(&returns, |_customer, amount, balance| balance - amount)
    ///     .aggregate(|| 0, Materialized::with(StringSerde, LongSerde))
    ///     .to_stream()
    ///     .to("balances", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let orders = driver.create_input_topic("orders", StringSerde, LongSerde);
    /// # let returns = driver.create_input_topic("returns", StringSerde, LongSerde);
    /// # let balances = driver.create_output_topic("balances", StringSerde, LongSerde);
    /// orders.pipe_input("ann", 100);
    /// returns.pipe_input("ann", 30);
    /// assert_eq!(balances.read_lines(), ["ann:100", "ann:70"]);
    /// ```
    #[must_use]
    pub fn cogroup<A: Data>(
        &self,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> CogroupedKStream<K, A> {
        self.cogroup_nullable(never_null(aggregator))
    }

    /// As [`Self::cogroup`] with aggregates that may be null; none deletes the key, whose next value begins anew.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let begun = builder.stream("begun", Consumed::with(StringSerde, LongSerde)).group_by_key(Grouped::default());
    /// let ended = builder.stream("ended", Consumed::with(StringSerde, StringSerde)).group_by_key(Grouped::default());
    /// begun
    ///     .cogroup_nullable(|_job, at, _| Some(*at))
    ///     .cogroup_nullable(&ended, |_job, _how, _| None)
    ///     .aggregate_nullable(|| None, Materialized::as_("running").with_value_serde(LongSerde))
    ///     .to_stream()
    ///     .to("running", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let begun = driver.create_input_topic("begun", StringSerde, LongSerde);
    /// # let ended = driver.create_input_topic("ended", StringSerde, StringSerde);
    /// # let running = driver.create_output_topic("running", StringSerde, LongSerde);
    /// begun.pipe_input("job", 7);
    /// ended.pipe_input("job", "well");
    /// assert_eq!(running.read_lines(), ["job:7", "job:null"]);
    /// ```
    #[must_use]
    pub fn cogroup_nullable<A: Data>(
        &self,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
    ) -> CogroupedKStream<K, A> {
        let (graph, keys) = (SharedGraph::clone(&self.graph), self.serdes.keys.clone());
        CogroupedKStream { graph, keys, members: Vec::new(), next_name: None }.cogroup_nullable(self, aggregator)
    }
}

impl<K: Data, A: Data> CogroupedKStream<K, A> {
    /// The same with one more grouped stream, whose values `aggregator` folds into the aggregate. A group that is there
    /// already gets this aggregator instead of its own.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let grouped = |builder: &mut StreamsBuilder, topic: &str| {
    ///     builder.stream(topic, Consumed::with(StringSerde, LongSerde)).group_by_key(Grouped::default())
    /// };
    /// let (orders, returns) = (grouped(&mut builder, "orders"), grouped(&mut builder, "returns"));
    /// let gifts = grouped(&mut builder, "gifts");
    /// orders
    ///     .cogroup(|_customer, amount, balance| balance + amount)
    ///     .cogroup(&returns, |_customer, amount, balance| balance - amount)
    ///     .cogroup(&gifts, |_customer, amount, balance| balance - 2 * amount)
    ///     .aggregate(|| 0, Materialized::as_("balances").with_value_serde(LongSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let gifts = driver.create_input_topic("gifts", StringSerde, LongSerde);
    /// gifts.pipe_input("ann", 10);
    /// assert_eq!(driver.get_key_value_store("balances").unwrap().get(&"ann".to_owned()), Some(-20_i64));
    /// ```
    #[must_use]
    pub fn cogroup<V: Data>(
        &self,
        grouped: &KGroupedStream<K, V>,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> Self {
        self.cogroup_nullable(grouped, never_null(aggregator))
    }

    /// As [`Self::cogroup`] with aggregates that may be null; none deletes the key, whose next value begins anew.
    #[must_use]
    pub fn cogroup_nullable<V: Data>(
        &self,
        grouped: &KGroupedStream<K, V>,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
    ) -> Self {
        let member: Rc<dyn Member<K, A>> = Rc::new(Folded {
            grouped: grouped.clone(),
            aggregator: Arc::new(aggregator),
            repartitioned: RefCell::default(),
        });
        let mut more = self.clone();
        match more.members.iter_mut().find(|known| known.is_of(&grouped.repartitioned)) {
            Some(known) => *known = member,
            None => more.members.push(member),
        }
        more
    }

    /// The same streams; the nodes of the next aggregation get names that begin with this one.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, LongSerde))
    ///     .group_by_key(Grouped::default())
    ///     .cogroup(|_customer, amount, balance| balance + amount)
    ///     .named("balance")
    ///     .aggregate(|| 0, Materialized::as_("balances").with_value_serde(LongSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// assert!(driver.describe().contains("Processor: balance-cogroup-merge"));
    /// ```
    #[must_use]
    pub fn named(&self, name: impl Into<Named>) -> Self {
        Self { next_name: Some(name.into().0), ..self.clone() }
    }

    /// The aggregate of each key, which begins as `initializer` says, as a table in a store with a changelog.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, LongSerde))
    ///     .group_by_key(Grouped::default())
    ///     .cogroup(|_customer, amount, balance| balance + amount)
    ///     .aggregate(|| 100, Materialized::as_("balances").with_value_serde(LongSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let orders = driver.create_input_topic("orders", StringSerde, LongSerde);
    /// orders.pipe_input("ann", 10);
    /// assert_eq!(driver.get_key_value_store("balances").unwrap().get(&"ann".to_owned()), Some(110_i64));
    /// ```
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregate_nullable(move || Some(initializer()), materialized)
    }

    /// As [`Self::aggregate`] with aggregates that may be null.
    pub fn aggregate_nullable(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let Table { store, serdes, keys, values } = self.table(&materialized);
        let definition = store_definition(&store, &keys, &values, &materialized);
        let view = StoreView::of(&store, &keys, &values, materialized.history_ms);
        let (state, start) = (Arc::new(TableState::default()), Arc::new(initializer));
        let store = TableStore::of(store, keys, values, &materialized);
        let common = Common { store, state: Arc::clone(&state), start };
        self.attach(definition, (state, None), serdes, view, |member| member.aggregate(common.clone()))
    }

    /// Cuts the groups into windows, to be aggregated in each of them: [`crate::TimeWindows`],
    /// [`crate::SlidingWindows`], [`crate::SessionWindows`] or [`crate::UnlimitedWindows`].
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// let orders = builder.stream("orders", Consumed::with(StringSerde, LongSerde)).group_by_key(Grouped::default());
    /// let returns = builder.stream("returns", Consumed::with(StringSerde, LongSerde)).group_by_key(Grouped::default());
    /// orders
    ///     .cogroup(|_customer, amount, balance: i64| balance + amount)
    ///     .cogroup(&returns, |_customer, amount, balance| balance - amount)
    ///     .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(60)))
    ///     .aggregate(|| 0, Materialized::with(StringSerde, LongSerde))
    ///     .to_stream()
    ///     .to("balances", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let orders = driver.create_input_topic("orders", StringSerde, LongSerde);
    /// # let returns = driver.create_input_topic("returns", StringSerde, LongSerde);
    /// # let balances = driver.create_output_topic("balances", TimeWindowedSerde::new(StringSerde, 60_000), LongSerde);
    /// orders.pipe_input_at("ann", 100, 0);
    /// returns.pipe_input_at("ann", 30, 60_000);
    /// assert_eq!(balances.read_lines(), ["[ann@0/60000]:100", "[ann@60000/120000]:-30"]);
    /// ```
    #[must_use]
    pub fn windowed_by<W: WindowedBy<K, A>>(&self, windows: W) -> W::Cogrouped {
        windows.cut_cogrouped(self)
    }

    /// The name of the table's store, which comes off the counter first, and its serdes.
    fn table(&self, materialized: &Materialized<K, A>) -> Table<K, A> {
        let generated = || self.graph.borrow_mut().generate_store(AGGREGATE);
        let store = materialized.name.clone().unwrap_or_else(generated);
        let serdes = materialized.serdes.clone().or(Serdes { keys: self.keys.clone(), values: None });
        let (keys, values) = resolve(&self.graph, &store, &serdes);
        Table { store, serdes, keys, values }
    }

    /// Hangs an aggregation on each group, and one node on all of these.
    fn attach<K2: Data>(
        &self,
        definition: StoreDefinition,
        (state, grace_ms): (Arc<TableState>, Option<i64>),
        serdes: Serdes<K2, A>,
        view: Arc<dyn View<K2, A>>,
        logic: impl Fn(&dyn Member<K, A>) -> Arc<dyn Logic>,
    ) -> KTable<K2, A> {
        state.materialize();
        let store = definition.declared.name.clone();
        let parents: Vec<(usize, Origins)> = self.members.iter().map(|member| member.parent(&store)).collect();
        let gives = Shape::of::<Updates<K2, A>>();
        let mut graph = self.graph.borrow_mut();
        let mut nodes = Vec::new();
        for (number, (member, (parent, _))) in self.members.iter().zip(&parents).enumerate() {
            let suffix = format!("-cogroup-agg-{number}");
            let name = graph.name_with_suffix(self.next_name.as_deref(), &suffix, AGGREGATE);
            let (own, takes, logic) = (name.clone(), member.takes(), logic(&**member));
            let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
                topology.insert_below(&own, Kind::Inner { logic }, takes, Some(gives), parents)
            });
            nodes.push(graph.add(&[*parent], &name, write));
        }
        let name = graph.name_with_suffix(self.next_name.as_deref(), "-cogroup-merge", MERGE);
        let (own, merge) = (name.clone(), MergeJoined::<K2, A> { store: None, state: Arc::clone(&state) });
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            topology.insert_below(&own, Kind::Inner { logic: Arc::new(merge) }, gives, Some(gives), parents)?;
            let (first, others) = parents.split_first().ok_or("a cogrouped stream has a group")?;
            topology.insert_owned(first, definition)?;
            others.iter().try_for_each(|other| topology.connect(other, &store))
        });
        let node = graph.add(&nodes, &name, write);
        graph.close_after(node, grace_ms);
        let mut origins = parents.into_iter().map(|(_, origins)| origins);
        let first = origins.next().unwrap_or_default();
        let origins = origins.fold(first, |all, other| graph.copartition(&all, &other));
        drop(graph);
        KTable::new(&self.graph, serdes, node, Lineage::aggregate(state), view, origins)
    }
}

struct Table<K, A> {
    store: String,
    /// As they were given.
    serdes: Serdes<K, A>,
    keys: SharedSerde<K>,
    values: SharedSerde<A>,
}

/// Cogrouped streams cut into windows by time, to be aggregated into a table of keys and windows. Records whose windows
/// are closed, and those with a null key or value, are left out and counted as dropped.
#[derive(Debug)]
pub struct TimeWindowedCogroupedKStream<K, A> {
    pub(crate) cogrouped: CogroupedKStream<K, A>,
    pub(crate) windows: Windows,
}

impl<K: Data, A: Data> TimeWindowedCogroupedKStream<K, A> {
    /// The same streams; the nodes of the next aggregation get names that begin with this one.
    #[must_use]
    pub fn named(&self, name: impl Into<Named>) -> Self {
        Self { cogrouped: self.cogrouped.named(name), windows: self.windows }
    }

    /// The aggregate of each key and window, which begins as `initializer` says, as a table in a window store with a changelog.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, LongSerde))
    ///     .group_by_key(Grouped::default())
    ///     .cogroup(|_customer, amount, balance| balance + amount)
    ///     .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(60)))
    ///     .aggregate(|| 0, Materialized::as_("balances").with_value_serde(LongSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let orders = driver.create_input_topic("orders", StringSerde, LongSerde);
    /// orders.pipe_input_at("ann", 10, 61_000);
    /// assert_eq!(driver.get_window_store("balances").unwrap().fetch(&"ann".to_owned(), 60_000), Some(10_i64));
    /// ```
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_nullable(move || Some(initializer()), materialized)
    }

    /// As [`Self::aggregate`] with aggregates that may be null.
    pub fn aggregate_nullable(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let (span, checked) = match self.windows {
            Windows::Fixed(windows) => (Span::from(windows), windows.check()),
            Windows::Sliding(windows) => (Span::from(windows), windows.check()),
        };
        let Table { store, serdes, keys, values } = self.cogrouped.table(&materialized);
        let retention_ms = retention(&self.cogrouped.graph, &store, checked, span.least_ms, &materialized);
        let Kept { store, definition, view, written } =
            Kept::in_windows(span.size_ms, retention_ms, store, (&keys, values), &materialized);
        let serdes = Serdes { keys: Some(written), values: serdes.values };
        let (state, start) = (Arc::new(TableState::default()), Arc::new(initializer));
        let common = Common { store, state: Arc::clone(&state), start };
        self.cogrouped.attach(definition, (state, Some(span.grace_ms)), serdes, view, |member| match self.windows {
            Windows::Fixed(windows) => member.windows(windows, common.clone()),
            Windows::Sliding(windows) => member.sliding(windows, keys.clone(), common.clone()),
        })
    }
}

/// Cogrouped streams cut into sessions, to be aggregated into a table of keys and sessions. Records that come too late
/// for any open session, and those with a null key or value, are left out and counted as dropped.
#[derive(Debug)]
pub struct SessionWindowedCogroupedKStream<K, A> {
    pub(crate) cogrouped: CogroupedKStream<K, A>,
    pub(crate) windows: SessionWindows,
}

impl<K: Data, A: Data> SessionWindowedCogroupedKStream<K, A> {
    /// The same streams; the nodes of the next aggregation get names that begin with this one.
    #[must_use]
    pub fn named(&self, name: impl Into<Named>) -> Self {
        Self { cogrouped: self.cogrouped.named(name), windows: self.windows }
    }

    /// The aggregate of each key and session, which begins as `initializer` says; `merger` makes one aggregate of those
    /// of two sessions.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// let clicks = builder.stream("clicks", Consumed::with(StringSerde, StringSerde)).group_by_key(Grouped::default());
    /// let buys = builder.stream("buys", Consumed::with(StringSerde, LongSerde)).group_by_key(Grouped::default());
    /// clicks
    ///     .cogroup(|_user, _page, worth: i64| worth + 1)
    ///     .cogroup(&buys, |_user, amount, worth| worth + amount)
    ///     .windowed_by(SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_secs(30)))
    ///     .aggregate(|| 0, |_user, one, other| one + other, Materialized::with(StringSerde, LongSerde))
    ///     .to_stream()
    ///     .to("visits", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// # let buys = driver.create_input_topic("buys", StringSerde, LongSerde);
    /// # let visits = driver.create_output_topic("visits", SessionWindowedSerde::new(StringSerde), LongSerde);
    /// clicks.pipe_input_at("ann", "home", 0);
    /// buys.pipe_input_at("ann", 50, 20_000);
    /// assert_eq!(visits.read_lines(), ["[ann@0/0]:1", "[ann@0/0]:null", "[ann@0/20000]:51"]);
    /// ```
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        merger: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let merge = move |key: &K, one: Option<A>, other: A| one.map(|one| merger(key, one, other));
        self.aggregate_nullable(move || Some(initializer()), merge, materialized)
    }

    /// As [`Self::aggregate`] with aggregates that may be null; none deletes the session.
    pub fn aggregate_nullable(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        merger: impl Fn(&K, Option<A>, A) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let SessionWindows { gap_ms, grace_ms } = self.windows;
        let least_ms = gap_ms.saturating_add(grace_ms);
        let Table { store, serdes, keys, values } = self.cogrouped.table(&materialized);
        let retention_ms = retention(&self.cogrouped.graph, &store, self.windows.check(), least_ms, &materialized);
        let Kept { store, definition, view, written } =
            Kept::in_sessions(retention_ms, store, (&keys, values), &materialized);
        let serdes = Serdes { keys: Some(written), values: serdes.values };
        let (state, start) = (Arc::new(TableState::default()), Arc::new(initializer));
        let merge: Merger<K, A> = Arc::new(merger);
        let common = Common { store, state: Arc::clone(&state), start };
        self.cogrouped.attach(definition, (state, Some(least_ms)), serdes, view, |member| {
            member.sessions(self.windows, keys.clone(), common.clone(), Arc::clone(&merge))
        })
    }
}
