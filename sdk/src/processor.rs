//! Owns the Processor API: processors written by hand, what they are told and what they may do. Must
//! not know how the graph calls them.

use std::fmt;
use std::time::Duration;

use crate::contract::{Clock, Failure, Task};
use crate::host::Host;
use crate::rows::{Data, Headers};
use crate::stores::{KeyValueStore, SessionStore, VersionedKeyValueStore, WindowStore};
use crate::topology::StoreDefinition;

/// A record on its way through processors.
///
/// ```
/// use millrace::{Headers, Record};
///
/// let record = Record::new(Some("ann"), Some(1), 0).with_value(Some("one")).with_timestamp(1_000);
/// let record = record.with_headers(Headers::from_iter([("trace", "7")]));
/// assert_eq!((record.key, record.value, record.timestamp), (Some("ann"), Some("one"), 1_000));
/// assert_eq!(record.headers.last("trace"), Some(&b"7"[..]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Record<K, V> {
    /// Null: none.
    pub key: Option<K>,
    /// Null: none.
    pub value: Option<V>,
    /// Milliseconds since the Unix epoch; not negative.
    pub timestamp: i64,
    /// They go on with the record to the topics it is written to.
    pub headers: Headers,
}

impl<K, V> Record<K, V> {
    /// A record without headers.
    #[must_use]
    pub fn new(key: Option<K>, value: Option<V>, timestamp: i64) -> Self {
        Self { key, value, timestamp, headers: Headers::new() }
    }

    /// The same with another key.
    #[must_use]
    pub fn with_key<K2>(self, key: Option<K2>) -> Record<K2, V> {
        Record { key, value: self.value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same with another value.
    #[must_use]
    pub fn with_value<V2>(self, value: Option<V2>) -> Record<K, V2> {
        Record { key: self.key, value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same at another time.
    #[must_use]
    pub fn with_timestamp(self, timestamp: i64) -> Self {
        Self { timestamp, ..self }
    }

    /// The same with these headers.
    #[must_use]
    pub fn with_headers(self, headers: Headers) -> Self {
        Self { headers, ..self }
    }
}

/// Where a record was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata<'a> {
    /// Its topic, as named in Kafka.
    pub topic: &'a str,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: i64,
}

/// Why a processor could not go on. Any error turns into one with `?`; the host deals with the
/// record as its configuration says: it stops, skips it or sends it to the dead letters.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// struct Parse;
///
/// impl Processor<String, String, String, i64> for Parse {
///     fn process(
///         &mut self,
///         context: &mut ProcessorContext<'_, String, i64>,
///         record: Record<String, String>,
///     ) -> ProcessResult {
///         let text = record.value.as_deref().ok_or_else(|| ProcessError::new("there is no number"))?;
///         let number = text.parse()?;
///         context.forward(record.with_value(Some(number)));
///         Ok(())
///     }
/// }
///
/// builder.stream("texts", Consumed::with(StringSerde, StringSerde)).process(|| Parse, &[]).foreach(|_, _| {});
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let texts = driver.create_input_topic("texts", StringSerde, StringSerde);
/// # use millrace::TestRecord;
/// let failed = texts.try_pipe_record(TestRecord::new("a".to_owned(), "seven".to_owned(), 0));
/// assert!(failed.unwrap_err().to_string().contains("invalid digit"));
/// ```
pub struct ProcessError {
    pub(crate) cause: Cause,
}

pub(crate) enum Cause {
    Message(String),
    /// Something failed that knows its own place.
    Failure(Failure),
}

impl ProcessError {
    /// An error with a message for the log and the dead-letter topic.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { cause: Cause::Message(message.to_string()) }
    }
}

impl From<Failure> for ProcessError {
    fn from(failure: Failure) -> Self {
        Self { cause: Cause::Failure(failure) }
    }
}

impl<E: std::error::Error> From<E> for ProcessError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Debug for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Message(message) => f.write_str(message),
            Cause::Failure(failure) => f.write_str(&failure.message),
        }
    }
}

/// What a processor answers.
pub type ProcessResult<T = ()> = Result<T, ProcessError>;

/// Which time a punctuation goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PunctuationType {
    /// The highest timestamp of the task's records so far: it stands still when none come.
    StreamTime,
    /// The host's clock.
    WallClockTime,
}

/// A schedule of punctuations, to be compared and cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Schedule(pub(crate) u32);

/// A node written by hand: it takes records of `KIn` and `VIn` and forwards any number of `KOut` and
/// `VOut`.
///
/// The host may drop an instance between any two calls, so what must last belongs into a store, and
/// schedules are made in `init`, which every new instance is given first.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # use std::time::Duration;
/// # let mut builder = StreamsBuilder::new();
/// /// Remembers how often each key came, and tells all counts every minute.
/// struct Tell;
///
/// impl Processor<String, String, String, i64> for Tell {
///     fn init(&mut self, context: &mut ProcessorContext<'_, String, i64>) -> ProcessResult {
///         context.schedule(Duration::from_secs(60), PunctuationType::WallClockTime)?;
///         Ok(())
///     }
///
///     fn process(
///         &mut self,
///         context: &mut ProcessorContext<'_, String, i64>,
///         record: Record<String, String>,
///     ) -> ProcessResult {
///         let Some(key) = record.key else { return Ok(()) };
///         let mut seen = context.key_value_store::<String, i64>("seen")?;
///         let count = seen.get(&key)?.unwrap_or(0) + 1;
///         seen.put(&key, count)
///     }
///
///     fn punctuate(
///         &mut self,
///         context: &mut ProcessorContext<'_, String, i64>,
///         _schedule: Schedule,
///         timestamp: i64,
///     ) -> ProcessResult {
///         let counts: Vec<(String, i64)> = context.key_value_store("seen")?.all().collect::<Result<_, _>>()?;
///         for (key, count) in counts {
///             context.forward(Record::new(Some(key), Some(count), timestamp));
///         }
///         Ok(())
///     }
/// }
///
/// builder.add_state_store(Stores::key_value_store("seen", StringSerde, LongSerde));
/// builder
///     .stream("events", Consumed::with(StringSerde, StringSerde))
///     .process(|| Tell, &["seen"])
///     .to("told", Produced::with(StringSerde, LongSerde));
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let events = driver.create_input_topic("events", StringSerde, StringSerde);
/// # let told = driver.create_output_topic("told", StringSerde, LongSerde);
/// events.pipe_key_values([("a", "x"), ("b", "y"), ("a", "z")]);
/// assert!(told.is_empty());
/// driver.advance_wall_clock_time(Duration::from_secs(60));
/// assert_eq!(told.read_lines(), ["a:2", "b:1"]);
/// ```
pub trait Processor<KIn, VIn, KOut, VOut>: Send + 'static {
    /// Called once, before anything else.
    fn init(&mut self, context: &mut ProcessorContext<'_, KOut, VOut>) -> ProcessResult {
        let _ = context;
        Ok(())
    }

    /// Called for each record.
    fn process(&mut self, context: &mut ProcessorContext<'_, KOut, VOut>, record: Record<KIn, VIn>) -> ProcessResult;

    /// Called when a schedule is due, with the time that it was due for.
    fn punctuate(
        &mut self,
        context: &mut ProcessorContext<'_, KOut, VOut>,
        schedule: Schedule,
        timestamp: i64,
    ) -> ProcessResult {
        let _ = (context, schedule, timestamp);
        Ok(())
    }
}

/// What a context asks of the run it belongs to, whatever the types of the processor.
pub(crate) trait Services {
    fn metadata(&self) -> Option<RecordMetadata<'_>>;
    /// The time of the record or the punctuation at hand.
    fn timestamp(&self) -> i64;
    fn stream_time(&self) -> Option<i64>;
    fn task(&self) -> &Task;
    fn schedule(&mut self, interval_ms: i64, clock: Clock, anchor: Option<i64>) -> Result<Schedule, Failure>;
    fn cancel(&mut self, schedule: Schedule);
    /// The host's handle of a store that this node uses, and how it is declared.
    fn open(&mut self, store: &str) -> ProcessResult<(usize, &StoreDefinition)>;
    /// Tells entries of one key and window apart.
    fn next_sequence(&mut self, store: &str) -> u32;
    fn host(&mut self) -> &mut dyn Host;
    fn dropped(&mut self, reason: &str, count: u32);
}

/// The same, and forwarding.
pub(crate) trait Calls<K, V>: Services {
    fn forward(&mut self, record: Record<K, V>);
    fn forward_to(&mut self, child: &str, record: Record<K, V>);
}

/// What a processor may do while it is called: forward records, use its stores, schedule punctuations, ask for times, for a
/// commit, for where the record at hand is from.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// /// Sends what is from one topic to one child, all else to the other.
/// struct Sort;
///
/// impl Processor<String, String, String, String> for Sort {
///     fn process(
///         &mut self,
///         context: &mut ProcessorContext<'_, String, String>,
///         record: Record<String, String>,
///     ) -> ProcessResult {
///         let is_old = context.record_metadata().is_some_and(|place| place.topic == "old");
///         context.forward_to(if is_old { "archive" } else { "inbox" }, record);
///         Ok(())
///     }
/// }
///
/// let sorted = builder
///     .stream_of(["old", "new"], Consumed::with(StringSerde, StringSerde))
///     .process(|| Sort, &[]);
/// sorted.to("archive", Produced::with(StringSerde, StringSerde).with_name("archive"));
/// sorted.to("inbox", Produced::with(StringSerde, StringSerde).with_name("inbox"));
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let old = driver.create_input_topic("old", StringSerde, StringSerde);
/// # let new = driver.create_input_topic("new", StringSerde, StringSerde);
/// # let archive = driver.create_output_topic("archive", StringSerde, StringSerde);
/// # let inbox = driver.create_output_topic("inbox", StringSerde, StringSerde);
/// old.pipe_input("a", "1");
/// new.pipe_input("b", "2");
/// assert_eq!((archive.read_lines(), inbox.read_lines()), (vec!["a:1".to_owned()], vec!["b:2".to_owned()]));
/// ```
pub struct ProcessorContext<'a, KOut, VOut> {
    pub(crate) calls: &'a mut (dyn Calls<KOut, VOut> + 'a),
}

impl<K, V> fmt::Debug for ProcessorContext<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessorContext").field("task_id", &self.task_id()).finish_non_exhaustive()
    }
}

impl<KOut, VOut> ProcessorContext<'_, KOut, VOut> {
    /// Sends a record to all children. If one of them fails, the call fails with it when the
    /// processor is done.
    pub fn forward(&mut self, record: Record<KOut, VOut>) {
        self.calls.forward(record);
    }

    /// Sends a record to the child of that name.
    pub fn forward_to(&mut self, child: &str, record: Record<KOut, VOut>) {
        self.calls.forward_to(child, record);
    }

    /// Where the record at hand was read from; none in a punctuation or when a cache is flushed.
    #[must_use]
    pub fn record_metadata(&self) -> Option<RecordMetadata<'_>> {
        self.calls.metadata()
    }

    /// The key-value store of that name, which the processor was given when it was added. The
    /// types are those of the store's serdes.
    pub fn key_value_store<K: Data, V: Data>(&mut self, name: &str) -> ProcessResult<KeyValueStore<'_, K, V>> {
        KeyValueStore::open(&mut *self.calls, name)
    }

    /// The window store of that name, which the processor was given when it was added. It may be that of a table, too.
    pub fn window_store<K: Data, V: Data>(&mut self, name: &str) -> ProcessResult<WindowStore<'_, K, V>> {
        WindowStore::open(&mut *self.calls, name)
    }

    /// The session store of that name, which the processor was given when it was added. It may be that of a table, too.
    pub fn session_store<K: Data, V: Data>(&mut self, name: &str) -> ProcessResult<SessionStore<'_, K, V>> {
        SessionStore::open(&mut *self.calls, name)
    }

    /// The versioned store of that name, which the processor was given when it was added. It may be that of a table, too.
    pub fn versioned_store<K: Data, V: Data>(&mut self, name: &str) -> ProcessResult<VersionedKeyValueStore<'_, K, V>> {
        VersionedKeyValueStore::open(&mut *self.calls, name)
    }

    /// Has [`Processor::punctuate`] called every `interval` from now on, once if several have passed.
    /// The interval is counted in whole milliseconds, at least one.
    pub fn schedule(&mut self, interval: Duration, by: PunctuationType) -> ProcessResult<Schedule> {
        self.schedule_from(interval, by, None)
    }

    /// The same, aligned to a time in milliseconds since the Unix epoch.
    pub fn schedule_anchored(
        &mut self,
        interval: Duration,
        by: PunctuationType,
        anchor_ms: i64,
    ) -> ProcessResult<Schedule> {
        self.schedule_from(interval, by, Some(anchor_ms))
    }

    fn schedule_from(
        &mut self,
        interval: Duration,
        by: PunctuationType,
        anchor: Option<i64>,
    ) -> ProcessResult<Schedule> {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        if interval_ms < 1 {
            return Err(ProcessError::new("a schedule has an interval of at least a millisecond"));
        }
        let clock = match by {
            PunctuationType::StreamTime => Clock::StreamTime,
            PunctuationType::WallClockTime => Clock::WallClock,
        };
        Ok(self.calls.schedule(interval_ms, clock, anchor)?)
    }

    /// Ends a schedule.
    pub fn cancel(&mut self, schedule: Schedule) {
        self.calls.cancel(schedule);
    }

    /// Asks for a commit as soon as this call is over.
    pub fn commit(&mut self) {
        self.calls.host().request_commit();
    }

    /// Counts records that the processor leaves out, for metrics and the log.
    pub fn dropped(&mut self, reason: &str, count: u32) {
        self.calls.dropped(reason, count);
    }

    /// The highest timestamp of the task's records so far; none before the first record.
    #[must_use]
    pub fn current_stream_time_ms(&self) -> Option<i64> {
        self.calls.stream_time()
    }

    /// What the host's clock says. It stands still during a call.
    #[must_use]
    pub fn current_system_time_ms(&mut self) -> i64 {
        self.calls.host().wall_clock_ms()
    }

    /// The application the task belongs to.
    #[must_use]
    pub fn application_id(&self) -> &str {
        &self.calls.task().application_id
    }

    /// The task: subtopology and partition, as in `0_1`.
    #[must_use]
    pub fn task_id(&self) -> String {
        let task = self.calls.task();
        format!("{}_{}", task.subtopology, task.partition)
    }
}
