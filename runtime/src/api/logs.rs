//! `/v1/logs`: the last lines that the module wrote.

use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Served;
use super::refusal::Refusal;
use crate::status::Cut;

const PAGE_LINES: usize = 100;
/// With the longest lines 2 MiB.
const PAGE_LINES_MAX: usize = 500;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OfLog {
    /// Of this instance, by its `group.instance.id`. Without it the one that is asked.
    instance: Option<String>,
    /// Lines after the one of this number, the first of them. Without it the last ones.
    after: Option<u64>,
    /// Lines before the one of this number.
    before: Option<u64>,
    /// Most lines of the page, at most 500; else 100.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Log {
    instance: String,
    /// The number of the oldest line that is still there; null: nothing was written.
    oldest: Option<u64>,
    /// The number of the last line. If it is lower than one seen before, the instance was started again meanwhile.
    newest: Option<u64>,
    /// In their order.
    lines: Vec<Line>,
}

#[derive(Serialize, ToSchema)]
struct Line {
    /// Counts the lines of the instance since it started.
    number: u64,
    at_ms: u64,
    task: String,
    /// The beginning of the module's SHA-256.
    module: String,
    /// `stdout` or `stderr`.
    stream: &'static str,
    text: String,
}

/// What the module wrote last to stdout and stderr: at most 1000 lines are kept, of all tasks of an instance. The question is
/// passed on to another instance if it is about that and `http.peers` says how it is reached.
#[utoipa::path(get, path = "/v1/logs", params(OfLog), responses(
    (status = 200, description = "A page", body = Log),
    (status = 400, description = "A parameter makes no sense", body = Refusal),
    (status = 404, description = "The group has no such instance", body = Refusal),
    (status = 421, description = "It is to be asked itself", body = Refusal),
    (status = 500, description = "The group can't be asked for it", body = Refusal),
    (status = 503, description = "It does not answer, or the group does not", body = Refusal),
))]
pub(super) async fn show(
    State(served): State<Served>,
    uri: Uri,
    headers: HeaderMap,
    query: Result<Query<OfLog>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(OfLog { instance, after, before, limit }) = query?;
    let limit = limit.unwrap_or(PAGE_LINES);
    if !(1..=PAGE_LINES_MAX).contains(&limit) {
        return Err(Refusal::wrong(format!("limit must be from 1 to {PAGE_LINES_MAX}")));
    }
    match instance.filter(|instance| *instance != served.status.identity.instance) {
        Some(other) => served.answer_of(&other, &uri, &headers).await,
        None => Ok(Json(served.log(Cut { after, before, limit })).into_response()),
    }
}

impl Served {
    fn log(&self, cut: Cut) -> Log {
        let log = &self.status.guest_log;
        let lines = log.cut(cut).into_iter().map(|line| Line {
            number: line.number,
            at_ms: line
                .at
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            task: line.task.to_string(),
            module: line.module,
            stream: line.stream,
            text: line.text,
        });
        let instance = self.status.identity.instance.clone();
        let (oldest, newest) = log.ends().unzip();
        Log { instance, oldest, newest, lines: lines.collect() }
    }
}
