//! Modules from an OCI registry: the pull part of the distribution API, served here on loopback, and what may go wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use millrace_engine::ports::Error;
use millrace_runtime::registry::fetch;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const MOST: usize = 1 << 20;
const WASM: &str = "application/wasm";
/// `user:password`
const BASIC: &str = "Basic dXNlcjpwYXNzd29yZA==";

#[derive(Default)]
struct Contents {
    /// What is answered, by path.
    files: BTreeMap<String, (StatusCode, Vec<u8>)>,
    /// Who may pull, by what it brings for a token.
    guard: Option<&'static str>,
    asked: Vec<String>,
}

/// A registry, until it is dropped.
struct Registry {
    /// What artifacts there are named by.
    address: String,
    contents: Arc<Mutex<Contents>>,
    _runtime: tokio::runtime::Runtime,
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

async fn answer(State(contents): State<Arc<Mutex<Contents>>>, uri: Uri, headers: HeaderMap) -> Response {
    let mut contents = contents.lock().expect("no test panics with it");
    contents.asked.push(uri.path().to_owned());
    let brought = headers.get("authorization").and_then(|brought| brought.to_str().ok());
    if uri.path() == "/token" {
        return match contents.guard {
            Some(guard) if brought != Some(guard) => (StatusCode::UNAUTHORIZED, "who are you?").into_response(),
            _ => r#"{"token":"let-me-in"}"#.into_response(),
        };
    }
    if contents.guard.is_some() && brought != Some("Bearer let-me-in") {
        let host = headers["host"].to_str().expect("an address");
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"here\"");
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)], "{}").into_response();
    }
    match contents.files.get(uri.path()) {
        Some((code, bytes)) => (*code, bytes.clone()).into_response(),
        None if uri.path() == "/v2/" => "{}".into_response(),
        None => {
            let text = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}

/// Connections of a proxy (`CONNECT`) behind which there is one server, who speaks TLS with this certificate.
struct Tunnel {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Tunnel {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (mut stream, from) = self.listener.accept().await.expect("a connection");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.expect("a request"));
            }
            assert!(asked.starts_with(b"CONNECT registry.test:443 "), "{}", String::from_utf8_lossy(&asked));
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("an answer");
            // Who does not trust the certificate goes away.
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Registry {
    fn new() -> Self {
        Self::serving(|listener| listener, |address| address).0
    }

    /// One that is reached by TLS, by a name that is none of loopback, through the proxy at the address that is given back.
    fn secured(tls: TlsAcceptor) -> (Self, String) {
        Self::serving(|listener| Tunnel { listener, tls }, |_| "registry.test".to_owned())
    }

    fn serving<L: Listener<Addr = SocketAddr>>(
        listen: impl FnOnce(TcpListener) -> L,
        name: impl FnOnce(String) -> String,
    ) -> (Self, String) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let contents = Arc::<Mutex<Contents>>::default();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&contents));
        let listener = listen(listener);
        runtime.spawn(async move { axum::serve(listener, router).await });
        (Self { address: name(address.clone()), contents, _runtime: runtime }, address)
    }

    fn put(&self, path: &str, code: StatusCode, bytes: &[u8]) {
        self.contents
            .lock()
            .expect("no test panics with it")
            .files
            .insert(format!("/v2/team/counts/{path}"), (code, bytes.to_vec()));
    }

    /// An artifact of these layers, by its name.
    fn artifact(&self, layers: &[(&str, &[u8])]) -> String {
        let config = b"{}";
        let layer = |(kind, bytes): &(&str, &[u8])| {
            self.put(&format!("blobs/{}", sha256(bytes)), StatusCode::OK, bytes);
            serde_json::json!({ "mediaType": kind, "digest": sha256(bytes), "size": bytes.len() })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.wasm.config.v0+json", "digest": sha256(config), "size": 2 },
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        });
        self.manifest(&serde_json::to_vec(&manifest).expect("JSON"))
    }

    fn manifest(&self, manifest: &[u8]) -> String {
        let digest = sha256(manifest);
        self.put(&format!("manifests/{digest}"), StatusCode::OK, manifest);
        format!("{}/team/counts@{digest}", self.address)
    }
}

fn refused(artifact: &str, words: &[&str]) {
    match fetch(artifact, MOST, None, None) {
        Err(Error::Fatal(why)) => words.iter().for_each(|word| assert!(why.contains(word), "no {word:?} in: {why}")),
        other => panic!("{artifact}: {other:?}"),
    }
}

/// It is fetched once; then it is at hand, also when the registry is away, and nothing else is.
#[test]
fn an_artifact_is_fetched_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let keep = directory.path().join("artifacts");
    let registry = Registry::new();
    let artifact = registry.artifact(&[(WASM, b"component")]);
    let tagged = artifact.replace("@", ":1.0@");
    assert_eq!(fetch(&tagged, MOST, Some(&keep), None).unwrap(), b"component");
    let asked = registry.contents.lock().unwrap().asked.len();
    assert_eq!(fetch(&artifact, MOST, Some(&keep), None).unwrap(), b"component");
    assert_eq!(registry.contents.lock().unwrap().asked.len(), asked, "it was at hand");

    // What somebody else has put there is not taken for it: it is fetched again.
    let component = |artifact: &str| keep.join(artifact.split_once("sha256:").unwrap().1).join("component.wasm");
    std::fs::write(component(&artifact), b"comqonent").unwrap();
    assert_eq!(fetch(&artifact, MOST, Some(&keep), None).unwrap(), b"component");
    assert_eq!(std::fs::read(component(&artifact)).unwrap(), b"component");
    let later: Vec<String> = [b"1", b"2", b"3"].map(|bytes| registry.artifact(&[(WASM, bytes)])).into();
    later.iter().for_each(|artifact| drop(fetch(artifact, MOST, Some(&keep), None).unwrap()));
    assert!(!component(&artifact).exists(), "only some are kept");

    drop(registry);
    assert_eq!(fetch(&later[1], MOST, Some(&keep), None).unwrap(), b"2");
    let away = fetch(&artifact, MOST, Some(&keep), None);
    assert!(matches!(&away, Err(Error::Retry(why)) if why.contains("refused")), "{away:?}");
}

#[test]
fn what_is_no_component_is_refused() {
    let registry = Registry::new();
    refused(&registry.artifact(&[]), &["one layer of media type application/wasm", "it has none", "oras push"]);
    let image = [("application/vnd.oci.image.layer.v1.tar+gzip", &b"image"[..])];
    refused(&registry.artifact(&image), &["it has application/vnd.oci.image.layer.v1.tar+gzip"]);
    refused(&registry.artifact(&[(WASM, b"a"), (WASM, b"b")]), &["it has application/wasm, application/wasm"]);
    refused(&registry.artifact(&[(WASM, &vec![0; MOST + 1])]), &["1 MiB are the most", "strip = true"]);
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    refused(&registry.manifest(index), &["index of several artifacts"]);
    refused(&registry.manifest(b"{"), &["can't be read"]);
}

#[test]
fn what_is_not_what_was_pinned_is_refused() {
    let registry = Registry::new();
    let artifact = registry.artifact(&[(WASM, b"component")]);
    registry.put(&format!("blobs/{}", sha256(b"component")), StatusCode::OK, b"another");
    refused(&artifact, &["something else", &sha256(b"another")]);
    let path = artifact.split_once("@").unwrap().1;
    registry.put(&format!("manifests/{path}"), StatusCode::OK, b"{}");
    refused(&artifact, &["something else", &sha256(b"{}")]);
}

#[test]
fn what_a_registry_answers_is_told_with_the_remedy() {
    let registry = Registry::new();
    let artifact = registry.artifact(&[(WASM, b"component")]);
    let path = format!("manifests/{}", artifact.split_once("@").unwrap().1);
    registry.put(&path, StatusCode::FORBIDDEN, br#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#);
    refused(&artifact, &["denies", "not yours", "docker login 127.0.0.1", "right to pull"]);
    registry.put(&path, StatusCode::INTERNAL_SERVER_ERROR, b"oh no");
    let ill = fetch(&artifact, MOST, None, None);
    assert!(matches!(&ill, Err(Error::Retry(why)) if why.contains("oh no")), "{ill:?}");
    refused(&artifact.replace("counts", "sums"), &["has no artifact", "whether it was deleted"]);
}

/// What `millrace check` says of an artifact that it can't take.
fn check(directory: &Path, artifact: &str, variables: &[(&str, &Path)]) -> String {
    let config = format!("application.id = 'a'\nmodule.source = 'oci://{artifact}'\nkafka.bootstrap.servers = 'k'\n");
    std::fs::write(directory.join("millrace.toml"), config).expect("the configuration is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.arg("check").current_dir(directory).env_clear().envs(variables.iter().copied());
    let output = command.output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Credentials are docker's: a directory named by DOCKER_CONFIG, as a secret is mounted, or `.docker` at home.
#[test]
fn credentials_are_docker_s() {
    let registry = Registry::new();
    let artifact = registry.artifact(&[(WASM, b"component")]);
    registry.contents.lock().unwrap().guard = Some(BASIC);
    let directory = tempfile::tempdir().unwrap();
    let check = |variables: &[(&str, &Path)]| check(directory.path(), &artifact, variables);
    let login = |home: &str, secret: &str| {
        let home = directory.path().join(home);
        std::fs::create_dir_all(&home).unwrap();
        let config = format!(r#"{{"auths":{{"{}":{{"auth":"{secret}"}}}}}}"#, registry.address);
        std::fs::write(home.join("config.json"), config).unwrap();
        home
    };
    let said = check(&[]);
    assert!(said.contains("denies") && said.contains("it was given no credentials"), "{said}");
    let wrong = login("wrong", "dXNlcjp3cm9uZw==");
    let said = check(&[("DOCKER_CONFIG", &wrong)]);
    assert!(
        said.contains("denies") && said.contains("the credentials of user") && said.contains("who are you"),
        "{said}"
    );
    let broken = login("broken", "?");
    assert!(check(&[("DOCKER_CONFIG", &broken)]).contains("docker login"), "no remedy");
    // It is fetched; that it is no module is found afterwards.
    let right = login("home/.docker", BASIC.split_once(' ').unwrap().1);
    for variable in [("DOCKER_CONFIG", &*right), ("HOME", right.parent().unwrap())] {
        let said = check(&[variable]);
        assert!(said.contains("it is not a WebAssembly component"), "{said}");
    }
}

/// An authority of somebody's own: its certificate, and what a server with the name needs that it has signed for.
fn authority(name: &str) -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).expect("a certificate");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a certificate");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a certificate");
    let signed = CertificateParams::new(vec![name.to_owned()])
        .expect("a certificate")
        .signed_by(&key, &issuer)
        .expect("a certificate");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("a certificate").with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a certificate");
    let config = config.with_single_cert(vec![signed.der().clone()], key).expect("a certificate");
    (certificate, TlsAcceptor::from(Arc::new(config)))
}

/// A registry whose certificate is of a private authority, behind a proxy.
#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, tls) = authority("registry.test");
    let (registry, proxy) = Registry::secured(tls);
    let artifact = registry.artifact(&[(WASM, b"component")]);
    let proxy = format!("http://{proxy}");
    let check = |trusted: Option<&Path>| {
        let trusted = trusted.map(|path| ("SSL_CERT_FILE", path));
        let variables: Vec<_> = [("HTTPS_PROXY", Path::new(&proxy))].into_iter().chain(trusted).collect();
        check(directory.path(), &artifact, &variables)
    };
    // It is fetched; that it is no module is found afterwards.
    let said = check(Some(&file("authority.pem", &certificate)));
    assert!(said.contains("it is not a WebAssembly component"), "{said}");
    let stranger = file("stranger.pem", &authority("registry.test").0);
    for trusted in [None, Some(&*stranger)] {
        let said = check(trusted);
        assert!(
            said.contains("the certificate of the registry registry.test is not trusted")
                && said.contains("SSL_CERT_FILE"),
            "{said}"
        );
    }
    let said = check(Some(&file("empty.pem", "")));
    assert!(said.contains("SSL_CERT_FILE"), "{said}");

    let (certificate, tls) = authority("another.test");
    let (registry, proxy) = Registry::secured(tls);
    let artifact = registry.artifact(&[(WASM, b"component")]);
    let trusted = file("another.pem", &certificate);
    let variables = [("HTTPS_PROXY", Path::new(&format!("http://{proxy}")).to_owned()), ("SSL_CERT_FILE", trusted)];
    let variables: Vec<(&str, &Path)> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
    let said = self::check(directory.path(), &artifact, &variables);
    assert!(said.contains("is not trusted") && said.contains("registry.test"), "{said}");
}

/// A pod says who it is in Azure at Azure's registries, and nowhere else. How it goes on is tested in `registry/tests.rs`:
/// Azure's names can't be served here.
#[test]
fn a_workload_identity_is_for_registries_of_azure() {
    let (authority, directory) = (Registry::new(), tempfile::tempdir().unwrap());
    let asked = "/tenant/oauth2/v2.0/token".to_owned();
    let why = br#"{"error_description":"AADSTS70021: No matching federated identity record found."}"#.to_vec();
    authority.contents.lock().unwrap().files.insert(asked.clone(), (StatusCode::BAD_REQUEST, why));
    let token = directory.path().join("token");
    std::fs::write(&token, "of-the-service-account").unwrap();
    let host = format!("http://{}/", authority.address);
    let variables = [
        ("AZURE_CLIENT_ID", Path::new("client")),
        ("AZURE_TENANT_ID", Path::new("tenant")),
        ("AZURE_AUTHORITY_HOST", Path::new(&host)),
        ("AZURE_FEDERATED_TOKEN_FILE", &token),
    ];
    let elsewhere = Registry::new();
    let artifact = elsewhere.artifact(&[(WASM, b"component")]);
    elsewhere.contents.lock().unwrap().guard = Some(BASIC);
    let said = check(directory.path(), &artifact, &variables);
    assert!(said.contains("it was given no credentials"), "{said}");
    assert!(authority.contents.lock().unwrap().asked.is_empty());

    let of_azure = artifact.replace(&elsewhere.address, "counts.azurecr.io");
    let said = check(directory.path(), &of_azure, &variables);
    assert!(said.contains("AADSTS70021") && said.contains("the identity client"), "{said}");
    assert_eq!(authority.contents.lock().unwrap().asked, [asked]);

    // Docker's credentials come first.
    let config = r#"{"auths":{"counts.azurecr.io":{"auth":"?"}}}"#;
    std::fs::write(directory.path().join("config.json"), config).unwrap();
    let with_docker = [&variables[..], &[("DOCKER_CONFIG", directory.path())]].concat();
    assert!(check(directory.path(), &of_azure, &with_docker).contains("docker login counts.azurecr.io"));
}
