//! Owns processors that leave keys as they are: their records, and what they may do. Must not know how the graph calls
//! them.

use std::fmt;
use std::time::Duration;

use crate::processor::{ProcessResult, Processor, ProcessorContext, PunctuationType, Record, RecordMetadata, Schedule};
use crate::rows::{Data, Headers};
use crate::stores::{KeyValueStore, SessionStore, VersionedKeyValueStore, WindowStore};

/// A record on its way through a [`FixedKeyProcessor`]: its key can be read, and stays.
#[derive(Debug, Clone, PartialEq)]
pub struct FixedKeyRecord<K, V> {
    key: Option<K>,
    /// Null: none.
    pub value: Option<V>,
    /// Milliseconds since the Unix epoch; not negative.
    pub timestamp: i64,
    /// They go on with the record to the topics it is written to.
    pub headers: Headers,
}

impl<K, V> FixedKeyRecord<K, V> {
    /// The key; null: none.
    #[must_use]
    pub fn key(&self) -> Option<&K> {
        self.key.as_ref()
    }

    /// The same with another value.
    #[must_use]
    pub fn with_value<V2>(self, value: Option<V2>) -> FixedKeyRecord<K, V2> {
        FixedKeyRecord { key: self.key, value, timestamp: self.timestamp, headers: self.headers }
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

    fn into_record(self) -> Record<K, V> {
        Record { key: self.key, value: self.value, timestamp: self.timestamp, headers: self.headers }
    }
}

/// A node written by hand that leaves keys as they are, see [`crate::KStream::process_values`]. In all else it is a
/// [`Processor`]: what must last belongs into a store, and schedules are made in `init`.
///
/// What it forwards is made of a record it was given, whose key it has. So a punctuation forwards only what the instance
/// has kept; one that tells what is in a store is a [`Processor`]'s.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// /// Numbers the records of each key.
/// struct Number;
///
/// impl FixedKeyProcessor<String, String, String> for Number {
///     fn process(
///         &mut self,
///         context: &mut FixedKeyProcessorContext<'_, '_, String, String>,
///         record: FixedKeyRecord<String, String>,
///     ) -> ProcessResult {
///         let (Some(key), Some(text)) = (record.key(), &record.value) else { return Ok(()) };
///         let mut seen = context.key_value_store::<String, i64>("seen")?;
///         let number = seen.get(key)?.unwrap_or(0) + 1;
///         seen.put(key, number)?;
///         let numbered = format!("{number} {text}");
///         context.forward(record.with_value(Some(numbered)));
///         Ok(())
///     }
/// }
///
/// # let mut builder = StreamsBuilder::new();
/// builder.add_state_store(Stores::key_value_store("seen", StringSerde, LongSerde));
/// builder
///     .stream("notes", Consumed::with(StringSerde, StringSerde))
///     .process_values(|| Number, &["seen"])
///     .to("numbered", Produced::default());
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let notes = driver.create_input_topic("notes", StringSerde, StringSerde);
/// # let numbered = driver.create_output_topic("numbered", StringSerde, StringSerde);
/// notes.pipe_key_values([("ann", "tea"), ("bob", "salt"), ("ann", "rice")]);
/// assert_eq!(numbered.read_lines(), ["ann:1 tea", "bob:1 salt", "ann:2 rice"]);
/// ```
pub trait FixedKeyProcessor<K, VIn, VOut>: Send + 'static {
    /// Called once, before anything else.
    fn init(&mut self, context: &mut FixedKeyProcessorContext<'_, '_, K, VOut>) -> ProcessResult {
        let _ = context;
        Ok(())
    }

    /// Called for each record.
    fn process(
        &mut self,
        context: &mut FixedKeyProcessorContext<'_, '_, K, VOut>,
        record: FixedKeyRecord<K, VIn>,
    ) -> ProcessResult;

    /// Called when a schedule is due, with the time that it was due for.
    fn punctuate(
        &mut self,
        context: &mut FixedKeyProcessorContext<'_, '_, K, VOut>,
        schedule: Schedule,
        timestamp: i64,
    ) -> ProcessResult {
        let _ = (context, schedule, timestamp);
        Ok(())
    }
}

/// What a [`FixedKeyProcessor`] may do while it is called: what a processor may, but forward other keys.
pub struct FixedKeyProcessorContext<'c, 'a, K, VOut>(&'c mut ProcessorContext<'a, K, VOut>);

impl<K, V> fmt::Debug for FixedKeyProcessorContext<'_, '_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedKeyProcessorContext").field("task_id", &self.0.task_id()).finish_non_exhaustive()
    }
}

impl<K, VOut> FixedKeyProcessorContext<'_, '_, K, VOut> {
    /// Sends a record to all children, see [`ProcessorContext::forward`].
    pub fn forward(&mut self, record: FixedKeyRecord<K, VOut>) {
        self.0.forward(record.into_record());
    }

    /// Sends a record to the child of that name.
    pub fn forward_to(&mut self, child: &str, record: FixedKeyRecord<K, VOut>) {
        self.0.forward_to(child, record.into_record());
    }

    /// See [`ProcessorContext::record_metadata`].
    #[must_use]
    pub fn record_metadata(&self) -> Option<RecordMetadata<'_>> {
        self.0.record_metadata()
    }

    /// See [`ProcessorContext::key_value_store`].
    pub fn key_value_store<SK: Data, SV: Data>(&mut self, name: &str) -> ProcessResult<KeyValueStore<'_, SK, SV>> {
        self.0.key_value_store(name)
    }

    /// See [`ProcessorContext::window_store`].
    pub fn window_store<SK: Data, SV: Data>(&mut self, name: &str) -> ProcessResult<WindowStore<'_, SK, SV>> {
        self.0.window_store(name)
    }

    /// See [`ProcessorContext::session_store`].
    pub fn session_store<SK: Data, SV: Data>(&mut self, name: &str) -> ProcessResult<SessionStore<'_, SK, SV>> {
        self.0.session_store(name)
    }

    /// See [`ProcessorContext::versioned_store`].
    pub fn versioned_store<SK: Data, SV: Data>(
        &mut self,
        name: &str,
    ) -> ProcessResult<VersionedKeyValueStore<'_, SK, SV>> {
        self.0.versioned_store(name)
    }

    /// See [`ProcessorContext::schedule`].
    pub fn schedule(&mut self, interval: Duration, by: PunctuationType) -> ProcessResult<Schedule> {
        self.0.schedule(interval, by)
    }

    /// See [`ProcessorContext::schedule_anchored`].
    pub fn schedule_anchored(
        &mut self,
        interval: Duration,
        by: PunctuationType,
        anchor_ms: i64,
    ) -> ProcessResult<Schedule> {
        self.0.schedule_anchored(interval, by, anchor_ms)
    }

    /// Ends a schedule.
    pub fn cancel(&mut self, schedule: Schedule) {
        self.0.cancel(schedule);
    }

    /// Asks for a commit as soon as this call is over.
    pub fn commit(&mut self) {
        self.0.commit();
    }

    /// Counts records that the processor leaves out, for metrics and the log.
    pub fn dropped(&mut self, reason: &str, count: u32) {
        self.0.dropped(reason, count);
    }

    /// See [`ProcessorContext::current_stream_time_ms`].
    #[must_use]
    pub fn current_stream_time_ms(&self) -> Option<i64> {
        self.0.current_stream_time_ms()
    }

    /// See [`ProcessorContext::current_system_time_ms`].
    #[must_use]
    pub fn current_system_time_ms(&mut self) -> i64 {
        self.0.current_system_time_ms()
    }

    /// See [`ProcessorContext::application_id`].
    #[must_use]
    pub fn application_id(&self) -> &str {
        self.0.application_id()
    }

    /// See [`ProcessorContext::task_id`].
    #[must_use]
    pub fn task_id(&self) -> String {
        self.0.task_id()
    }
}

/// One as the graph calls it.
pub(crate) struct FixedKey<P>(pub(crate) P);

impl<K: Data, VIn: Data, VOut: Data, P: FixedKeyProcessor<K, VIn, VOut>> Processor<K, VIn, K, VOut> for FixedKey<P> {
    fn init(&mut self, context: &mut ProcessorContext<'_, K, VOut>) -> ProcessResult {
        self.0.init(&mut FixedKeyProcessorContext(context))
    }

    fn process(&mut self, context: &mut ProcessorContext<'_, K, VOut>, record: Record<K, VIn>) -> ProcessResult {
        let Record { key, value, timestamp, headers } = record;
        self.0.process(&mut FixedKeyProcessorContext(context), FixedKeyRecord { key, value, timestamp, headers })
    }

    fn punctuate(
        &mut self,
        context: &mut ProcessorContext<'_, K, VOut>,
        schedule: Schedule,
        timestamp: i64,
    ) -> ProcessResult {
        self.0.punctuate(&mut FixedKeyProcessorContext(context), schedule, timestamp)
    }
}
