//! The probes: whether the process lives, and whether it can be relied upon.

use std::time::Duration;

use axum::extract::State as Extract;
use axum::http::StatusCode;

use super::Served;
use crate::status::State;

/// Kafka's `max.poll.interval.ms`: a member that has not polled for so long is in its group no more.
const STUCK: Duration = Duration::from_secs(300);

/// As long as the source goes round. What a restart can't mend (a broker that is away) is none of its business.
#[utoipa::path(get, path = "/healthz", responses(
    (status = 200, description = "It lives", body = String, content_type = "text/plain"),
    (status = 503, description = "It is stuck; the text says why", body = String, content_type = "text/plain"),
))]
pub(super) async fn live(Extract(served): Extract<Served>) -> (StatusCode, String) {
    let since = served.status.since_beat();
    // Before it joins the group it waits for brokers, with a deadline of its own.
    let joined = served.status.state() != State::Created;
    if joined && since > STUCK {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("nothing was polled for {} s\n", since.as_secs()));
    }
    (StatusCode::OK, "ok\n".to_owned())
}

/// When all tasks that the group has given to this instance run, or lack little.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "It can be relied upon", body = String, content_type = "text/plain"),
    (status = 503, description = "Not yet, or not any more; the text says why", body = String, content_type = "text/plain"),
))]
pub(super) async fn ready(Extract(served): Extract<Served>) -> (StatusCode, String) {
    match served.status.unready(served.acceptable_lag) {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
