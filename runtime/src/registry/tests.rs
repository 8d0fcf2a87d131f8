//! Signing in at Azure's registries: an authority and a registry in one, served on loopback. What any registry does is
//! tested in `runtime/tests/artifact.rs`.

use std::collections::BTreeMap;

use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;

const COMPONENT: &[u8] = b"component";
/// What the account's token is. The authority trusts it; only of these clients the registry takes its word.
const ASSERTION: &str = "of-the-service-account";
const PULLS: &str = "client-that-pulls";
const STRANGER: &str = "client-without-a-role";
/// `00000000-0000-0000-0000-000000000000:refresh`, as a password is brought.
const BASIC: &str = "Basic MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOnJlZnJlc2g=";

type Fields = BTreeMap<String, String>;

fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn manifest() -> Vec<u8> {
    let config = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2 });
    let layer = json!({ "mediaType": WASM, "digest": sha256(COMPONENT), "size": COMPONENT.len() });
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFESTS[0], "config": config, "layers": [layer] });
    serde_json::to_vec(&manifest).unwrap()
}

fn form(body: &str) -> Fields {
    let Query(fields) = Query::try_from_uri(&format!("/?{body}").parse().unwrap()).unwrap();
    fields
}

/// The authority: whom the tenant's identities trust, it takes the word of.
async fn authorize(UrlPath(tenant): UrlPath<String>, body: String) -> Response {
    let form = form(&body);
    let fields = [
        ("grant_type", "client_credentials"),
        ("scope", "https://containerregistry.azure.net/.default"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
    ];
    assert!(fields.iter().all(|(name, value)| form[*name] == *value), "{form:?}");
    match &*tenant {
        "busy" => (StatusCode::SERVICE_UNAVAILABLE, "later").into_response(),
        "odd" => "<html>".into_response(),
        "elsewhere" => (StatusCode::TEMPORARY_REDIRECT, [("location", "/tenant/oauth2/v2.0/token")]).into_response(),
        _ if form["client_assertion"] == ASSERTION => {
            Json(json!({ "access_token": format!("access of {}", form["client_id"]) })).into_response()
        }
        _ => {
            let why = "AADSTS70021: No matching federated identity record found.\r\nTrace ID: 1";
            (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_client", "error_description": why })))
                .into_response()
        }
    }
}

async fn exchange(headers: HeaderMap, body: String) -> Response {
    let form = form(&body);
    assert_eq!((&*form["grant_type"], &*form["tenant"]), ("access_token", "tenant"));
    assert_eq!(form["service"].as_bytes(), headers["host"].as_bytes());
    if form["access_token"] == format!("access of {PULLS}") {
        return Json(json!({ "refresh_token": "refresh" })).into_response();
    }
    let why = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "authentication required" }] });
    (StatusCode::UNAUTHORIZED, Json(why)).into_response()
}

async fn token(State(pulls): State<bool>, headers: HeaderMap) -> Response {
    match headers.get("authorization").is_some_and(|brought| brought == BASIC) && pulls {
        true => Json(json!({ "access_token": "let-me-in" })).into_response(),
        false => (StatusCode::UNAUTHORIZED, "who are you?").into_response(),
    }
}

async fn content(UrlPath(path): UrlPath<String>, headers: HeaderMap) -> Response {
    if headers.get("authorization").is_none_or(|brought| brought != "Bearer let-me-in") {
        let host = headers["host"].to_str().unwrap();
        let challenge = format!("Bearer realm=\"http://{host}/oauth2/token\",service=\"{host}\"");
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)], "{}").into_response();
    }
    if path.contains("/blobs/") { COMPONENT.into_response() } else { manifest().into_response() }
}

/// Its address; `pulls` says whether who has signed in gets further.
async fn serve(pulls: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(authorize))
        .route("/oauth2/exchange", post(exchange))
        .route("/oauth2/token", get(token))
        .route("/v2/", get(|headers: HeaderMap| content(UrlPath(String::new()), headers)))
        .route("/v2/{*path}", get(content))
        .with_state(pulls);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Signs in and pulls, as `fetch` does it at a registry of Azure.
async fn sign_in_and_pull(registry: &str, identity: &WorkloadIdentity) -> Result<Vec<u8>, Error> {
    let credentials = azure::credentials(registry, identity).await?;
    let image = format!("{registry}/team/counts@{}", sha256(&manifest())).parse().unwrap();
    Ok(pull(&image, COMPONENT.len(), &credentials).await?.1)
}

fn refused(pulled: Result<Vec<u8>, Error>, words: &[&str]) {
    let Err(Error::Fatal(why)) = pulled else { panic!("{pulled:?}") };
    words.iter().for_each(|word| assert!(why.contains(word), "no {word:?} in: {why}"));
    for secret in [ASSERTION, "of-somebody-else", "access of"] {
        assert!(!why.contains(secret), "{secret:?} is in: {why}");
    }
}

#[tokio::test]
async fn a_pod_pulls_as_what_it_is_in_azure() {
    let (registry, directory) = (serve(true).await, tempfile::tempdir().unwrap());
    let identity = WorkloadIdentity {
        client_id: PULLS.to_owned(),
        tenant_id: "tenant".to_owned(),
        // With a slash at its end, as the webhook sets it.
        authority: format!("http://{registry}/"),
        token_file: directory.path().join("token"),
    };
    let absent = sign_in_and_pull(&registry, &identity).await;
    refused(absent, &["AZURE_FEDERATED_TOKEN_FILE", "can't be read: No such file"]);

    std::fs::write(&identity.token_file, "of-somebody-else").unwrap();
    let distrusted = sign_in_and_pull(&registry, &identity).await;
    refused(
        distrusted,
        &["the authority", "AADSTS70021: No matching federated identity record found;", "federated-credential list"],
    );

    // It is read anew each time, for it expires.
    std::fs::write(&identity.token_file, format!("{ASSERTION}\n")).unwrap();
    assert_eq!(sign_in_and_pull(&registry, &identity).await.unwrap(), COMPONENT);

    let stranger = WorkloadIdentity { client_id: STRANGER.to_owned(), ..identity.clone() };
    let denied = sign_in_and_pull(&registry, &stranger).await;
    refused(denied, &["denies the workload identity", STRANGER, "authentication required", "--role AcrPull"]);

    let of_tenant = |tenant: &str| WorkloadIdentity { tenant_id: tenant.to_owned(), ..identity.clone() };
    refused(sign_in_and_pull(&registry, &of_tenant("odd")).await, &["answers without access_token"]);
    // No token follows a redirection.
    refused(sign_in_and_pull(&registry, &of_tenant("elsewhere")).await, &["does not take", "it says nothing"]);
    let busy = sign_in_and_pull(&registry, &of_tenant("busy")).await;
    assert!(matches!(&busy, Err(Error::Retry(why)) if why.contains("later")), "{busy:?}");
    let nowhere = WorkloadIdentity { authority: "http://127.0.0.1:1".to_owned(), ..identity.clone() };
    let away = sign_in_and_pull(&registry, &nowhere).await;
    assert!(matches!(&away, Err(Error::Retry(why)) if why.contains("refused")), "{away:?}");

    // Signed in, and not let in all the same.
    let closed = serve(false).await;
    let denied = sign_in_and_pull(&closed, &identity).await;
    refused(denied, &["denies", "a token of the workload identity", "--role AcrPull"]);
}

#[test]
fn registries_of_azure_are_told_by_their_names() {
    for ours in ["counts.azurecr.io", "counts.westeurope.data.azurecr.io", "counts.azurecr.cn", "counts.azurecr.us"] {
        assert!(azure::is_azure(ours), "{ours}");
    }
    for other in ["azurecr.io", "azurecr.io.example.com", "counts.azurecr.io:5000", "notazurecr.io", "127.0.0.1:5000"] {
        assert!(!azure::is_azure(other), "{other}");
    }
}
