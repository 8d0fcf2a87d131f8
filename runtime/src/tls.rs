//! Owns TLS over files: what a server shows and whom a client trusts, made of PEM. Must not know who serves or asks.
//!
//! The cryptography is ring's, chosen here and by name: the choice by default is another C library to build.

use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_platform_verifier::BuilderVerifierExt;

/// A file as it was when it was read. Errors about what is in it name it.
#[derive(Debug, PartialEq, Eq)]
pub struct Pem {
    file: PathBuf,
    text: Vec<u8>,
}

impl Pem {
    pub fn read(file: &Path) -> io::Result<Self> {
        let file = file.to_owned();
        match fs::read(&file) {
            Ok(text) => Ok(Self { file, text }),
            Err(error) => Err(unfit(&file, &error)),
        }
    }

    fn certificates(&self) -> io::Result<Vec<CertificateDer<'static>>> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.text).collect();
        let found = found.map_err(|error| unfit(&self.file, &error))?;
        if found.is_empty() { Err(unfit(&self.file, &"there is no certificate in it")) } else { Ok(found) }
    }

    fn key(&self) -> io::Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.text).map_err(|error| unfit(&self.file, &error))
    }
}

fn unfit(file: &Path, why: &dyn Display) -> io::Error {
    io::Error::other(format!("{}: {why}", file.display()))
}

/// Whom a client trusts.
pub enum Trust<'a> {
    /// Nobody: it asks for nothing over TLS.
    Nobody,
    /// Whoever the system trusts.
    System,
    /// Whoever these authorities vouch for, and nobody else.
    Only(&'a Pem),
}

/// What a client goes by that trusts these.
pub fn client(trust: &Trust<'_>) -> io::Result<ClientConfig> {
    let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let client = client.map_err(io::Error::other)?;
    let client = match trust {
        Trust::Nobody => client.with_root_certificates(RootCertStore::empty()),
        Trust::System => client.with_platform_verifier().map_err(io::Error::other)?,
        Trust::Only(pem) => client.with_root_certificates(roots(pem)?),
    };
    Ok(client.with_no_client_auth())
}

fn roots(pem: &Pem) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for authority in pem.certificates()? {
        roots.add(authority).map_err(|error| unfit(&pem.file, &error))?;
    }
    Ok(roots)
}

/// What a server goes by that shows this certificate.
pub fn server(certificate: &Pem, key: &Pem) -> io::Result<ServerConfig> {
    let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let server = server.map_err(io::Error::other)?.with_no_client_auth();
    let server = server.with_single_cert(certificate.certificates()?, key.key()?);
    // Such as a key that is of another certificate.
    let mut server = server.map_err(|error| unfit(&certificate.file, &error))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

/// Lets libraries that ask for a default have the same.
pub fn choose_provider() {
    // Who was first has put in the same one.
    let _ = ring::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Why no connection over TLS came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The server's certificate is not trusted, or not for its name: why.
    Certificate(String),
    Other,
}

/// Whether an error came of TLS. What an error of I/O wraps is not among its sources.
#[must_use]
pub fn refused(error: &(dyn Error + 'static)) -> Option<Refused> {
    let mut error = error;
    loop {
        error = match (error.downcast_ref::<rustls::Error>(), error.downcast_ref::<io::Error>()) {
            (Some(why @ rustls::Error::InvalidCertificate(_)), _) => {
                return Some(Refused::Certificate(why.to_string()));
            }
            (Some(_), _) => return Some(Refused::Other),
            (None, Some(wrapping)) => wrapping.get_ref()?,
            (None, None) => error.source()?,
        };
    }
}
