//! Owns the execution of a topology: one call of the host from the record that comes in to the
//! records that go out. Must not know what the nodes do.
//!
//! Records go through the graph depth first, one by one, as in Kafka Streams. Where nobody can
//! tell the difference (see [`plan`]) a run of records goes through as one batch, which saves the
//! cost per record of every node and asks the host for all keys at once.

mod meet;
mod plan;
mod reader;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::contract::{self, Batch, Changes, Column, Failure, Fault, Input, Output, Task, empty_column};
use crate::host::Host;
use crate::logic::ProcessorInstance;
use crate::processor::RecordMetadata;
use crate::rows::{Cut, Meta, UNKNOWN};
use crate::topology::{Kind, Node, Topology};

use plan::Junction;
pub(crate) use reader::{Chunk, Reader};

/// A topology at work for one task.
pub(crate) struct Instance {
    topology: Arc<Topology>,
    task: Task,
    /// The source of each of the task's topics.
    sources: Vec<usize>,
    /// Each of the task's topics as named in Kafka.
    topics: Vec<String>,
    /// Of each node, whether batches may start there.
    batched: Vec<bool>,
    /// Where records of two sources meet at once.
    junctions: Vec<Junction>,
    processors: Vec<Option<RefCell<Box<dyn ProcessorInstance>>>>,
    /// The node that made each schedule.
    schedules: RefCell<HashMap<u32, usize>>,
    /// The highest timestamp of the records processed in earlier calls.
    stream_time: Cell<Option<i64>>,
    /// Of each node, the highest timestamp it has seen, if it goes by that.
    observed: Vec<Cell<Option<i64>>>,
    /// What else nodes keep between calls, by names of their own. It is made anew from their stores, or not missed.
    kept: RefCell<HashMap<String, Box<dyn Any + Send>>>,
}

impl Instance {
    pub(crate) fn new(topology: Arc<Topology>, task: Task) -> Result<Self, String> {
        let sources = task.topics.iter().map(|topic| {
            topology.source_of(topic).ok_or_else(|| format!("the topology has no source that reads topic {topic}"))
        });
        let sources: Vec<usize> = sources.collect::<Result<_, _>>()?;
        let batched = plan::batched(&topology);
        let junctions = plan::junctions(&topology);
        let mine = plan::reachable(&topology, &sources);
        let processors = topology
            .nodes
            .iter()
            .zip(mine)
            .map(|(node, mine)| if mine { node.instantiate().map(RefCell::new) } else { None })
            .collect();
        let stream_time = Cell::new(task.stream_time);
        let in_kafka = |topic: &String| match topology.is_repartition(topic) {
            true => format!("{}-{topic}", task.application_id),
            false => topic.clone(),
        };
        let topics = task.topics.iter().map(in_kafka).collect();
        let observed = topology.nodes.iter().map(|_| Cell::new(None)).collect();
        let (schedules, kept) = (RefCell::default(), RefCell::default());
        Ok(Self {
            topology,
            task,
            sources,
            topics,
            batched,
            junctions,
            processors,
            schedules,
            stream_time,
            observed,
            kept,
        })
    }

    /// Initialises the processors in the order of the graph.
    pub(crate) fn init(&self, host: &mut dyn Host) -> Result<(), Failure> {
        let mut run = self.run(host, None);
        for (node, processor) in self.processors.iter().enumerate() {
            if let Some(processor) = processor {
                run.node = node;
                processor.borrow_mut().init(&mut run)?;
            }
        }
        Ok(())
    }

    pub(crate) fn extract(
        &self,
        topic: u32,
        offsets: &[i64],
        records: &Batch,
        partition_time: Option<i64>,
    ) -> Result<Vec<i64>, Failure> {
        let node = &self.topology.nodes[self.source(topic)?];
        let Kind::Source { logic, .. } = &node.kind else { unreachable!("only sources read topics") };
        let topic = &self.task.topics[topic as usize];
        logic.extract(&node.name, topic, self.task.partition, offsets, records, partition_time)
    }

    /// The input is as it was when the call is over; while it lasts its columns are shared by the rows.
    pub(crate) fn process(&self, input: &mut Input, host: &mut dyn Host) -> Result<Vec<Output>, Failure> {
        let keys = Rc::new(std::mem::replace(&mut input.records.keys, empty_column()));
        let values = Rc::new(std::mem::replace(&mut input.records.values, empty_column()));
        let outputs = self.process_columns(input, &keys, &values, host);
        let back = |column: Rc<Column>| Rc::try_unwrap(column).unwrap_or_else(|shared| (*shared).clone());
        (input.records.keys, input.records.values) = (back(keys), back(values));
        outputs
    }

    fn process_columns(
        &self,
        input: &Input,
        keys: &Rc<Column>,
        values: &Rc<Column>,
        host: &mut dyn Host,
    ) -> Result<Vec<Output>, Failure> {
        let mut run = self.run(host, Some(input));
        let (timestamps, headers) = (&input.records.timestamps, &input.records.headers);
        let mut reader = Reader::new(Rc::clone(keys), Rc::clone(values), timestamps, headers);
        while reader.row() < input.records.timestamps.len() {
            let row = reader.row();
            let node = self.source(input.topics[row])?;
            if let Some(junction) = self.junctions.iter().find(|junction| junction.sources.contains(&node)) {
                let count = self.meeting(junction, input, row);
                if count > 1 {
                    self.meet(
                        junction,
                        reader.take_sides(count, |row| self.is_second(junction, input, row)),
                        &mut run,
                    )?;
                    continue;
                }
            }
            let batched = self.batched[node];
            let mut count = 1;
            if batched {
                let same = |topic: &&u32| self.sources.get(**topic as usize) == Some(&node);
                count = input.topics[row..].iter().take_while(same).count();
            }
            run.node = node;
            run.batched = batched;
            let Kind::Source { logic, .. } = &self.topology.nodes[node].kind else {
                unreachable!("only sources read topics")
            };
            logic.read(reader.take(count), &mut run)?;
        }
        self.stream_time.set(self.stream_time.get().max(input.records.timestamps.iter().copied().max()));
        Ok(run.outputs)
    }

    pub(crate) fn punctuate(&self, schedule: u32, timestamp: i64, host: &mut dyn Host) -> Result<Vec<Output>, Failure> {
        let node = self.schedules.borrow().get(&schedule).copied();
        let mut run = self.run(host, None);
        if let Some((node, processor)) = node.and_then(|node| Some((node, self.processors[node].as_ref()?))) {
            run.node = node;
            run.batched = self.batched[node];
            processor.borrow_mut().punctuate(schedule, timestamp, &mut run)?;
        }
        Ok(run.outputs)
    }

    pub(crate) fn flush(&self, store: &str, changes: &Changes, host: &mut dyn Host) -> Result<Vec<Output>, Failure> {
        let mut run = self.run(host, None);
        // A store that no table owns belongs to processors, which forward on their own account.
        if let Some(node) = self.topology.owner_of(store) {
            run.node = node;
            run.batched = self.batched[node];
            if let Kind::Inner { logic, .. } = &self.topology.nodes[node].kind {
                logic.flush(changes, &mut run)?;
            }
        }
        Ok(run.outputs)
    }

    /// The partition of one of its topics: a topic that stands there several times is read by partitions, in their order.
    fn partition(&self, topic: u32) -> u32 {
        let topics = &self.topics[..(topic as usize).min(self.topics.len())];
        let before = self.topics.get(topics.len()).map_or(0, |own| topics.iter().filter(|other| *other == own).count());
        self.task.partition + contract::index(before)
    }

    fn source(&self, topic: u32) -> Result<usize, Failure> {
        self.sources.get(topic as usize).copied().ok_or_else(|| Failure {
            fault: Fault::Processing,
            index: None,
            node: None,
            message: format!("the task reads {} topics, there is none with index {topic}", self.sources.len()),
        })
    }

    fn run<'a>(&'a self, host: &'a mut dyn Host, input: Option<&'a Input>) -> Run<'a> {
        let stream_time = (0, self.stream_time.get());
        Run {
            instance: self,
            host,
            input,
            outputs: Vec::new(),
            partition_counts: Vec::new(),
            node: 0,
            batched: false,
            held: None,
            stream_time: Cell::new(stream_time),
        }
    }
}

/// One call of the host on its way through the graph.
pub(crate) struct Run<'a> {
    instance: &'a Instance,
    pub(crate) host: &'a mut dyn Host,
    /// None in a punctuation or a flush.
    pub(crate) input: Option<&'a Input>,
    outputs: Vec<Output>,
    /// Of topics that were asked for.
    partition_counts: Vec<(String, Option<u32>)>,
    /// The node at work.
    pub(crate) node: usize,
    /// Rows may go on many at a time.
    pub(crate) batched: bool,
    /// What gets to this node is held back there.
    held: Option<(usize, Vec<Box<dyn Any>>)>,
    /// How many records of the input were looked at for the stream time, and what it is.
    stream_time: Cell<(usize, Option<i64>)>,
}

impl<'a> Run<'a> {
    pub(crate) fn task(&self) -> &'a Task {
        &self.instance.task
    }

    pub(crate) fn topology(&self) -> &'a Topology {
        &self.instance.topology
    }

    pub(crate) fn current(&self) -> &'a Node {
        &self.instance.topology.nodes[self.node]
    }

    /// Whether updates of a store go on when the host flushes it instead of at once.
    pub(crate) fn withholds(&self, cached: bool) -> bool {
        cached && self.instance.task.caching
    }

    pub(crate) fn processor(&self, node: usize) -> Option<&'a RefCell<Box<dyn ProcessorInstance>>> {
        self.instance.processors[node].as_ref()
    }

    pub(crate) fn remember_schedule(&self, schedule: u32) {
        self.instance.schedules.borrow_mut().insert(schedule, self.node);
    }

    pub(crate) fn forget_schedule(&self, schedule: u32) {
        self.instance.schedules.borrow_mut().remove(&schedule);
    }

    /// Where the record of an origin was read; none in a punctuation or a flush.
    pub(crate) fn source(&self, origin: u32) -> Option<RecordMetadata<'a>> {
        let input = self.input?;
        let topic = *input.topics.get(origin as usize)?;
        Some(RecordMetadata {
            topic: self.instance.topics.get(topic as usize)?,
            partition: self.instance.partition(topic),
            offset: *input.offsets.get(origin as usize)?,
        })
    }

    /// The stream time when the record of an origin was taken up.
    pub(crate) fn stream_time(&self, origin: u32) -> Option<i64> {
        let (mut seen, mut time) = self.stream_time.get();
        let Some(input) = self.input.filter(|_| origin != UNKNOWN) else { return time };
        if seen > origin as usize + 1 {
            (seen, time) = (0, self.instance.stream_time.get());
        }
        time = time.max(input.records.timestamps[seen..=origin as usize].iter().copied().max());
        self.stream_time.set((origin as usize + 1, time));
        time
    }

    /// The node at work sees a timestamp; the highest it has seen is the answer.
    pub(crate) fn observe(&self, timestamp: i64) -> i64 {
        let observed = &self.instance.observed[self.node];
        observed.set(observed.get().max(Some(timestamp)));
        observed.get().unwrap_or(timestamp)
    }

    /// The highest timestamp that the node at work has seen.
    pub(crate) fn observed(&self) -> Option<i64> {
        self.instance.observed[self.node].get()
    }

    /// Takes what is kept in the instance under a name, at first its default. It is to be kept again; if the call fails
    /// instead, the instance ends.
    pub(crate) fn take_kept<T: Default + Send + 'static>(&self, name: &str) -> T {
        let kept = self.instance.kept.borrow_mut().remove(name);
        kept.map_or_else(T::default, |kept| *kept.downcast().expect("what is kept under a name has one type"))
    }

    /// Keeps something in the instance under a name.
    pub(crate) fn keep<T: Send + 'static>(&self, name: &str, kept: T) {
        self.instance.kept.borrow_mut().insert(name.to_owned(), Box::new(kept));
    }

    /// Whether rows were held back at the node at work, to be taken together with others.
    pub(crate) fn hold<R: Clone + 'static>(&mut self, rows: &R) -> bool {
        let node = self.node;
        let Some((_, held)) = self.held.as_mut().filter(|(at, _)| *at == node) else { return false };
        held.push(Box::new(rows.clone()));
        true
    }

    /// Sends rows to all children of the node at work, one by one unless batches may go on.
    pub(crate) fn forward<R: Cut>(&mut self, rows: &R) -> Result<(), Failure> {
        self.each(rows, |run, rows| {
            let node = run.node;
            for &child in &run.instance.topology.nodes[node].children {
                run.visit(child, rows)?;
            }
            run.node = node;
            Ok(())
        })
    }

    /// Sends rows to one child, by its position among the children.
    pub(crate) fn forward_to<R: Cut>(&mut self, child: usize, rows: &R) -> Result<(), Failure> {
        self.each(rows, |run, rows| {
            let node = run.node;
            let result = run.visit(run.instance.topology.nodes[node].children[child], rows);
            run.node = node;
            result
        })
    }

    fn each<R: Cut>(
        &mut self,
        rows: &R,
        mut send: impl FnMut(&mut Self, &dyn Any) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match rows.len() {
            0 => Ok(()),
            count if count > 1 && !self.batched => {
                (0..count).try_for_each(|row| send(self, &rows.cut(&Rc::new(vec![contract::index(row)]))))
            }
            _ => send(self, rows),
        }
    }

    fn visit(&mut self, node: usize, rows: &dyn Any) -> Result<(), Failure> {
        self.node = node;
        match &self.instance.topology.nodes[node].kind {
            Kind::Inner { logic, .. } => logic.process(rows, self),
            Kind::Sink { logic, .. } => logic.process(rows, self),
            Kind::Source { .. } => unreachable!("a source has no parents"),
        }
    }

    /// The failure of the node at work on a row.
    pub(crate) fn failure(&self, fault: Fault, meta: &Meta, row: usize, message: impl ToString) -> Failure {
        let origin = meta.origins.get(row).copied().filter(|&origin| origin != UNKNOWN);
        self.failure_at(fault, origin, message)
    }

    pub(crate) fn failure_at(&self, fault: Fault, index: Option<u32>, message: impl ToString) -> Failure {
        Failure { fault, index, node: Some(self.current().name.clone()), message: message.to_string() }
    }

    pub(crate) fn dropped(&mut self, reason: &str, count: usize) {
        if count > 0 {
            let node = &self.instance.topology.nodes[self.node].name;
            self.host.dropped(node, reason, contract::index(count));
        }
    }

    /// How many partitions a topic has. The host is asked once in a call.
    pub(crate) fn partition_count(&mut self, topic: &str) -> Option<u32> {
        if let Some((_, count)) = self.partition_counts.iter().find(|(known, _)| known == topic) {
            return *count;
        }
        let count = self.host.partition_count(topic);
        self.partition_counts.push((topic.to_owned(), count));
        count
    }

    /// The position in the outputs of what goes to a topic.
    pub(crate) fn output(&mut self, topic: &str) -> usize {
        if let Some(position) = self.outputs.iter().position(|output| output.topic == topic) {
            return position;
        }
        self.outputs.push(Output {
            topic: topic.to_owned(),
            records: Batch {
                keys: empty_column(),
                values: empty_column(),
                timestamps: Vec::new(),
                headers: Vec::new(),
            },
            partitions: None,
            origins: Vec::new(),
        });
        self.outputs.len() - 1
    }

    /// The columns of an output, for the key and the value of a record to be written.
    pub(crate) fn columns(&mut self, output: usize) -> &mut Batch {
        &mut self.outputs[output].records
    }

    /// Ends records whose keys and values were written, all to be partitioned by key.
    pub(crate) fn finish_all(&mut self, output: usize, meta: &Meta) {
        let output = &mut self.outputs[output];
        if meta.headers.is_some() || output.partitions.is_some() || meta.origins.contains(&UNKNOWN) {
            (0..meta.timestamps.len()).for_each(|row| finish(output, meta, row, None));
            return;
        }
        output.records.timestamps.extend_from_slice(&meta.timestamps);
        output.origins.extend_from_slice(&meta.origins);
    }

    /// Ends a record whose key and value were written.
    pub(crate) fn finish(&mut self, output: usize, meta: &Meta, row: usize, partition: Option<i32>) {
        finish(&mut self.outputs[output], meta, row, partition);
    }
}

fn finish(output: &mut Output, meta: &Meta, row: usize, partition: Option<i32>) {
    let origin = meta.origins[row];
    let index = contract::index(output.records.timestamps.len());
    output.records.timestamps.push(meta.timestamps[row]);
    if origin != UNKNOWN {
        output.origins.push(origin);
    }
    if let Some(headers) = meta.headers(row) {
        output.records.headers.extend(headers.of_record(index));
    }
    if partition.is_some() && output.partitions.is_none() {
        output.partitions = Some(vec![BY_KEY; index as usize]);
    }
    if let Some(partitions) = &mut output.partitions {
        partitions.push(partition.unwrap_or(BY_KEY));
    }
}

/// Stands for the default partitioner among partitions that were chosen.
const BY_KEY: i32 = -1;
