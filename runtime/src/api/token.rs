//! Who may change something: whoever brings the token. Must not know what is changed.
//!
//! The token is read from its file for each request, so that a new one is in force as soon as it is there.

use std::io;
use std::path::Path;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use utoipa::Modify;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use super::Served;
use super::refusal::{Refusal, drain};

/// What the description calls the token.
const SCHEME: &str = "token";

/// Before every route that changes something, and before its body is read.
pub(super) async fn required(State(served): State<Served>, request: Request, next: Next) -> Response {
    match admit(served.token.as_deref(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => {
            let (head, body) = request.into_parts();
            drain(&head.headers, body).await;
            refused.into_response()
        }
    }
}

fn admit(file: Option<&Path>, headers: &HeaderMap) -> Result<(), Denied> {
    let Some(file) = file else { return Err(Denied::Off) };
    let token = read(file).map_err(|error| Denied::Unknown(format!("read the token: {error}")))?;
    let brought = headers.get(AUTHORIZATION).ok_or(Denied::Missing)?;
    let (scheme, brought) = brought.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Denied::Wrong)?;
    let right = brought.trim().as_bytes().ct_eq(token.as_bytes());
    if scheme.eq_ignore_ascii_case("bearer") && right.into() { Ok(()) } else { Err(Denied::Wrong) }
}

/// The token in a file; a line end after it does not count.
pub fn read(file: &Path) -> io::Result<String> {
    let named = |why: String| io::Error::other(format!("http.token.file is {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    match text.trim() {
        "" => Err(named("it is empty".to_owned())),
        token if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(token.to_owned()),
        _ => Err(named("a token is one word of ASCII letters, digits and signs".to_owned())),
    }
}

enum Denied {
    /// There is no token, so nobody may.
    Off,
    /// There should be one, but it can't be read.
    Unknown(String),
    Missing,
    Wrong,
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let unauthorized = |challenge, why: &str| {
            let mut response = Refusal::new(StatusCode::UNAUTHORIZED, why).into_response();
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            response
        };
        match self {
            Self::Off => Refusal::new(
                StatusCode::FORBIDDEN,
                "nothing can be changed over HTTP, because no token is configured: set http.token.file to a file that has \
                 one, and bring it as `Authorization: Bearer …`",
            )
            .into_response(),
            Self::Unknown(why) => {
                tracing::error!("{why}; changes over HTTP are refused");
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
            }
            Self::Missing => unauthorized(
                r#"Bearer realm="millrace""#,
                "this needs the token of http.token.file: bring it as `Authorization: Bearer …`",
            ),
            Self::Wrong => {
                tracing::warn!("a change over HTTP was refused: wrong token");
                unauthorized(
                    r#"Bearer realm="millrace", error="invalid_token""#,
                    "that is not the token of http.token.file",
                )
            }
        }
    }
}

/// Says in the description what the token is.
pub(super) struct Bearer;

impl Modify for Bearer {
    fn modify(&self, description: &mut OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        description.components.get_or_insert_default().add_security_scheme(SCHEME, scheme);
    }
}
