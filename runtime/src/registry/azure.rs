//! Signs in at an Azure Container Registry as what the pod is in Azure. Must not know what is pulled, or by whom.
//!
//! Kubernetes vouches for the pod's service account with a token in a file. Azure's authority takes that for one of the
//! identity that trusts this service account, the registry that one for one of its own, which is the password.

use millrace_engine::ports::Error;
use oci_client::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, redirect};
use serde_json::Value;

use super::problem::{chain, distrusted, fatal};
use super::{CONNECT_TIMEOUT, Credentials, READ_TIMEOUT, TOKEN_USER, is_loopback};
use crate::config::WorkloadIdentity;
use crate::tls::choose_provider;

const SCOPE: &str = "https://containerregistry.azure.net/.default";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Public, China, US Government.
const HOSTS: &[&str] = &[".azurecr.io", ".azurecr.cn", ".azurecr.us"];
/// Of an answer; what is larger is no token.
const MOST_BYTES: usize = 64 << 10;
/// Of an answer that is shown.
const MOST_SHOWN: usize = 500;

/// Nobody else is told who the pod is.
pub(super) fn is_azure(registry: &str) -> bool {
    HOSTS.iter().any(|suffix| registry.ends_with(suffix))
}

pub(super) async fn credentials(registry: &str, identity: &WorkloadIdentity) -> Result<Credentials, Error> {
    let client = client().map_err(|error| fatal(format!("sign in at {registry}: {}", chain(&error))))?;
    let access = access_token(&client, identity).await?;
    let password = refresh_token(&client, registry, identity, &access).await?;
    Ok(Credentials {
        auth: RegistryAuth::Basic(TOKEN_USER.to_owned(), password),
        brought: format!("a token of the workload identity {}", identity.client_id),
        remedy: pull_right(registry, identity),
    })
}

fn client() -> reqwest::Result<Client> {
    choose_provider();
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // A redirection would take a token to somebody else.
    let client = Client::builder().redirect(redirect::Policy::none()).default_headers(headers);
    client.connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build()
}

/// The authority's, for registries.
async fn access_token(client: &Client, identity: &WorkloadIdentity) -> Result<String, Error> {
    let WorkloadIdentity { client_id, tenant_id, authority, token_file } = identity;
    let assertion = std::fs::read_to_string(token_file).map_err(|error| {
        fatal(format!(
            "the token of the pod's service account, {} (AZURE_FEDERATED_TOKEN_FILE), can't be read: {error}; see whether the \
             pod was made by a cluster with workload identities, and runs as a user who may read it",
            token_file.display()
        ))
    })?;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client_id.as_str()),
        ("scope", SCOPE),
        ("client_assertion_type", ASSERTION),
        ("client_assertion", assertion.trim()),
    ];
    let url = format!("{}/{tenant_id}/oauth2/v2.0/token", authority.trim_end_matches('/'));
    let place = format!("the authority {authority}");
    let answer = Answer::of(&place, client.post(url).form(&form).send().await).await?;
    answer.token(&place, "access_token", || {
        format!(
            "does not take the pod's service account for the identity {client_id} of the tenant {tenant_id}: {}; the identity \
             needs a federated credential with the cluster's issuer and the subject system:serviceaccount:NAMESPACE:NAME (`az \
             identity federated-credential list`), and the service account its client id as azure.workload.identity/client-id",
            answer.said()
        )
    })
}

/// The registry's, for this identity.
async fn refresh_token(
    client: &Client,
    registry: &str,
    identity: &WorkloadIdentity,
    access: &str,
) -> Result<String, Error> {
    let form = [
        ("grant_type", "access_token"),
        ("service", registry),
        ("tenant", identity.tenant_id.as_str()),
        ("access_token", access),
    ];
    let scheme = if is_loopback(registry) { "http" } else { "https" };
    let place = format!("the registry {registry}");
    let sent = client.post(format!("{scheme}://{registry}/oauth2/exchange")).form(&form).send().await;
    let answer = Answer::of(&place, sent).await?;
    answer.token(&place, "refresh_token", || match answer.code {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!(
            "denies the workload identity {} ({}). {}",
            identity.client_id,
            answer.said(),
            pull_right(registry, identity)
        ),
        code => format!("gives no token to the workload identity {}: {code}, {}", identity.client_id, answer.said()),
    })
}

fn pull_right(registry: &str, identity: &WorkloadIdentity) -> String {
    format!(
        "Give the identity the right to pull: `az role assignment create --assignee {} --role AcrPull --scope ID`, with the ID \
         of {registry} that `az acr show --query id` prints; it may take minutes to have an effect",
        identity.client_id
    )
}

struct Answer {
    code: StatusCode,
    bytes: Vec<u8>,
}

impl Answer {
    async fn of(place: &str, sent: reqwest::Result<Response>) -> Result<Self, Error> {
        let away = |error: reqwest::Error| {
            let away = || Error::Retry(format!("{place} can't be asked: {}", chain(&error)));
            distrusted(place, &error).unwrap_or_else(away)
        };
        let mut response = sent.map_err(away)?;
        let (code, mut bytes) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            if bytes.len() + chunk.len() > MOST_BYTES {
                return Err(fatal(format!(
                    "{place} answers with more than {} KiB: it is something else",
                    MOST_BYTES >> 10
                )));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Self { code, bytes })
    }

    /// What it has under this name, or why not; `refused` says so for an answer that a later attempt would not change.
    fn token(&self, place: &str, name: &str, refused: impl Fn() -> String) -> Result<String, Error> {
        if self.code.is_server_error() || self.code == StatusCode::TOO_MANY_REQUESTS {
            return Err(Error::Retry(format!("{place} gives no token now: {}, {}", self.code, self.said())));
        }
        if !self.code.is_success() {
            return Err(fatal(format!("{place} {}", refused())));
        }
        let answer = serde_json::from_slice::<Value>(&self.bytes).unwrap_or_default();
        let token = answer[name].as_str().map(str::to_owned);
        token.ok_or_else(|| fatal(format!("{place} answers without {name}: look for who stands between")))
    }

    /// Why there is none, in its own words.
    fn said(&self) -> String {
        let answer = serde_json::from_slice::<Value>(&self.bytes).unwrap_or_default();
        let told = answer["error_description"].as_str().or_else(|| answer["errors"][0]["message"].as_str());
        let text = told.map_or_else(|| String::from_utf8_lossy(&self.bytes), Into::into);
        // Traces and times follow on further lines.
        let line: String = text.lines().next().unwrap_or_default().chars().take(MOST_SHOWN).collect();
        if line.trim().is_empty() { "it says nothing".to_owned() } else { line.trim().trim_end_matches('.').to_owned() }
    }
}
