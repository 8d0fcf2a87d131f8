//! Where fetched records go: which task reads a partition, and the records gathered for it since
//! the last hand-over. Must not know how they are processed.

use std::collections::HashMap;
use std::sync::Arc;

use millrace_engine::record::{TaskId, TopicPartition};
use millrace_engine::task::Chunk;
use rdkafka::message::{BorrowedMessage, Message};

use crate::kafka::push;

use crate::traces::Traces;
use crate::worker::Spans;

/// One partition that is read for a task, and what was fetched of it.
pub(super) struct Route {
    pub(super) partition: TopicPartition,
    pub(super) task: TaskId,
    chunk: Chunk,
    bytes: usize,
    spans: Spans,
}

/// Bounds of one hand-over to a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// A gathered chunk on its way to a worker.
pub(super) struct Parcel {
    pub(super) task: TaskId,
    pub(super) partition: TopicPartition,
    pub(super) chunk: Chunk,
    pub(super) bytes: usize,
    pub(super) spans: Spans,
}

/// The routes of the current assignment.
pub(super) struct Routes {
    bounds: Bounds,
    traces: Traces,
    routes: Vec<Route>,
    by_topic: HashMap<Arc<str>, HashMap<u32, usize>>,
    /// Messages come in runs of one partition: the route of the last one is the first to try.
    last: usize,
    /// Routes with gathered records.
    open: Vec<usize>,
}

impl Routes {
    pub(super) fn new(bounds: Bounds, traces: Traces) -> Self {
        Self { bounds, traces, routes: Vec::new(), by_topic: HashMap::new(), last: 0, open: Vec::new() }
    }

    /// Forgets all routes and whatever was gathered: it will be fetched again.
    pub(super) fn clear(&mut self) {
        self.routes.clear();
        self.by_topic.clear();
        self.open.clear();
        self.last = 0;
    }

    pub(super) fn add(&mut self, partition: TopicPartition, task: TaskId) {
        let index = self.routes.len();
        self.by_topic.entry(partition.topic.clone()).or_default().insert(partition.partition, index);
        self.routes.push(Route { partition, task, chunk: Chunk::default(), bytes: 0, spans: Spans::new() });
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.routes.iter().map(|route| &route.partition)
    }

    pub(super) fn of_task(&self, task: TaskId) -> impl Iterator<Item = &TopicPartition> {
        self.routes.iter().filter(move |route| route.task == task).map(|route| &route.partition)
    }

    /// Gathers a message, and gives back the chunk that is full with it.
    pub(super) fn gather(&mut self, message: &BorrowedMessage<'_>) -> Option<Parcel> {
        let index = self.find(message.topic(), u32::try_from(message.partition()).ok()?)?;
        let route = &mut self.routes[index];
        if route.chunk.offsets.is_empty() {
            self.open.push(index);
        }
        let before = route.chunk.records.headers.len();
        route.bytes += push(&mut route.chunk, message);
        if self.traces.is_on() {
            let (headers, offset) = (&mut route.chunk.records.headers[before..], message.offset());
            let span = self.traces.fetched(headers, route.task, &route.partition, offset);
            route.spans.extend(span.map(|span| (offset, span)));
        }
        let full = route.chunk.offsets.len() >= self.bounds.records || route.bytes >= self.bounds.bytes;
        full.then(|| {
            self.open.retain(|open| *open != index);
            self.routes[index].parcel()
        })
    }

    /// A chunk that is not full, if records were gathered at all.
    pub(super) fn take_open(&mut self) -> Option<Parcel> {
        self.open.pop().map(|index| self.routes[index].parcel())
    }

    fn find(&mut self, topic: &str, partition: u32) -> Option<usize> {
        let last = self.routes.get(self.last)?;
        if last.partition.partition != partition || &*last.partition.topic != topic {
            self.last = *self.by_topic.get(topic)?.get(&partition)?;
        }
        Some(self.last)
    }
}

impl Route {
    fn parcel(&mut self) -> Parcel {
        Parcel {
            task: self.task,
            partition: self.partition.clone(),
            chunk: std::mem::take(&mut self.chunk),
            bytes: std::mem::take(&mut self.bytes),
            spans: std::mem::take(&mut self.spans),
        }
    }
}
