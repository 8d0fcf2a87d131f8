//! Owns global tables and global stores: the names of their nodes and stores, and the joins of streams with them. Must not
//! know how they are filled.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use crate::graph::{ROOT, SharedGraph, StreamsBuilder, resolve, store_definition};
use crate::kstream::KStream;
use crate::logic::{
    JoinStreamGlobalTable, Logic, Process, RecordSource, StoreView, TableSource, TableState, TableStore, View,
};
use crate::options::{Consumed, Materialized, Serdes};
use crate::processor::Processor;
use crate::rows::{Data, Rows};
use crate::serdes::SharedSerde;
use crate::stores::StoreBuilder;
use crate::topology::{GlobalNodes, Shape, StoreDefinition, Topology};

/// A table of all partitions of a topic, which every instance of the application has whole: streams are joined with it by
/// any key, whatever their partitions are. See [`StreamsBuilder::global_table`].
///
/// The host fills it before anything is processed, and keeps it up to date. It does not change with the records of the
/// streams: a record meets what is in the table when it is processed, now or when it is processed again.
pub struct GlobalKTable<K, V> {
    store: String,
    view: Arc<dyn View<K, V>>,
}

impl<K, V> Clone for GlobalKTable<K, V> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), view: Arc::clone(&self.view) }
    }
}

impl<K, V> fmt::Debug for GlobalKTable<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlobalKTable").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<K, V> GlobalKTable<K, V> {
    /// The store it is kept in, which processors may read and queries may ask.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let countries =
    ///     builder.global_table("countries", Consumed::with(StringSerde, StringSerde), Materialized::as_("by-code"));
    /// assert_eq!(countries.queryable_store_name(), "by-code");
    /// ```
    #[must_use]
    pub fn queryable_store_name(&self) -> &str {
        &self.store
    }
}

impl StreamsBuilder {
    /// A topic as a table that every instance has whole. It is kept in a store, whose changelog is the topic itself. Records
    /// with a null key are left out, a null value deletes. Timestamp extractors and offset resets are refused.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let countries = builder.global_table(
    ///     "countries",
    ///     Consumed::with(StringSerde, StringSerde),
    ///     Materialized::as_("countries"),
    /// );
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, StringSerde))
    ///     .join_global_table(&countries, |_order, country| Some(country.clone()), |_country, name| name.clone())
    ///     .to("destinations", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let countries = driver.create_input_topic("countries", StringSerde, StringSerde);
    /// # let orders = driver.create_input_topic("orders", StringSerde, StringSerde);
    /// # let destinations = driver.create_output_topic("destinations", StringSerde, StringSerde);
    /// countries.pipe_input("nz", "New Zealand");
    /// orders.pipe_input("order-1", "nz");
    /// assert_eq!(destinations.read_lines(), ["order-1:New Zealand"]);
    /// ```
    pub fn global_table<K: Data, V: Data>(
        &mut self,
        topic: impl Into<String>,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> GlobalKTable<K, V> {
        let topic = topic.into();
        let generated = || self.graph.borrow_mut().generate_store(&format!("{topic}-"));
        let store = materialized.name.clone().unwrap_or_else(generated);
        if materialized.is_versioned() {
            self.graph.borrow_mut().fail(format!("global table {store} can't keep versions: give it another store"));
        }
        let names = self.global_names(&consumed);
        let consumed = Consumed { serdes: consumed.serdes.or(materialized.serdes.clone()), ..consumed };
        let (keys, values) = resolve(&self.graph, &names.1, &consumed.serdes);
        let definition = store_definition(&store, &keys, &values, &materialized);
        let view = StoreView::of(&store, &keys, &values, None);
        let state = Arc::new(TableState::default());
        state.materialize();
        let kept = TableStore {
            name: store.clone(),
            keys: keys.clone(),
            values: values.clone(),
            cached: false,
            history_ms: None,
        };
        let logic = Arc::new(TableSource { store: kept, state });
        self.add_global(names, topic, (keys, values), &consumed, logic, definition);
        GlobalKTable { store, view }
    }

    /// Adds a store that every instance has whole, filled from all partitions of a topic by a processor. It is the
    /// only one that writes the store; all others may read it, without being given its name.
    ///
    /// ```
    /// use millrace::prelude::*;
    ///
    /// /// Keeps the highest price of each product.
    /// struct Highest;
    ///
    /// impl Processor<String, i64, (), ()> for Highest {
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, (), ()>, price: Record<String, i64>) -> ProcessResult {
    ///         let (Some(product), Some(price)) = (price.key, price.value) else { return Ok(()) };
    ///         let mut highest = context.key_value_store::<String, i64>("highest")?;
    ///         let known = highest.get(&product)?.unwrap_or(price);
    ///         highest.put(&product, known.max(price))
    ///     }
    /// }
    ///
    /// let mut builder = StreamsBuilder::new();
    /// builder.add_global_store(
    ///     Stores::key_value_store("highest", StringSerde, LongSerde),
    ///     "prices",
    ///     Consumed::with(StringSerde, LongSerde),
    ///     || Highest,
    /// );
    /// # builder.stream("orders", Consumed::with(StringSerde, StringSerde)).to("seen", Produced::default());
    /// let driver = millrace::TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// let prices = driver.create_input_topic("prices", StringSerde, LongSerde);
    /// prices.pipe_input("tea", 5);
    /// prices.pipe_input("tea", 3);
    /// assert_eq!(driver.get_key_value_store("highest").unwrap().get(&"tea".to_owned()), Some(5_i64));
    /// ```
    pub fn add_global_store<K: Data, V: Data, SK: Data, SV: Data, P: Processor<K, V, (), ()>>(
        &mut self,
        store: StoreBuilder<SK, SV>,
        topic: impl Into<String>,
        consumed: Consumed<K, V>,
        supplier: impl Fn() -> P + Send + Sync + 'static,
    ) -> &mut Self {
        let names = self.global_names(&consumed);
        let (keys, values) = resolve(&self.graph, &names.0, &consumed.serdes);
        let logic = Arc::new(Process::new(supplier));
        self.add_global(names, topic.into(), (keys, values), &consumed, logic, store.definition());
        self
    }

    /// The names of the source and of the processor, which come off the counter in this order.
    fn global_names<K, V>(&mut self, consumed: &Consumed<K, V>) -> (String, String) {
        let mut graph = self.graph.borrow_mut();
        let source = graph.name_with_suffix(consumed.name.as_deref(), "-source", "KSTREAM-SOURCE-");
        (source, graph.name(consumed.name.as_deref(), "KTABLE-SOURCE-"))
    }

    fn add_global<K: Data, V: Data>(
        &mut self,
        (source, processor): (String, String),
        topic: String,
        (keys, values): (SharedSerde<K>, SharedSerde<V>),
        consumed: &Consumed<K, V>,
        logic: Arc<dyn Logic>,
        definition: StoreDefinition,
    ) {
        let mut graph = self.graph.borrow_mut();
        if let Err(message) = check_consumed(&source, consumed) {
            graph.fail(message);
        }
        let name = processor.clone();
        let write = Box::new(move |topology: &mut Topology, _: &[String]| {
            let read = Arc::new(RecordSource { keys, values, extractor: None });
            let gives = Shape::of::<Rows<K, V>>();
            topology.insert_global(GlobalNodes { source, read, topic, processor, logic, gives }, definition)
        });
        graph.add(&[ROOT], &name, write);
    }
}

/// Of how a topic is read some makes no sense where all of it is read.
pub(crate) fn check_consumed<K, V>(source: &str, consumed: &Consumed<K, V>) -> Result<(), String> {
    if consumed.extractor.is_some() {
        return Err(format!(
            "source {source} fills a global store with the timestamps of its records: give it no extractor"
        ));
    }
    if consumed.reset.is_some() {
        return Err(format!(
            "source {source} fills a global store from the beginning of its topic: give it no offset reset"
        ));
    }
    Ok(())
}

impl<K: Data, V: Data> KStream<K, V> {
    /// The records for whose key, as `key_mapper` makes it of them, a global table has a value, with what `joiner` makes of
    /// both. Records without a value, and those for which there is no key, are left out and counted as dropped. No
    /// repartition topic is made, and the partitions need not match.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let prices = builder.global_table("prices", Consumed::with(StringSerde, LongSerde), Materialized::default());
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, StringSerde))
    ///     .join_global_table(&prices, |_order, product| Some(product.clone()), |_product, price| *price)
    ///     .to("to-pay", Produced::with(StringSerde, LongSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let prices = driver.create_input_topic("prices", StringSerde, LongSerde);
    /// # let orders = driver.create_input_topic("orders", StringSerde, StringSerde);
    /// # let pay = driver.create_output_topic("to-pay", StringSerde, LongSerde);
    /// prices.pipe_input("tea", 5);
    /// orders.pipe_key_values([("o1", "tea"), ("o2", "salt")]);
    /// assert_eq!(pay.read_lines(), ["o1:5"]);
    /// ```
    #[must_use]
    pub fn join_global_table<GK: Data, GV: Data, R: Data>(
        &self,
        table: &GlobalKTable<GK, GV>,
        key_mapper: impl Fn(Option<&K>, &V) -> Option<GK> + Send + Sync + 'static,
        joiner: impl Fn(&V, &GV) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.join_global_table_with_key(table, key_mapper, move |_, value, other| joiner(value, other))
    }

    /// As [`Self::join_global_table`]; the joiner is given the record's key, too, which may be null.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let prices = builder.global_table("prices", Consumed::with(StringSerde, LongSerde), Materialized::default());
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, StringSerde))
    ///     .join_global_table_with_key(
    ///         &prices,
    ///         |_order, product| Some(product.clone()),
    ///         |order, _product, price| format!("{order:?} costs {price}"),
    ///     )
    ///     .to("to-pay", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let prices = driver.create_input_topic("prices", StringSerde, LongSerde);
    /// # let orders = driver.create_input_topic("orders", StringSerde, StringSerde);
    /// # let pay = driver.create_output_topic("to-pay", StringSerde, StringSerde);
    /// prices.pipe_input("tea", 5);
    /// orders.pipe_nullable(None, Some("tea".to_owned()));
    /// assert_eq!(pay.read_lines(), ["null:None costs 5"]);
    /// ```
    #[must_use]
    pub fn join_global_table_with_key<GK: Data, GV: Data, R: Data>(
        &self,
        table: &GlobalKTable<GK, GV>,
        key_mapper: impl Fn(Option<&K>, &V) -> Option<GK> + Send + Sync + 'static,
        joiner: impl Fn(Option<&K>, &V, &GV) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let joiner = move |key: Option<&K>, value: &V, other: Option<&GV>| {
            joiner(key, value, other.expect("an inner join is called for what the table has"))
        };
        self.joined_global_table(table, false, key_mapper, joiner)
    }

    /// All records with a value, with what `joiner` makes of it and that of the global table, if it has one for the key that
    /// `key_mapper` makes of the record. Records without a value are left out and counted as dropped.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let names = builder.global_table("names", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// builder
    ///     .stream("logins", Consumed::with(LongSerde, StringSerde))
    ///     .left_join_global_table(
    ///         &names,
    ///         |_session, user| Some(user.clone()),
    ///         |user, name| name.unwrap_or(user).clone(),
    ///     )
    ///     .to("greetings", Produced::with(LongSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let names = driver.create_input_topic("names", StringSerde, StringSerde);
    /// # let logins = driver.create_input_topic("logins", LongSerde, StringSerde);
    /// # let greetings = driver.create_output_topic("greetings", LongSerde, StringSerde);
    /// names.pipe_input("u1", "Ada");
    /// logins.pipe_key_values([(7, "u1"), (8, "u2")]);
    /// assert_eq!(greetings.read_lines(), ["7:Ada", "8:u2"]);
    /// ```
    #[must_use]
    pub fn left_join_global_table<GK: Data, GV: Data, R: Data>(
        &self,
        table: &GlobalKTable<GK, GV>,
        key_mapper: impl Fn(Option<&K>, &V) -> Option<GK> + Send + Sync + 'static,
        joiner: impl Fn(&V, Option<&GV>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.left_join_global_table_with_key(table, key_mapper, move |_, value, other| joiner(value, other))
    }

    /// As [`Self::left_join_global_table`]; the joiner is given the record's key, too, which may be null.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let names = builder.global_table("names", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// builder
    ///     .stream("logins", Consumed::with(LongSerde, StringSerde))
    ///     .left_join_global_table_with_key(
    ///         &names,
    ///         |_session, user| Some(user.clone()),
    ///         |session, user, name| format!("{} in {session:?}", name.unwrap_or(user)),
    ///     )
    ///     .to("greetings", Produced::with(LongSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let logins = driver.create_input_topic("logins", LongSerde, StringSerde);
    /// # let greetings = driver.create_output_topic("greetings", LongSerde, StringSerde);
    /// logins.pipe_input(8, "u2");
    /// assert_eq!(greetings.read_lines(), ["8:u2 in Some(8)"]);
    /// ```
    #[must_use]
    pub fn left_join_global_table_with_key<GK: Data, GV: Data, R: Data>(
        &self,
        table: &GlobalKTable<GK, GV>,
        key_mapper: impl Fn(Option<&K>, &V) -> Option<GK> + Send + Sync + 'static,
        joiner: impl Fn(Option<&K>, &V, Option<&GV>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.joined_global_table(table, true, key_mapper, joiner)
    }

    fn joined_global_table<GK: Data, GV: Data, R: Data>(
        &self,
        table: &GlobalKTable<GK, GV>,
        left: bool,
        mapper: impl Fn(Option<&K>, &V) -> Option<GK> + Send + Sync + 'static,
        joiner: impl Fn(Option<&K>, &V, Option<&GV>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let view = Arc::clone(&table.view);
        let logic = JoinStreamGlobalTable { table: view, left, mapper, joiner, types: PhantomData };
        // Both kinds have the prefix of a left join.
        let (name, node) = self.add_node::<Rows<K, R>>("KSTREAM-LEFTJOIN-", logic);
        if left {
            self.graph.borrow_mut().take_null_keys(node);
        }
        let serdes = Serdes { keys: self.serdes.keys.clone(), values: None };
        KStream::new(&SharedGraph::clone(&self.graph), name, serdes, self.repartition, node, Rc::clone(&self.origins))
    }
}
