//! Owns window stores in the hands of a processor. Must not know where the host keeps the entries.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use super::opened::{ByteRange, Opened, StoreIterator};
use super::timed::{Times, first_and_last};
use crate::contract::Layout;
use crate::processor::{ProcessError, ProcessResult, Services};
use crate::rows::Data;
use crate::windows::{Window, Windowed};

/// What is behind a key as it is stored: its window's start, and a sequence number.
const SUFFIX: usize = 8 + SEQUENCE;
const SEQUENCE: usize = 4;

/// A window store in the hands of a processor: values of keys in windows, named by the times at which those start. What is
/// written is visible at once, and durable with the next commit. What is older than the store's retention is not there.
///
/// Iterators go by the bytes of keys, and those of one key by time.
///
/// ```
/// use millrace::prelude::*;
/// use std::time::Duration;
///
/// /// Tells the sum of what came of a key in the last ten minutes.
/// struct Sum;
///
/// impl Processor<String, i64, String, i64> for Sum {
///     fn process(
///         &mut self,
///         context: &mut ProcessorContext<'_, String, i64>,
///         record: Record<String, i64>,
///     ) -> ProcessResult {
///         let (Some(key), Some(value)) = (&record.key, record.value) else { return Ok(()) };
///         let mut minutes = context.window_store::<String, i64>("minutes")?;
///         let minute = record.timestamp / 60_000 * 60_000;
///         let sum = minutes.fetch(key, minute)?.unwrap_or(0) + value;
///         minutes.put(key, sum, minute)?;
///         let last = minutes.fetch_range(key, minute - 9 * 60_000..=minute);
///         let total = last.map(|entry| Ok(entry?.1)).sum::<ProcessResult<i64>>()?;
///         context.forward(record.with_value(Some(total)));
///         Ok(())
///     }
/// }
///
/// let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
/// let mut builder = StreamsBuilder::new();
/// builder.add_state_store(Stores::window_store("minutes", hour, minute, false, StringSerde, LongSerde));
/// builder
///     .stream("amounts", Consumed::with(StringSerde, LongSerde))
///     .process(|| Sum, &["minutes"])
///     .to("sums", Produced::with(StringSerde, LongSerde));
///
/// let driver = millrace::TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// let amounts = driver.create_input_topic("amounts", StringSerde, LongSerde);
/// let sums = driver.create_output_topic("sums", StringSerde, LongSerde);
/// let amount = |value, minute: i64| millrace::TestRecord::new(Some("ada".to_owned()), Some(value), minute * 60_000);
/// amounts.pipe_records(vec![amount(1, 0), amount(2, 5), amount(3, 10)]);
/// let told: Vec<Option<i64>> = sums.read_key_values_to_list().into_iter().map(|(_, sum)| sum).collect();
/// assert_eq!(told, [Some(1), Some(3), Some(5)]);
/// let minutes = driver.get_window_store::<String, i64>("minutes").unwrap();
/// assert_eq!(minutes.fetch(&"ada".to_owned(), 300_000), Some(2));
/// ```
pub struct WindowStore<'a, K, V> {
    store: Opened<'a, Windowed<K>, V>,
    retains_duplicates: bool,
}

impl<K, V> fmt::Debug for WindowStore<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowStore").field("name", &self.store.name).finish_non_exhaustive()
    }
}

impl<'a, K: Data, V: Data> WindowStore<'a, K, V> {
    pub(crate) fn open(services: &'a mut (dyn Services + 'a), name: &str) -> ProcessResult<Self> {
        let store = Opened::open(services, name)?;
        match &store.layout {
            Layout::Window(windows) => Ok(Self { retains_duplicates: windows.retain_duplicates, store }),
            _ => Err(ProcessError::new(format!("store {name} is no window store"))),
        }
    }

    /// Sets the value of a key in the window that starts at that time, or adds one where duplicates are retained.
    pub fn put(&mut self, key: &K, value: V, start: i64) -> ProcessResult {
        self.write(key, Some(value), start)
    }

    /// Deletes what a key has in the window that starts at that time; where duplicates are retained, nothing.
    pub fn delete(&mut self, key: &K, start: i64) -> ProcessResult {
        self.write(key, None, start)
    }

    #[expect(clippy::needless_pass_by_value, reason = "what is put is given away")]
    fn write(&mut self, key: &K, value: Option<V>, start: i64) -> ProcessResult {
        let mut stored = self.stored(key, start)?;
        if self.retains_duplicates {
            // As Kafka Streams has it, what deletes nothing is in the changelog, too.
            let sequence = self.store.next_sequence().to_be_bytes();
            let at = stored.len() - SEQUENCE;
            stored[at..].copy_from_slice(&sequence);
        }
        let timestamp = self.store.now();
        self.store.put(&stored, value.as_ref(), timestamp)
    }

    /// The value of a key in the window that starts at that time; where duplicates are retained, the last one put.
    pub fn fetch(&mut self, key: &K, start: i64) -> ProcessResult<Option<V>> {
        if self.retains_duplicates {
            return self.backward_fetch(key, start..=start).next().map(|entry| Ok(entry?.1)).transpose();
        }
        let stored = self.stored(key, start)?;
        Ok(self.store.get(&stored)?.map(|(value, _)| value))
    }

    /// The windows of a key that start at these times, and its values in them.
    pub fn fetch_range(
        &mut self,
        key: &K,
        starts: impl RangeBounds<i64>,
    ) -> impl Iterator<Item = ProcessResult<(i64, V)>> {
        self.of_key(key, first_and_last(&starts), false)
    }

    /// The same in reverse.
    pub fn backward_fetch(
        &mut self,
        key: &K,
        starts: impl RangeBounds<i64>,
    ) -> impl Iterator<Item = ProcessResult<(i64, V)>> {
        self.of_key(key, first_and_last(&starts), true)
    }

    /// The windows of a range of keys that start at these times.
    pub fn fetch_keys(
        &mut self,
        keys: impl RangeBounds<K>,
        starts: impl RangeBounds<i64>,
    ) -> StoreIterator<'_, Windowed<K>, V> {
        let range = self.range(&keys, first_and_last(&starts));
        self.store.iterate_times(range, false)
    }

    /// The same in reverse.
    pub fn backward_fetch_keys(
        &mut self,
        keys: impl RangeBounds<K>,
        starts: impl RangeBounds<i64>,
    ) -> StoreIterator<'_, Windowed<K>, V> {
        let range = self.range(&keys, first_and_last(&starts));
        self.store.iterate_times(range, true)
    }

    /// The windows of all keys that start at these times. All entries of the store are looked at.
    pub fn fetch_all(&mut self, starts: impl RangeBounds<i64>) -> StoreIterator<'_, Windowed<K>, V> {
        self.fetch_keys(.., starts)
    }

    /// The same in reverse.
    pub fn backward_fetch_all(&mut self, starts: impl RangeBounds<i64>) -> StoreIterator<'_, Windowed<K>, V> {
        self.backward_fetch_keys(.., starts)
    }

    /// All entries.
    pub fn all(&mut self) -> StoreIterator<'_, Windowed<K>, V> {
        self.fetch_keys(.., ..)
    }

    /// All entries in reverse.
    pub fn backward_all(&mut self) -> StoreIterator<'_, Windowed<K>, V> {
        self.backward_fetch_keys(.., ..)
    }

    fn of_key<'s>(
        &'s mut self,
        key: &K,
        starts: (i64, i64),
        reverse: bool,
    ) -> impl Iterator<Item = ProcessResult<(i64, V)>> + use<'s, 'a, K, V> {
        let range = self.range(&(key.clone()..=key.clone()), starts);
        let entries = self.store.iterate_times(range, reverse);
        entries.map(|entry| entry.map(|(key, value)| (key.window.start, value)))
    }

    fn range(&self, keys: &impl RangeBounds<K>, starts: (i64, i64)) -> ProcessResult<(ByteRange, Option<Times>)> {
        let bytes = |bound: Bound<&K>| {
            Ok::<_, ProcessError>(match bound {
                Bound::Unbounded => Bound::Unbounded,
                Bound::Included(key) => Bound::Included(self.bytes(key)?),
                Bound::Excluded(key) => Bound::Excluded(self.bytes(key)?),
            })
        };
        let keys = (bytes(keys.start_bound())?, bytes(keys.end_bound())?);
        let times = Times { keys, first: starts, second: i64::MAX, suffix: SUFFIX };
        Ok((times.range(), Some(times)))
    }

    /// A key without its window.
    fn bytes(&self, key: &K) -> ProcessResult<Vec<u8>> {
        let mut bytes = self.stored(key, 0)?;
        bytes.truncate(bytes.len() - SUFFIX);
        Ok(bytes)
    }

    fn stored(&self, key: &K, start: i64) -> ProcessResult<Vec<u8>> {
        self.store.key(&Windowed { key: key.clone(), window: Window { start, end: start } })
    }
}
