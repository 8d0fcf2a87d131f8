//! Owns the joins of a stream with another one, and the names of their nodes and stores. Must not know what meets what.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::KStream;
use crate::contract::{Format, Layout, Store, Windows};
use crate::graph::{StoreSerdes, Write, resolve};
use crate::logic::{JoinStreams, OuterStore, PassThrough, RetainForJoin, StreamJoiner, TableStore};
use crate::options::Serdes;
use crate::rows::{Data, Rows};
use crate::serdes::{SharedSerde, Sided, SidedSerde, TimeWindowedSerde, WaitingSerde};
use crate::stream_joined::StreamJoined;
use crate::topology::{Kind, Shape, StoreDefinition, Topology};
use crate::windows::{JoinWindows, Windowed};

/// Which side goes on alone where it meets nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    Inner,
    Left,
    Outer,
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Each pair of records of both streams that have one key and are close enough in time, with what `joiner` makes of
    /// their values. Its timestamp is the later one's. Records with a null key or value are left out, and counted as
    /// dropped. A late record joins what is still kept of the other stream.
    ///
    /// Both topics need as many partitions. The records of each stream are kept in a window store with a changelog, for as long
    /// as they can meet others; a stream whose key may have changed goes through a repartition topic first.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// let orders = builder.stream("orders", Consumed::with(StringSerde, StringSerde));
    /// let payments = builder.stream("payments", Consumed::with(StringSerde, LongSerde));
    /// let hour = JoinWindows::of_time_difference_and_grace(Duration::from_secs(3600), Duration::from_secs(60));
    /// orders
    ///     .join(&payments, |order, amount| format!("{order} paid with {amount}"), hour, StreamJoined::default())
    ///     .to("paid", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let orders = driver.create_input_topic("orders", StringSerde, StringSerde);
    /// # let payments = driver.create_input_topic("payments", StringSerde, LongSerde);
    /// # let paid = driver.create_output_topic("paid", StringSerde, StringSerde);
    /// orders.pipe_input_at("o1", "shoes", 0);
    /// payments.pipe_input_at("o1", 80, 3_600_000);
    /// payments.pipe_input_at("o1", 81, 3_600_001);
    /// assert_eq!(paid.read_lines(), ["o1:shoes paid with 80"]);
    /// ```
    #[must_use]
    pub fn join<O: Data, R: Data>(
        &self,
        other: &KStream<K, O>,
        joiner: impl Fn(&V, &O) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, O>,
    ) -> KStream<K, R> {
        self.join_with_key(other, move |_, value, other| joiner(value, other), windows, joined)
    }

    /// As [`Self::join`]; the joiner is given the key, too.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// let orders = builder.stream("orders", Consumed::with(StringSerde, StringSerde));
    /// let payments = builder.stream("payments", Consumed::with(StringSerde, LongSerde));
    /// let hour = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(3600));
    /// orders
    ///     .join_with_key(&payments, |id, what, sum| format!("{id}: {what}, {sum}"), hour, StreamJoined::default())
    ///     .to("paid", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let orders = driver.create_input_topic("orders", StringSerde, StringSerde);
    /// # let payments = driver.create_input_topic("payments", StringSerde, LongSerde);
    /// # let paid = driver.create_output_topic("paid", StringSerde, StringSerde);
    /// orders.pipe_input("o1", "shoes");
    /// payments.pipe_input("o1", 80);
    /// assert_eq!(paid.read_lines(), ["o1:o1: shoes, 80"]);
    /// ```
    #[must_use]
    pub fn join_with_key<O: Data, R: Data>(
        &self,
        other: &KStream<K, O>,
        joiner: impl Fn(&K, &V, &O) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, O>,
    ) -> KStream<K, R> {
        let joiner = move |key: Option<&K>, value: Option<&V>, other: Option<&O>| {
            let all = "an inner join is called for what has a key, and both values";
            joiner(key.expect(all), value.expect(all), other.expect(all))
        };
        self.joined_stream(other, Join::Inner, Arc::new(joiner), windows, joined)
    }

    /// As [`Self::join`], and each record of this stream that meets none: alone, once its window is closed. Whether any
    /// is, is looked for once a second, when a record comes. Meanwhile such records wait in a store of their own, with a
    /// changelog. A record of this stream with a null key goes on alone at once; one with a null value is left out.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// let shown = builder.stream("shown", Consumed::with(StringSerde, StringSerde));
    /// let clicked = builder.stream("clicked", Consumed::with(StringSerde, StringSerde));
    /// let minute = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(60));
    /// shown
    ///     .left_join(&clicked, |page, click| format!("{page} {}", click.is_some()), minute, StreamJoined::default())
    ///     .to("results", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let shown = driver.create_input_topic("shown", StringSerde, StringSerde);
    /// # let clicked = driver.create_input_topic("clicked", StringSerde, StringSerde);
    /// # let results = driver.create_output_topic("results", StringSerde, StringSerde);
    /// shown.pipe_input_at("v1", "home", 0);
    /// shown.pipe_input_at("v2", "help", 0);
    /// clicked.pipe_input_at("v1", "buy", 1_000);
    /// assert_eq!(results.read_lines(), ["v1:home true"]);
    /// shown.pipe_input_at("v3", "news", 61_000);
    /// assert_eq!(results.read_lines(), ["v2:help false"]);
    /// ```
    #[must_use]
    pub fn left_join<O: Data, R: Data>(
        &self,
        other: &KStream<K, O>,
        joiner: impl Fn(&V, Option<&O>) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, O>,
    ) -> KStream<K, R> {
        self.left_join_with_key(other, move |_, value, other| joiner(value, other), windows, joined)
    }

    /// As [`Self::left_join`]; the joiner is given the key, too, which may be null.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// let shown = builder.stream("shown", Consumed::with(StringSerde, StringSerde));
    /// let clicked = builder.stream("clicked", Consumed::with(StringSerde, StringSerde));
    /// let minute = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(60));
    /// shown
    ///     .left_join_with_key(
    ///         &clicked,
    ///         |visit, page, _click| format!("{page}, {}", visit.map_or("nobody", String::as_str)),
    ///         minute,
    ///         StreamJoined::default(),
    ///     )
    ///     .to("results", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let shown = driver.create_input_topic("shown", StringSerde, StringSerde);
    /// # let results = driver.create_output_topic("results", StringSerde, StringSerde);
    /// shown.pipe_nullable(None, Some("home".to_owned()));
    /// assert_eq!(results.read_lines(), ["null:home, nobody"]);
    /// ```
    #[must_use]
    pub fn left_join_with_key<O: Data, R: Data>(
        &self,
        other: &KStream<K, O>,
        joiner: impl Fn(Option<&K>, &V, Option<&O>) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, O>,
    ) -> KStream<K, R> {
        let joiner = move |key: Option<&K>, value: Option<&V>, other: Option<&O>| {
            joiner(key, value.expect("a left join is called for what this stream has"), other)
        };
        self.joined_stream(other, Join::Left, Arc::new(joiner), windows, joined)
    }

    /// As [`Self::left_join`] for both streams: each record that meets none goes on alone. The joiner is given one value
    /// at least.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// let sent = builder.stream("sent", Consumed::with(StringSerde, StringSerde));
    /// let received = builder.stream("received", Consumed::with(StringSerde, StringSerde));
    /// let minute = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(60));
    /// sent.outer_join(&received, |sent, got| format!("{sent:?} {got:?}"), minute, StreamJoined::default())
    ///     .to("compared", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let sent = driver.create_input_topic("sent", StringSerde, StringSerde);
    /// # let received = driver.create_input_topic("received", StringSerde, StringSerde);
    /// # let compared = driver.create_output_topic("compared", StringSerde, StringSerde);
    /// sent.pipe_input_at("p1", "a", 0);
    /// received.pipe_input_at("p2", "b", 1_000);
    /// sent.pipe_input_at("p3", "c", 62_000);
    /// assert_eq!(compared.read_lines(), [r#"p1:Some("a") None"#, r#"p2:None Some("b")"#]);
    /// ```
    #[must_use]
    pub fn outer_join<O: Data, R: Data>(
        &self,
        other: &KStream<K, O>,
        joiner: impl Fn(Option<&V>, Option<&O>) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, O>,
    ) -> KStream<K, R> {
        self.outer_join_with_key(other, move |_, value, other| joiner(value, other), windows, joined)
    }

    /// As [`Self::outer_join`]; the joiner is given the key, too, which may be null.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// let sent = builder.stream("sent", Consumed::with(StringSerde, StringSerde));
    /// let received = builder.stream("received", Consumed::with(StringSerde, StringSerde));
    /// let minute = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(60));
    /// sent.outer_join_with_key(
    ///     &received,
    ///     |id, sent, got| format!("{id:?} {}", sent.is_some() && got.is_some()),
    ///     minute,
    ///     StreamJoined::default(),
    /// )
    /// .to("compared", Produced::with(StringSerde, StringSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let sent = driver.create_input_topic("sent", StringSerde, StringSerde);
    /// # let received = driver.create_input_topic("received", StringSerde, StringSerde);
    /// # let compared = driver.create_output_topic("compared", StringSerde, StringSerde);
    /// sent.pipe_input("p1", "a");
    /// received.pipe_input("p1", "b");
    /// assert_eq!(compared.read_lines(), [r#"p1:Some("p1") true"#]);
    /// ```
    #[must_use]
    pub fn outer_join_with_key<O: Data, R: Data>(
        &self,
        other: &KStream<K, O>,
        joiner: impl Fn(Option<&K>, Option<&V>, Option<&O>) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, O>,
    ) -> KStream<K, R> {
        self.joined_stream(other, Join::Outer, Arc::new(joiner), windows, joined)
    }

    fn joined_stream<O: Data, R: Data>(
        &self,
        other: &KStream<K, O>,
        join: Join,
        joiner: StreamJoiner<K, V, O, R>,
        windows: JoinWindows,
        joined: StreamJoined<K, V, O>,
    ) -> KStream<K, R> {
        let given = joined.name.clone().or_else(|| self.next_name.clone());
        let keys = joined.keys.clone();
        let own = Serdes { keys: keys.clone(), values: joined.values.clone() }.or(self.serdes.clone());
        let theirs = Serdes { keys: keys.or(own.keys.clone()), values: joined.other_values.clone() };
        let theirs = theirs.or(other.serdes.clone());
        let this = match self.repartition {
            true => &self.repartitioned(given.as_ref().map(|name| format!("{name}-left")).as_deref(), own.clone()),
            false => self,
        };
        let that = match other.repartition {
            true => &other.repartitioned(given.as_ref().map(|name| format!("{name}-right")).as_deref(), theirs.clone()),
            false => other,
        };
        let origins = self.graph.borrow_mut().copartition(&this.origins, &that.origins);
        let names = self.name_stream_join(given.as_deref(), join, joined.store_name.as_deref());
        if let Err(message) = windows.check() {
            self.graph.borrow_mut().fail(format!("node {}: {message}", names.this));
        }
        let (keys, values) = resolve(&self.graph, &names.this, &own);
        let (_, other_values) = resolve(&self.graph, &names.that, &theirs);
        let sides = (
            Side { keys: keys.clone(), values, store: names.this_store.clone(), windows },
            Side { keys: keys.clone(), values: other_values, store: names.that_store.clone(), windows },
        );
        let meets = (join == Join::Inner).then(|| (names.merge.clone(), windows.span_ms()));
        let (left, right) = (sides.0.retain(&joined, meets.clone()), sides.1.retain(&joined, meets));
        let logic = Sides::of(&names, join, windows, &sides, joiner);
        let waiting = names.waiting.as_ref().map(|store| waiting_store(store, &sides, &joined));
        let merge = names.merge.clone();
        let (windowed_this, windowed_that) = (names.windowed_this.clone(), names.windowed_that.clone());
        let write: Write = Box::new(move |topology, _| {
            let gives = Shape::of::<Rows<K, R>>();
            let Sides { this, that } = logic;
            let nodes = [
                (&names.this, this, Shape::of::<Rows<K, V>>(), &names.windowed_this),
                (&names.that, that, Shape::of::<Rows<K, O>>(), &names.windowed_that),
            ];
            for (name, logic, takes, parent) in nodes {
                topology.insert_below(name, Kind::Inner { logic }, takes, Some(gives), std::slice::from_ref(parent))?;
            }
            topology.connect(&names.this, &names.that_store)?;
            topology.connect(&names.that, &names.this_store)?;
            if let Some(waiting) = waiting {
                let store = waiting.declared.name.clone();
                topology.insert_store(waiting)?;
                topology.connect(&names.this, &store)?;
                topology.connect(&names.that, &store)?;
            }
            let logic = Arc::new(PassThrough::<K, R>::new());
            let both = [names.this, names.that];
            topology.insert_below(&names.merge, Kind::Inner { logic }, gives, Some(gives), &both)
        });
        let mut graph = self.graph.borrow_mut();
        graph.add(&[this.node], &windowed_this, left.write(windowed_this.clone()));
        graph.add(&[that.node], &windowed_that, right.write(windowed_that.clone()));
        let node = graph.add(&[this.node, that.node], &merge, write);
        if join != Join::Inner {
            graph.take_null_keys(node);
        }
        drop(graph);
        let serdes = Serdes { keys: own.keys, values: None };
        KStream::new(&self.graph, merge, serdes, false, node, Rc::clone(&origins))
    }

    /// The names of a join, which come off the counter in this order.
    fn name_stream_join(&self, given: Option<&str>, join: Join, base: Option<&str>) -> Names {
        let mut graph = self.graph.borrow_mut();
        let outer_this = join == Join::Outer;
        let outer_that = join != Join::Inner;
        let windowed_this = graph.name_with_suffix(given, "-this-windowed", "KSTREAM-WINDOWED-");
        let windowed_that = graph.name_with_suffix(given, "-other-windowed", "KSTREAM-WINDOWED-");
        let (this_prefix, this_suffix) = match outer_this {
            true => ("KSTREAM-OUTERTHIS-", "-outer-this-join"),
            false => ("KSTREAM-JOINTHIS-", "-this-join"),
        };
        let (that_prefix, that_suffix) = match outer_that {
            true => ("KSTREAM-OUTEROTHER-", "-outer-other-join"),
            false => ("KSTREAM-JOINOTHER-", "-other-join"),
        };
        let (this, that) = (graph.generate(this_prefix), graph.generate(that_prefix));
        let store = |generated: &str, suffix: &str| match base {
            Some(base) => format!("{base}{suffix}-store"),
            None => format!("{generated}-store"),
        };
        let shared = || match (base, outer_this) {
            (Some(base), true) => format!("{base}-outer-shared-join-store"),
            (Some(base), false) => format!("{base}-left-shared-join-store"),
            (None, _) => format!("KSTREAM-OUTERSHARED-{}-store", &this[this_prefix.len()..]),
        };
        let waiting = outer_that.then(shared);
        let (this_store, that_store) = (store(&this, this_suffix), store(&that, that_suffix));
        let mut named = |generated, suffix| match given {
            None => generated,
            Some(name) => {
                let name = format!("{name}{suffix}");
                graph.check_name(&name);
                name
            }
        };
        let (this, that) = (named(this, this_suffix), named(that, that_suffix));
        let merge = graph.name_with_suffix(given, "-merge", "KSTREAM-MERGE-");
        Names { windowed_this, windowed_that, this, that, merge, this_store, that_store, waiting }
    }
}

struct Names {
    windowed_this: String,
    windowed_that: String,
    this: String,
    that: String,
    merge: String,
    this_store: String,
    that_store: String,
    /// Where records wait that have met nobody.
    waiting: Option<String>,
}

/// A side of a join, with the store of its records.
struct Side<K, V> {
    keys: SharedSerde<K>,
    values: SharedSerde<V>,
    store: String,
    windows: JoinWindows,
}

impl<K: Data, V: Data> Side<K, V> {
    /// The store as the other side reads it.
    fn read(&self) -> TableStore<Windowed<K>, V> {
        let keys: SharedSerde<Windowed<K>> =
            Arc::new(TimeWindowedSerde::of_store(self.keys.clone(), self.windows.size_ms()));
        TableStore { name: self.store.clone(), keys, values: self.values.clone(), cached: false, history_ms: None }
    }

    /// The node that fills the store.
    fn retain<A, B>(&self, joined: &StreamJoined<K, A, B>, meets: Option<(String, i64)>) -> Retained<K, V> {
        let size_ms = self.windows.size_ms();
        let retention_ms = size_ms.saturating_add(self.windows.grace_ms);
        let layout = Layout::Window(Windows { size_ms, retention_ms, retain_duplicates: true });
        let TableStore { keys, values, .. } = self.read();
        // Each record has a key of its own: there is nothing to compact.
        let mut changelog_config = joined.changelog_config.clone();
        changelog_config.retain(|(key, _)| key != "cleanup.policy");
        changelog_config.push(("cleanup.policy".to_owned(), "delete".to_owned()));
        let definition = define(&self.store, layout, &keys, &values, joined, changelog_config);
        let (store, keys, values) = (self.store.clone(), self.keys.clone(), self.values.clone());
        Retained { logic: RetainForJoin { meets, store, keys, values }, definition }
    }
}

struct Retained<K, V> {
    logic: RetainForJoin<K, V>,
    definition: StoreDefinition,
}

impl<K: Data, V: Data> Retained<K, V> {
    fn write(self, name: String) -> Write {
        Box::new(move |topology: &mut Topology, parents: &[String]| {
            let (shape, store) = (Shape::of::<Rows<K, V>>(), self.definition.declared.name.clone());
            let kind = Kind::Inner { logic: Arc::new(self.logic) };
            topology.insert_below(&name, kind, shape, Some(shape), parents)?;
            topology.insert_store(self.definition)?;
            topology.connect(&name, &store)
        })
    }
}

fn define<K: Data, V: Data, J, A, B>(
    name: &str,
    layout: Layout,
    keys: &SharedSerde<K>,
    values: &SharedSerde<V>,
    joined: &StreamJoined<J, A, B>,
    changelog_config: Vec<(String, String)>,
) -> StoreDefinition {
    StoreDefinition {
        declared: Store {
            name: name.to_owned(),
            layout,
            format: Format { key: keys.format(), value: values.format() },
            persistent: joined.persistent,
            logged: joined.logged,
            cached: false,
            changelog_config,
        },
        serdes: Arc::new(StoreSerdes { keys: keys.clone(), values: values.clone() }),
    }
}

/// The store of records that wait, as it is declared.
fn waiting_store<K: Data, V: Data, O: Data>(
    name: &str,
    (left, right): &(Side<K, V>, Side<K, O>),
    joined: &StreamJoined<K, V, O>,
) -> StoreDefinition {
    let OuterStore { keys, values, .. } = outer_store(name, left, right);
    define(name, Layout::KeyValue, &keys, &values, joined, joined.changelog_config.clone())
}

fn outer_store<K: Data, V: Data, O: Data>(name: &str, left: &Side<K, V>, right: &Side<K, O>) -> OuterStore<K, V, O> {
    OuterStore {
        name: name.to_owned(),
        keys: Arc::new(WaitingSerde(left.keys.clone())),
        values: Arc::new(SidedSerde { left: left.values.clone(), right: right.values.clone() }),
    }
}

/// The nodes that join, one for each side.
struct Sides {
    this: Arc<dyn crate::logic::Logic>,
    that: Arc<dyn crate::logic::Logic>,
}

impl Sides {
    fn of<K: Data, V: Data, O: Data, R: Data>(
        names: &Names,
        join: Join,
        windows: JoinWindows,
        (left, right): &(Side<K, V>, Side<K, O>),
        joiner: StreamJoiner<K, V, O, R>,
    ) -> Self {
        let waiting = || names.waiting.as_ref().map(|store| outer_store(store, left, right));
        let turned = Arc::clone(&joiner);
        let this = JoinStreams {
            join: names.merge.clone(),
            left: true,
            outer: join != Join::Inner,
            windows,
            inner: left.keys.clone(),
            other: right.read(),
            waiting: waiting(),
            wait: Sided::Left,
            sides: |value: &Sided<V, O>| match value {
                Sided::Left(value) => (Some(value), None),
                Sided::Right(value) => (None, Some(value)),
            },
            joiner,
            types: PhantomData,
        };
        let that = JoinStreams {
            join: names.merge.clone(),
            left: false,
            outer: join == Join::Outer,
            windows,
            inner: left.keys.clone(),
            other: left.read(),
            waiting: waiting(),
            wait: Sided::Right,
            sides: |value: &Sided<V, O>| match value {
                Sided::Left(value) => (None, Some(value)),
                Sided::Right(value) => (Some(value), None),
            },
            joiner: Arc::new(move |key: Option<&K>, value: Option<&O>, other: Option<&V>| turned(key, other, value)),
            types: PhantomData,
        };
        Self { this: Arc::new(this), that: Arc::new(that) }
    }
}
