//! Finds out who has a task, and passes a question on to that instance. Must not know what is asked.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use millrace_engine::ports::Error;
use millrace_engine::record::TaskId;
use tokio::sync::Mutex;

use super::Served;
use super::catalog::{Catalog, Known, Stores};
use super::refusal::Refusal;
use super::tls::Tls;
use crate::config::INSTANCE;
use crate::status::{Stage, State};
use crate::tls::{self, Trust};

/// Stands in what one instance asks another: it is not passed on again.
const PASSED_ON: &str = "millrace-passed-on";
/// How long an answer of the group is good for. What it sends to the wrong instance is asked anew.
const KNOWN_FOR: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const PEER_TIMEOUT: Duration = Duration::from_secs(4);

pub(super) enum Place {
    Here {
        /// Somebody else may have it by now, or the latest commits are missing.
        stale: bool,
    },
    Elsewhere,
}

/// The other instances.
pub(super) struct Peers {
    /// What an instance is reached by, its name left out.
    template: Option<String>,
    asked: Asked,
    /// Who has which task, and when the group said so.
    known: Mutex<Option<(Instant, BTreeMap<TaskId, String>)>>,
}

/// Whether another instance asks, which was asked itself.
pub(super) fn is_passed_on(headers: &HeaderMap) -> bool {
    headers.contains_key(PASSED_ON)
}

/// How they are asked, which is how they are served.
enum Asked {
    Plain(Client),
    Tls(Arc<Tls>),
}

pub(super) type Client = HyperClient<HttpsConnector<HttpConnector>, Body>;

pub(super) fn client(trust: &Trust<'_>) -> io::Result<Client> {
    let mut http = HttpConnector::new();
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.enforce_http(false);
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls::client(trust)?).https_or_http().enable_http1();
    Ok(HyperClient::builder(TokioExecutor::new()).build(connector.wrap_connector(http)))
}

impl Peers {
    pub(super) fn new(template: Option<String>, tls: Option<Arc<Tls>>) -> io::Result<Self> {
        let asked = match tls {
            Some(tls) => Asked::Tls(tls),
            None => Asked::Plain(client(&Trust::Nobody)?),
        };
        Ok(Self { template, asked, known: Mutex::default() })
    }

    pub(super) fn address(&self, instance: &str) -> Option<String> {
        self.template.as_ref().map(|template| template.replace(INSTANCE, instance))
    }

    pub(super) async fn ask(&self, address: &str, question: &Uri) -> Result<Response, String> {
        let path = question.path_and_query().map_or("/", |path| path.as_str());
        let (scheme, client) = match &self.asked {
            Asked::Plain(client) => ("http", client.clone()),
            Asked::Tls(tls) => ("https", tls.client()),
        };
        let request = Request::get(format!("{scheme}://{address}{path}"))
            .header(PASSED_ON, HeaderValue::from_static("1"))
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(PEER_TIMEOUT, client.request(request));
        match answer.await {
            Ok(Ok(answer)) => Ok(answer.into_response()),
            // With what it came of: that says what is wrong with a certificate.
            Ok(Err(error)) => Err(format!("{:#}", anyhow::Error::from(error))),
            Err(_) => Err(format!("no answer in {} s", PEER_TIMEOUT.as_secs())),
        }
    }
}

impl Served {
    pub(super) fn catalog(&self) -> Result<Arc<Catalog>, Refusal> {
        self.catalogs
            .get()
            .ok_or_else(|| Refusal::later("the instance is starting: it waits for brokers and source topics"))
    }

    /// Whether a task can be asked here; `stale`: also if it does not run here.
    pub(super) fn place(&self, task: TaskId, stale: bool) -> Place {
        match self.status.stage(task) {
            Some(Stage::Running(_)) => Place::Here { stale: false },
            // It has what was committed last, unless somebody else has taken it up already.
            Some(Stage::Suspended) => Place::Here { stale: true },
            Some(Stage::Restoring | Stage::Standby) if stale => Place::Here { stale: true },
            _ => Place::Elsewhere,
        }
    }

    /// Whether a store can be asked here for what a task has; a global one is here as soon as it is filled.
    pub(super) fn place_of(&self, known: &Known<'_>, task: TaskId, stale: bool) -> Result<Place, Refusal> {
        if !known.global {
            return Ok(self.place(task, stale));
        }
        match self.status.state() {
            State::Created if !stale => Err(Refusal::later("the global stores are being filled")),
            state => Ok(Place::Here { stale: state == State::Created }),
        }
    }

    /// Reads stores away from the thread that serves.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Stores) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let stores = Arc::clone(&self.catalog()?.stores);
        let done = tokio::task::spawn_blocking(move || read(&*stores)).await;
        let failed = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the read panicked; the log has its message");
        Ok(done.map_err(failed)??)
    }

    /// Asks the instance that has the task, and hands its answer back.
    pub(super) async fn pass_on(&self, task: TaskId, uri: &Uri, headers: &HeaderMap) -> Result<Response, Refusal> {
        if is_passed_on(headers) {
            return Err(Refusal::elsewhere(None, format!("task {task} does not run here")));
        }
        let mut why = "the group is being rebalanced".to_owned();
        for anew in [false, true] {
            let Some(owner) = self.owner(task, anew).await? else { continue };
            if owner == self.status.identity.instance {
                why = "it is being restored".to_owned();
                continue;
            }
            let Some(address) = self.peers.address(&owner) else {
                let remedy = "ask there, or set http.peers to have such questions passed on";
                return Err(Refusal::elsewhere(
                    Some(owner.clone()),
                    format!("task {task} runs at instance {owner}: {remedy}"),
                ));
            };
            match self.peers.ask(&address, uri).await {
                Ok(answer) if answer.status() == StatusCode::MISDIRECTED_REQUEST => {
                    why = format!("instance {owner} does not run it yet, or not any more");
                }
                Ok(answer) => return Ok(answer),
                Err(error) => why = format!("instance {owner} does not answer at {address}: {error}"),
            }
        }
        Err(Refusal::later(format!("task {task} can't be asked at the moment: {why}")))
    }

    /// The instance that has the task, as the group says, or said a moment ago.
    async fn owner(&self, task: TaskId, anew: bool) -> Result<Option<String>, Refusal> {
        let mut known = self.peers.known.lock().await;
        if let Some((at, owners)) = known.as_ref()
            && !anew
            && at.elapsed() < KNOWN_FOR
        {
            return Ok(owners.get(&task).cloned());
        }
        let owners = Arc::clone(&self.catalog()?.owners);
        let asked = tokio::task::spawn_blocking(move || owners.ask()).await;
        let failed =
            |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the question panicked; the log has its message");
        let owners = asked.map_err(failed)??;
        let owner = owners.get(&task).cloned();
        *known = Some((Instant::now(), owners));
        Ok(owner)
    }
}
