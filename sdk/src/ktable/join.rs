//! Owns the joins of a table with another one, and the names of their nodes and stores. Must not know what an update does.

use std::rc::Rc;
use std::sync::Arc;

use super::{KTable, Lineage, Origin};
use crate::graph::{resolve, store_definition};
use crate::logic::{
    JoinTables, JoinedView, Logic, MergeJoined, Side, StoreView, TableJoiner, TableState, TableStore, View,
};
use crate::options::{Materialized, Serdes};
use crate::rows::{Data, Updates};
use crate::topology::{Kind, Shape, Topology};

const MERGE: &str = "KTABLE-MERGE-";

/// Which side may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    Inner,
    Left,
    Outer,
}

impl<K: Data, V: Data> KTable<K, V> {
    /// The keys that both tables have, with what `joiner` makes of their values. It is joined again when either changes, and
    /// deleted when one of them deletes the key. Both topics need as many partitions; both tables are kept in stores for this.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let names = builder.table("names", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// let cities = builder.table("cities", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// names
    ///     .join(&cities, |name, city| format!("{name} from {city}"))
    ///     .to_stream()
    ///     .to("people", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
    /// # let cities = driver.create_input_topic("cities", StringSerde, StringSerde);
    /// # let people = driver.create_output_topic("people", StringSerde, StringSerde);
    /// names.pipe_input("u1", "Ada");
    /// cities.pipe_key_values([("u1", "London"), ("u1", "Paris")]);
    /// names.pipe_nullable(Some("u1".to_owned()), None);
    /// assert_eq!(people.read_lines(), ["u1:Ada from London", "u1:Ada from Paris", "u1:null"]);
    /// ```
    #[must_use]
    pub fn join<O: Data, R: Data>(
        &self,
        other: &KTable<K, O>,
        joiner: impl Fn(&V, &O) -> R + Send + Sync + 'static,
    ) -> KTable<K, R> {
        self.joined(other, Join::Inner, inner(joiner), None)
    }

    /// As [`Self::join`], kept in a store, with a generated name if `materialized` has none.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let names = builder.table("names", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// let ages = builder.table("ages", Consumed::with(StringSerde, LongSerde), Materialized::default());
    /// names.join_materialized(
    ///     &ages,
    ///     |name, age| format!("{name}, {age}"),
    ///     Materialized::as_("people").with_value_serde(StringSerde),
    /// );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
    /// # let ages = driver.create_input_topic("ages", StringSerde, LongSerde);
    /// names.pipe_input("u1", "Ada");
    /// ages.pipe_input("u1", 36);
    /// let people = driver.get_key_value_store::<String, String>("people").unwrap();
    /// assert_eq!(people.get(&"u1".to_owned()).as_deref(), Some("Ada, 36"));
    /// ```
    #[must_use]
    pub fn join_materialized<O: Data, R: Data>(
        &self,
        other: &KTable<K, O>,
        joiner: impl Fn(&V, &O) -> R + Send + Sync + 'static,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.joined(other, Join::Inner, inner(joiner), Some(materialized))
    }

    /// The keys of this table, with what `joiner` makes of its value and that of the other table, if that has one. Else as
    /// [`Self::join`].
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let names = builder.table("names", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// let ages = builder.table("ages", Consumed::with(StringSerde, LongSerde), Materialized::default());
    /// names
    ///     .left_join(&ages, |name, age| age.map_or_else(|| name.clone(), |age| format!("{name}, {age}")))
    ///     .to_stream()
    ///     .to("people", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
    /// # let ages = driver.create_input_topic("ages", StringSerde, LongSerde);
    /// # let people = driver.create_output_topic("people", StringSerde, StringSerde);
    /// names.pipe_input("u1", "Ada");
    /// ages.pipe_input("u1", 36);
    /// assert_eq!(people.read_lines(), ["u1:Ada", "u1:Ada, 36"]);
    /// ```
    #[must_use]
    pub fn left_join<O: Data, R: Data>(
        &self,
        other: &KTable<K, O>,
        joiner: impl Fn(&V, Option<&O>) -> R + Send + Sync + 'static,
    ) -> KTable<K, R> {
        self.joined(other, Join::Left, left(joiner), None)
    }

    /// As [`Self::left_join`], kept in a store, with a generated name if `materialized` has none.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let names = builder.table("names", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// let ages = builder.table("ages", Consumed::with(StringSerde, LongSerde), Materialized::default());
    /// names.left_join_materialized(
    ///     &ages,
    ///     |name, age| format!("{name}, {}", age.is_some()),
    ///     Materialized::as_("people").with_value_serde(StringSerde),
    /// );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
    /// names.pipe_input("u1", "Ada");
    /// let people = driver.get_key_value_store::<String, String>("people").unwrap();
    /// assert_eq!(people.get(&"u1".to_owned()).as_deref(), Some("Ada, false"));
    /// ```
    #[must_use]
    pub fn left_join_materialized<O: Data, R: Data>(
        &self,
        other: &KTable<K, O>,
        joiner: impl Fn(&V, Option<&O>) -> R + Send + Sync + 'static,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.joined(other, Join::Left, left(joiner), Some(materialized))
    }

    /// The keys that either table has, with what `joiner` makes of the values there are, one at least. Else as [`Self::join`].
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let stock = builder.table("stock", Consumed::with(StringSerde, LongSerde), Materialized::default());
    /// let ordered = builder.table("ordered", Consumed::with(StringSerde, LongSerde), Materialized::default());
    /// stock
    ///     .outer_join(&ordered, |stock, ordered| stock.unwrap_or(&0) - ordered.unwrap_or(&0))
    ///     .to_stream()
    ///     .to("left", Produced::with(StringSerde, LongSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let stock = driver.create_input_topic("stock", StringSerde, LongSerde);
    /// # let ordered = driver.create_input_topic("ordered", StringSerde, LongSerde);
    /// # let left = driver.create_output_topic("left", StringSerde, LongSerde);
    /// ordered.pipe_input("tea", 2);
    /// stock.pipe_input("tea", 9);
    /// assert_eq!(left.read_lines(), ["tea:-2", "tea:7"]);
    /// ```
    #[must_use]
    pub fn outer_join<O: Data, R: Data>(
        &self,
        other: &KTable<K, O>,
        joiner: impl Fn(Option<&V>, Option<&O>) -> R + Send + Sync + 'static,
    ) -> KTable<K, R> {
        self.joined(other, Join::Outer, Arc::new(joiner), None)
    }

    /// As [`Self::outer_join`], kept in a store, with a generated name if `materialized` has none.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let stock = builder.table("stock", Consumed::with(StringSerde, LongSerde), Materialized::default());
    /// let ordered = builder.table("ordered", Consumed::with(StringSerde, LongSerde), Materialized::default());
    /// stock.outer_join_materialized(
    ///     &ordered,
    ///     |stock, ordered| stock.unwrap_or(&0) - ordered.unwrap_or(&0),
    ///     Materialized::as_("left"),
    /// );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let ordered = driver.create_input_topic("ordered", StringSerde, LongSerde);
    /// ordered.pipe_input("tea", 2);
    /// assert_eq!(driver.get_key_value_store("left").unwrap().get(&"tea".to_owned()), Some(-2_i64));
    /// ```
    #[must_use]
    pub fn outer_join_materialized<O: Data, R: Data>(
        &self,
        other: &KTable<K, O>,
        joiner: impl Fn(Option<&V>, Option<&O>) -> R + Send + Sync + 'static,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.joined(other, Join::Outer, Arc::new(joiner), Some(materialized))
    }

    fn joined<O: Data, R: Data>(
        &self,
        other: &KTable<K, O>,
        join: Join,
        joiner: TableJoiner<V, O, R>,
        materialized: Option<Materialized<K, R>>,
    ) -> KTable<K, R> {
        let names = self.name_join(materialized.as_ref());
        let origins = self.graph.borrow_mut().copartition(&self.origins, &other.origins);
        self.lineage.materialize();
        other.lineage.materialize();
        if join != Join::Inner {
            self.lineage.send_old(true);
        }
        if join == Join::Outer {
            other.lineage.send_old(true);
        }
        let inherited = Serdes { keys: self.serdes.keys.clone(), values: None };
        let serdes = materialized.as_ref().map(|it| it.serdes.clone()).unwrap_or_default().or(inherited);
        let state = Arc::new(TableState::default());
        let (mut kept, mut definition) = (None, None);
        if let (Some(materialized), Some(store)) = (materialized, names.store) {
            let (keys, values) = resolve(&self.graph, &names.merge, &serdes);
            state.materialize();
            definition = Some(store_definition(&store, &keys, &values, &materialized));
            kept = Some(TableStore::of(store, keys, values, &materialized));
        }
        let stored = kept.is_some();
        let view: Arc<dyn View<K, R>> = match &kept {
            Some(TableStore { name, keys, values, history_ms, .. }) => StoreView::of(name, keys, values, *history_ms),
            None => Arc::new(JoinedView {
                left: Arc::clone(&self.view),
                right: Arc::clone(&other.view),
                joiner: Arc::clone(&joiner),
                optional: (join == Join::Outer, join != Join::Inner),
            }),
        };
        let sides = [Arc::new(TableState::default()), Arc::new(TableState::default())];
        let [this, that] = self.sides(other, join, joiner, &sides);
        let merged = Arc::new(MergeJoined { store: kept, state: Arc::clone(&state) });
        let merge = names.merge.clone();
        let write = Box::new(move |topology: &mut Topology, _: &[String]| {
            let gives = Shape::of::<Updates<K, R>>();
            let (this_name, that_name) = (names.this, names.that);
            topology.insert_below(
                &this_name,
                Kind::Inner { logic: this.logic },
                this.takes,
                Some(gives),
                &[this.parent],
            )?;
            topology.insert_below(
                &that_name,
                Kind::Inner { logic: that.logic },
                that.takes,
                Some(gives),
                &[that.parent],
            )?;
            let both = [this_name.clone(), that_name.clone()];
            topology.insert_below(&names.merge, Kind::Inner { logic: merged }, gives, Some(gives), &both)?;
            if let Some(definition) = definition {
                topology.insert_owned(&names.merge, definition)?;
            }
            this.looks_into.iter().try_for_each(|store| topology.connect(&this_name, store))?;
            that.looks_into.iter().try_for_each(|store| topology.connect(&that_name, store))
        });
        let node = self.graph.borrow_mut().add(&[self.node, other.node], &merge, write);
        let parents = [Rc::clone(&self.lineage), Rc::clone(&other.lineage)];
        let lineage = Rc::new(Lineage { state, origin: Origin::Join { parents, sides, stored } });
        KTable::new(&self.graph, serdes, node, lineage, view, origins)
    }

    /// The names of a join, which come off the counter in this order.
    fn name_join<R>(&self, materialized: Option<&Materialized<K, R>>) -> Names {
        let (mut graph, given) = (self.graph.borrow_mut(), self.next_name.as_deref());
        let store = materialized.map(|it| it.name.clone().unwrap_or_else(|| graph.generate_store(MERGE)));
        let merge = graph.name(given, MERGE);
        let this = graph.name_with_suffix(given, "-join-this", "KTABLE-JOINTHIS-");
        let that = graph.name_with_suffix(given, "-join-other", "KTABLE-JOINOTHER-");
        Names { store, merge, this, that }
    }

    /// The nodes that see the join from either side.
    fn sides<O: Data, R: Data>(
        &self,
        other: &KTable<K, O>,
        join: Join,
        joiner: TableJoiner<V, O, R>,
        states: &[Arc<TableState>; 2],
    ) -> [Node; 2] {
        let (this, that) = match join {
            Join::Inner => (Side::Inner, Side::Inner),
            Join::Left => (Side::Left, Side::Right),
            Join::Outer => (Side::Outer, Side::Outer),
        };
        let turned = Arc::clone(&joiner);
        let turned: TableJoiner<O, V, R> = Arc::new(move |that, this| turned(this, that));
        let state = |side: usize| Arc::clone(&states[side]);
        let graph = self.graph.borrow();
        [
            Node {
                logic: Arc::new(JoinTables { side: this, other: Arc::clone(&other.view), joiner, state: state(0) }),
                parent: graph.name_of(self.node),
                takes: Shape::of::<Updates<K, V>>(),
                looks_into: other.view.stores(),
            },
            Node {
                logic: Arc::new(JoinTables {
                    side: that,
                    other: Arc::clone(&self.view),
                    joiner: turned,
                    state: state(1),
                }),
                parent: graph.name_of(other.node),
                takes: Shape::of::<Updates<K, O>>(),
                looks_into: self.view.stores(),
            },
        ]
    }
}

struct Names {
    /// None: the result is not kept.
    store: Option<String>,
    merge: String,
    this: String,
    that: String,
}

/// A side of a join.
struct Node {
    logic: Arc<dyn Logic>,
    parent: String,
    takes: Shape,
    looks_into: Vec<String>,
}

pub(super) fn inner<V: Data, O: Data, R: Data>(
    joiner: impl Fn(&V, &O) -> R + Send + Sync + 'static,
) -> TableJoiner<V, O, R> {
    Arc::new(move |left, right| {
        let both = "an inner join joins what both tables have";
        joiner(left.expect(both), right.expect(both))
    })
}

pub(super) fn left<V: Data, O: Data, R: Data>(
    joiner: impl Fn(&V, Option<&O>) -> R + Send + Sync + 'static,
) -> TableJoiner<V, O, R> {
    Arc::new(move |left, right| joiner(left.expect("a left join joins what the left table has"), right))
}
