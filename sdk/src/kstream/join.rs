//! Owns the joins of a stream with a table, and the names of their nodes. Must not know what a record meets.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::{KStream, Repartition, repartition_source};
use crate::contract::Layout;
use crate::graph::{resolve, stored_as};
use crate::ktable::KTable;
use crate::logic::{Grace, JoinStreamTable, JoinStreamTableInGrace, Logic};
use crate::options::{Joined, Materialized, Serdes};
use crate::rows::{Data, Rows};
use crate::serdes::{BytesSerde, SharedSerde};
use crate::topology::{Kind, Shape, StoreDefinition, Topology};

impl<K: Data, V: Data> KStream<K, V> {
    /// The records whose key the table has when they come (had at their time, if it keeps versions), with what `joiner` makes
    /// of both values. Later changes of the table don't touch what was joined. Records with a null key or value are left
    /// out, and counted as dropped. The topics of both need as many partitions; if the stream's key may have changed it goes
    /// through a repartition topic first.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let prices = builder.table("prices", Consumed::with(StringSerde, LongSerde), Materialized::default());
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, LongSerde))
    ///     .join_table(&prices, |amount, price| amount * price, Joined::default())
    ///     .to("sums", Produced::with(StringSerde, LongSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let prices = driver.create_input_topic("prices", StringSerde, LongSerde);
    /// # let orders = driver.create_input_topic("orders", StringSerde, LongSerde);
    /// # let sums = driver.create_output_topic("sums", StringSerde, LongSerde);
    /// orders.pipe_input("tea", 2);
    /// prices.pipe_input("tea", 5);
    /// orders.pipe_input("tea", 3);
    /// assert_eq!(sums.read_lines(), ["tea:15"]);
    /// ```
    #[must_use]
    pub fn join_table<O: Data, R: Data>(
        &self,
        table: &KTable<K, O>,
        joiner: impl Fn(&V, &O) -> R + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        self.join_table_with_key(table, move |_, value, other| joiner(value, other), joined)
    }

    /// As [`Self::join_table`]; the joiner is given the key, too.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let prices = builder.table("prices", Consumed::with(StringSerde, LongSerde), Materialized::default());
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, LongSerde))
    ///     .join_table_with_key(&prices, |what, n, price| format!("{n} {what} at {price}"), Joined::default())
    ///     .to("bills", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let prices = driver.create_input_topic("prices", StringSerde, LongSerde);
    /// # let orders = driver.create_input_topic("orders", StringSerde, LongSerde);
    /// # let bills = driver.create_output_topic("bills", StringSerde, StringSerde);
    /// prices.pipe_input("tea", 5);
    /// orders.pipe_input("tea", 3);
    /// assert_eq!(bills.read_lines(), ["tea:3 tea at 5"]);
    /// ```
    #[must_use]
    pub fn join_table_with_key<O: Data, R: Data>(
        &self,
        table: &KTable<K, O>,
        joiner: impl Fn(&K, &V, &O) -> R + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        let joiner = move |key: Option<&K>, value: &V, other: Option<&O>| {
            let both = "a table has no null key, and an inner join is called for what it has";
            joiner(key.expect(both), value, other.expect(both))
        };
        self.joined_table(table, false, joiner, joined)
    }

    /// All records with a value, with what `joiner` makes of it and that of the table, if it has the key when the record comes.
    /// The key may be null: then the table has nothing. Records with a null value are left out, and counted as dropped. For
    /// topics see [`Self::join_table`].
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let users = builder.table("users", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .left_join_table(
    ///         &users,
    ///         |page, name| format!("{} sees {page}", name.map_or("somebody", String::as_str)),
    ///         Joined::default(),
    ///     )
    ///     .to("visits", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let users = driver.create_input_topic("users", StringSerde, StringSerde);
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// # let visits = driver.create_output_topic("visits", StringSerde, StringSerde);
    /// users.pipe_input("u1", "Ada");
    /// clicks.pipe_key_values([("u1", "home"), ("u2", "help")]);
    /// assert_eq!(visits.read_lines(), ["u1:Ada sees home", "u2:somebody sees help"]);
    /// ```
    #[must_use]
    pub fn left_join_table<O: Data, R: Data>(
        &self,
        table: &KTable<K, O>,
        joiner: impl Fn(&V, Option<&O>) -> R + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        self.left_join_table_with_key(table, move |_, value, other| joiner(value, other), joined)
    }

    /// As [`Self::left_join_table`]; the joiner is given the key, too, which may be null.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let users = builder.table("users", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .left_join_table_with_key(
    ///         &users,
    ///         |id, page, name| format!("{} sees {page}", name.or(id).map_or("somebody", String::as_str)),
    ///         Joined::default(),
    ///     )
    ///     .to("visits", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// # let visits = driver.create_output_topic("visits", StringSerde, StringSerde);
    /// clicks.pipe_input("u2", "help");
    /// clicks.pipe_nullable(None, Some("home".to_owned()));
    /// assert_eq!(visits.read_lines(), ["u2:u2 sees help", "null:somebody sees home"]);
    /// ```
    #[must_use]
    pub fn left_join_table_with_key<O: Data, R: Data>(
        &self,
        table: &KTable<K, O>,
        joiner: impl Fn(Option<&K>, &V, Option<&O>) -> R + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        self.joined_table(table, true, joiner, joined)
    }

    fn joined_table<O: Data, R: Data>(
        &self,
        table: &KTable<K, O>,
        left: bool,
        joiner: impl Fn(Option<&K>, &V, Option<&O>) -> R + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        let given = joined.name.or_else(|| self.next_name.clone());
        let serdes = Serdes { keys: joined.keys, values: joined.values }.or(self.serdes.clone());
        let stream = if self.repartition { &self.repartitioned(given.as_deref(), serdes.clone()) } else { self };
        table.lineage.materialize();
        let (name, origins) = {
            let mut graph = self.graph.borrow_mut();
            let origins = graph.copartition(&stream.origins, &table.origins);
            (graph.name(given.as_deref(), if left { "KSTREAM-LEFTJOIN-" } else { "KSTREAM-JOIN-" }), origins)
        };
        let join = JoinStreamTable { table: Arc::clone(&table.view), left, joiner, types: PhantomData };
        let (own, stores) = (name.clone(), table.view.stores());
        let grace = joined.grace_ms.map(|ms| self.buffer(&name, ms, &serdes, table.view.history_ms()));
        let (logic, buffer): (Arc<dyn Logic>, _) = match grace {
            None => (Arc::new(join), None),
            Some((grace, definition)) => (Arc::new(JoinStreamTableInGrace { join, grace }), Some(definition)),
        };
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let (takes, gives) = (Shape::of::<Rows<K, V>>(), Shape::of::<Rows<K, R>>());
            topology.insert_below(&own, Kind::Inner { logic }, takes, Some(gives), parents)?;
            if let Some(buffer) = buffer {
                topology.insert_owned(&own, buffer)?;
            }
            stores.iter().try_for_each(|store| topology.connect(&own, store))
        });
        let mut graph = self.graph.borrow_mut();
        let node = graph.add(&[stream.node], &name, write);
        if left {
            graph.take_null_keys(node);
        }
        drop(graph);
        let serdes = Serdes { keys: serdes.keys, values: None };
        KStream::new(&self.graph, name, serdes, false, node, origins)
    }

    /// Where records wait for a table.
    fn buffer(
        &self,
        node: &str,
        ms: i64,
        serdes: &Serdes<K, V>,
        history_ms: Option<i64>,
    ) -> (Grace<K, V>, StoreDefinition) {
        let problem = match history_ms {
            None => Some("its table keeps no versions: give it Materialized::versioned(…)".to_owned()),
            Some(kept) if kept < ms => {
                Some(format!("its table keeps versions for {kept} ms: have it keep them that long"))
            }
            Some(_) => None,
        };
        if let Some(problem) = problem {
            self.graph.borrow_mut().fail(format!("node {node} has a grace period of {ms} ms, but {problem}"));
        }
        let store = format!("{node}-Buffer");
        let (keys, values) = resolve(&self.graph, node, serdes);
        let bytes = Arc::new(BytesSerde) as SharedSerde<Vec<u8>>;
        let options = Materialized::<Vec<u8>, Vec<u8>>::default().with_caching_disabled();
        let definition = stored_as(Layout::KeyValue, &store, &bytes, &bytes, &options);
        (Grace { store, keys, values, ms }, definition)
    }

    /// This stream behind a repartition topic. Joins without a name share the one made last.
    pub(super) fn repartitioned(&self, given: Option<&str>, serdes: Serdes<K, V>) -> Self {
        let prefix = given.unwrap_or(&self.name).to_owned();
        let wanted = Repartition { prefix, serdes: serdes.clone(), partitioner: None, partitions: None };
        let created = repartition_source(&self.graph, wanted);
        let (source, origins) = (created.source.clone(), Rc::clone(&created.origins));
        let node = match (self.repartitioned.get(), given) {
            (Some(node), None) => node,
            _ => created.add(&self.graph, self.node),
        };
        self.repartitioned.set(Some(node));
        Self::new(&self.graph, source, serdes, false, node, origins)
    }
}
