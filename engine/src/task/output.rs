//! Owns what a module hands back: that it is well-formed, within its limits and meant for a topic the
//! graph writes, and that it reaches the log. Must not know how the log writes it.

use std::sync::Arc;

use super::{Settings, TaskSpec};
use crate::ports::{Fault, FaultKind, Partitions};
use crate::record::{Batch, Output};

/// Records on their way to a topic, named as in Kafka.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) topic: Arc<str>,
    partitions: Option<Vec<i32>>,
    pub(crate) records: Batch,
    /// Of each record, the row of the call's input it stems from. Empty: unknown.
    pub(crate) origins: Vec<u32>,
}

impl Outgoing {
    /// Records the host itself writes to a topic of Kafka's.
    pub(crate) fn of_host(topic: &str, records: Batch) -> Self {
        Self { topic: topic.into(), partitions: None, records, origins: Vec::new() }
    }

    pub(crate) fn partitions(&self) -> Partitions<'_> {
        self.partitions.as_deref().map_or(Partitions::ByKey, Partitions::Each)
    }
}

/// Checks what a call with `rows` rows handed back and finds its topics.
pub(crate) fn route(
    outputs: Vec<Output>,
    rows: usize,
    spec: &TaskSpec,
    settings: &Settings,
) -> Result<Vec<Outgoing>, Fault> {
    let bytes: usize = outputs.iter().map(|output| output.records.size()).sum();
    if bytes > settings.output_bytes {
        let message = format!("one call handed back {bytes} bytes, more than the {} allowed", settings.output_bytes);
        return Err(fault(FaultKind::Flood, None, message));
    }
    outputs.into_iter().map(|output| route_one(output, rows, spec)).collect()
}

fn route_one(output: Output, rows: usize, spec: &TaskSpec) -> Result<Outgoing, Fault> {
    let Output { topic, records, partitions, origins } = output;
    let count = records.len();
    let malformed = |what: &str| Err(fault(FaultKind::Trap, None, format!("output for {topic:?} with {what}")));
    if !records.check() {
        return malformed("malformed columns");
    }
    if !origins.is_empty() && (origins.len() != count || origins.iter().any(|&origin| origin as usize >= rows)) {
        return malformed("origins that are none");
    }
    // A single row is the origin of all that comes of it, whatever the module says.
    let origin = |index: usize| if rows == 1 { Some(0) } else { origins.get(index).map(|&origin| origin as usize) };
    let limit = spec.partition_counts.get(&topic).copied();
    if let Some(partitions) = &partitions {
        if partitions.len() != count {
            return malformed("another number of partitions than records");
        }
        let outside = |&partition: &i32| {
            partition < -1 || (partition >= 0 && limit.is_some_and(|limit| partition.unsigned_abs() >= limit))
        };
        if let Some(index) = partitions.iter().position(outside) {
            let message = format!("topic {topic} has no partition {}", partitions[index]);
            return Err(fault(FaultKind::Serialization, origin(index), message));
        }
    }
    if let Some(index) = records.timestamps.iter().position(|&timestamp| timestamp < 0) {
        let message = format!("a record for topic {topic} has the timestamp {}", records.timestamps[index]);
        return Err(fault(FaultKind::Serialization, origin(index), message));
    }
    let full_name = match spec.outputs.get(&topic) {
        Some(full_name) => full_name.clone(),
        None if spec.dynamic_sinks && !topic.is_empty() => topic.as_str().into(),
        None => {
            let message = format!("no sink of subtopology {} writes topic {topic:?}", spec.id.subtopology);
            return Err(fault(FaultKind::Processing, origin(0), message));
        }
    };
    Ok(Outgoing { topic: full_name, partitions, records, origins })
}

fn fault(kind: FaultKind, index: Option<usize>, message: String) -> Fault {
    Fault { index, ..Fault::new(kind, message) }
}
