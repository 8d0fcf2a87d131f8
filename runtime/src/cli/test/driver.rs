//! Runs all tasks of an application in this thread, without a broker, on stores in memory and a clock that stands
//! still unless it is moved. The tasks are those that run in production; what they write is kept. Must not know what is
//! expected of them.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use millrace_engine::commit::{Guarantee, commit};
use millrace_engine::context::Entries;
use millrace_engine::global::{Filler, GlobalStores};
use millrace_engine::memory::{Memory, Shared};
use millrace_engine::partitioner::partition;
use millrace_engine::ports::{Committed, Error, Log, Partitions, Rejected};
use millrace_engine::record::{Batch, Header, Offset, TaskId, TopicPartition};
use millrace_engine::task::{Chunk, InputSpec, Settings, Start, Task};
use millrace_engine::topology::{PartitionCounts, Partitioning};
use millrace_engine::versions::LATEST;

use crate::app::Application;
use crate::guest::TaskInfo;

/// A record in a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) timestamp: i64,
    pub(super) partition: u32,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// An entry of a store.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) timestamp: i64,
}

pub(super) struct Driver {
    tasks: BTreeMap<TaskId, Task>,
    /// Fills the global stores.
    globals: Option<Filler>,
    log: Collected,
    /// Of each topic that is read, by its full name: the tasks of these subtopologies.
    readers: BTreeMap<Arc<str>, Vec<u32>>,
    /// Of each partition that is read, the next offset.
    offsets: BTreeMap<TopicPartition, i64>,
    now_ms: i64,
}

impl Driver {
    /// `counts` has the topics that are read and written, but the application's own.
    pub(super) fn new(
        application: &Application,
        partitioning: &Partitioning,
        mut counts: PartitionCounts,
        now_ms: i64,
    ) -> anyhow::Result<Self> {
        let plan = application.plan();
        let internal = partitioning.internal_topics().iter();
        counts.extend(internal.map(|topic| (topic.name.clone(), topic.partitions)));
        let mut driver = Self {
            tasks: BTreeMap::new(),
            globals: None,
            log: Collected::new(counts),
            readers: BTreeMap::new(),
            offsets: BTreeMap::new(),
            now_ms,
        };
        let settings = Arc::new(Settings { batch_records: 1, max_task_idle_ms: None, ..Settings::default() });
        let globals = driver.fill_globals(application, partitioning, &settings)?;
        for partitioned in partitioning.subtopologies() {
            for input in &partitioned.inputs {
                driver.readers.entry(Arc::clone(&input.full_name)).or_default().push(partitioned.subtopology);
            }
            for id in partitioned.ids() {
                let inputs: Vec<usize> = (0..partitioned.inputs.len())
                    .filter(|&input| id.partition < partitioned.inputs[input].partitions)
                    .collect();
                // Cached stores are flushed at commits, as by default.
                let spec = partitioning.task_spec(plan, id, &inputs, true);
                let spec = Arc::new(spec.with_context(|| format!("the topology has no task {id}"))?);
                let topics = spec.inputs.iter().map(|input| input.name.clone()).collect();
                let info = TaskInfo { id, topics, caching: true, usage: Arc::default(), log: Arc::default() };
                let guest = application.module().instantiate(info);
                let database = Box::new(Memory::of(&spec.stores));
                let starts = vec![Start { offset: Some(Offset(0)), partition_time: None }; spec.inputs.len()];
                let mut task = Task::new(spec, Arc::clone(&settings), guest, database).reading(globals.clone());
                task.restoring()?;
                task.start(&starts, None, now_ms).map_err(|error| anyhow!("start task {id}: {error}"))?;
                driver.tasks.insert(id, task);
            }
        }
        Ok(driver)
    }

    fn fill_globals(
        &mut self,
        application: &Application,
        partitioning: &Partitioning,
        settings: &Settings,
    ) -> anyhow::Result<GlobalStores> {
        let Some(spec) = partitioning.global_spec(application.plan()).map(Arc::new) else {
            return Ok(GlobalStores::default());
        };
        let topics = spec.inputs.iter().map(|input| input.name.clone()).collect();
        let info = TaskInfo { id: spec.id, topics, caching: false, usage: Arc::default(), log: Arc::default() };
        let guest = application.module().instantiate(info);
        let state = Shared::new(Memory::of(&spec.stores));
        let stores = GlobalStores::new(&spec, Arc::new(state.clone()));
        let begins = vec![Offset(0); spec.inputs.len()];
        let mut filler = Filler::new(spec, settings.clone(), guest, Box::new(state));
        filler.start(&begins, self.now_ms).context("start to fill the global stores")?;
        self.globals = Some(filler);
        Ok(stores)
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Where Kafka's default partitioner puts a key.
    pub(super) fn partition_of(&self, topic: &str, key: Option<&[u8]>) -> u32 {
        self.log.partition_of(topic, key)
    }

    /// Has a record processed, with all that follows from it, and a commit after each step.
    pub(super) fn pipe(&mut self, topic: &str, record: &Record) -> anyhow::Result<()> {
        self.hand_over(topic, record)?;
        self.complete()
    }

    /// Moves the clock on, has what is due punctuated, with all that follows from it.
    pub(super) fn advance(&mut self, ms: i64) -> anyhow::Result<()> {
        self.now_ms = self.now_ms.saturating_add(ms);
        for (id, task) in &mut self.tasks {
            let punctuated = task.punctuate(self.now_ms, &mut self.log);
            punctuated.map_err(|error| anyhow!("task {id}: {error}"))?;
        }
        self.commit()?;
        self.complete()
    }

    /// What was written, topic by topic, since this was asked last. Changelogs too.
    pub(super) fn take_written(&mut self) -> BTreeMap<String, Vec<Record>> {
        mem::take(&mut self.log.written)
    }

    /// All of a store, in the order of the keys; of a versioned one the latest versions.
    pub(super) fn entries(&mut self, store: &str) -> anyhow::Result<Vec<Entry>> {
        let mut all = Vec::new();
        let of_globals = self.globals.as_mut().map(Filler::task).filter(|task| has_store(task, store));
        let of_tasks = self.tasks.values_mut().filter(|task| has_store(task, store));
        for task in of_globals.into_iter().chain(of_tasks) {
            let context = task.state();
            let Some(index) = context.store(store) else { continue };
            if context.is_versioned(index) {
                context.versions(index, |key, version| {
                    if let (Some(value), LATEST) = (version.value, version.valid_to) {
                        all.push(Entry { key: key.to_vec(), value: value.to_vec(), timestamp: version.valid_from });
                    }
                })?;
                continue;
            }
            let Entries { keys, values, timestamps } = context.scan(index, (None, None), false, u32::MAX)?;
            for ((key, value), &timestamp) in keys.iter().zip(values.iter()).zip(&timestamps) {
                let [key, value] = [key, value].map(|bytes| bytes.unwrap_or_default().to_vec());
                all.push(Entry { key, value, timestamp });
            }
        }
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    /// Hands a record to the tasks that read it; if it is for a global store, it is there then.
    fn hand_over(&mut self, topic: &str, record: &Record) -> anyhow::Result<()> {
        let next = self.offsets.entry(TopicPartition::new(topic, record.partition)).or_default();
        let offset = mem::replace(next, *next + 1);
        if let Some(filler) = &mut self.globals {
            let reads = |input: &InputSpec| *input.topic == *topic && input.partition == record.partition;
            if let Some(input) = filler.task().spec().inputs.iter().position(reads) {
                return filler.fill(input, chunk(record, offset), self.now_ms).context("fill a global store");
            }
        }
        for &subtopology in self.readers.get(topic).into_iter().flatten() {
            let Some(task) = self.tasks.get_mut(&TaskId { subtopology, partition: record.partition }) else { continue };
            let Some(input) = task.spec().inputs.iter().position(|input| *input.topic == *topic) else { continue };
            task.add(input, chunk(record, offset));
        }
        Ok(())
    }

    /// Processes until nothing is left, what tasks write for each other included.
    fn complete(&mut self) -> anyhow::Result<()> {
        self.deliver()?;
        while let Some(id) = self.tasks.iter().find(|(_, task)| has_work(task)).map(|(id, _)| *id) {
            let Some(task) = self.tasks.get_mut(&id) else { break };
            task.process(self.now_ms, &mut self.log).map_err(|error| anyhow!("task {id}: {error}"))?;
            self.commit()?;
            self.deliver()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        let mut tasks: Vec<&mut Task> = self.tasks.values_mut().collect();
        commit(&mut tasks, &mut self.log, Guarantee::AtLeastOnce).map_err(|failure| anyhow!("{}", failure.error))?;
        Ok(())
    }

    fn deliver(&mut self) -> anyhow::Result<()> {
        while let Some((topic, record)) = self.log.fresh.pop_front() {
            self.hand_over(&topic, &record)?;
            self.log.written.entry(topic).or_default().push(record);
        }
        Ok(())
    }
}

fn chunk(record: &Record, offset: i64) -> Chunk {
    let mut records = Batch::default();
    records.push(record.key.as_deref(), record.value.as_deref(), record.timestamp);
    let header = |(key, value): &(String, Option<Vec<u8>>)| Header { index: 0, key: key.clone(), value: value.clone() };
    records.headers.extend(record.headers.iter().map(header));
    Chunk { offsets: vec![offset], records }
}

/// One of its own: all tasks can read the global ones.
fn has_store(task: &Task, name: &str) -> bool {
    task.spec().stores.iter().any(|store| store.name == name)
}

fn has_work(task: &Task) -> bool {
    task.is_isolating() || (0..task.spec().inputs.len()).any(|input| task.buffered_records(input) > 0)
}

/// Keeps what is written.
struct Collected {
    counts: PartitionCounts,
    /// Not handed to its readers yet.
    fresh: VecDeque<(String, Record)>,
    written: BTreeMap<String, Vec<Record>>,
    ends: BTreeMap<TopicPartition, i64>,
    /// Partitions written to since the last flush.
    touched: Vec<TopicPartition>,
}

impl Collected {
    fn new(counts: PartitionCounts) -> Self {
        Self { counts, fresh: VecDeque::new(), written: BTreeMap::new(), ends: BTreeMap::new(), touched: Vec::new() }
    }

    /// A record without a key goes to the first partition: Kafka may choose any.
    fn partition_of(&self, topic: &str, key: Option<&[u8]>) -> u32 {
        key.map_or(0, |key| partition(key, self.counts.get(topic).copied().unwrap_or(1)))
    }
}

impl Log for Collected {
    fn begin(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn send(&mut self, topic: &str, partitions: Partitions<'_>, records: &Batch) -> Result<Vec<Rejected>, Error> {
        let mut headers = records.headers.iter().peekable();
        let rows = records.keys.iter().zip(records.values.iter()).zip(&records.timestamps);
        for (row, ((key, value), &timestamp)) in rows.enumerate() {
            let mut own = Vec::new();
            while let Some(header) = headers.next_if(|header| header.index as usize == row) {
                own.push((header.key.clone(), header.value.clone()));
            }
            let asked = match partitions {
                Partitions::ByKey => None,
                Partitions::One(partition) => Some(partition),
                Partitions::Each(each) => u32::try_from(each[row]).ok(),
            };
            let partition = asked.unwrap_or_else(|| self.partition_of(topic, key));
            let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
            self.fresh.push_back((topic.to_owned(), Record { key, value, timestamp, partition, headers: own }));
            let at = TopicPartition::new(topic, partition);
            *self.ends.entry(at.clone()).or_default() += 1;
            self.touched.push(at);
        }
        Ok(Vec::new())
    }

    fn objection(&self, _: &str, _: &Batch) -> Option<Rejected> {
        None
    }

    fn flush(&mut self) -> Result<Vec<(TopicPartition, Offset)>, Error> {
        let touched = mem::take(&mut self.touched);
        Ok(touched
            .into_iter()
            .map(|at| (at.clone(), Offset(self.ends.get(&at).copied().unwrap_or_default())))
            .collect())
    }

    fn commit(&mut self, _: &[(TopicPartition, Committed)]) -> Result<(), Error> {
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
