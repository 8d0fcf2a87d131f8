//! Owns key-value stores in the hands of a processor. Must not know where the host keeps the entries.

use std::fmt;
use std::ops::RangeBounds;

use super::opened::{ByteRange, Opened, StoreIterator};
use crate::processor::{ProcessError, ProcessResult, Services};
use crate::rows::Data;
use crate::serdes::Serde;

/// A key-value store in the hands of a processor. What is written is visible at once, and durable
/// with the next commit. It has no null keys and values; iterators go by the bytes of keys.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// /// Tells the next free place after the one asked for.
/// struct Places;
///
/// impl Processor<String, String, String, String> for Places {
///     fn process(
///         &mut self,
///         context: &mut ProcessorContext<'_, String, String>,
///         record: Record<String, String>,
///     ) -> ProcessResult {
///         let (Some(place), Some(state)) = (record.key.clone(), record.value.clone()) else { return Ok(()) };
///         let mut places = context.key_value_store::<String, String>("places")?;
///         match state.as_str() {
///             "?" => {
///                 let free = places.range(place..).next().transpose()?.map(|(free, _)| free);
///                 context.forward(record.with_value(free));
///                 Ok(())
///             }
///             "taken" => places.delete(&place).map(|_| ()),
///             _ => places.put(&place, state),
///         }
///     }
/// }
///
/// builder.add_state_store(Stores::key_value_store("places", StringSerde, StringSerde));
/// builder
///     .stream("places", Consumed::with(StringSerde, StringSerde))
///     .process(|| Places, &["places"])
///     .to("answers", Produced::with(StringSerde, StringSerde));
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let places = driver.create_input_topic("places", StringSerde, StringSerde);
/// # let answers = driver.create_output_topic("answers", StringSerde, StringSerde);
/// places.pipe_key_values([("a1", "free"), ("b2", "free"), ("a1", "taken"), ("a1", "?")]);
/// assert_eq!(answers.read_lines(), ["a1:b2"]);
/// ```
pub struct KeyValueStore<'a, K, V>(Opened<'a, K, V>);

impl<K, V> fmt::Debug for KeyValueStore<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValueStore").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<'a, K: Data, V: Data> KeyValueStore<'a, K, V> {
    pub(crate) fn open(services: &'a mut (dyn Services + 'a), name: &str) -> ProcessResult<Self> {
        Opened::open(services, name).map(Self)
    }

    /// The value of a key.
    pub fn get(&mut self, key: &K) -> ProcessResult<Option<V>> {
        Ok(self.get_with_timestamp(key)?.map(|(value, _)| value))
    }

    /// The value of a key, and when it was written: the timestamp of the record it stems from.
    pub fn get_with_timestamp(&mut self, key: &K) -> ProcessResult<Option<(V, i64)>> {
        let key = self.0.key(key)?;
        self.0.get(&key)
    }

    /// Sets the value of a key, at the time of the record or the punctuation at hand.
    pub fn put(&mut self, key: &K, value: V) -> ProcessResult {
        let timestamp = self.0.now();
        self.put_with_timestamp(key, value, timestamp)
    }

    /// Sets the value of a key at that time.
    pub fn put_with_timestamp(&mut self, key: &K, value: V, timestamp: i64) -> ProcessResult {
        let key = self.0.key(key)?;
        self.0.put(&key, Some(&value), timestamp)
    }

    /// Sets the value of a key unless it has one, and says which it had.
    pub fn put_if_absent(&mut self, key: &K, value: V) -> ProcessResult<Option<V>> {
        let found = self.get(key)?;
        if found.is_none() {
            self.put(key, value)?;
        }
        Ok(found)
    }

    /// Sets the values of keys, at the time of the record or the punctuation at hand.
    pub fn put_all(&mut self, entries: impl IntoIterator<Item = (K, V)>) -> ProcessResult {
        entries.into_iter().try_for_each(|(key, value)| self.put(&key, value))
    }

    /// Deletes a key, and says which value it had.
    pub fn delete(&mut self, key: &K) -> ProcessResult<Option<V>> {
        let found = self.get(key)?;
        let (key, timestamp) = (self.0.key(key)?, self.0.now());
        self.0.put(&key, None, timestamp)?;
        Ok(found)
    }

    /// All entries, in the order of the keys' bytes.
    pub fn all(&mut self) -> StoreIterator<'_, K, V> {
        self.0.iterate(Ok((None, None)), false)
    }

    /// All entries, in the reverse order of the keys' bytes.
    pub fn reverse_all(&mut self) -> StoreIterator<'_, K, V> {
        self.0.iterate(Ok((None, None)), true)
    }

    /// The entries of a range of keys, in the order of their bytes: that of strings, and of numbers that
    /// are not negative.
    pub fn range(&mut self, keys: impl RangeBounds<K>) -> StoreIterator<'_, K, V> {
        let range = self.bounds(&keys);
        self.0.iterate(range, false)
    }

    /// The same in reverse.
    pub fn reverse_range(&mut self, keys: impl RangeBounds<K>) -> StoreIterator<'_, K, V> {
        let range = self.bounds(&keys);
        self.0.iterate(range, true)
    }

    /// The entries whose keys' bytes begin with those that `serde` makes of the prefix.
    ///
    /// ```
    /// # use millrace::{TopologyTestDriver, prelude::*};
    /// # let mut builder = StreamsBuilder::new();
    /// /// Counts the keys of a customer, which are `customer/order`.
    /// struct Orders;
    ///
    /// impl Processor<String, String, String, i64> for Orders {
    ///     fn process(
    ///         &mut self,
    ///         context: &mut ProcessorContext<'_, String, i64>,
    ///         record: Record<String, String>,
    ///     ) -> ProcessResult {
    ///         let (Some(key), Some(value)) = (record.key.clone(), record.value.clone()) else { return Ok(()) };
    ///         let mut orders = context.key_value_store::<String, String>("orders")?;
    ///         orders.put(&key, value)?;
    ///         let customer = key.split_inclusive('/').next().unwrap_or_default().to_owned();
    ///         let count = orders.prefix_scan(&customer, &StringSerde).count();
    ///         context.forward(record.with_value(i64::try_from(count).ok()));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// builder.add_state_store(Stores::key_value_store("orders", StringSerde, StringSerde));
    /// builder
    ///     .stream("orders", Consumed::with(StringSerde, StringSerde))
    ///     .process(|| Orders, &["orders"])
    ///     .to("counts", Produced::with(StringSerde, LongSerde));
    /// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    /// # let orders = driver.create_input_topic("orders", StringSerde, StringSerde);
    /// # let counts = driver.create_output_topic("counts", StringSerde, LongSerde);
    /// orders.pipe_key_values([("ann/1", "tea"), ("anna/1", "salt"), ("ann/2", "rice")]);
    /// assert_eq!(counts.read_lines(), ["ann/1:1", "anna/1:1", "ann/2:2"]);
    /// ```
    pub fn prefix_scan<P>(&mut self, prefix: &P, serde: &impl Serde<Value = P>) -> StoreIterator<'_, K, V> {
        let mut from = Vec::new();
        let range = serde.serialize(prefix, &mut from).map_err(ProcessError::new).map(|()| {
            // The least byte string above all that begin so: the last byte that can be raised is.
            let last = from.iter().rposition(|byte| *byte < u8::MAX);
            let to = last.map(|last| [&from[..last], &[from[last] + 1]].concat());
            (Some(from), to)
        });
        self.0.iterate(range, false)
    }

    fn bounds(&self, keys: &impl RangeBounds<K>) -> ProcessResult<ByteRange> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        // The least byte string above another is that with a zero behind it.
        let above = |mut bytes: Vec<u8>| {
            bytes.push(0);
            bytes
        };
        let from = match keys.start_bound() {
            Unbounded => None,
            Included(key) => Some(self.0.key(key)?),
            Excluded(key) => Some(above(self.0.key(key)?)),
        };
        let to = match keys.end_bound() {
            Unbounded => None,
            Included(key) => Some(above(self.0.key(key)?)),
            Excluded(key) => Some(self.0.key(key)?),
        };
        Ok((from, to))
    }
}
