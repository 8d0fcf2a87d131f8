//! Owns `KStream`: the operators on a stream of records, and the names their nodes get. Must not
//! know how records flow.

mod branch;
mod join;
mod join_streams;
mod process;
mod repartition;

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::graph::{Origins, SharedGraph, resolve};
use crate::kgrouped::KGroupedStream;
use crate::logic::{
    Destination, Filter, FlatMap, FlatMapValues, Logic, Map, MapOnlyValues, MapValues, Observe, PassThrough, Produce,
    SelectKey,
};
use crate::options::{Grouped, Named, Produced, RecordContext, Serdes};
use crate::printed::Printed;
use crate::rows::{Data, Rows};
use crate::topology::{Kind, Shape};

pub use branch::{Branched, BranchedKStream};
pub(crate) use repartition::{Repartition, RepartitionNode, repartition_source};

/// A stream of records, each for itself.
///
/// Keys and values can be null in Kafka, so closures that see both get `Option`s. Closures that see the value alone are
/// not called for a null, which stays null. Timestamps and headers go on with each record.
///
/// The key of a record decides its partition. After an operator that may have changed it
/// (`select_key`, `map`, `flat_map`, `group_by`, `process`), the next aggregation, join or table sends the records
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
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let lines = builder.stream("lines", Consumed::with(StringSerde, StringSerde));
    /// lines.named("long-lines").filter(|_, line| line.is_some_and(|line| line.len() > 80)).to("long", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// assert!(driver.describe().contains("Processor: long-lines"));
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

    /// The records for which the predicate says yes. It is asked about null keys and values, too.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("lines", Consumed::with(StringSerde, StringSerde))
    ///     .filter(|_, line| line.is_some_and(|line| line.len() > 3))
    ///     .to("long", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// # let long = driver.create_output_topic("long", StringSerde, StringSerde);
    /// lines.pipe_key_values([("a", "yes"), ("b", "maybe")]);
    /// lines.pipe_nullable(Some("c".to_owned()), None);
    /// assert_eq!(long.read_lines(), ["b:maybe"]);
    /// ```
    #[must_use]
    pub fn filter(&self, predicate: impl Fn(Option<&K>, Option<&V>) -> bool + Send + Sync + 'static) -> Self {
        self.then("KSTREAM-FILTER-", self.serdes.clone(), false, Filter::new(true, predicate))
    }

    /// The records for which the predicate says no. It is asked about null keys and values, too.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("lines", Consumed::with(StringSerde, StringSerde))
    ///     .filter_not(|_, line| line.is_none_or(String::is_empty))
    ///     .to("full", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// # let full = driver.create_output_topic("full", StringSerde, StringSerde);
    /// lines.pipe_key_values([("a", ""), ("b", "x")]);
    /// lines.pipe_nullable(Some("c".to_owned()), None);
    /// assert_eq!(full.read_lines(), ["b:x"]);
    /// ```
    #[must_use]
    pub fn filter_not(&self, predicate: impl Fn(Option<&K>, Option<&V>) -> bool + Send + Sync + 'static) -> Self {
        self.then("KSTREAM-FILTER-", self.serdes.clone(), false, Filter::new(false, predicate))
    }

    /// Other keys for the same values; none is a null key. What needs equal keys in one partition sends the records through a
    /// repartition topic after this; a null key is left out there, unless a left or outer join wants it.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// // The first word becomes the key.
    /// builder
    ///     .stream("lines", Consumed::with(StringSerde, StringSerde))
    ///     .select_key(|_, line| line?.split(' ').next().map(str::to_owned))
    ///     .to("by-first-word", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// # let keyed = driver.create_output_topic("by-first-word", StringSerde, StringSerde);
    /// lines.pipe_input("a", "all streams lead to the ocean");
    /// assert_eq!(keyed.read_lines(), ["all:all streams lead to the ocean"]);
    /// ```
    #[must_use]
    pub fn select_key<K2: Data>(
        &self,
        selector: impl Fn(Option<&K>, Option<&V>) -> Option<K2> + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        let serdes = Serdes { keys: None, values: self.serdes.values.clone() };
        self.then("KSTREAM-KEY-SELECT-", serdes, true, SelectKey::new(selector))
    }

    /// Another key and value for each record, null or not. If only the value changes take [`Self::map_values`], which spares
    /// the repartition topic.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, StringSerde))
    ///     .map(|order, product| (product.cloned(), order.cloned()))
    ///     .to("by-product", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let orders = driver.create_input_topic("orders", StringSerde, StringSerde);
    /// # let products = driver.create_output_topic("by-product", StringSerde, StringSerde);
    /// orders.pipe_input("o1", "tea");
    /// assert_eq!(products.read_lines(), ["tea:o1"]);
    /// ```
    #[must_use]
    pub fn map<K2: Data, V2: Data>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> (Option<K2>, Option<V2>) + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.then("KSTREAM-MAP-", Serdes::default(), true, Map::new(mapper))
    }

    /// Other values for the same keys. A null value stays null, and the mapper is not called for it.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("lines", Consumed::with(StringSerde, StringSerde))
    ///     .map_values(|line| line.to_uppercase())
    ///     .to("loud", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// # let loud = driver.create_output_topic("loud", StringSerde, StringSerde);
    /// lines.pipe_input("a", "hello");
    /// lines.pipe_nullable(Some("b".to_owned()), None);
    /// assert_eq!(loud.read_lines(), ["a:HELLO", "b:null"]);
    /// ```
    #[must_use]
    pub fn map_values<V2: Data>(&self, mapper: impl Fn(&V) -> V2 + Send + Sync + 'static) -> KStream<K, V2> {
        self.then("KSTREAM-MAPVALUES-", self.keeping_keys(), false, MapOnlyValues::<K, V, V2, _>::new(mapper))
    }

    /// Other values for the same keys, by a mapper that sees the key and is called for nulls, too.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("lines", Consumed::with(StringSerde, StringSerde))
    ///     .map_values_with_key(|key, line| Some(format!("{}: {}", key?, line.map_or("nothing", String::as_str))))
    ///     .to("told", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// # let told = driver.create_output_topic("told", StringSerde, StringSerde);
    /// lines.pipe_input("a", "hello");
    /// lines.pipe_nullable(Some("b".to_owned()), None);
    /// assert_eq!(told.read_lines(), ["a:a: hello", "b:b: nothing"]);
    /// ```
    #[must_use]
    pub fn map_values_with_key<V2: Data>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> Option<V2> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.then("KSTREAM-MAPVALUES-", self.keeping_keys(), false, MapValues::new(mapper))
    }

    /// Any number of records for each, with keys and values of their own, in this order. They have the timestamp and the
    /// headers of the one they are made of.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("transfers", Consumed::with(StringSerde, StringSerde))
    ///     .flat_map(|from, to| [(from.cloned(), Some(-1)), (to.cloned(), Some(1))])
    ///     .to("bookings", Produced::with(StringSerde, LongSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let transfers = driver.create_input_topic("transfers", StringSerde, StringSerde);
    /// # let bookings = driver.create_output_topic("bookings", StringSerde, LongSerde);
    /// transfers.pipe_input("ann", "bob");
    /// assert_eq!(bookings.read_lines(), ["ann:-1", "bob:1"]);
    /// ```
    #[must_use]
    pub fn flat_map<K2: Data, V2: Data, I: IntoIterator<Item = (Option<K2>, Option<V2>)> + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> I + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.then("KSTREAM-FLATMAP-", Serdes::default(), true, FlatMap::new(mapper))
    }

    /// Any number of values for each, under the same key and in this order. A null value gives none.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("lines", Consumed::with(StringSerde, StringSerde))
    ///     .flat_map_values(|line: &String| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    ///     .to("words", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// # let words = driver.create_output_topic("words", StringSerde, StringSerde);
    /// lines.pipe_input("a", "to be");
    /// assert_eq!(words.read_lines(), ["a:to", "a:be"]);
    /// ```
    #[must_use]
    pub fn flat_map_values<V2: Data, I: IntoIterator<Item = V2> + 'static>(
        &self,
        mapper: impl Fn(&V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.flat_map_values_with_key(move |_, value| value.map(&mapper).into_iter().flatten().map(Some))
    }

    /// As [`Self::flat_map_values`] by a mapper that sees the key and is called for nulls, too. None is a null value.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("names", Consumed::with(StringSerde, StringSerde))
    ///     .flat_map_values_with_key(|id, name| [id.cloned(), name.cloned()].into_iter().filter(Option::is_some))
    ///     .to("known-as", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
    /// # let known = driver.create_output_topic("known-as", StringSerde, StringSerde);
    /// names.pipe_input("u1", "Ada");
    /// names.pipe_nullable(Some("u2".to_owned()), None);
    /// assert_eq!(known.read_lines(), ["u1:u1", "u1:Ada", "u2:u2"]);
    /// ```
    #[must_use]
    pub fn flat_map_values_with_key<V2: Data, I: IntoIterator<Item = Option<V2>>>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.then("KSTREAM-FLATMAPVALUES-", self.keeping_keys(), false, FlatMapValues::new(mapper))
    }

    /// The same records, each shown to `action` on its way, nulls included. A record can be shown again: after a failure, and
    /// when its batch is run again in parts.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("lines", Consumed::with(StringSerde, StringSerde))
    ///     .peek(|key, line| println!("{key:?} has {line:?}"))
    ///     .to("same", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// # let same = driver.create_output_topic("same", StringSerde, StringSerde);
    /// lines.pipe_input("a", "hello");
    /// assert_eq!(same.read_lines(), ["a:hello"]);
    /// ```
    #[must_use]
    pub fn peek(&self, action: impl Fn(Option<&K>, Option<&V>) + Send + Sync + 'static) -> Self {
        self.then("KSTREAM-PEEK-", self.serdes.clone(), false, Observe::new(action))
    }

    /// Ends the stream: each record is shown to `action`, nulls included, perhaps more than once as in [`Self::peek`].
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// # use std::sync::atomic::{AtomicUsize, Ordering};
    /// static SEEN: AtomicUsize = AtomicUsize::new(0);
    ///
    /// builder.stream("lines", Consumed::with(StringSerde, StringSerde)).foreach(|_, _| {
    ///     SEEN.fetch_add(1, Ordering::Relaxed);
    /// });
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// lines.pipe_key_values([("a", "x"), ("b", "y")]);
    /// assert_eq!(SEEN.load(Ordering::Relaxed), 2);
    /// ```
    pub fn foreach(&self, action: impl Fn(Option<&K>, Option<&V>) + Send + Sync + 'static) {
        self.add_node::<Rows<K, V>>("KSTREAM-FOREACH-", Observe::new(action));
    }

    /// Ends the stream: each record is printed as `printed` says. What a module prints is a line of the host's log.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let lines = builder.stream("lines", Consumed::with(StringSerde, StringSerde));
    /// // [lines]: "a", "hello"
    /// lines.print(Printed::to_sys_out().with_label("lines"));
    /// // [KSTREAM-SOURCE-0000000000]: 5 bytes
    /// lines.print(Printed::to_sys_out_as(|_, line| format!("{} bytes", line.map_or(0, String::len))));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// lines.pipe_input("a", "hello");
    /// ```
    pub fn print(&self, printed: Printed<K, V>) {
        let Printed { label, name, mapper } = printed;
        let label = label.unwrap_or_else(|| self.name.clone());
        let named = Self { next_name: name.or_else(|| self.next_name.clone()), ..self.clone() };
        let print = move |key: Option<&K>, value: Option<&V>| println!("[{label}]: {}", mapper(key, value));
        named.add_node::<Rows<K, V>>("KSTREAM-PRINTER-", Observe::new(print));
    }

    /// The records of both streams. Those of one partition keep their order, the two streams are not ordered against each
    /// other. If the keys of either may have changed, those of both count as changed.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let web = builder.stream("web", Consumed::with(StringSerde, StringSerde));
    /// let app = builder.stream("app", Consumed::with(StringSerde, StringSerde));
    /// web.merge(&app).to("all", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let web = driver.create_input_topic("web", StringSerde, StringSerde);
    /// # let app = driver.create_input_topic("app", StringSerde, StringSerde);
    /// # let all = driver.create_output_topic("all", StringSerde, StringSerde);
    /// web.pipe_input("a", "1");
    /// app.pipe_input("b", "2");
    /// assert_eq!(all.read_lines(), ["a:1", "b:2"]);
    /// ```
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

    /// Groups the records by their key, for an aggregation, which leaves out those without a key. If the key may have
    /// changed, the aggregation gets a repartition topic, `<application.id>-<name>-repartition`: named by `grouped`, else by
    /// the aggregation's store.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .count(Materialized::as_("counts"))
    ///     .to_stream()
    ///     .to("counts", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// # let counts = driver.create_output_topic("counts", StringSerde, LongSerde);
    /// clicks.pipe_key_values([("ann", "home"), ("bob", "home"), ("ann", "help")]);
    /// assert_eq!(counts.read_lines(), ["ann:1", "bob:1", "ann:2"]);
    /// ```
    #[must_use]
    pub fn group_by_key(&self, grouped: Grouped<K, V>) -> KGroupedStream<K, V> {
        let serdes = grouped.serdes.or(self.serdes.clone());
        KGroupedStream::new(&self.graph, serdes, grouped.name, self.repartition, self.node, &self.origins)
    }

    /// Groups the records by another key, for an aggregation. Records whose new key is none are left out. The others go
    /// through a repartition topic, see [`Self::group_by_key`].
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by(|_user, page| page.cloned(), Grouped::with(StringSerde, StringSerde).with_name("by-page"))
    ///     .count(Materialized::as_("counts"))
    ///     .to_stream()
    ///     .to("counts", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// # let counts = driver.create_output_topic("counts", StringSerde, LongSerde);
    /// clicks.pipe_key_values([("ann", "home"), ("bob", "home")]);
    /// assert_eq!(counts.read_lines(), ["home:1", "home:2"]);
    /// assert!(driver.produced_topic_names().contains(&"test-application-by-page-repartition".to_owned()));
    /// ```
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

    /// Ends the stream: the records are written to a topic, nulls included, with their timestamps and headers. The topic must
    /// be there; it is not created. Its partition is that of Kafka's default partitioner, unless `produced` has another;
    /// a windowed key is partitioned by the key alone.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, LongSerde))
    ///     .map_values(|cents| *cents as f64 / 100.0)
    ///     .to("prices", Produced::default().with_value_serde(DoubleSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let orders = driver.create_input_topic("orders", StringSerde, LongSerde);
    /// # let prices = driver.create_output_topic("prices", StringSerde, DoubleSerde);
    /// orders.pipe_input("o1", 250);
    /// assert_eq!(prices.read_lines(), ["o1:2.5"]);
    /// ```
    pub fn to(&self, topic: impl Into<String>, produced: Produced<K, V>) {
        self.sink(Destination::Topic(topic.into()), produced);
    }

    /// Ends the stream: each record is written to the topic that `extractor` names. The topics are not created. A record for
    /// one that is not there fails.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder.stream("events", Consumed::with(StringSerde, StringSerde)).to_by(
    ///     |_, value, _| if value.is_some_and(|value| value == "error") { "errors" } else { "others" }.to_owned(),
    ///     Produced::with(StringSerde, StringSerde),
    /// );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let events = driver.create_input_topic("events", StringSerde, StringSerde);
    /// # let errors = driver.create_output_topic("errors", StringSerde, StringSerde);
    /// # let others = driver.create_output_topic("others", StringSerde, StringSerde);
    /// events.pipe_key_values([("a", "error"), ("b", "ok")]);
    /// assert_eq!((errors.read_lines(), others.read_lines()), (vec!["a:error".to_owned()], vec!["b:ok".to_owned()]));
    /// ```
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
