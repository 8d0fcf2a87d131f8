//! Owns the test driver: a topology run natively, without a broker and without Wasm, by the same
//! core that runs it in production. Must not decide anything the core decides.

mod guest;
mod log;
mod stores;
mod topics;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millrace_engine::commit::{Guarantee, commit};
use millrace_engine::global::{Filler, GlobalStores};
use millrace_engine::memory::{Memory, Shared};
use millrace_engine::ports::Error;
use millrace_engine::quarantine::Policies;
use millrace_engine::record::{Batch, Header, Offset, TaskId};
use millrace_engine::task::{Chunk, InputSpec, Processed, Settings, Start, Task, TaskSpec};
use millrace_engine::topology::{InternalTopic, Partitioning, Plan};

use crate::rows::Data;
use crate::serdes::Serde;
use crate::{Topology, contract};
use guest::NativeGuest;
use log::Collected;

pub use guest::native;
pub use log::RawRecord;
pub use stores::{StoreEntry, TestKeyValueStore, TestSessionStore, TestVersionedStore, TestWindowStore};
pub use topics::{TestInputTopic, TestOutputTopic, TestRecord};

/// How a [`TopologyTestDriver`] is set up.
#[derive(Debug, Clone)]
pub struct TestDriverConfig {
    /// The application id, which names the internal topics.
    pub application_id: String,
    /// Whether cached stores withhold updates until the next commit, which follows each record.
    pub caching: bool,
    /// What the wall clock says at first, in milliseconds since the Unix epoch.
    pub wall_clock_ms: i64,
    /// The topics that a source with a pattern reads.
    pub pattern_topics: Vec<String>,
    /// How many records are processed between two commits. One, as in Kafka's driver; more show a
    /// topology the batches it gets from the host.
    pub batch_records: usize,
}

impl Default for TestDriverConfig {
    fn default() -> Self {
        Self {
            application_id: "test-application".to_owned(),
            caching: true,
            wall_clock_ms: 0,
            pattern_topics: Vec::new(),
            batch_records: 1,
        }
    }
}

/// What the driver could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestDriverError(String);

impl TestDriverError {
    pub(crate) fn new(message: impl ToString) -> Self {
        Self(message.to_string())
    }
}

impl fmt::Display for TestDriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for TestDriverError {}

/// Runs a topology in a test, record by record, as Kafka's driver of the same name does: one task
/// for the whole topology, a commit after each record, records for repartition topics and for
/// topics that the topology itself reads are processed at once.
///
/// ```
/// use millrace::TopologyTestDriver;
/// use millrace::prelude::*;
///
/// let mut builder = StreamsBuilder::new();
/// builder
///     .stream("input", Consumed::with(StringSerde, StringSerde))
///     .group_by_key(Grouped::default())
///     .count(Materialized::as_("counts"))
///     .to_stream()
///     .to("output", Produced::with(StringSerde, LongSerde));
///
/// let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// let input = driver.create_input_topic("input", StringSerde, StringSerde);
/// let output = driver.create_output_topic("output", StringSerde, LongSerde);
///
/// input.pipe_input("a", "x");
/// input.pipe_input("b", "y");
/// input.pipe_input("a", "z");
/// assert_eq!(
///     output.read_key_values_to_list(),
///     [("a", 1), ("b", 1), ("a", 2)].map(|(key, count)| (Some(key.to_owned()), Some(count)))
/// );
/// assert_eq!(driver.get_key_value_store("counts").unwrap().get(&"a".to_owned()), Some(2_i64));
/// ```
pub struct TopologyTestDriver {
    inner: Rc<RefCell<Driver>>,
}

impl fmt::Debug for TopologyTestDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TopologyTestDriver")
    }
}

impl TopologyTestDriver {
    /// A driver with the default configuration.
    pub fn new(topology: Topology) -> Result<Self, TestDriverError> {
        Self::with(topology, TestDriverConfig::default())
    }

    /// A driver set up like that.
    pub fn with(topology: Topology, config: TestDriverConfig) -> Result<Self, TestDriverError> {
        Ok(Self { inner: Rc::new(RefCell::new(Driver::new(topology, config)?)) })
    }

    /// What `Topology#describe` of Kafka Streams prints for the same topology.
    #[must_use]
    pub fn describe(&self) -> String {
        self.inner.borrow().plan.describe()
    }

    /// The topics of its own that the topology asks for, with their settings.
    #[must_use]
    pub fn internal_topics(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let inner = self.inner.borrow();
        inner.internal_topics.iter().map(|topic| (topic.name.clone(), topic.configs.clone())).collect()
    }

    /// A topic to be written for the topology to read.
    pub fn create_input_topic<K: Data, V: Data>(
        &self,
        topic: impl Into<String>,
        keys: impl Serde<Value = K>,
        values: impl Serde<Value = V>,
    ) -> TestInputTopic<K, V> {
        TestInputTopic::new(Rc::clone(&self.inner), topic.into(), Arc::new(keys), Arc::new(values))
    }

    /// A topic to be read that the topology writes.
    pub fn create_output_topic<K: Data, V: Data>(
        &self,
        topic: impl Into<String>,
        keys: impl Serde<Value = K>,
        values: impl Serde<Value = V>,
    ) -> TestOutputTopic<K, V> {
        TestOutputTopic::new(Rc::clone(&self.inner), topic.into(), Arc::new(keys), Arc::new(values))
    }

    /// Moves the wall clock on, has what is due punctuated, and commits.
    ///
    /// # Panics
    /// If a processor fails; see [`Self::try_advance_wall_clock_time`].
    pub fn advance_wall_clock_time(&self, by: Duration) {
        self.try_advance_wall_clock_time(by).unwrap_or_else(|error| panic!("advance the wall clock: {error}"));
    }

    /// The same; a processor that fails is an error.
    pub fn try_advance_wall_clock_time(&self, by: Duration) -> Result<(), TestDriverError> {
        self.inner.borrow_mut().advance(by)
    }

    /// The topics that were written so far, changelogs and repartition topics included, in order.
    #[must_use]
    pub fn produced_topic_names(&self) -> Vec<String> {
        self.inner.borrow().produced.keys().cloned().collect()
    }

    /// All that was written to a topic and was not read yet, as bytes. Changelogs are read like this:
    /// each commit writes the last value of a key.
    #[must_use]
    pub fn read_raw_records(&self, topic: &str) -> Vec<RawRecord> {
        self.inner.borrow_mut().produced.get_mut(topic).map(|records| records.drain(..).collect()).unwrap_or_default()
    }

    /// Writes a record of bytes to a topic that the topology reads.
    pub fn pipe_raw_record(&self, topic: &str, record: RawRecord) -> Result<(), TestDriverError> {
        self.pipe_raw_records(topic, vec![record])
    }

    /// Writes records of bytes to a topic that the topology reads.
    pub fn pipe_raw_records(&self, topic: &str, records: Vec<RawRecord>) -> Result<(), TestDriverError> {
        self.inner.borrow_mut().pipe(topic, records)
    }

    /// Writes records of bytes to topics that the topology reads, before any of them is processed. As where an application has
    /// to catch up, of what is next in each topic the record with the lowest timestamp is processed first.
    pub fn pipe_backlog(&self, records: Vec<(&str, RawRecord)>) -> Result<(), TestDriverError> {
        self.inner.borrow_mut().pipe_backlog(&records)
    }

    /// The stores of the topology, in its order.
    #[must_use]
    pub fn state_store_names(&self) -> Vec<String> {
        let driver = self.inner.borrow();
        let globals = driver.plan.global_stores().iter().map(|global| global.store.name.clone());
        driver.task.spec().stores.iter().map(|store| store.name.clone()).chain(globals).collect()
    }

    /// The key-value store of that name; none if there is no such store with these types.
    #[must_use]
    pub fn get_key_value_store<K: Data, V: Data>(&self, name: &str) -> Option<TestKeyValueStore<K, V>> {
        TestKeyValueStore::open(Rc::clone(&self.inner), name)
    }

    /// The window store of that name; none if there is no such store with these types.
    #[must_use]
    pub fn get_window_store<K: Data + PartialEq, V: Data>(&self, name: &str) -> Option<TestWindowStore<K, V>> {
        TestWindowStore::open(Rc::clone(&self.inner), name)
    }

    /// The session store of that name; none if there is no such store with these types.
    #[must_use]
    pub fn get_session_store<K: Data + PartialEq, V: Data>(&self, name: &str) -> Option<TestSessionStore<K, V>> {
        TestSessionStore::open(Rc::clone(&self.inner), name)
    }

    /// The versioned store of that name; none if there is no such store with these types.
    #[must_use]
    pub fn get_versioned_store<K: Data, V: Data>(&self, name: &str) -> Option<TestVersionedStore<K, V>> {
        TestVersionedStore::open(Rc::clone(&self.inner), name)
    }

    /// What a versioned store had of a key at a time, as bytes, with the time since when.
    #[must_use]
    pub fn store_entry_as_of(&self, name: &str, key: &[u8], time: i64) -> Option<StoreEntry> {
        let (value, valid_from, _) = self.inner.borrow_mut().entry_as_of(name, key, time)?;
        Some(StoreEntry { key: key.to_vec(), value, timestamp: valid_from })
    }

    /// The entries of a store as bytes, in key order; of a versioned store the latest ones.
    #[must_use]
    pub fn store_entries(&self, name: &str) -> Vec<StoreEntry> {
        self.inner.borrow_mut().entries(name)
    }
}

struct Driver {
    topology: Arc<Topology>,
    plan: Plan,
    internal_topics: Vec<InternalTopic>,
    task: Task,
    globals: Option<Filler>,
    log: Collected,
    now_ms: i64,
    /// Of each input, the next offset, also of those of global stores.
    offsets: Vec<i64>,
    global_offsets: Vec<i64>,
    batch_records: usize,
    produced: BTreeMap<String, std::collections::VecDeque<RawRecord>>,
}

impl Driver {
    fn new(topology: Topology, config: TestDriverConfig) -> Result<Self, TestDriverError> {
        let topology = Arc::new(topology.checked().map_err(TestDriverError::new)?);
        let plan = Plan::new(&config.application_id, topology.graph()).map_err(TestDriverError::new)?;
        let partitioning = one_of_each(&plan, &config)?;
        let (spec, global_spec) = whole(&plan, &partitioning, &config)?;
        let spec = Arc::new(spec);
        let settings = Settings {
            batch_records: config.batch_records.max(1),
            max_task_idle_ms: None,
            policies: Policies::default(),
            ..Settings::default()
        };
        let database = Memory::of(&spec.stores);
        let guest = NativeGuest::new(Arc::clone(&topology), &spec);
        let offsets = vec![0; spec.inputs.len()];
        let (mut globals, mut readable, mut global_offsets) = (None, GlobalStores::default(), Vec::new());
        if let Some(global) = global_spec.map(Arc::new) {
            let state = Shared::new(Memory::of(&global.stores));
            readable = GlobalStores::new(&global, Arc::new(state.clone()));
            global_offsets = vec![0; global.inputs.len()];
            let guest = Box::new(NativeGuest::new(Arc::clone(&topology), &global));
            let begins = vec![Offset(0); global.inputs.len()];
            let mut filler = Filler::new(global, settings.clone(), guest, Box::new(state));
            filler.start(&begins, config.wall_clock_ms).map_err(TestDriverError::new)?;
            globals = Some(filler);
        }
        let mut task = Task::new(spec, Arc::new(settings), Box::new(guest), Box::new(database)).reading(readable);
        let starts = vec![Start { offset: Some(Offset(0)), partition_time: None }; offsets.len()];
        task.restoring()
            .and_then(|()| task.start(&starts, None, config.wall_clock_ms))
            .map_err(TestDriverError::new)?;
        Ok(Self {
            topology,
            plan,
            internal_topics: partitioning.internal_topics().to_vec(),
            task,
            globals,
            log: Collected::default(),
            now_ms: config.wall_clock_ms,
            offsets,
            global_offsets,
            batch_records: config.batch_records.max(1),
            produced: BTreeMap::new(),
        })
    }

    fn pipe(&mut self, topic: &str, records: Vec<RawRecord>) -> Result<(), TestDriverError> {
        if self.fill(topic, &records)? {
            return Ok(());
        }
        let input = self.input(topic).ok_or_else(|| self.unknown(topic))?;
        for some in records.chunks(self.batch_records) {
            some.iter().for_each(|record| self.enqueue(input, record));
            self.complete()?;
        }
        Ok(())
    }

    fn pipe_backlog(&mut self, records: &[(&str, RawRecord)]) -> Result<(), TestDriverError> {
        for (topic, record) in records {
            if self.fill(topic, std::slice::from_ref(record))? {
                continue;
            }
            let input = self.input(topic).ok_or_else(|| self.unknown(topic))?;
            self.enqueue(input, record);
        }
        self.complete()
    }

    fn unknown(&self, topic: &str) -> TestDriverError {
        let globals = self.plan.global_stores().iter().map(|global| global.filled.topic.as_str());
        let inputs = self.task.spec().inputs.iter().map(|input| &*input.topic);
        let known: Vec<&str> = inputs.chain(globals).collect();
        TestDriverError::new(format!("the topology does not read topic {topic}, only {}", known.join(", ")))
    }

    fn input(&self, topic: &str) -> Option<usize> {
        self.task.spec().inputs.iter().position(|input| *input.topic == *topic)
    }

    /// Takes records of a topic that fills a global store; says whether it is one.
    fn fill(&mut self, topic: &str, records: &[RawRecord]) -> Result<bool, TestDriverError> {
        let Some(filler) = &mut self.globals else { return Ok(false) };
        let read = |input: &InputSpec| *input.topic == *topic;
        let Some(input) = filler.task().spec().inputs.iter().position(read) else { return Ok(false) };
        for record in records {
            let chunk = chunk(record, &mut self.global_offsets[input]);
            let filled = filler.fill(input, chunk, self.now_ms);
            if matches!(filled, Err(Error::Guest(_))) {
                filler.task().resume().map_err(TestDriverError::new)?;
            }
            filled.map_err(TestDriverError::new)?;
        }
        Ok(true)
    }

    fn enqueue(&mut self, input: usize, record: &RawRecord) {
        self.task.add(input, chunk(record, &mut self.offsets[input]));
    }

    fn advance(&mut self, by: Duration) -> Result<(), TestDriverError> {
        self.now_ms = self.now_ms.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
        let punctuated = self.task.punctuate(self.now_ms, &mut self.log);
        self.survive(punctuated)?;
        self.commit()?;
        self.complete()
    }

    /// Processes all there is, a commit after each step.
    fn complete(&mut self) -> Result<(), TestDriverError> {
        self.capture()?;
        while self.task.is_isolating() || (0..self.offsets.len()).any(|input| self.task.buffered_records(input) > 0) {
            let processed = self.task.process(self.now_ms, &mut self.log);
            let processed = self.survive(processed)?;
            self.commit()?;
            self.capture()?;
            if processed == Processed::default() {
                break;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), TestDriverError> {
        commit(&mut [&mut self.task], &mut self.log, Guarantee::AtLeastOnce).map_err(TestDriverError::new)?;
        Ok(())
    }

    /// After a record that failed the topology goes on without it.
    fn survive<T>(&mut self, result: Result<T, Error>) -> Result<T, TestDriverError> {
        if let Err(Error::Guest(_)) = &result {
            self.task.resume().map_err(TestDriverError::new)?;
        }
        result.map_err(TestDriverError::new)
    }

    /// Takes what was written; what the topology reads itself goes back into it.
    fn capture(&mut self) -> Result<(), TestDriverError> {
        for (topic, record) in self.log.take() {
            if let Some(input) = self.input(&topic) {
                self.enqueue(input, &record);
            }
            self.fill(&topic, std::slice::from_ref(&record))?;
            self.produced.entry(topic).or_default().push_back(record);
        }
        Ok(())
    }
}

/// A record, at the next offset.
fn chunk(record: &RawRecord, next: &mut i64) -> Chunk {
    let mut records = Batch::default();
    records.push(record.key.as_deref(), record.value.as_deref(), record.timestamp);
    records.headers.extend(record.headers.iter().map(|(key, value)| Header {
        index: 0,
        key: key.to_owned(),
        value: value.map(<[u8]>::to_vec),
    }));
    let offset = std::mem::replace(next, *next + 1);
    Chunk { offsets: vec![offset], records }
}

/// One partition of every topic.
fn one_of_each(plan: &Plan, config: &TestDriverConfig) -> Result<Partitioning, TestDriverError> {
    let read = plan.external_topics().into_iter().map(str::to_owned).chain(config.pattern_topics.iter().cloned());
    let sinks = plan.subtopologies().iter().flat_map(|subtopology| &subtopology.sinks);
    let written = sinks.filter_map(|sink| sink.topic.clone()).filter(|topic| !plan.is_repartition(topic));
    let counts = read.chain(written).map(|topic| (topic, 1)).collect();
    Partitioning::new(plan, &counts).map_err(TestDriverError::new)
}

/// One task for the whole topology, and the one that fills the global stores.
fn whole(
    plan: &Plan,
    partitioning: &Partitioning,
    config: &TestDriverConfig,
) -> Result<(TaskSpec, Option<TaskSpec>), TestDriverError> {
    let mut whole: Option<TaskSpec> = None;
    for partitioned in partitioning.subtopologies() {
        let id = TaskId { subtopology: partitioned.subtopology, partition: 0 };
        let inputs: Vec<usize> = (0..partitioned.inputs.len()).collect();
        let Some(spec) = partitioning.task_spec(plan, id, &inputs, config.caching) else { continue };
        match &mut whole {
            None => whole = Some(TaskSpec { id: TaskId { subtopology: 0, partition: 0 }, ..spec }),
            Some(whole) => {
                whole.inputs.extend(spec.inputs);
                whole.stores.extend(spec.stores);
                whole.outputs.extend(spec.outputs);
                whole.dynamic_sinks |= spec.dynamic_sinks;
            }
        }
    }
    let whole = whole.ok_or_else(|| TestDriverError::new("the topology reads no topic: give it a source"))?;
    Ok((whole, partitioning.global_spec(plan)))
}

/// The task as the module is told of it.
fn module_task(spec: &TaskSpec, stream_time: Option<i64>) -> contract::Task {
    contract::Task {
        application_id: spec.application_id.clone(),
        subtopology: spec.id.subtopology,
        partition: spec.id.partition,
        topics: spec.inputs.iter().map(|input: &InputSpec| input.name.clone()).collect(),
        stream_time,
        caching: spec.caching,
    }
}
