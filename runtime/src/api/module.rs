//! `/v1/module`: versions of the module, and which one is active. Must not know where they are kept, nor how a component
//! is checked.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Served;
use super::refusal::{Refusal, drain};

/// How long a component may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);

/// What is known of versions, and changes of what is active. Each change asks brokers and takes its time.
pub trait Modules: Send + Sync {
    fn known(&self) -> ModuleOverview;
    /// No component may have more bytes.
    fn most_bytes(&self) -> usize;
    fn push(&self, component: &[u8], terms: Terms, note: Option<String>) -> Result<ModuleChange, Denied>;
    fn activate(&self, version: u64, terms: Terms) -> Result<ModuleChange, Denied>;
    fn roll_back(&self, reason: String) -> Result<ModuleChange, Denied>;
}

/// How a version is to become active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Differences of the topology that are accepted, by their names.
    pub allow: Vec<String>,
    /// Tasks that it is to run on first.
    pub canary: Option<u32>,
}

/// Why a change was not made, by what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The component is none, or does not fit this host or this cluster.
    Wrong(String),
    /// There is no such version.
    Absent(String),
    /// It does not fit what is there now.
    Conflict(String),
    /// Brokers are away.
    Later(String),
    Failed(String),
}

/// What is known of the module and its versions.
#[derive(Serialize, ToSchema)]
pub struct ModuleOverview {
    /// `module.source` of the configuration; there are versions if it is `uploaded`.
    pub source: String,
    /// Null: none is, or it is not known yet.
    pub active: Option<ActiveVersion>,
    /// In the order they were pushed.
    pub versions: Vec<ModuleVersion>,
    pub instances: Vec<ModuleInstance>,
}

#[derive(Serialize, ToSchema)]
pub struct ActiveVersion {
    pub version: u64,
    /// What a rollback goes back to.
    pub previous: Option<u64>,
    /// Tasks that it runs on; null: on all.
    pub canary: Option<u32>,
    /// `pushed`, `activated`, `promoted` or `rolled back`.
    pub reason: &'static str,
    pub at_ms: i64,
}

#[derive(Serialize, ToSchema)]
pub struct ModuleVersion {
    pub version: u64,
    /// SHA-256 of the component.
    pub digest: String,
    pub bytes: u64,
    pub contract: String,
    pub pushed_at_ms: i64,
    pub note: Option<String>,
    /// Why it was taken back, if it was.
    pub rolled_back: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct ModuleInstance {
    pub instance: String,
    pub version: u64,
    /// What it runs on some tasks.
    pub canary: Option<u64>,
    pub since_ms: i64,
    /// How long its tasks stood still to take the version up; null: it started with it.
    pub pause_ms: Option<f64>,
    /// Why it does not run the active version.
    pub problem: Option<String>,
}

/// A change that was made, or that was not needed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ModuleChange {
    /// The version that is active now.
    pub version: u64,
    /// What was done.
    pub done: String,
    /// In what its topology differs from the one before.
    pub differences: Vec<String>,
}

/// A WebAssembly component.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it stands for the body in the description")]
pub(super) struct Component(Vec<u8>);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Pushed {
    /// Differences of the topology that are accepted, as the refusal names them, with commas: `store:counts`.
    #[serde(default)]
    allow: String,
    /// Run it on so many tasks first; on all when it has come through its trial there.
    #[param(minimum = 1)]
    canary: Option<u32>,
    /// What the version is, for people.
    note: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Activated {
    version: u64,
    /// Differences of the topology that are accepted, as the refusal names them, with commas: `store:counts`.
    #[serde(default)]
    allow: String,
    /// Run it on so many tasks first; on all when it has come through its trial there.
    #[param(minimum = 1)]
    canary: Option<u32>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RolledBack {
    /// Why, for people.
    reason: Option<String>,
}

/// The module, its versions and what each instance runs.
#[utoipa::path(get, path = "/v1/module", responses((status = 200, description = "What is known", body = ModuleOverview)))]
pub(super) async fn show(State(served): State<Served>) -> Json<ModuleOverview> {
    Json(served.modules.known())
}

/// Stores a component as the next version and makes it active: instances take it up while they run.
#[utoipa::path(put, path = "/v1/module", params(Pushed), security(("token" = [])),
    request_body(content((Component = "application/wasm"), (Component = "application/octet-stream"))),
    responses(
        (status = 200, description = "It is active", body = ModuleChange),
        (status = 400, description = "The component or a parameter makes no sense", body = Refusal),
        (status = 401, description = "The token is missing or wrong", body = Refusal),
        (status = 403, description = "No token is configured", body = Refusal),
        (status = 409, description = "It does not fit what is active: the text names the differences to allow", body = Refusal),
        (status = 413, description = "It is too large", body = Refusal),
        (status = 503, description = "Brokers are away, or another change is being made", body = Refusal),
    )
)]
pub(super) async fn push(
    State(served): State<Served>,
    query: Result<Query<Pushed>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ModuleChange>, Refusal> {
    let Query(Pushed { allow, canary, note }) = query?;
    let terms = terms(&allow, canary)?;
    let turn = match served.turn() {
        Ok(turn) => turn,
        Err(refusal) => {
            drain(&headers, body).await;
            return Err(refusal);
        }
    };
    let most = served.modules.most_bytes();
    let component = tokio::time::timeout(BODY_TIMEOUT, component(&headers, body, most)).await;
    let late =
        |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("it did not come in {} s", BODY_TIMEOUT.as_secs()));
    let component = component.map_err(late)??;
    served.change(turn, move |modules| modules.push(&component, terms, note)).await
}

/// Makes a stored version active; one that runs on some tasks is run on all.
#[utoipa::path(post, path = "/v1/module/activate", params(Activated), security(("token" = [])), responses(
    (status = 200, description = "It is active", body = ModuleChange),
    (status = 400, description = "A parameter makes no sense, or the version can't be run any more", body = Refusal),
    (status = 401, description = "The token is missing or wrong", body = Refusal),
    (status = 403, description = "No token is configured", body = Refusal),
    (status = 404, description = "There is no such version", body = Refusal),
    (status = 409, description = "It does not fit what is active: the text names the differences to allow", body = Refusal),
    (status = 503, description = "Brokers are away, or another change is being made", body = Refusal),
))]
pub(super) async fn activate(
    State(served): State<Served>,
    query: Result<Query<Activated>, QueryRejection>,
) -> Result<Json<ModuleChange>, Refusal> {
    let Query(Activated { version, allow, canary }) = query?;
    let terms = terms(&allow, canary)?;
    let turn = served.turn()?;
    served.change(turn, move |modules| modules.activate(version, terms)).await
}

/// Makes the version active that was so before.
#[utoipa::path(post, path = "/v1/module/rollback", params(RolledBack), security(("token" = [])), responses(
    (status = 200, description = "The version before is active again", body = ModuleChange),
    (status = 400, description = "A parameter makes no sense", body = Refusal),
    (status = 401, description = "The token is missing or wrong", body = Refusal),
    (status = 403, description = "No token is configured", body = Refusal),
    (status = 409, description = "There is no version to go back to", body = Refusal),
    (status = 503, description = "Brokers are away, or another change is being made", body = Refusal),
))]
pub(super) async fn roll_back(
    State(served): State<Served>,
    query: Result<Query<RolledBack>, QueryRejection>,
) -> Result<Json<ModuleChange>, Refusal> {
    let Query(RolledBack { reason }) = query?;
    let turn = served.turn()?;
    let reason = reason.unwrap_or_else(|| "by hand, over HTTP".to_owned());
    served.change(turn, move |modules| modules.roll_back(reason)).await
}

fn terms(allow: &str, canary: Option<u32>) -> Result<Terms, Refusal> {
    if canary == Some(0) {
        return Err(Refusal::wrong("canary is a number of tasks, 1 or more"));
    }
    let allow = allow.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Ok(Terms { allow, canary })
}

/// The body, as long as it is no larger than a component may be.
async fn component(headers: &HeaderMap, mut body: Body, most: usize) -> Result<Vec<u8>, Refusal> {
    let too_large = || {
        let most = most >> 20;
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the component has more than {most} MiB, which is the most: build it without debug information (strip = true), \
                 and keep data in topics"
            ),
        )
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > most) {
        return Err(too_large());
    }
    let mut component = Vec::with_capacity(announced.unwrap_or_default());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| Refusal::wrong(format!("the component broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > most - component.len() {
            return Err(too_large());
        }
        component.extend_from_slice(&data);
    }
    Ok(component)
}

impl Served {
    /// One change at a time: a component may be large.
    fn turn(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Refusal> {
        let taken = |_| Refusal::later("another change of the module is being made at this instance");
        Arc::clone(&self.changes).try_acquire_owned().map_err(taken)
    }

    /// Makes a change away from the thread that serves. It goes on if the one who asked for it has left.
    async fn change(
        &self,
        turn: tokio::sync::OwnedSemaphorePermit,
        change: impl FnOnce(&dyn Modules) -> Result<ModuleChange, Denied> + Send + 'static,
    ) -> Result<Json<ModuleChange>, Refusal> {
        let modules = Arc::clone(&self.modules);
        let made = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let made = change(&*modules);
            match &made {
                Ok(change) => tracing::info!(version = change.version, "asked over HTTP: {}", change.done),
                Err(denied) => tracing::warn!("refused over HTTP: {}", denied.why()),
            }
            made
        });
        let failed =
            |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the change panicked; the log has its message");
        Ok(Json(made.await.map_err(failed)??))
    }
}

impl Denied {
    fn why(&self) -> &str {
        match self {
            Self::Wrong(why) | Self::Absent(why) | Self::Conflict(why) | Self::Later(why) | Self::Failed(why) => why,
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Wrong(why) => Self::wrong(why),
            Denied::Absent(why) => Self::absent(why),
            Denied::Conflict(why) => Self::new(StatusCode::CONFLICT, why),
            Denied::Later(why) => Self::later(why),
            Denied::Failed(why) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, why),
        }
    }
}
