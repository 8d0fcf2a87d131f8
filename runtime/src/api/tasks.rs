//! `/v1/tasks`: the instance, its tasks and how far they are.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Served;
use crate::status::{Stage, Status, TaskStatus};

#[derive(Serialize, ToSchema)]
pub(super) struct Instance {
    application_id: String,
    instance: String,
    version: &'static str,
    /// SHA-256 of the module.
    module: String,
    state: &'static str,
    /// By `/v1/pause`: nothing is processed.
    paused: bool,
    uptime_ms: u64,
    rebalances: u64,
    tasks: Vec<Task>,
}

#[derive(Serialize, ToSchema)]
struct Task {
    id: String,
    state: &'static str,
    /// The worker thread it runs in.
    worker: Option<usize>,
    /// What was processed since it came to this instance.
    records: u64,
    bytes: u64,
    punctuations: u64,
    dropped: u64,
    faults: BTreeMap<&'static str, u64>,
    stream_time_ms: Option<i64>,
    restored_records: u64,
    /// Records its stores lack, at the most; null: nobody knows yet.
    remaining_records: Option<u64>,
    inputs: Vec<Input>,
    guest: Guest,
}

#[derive(Serialize, ToSchema)]
struct Input {
    topic: String,
    partition: u32,
    /// The next record to process.
    position: Option<i64>,
    /// Where the partition ends.
    end: Option<i64>,
    lag: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct Guest {
    calls: u64,
    cpu_seconds: f64,
    memory_bytes: u64,
}

/// The instance and its tasks, those that it runs and those of which it keeps standbys.
#[utoipa::path(get, path = "/v1/tasks", responses((status = 200, description = "The instance", body = Instance)))]
pub(super) async fn show(State(served): State<Served>) -> Json<Instance> {
    Json(instance(&served.status))
}

pub(super) fn instance(status: &Status) -> Instance {
    let tasks = status.tasks().into_iter().map(|(id, stage, task)| self::task(id.to_string(), stage, &task));
    Instance {
        application_id: status.identity.application_id.clone(),
        instance: status.identity.instance.clone(),
        version: env!("CARGO_PKG_VERSION"),
        module: status.module(),
        state: status.state().name(),
        paused: status.is_paused(),
        uptime_ms: u64::try_from(status.uptime().as_millis()).unwrap_or(u64::MAX),
        rebalances: status.rebalances(),
        tasks: tasks.collect(),
    }
}

fn task(id: String, stage: Stage, task: &TaskStatus) -> Task {
    let (progress, restored) = (task.progress(), task.restored());
    let inputs = task.inputs().into_iter().map(|(at, progress)| Input {
        topic: at.topic.to_string(),
        partition: at.partition,
        position: progress.position.map(|offset| offset.0),
        end: progress.end.map(|offset| offset.0),
        lag: progress.lag(),
    });
    Task {
        id,
        state: stage.name(),
        worker: if let Stage::Running(worker) = stage { Some(worker) } else { None },
        records: progress.records,
        bytes: progress.bytes,
        punctuations: progress.punctuations,
        dropped: progress.dropped,
        faults: task.faults(),
        stream_time_ms: progress.stream_time_ms,
        restored_records: restored.records,
        remaining_records: restored.remaining,
        inputs: inputs.collect(),
        guest: Guest {
            calls: task.guest.calls(),
            cpu_seconds: task.guest.cpu().as_secs_f64(),
            memory_bytes: task.guest.memory_bytes(),
        },
    }
}
