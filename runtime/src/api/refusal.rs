//! An answer that says why there is no other, always in the same form.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::rejection::QueryRejection;
use axum::http::header::{EXPECT, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use millrace_engine::ports::Error;
use serde::Serialize;
use utoipa::ToSchema;

/// What is read of a body that nobody wants, and for how long: that of most modules.
const UNWANTED_BYTES: usize = 8 << 20;
const UNWANTED_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads what nobody wants before a refusal is sent: who is still sending then would see a broken connection, not the
/// reason. Who asks first whether to send (`Expect`) has not begun.
pub(super) async fn drain(headers: &HeaderMap, mut body: Body) {
    if headers.contains_key(EXPECT) {
        return;
    }
    let mut left = UNWANTED_BYTES;
    let all = async {
        while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            match left.checked_sub(frame.data_ref().map_or(0, |data| data.len())) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // It is refused in any case.
    let _ = tokio::time::timeout(UNWANTED_TIMEOUT, all).await;
}

/// Why there is no other answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refusal {
    error: String,
    /// The instance that could answer, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip)]
    status: StatusCode,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { error: error.into(), instance: None, status }
    }

    /// What was asked makes no sense.
    pub(super) fn wrong(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn absent(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// The same question may be answered a moment later.
    pub(super) fn later(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }

    /// A fault of ours.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    /// Another instance could answer.
    pub(super) fn elsewhere(instance: Option<String>, error: impl Into<String>) -> Self {
        Self { instance, ..Self::new(StatusCode::MISDIRECTED_REQUEST, error) }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Retry(why) | Error::Fenced(why) => Self::later(why),
            other => Self::new(StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
        }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::wrong(rejection.body_text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
