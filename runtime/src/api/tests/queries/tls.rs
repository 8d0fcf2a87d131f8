//! The same over TLS, with certificates that a test makes and renews.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::super::{facts, start};
use super::{catalog, json, place, status};
use crate::api::{Facts, Tls};
use crate::config::TlsConfig;
use crate::status::Stage;

type Connection = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// A certificate for the loopback address, its key, and the authority that vouches for it.
struct Certificates {
    directory: TempDir,
    authority: String,
}

impl Certificates {
    fn new() -> Self {
        Self { directory: TempDir::new().expect("a directory"), authority: String::new() }.renewed()
    }

    /// Others, of another authority.
    fn renewed(self) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
        self.write("tls.crt", &leaf.pem());
        self.write("tls.key", &key.serialize_pem());
        self.write("ca.crt", &authority.pem());
        Self { authority: authority.pem(), ..self }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).expect("writes");
    }

    fn files(&self) -> TlsConfig {
        let file = |name: &str| self.directory.path().join(name);
        TlsConfig { certificate: file("tls.crt"), key: file("tls.key"), authorities: Some(file("ca.crt")) }
    }

    fn open(&self) -> Tls {
        Tls::open(&self.files(), true).expect("the files are sound")
    }

    /// A connection of a client that trusts this authority alone; an error is what it says of the server.
    fn connect(&self, address: SocketAddr) -> std::io::Result<Connection> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes()).expect("PEM")).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let mut client = ClientConnection::new(config, ServerName::from(address.ip())).expect("a client");
        let mut stream = TcpStream::connect(address)?;
        client.complete_io(&mut stream)?;
        Ok(BufReader::new(StreamOwned::new(client, stream)))
    }
}

/// Asks over a connection that goes on afterwards; gives back the first line of the answer, and its body.
fn ask(connection: &mut Connection, path: &str) -> (String, String) {
    let question = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
    connection.get_mut().write_all(question.as_bytes()).expect("asks");
    let mut head = Vec::new();
    while head.last().is_none_or(|line: &String| !line.trim_end().is_empty()) {
        let mut line = String::new();
        assert!(connection.read_line(&mut line).expect("answers") > 0, "the connection ended after {head:?}");
        head.push(line.to_lowercase());
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.expect("a length")];
    connection.read_exact(&mut body).expect("a body");
    (head.swap_remove(0), String::from_utf8(body).expect("text"))
}

#[test]
fn everything_is_served_over_tls_and_other_instances_are_asked_so() {
    let certificates = Certificates::new();
    let owner = status();
    place(&owner, Stage::Running(0));
    let right = start(Facts { tls: Some(certificates.open()), catalogs: catalog("pod-1"), ..facts(&owner) });
    let peers = Some(right.address().to_string().replace("127", "{instance}"));
    let other = status();
    place(&other, Stage::Standby);
    let wrong = start(Facts { tls: Some(certificates.open()), peers, catalogs: catalog("127"), ..facts(&other) });

    let mut connection = certificates.connect(wrong.address()).expect("shakes hands");
    let (first, body) = ask(&mut connection, "/v1/stores/counts/keys/k7");
    assert!(first.contains(" 200 "), "{first}{body}");
    assert_eq!(json(&body)["value"], json!(7), "{body}");

    let mut plain = TcpStream::connect(right.address()).expect("connects");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").expect("asks");
    let mut answer = Vec::new();
    // It may be cut off, or be told why in TLS' own words.
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "answered without TLS: {answer:?}");
    wrong.stop();
    right.stop();
}

#[test]
fn a_renewed_certificate_is_for_new_connections_and_the_others_go_on() {
    let before = Certificates::new();
    let server = start(Facts { tls: Some(before.open()), ..facts(&status()) });
    let mut connection = before.connect(server.address()).expect("trusts it");
    assert!(ask(&mut connection, "/healthz").0.contains(" 200 "));
    let after = before.renewed();
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = after.connect(server.address()) {
        assert!(Instant::now() < deadline, "the new certificate is not in force: {error}");
    }
    assert!(ask(&mut connection, "/healthz").0.contains(" 200 "));
    drop(connection);
    server.stop();
}

#[test]
fn a_file_that_can_t_be_used_is_named() {
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let certificates = Certificates::new();
        let refused = || Tls::open(&certificates.files(), true).map(drop).expect_err("it can't be used").to_string();
        certificates.write(name, "no PEM");
        assert!(refused().contains(name), "{}", refused());
        fs::remove_file(certificates.directory.path().join(name)).expect("removes");
        assert!(refused().contains(name), "{}", refused());
    }
    // Each is sound, and they don't belong together.
    let (one, other) = (Certificates::new(), Certificates::new());
    one.write("tls.key", &fs::read_to_string(other.files().key).expect("reads"));
    let refused = Tls::open(&one.files(), true).map(drop).expect_err("the key is another's").to_string();
    assert!(refused.contains("tls.crt"), "{refused}");
}
