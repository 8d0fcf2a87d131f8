//! Owns what the process serves over HTTP: health, metrics, what its tasks do and what their stores hold, and changes of
//! the module by who has a token. Must not know the record path, which writes what is served here into the status of the
//! process and into its stores.
//!
//! One thread, with a tokio runtime of its own, and a few that read stores. Nothing here can hold up a record, but a
//! commit for as long as one page of a store takes that is in memory.

mod tls;
mod refusal;
mod token;
mod catalog;
mod routing;
mod health;
mod metrics;
mod logs;
mod tasks;
mod instances;
mod topology;
mod stores;
mod versions;
mod module;
mod pause;
mod page;

use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use tokio::sync::{Semaphore, oneshot};
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::status::Status;
pub use catalog::{Blocks, Catalog, Catalogs, Owners, Range, Sizes, Stores};
use metrics::Metrics;
pub use module::{ActiveVersion, Denied, ModuleChange, ModuleInstance, ModuleOverview, ModuleVersion, Modules, Terms};
use refusal::Refusal;
use routing::Peers;
pub use tls::Tls;
use tls::TlsListener;
use token::Bearer;
pub use token::read as read_token;

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// No request has a larger body, but for a module: none of them needs one.
const BODY_BYTES: usize = 16 << 10;
/// Reads of stores at a time; further ones wait for their turn, or for the end of their time.
const READERS: usize = 8;
/// Questions under `/v1` at a time; who comes then is told to come again. Probes and metrics are always answered.
const QUESTIONS: usize = 128;
/// How long a stop waits for answers that are under way.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// What there is to serve.
pub struct Facts {
    pub status: Arc<Status>,
    /// A task that has at most so many records left to restore counts as ready.
    pub acceptable_lag: u64,
    /// How other instances are reached, their name left out as `{instance}`.
    pub peers: Option<String>,
    /// None: served without TLS.
    pub tls: Option<Tls>,
    /// Has the token that a change needs; none: nothing can be changed.
    pub token: Option<PathBuf>,
    pub modules: Arc<dyn Modules>,
    /// Set once the source topics are known.
    pub catalogs: Arc<Catalogs>,
}

/// The same for every request.
#[derive(Clone)]
struct Served {
    status: Arc<Status>,
    acceptable_lag: u64,
    metrics: Arc<Metrics>,
    catalogs: Arc<Catalogs>,
    peers: Arc<Peers>,
    token: Option<Arc<Path>>,
    modules: Arc<dyn Modules>,
    questions: Arc<Semaphore>,
    changes: Arc<Semaphore>,
}

/// The thread that serves.
pub struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Serves from now on.
    pub fn start(listen: SocketAddr, facts: Facts) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        // One more for the change of the module that may be under way.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(READERS + 1).build()?;
        let Facts { status, acceptable_lag, peers, tls, token, modules, catalogs } = facts;
        let tls = tls.map(Arc::new);
        let metrics = Arc::new(Metrics::new(&status, &catalogs));
        let peers = Arc::new(Peers::new(peers, tls.clone())?);
        let token = token.map(Arc::from);
        let (questions, changes) = (Arc::new(Semaphore::new(QUESTIONS)), Arc::new(Semaphore::new(1)));
        let served = Served { status, acceptable_lag, metrics, catalogs, peers, token, modules, questions, changes };
        let router = router(served);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(serve(listener, tls, router, stopped)) {
                tracing::error!(%error, "serve HTTP");
            }
            // A change of the module may wait for a broker that is away; it is made as a whole or not at all.
            runtime.shutdown_timeout(STOP_PATIENCE);
        })?;
        Ok(Self { address, stop, thread })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the HTTP thread panicked; its message is above");
        }
    }
}

async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    match tls {
        None => serve_on(listener, router, stopped).await,
        Some(tls) => {
            let listener = TlsListener::new(listener, Arc::clone(&tls))?;
            tokio::spawn(tls.follow());
            serve_on(listener, router, stopped).await;
        }
    }
    Ok(())
}

async fn serve_on<L: Listener<Addr: Debug>>(listener: L, router: Router, stopped: oneshot::Receiver<()>) {
    let (wind_down, winding_down) = oneshot::channel::<()>();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async {
        let _ = winding_down.await;
    });
    let serving = tokio::spawn(serving.into_future());
    // Either way it is over: a sender is never used but dropped.
    let _ = stopped.await;
    drop(wind_down);
    let _ = tokio::time::timeout(STOP_PATIENCE, serving).await;
}

/// What is served, as OpenAPI describes it: paths and their answers come of the handlers.
#[derive(OpenApi)]
#[openapi(info(
    title = "Millrace",
    description = "One instance of an application: its health, its metrics, its tasks."
), modifiers(&Bearer))]
struct Description;

/// What is asked and answered at once.
fn questions(served: &Served) -> OpenApiRouter<Served> {
    let questions = OpenApiRouter::new()
        .routes(routes!(logs::show))
        .routes(routes!(tasks::show))
        .routes(routes!(module::show))
        .routes(routes!(instances::show))
        .routes(routes!(topology::show))
        .routes(routes!(stores::list))
        .routes(routes!(stores::get))
        .routes(routes!(stores::scan))
        .layer(from_fn_with_state(served.clone(), in_turn));
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::show))
        .merge(questions)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_TIMEOUT))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
}

/// What changes something. It takes its time, and needs the token.
fn changes(served: &Served) -> OpenApiRouter<Served> {
    OpenApiRouter::new()
        .routes(routes!(module::push))
        .routes(routes!(module::activate))
        .routes(routes!(module::roll_back))
        .routes(routes!(pause::pause))
        .routes(routes!(pause::resume))
        .layer(from_fn_with_state(served.clone(), token::required))
}

async fn in_turn(State(served): State<Served>, question: Request, next: Next) -> Response {
    match served.questions.try_acquire() {
        Ok(_turn) => next.run(question).await,
        Err(_) => Refusal::later("too many questions at once").into_response(),
    }
}

fn router(served: Served) -> Router {
    let (router, description) = questions(&served).merge(changes(&served)).split_for_parts();
    router
        .merge(page::routes())
        .route("/v1/openapi.json", get(async move || Json(description)))
        .fallback(|| async { Refusal::absent("there is nothing under this path") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path can't be asked that way")
        })
        .with_state(served)
}

#[cfg(test)]
mod tests;
