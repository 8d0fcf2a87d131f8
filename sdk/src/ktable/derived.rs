//! Owns the operators that make a table of a table value by value, and the names they take.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::{KTable, Lineage, Origin};
use crate::graph::{resolve, store_definition};
use crate::logic::{Derive, DerivedView, Logic, StoreView, TableState, TableStore, View};
use crate::options::{Materialized, Serdes};
use crate::rows::{Data, Updates};
use crate::topology::{Kind, Shape, StoreDefinition, Topology};

const FILTER: &str = "KTABLE-FILTER-";
const MAP_VALUES: &str = "KTABLE-MAPVALUES-";

impl<K: Data, V: Data> KTable<K, V> {
    /// The entries for which the predicate says yes. An entry that stops to match is deleted from this table. Deletions go on
    /// as they are; the predicate is not asked about them.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("scores", Consumed::with(StringSerde, LongSerde), Materialized::as_("scores"))
    ///     .filter(|_, score| *score >= 10)
    ///     .to_stream()
    ///     .to("winners", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let scores = driver.create_input_topic("scores", StringSerde, LongSerde);
    /// # let winners = driver.create_output_topic("winners", StringSerde, LongSerde);
    /// scores.pipe_key_values([("ann", 12), ("ann", 3)]);
    /// assert_eq!(winners.read_lines(), ["ann:12", "ann:null"]);
    /// ```
    #[must_use]
    pub fn filter(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filtered(predicate, true, None)
    }

    /// As [`Self::filter`], kept in a store if `materialized` has a name.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("scores", Consumed::with(StringSerde, LongSerde), Materialized::default())
    ///     .filter_materialized(|_, score| *score >= 10, Materialized::as_("winners"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let scores = driver.create_input_topic("scores", StringSerde, LongSerde);
    /// scores.pipe_key_values([("ann", 12), ("bob", 3)]);
    /// let winners = driver.get_key_value_store::<String, i64>("winners").unwrap();
    /// assert_eq!(winners.all(), [("ann".to_owned(), 12)]);
    /// ```
    #[must_use]
    pub fn filter_materialized(
        &self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> Self {
        self.filtered(predicate, true, Some(materialized))
    }

    /// The entries for which the predicate says no; else as [`Self::filter`].
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("scores", Consumed::with(StringSerde, LongSerde), Materialized::as_("scores"))
    ///     .filter_not(|_, score| *score >= 10)
    ///     .to_stream()
    ///     .to("losers", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let scores = driver.create_input_topic("scores", StringSerde, LongSerde);
    /// # let losers = driver.create_output_topic("losers", StringSerde, LongSerde);
    /// scores.pipe_key_values([("ann", 12), ("bob", 3)]);
    /// assert_eq!(losers.read_lines(), ["bob:3"]);
    /// ```
    #[must_use]
    pub fn filter_not(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filtered(predicate, false, None)
    }

    /// As [`Self::filter_not`], kept in a store if `materialized` has a name.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("scores", Consumed::with(StringSerde, LongSerde), Materialized::default())
    ///     .filter_not_materialized(|_, score| *score >= 10, Materialized::as_("losers"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let scores = driver.create_input_topic("scores", StringSerde, LongSerde);
    /// scores.pipe_key_values([("ann", 12), ("bob", 3)]);
    /// let losers = driver.get_key_value_store::<String, i64>("losers").unwrap();
    /// assert_eq!(losers.all(), [("bob".to_owned(), 3)]);
    /// ```
    #[must_use]
    pub fn filter_not_materialized(
        &self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> Self {
        self.filtered(predicate, false, Some(materialized))
    }

    /// Other values for the same keys. A deletion stays one, and the mapper is not called for it.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("names", Consumed::with(StringSerde, StringSerde), Materialized::default())
    ///     .map_values(|name| name.to_uppercase())
    ///     .to_stream()
    ///     .to("badges", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
    /// # let badges = driver.create_output_topic("badges", StringSerde, StringSerde);
    /// names.pipe_input("u1", "Ada");
    /// names.pipe_nullable(Some("u1".to_owned()), None);
    /// assert_eq!(badges.read_lines(), ["u1:ADA", "u1:null"]);
    /// ```
    #[must_use]
    pub fn map_values<R: Data>(&self, mapper: impl Fn(&V) -> R + Send + Sync + 'static) -> KTable<K, R> {
        self.map_values_with_key(move |_, value| Some(mapper(value)))
    }

    /// As [`Self::map_values`], kept in a store if `materialized` has a name.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("names", Consumed::with(StringSerde, StringSerde), Materialized::default())
    ///     .map_values_materialized(|name| i64::try_from(name.len()).unwrap_or(i64::MAX), Materialized::as_("lengths"));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
    /// names.pipe_input("u1", "Ada");
    /// assert_eq!(driver.get_key_value_store("lengths").unwrap().get(&"u1".to_owned()), Some(3_i64));
    /// ```
    #[must_use]
    pub fn map_values_materialized<R: Data>(
        &self,
        mapper: impl Fn(&V) -> R + Send + Sync + 'static,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.map_values_with_key_materialized(move |_, value| Some(mapper(value)), materialized)
    }

    /// Other values for the same keys, by a mapper that sees the key; none: the key is not in this table.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("names", Consumed::with(StringSerde, StringSerde), Materialized::default())
    ///     .map_values_with_key(|id, name| (!name.is_empty()).then(|| format!("{name} ({id})")))
    ///     .to_stream()
    ///     .to("badges", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
    /// # let badges = driver.create_output_topic("badges", StringSerde, StringSerde);
    /// names.pipe_key_values([("u1", "Ada"), ("u1", "")]);
    /// assert_eq!(badges.read_lines(), ["u1:Ada (u1)", "u1:null"]);
    /// ```
    #[must_use]
    pub fn map_values_with_key<R: Data>(
        &self,
        mapper: impl Fn(&K, &V) -> Option<R> + Send + Sync + 'static,
    ) -> KTable<K, R> {
        self.mapped(mapper, None)
    }

    /// As [`Self::map_values_with_key`], kept in a store if `materialized` has a name.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// builder
    ///     .table("names", Consumed::with(StringSerde, StringSerde), Materialized::default())
    ///     .map_values_with_key_materialized(
    ///         |id, name| Some(format!("{name} ({id})")),
    ///         Materialized::as_("badges").with_value_serde(StringSerde),
    ///     );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
    /// names.pipe_input("u1", "Ada");
    /// let badges = driver.get_key_value_store::<String, String>("badges").unwrap();
    /// assert_eq!(badges.get(&"u1".to_owned()).as_deref(), Some("Ada (u1)"));
    /// ```
    #[must_use]
    pub fn map_values_with_key_materialized<R: Data>(
        &self,
        mapper: impl Fn(&K, &V) -> Option<R> + Send + Sync + 'static,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.mapped(mapper, Some(materialized))
    }

    fn filtered(
        &self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        keep: bool,
        materialized: Option<Materialized<K, V>>,
    ) -> Self {
        let mapper = move |key: &K, value: &V| (predicate(key, value) == keep).then(|| value.clone());
        // With old values, updates of what was and is filtered out need not be sent.
        let can_skip = |table: &Self, state: &TableState| {
            if table.lineage.send_old(false) {
                state.send_old();
            }
        };
        self.derive(FILTER, self.serdes.clone(), true, mapper, materialized, can_skip)
    }

    fn mapped<R: Data>(
        &self,
        mapper: impl Fn(&K, &V) -> Option<R> + Send + Sync + 'static,
        materialized: Option<Materialized<K, R>>,
    ) -> KTable<K, R> {
        let inherited = Serdes { keys: self.serdes.keys.clone(), values: None };
        self.derive(MAP_VALUES, inherited, false, mapper, materialized, |_, _| {})
    }

    fn derive<R: Data>(
        &self,
        prefix: &str,
        inherited: Serdes<K, R>,
        skips_absent: bool,
        mapper: impl Fn(&K, &V) -> Option<R> + Send + Sync + 'static,
        materialized: Option<Materialized<K, R>>,
        prepare: impl FnOnce(&Self, &TableState),
    ) -> KTable<K, R> {
        let name = {
            let mut graph = self.graph.borrow_mut();
            // Without a name there is no store, yet Kafka Streams takes one off its counter.
            if materialized.as_ref().is_some_and(|materialized| materialized.name.is_none()) {
                graph.generate_store(prefix);
            }
            graph.name(self.next_name.as_deref(), prefix)
        };
        let serdes = match &materialized {
            Some(materialized) => materialized.serdes.clone().or(inherited),
            None => inherited,
        };
        let state = Arc::new(TableState::default());
        prepare(self, &state);
        let (store, definition) = self.own_store(&name, &serdes, materialized, &state).unzip();
        let mapper = Arc::new(mapper);
        let view: Arc<dyn View<K, R>> = match &store {
            Some(TableStore { name, keys, values, history_ms, .. }) => StoreView::of(name, keys, values, *history_ms),
            None => Arc::new(DerivedView { parent: Arc::clone(&self.view), mapper: Arc::clone(&mapper) }),
        };
        // As in Kafka Streams: what comes late may end what is not the latest.
        let skips_absent = skips_absent && !self.view.is_versioned();
        let logic = Arc::new(Derive { mapper, skips_absent, store, state: Arc::clone(&state), types: PhantomData });
        self.followed_by((name, logic), (definition, Vec::new()), serdes, state, view)
    }

    /// The store of a table that follows this one, if it is to have one.
    pub(super) fn own_store<R: Data>(
        &self,
        name: &str,
        serdes: &Serdes<K, R>,
        materialized: Option<Materialized<K, R>>,
        state: &TableState,
    ) -> Option<(TableStore<K, R>, StoreDefinition)> {
        let materialized = materialized?;
        let store_name = materialized.name.clone()?;
        let (keys, values) = resolve(&self.graph, name, serdes);
        state.materialize();
        let definition = store_definition(&store_name, &keys, &values, &materialized);
        Some((TableStore::of(store_name, keys, values, &materialized), definition))
    }

    /// The table that a node makes of this one, with the store it owns and those it is connected to.
    pub(super) fn followed_by<R: Data>(
        &self,
        (name, logic): (String, Arc<dyn Logic>),
        (definition, stores): (Option<StoreDefinition>, Vec<String>),
        serdes: Serdes<K, R>,
        state: Arc<TableState>,
        view: Arc<dyn View<K, R>>,
    ) -> KTable<K, R> {
        let (own, stored) = (name.clone(), definition.is_some());
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let (takes, gives) = (Shape::of::<Updates<K, V>>(), Shape::of::<Updates<K, R>>());
            topology.insert_below(&own, Kind::Inner { logic }, takes, Some(gives), parents)?;
            definition.map_or(Ok(()), |definition| topology.insert_owned(&own, definition))?;
            stores.iter().try_for_each(|store| topology.connect(&own, store))
        });
        let node = self.graph.borrow_mut().add(&[self.node], &name, write);
        let origin = Origin::Table { parent: Rc::clone(&self.lineage), stored };
        KTable::new(&self.graph, serdes, node, Rc::new(Lineage { state, origin }), view, Rc::clone(&self.origins))
    }
}
