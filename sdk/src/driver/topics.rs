//! Owns a test's ends of the topics: typed records in and out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::log::RawRecord;
use super::{Driver, TestDriverError};
use crate::rows::{Data, Headers};
use crate::serdes::SharedSerde;

/// A record as a test writes and reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct TestRecord<K, V> {
    /// None: null.
    pub key: Option<K>,
    /// None: null.
    pub value: Option<V>,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// In their order.
    pub headers: Headers,
}

impl<K, V> TestRecord<K, V> {
    /// A record without headers.
    pub fn new(key: impl Into<Option<K>>, value: impl Into<Option<V>>, timestamp: i64) -> Self {
        Self { key: key.into(), value: value.into(), timestamp, headers: Headers::new() }
    }
}

/// A topic that a test writes. Records without a timestamp of their own get that of the topic's
/// clock, which stands still unless it is moved.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # use std::time::Duration;
/// # let mut builder = StreamsBuilder::new();
/// builder.stream("lines", Consumed::with(StringSerde, StringSerde)).to("copy", Produced::default());
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let copy = driver.create_output_topic("copy", StringSerde, StringSerde);
/// let lines = driver.create_input_topic("lines", StringSerde, StringSerde).with_time(1_000, Duration::from_secs(1));
/// lines.pipe_key_values([("a", "x"), ("b", "y")]);
/// lines.pipe_input_at("c", "z", 500);
/// let times: Vec<i64> = copy.read_records_to_list().iter().map(|record| record.timestamp).collect();
/// assert_eq!(times, [1_000, 2_000, 500]);
/// ```
pub struct TestInputTopic<K, V> {
    driver: Rc<RefCell<Driver>>,
    topic: String,
    keys: SharedSerde<K>,
    values: SharedSerde<V>,
    time_ms: Cell<i64>,
    auto_advance_ms: Cell<i64>,
}

impl<K, V> fmt::Debug for TestInputTopic<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestInputTopic").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> TestInputTopic<K, V> {
    pub(super) fn new(
        driver: Rc<RefCell<Driver>>,
        topic: String,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> Self {
        let time_ms = Cell::new(driver.borrow().now_ms);
        Self { driver, topic, keys, values, time_ms, auto_advance_ms: Cell::new(0) }
    }

    /// The same with a clock that starts at that time and moves on after each record.
    #[must_use]
    pub fn with_time(self, start_ms: i64, auto_advance: Duration) -> Self {
        self.time_ms.set(start_ms);
        self.auto_advance_ms.set(i64::try_from(auto_advance.as_millis()).unwrap_or(i64::MAX));
        self
    }

    /// Moves the topic's clock on.
    pub fn advance_time(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.time_ms.set(self.time_ms.get().saturating_add(by));
    }

    fn next_time(&self) -> i64 {
        let time = self.time_ms.get();
        self.time_ms.set(time.saturating_add(self.auto_advance_ms.get()));
        time
    }

    /// Writes a key and a value.
    ///
    /// # Panics
    /// If the topology fails on it; see [`Self::try_pipe_record`].
    pub fn pipe_input(&self, key: impl Into<K>, value: impl Into<V>) {
        self.pipe_record(TestRecord::new(Some(key.into()), Some(value.into()), self.next_time()));
    }

    /// Writes a key and a value at that time, in milliseconds since the Unix epoch. The topic's clock stays where it is.
    ///
    /// # Panics
    /// If the topology fails on it.
    pub fn pipe_input_at(&self, key: impl Into<K>, value: impl Into<V>, timestamp: i64) {
        self.pipe_record(TestRecord::new(Some(key.into()), Some(value.into()), timestamp));
    }

    /// Writes keys and values in order.
    ///
    /// # Panics
    /// If the topology fails on one.
    pub fn pipe_key_values<A: Into<K>, B: Into<V>>(&self, records: impl IntoIterator<Item = (A, B)>) {
        let record = |(key, value): (A, B)| TestRecord::new(Some(key.into()), Some(value.into()), self.next_time());
        self.pipe_records(records.into_iter().map(record).collect());
    }

    /// Writes a key and a value, either of which can be null.
    ///
    /// # Panics
    /// If the topology fails on it.
    pub fn pipe_nullable(&self, key: Option<K>, value: Option<V>) {
        self.pipe_record(TestRecord::new(key, value, self.next_time()));
    }

    /// Writes a record.
    ///
    /// # Panics
    /// If the topology fails on it.
    pub fn pipe_record(&self, record: TestRecord<K, V>) {
        self.try_pipe_record(record).unwrap_or_else(|error| panic!("pipe into {}: {error}", self.topic));
    }

    /// Writes a record; that the topology fails on it is an error.
    pub fn try_pipe_record(&self, record: TestRecord<K, V>) -> Result<(), TestDriverError> {
        self.try_pipe_records(vec![record])
    }

    /// Writes records in order.
    pub fn try_pipe_records(&self, records: Vec<TestRecord<K, V>>) -> Result<(), TestDriverError> {
        let records: Result<Vec<RawRecord>, TestDriverError> = records.into_iter().map(|it| self.raw(it)).collect();
        self.driver.borrow_mut().pipe(&self.topic, records?)
    }

    /// Writes records in order.
    ///
    /// # Panics
    /// If the topology fails on one.
    pub fn pipe_records(&self, records: Vec<TestRecord<K, V>>) {
        self.try_pipe_records(records).unwrap_or_else(|error| panic!("pipe into {}: {error}", self.topic));
    }

    fn raw(&self, record: TestRecord<K, V>) -> Result<RawRecord, TestDriverError> {
        fn write<T: 'static>(serde: &SharedSerde<T>, value: Option<T>) -> Result<Option<Vec<u8>>, TestDriverError> {
            let Some(value) = value else { return Ok(None) };
            let mut bytes = Vec::new();
            serde.serialize(&value, &mut bytes).map_err(TestDriverError::new)?;
            Ok(Some(bytes))
        }
        Ok(RawRecord {
            key: write(&self.keys, record.key)?,
            value: write(&self.values, record.value)?,
            timestamp: record.timestamp,
            headers: record.headers,
        })
    }
}

/// A topic that a test reads.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// builder.stream("lines", Consumed::with(StringSerde, LongSerde)).to("copy", Produced::default());
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let lines = driver.create_input_topic("lines", StringSerde, LongSerde);
/// # let copy = driver.create_output_topic("copy", StringSerde, LongSerde);
/// lines.pipe_key_values([("a", 1), ("b", 2), ("a", 3), ("b", 4)]);
/// assert_eq!(copy.read_key_value(), Some((Some("a".to_owned()), Some(1))));
/// assert_eq!(copy.read_value(), Some(2));
/// assert_eq!(copy.read_lines(), ["a:3", "b:4"]);
/// assert!(copy.is_empty());
/// ```
pub struct TestOutputTopic<K, V> {
    driver: Rc<RefCell<Driver>>,
    topic: String,
    keys: SharedSerde<K>,
    values: SharedSerde<V>,
}

impl<K, V> fmt::Debug for TestOutputTopic<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestOutputTopic").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> TestOutputTopic<K, V> {
    pub(super) fn new(
        driver: Rc<RefCell<Driver>>,
        topic: String,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> Self {
        Self { driver, topic, keys, values }
    }

    /// The next record; none if all were read.
    ///
    /// # Panics
    /// If the record does not suit the serdes.
    #[must_use]
    pub fn read_record(&self) -> Option<TestRecord<K, V>> {
        let raw = self.driver.borrow_mut().produced.get_mut(&self.topic)?.pop_front()?;
        let unreadable = |error| panic!("read from {}: {error}", self.topic);
        let key = raw.key.map(|bytes| self.keys.deserialize(&bytes).unwrap_or_else(unreadable));
        let unreadable = |error| panic!("read from {}: {error}", self.topic);
        let value = raw.value.map(|bytes| self.values.deserialize(&bytes).unwrap_or_else(unreadable));
        Some(TestRecord { key, value, timestamp: raw.timestamp, headers: raw.headers })
    }

    /// Key and value of the next record; none if all were read.
    #[must_use]
    pub fn read_key_value(&self) -> Option<(Option<K>, Option<V>)> {
        self.read_record().map(|record| (record.key, record.value))
    }

    /// The value of the next record.
    ///
    /// # Panics
    /// If all were read.
    #[must_use]
    pub fn read_value(&self) -> Option<V> {
        self.read_record().unwrap_or_else(|| panic!("read from {}: it has no more records", self.topic)).value
    }

    /// The values of the records that were not read yet.
    #[must_use]
    pub fn read_values_to_list(&self) -> Vec<Option<V>> {
        std::iter::from_fn(|| self.read_record()).map(|record| record.value).collect()
    }

    /// The records that were not read yet as text, `key:value`, which is short to compare. What is null is `null`.
    #[must_use]
    pub fn read_lines(&self) -> Vec<String>
    where
        K: fmt::Display,
        V: fmt::Display,
    {
        fn show(shown: Option<&impl fmt::Display>) -> String {
            shown.map_or_else(|| "null".to_owned(), ToString::to_string)
        }
        let line = |(key, value): (Option<K>, Option<V>)| format!("{}:{}", show(key.as_ref()), show(value.as_ref()));
        self.read_key_values_to_list().into_iter().map(line).collect()
    }

    /// The records that were not read yet.
    #[must_use]
    pub fn read_records_to_list(&self) -> Vec<TestRecord<K, V>> {
        std::iter::from_fn(|| self.read_record()).collect()
    }

    /// Keys and values of the records that were not read yet.
    #[must_use]
    pub fn read_key_values_to_list(&self) -> Vec<(Option<K>, Option<V>)> {
        std::iter::from_fn(|| self.read_key_value()).collect()
    }

    /// The last value of each key among the records that were not read yet.
    #[must_use]
    pub fn read_key_values_to_map(&self) -> BTreeMap<K, Option<V>>
    where
        K: Ord,
    {
        let pairs = self.read_key_values_to_list().into_iter();
        pairs.filter_map(|(key, value)| Some((key?, value))).collect()
    }

    /// Whether all records were read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue_size() == 0
    }

    /// How many records were not read yet.
    #[must_use]
    pub fn queue_size(&self) -> usize {
        self.driver.borrow().produced.get(&self.topic).map_or(0, std::collections::VecDeque::len)
    }
}
