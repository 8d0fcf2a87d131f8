//! Owns session stores in the hands of a processor. Must not know where the host keeps the entries.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use super::opened::{ByteRange, Opened, StoreIterator};
use super::timed::Times;
use crate::contract::Layout;
use crate::processor::{ProcessError, ProcessResult, Services};
use crate::rows::Data;
use crate::windows::{Window, Windowed};

/// What is behind a key as it is stored: its session's end and start.
const SUFFIX: usize = 16;

/// A session store in the hands of a processor: aggregates of keys in sessions. What is written is visible at once, and
/// durable with the next commit. What is older than the store's retention is not there.
///
/// Iterators go by the bytes of keys, and those of one key by their sessions' ends.
///
/// ```
/// use millrace::prelude::*;
/// use std::time::Duration;
///
/// /// Tells when a visit has begun that a record belongs to; one ends after five minutes.
/// struct Visits;
///
/// impl Processor<String, String, String, i64> for Visits {
///     fn process(
///         &mut self,
///         context: &mut ProcessorContext<'_, String, i64>,
///         record: Record<String, String>,
///     ) -> ProcessResult {
///         let Some(key) = record.key.clone() else { return Ok(()) };
///         let time = record.timestamp;
///         let mut visits = context.session_store::<String, i64>("visits")?;
///         let near = visits.find_sessions(&key, time - 300_000, time + 300_000);
///         let near: Vec<(Windowed<String>, i64)> = near.collect::<Result<_, _>>()?;
///         let (mut window, mut pages) = (Window { start: time, end: time }, 1);
///         for (visit, count) in near {
///             visits.remove(&visit)?;
///             let Window { start, end } = visit.window;
///             window = Window { start: window.start.min(start), end: window.end.max(end) };
///             pages += count;
///         }
///         visits.put(&Windowed { key, window }, pages)?;
///         context.forward(record.with_value(Some(window.start)));
///         Ok(())
///     }
/// }
///
/// let mut builder = StreamsBuilder::new();
/// let day = Duration::from_secs(86_400);
/// builder.add_state_store(Stores::session_store("visits", day, StringSerde, LongSerde));
/// builder
///     .stream("pages", Consumed::with(StringSerde, StringSerde))
///     .process(|| Visits, &["visits"])
///     .to("visits", Produced::with(StringSerde, LongSerde));
///
/// let driver = millrace::TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// let pages = driver.create_input_topic("pages", StringSerde, StringSerde);
/// let page = |time| millrace::TestRecord::new(Some("ada".to_owned()), Some("home".to_owned()), time);
/// pages.pipe_records(vec![page(0), page(600_000), page(300_000)]);
/// let visits = driver.get_session_store::<String, i64>("visits").unwrap();
/// assert_eq!(visits.fetch_session(&"ada".to_owned(), 0, 600_000), Some(3));
/// ```
pub struct SessionStore<'a, K, V>(Opened<'a, Windowed<K>, V>);

impl<K, V> fmt::Debug for SessionStore<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<'a, K: Data, V: Data> SessionStore<'a, K, V> {
    pub(crate) fn open(services: &'a mut (dyn Services + 'a), name: &str) -> ProcessResult<Self> {
        let store = Opened::open(services, name)?;
        match &store.layout {
            Layout::Session(_) => Ok(Self(store)),
            _ => Err(ProcessError::new(format!("store {name} is no session store"))),
        }
    }

    /// Sets the aggregate of a session.
    pub fn put(&mut self, session: &Windowed<K>, aggregate: V) -> ProcessResult {
        let (stored, timestamp) = (self.0.key(session)?, self.0.now());
        self.0.put(&stored, Some(&aggregate), timestamp)
    }

    /// Deletes a session.
    pub fn remove(&mut self, session: &Windowed<K>) -> ProcessResult {
        let (stored, timestamp) = (self.0.key(session)?, self.0.now());
        self.0.put(&stored, None, timestamp)
    }

    /// The aggregate of the session of a key with this start and this end.
    pub fn fetch_session(&mut self, key: &K, start: i64, end: i64) -> ProcessResult<Option<V>> {
        let stored = self.0.key(&Windowed { key: key.clone(), window: Window { start, end } })?;
        Ok(self.0.get(&stored)?.map(|(aggregate, _)| aggregate))
    }

    /// The sessions of a key that end at `earliest_end` or later and start at `latest_start` or earlier.
    pub fn find_sessions(
        &mut self,
        key: &K,
        earliest_end: i64,
        latest_start: i64,
    ) -> StoreIterator<'_, Windowed<K>, V> {
        let range = self.range(&(key.clone()..=key.clone()), earliest_end, latest_start);
        self.0.iterate_times(range, false)
    }

    /// The same in reverse.
    pub fn backward_find_sessions(
        &mut self,
        key: &K,
        earliest_end: i64,
        latest_start: i64,
    ) -> StoreIterator<'_, Windowed<K>, V> {
        let range = self.range(&(key.clone()..=key.clone()), earliest_end, latest_start);
        self.0.iterate_times(range, true)
    }

    /// The same of a range of keys.
    pub fn find_sessions_of_keys(
        &mut self,
        keys: impl RangeBounds<K>,
        earliest_end: i64,
        latest_start: i64,
    ) -> StoreIterator<'_, Windowed<K>, V> {
        let range = self.range(&keys, earliest_end, latest_start);
        self.0.iterate_times(range, false)
    }

    /// The same of a range of keys, in reverse.
    pub fn backward_find_sessions_of_keys(
        &mut self,
        keys: impl RangeBounds<K>,
        earliest_end: i64,
        latest_start: i64,
    ) -> StoreIterator<'_, Windowed<K>, V> {
        let range = self.range(&keys, earliest_end, latest_start);
        self.0.iterate_times(range, true)
    }

    /// All sessions of a key.
    pub fn fetch(&mut self, key: &K) -> StoreIterator<'_, Windowed<K>, V> {
        self.find_sessions(key, 0, i64::MAX)
    }

    /// The same in reverse.
    pub fn backward_fetch(&mut self, key: &K) -> StoreIterator<'_, Windowed<K>, V> {
        self.backward_find_sessions(key, 0, i64::MAX)
    }

    /// All sessions of a range of keys.
    pub fn fetch_keys(&mut self, keys: impl RangeBounds<K>) -> StoreIterator<'_, Windowed<K>, V> {
        self.find_sessions_of_keys(keys, 0, i64::MAX)
    }

    /// The same in reverse.
    pub fn backward_fetch_keys(&mut self, keys: impl RangeBounds<K>) -> StoreIterator<'_, Windowed<K>, V> {
        self.backward_find_sessions_of_keys(keys, 0, i64::MAX)
    }

    fn range(
        &self,
        keys: &impl RangeBounds<K>,
        earliest_end: i64,
        latest_start: i64,
    ) -> ProcessResult<(ByteRange, Option<Times>)> {
        let bytes = |bound: Bound<&K>| {
            Ok::<_, ProcessError>(match bound {
                Bound::Unbounded => Bound::Unbounded,
                Bound::Included(key) => Bound::Included(self.bytes(key)?),
                Bound::Excluded(key) => Bound::Excluded(self.bytes(key)?),
            })
        };
        let keys = (bytes(keys.start_bound())?, bytes(keys.end_bound())?);
        let first = (earliest_end.max(0), i64::MAX);
        let times = Times { keys, first, second: latest_start, suffix: SUFFIX };
        Ok((times.range(), Some(times)))
    }

    /// A key without its session.
    fn bytes(&self, key: &K) -> ProcessResult<Vec<u8>> {
        let mut bytes = self.0.key(&Windowed { key: key.clone(), window: Window { start: 0, end: 0 } })?;
        bytes.truncate(bytes.len() - SUFFIX);
        Ok(bytes)
    }
}
