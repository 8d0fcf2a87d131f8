//! TLS of what is served and of what other instances are asked, by files that are read again when they were renewed. Must
//! not know what is served.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::routing::{Client, client};
use crate::config::TlsConfig;
use crate::tls::{Pem, Trust, server};

/// How soon a renewed certificate is in force. Files are compared whole: a mounted secret is a link that changes its target,
/// whose files may be older than those before.
const RELOAD: Duration = Duration::from_secs(1);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at a time; who comes then waits.
const HANDSHAKES: usize = 128;
/// Connections that have shaken hands and are not taken up yet.
const WAITING: usize = 16;

/// Certificates and what is made of them.
pub struct Tls {
    files: TlsConfig,
    /// Whether other instances are asked.
    asks: bool,
    current: RwLock<Current>,
}

struct Current {
    contents: Contents,
    acceptor: TlsAcceptor,
    client: Client,
}

#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Pem,
    key: Pem,
    authorities: Option<Pem>,
}

impl Contents {
    fn read(files: &TlsConfig) -> io::Result<Self> {
        Ok(Self {
            certificate: Pem::read(&files.certificate)?,
            key: Pem::read(&files.key)?,
            authorities: files.authorities.as_deref().map(Pem::read).transpose()?,
        })
    }
}

impl Current {
    fn new(contents: Contents, asks: bool) -> io::Result<Self> {
        let trust = match &contents.authorities {
            Some(authorities) => Trust::Only(authorities),
            None if asks => Trust::System,
            None => Trust::Nobody,
        };
        let (server, client) = (server(&contents.certificate, &contents.key)?, client(&trust)?);
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), client, contents })
    }
}

impl Tls {
    /// Fails with the name of the file that can't be used. `asks` says whether other instances are asked.
    pub fn open(files: &TlsConfig, asks: bool) -> io::Result<Self> {
        let current = RwLock::new(Current::new(Contents::read(files)?, asks)?);
        Ok(Self { files: files.clone(), asks, current })
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).acceptor.clone()
    }

    /// For questions to other instances, from now on.
    pub(super) fn client(&self) -> Client {
        self.current.read().unwrap_or_else(PoisonError::into_inner).client.clone()
    }

    /// Says whether there was something new. What can't be used changes nothing.
    fn renew(&self) -> io::Result<bool> {
        let contents = Contents::read(&self.files)?;
        if self.current.read().unwrap_or_else(PoisonError::into_inner).contents == contents {
            return Ok(false);
        }
        let renewed = Current::new(contents, self.asks)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(true)
    }

    /// Looks after the files, again and again. Connections that there are go on as they are.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut turns = interval(RELOAD);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failure = Failure::default();
        loop {
            turns.tick().await;
            let tls = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || tls.renew()).await {
                Ok(Ok(renewed)) => {
                    failure = Failure::default();
                    if renewed {
                        tracing::info!(certificate = %self.files.certificate.display(), "the certificate was renewed");
                    }
                }
                Ok(Err(error)) if failure.lasts(&error.to_string()) => {
                    tracing::error!(
                        "the certificate was renewed and can't be used: {error}; the one before stays in force until its \
                         files are mended"
                    );
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

/// What is wrong with the files, and for how many looks. They may have been looked at while they were being replaced, and
/// what stays wrong is told once.
#[derive(Default)]
struct Failure {
    why: String,
    looks: usize,
}

impl Failure {
    fn lasts(&mut self, why: &str) -> bool {
        if self.why != why {
            *self = Self { why: why.to_owned(), looks: 0 };
        }
        self.looks += 1;
        self.looks == 2
    }
}

/// Connections that have shaken hands. Who takes long over it holds up nobody else.
pub(super) struct TlsListener {
    ready: Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, tls: Arc<Tls>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (shaken, ready) = channel(WAITING);
        tokio::spawn(accept(listener, tls, shaken));
        Ok(Self { ready, address })
    }
}

/// Until nobody takes connections any more.
async fn accept(mut listener: TcpListener, tls: Arc<Tls>, ready: Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let turns = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let (stream, address) = tokio::select! {
            connection = Listener::accept(&mut listener) => connection,
            () = ready.closed() => return,
        };
        let (acceptor, ready) = (tls.acceptor(), ready.clone());
        tokio::spawn(async move {
            let _turn = turn;
            match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                // Nobody takes it: the process is ending.
                Ok(Ok(stream)) => drop(ready.send((stream, address)).await),
                Ok(Err(error)) => tracing::debug!(%address, %error, "no handshake"),
                Err(_) => tracing::debug!(%address, "no handshake in time"),
            }
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The runtime is ending.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
