//! The web page at `/`: a few files in the binary, which read what is under `/v1`. Nothing of it comes from elsewhere.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::IntoResponse;
use axum::routing::get;

use super::Served;

/// What comes from records can't become script, and nobody else is asked for anything.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const SCRIPTS: [(&str, &str); 7] = [
    ("/page.js", include_str!("page/page.js")),
    ("/element.js", include_str!("page/element.js")),
    ("/instances.js", include_str!("page/instances.js")),
    ("/modules.js", include_str!("page/modules.js")),
    ("/topology.js", include_str!("page/topology.js")),
    ("/stores.js", include_str!("page/stores.js")),
    ("/log.js", include_str!("page/log.js")),
];

pub(super) fn routes() -> Router<Served> {
    let page = Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("page/index.html"))))
        .route("/page.css", get(async || file("text/css; charset=utf-8", include_str!("page/page.css"))));
    SCRIPTS.into_iter().fold(page, |page, (path, script)| {
        page.route(path, get(async move || file("text/javascript; charset=utf-8", script)))
    })
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Another version may serve the next page.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}
