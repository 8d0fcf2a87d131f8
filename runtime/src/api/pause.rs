//! `/v1/pause` and `/v1/resume`: has the instance stop processing, and go on. Must not know how.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Served;
use super::refusal::Refusal;

#[derive(Serialize, ToSchema)]
pub(super) struct Paused {
    instance: String,
    paused: bool,
}

/// Has this instance process nothing, punctuate nothing, restore nothing and keep no standby up from now on. It stays a member
/// of its group with its tasks, and what was processed is committed. A restart forgets it.
#[utoipa::path(post, path = "/v1/pause", security(("token" = [])), responses(
    (status = 200, description = "It is paused, or was already", body = Paused),
    (status = 401, description = "The token is missing or wrong", body = Refusal),
    (status = 403, description = "No token is configured", body = Refusal),
))]
pub(super) async fn pause(State(served): State<Served>) -> Json<Paused> {
    served.pause(true)
}

/// Has this instance go on.
#[utoipa::path(post, path = "/v1/resume", security(("token" = [])), responses(
    (status = 200, description = "It goes on, or did already", body = Paused),
    (status = 401, description = "The token is missing or wrong", body = Refusal),
    (status = 403, description = "No token is configured", body = Refusal),
))]
pub(super) async fn resume(State(served): State<Served>) -> Json<Paused> {
    served.pause(false)
}

impl Served {
    fn pause(&self, paused: bool) -> Json<Paused> {
        if self.status.pause(paused) {
            tracing::warn!("asked over HTTP: {}", if paused { "paused" } else { "resumed" });
        }
        Json(Paused { instance: self.status.identity.instance.clone(), paused })
    }
}
