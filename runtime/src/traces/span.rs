//! A span that is over, and the one of a record, until the task is through with that. Must not know how spans are sent.

use std::sync::Arc;
use std::time::SystemTime;

use millrace_engine::record::{TaskId, TopicPartition};

use super::context::{Parent, SpanId, TraceId};
use super::export::Export;

/// By OTLP's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Internal = 1,
    Consumer = 5,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    Text(String),
    Count(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) began: SystemTime,
    pub(super) ended: SystemTime,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
}

/// One that is dropped was given up: the record is fetched again by whoever has the task then, and only that is told.
pub struct RecordSpan {
    export: Arc<Export>,
    parent: Parent,
    id: SpanId,
    task: TaskId,
    partition: TopicPartition,
    offset: i64,
    began: SystemTime,
}

impl RecordSpan {
    pub(super) fn new(
        export: Arc<Export>,
        parent: Parent,
        id: SpanId,
        task: TaskId,
        partition: TopicPartition,
        offset: i64,
    ) -> Self {
        Self { export, parent, id, task, partition, offset, began: SystemTime::now() }
    }

    /// The task is through with the record, and goes on behind it.
    pub fn processed(self) {
        let Self { export, parent, id, task, partition, offset, began } = self;
        let attributes = vec![
            ("messaging.system", Attribute::Text("kafka".to_owned())),
            ("messaging.operation.type", Attribute::Text("process".to_owned())),
            ("messaging.destination.name", Attribute::Text(partition.topic.to_string())),
            ("messaging.destination.partition.id", Attribute::Text(partition.partition.to_string())),
            ("messaging.kafka.offset", Attribute::Count(offset.unsigned_abs())),
        ];
        export.take(Span {
            trace: parent.trace,
            id,
            parent: Some(parent.span),
            name: format!("process {task}"),
            kind: Kind::Consumer,
            began,
            ended: SystemTime::now(),
            attributes,
        });
    }
}
