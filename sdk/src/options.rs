//! Owns what can be said beside an operator: names, serdes, how its store is kept. Must not know
//! the operators.

use std::fmt;

use std::sync::Arc;
use std::time::Duration;

use crate::contract::OffsetReset as Reset;
use crate::rows::Headers;
use crate::serdes::{Serde, SharedSerde, natural};

/// Finds the timestamp of a record; the second argument is the highest one seen before in the
/// partition.
pub(crate) type TimestampExtractor<K, V> = Arc<dyn Fn(&ConsumedRecord<'_, K, V>, Option<i64>) -> i64 + Send + Sync>;

/// Chooses the partition of a record among so many; none: by Kafka's default.
pub(crate) type Partitioner<K, V> = Arc<dyn Fn(&str, Option<&K>, Option<&V>, u32) -> Option<i32> + Send + Sync>;

/// A record of a topic as a timestamp extractor sees it, see [`Consumed::with_timestamp_extractor`].
#[derive(Debug)]
pub struct ConsumedRecord<'a, K, V> {
    /// Where it was read.
    pub topic: &'a str,
    /// Where it was read.
    pub partition: u32,
    /// Where it was read.
    pub offset: i64,
    /// The timestamp it has in Kafka.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a K>,
    /// Its value.
    pub value: Option<&'a V>,
    /// Its headers.
    pub headers: &'a Headers,
}

/// What is known of a record beside its key and value, as [`crate::KStream::to_by`] shows it to what names its topic.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// builder
///     .stream("lines", Consumed::with(StringSerde, StringSerde))
///     .to_by(|_, _, record| format!("copy-of-{}", record.topic.unwrap_or("nothing")), Produced::default());
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
/// # let copy = driver.create_output_topic("copy-of-lines", StringSerde, StringSerde);
/// lines.pipe_input("a", "x");
/// assert_eq!(copy.read_lines(), ["a:x"]);
/// ```
#[derive(Debug)]
pub struct RecordContext<'a> {
    /// The topic the record stems from; none in a punctuation or when a cache is flushed.
    pub topic: Option<&'a str>,
    /// The partition the record stems from.
    pub partition: Option<u32>,
    /// The offset of the record it stems from.
    pub offset: Option<i64>,
    /// The record's own timestamp.
    pub timestamp: i64,
    /// The record's own headers.
    pub headers: &'a Headers,
}

/// Where a source starts in a partition for which the group has no offset, see [`Consumed::with_offset_reset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// With the first record there is.
    Earliest,
    /// With the next record to come.
    Latest,
    /// Not at all: the application stops with an error.
    None,
}

impl From<OffsetReset> for Reset {
    fn from(reset: OffsetReset) -> Self {
        match reset {
            OffsetReset::Earliest => Self::Earliest,
            OffsetReset::Latest => Self::Latest,
            OffsetReset::None => Self::None,
        }
    }
}

/// The name of an operator's node, instead of a generated one. A string is one, too: `stream.named("big")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named(pub(crate) String);

impl Named {
    /// That name.
    pub fn as_(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

impl<S: Into<String>> From<S> for Named {
    fn from(name: S) -> Self {
        Self(name.into())
    }
}

/// The serdes of keys and values, as far as they were given.
pub(crate) struct Serdes<K, V> {
    pub(crate) keys: Option<SharedSerde<K>>,
    pub(crate) values: Option<SharedSerde<V>>,
}

impl<K, V> Default for Serdes<K, V> {
    fn default() -> Self {
        Self { keys: None, values: None }
    }
}

impl<K, V> Clone for Serdes<K, V> {
    fn clone(&self) -> Self {
        Self { keys: self.keys.clone(), values: self.values.clone() }
    }
}

impl<K, V> Serdes<K, V> {
    fn with(keys: impl Serde<Value = K>, values: impl Serde<Value = V>) -> Self {
        Self { keys: Some(Arc::new(keys)), values: Some(Arc::new(values)) }
    }

    /// The serde of the keys: the one given, or the one that their type has by nature.
    pub(crate) fn keys_of(&self, node: &str) -> Result<SharedSerde<K>, String>
    where
        K: 'static,
    {
        self.keys.clone().or_else(natural).ok_or_else(|| missing::<K>(node, "keys"))
    }

    /// The same for the values.
    pub(crate) fn values_of(&self, node: &str) -> Result<SharedSerde<V>, String>
    where
        V: 'static,
    {
        self.values.clone().or_else(natural).ok_or_else(|| missing::<V>(node, "values"))
    }

    /// These, and what they lack from `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { keys: self.keys.or(other.keys), values: self.values.or(other.values) }
    }
}

fn missing<T>(node: &str, what: &str) -> String {
    format!("node {node} has no serde for its {what} of type {}: give it one", std::any::type_name::<T>())
}

/// The parts that are alike in all of these types.
macro_rules! common {
    ($type:ident) => {
        impl<K, V> Default for $type<K, V> {
            fn default() -> Self {
                Self::empty()
            }
        }

        impl<K, V> fmt::Debug for $type<K, V> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).field("name", &self.name).finish_non_exhaustive()
            }
        }

        impl<K, V> $type<K, V> {
            /// With these serdes.
            pub fn with(keys: impl Serde<Value = K>, values: impl Serde<Value = V>) -> Self {
                Self { serdes: Serdes::with(keys, values), ..Self::empty().touched() }
            }

            /// The same with this serde for the keys.
            #[must_use]
            pub fn with_key_serde(self, serde: impl Serde<Value = K>) -> Self {
                let mut given = self.touched();
                given.serdes.keys = Some(Arc::new(serde));
                given
            }

            /// The same with this serde for the values.
            #[must_use]
            pub fn with_value_serde(self, serde: impl Serde<Value = V>) -> Self {
                let mut given = self.touched();
                given.serdes.values = Some(Arc::new(serde));
                given
            }

            /// The same with this name.
            #[must_use]
            pub fn with_name(self, name: impl Into<String>) -> Self {
                let mut given = self.touched();
                given.name = Some(name.into());
                given
            }

            /// With this name.
            pub fn as_(name: impl Into<String>) -> Self {
                Self { name: Some(name.into()), ..Self::empty().touched() }
            }
        }
    };
}

/// How a topic is read: its serdes, the name of its source, its timestamps, where it is begun. Types with an obvious serde
/// (`String`, `i64`, `i32`, `f64`, `Vec<u8>`) need none.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// let lines: KStream<String, i64> = builder.stream("lines", Consumed::as_("the-lines"));
/// lines.to("copy", Produced::default());
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// assert!(driver.describe().contains("Source: the-lines"));
/// ```
pub struct Consumed<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) serdes: Serdes<K, V>,
    pub(crate) extractor: Option<TimestampExtractor<K, V>>,
    pub(crate) reset: Option<OffsetReset>,
}

common!(Consumed);

impl<K, V> Consumed<K, V> {
    fn empty() -> Self {
        Self { name: None, serdes: Serdes::default(), extractor: None, reset: None }
    }

    fn touched(self) -> Self {
        self
    }

    /// The same with timestamps found by `extractor`, which is given the record and the highest timestamp seen before in its
    /// partition. A negative one drops the record, which is counted.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// // The value is the time.
    /// let consumed = Consumed::with(StringSerde, LongSerde).with_timestamp_extractor(|record, _| *record.value.unwrap_or(&-1));
    /// builder.stream("events", consumed).to("timed", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let events = driver.create_input_topic("events", StringSerde, LongSerde);
    /// # let timed = driver.create_output_topic("timed", StringSerde, LongSerde);
    /// events.pipe_input("a", 12_000);
    /// events.pipe_nullable(Some("b".to_owned()), None);
    /// assert_eq!(timed.read_records_to_list().iter().map(|record| record.timestamp).collect::<Vec<_>>(), [12_000]);
    /// ```
    #[must_use]
    pub fn with_timestamp_extractor(
        mut self,
        extractor: impl Fn(&ConsumedRecord<'_, K, V>, Option<i64>) -> i64 + Send + Sync + 'static,
    ) -> Self {
        self.extractor = Some(Arc::new(extractor));
        self
    }

    /// The same, started there when the group has no offset; else the application's setting counts.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let new_only = Consumed::with(StringSerde, StringSerde).with_offset_reset(OffsetReset::Latest);
    /// builder.stream("lines", new_only).to("copy", Produced::default());
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// ```
    #[must_use]
    pub fn with_offset_reset(mut self, reset: OffsetReset) -> Self {
        self.reset = Some(reset);
        self
    }
}

/// How a topic is written: its serdes, the name of its sink, its partitions. Serdes that are not given are those of the
/// stream.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// builder
///     .stream("numbers", Consumed::with(StringSerde, LongSerde))
///     .map_values(|number| i32::try_from(*number).unwrap_or(i32::MAX))
///     .to("small", Produced::as_("write-small").with_value_serde(IntegerSerde));
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let numbers = driver.create_input_topic("numbers", StringSerde, LongSerde);
/// # let small = driver.create_output_topic("small", StringSerde, IntegerSerde);
/// numbers.pipe_input("a", 7);
/// assert_eq!(small.read_lines(), ["a:7"]);
/// ```
pub struct Produced<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) serdes: Serdes<K, V>,
    pub(crate) partitioner: Option<Partitioner<K, V>>,
}

common!(Produced);

impl<K, V> Produced<K, V> {
    fn empty() -> Self {
        Self { name: None, serdes: Serdes::default(), partitioner: None }
    }

    fn touched(self) -> Self {
        self
    }

    /// The same with partitions chosen by `partitioner`, which is given topic, key, value and the number of partitions; none:
    /// by Kafka's default.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// let by_length = |_: &str, _: Option<&String>, line: Option<&String>, partitions: u32| {
    ///     let partition = u32::try_from(line?.len()).ok()? % partitions;
    ///     i32::try_from(partition).ok()
    /// };
    /// builder
    ///     .stream("lines", Consumed::with(StringSerde, StringSerde))
    ///     .to("spread", Produced::default().with_stream_partitioner(by_length));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let lines = driver.create_input_topic("lines", StringSerde, StringSerde);
    /// # let spread = driver.create_output_topic("spread", StringSerde, StringSerde);
    /// lines.pipe_input("a", "hello");
    /// assert_eq!(spread.read_lines(), ["a:hello"]);
    /// ```
    #[must_use]
    pub fn with_stream_partitioner(
        mut self,
        partitioner: impl Fn(&str, Option<&K>, Option<&V>, u32) -> Option<i32> + Send + Sync + 'static,
    ) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }
}

/// How a stream or table is grouped: serdes for the repartition topic, if there is one, and its name. See
/// [`crate::KStream::group_by`].
pub struct Grouped<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) serdes: Serdes<K, V>,
}

common!(Grouped);

impl<K, V> Grouped<K, V> {
    fn empty() -> Self {
        Self { name: None, serdes: Serdes::default() }
    }

    fn touched(self) -> Self {
        self
    }
}

/// How a stream is repartitioned: the name, the serdes, the partitions of the topic. See [`crate::KStream::repartition`].
pub struct Repartitioned<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) serdes: Serdes<K, V>,
    pub(crate) partitioner: Option<Partitioner<K, V>>,
    pub(crate) partitions: Option<u32>,
}

common!(Repartitioned);

impl<K, V> Repartitioned<K, V> {
    fn empty() -> Self {
        Self { name: None, serdes: Serdes::default(), partitioner: None, partitions: None }
    }

    fn touched(self) -> Self {
        self
    }

    /// The same with so many partitions; else as many as the largest source has.
    #[must_use]
    pub fn with_number_of_partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// The same with partitions chosen by `partitioner`; see [`Produced::with_stream_partitioner`].
    #[must_use]
    pub fn with_stream_partitioner(
        mut self,
        partitioner: impl Fn(&str, Option<&K>, Option<&V>, u32) -> Option<i32> + Send + Sync + 'static,
    ) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }
}

/// How a stream is joined with a table: the join's name, and serdes for the repartition topic that it
/// takes when the key may have changed.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// let users = builder.table("users", Consumed::with(StringSerde, StringSerde), Materialized::default());
/// builder
///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
///     .select_key(|_, user| user.cloned())
///     .join_table(&users, |_, name| name.clone(), Joined::with(StringSerde, StringSerde).with_name("who"))
///     .to("names", Produced::with(StringSerde, StringSerde));
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let users = driver.create_input_topic("users", StringSerde, StringSerde);
/// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
/// # let names = driver.create_output_topic("names", StringSerde, StringSerde);
/// users.pipe_input("u1", "Ada");
/// clicks.pipe_input("home", "u1");
/// assert_eq!(names.read_lines(), ["u1:Ada"]);
/// assert!(driver.produced_topic_names().contains(&"test-application-who-repartition".to_owned()));
/// ```
pub struct Joined<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) keys: Option<SharedSerde<K>>,
    pub(crate) values: Option<SharedSerde<V>>,
    /// How long records wait for the table; none: not at all.
    pub(crate) grace_ms: Option<i64>,
}

impl<K, V> Default for Joined<K, V> {
    fn default() -> Self {
        Self { name: None, keys: None, values: None, grace_ms: None }
    }
}

impl<K, V> fmt::Debug for Joined<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K, V> Joined<K, V> {
    /// With these serdes.
    pub fn with(keys: impl Serde<Value = K>, values: impl Serde<Value = V>) -> Self {
        Self { keys: Some(Arc::new(keys)), values: Some(Arc::new(values)), ..Self::default() }
    }

    /// With this name.
    pub fn as_(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// The same with this name.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The same with records that wait until the stream is `grace` past them, so that they meet what the table got of their
    /// time until then. They wait in a buffer with a changelog. The table has to keep versions: see
    /// [`Materialized::versioned`].
    #[must_use]
    pub fn with_grace_period(self, grace: Duration) -> Self {
        Self { grace_ms: Some(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX)), ..self }
    }

    /// The same with this serde for the keys.
    #[must_use]
    pub fn with_key_serde(self, serde: impl Serde<Value = K>) -> Self {
        Self { keys: Some(Arc::new(serde)), ..self }
    }

    /// The same with this serde for the stream's values.
    #[must_use]
    pub fn with_value_serde(self, serde: impl Serde<Value = V>) -> Self {
        Self { values: Some(Arc::new(serde)), ..self }
    }
}

/// How a table's store is kept: by default on disk, with a changelog and a cache. Under its name processors read it and
/// queries ask it; its changelog is `<application.id>-<name>-changelog`.
///
/// `Materialized::default()` is Kafka Streams' operator without this argument; the difference
/// shows in generated names.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// builder
///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
///     .group_by_key(Grouped::default())
///     .count(Materialized::as_("counts").in_memory().with_logging_enabled([("segment.bytes", "1048576")]));
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
/// clicks.pipe_input("ann", "home");
/// assert_eq!(driver.state_store_names(), ["counts"]);
/// assert_eq!(driver.produced_topic_names(), ["test-application-counts-changelog"]);
/// ```
pub struct Materialized<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) serdes: Serdes<K, V>,
    pub(crate) persistent: bool,
    pub(crate) logged: bool,
    pub(crate) cached: bool,
    pub(crate) changelog_config: Vec<(String, String)>,
    /// How long entries of windows are kept; none: as long as they can change.
    pub(crate) retention_ms: Option<i64>,
    /// How long the versions of a key are kept; none: it has one.
    pub(crate) history_ms: Option<i64>,
    /// Whether it was said at all.
    pub(crate) given: bool,
}

common!(Materialized);

impl<K, V> Materialized<K, V> {
    fn empty() -> Self {
        Self {
            name: None,
            serdes: Serdes::default(),
            persistent: true,
            logged: true,
            cached: true,
            changelog_config: Vec::new(),
            retention_ms: None,
            history_ms: None,
            given: false,
        }
    }

    fn touched(mut self) -> Self {
        self.given = true;
        self
    }

    /// Kept in memory, rebuilt from the changelog at each start.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        (self.persistent, self.given) = (false, true);
        self
    }

    /// Without a changelog: what is lost with the disk is lost.
    #[must_use]
    pub fn with_logging_disabled(mut self) -> Self {
        (self.logged, self.given) = (false, true);
        self
    }

    /// With a changelog, whose default configuration these entries are laid over.
    #[must_use]
    pub fn with_logging_enabled<C: Into<String>>(mut self, config: impl IntoIterator<Item = (C, C)>) -> Self {
        self.changelog_config = config.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        (self.logged, self.given) = (true, true);
        self
    }

    /// Windows are kept for so long after their start, and sessions after their end, in stream time. It is at
    /// least as long as they can change, which is what they are kept for without this. Tables without windows
    /// don't age.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # use std::time::Duration;
    /// # let mut builder = StreamsBuilder::new();
    /// let minute = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
    /// builder
    ///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(minute)
    ///     .count(Materialized::as_("counts").with_retention(Duration::from_secs(3_600)));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// clicks.pipe_input_at("ann", "home", 0);
    /// clicks.pipe_input_at("ann", "home", 3_000_000);
    /// let counts = driver.get_window_store::<String, i64>("counts").unwrap();
    /// assert_eq!(counts.fetch(&"ann".to_owned(), 0), Some(1));
    /// clicks.pipe_input_at("ann", "home", 4_000_000);
    /// assert_eq!(counts.fetch(&"ann".to_owned(), 0), None);
    /// ```
    #[must_use]
    pub fn with_retention(mut self, retention: Duration) -> Self {
        self.retention_ms = Some(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
        self.given = true;
        self
    }

    /// In a store of this name that keeps what each key had before, for as long as that is asked for: for `history` after
    /// it was followed by another value, in the time of what is put into the store. What is older than that when it comes
    /// is left out. A stream is joined with what the table had at the time of its record; an update that comes after
    /// later ones of its key changes nothing further down. It is not cached.
    ///
    /// ```
    /// use millrace::prelude::*;
    /// use std::time::Duration;
    ///
    /// let mut builder = StreamsBuilder::new();
    /// let hour = Duration::from_secs(3_600);
    /// let prices = builder.table("prices", Consumed::with(StringSerde, LongSerde), Materialized::versioned("prices", hour));
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, LongSerde))
    ///     .join_table(&prices, |amount, price| amount * price, Joined::default())
    ///     .to("sums", Produced::with(StringSerde, LongSerde));
    ///
    /// let driver = millrace::TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// let prices = driver.create_input_topic("prices", StringSerde, LongSerde);
    /// let orders = driver.create_input_topic("orders", StringSerde, LongSerde);
    /// let sums = driver.create_output_topic("sums", StringSerde, LongSerde);
    /// let at = |value, time| millrace::TestRecord::new(Some("tea".to_owned()), Some(value), time);
    /// prices.pipe_records(vec![at(3, 1_000), at(5, 2_000)]);
    /// orders.pipe_records(vec![at(10, 1_500), at(10, 2_500)]);
    /// assert_eq!(sums.read_key_value().unwrap().1, Some(30));
    /// assert_eq!(sums.read_key_value().unwrap().1, Some(50));
    /// ```
    #[must_use]
    pub fn versioned(name: impl Into<String>, history: Duration) -> Self {
        let history_ms = Some(i64::try_from(history.as_millis()).unwrap_or(i64::MAX));
        Self { history_ms, cached: false, ..Self::as_(name) }
    }

    pub(crate) fn is_versioned(&self) -> bool {
        self.history_ms.is_some()
    }

    /// Updates go on at once, every one of them.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// # use millrace::TestDriverConfig;
    /// let counted = |builder: &mut StreamsBuilder, topic: &str, options: Materialized<String, i64>| {
    ///     let clicks = builder.stream("clicks", Consumed::with(StringSerde, StringSerde));
    ///     clicks.group_by_key(Grouped::default()).count(options).to_stream().to(topic, Produced::default());
    /// };
    /// counted(&mut builder, "last", Materialized::as_("a"));
    /// counted(&mut builder, "all", Materialized::as_("b").with_caching_disabled());
    /// // Two records to a commit.
    /// let config = TestDriverConfig { batch_records: 2, ..TestDriverConfig::default() };
    /// let driver = TopologyTestDriver::with(builder.build().unwrap(), config).unwrap();
    /// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
    /// # let last = driver.create_output_topic("last", StringSerde, LongSerde);
    /// # let all = driver.create_output_topic("all", StringSerde, LongSerde);
    /// clicks.pipe_key_values([("ann", "home"), ("ann", "help")]);
    /// assert_eq!(last.read_lines(), ["ann:2"]);
    /// assert_eq!(all.read_lines(), ["ann:1", "ann:2"]);
    /// ```
    #[must_use]
    pub fn with_caching_disabled(mut self) -> Self {
        (self.cached, self.given) = (false, true);
        self
    }

    /// The last update of a key goes on at each commit.
    #[must_use]
    pub fn with_caching_enabled(mut self) -> Self {
        (self.cached, self.given) = (true, true);
        self
    }
}
