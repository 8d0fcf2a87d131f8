//! Owns the joins of a table with another one on a foreign key: the nodes, the store and the two internal topics they take,
//! and the names of all of them. Must not know what an update does.

use std::rc::Rc;
use std::sync::Arc;

use super::join::{inner, left};
use super::{KTable, Lineage, Origin};
use crate::contract::Layout;
use crate::graph::{Graph, Origins, resolve, resolve_if_needed, store_definition, stored_as};
use crate::logic::{
    Destination, ForeignTableJoin, Logic, Produce, RecordSource, ResponseJoin, StoreView, SubscriptionJoin,
    SubscriptionReceive, SubscriptionSend, TableJoiner, TableSource, TableState, TableStore,
};
use crate::options::{Materialized, Partitioner, Serdes};
use crate::rows::{Data, Rows, Updates};
use crate::serdes::{BytesSerde, Response, ResponseSerde, SharedSerde, Subscription, SubscriptionSerde};
use crate::table_joined::{KeyPartitioner, TableJoined};
use crate::topology::{Kind, Shape, StoreDefinition, Topology};

const REGISTRATION: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-";
const STORE: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-STATE-STORE-";
const PROCESSOR: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-PROCESSOR-";
const RESPONSE: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE-";
const RESOLVER: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE-RESOLVER-PROCESSOR-";
const OUTPUT: &str = "KTABLE-FK-JOIN-OUTPUT-";
const SINK: &str = "KTABLE-SINK-";
const SOURCE: &str = "KTABLE-SOURCE-";

impl<K: Data, V: Data> KTable<K, V> {
    /// The rows of this table that refer to a row of the other one, with what `joiner` makes of both values. `extractor`
    /// says which key of the other table a row refers to; none: it refers to none, and is left out.
    ///
    /// A row is joined again when either side changes, and deleted when either side is. The tables need not have as many
    /// partitions: a row's subscription goes through one internal topic to the other table's task, which keeps it in a store, and
    /// the answer comes back through another one.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let authors = builder.table("authors", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// // The value of a book is the id of its author.
    /// let books = builder.table("books", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// books
    ///     .join_on_foreign_key(
    ///         &authors,
    ///         |_title, author| Some(author.clone()),
    ///         |_author, name| name.clone(),
    ///         TableJoined::default(),
    ///     )
    ///     .to_stream()
    ///     .to("names", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let authors = driver.create_input_topic("authors", StringSerde, StringSerde);
    /// # let books = driver.create_input_topic("books", StringSerde, StringSerde);
    /// # let names = driver.create_output_topic("names", StringSerde, StringSerde);
    /// books.pipe_key_values([("Emma", "a1"), ("Persuasion", "a1")]);
    /// assert!(names.is_empty());
    /// authors.pipe_input("a1", "Jane Austen");
    /// assert_eq!(names.read_lines(), ["Emma:Jane Austen", "Persuasion:Jane Austen"]);
    /// ```
    #[must_use]
    pub fn join_on_foreign_key<O: Data, W: Data, R: Data>(
        &self,
        other: &KTable<O, W>,
        extractor: impl Fn(&K, &V) -> Option<O> + Send + Sync + 'static,
        joiner: impl Fn(&V, &W) -> R + Send + Sync + 'static,
        joined: TableJoined<K, O>,
    ) -> KTable<K, R> {
        self.joined_on_foreign_key(other, extractor, (inner(joiner), false), joined, Materialized::default())
    }

    /// As [`Self::join_on_foreign_key`], kept in a store if `materialized` has a name.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let authors = builder.table("authors", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// let books = builder.table("books", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// books.join_on_foreign_key_materialized(
    ///     &authors,
    ///     |_title, author| Some(author.clone()),
    ///     |_author, name| name.clone(),
    ///     TableJoined::as_("names"),
    ///     Materialized::as_("names").with_value_serde(StringSerde),
    /// );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let authors = driver.create_input_topic("authors", StringSerde, StringSerde);
    /// # let books = driver.create_input_topic("books", StringSerde, StringSerde);
    /// authors.pipe_input("a1", "Jane Austen");
    /// books.pipe_input("Emma", "a1");
    /// let names = driver.get_key_value_store::<String, String>("names").unwrap();
    /// assert_eq!(names.get(&"Emma".to_owned()).as_deref(), Some("Jane Austen"));
    /// ```
    #[must_use]
    pub fn join_on_foreign_key_materialized<O: Data, W: Data, R: Data>(
        &self,
        other: &KTable<O, W>,
        extractor: impl Fn(&K, &V) -> Option<O> + Send + Sync + 'static,
        joiner: impl Fn(&V, &W) -> R + Send + Sync + 'static,
        joined: TableJoined<K, O>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.joined_on_foreign_key(other, extractor, (inner(joiner), false), joined, materialized)
    }

    /// All rows of this table, with what `joiner` makes of their value and that of the other table's row that they refer
    /// to, if there is one. Else as [`Self::join_on_foreign_key`].
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let authors = builder.table("authors", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// let books = builder.table("books", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// books
    ///     .left_join_on_foreign_key(
    ///         &authors,
    ///         |_title, author| Some(author.clone()),
    ///         |_author, name| name.cloned().unwrap_or_else(|| "unknown".to_owned()),
    ///         TableJoined::as_("books-and-authors"),
    ///     )
    ///     .to_stream()
    ///     .to("names", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let books = driver.create_input_topic("books", StringSerde, StringSerde);
    /// # let names = driver.create_output_topic("names", StringSerde, StringSerde);
    /// books.pipe_input("Emma", "a1");
    /// assert_eq!(names.read_lines(), ["Emma:unknown"]);
    /// ```
    #[must_use]
    pub fn left_join_on_foreign_key<O: Data, W: Data, R: Data>(
        &self,
        other: &KTable<O, W>,
        extractor: impl Fn(&K, &V) -> Option<O> + Send + Sync + 'static,
        joiner: impl Fn(&V, Option<&W>) -> R + Send + Sync + 'static,
        joined: TableJoined<K, O>,
    ) -> KTable<K, R> {
        self.joined_on_foreign_key(other, extractor, (left(joiner), true), joined, Materialized::default())
    }

    /// As [`Self::left_join_on_foreign_key`], kept in a store if `materialized` has a name.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let authors = builder.table("authors", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// let books = builder.table("books", Consumed::with(StringSerde, StringSerde), Materialized::default());
    /// books.left_join_on_foreign_key_materialized(
    ///     &authors,
    ///     |_title, author| Some(author.clone()),
    ///     |_author, name| name.cloned().unwrap_or_else(|| "unknown".to_owned()),
    ///     TableJoined::default(),
    ///     Materialized::as_("names").with_value_serde(StringSerde),
    /// );
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let books = driver.create_input_topic("books", StringSerde, StringSerde);
    /// books.pipe_input("Emma", "a1");
    /// let names = driver.get_key_value_store::<String, String>("names").unwrap();
    /// assert_eq!(names.get(&"Emma".to_owned()).as_deref(), Some("unknown"));
    /// ```
    #[must_use]
    pub fn left_join_on_foreign_key_materialized<O: Data, W: Data, R: Data>(
        &self,
        other: &KTable<O, W>,
        extractor: impl Fn(&K, &V) -> Option<O> + Send + Sync + 'static,
        joiner: impl Fn(&V, Option<&W>) -> R + Send + Sync + 'static,
        joined: TableJoined<K, O>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.joined_on_foreign_key(other, extractor, (left(joiner), true), joined, materialized)
    }

    fn joined_on_foreign_key<O: Data, W: Data, R: Data>(
        &self,
        other: &KTable<O, W>,
        extractor: impl Fn(&K, &V) -> Option<O> + Send + Sync + 'static,
        (joiner, left): (TableJoiner<V, W, R>, bool),
        joined: TableJoined<K, O>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        let TableJoined { name, partitioner, other_partitioner } = joined;
        let given = name.or_else(|| self.next_name.clone());
        let names = Names::take(&mut self.graph.borrow_mut(), given.as_deref(), materialized.name.clone());
        for lineage in [&self.lineage, &other.lineage] {
            lineage.send_old(true);
            lineage.materialize();
        }
        let (keys, values) = resolve(&self.graph, &names.send, &self.serdes);
        let (foreign_keys, foreign_values) = resolve(&self.graph, &names.join, &other.serdes);

        let send = SubscriptionSend {
            keys: Arc::clone(&keys),
            values: Arc::clone(&values),
            foreign_keys: Arc::clone(&foreign_keys),
            extractor,
            left,
        };
        let send = self.add::<Updates<K, V>, Rows<O, Subscription>>(self.node, &names.send, send, |_, _| Ok(()));
        let partition = other_partitioner.map(|partitioner| {
            Arc::new(move |topic: &str, key: Option<&O>, _: Option<&Subscription>, count| {
                partitioner(topic, key, count)
            }) as Partitioner<O, Subscription>
        });
        let written: Written<O, Subscription> = (Arc::clone(&foreign_keys), Arc::new(SubscriptionSerde), partition);
        let subscribed = self.through(&[send], &names.registration, written, Arc::clone(&foreign_keys));

        let answering = self.answer(other, subscribed, &names, foreign_keys, &foreign_values);
        let written: Written<Vec<u8>, Response> =
            (Arc::new(BytesSerde), Arc::new(ResponseSerde), Some(to_subscriber(partitioner, &keys)));
        let answered = self.through(&answering, &names.response, written, Arc::clone(&keys));
        let table = Arc::clone(&self.view);
        let resolver = ResponseJoin { table, values, other_values: foreign_values, joiner, left };
        let stores = self.view.stores();
        let resolver =
            self.add::<Rows<K, Response>, Rows<K, R>>(answered, &names.resolver, resolver, move |topology, node| {
                stores.iter().try_for_each(|store| topology.connect(node, store))
            });
        let origins = {
            let mut graph = self.graph.borrow_mut();
            graph.copartition(&other.origins, &names.registration.origins());
            graph.copartition(&self.origins, &names.response.origins())
        };
        self.result(resolver, names, &materialized, origins)
    }

    /// Adds the nodes where the other table is: they keep subscriptions, and answer when one comes or the table changes.
    fn answer<O: Data, W: Data>(
        &self,
        other: &KTable<O, W>,
        subscribed: usize,
        names: &Names,
        foreign_keys: SharedSerde<O>,
        foreign_values: &SharedSerde<W>,
    ) -> [usize; 2] {
        let (store, own) = (names.store.clone(), subscriptions(&names.store, &foreign_keys));
        let receive = SubscriptionReceive { store: store.clone(), foreign_keys: Arc::clone(&foreign_keys) };
        let shared = own.clone();
        let receive = self.add::<Rows<O, Subscription>, Rows<O, Subscription>>(
            subscribed,
            &names.receive,
            receive,
            move |topology, node| share(topology, node, own),
        );
        let join = SubscriptionJoin { table: Arc::clone(&other.view), values: Arc::clone(foreign_values) };
        let stores = other.view.stores();
        let join = self.add::<Rows<O, Subscription>, Rows<Vec<u8>, Response>>(
            receive,
            &names.join,
            join,
            move |topology, node| stores.iter().try_for_each(|store| topology.connect(node, store)),
        );
        let foreign = ForeignTableJoin { store, foreign_keys, values: Arc::clone(foreign_values) };
        let foreign = self.add::<Updates<O, W>, Rows<Vec<u8>, Response>>(
            other.node,
            &names.foreign,
            foreign,
            move |topology, node| share(topology, node, shared),
        );
        [join, foreign]
    }

    /// The table that responses make when they are joined. As a table of a topic, it has a store if somebody needs it.
    fn result<R: Data>(
        &self,
        parent: usize,
        names: Names,
        materialized: &Materialized<K, R>,
        origins: Origins,
    ) -> KTable<K, R> {
        let state = Arc::new(TableState::default());
        if materialized.name.is_some() {
            state.materialize();
        }
        let inherited = Serdes { keys: self.serdes.keys.clone(), values: None };
        let serdes = materialized.serdes.clone().or(inherited);
        let (keys, values, missing) = resolve_if_needed(&names.result, &serdes);
        let definition = store_definition(&names.result_store, &keys, &values, materialized);
        let view = StoreView::of(&names.result_store, &keys, &values, materialized.history_ms);
        let store = TableStore::of(names.result_store, keys, values, materialized);
        let asked = Arc::clone(&state);
        let table = TableSource { store, state: Arc::clone(&state) };
        let node = self.add::<Rows<K, R>, Updates<K, R>>(parent, &names.result, table, move |topology, node| {
            match (asked.materialized(), missing) {
                (false, _) => Ok(()),
                (true, Some(missing)) => Err(missing),
                (true, None) => topology.insert_owned(node, definition),
            }
        });
        KTable::new(&self.graph, serdes, node, Rc::new(Lineage { state, origin: Origin::Topic }), view, origins)
    }

    /// Adds a processor that takes and gives these rows, and then its stores.
    fn add<T: 'static, G: 'static>(
        &self,
        parent: usize,
        name: &str,
        logic: impl Logic + 'static,
        stores: impl FnOnce(&mut Topology, &str) -> Result<(), String> + 'static,
    ) -> usize {
        let own = name.to_owned();
        let write = Box::new(move |topology: &mut Topology, parents: &[String]| {
            let kind = Kind::Inner { logic: Arc::new(logic) };
            topology.insert_below(&own, kind, Shape::of::<T>(), Some(Shape::of::<G>()), parents)?;
            stores(topology, &own)
        });
        self.graph.borrow_mut().add(&[parent], name, write)
    }

    /// Adds the way through an internal topic, whose keys are read with another serde than they are written with.
    fn through<A: Data, B: Data, M: Data>(
        &self,
        parents: &[usize],
        internal: &Internal,
        (keys, values, partitioner): Written<A, M>,
        read_keys: SharedSerde<B>,
    ) -> usize {
        let (sink, topic) = (internal.sink.clone(), internal.topic.clone());
        let (source, read) = (internal.source.clone(), internal.topic.clone());
        let read_values = Arc::clone(&values);
        let write_sink = Box::new(move |topology: &mut Topology, parents: &[String]| {
            topology.insert_repartition(&topic, None);
            let destination = Destination::Topic(topic.clone());
            let logic = Arc::new(Produce { destination, keys, values, partitioner, by_inner_key: false });
            let kind = Kind::Sink { logic, topic: Some(topic) };
            topology.insert_below(&sink, kind, Shape::of::<Rows<A, M>>(), None, parents)
        });
        let write_source = Box::new(move |topology: &mut Topology, _: &[String]| {
            let logic = Arc::new(RecordSource { keys: read_keys, values: read_values, extractor: None });
            let kind = Kind::Source { logic, topics: vec![read], pattern: None, reset: None };
            topology.insert_source(&source, kind, Shape::of::<Rows<B, M>>())
        });
        let mut graph = self.graph.borrow_mut();
        let node = graph.add(parents, &internal.sink, write_sink);
        graph.add(&[node], &internal.source, write_source)
    }
}

/// How an internal topic is written.
type Written<K, V> = (SharedSerde<K>, SharedSerde<V>, Option<Partitioner<K, V>>);

/// A response goes where its row is: where the subscription came from, unless the table's partitioner is given.
fn to_subscriber<K: Data>(
    partitioner: Option<KeyPartitioner<K>>,
    keys: &SharedSerde<K>,
) -> Partitioner<Vec<u8>, Response> {
    let Some(partitioner) = partitioner else {
        return Arc::new(|_, _, response, _| response.and_then(|response| response.primary_partition));
    };
    let keys = Arc::clone(keys);
    Arc::new(move |topic, key, _, count| {
        let key = key.and_then(|bytes| keys.deserialize(bytes).ok());
        partitioner(topic, key.as_ref(), count)
    })
}

/// The store of subscriptions: on disk, with a changelog, without a cache.
fn subscriptions<O: Data>(name: &str, foreign_keys: &SharedSerde<O>) -> StoreDefinition {
    let (keys, values) = (Arc::new(BytesSerde) as SharedSerde<Vec<u8>>, Arc::new(SubscriptionSerde) as SharedSerde<_>);
    let options = Materialized::<Vec<u8>, Subscription>::default().with_caching_disabled();
    let mut definition = stored_as(Layout::KeyValue, name, &keys, &values, &options);
    definition.declared.format.key = format!("combined<{}>", foreign_keys.format());
    definition
}

/// Gives a node the store, which is added with the first of them.
fn share(topology: &mut Topology, node: &str, store: StoreDefinition) -> Result<(), String> {
    let name = store.declared.name.clone();
    if topology.store(&name).is_none() {
        topology.insert_store(store)?;
    }
    topology.connect(node, &name)
}

/// An internal topic, the node that writes it and the one that reads it.
struct Internal {
    topic: String,
    sink: String,
    source: String,
}

impl Internal {
    fn origins(&self) -> Origins {
        Origins::new([self.topic.clone()].into())
    }
}

struct Names {
    registration: Internal,
    send: String,
    store: String,
    receive: String,
    join: String,
    foreign: String,
    response: Internal,
    resolver: String,
    result: String,
    result_store: String,
}

impl Names {
    /// They come off the counter in this order.
    fn take(graph: &mut Graph, given: Option<&str>, result_store: Option<String>) -> Self {
        let mut name = |suffix: &str, prefix: &str| graph.name_with_suffix(given, suffix, prefix);
        let topic = format!("{}-topic", name("-subscription-registration", REGISTRATION));
        let send = name("-subscription-registration-processor", REGISTRATION);
        let sink = name("-subscription-registration-sink", SINK);
        let registration = Internal { topic, sink, source: name("-subscription-registration-source", SOURCE) };
        let store = name("-subscription-store", STORE);
        let receive = name("-subscription-receive", PROCESSOR);
        let join = name("-subscription-join-foreign", PROCESSOR);
        let foreign = name("-foreign-join-subscription", PROCESSOR);
        let topic = format!("{}-topic", name("-subscription-response", RESPONSE));
        let sink = name("-subscription-response-sink", SINK);
        let response = Internal { topic, sink, source: name("-subscription-response-source", SOURCE) };
        let resolver = name("-subscription-response-resolver", RESOLVER);
        let result = name("-result", OUTPUT);
        let result_store = result_store.unwrap_or_else(|| graph.generate_store(OUTPUT));
        Self { registration, send, store, receive, join, foreign, response, resolver, result, result_store }
    }
}
