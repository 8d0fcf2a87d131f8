//! Owns modules from OCI registries: fetched by their digest, and kept on disk, so that a process starts again while the
//! registry is away. Must not know what a module is.
//!
//! An artifact is named by the digest of its manifest, which names the digest of the component: whatever a registry or a
//! disk hands over is what was pinned, or nothing. Its form is the CNCF's for WebAssembly: one layer of the media type
//! `application/wasm`.

mod azure;
mod kept;
mod problem;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential};
use millrace_engine::ports::Error;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{OciDescriptor, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio::io::AsyncWrite;

use crate::config::WorkloadIdentity;
use crate::tls::choose_provider;
use kept::Kept;
use problem::{fatal, of_registry};

/// What the layer with the component is called.
const WASM: &str = "application/wasm";
const MANIFESTS: &[&str] = &["application/vnd.oci.image.manifest.v1+json"];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a registry may be silent in the midst of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// What a registry's identity token is brought with, in Azure's; others don't look.
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// Fetches the component of an artifact, `registry/repository@sha256:…`, unless it is in `keep`, where it is put. The
/// identity is brought to registries of Azure for which docker has no credentials.
pub fn fetch(
    artifact: &str,
    most_bytes: usize,
    keep: Option<&Path>,
    identity: Option<&WorkloadIdentity>,
) -> Result<Vec<u8>, Error> {
    let image: Reference = artifact.parse().map_err(|error| fatal(format!("{artifact} names no artifact: {error}")))?;
    let kept = image.digest().zip(keep).and_then(|(digest, directory)| Kept::new(directory, digest));
    if let Some(component) = kept.as_ref().and_then(Kept::read) {
        tracing::info!(artifact, "the module is at hand from an earlier start");
        return Ok(component);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Retry(format!("fetch {artifact}: {error}")))?;
    let (manifest, component) = runtime.block_on(async {
        let credentials = credentials(image.resolve_registry(), identity).await?;
        pull(&image, most_bytes, &credentials).await
    })?;
    tracing::info!(artifact, bytes = component.len(), "the module was fetched");
    if let Some(kept) = kept
        && let Err(error) = kept.write(&manifest, &component)
    {
        tracing::warn!(artifact, %error, "the module can't be kept; the next start needs the registry");
    }
    Ok(component)
}

/// Manifest and component.
async fn pull(image: &Reference, most_bytes: usize, credentials: &Credentials) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let auth = &credentials.auth;
    let failed = |error| of_registry(image, credentials, error);
    let client = client(image.resolve_registry()).map_err(failed)?;
    client.auth(image, auth, RegistryOperation::Pull).await.map_err(failed)?;
    let (manifest, _) = client.pull_manifest_raw(image, auth, MANIFESTS).await.map_err(failed)?;
    let layer = component_of(image, &manifest, most_bytes)?;
    let mut component = Bounded { bytes: Vec::new(), most: most_bytes };
    client.pull_blob(image, layer.digest.as_str(), &mut component).await.map_err(failed)?;
    Ok((manifest.to_vec(), component.bytes))
}

/// The layer that is the component.
fn component_of(image: &Reference, manifest: &[u8], most_bytes: usize) -> Result<OciDescriptor, Error> {
    let manifest = match serde_json::from_slice(manifest) {
        Ok(OciManifest::Image(manifest)) => manifest,
        Ok(OciManifest::ImageIndex(_)) => {
            return Err(fatal(format!(
                "{image} is an index of several artifacts: name one of them by its own digest, which `oras manifest fetch \
                 {image}` prints"
            )));
        }
        Err(error) => return Err(fatal(format!("the manifest of {image} can't be read: {error}"))),
    };
    let OciImageManifest { layers, .. } = manifest;
    let found: Vec<&str> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    let mut components = layers.into_iter().filter(|layer| layer.media_type == WASM);
    match (components.next(), components.next()) {
        (Some(layer), None) if usize::try_from(layer.size).is_ok_and(|size| size <= most_bytes) => Ok(layer),
        (Some(layer), None) => Err(fatal(format!(
            "the component of {image} has {} MiB, and {} MiB are the most: build it without debug information (strip = true), \
             and keep data in topics",
            layer.size >> 20,
            most_bytes >> 20
        ))),
        _ => Err(fatal(format!(
            "{image} is not one WebAssembly component: it has to have one layer of media type {WASM}, and it has {found}; push \
             it with `wkg oci push`, or with `oras push … module.wasm:{WASM}`"
        ))),
    }
}

fn client(registry: &str) -> Result<Client, OciDistributionError> {
    choose_provider();
    let protocol = if is_loopback(registry) { ClientProtocol::Http } else { ClientProtocol::Https };
    let (connect_timeout, read_timeout) = (Some(CONNECT_TIMEOUT), Some(READ_TIMEOUT));
    Client::try_from(ClientConfig { protocol, connect_timeout, read_timeout, ..ClientConfig::default() })
}

/// Only there is a connection trusted that is not encrypted, as docker does it.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What a registry is given.
struct Credentials {
    auth: RegistryAuth,
    /// What they are and where they are from, for messages.
    brought: String,
    /// What helps if they are not enough.
    remedy: String,
}

/// As docker has them. What an identity is for is asked afterwards: whoever put credentials there meant them.
async fn credentials(registry: &str, identity: Option<&WorkloadIdentity>) -> Result<Credentials, Error> {
    let (auth, brought) = match get_credential(registry) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            let brought = format!("the credentials of {user} in docker's config.json");
            (RegistryAuth::Basic(user, password), brought)
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            let brought = "the identity token in docker's config.json".to_owned();
            (RegistryAuth::Basic(TOKEN_USER.to_owned(), token), brought)
        }
        Err(
            CredentialRetrievalError::NoCredentialConfigured
            | CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::ConfigReadError,
        ) => match identity {
            Some(identity) if azure::is_azure(registry) => return azure::credentials(registry, identity).await,
            _ => (RegistryAuth::Anonymous, "no credentials: docker's config.json has none for it".to_owned()),
        },
        Err(error) => {
            return Err(fatal(format!(
                "the credentials for {registry} in docker's config.json can't be used: {error}; log in anew with `docker login \
                 {registry}`, or set DOCKER_CONFIG to the directory of another one"
            )));
        }
    };
    let or = if azure::is_azure(registry) { ", or give the pod a workload identity" } else { "" };
    let remedy = format!(
        "Log in with `docker login {registry}`, or mount a secret with a config.json and set DOCKER_CONFIG to its directory{or}; \
         the user needs the right to pull"
    );
    Ok(Credentials { auth, brought, remedy })
}

/// No more than a component may have, whatever the manifest said.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Poller<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.len() > self.most - self.bytes.len() {
            return Poll::Ready(Err(io::Error::other("it is larger than its manifest says")));
        }
        self.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
