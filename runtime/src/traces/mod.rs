//! Owns traces: spans of what an operator asks about and of single records, and their way to an OpenTelemetry collector
//! (OTLP over HTTP, as JSON). Must not know who has them made.
//!
//! **A record's trace goes on here** if its `traceparent` (W3C) says that it is sampled: a span begins when the record is
//! fetched, and is put into that header in place of its parent. So the module finds itself in that span, and whatever it
//! forwards names it, because headers are carried on. The span ends when the task is through with the record. Records that
//! are not sampled, and all of them when nothing is exported, are left as they are.

mod context;
mod span;
mod export;
#[cfg(test)]
mod tests;

pub use span::RecordSpan;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use millrace_engine::record::{Header, TaskId, TopicPartition};

use context::{Parent, SpanId, TraceId};
use export::Export;
use span::{Attribute, Kind, Span};

const TRACEPARENT: &str = "traceparent";

/// Where traces of one process go; cloning shares. By default nowhere.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Export>>);

impl Traces {
    /// To the collector at this address, by a thread of their own.
    pub fn to(endpoint: &str, application_id: &str, instance: &str) -> anyhow::Result<Self> {
        Ok(Self(Some(Arc::new(Export::start(endpoint, application_id, instance)?))))
    }

    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A span of something that has just ended, and took so long; a trace of its own.
    pub fn ended<const N: usize>(&self, name: &str, took: Duration, counts: [(&'static str, usize); N]) {
        let Some(export) = &self.0 else { return };
        let ended = SystemTime::now();
        export.take(Span {
            trace: TraceId::random(),
            id: SpanId::random(),
            parent: None,
            name: name.to_owned(),
            kind: Kind::Internal,
            began: ended - took,
            ended,
            attributes: counts.map(|(name, count)| (name, Attribute::Count(count as u64))).into(),
        });
    }

    /// Takes up the trace of a record that was fetched, with these headers, if it is sampled.
    pub fn fetched(
        &self,
        headers: &mut [Header],
        task: TaskId,
        partition: &TopicPartition,
        offset: i64,
    ) -> Option<RecordSpan> {
        let export = self.0.as_ref()?;
        let header = headers.iter_mut().find(|header| header.key == TRACEPARENT)?;
        let parent = Parent::parse(header.value.as_deref()?).filter(|parent| parent.is_sampled)?;
        let id = SpanId::random();
        header.value = Some(parent.child(id).into_bytes());
        Some(RecordSpan::new(Arc::clone(export), parent, id, task, partition.clone(), offset))
    }

    /// Exports what is left. Waits a few seconds at the most.
    pub fn stop(&self) {
        if let Some(export) = &self.0 {
            export.stop();
        }
    }
}
