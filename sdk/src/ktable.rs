//! Owns `KTable`: the operators on a table, what they materialize and when they ask for old
//! values. Must not know how updates flow.

mod derived;
mod transform;
mod join;
mod foreign_key;
mod suppress;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::graph::{Origins, ROOT, SharedGraph, resolve, store_definition};
use crate::kgrouped_table::KGroupedTable;
use crate::kstream::KStream;
use crate::logic::{Logic, RecordSource, Regroup, StoreView, TableSource, TableState, TableStore, ToStream, View};
use crate::options::{Consumed, Grouped, Materialized, Named, Serdes};
use crate::rows::{Data, Rows, Updates};
use crate::topology::{Kind, Shape, Topology};

/// How a table came about, which decides whether it can send old values.
pub(crate) struct Lineage {
    pub(crate) state: Arc<TableState>,
    origin: Origin,
}

enum Origin {
    /// A topic: it needs its store for that.
    Topic,
    /// An aggregation: it always has its store.
    Aggregate,
    /// Another table, whose old values it needs unless it has a store of its own.
    Table { parent: Rc<Lineage>, stored: bool },
    /// Two tables. The states are those of the nodes that join.
    Join { parents: [Rc<Lineage>; 2], sides: [Arc<TableState>; 2], stored: bool },
}

impl Lineage {
    pub(crate) fn aggregate(state: Arc<TableState>) -> Rc<Self> {
        Rc::new(Self { state, origin: Origin::Aggregate })
    }

    /// Has the table send old values, with a store made for it if that is `forced`. Says whether
    /// it does.
    pub(crate) fn send_old(&self, forced: bool) -> bool {
        let can = self.state.sends_old()
            || match &self.origin {
                Origin::Topic => forced || self.state.materialized(),
                Origin::Aggregate => true,
                Origin::Table { parent, stored } => *stored || parent.send_old(forced),
                Origin::Join { parents, sides, .. } => {
                    for (parent, side) in parents.iter().zip(sides) {
                        parent.send_old(true);
                        side.send_old();
                    }
                    true
                }
            };
        if can {
            self.state.send_old();
            if matches!(self.origin, Origin::Topic) {
                self.state.materialize();
            }
        }
        can
    }

    /// Sees to it that the table can be looked into: somewhere above it there are stores.
    pub(crate) fn materialize(&self) {
        match &self.origin {
            Origin::Topic => self.state.materialize(),
            Origin::Aggregate => {}
            Origin::Table { parent, stored } if !stored => parent.materialize(),
            Origin::Join { parents, stored, .. } if !stored => parents.iter().for_each(|parent| parent.materialize()),
            Origin::Table { .. } | Origin::Join { .. } => {}
        }
    }
}

/// A table: the latest value of each key, as a stream of updates. Null keys are not in it.
///
/// A table of a topic or of an aggregation is kept in a store. One that is made of another table is kept only if it is
/// materialized under a name (`…_materialized`); else it is computed from the other one when a join or a grouping looks into
/// it.
pub struct KTable<K, V> {
    pub(crate) graph: SharedGraph,
    pub(crate) serdes: Serdes<K, V>,
    pub(crate) node: usize,
    pub(crate) lineage: Rc<Lineage>,
    pub(crate) next_name: Option<String>,
    /// How others look into it, once it is materialized.
    pub(crate) view: Arc<dyn View<K, V>>,
    pub(crate) origins: Origins,
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            serdes: self.serdes.clone(),
            node: self.node,
            lineage: Rc::clone(&self.lineage),
            next_name: self.next_name.clone(),
            view: Arc::clone(&self.view),
            origins: Rc::clone(&self.origins),
        }
    }
}

impl<K, V> fmt::Debug for KTable<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KTable").finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> KTable<K, V> {
    pub(crate) fn new(
        graph: &SharedGraph,
        serdes: Serdes<K, V>,
        node: usize,
        lineage: Rc<Lineage>,
        view: Arc<dyn View<K, V>>,
        origins: Origins,
    ) -> Self {
        Self { graph: SharedGraph::clone(graph), serdes, node, lineage, next_name: None, view, origins }
    }

    pub(crate) fn of_topic(
        graph: &SharedGraph,
        topic: String,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> Self {
        let state = Arc::new(TableState::default());
        if materialized.name.is_some() {
            state.materialize();
        }
        let (store, source, name) = {
            let mut graph = graph.borrow_mut();
            let store = materialized.name.clone().unwrap_or_else(|| graph.generate_store(&format!("{topic}-")));
            let source = graph.name_with_suffix(consumed.name.as_deref(), "-source", "KSTREAM-SOURCE-");
            (store, source, graph.name(consumed.name.as_deref(), "KTABLE-SOURCE-"))
        };
        let serdes = consumed.serdes.or(materialized.serdes.clone());
        let (keys, values) = resolve(graph, &name, &serdes);
        let definition = store_definition(&store, &keys, &values, &materialized);
        let (view, origins) =
            (StoreView::of(&store, &keys, &values, materialized.history_ms), Origins::new([topic.clone()].into()));
        let table = Arc::new(TableSource {
            store: TableStore::of(store, keys.clone(), values.clone(), &materialized),
            state: Arc::clone(&state),
        });
        let own = name.clone();
        let (extractor, reset) = (consumed.extractor, consumed.reset.map(Into::into));
        let asked = Arc::clone(&state);
        let write = Box::new(move |topology: &mut Topology, _: &[String]| {
            let kind = Kind::Source {
                logic: Arc::new(RecordSource { keys, values, extractor }),
                topics: vec![topic],
                pattern: None,
                reset,
            };
            let (rows, updates) = (Shape::of::<Rows<K, V>>(), Shape::of::<Updates<K, V>>());
            topology.insert_source(&source, kind, rows)?;
            topology.insert_below(&own, Kind::Inner { logic: table }, rows, Some(updates), &[source])?;
            if asked.materialized() { topology.insert_owned(&own, definition) } else { Ok(()) }
        });
        let node = graph.borrow_mut().add(&[ROOT], &name, write);
        Self::new(graph, serdes, node, Rc::new(Lineage { state, origin: Origin::Topic }), view, origins)
    }

    /// The table that the records of a stream update.
    pub(crate) fn of_stream(
        graph: &SharedGraph,
        (parent, origins): (usize, Origins),
        name: String,
        store: String,
        serdes: Serdes<K, V>,
        materialized: &Materialized<K, V>,
    ) -> Self {
        let state = Arc::new(TableState::default());
        if materialized.name.is_some() {
            state.materialize();
        }
        let (keys, values) = resolve(graph, &name, &serdes);
        let definition = store_definition(&store, &keys, &values, materialized);
        let view = StoreView::of(&store, &keys, &values, materialized.history_ms);
        let store = TableStore::of(store, keys, values, materialized);
        let logic = Arc::new(TableSource { store, state: Arc::clone(&state) });
        let (own, asked) = (name.clone(), Arc::clone(&state));
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let (rows, updates) = (Shape::of::<Rows<K, V>>(), Shape::of::<Updates<K, V>>());
            topology.insert_below(&own, Kind::Inner { logic }, rows, Some(updates), parents)?;
            if asked.materialized() { topology.insert_owned(&own, definition) } else { Ok(()) }
        });
        let node = graph.borrow_mut().add(&[parent], &name, write);
        Self::new(graph, serdes, node, Rc::new(Lineage { state, origin: Origin::Topic }), view, origins)
    }

    /// The same table; the next operator's node gets this name instead of a generated one.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let users = builder.table("users", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// users.named("only-known").filter(|_, name| !name.is_empty()).to_stream().to("known", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// assert!(driver.describe().contains("Processor: only-known"));
    /// ```
    #[must_use]
    pub fn named(&self, name: impl Into<Named>) -> Self {
        Self { next_name: Some(name.into().0), ..self.clone() }
    }

    fn add_node<R: 'static>(&self, name: &str, logic: Arc<dyn Logic>) -> usize {
        let own = name.to_owned();
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let (takes, gives) = (Shape::of::<Updates<K, V>>(), Shape::of::<R>());
            topology.insert_below(&own, Kind::Inner { logic }, takes, Some(gives), parents)
        });
        self.graph.borrow_mut().add(&[self.node], name, write)
    }

    /// The updates as a stream of records: a deleted key is a record with a null value. A cached table tells the last update
    /// of each key at a commit, others tell all.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("users", Consumed::with(StringSerde, StringSerde), Materialized::default())
    ///     .to_stream()
    ///     .to("changes", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let users = driver.create_input_topic("users", StringSerde, StringSerde);
    /// # let changes = driver.create_output_topic("changes", StringSerde, StringSerde);
    /// users.pipe_input("u1", "Ada");
    /// users.pipe_nullable(Some("u1".to_owned()), None);
    /// assert_eq!(changes.read_lines(), ["u1:Ada", "u1:null"]);
    /// ```
    #[must_use]
    pub fn to_stream(&self) -> KStream<K, V> {
        let name = self.graph.borrow_mut().name(self.next_name.as_deref(), "KTABLE-TOSTREAM-");
        let node = self.add_node::<Rows<K, V>>(&name, Arc::new(ToStream::<K, V>::new()));
        KStream::new(&self.graph, name, self.serdes.clone(), false, node, Rc::clone(&self.origins))
    }

    /// Groups the entries by another key, for an aggregation. Entries for which `selector` names no key or no value are left
    /// out. Old and new value of each update go through a repartition topic, `<application.id>-<name>-repartition`; a table of a
    /// topic gets its store for that.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("users", Consumed::with(StringSerde, StringSerde), Materialized::default())
    ///     .group_by(|user, city| (Some(city.clone()), Some(user.clone())), Grouped::with(StringSerde, StringSerde))
    ///     .count(Materialized::as_("users-of-city"))
    ///     .to_stream()
    ///     .to("counts", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let users = driver.create_input_topic("users", StringSerde, StringSerde);
    /// # let counts = driver.create_output_topic("counts", StringSerde, LongSerde);
    /// users.pipe_key_values([("u1", "Oslo"), ("u2", "Oslo"), ("u1", "Rome")]);
    /// assert_eq!(counts.read_lines(), ["Oslo:1", "Oslo:2", "Oslo:1", "Rome:1"]);
    /// ```
    #[must_use]
    pub fn group_by<K2: Data + PartialEq, V2: Data>(
        &self,
        selector: impl Fn(&K, &V) -> (Option<K2>, Option<V2>) + Send + Sync + 'static,
        grouped: Grouped<K2, V2>,
    ) -> KGroupedTable<K2, V2> {
        let name = self.graph.borrow_mut().name(grouped.name.as_deref(), "KTABLE-SELECT-");
        let node = self.add_node::<Updates<K2, V2>>(&name, Arc::new(Regroup::new(selector)));
        self.lineage.send_old(true);
        KGroupedTable::new(&self.graph, grouped.serdes, grouped.name, node)
    }
}
