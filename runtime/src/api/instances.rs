//! `/v1/instances`: what all instances of the application say of their tasks, asked by one of them.

use std::sync::Arc;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;
use utoipa::ToSchema;

use super::refusal::Refusal;
use super::routing::is_passed_on;
use super::{Served, tasks};

/// Of the answer of one instance: some hundred bytes for each task.
const ANSWER_BYTES: usize = 16 << 20;

#[derive(Serialize, ToSchema)]
pub(super) struct Instances {
    /// How many members the group has; null: the broker does not know, as the one of `millrace dev`.
    members: Option<usize>,
    /// Those that are known by a name that they can be asked by, this one first.
    instances: Vec<Told>,
}

#[derive(Serialize, ToSchema)]
struct Told {
    /// Its `group.instance.id`, else what it calls itself.
    instance: String,
    /// What it says under `/v1/tasks`; null: it was not reached.
    #[schema(value_type = Option<tasks::Instance>)]
    told: Value,
    /// Why it was not reached.
    error: Option<String>,
}

/// All instances of the application and their tasks. Others are asked if `http.peers` says how they are reached.
#[utoipa::path(get, path = "/v1/instances", responses(
    (status = 200, description = "The instances", body = Instances),
    (status = 500, description = "The group can't be asked", body = Refusal),
    (status = 503, description = "Not yet: the instance is starting, or the group does not answer", body = Refusal),
))]
pub(super) async fn show(State(served): State<Served>) -> Result<Json<Instances>, Refusal> {
    let members = served.members().await?;
    let own = served.status.identity.instance.clone();
    let told = serde_json::to_value(tasks::instance(&served.status)).map_err(|error| Refusal::internal(&error))?;
    let mut instances = vec![Told { instance: own.clone(), told, error: None }];
    // Who is not known by its own name has none that could be asked for.
    if let Some(members) = members.as_ref().filter(|members| members.contains(&own)) {
        let mut asking = JoinSet::new();
        for other in members.iter().filter(|member| **member != own).cloned() {
            let served = served.clone();
            asking.spawn(async move { served.ask(other).await });
        }
        let mut others = asking.join_all().await;
        others.sort_by(|a, b| a.instance.cmp(&b.instance));
        instances.extend(others);
    }
    Ok(Json(Instances { members: members.map(|members| members.len()), instances }))
}

impl Served {
    /// All members of the group; `None`: the broker does not know.
    async fn members(&self) -> Result<Option<Vec<String>>, Refusal> {
        let owners = Arc::clone(&self.catalog()?.owners);
        let asked = tokio::task::spawn_blocking(move || owners.instances()).await;
        Ok(asked.map_err(|error| Refusal::internal(&error))??)
    }

    /// Has another instance answer what it was asked for by its name.
    pub(super) async fn answer_of(
        &self,
        instance: &str,
        question: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        if is_passed_on(headers) {
            return Err(Refusal::elsewhere(None, format!("this is not instance {instance}")));
        }
        // Whoever asks must not be able to name just any host.
        let members = self.members().await?;
        if !members.iter().flatten().any(|member| member == instance) {
            let known = members.map(|members| format!("the group has: {}", members.join(", ")));
            let known = known.unwrap_or_else(|| "the broker does not know who is in the group".to_owned());
            return Err(Refusal::absent(format!("there is no instance {instance}; {known}")));
        }
        let address = self.peers.address(instance).ok_or_else(|| {
            let remedy = "ask there, or set http.peers to have such questions passed on";
            Refusal::elsewhere(Some(instance.to_owned()), format!("that is instance {instance}'s to answer: {remedy}"))
        })?;
        let answer = self.peers.ask(&address, question).await;
        answer.map_err(|error| Refusal::later(format!("instance {instance} does not answer at {address}: {error}")))
    }

    async fn ask(&self, instance: String) -> Told {
        let answer = async {
            let address = self.peers.address(&instance).ok_or("http.peers does not say how it is reached")?;
            let answer = self.peers.ask(&address, &Uri::from_static("/v1/tasks")).await?;
            let status = answer.status();
            let body = to_bytes(answer.into_body(), ANSWER_BYTES).await.map_err(|error| error.to_string())?;
            if !status.is_success() {
                return Err(format!("{address} answers with {status}"));
            }
            serde_json::from_slice(&body).map_err(|error| format!("{address} answers with something else: {error}"))
        };
        match answer.await {
            Ok(told) => Told { instance, told, error: None },
            Err(error) => Told { instance, told: Value::Null, error: Some(error) },
        }
    }
}
