//! Turns an ordinary local HTTP/1.1 client into an attested one: what it sends leaves only on [`crate::Pinned`] connections.
//! Between the client and the proxy nothing is encrypted, hence loopback or a Unix socket only.

mod door;
mod forward;
mod journal;
mod lanes;
mod listen;
mod problem;

pub use listen::{Listen, ListenAddress};

use std::{path::PathBuf, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use vouchsafe_policies::Policy;

use self::{door::Door, forward::Forwarder, journal::Journal, lanes::Lanes, listen::Listener};
use crate::{Caller, ConnectOptions, CustomerError, connect::host_and_port};

/// Clients served at once; further ones wait to be accepted.
const MAX_CLIENTS: usize = 256;
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(5);

/// What a proxy does.
pub struct ProxyOptions {
    /// Where local clients connect.
    pub listen: Listen,
    /// `HOST:PORT` of the service.
    pub upstream: String,
    /// What the service must prove.
    pub policy: Arc<Policy>,
    /// The hash-chained log of verdicts and receipt digests.
    pub log: Option<PathBuf>,
    /// Asks for a receipt with every inference and keeps it in this directory, its salt in `salts/` below it.
    pub receipts: Option<PathBuf>,
    /// In whose name every inference is sent, whatever local client asks. Without one a client's own `Authorization` passes.
    pub caller: Option<Arc<Caller>>,
    /// Pinned connections at most; requests beyond wait in order.
    pub max_lanes: usize,
    /// How long a request waits for one.
    pub lane_wait: Duration,
    /// Longest body of a request.
    pub max_request_bytes: usize,
    /// How long a client may take to send its body.
    pub body_timeout: Duration,
    /// Limits of the connections to the service.
    pub connect: ConnectOptions,
}

impl ProxyOptions {
    /// The defaults: no log, no receipts, no caller, 8 connections, bodies up to 64 MiB.
    #[must_use]
    pub fn new(listen: Listen, upstream: impl Into<String>, policy: Arc<Policy>) -> Self {
        Self {
            listen,
            upstream: upstream.into(),
            policy,
            log: None,
            receipts: None,
            caller: None,
            max_lanes: 8,
            lane_wait: Duration::from_secs(60),
            max_request_bytes: 64 * 1024 * 1024,
            body_timeout: Duration::from_secs(60),
            connect: ConnectOptions::default(),
        }
    }
}

/// Serves until `shutdown`, then lets running requests finish for a few seconds. `ready` is told where it listens.
///
/// # Errors
/// `PROXY_NOT_LOOPBACK`, `ADDRESS_INVALID`, `PORT_IN_USE`, `LISTEN_FAILED`, `LOG_*`, `RECEIPTS_UNWRITABLE`: all before
/// the first client. Later failures are answered to the client as 502 `application/problem+json`.
pub async fn proxy(
    options: ProxyOptions,
    ready: impl FnOnce(&ListenAddress),
    shutdown: impl Future<Output = ()>,
) -> Result<(), CustomerError> {
    let upstream = host_and_port(&options.upstream)?.to_owned();
    options.listen.on_loopback()?;
    let journal = Journal::open(options.log.as_deref(), options.receipts.as_deref())?;
    let listener = Listener::bind(&options.listen).await?;
    let address = listener.address().clone();
    let forwarder = Arc::new(Forwarder {
        door: Door::at(&address),
        lanes: Lanes::new(&options, upstream),
        journal,
        max_body: options.max_request_bytes,
        body_timeout: options.body_timeout,
    });
    ready(&address);

    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    let mut tasks = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(());
    tokio::pin!(shutdown);
    loop {
        let permit = tokio::select! {
            () = &mut shutdown => break,
            permit = Arc::clone(&clients).acquire_owned() => permit,
        };
        let stream = tokio::select! {
            () = &mut shutdown => break,
            stream = listener.accept() => stream,
        };
        while tasks.try_join_next().is_some() {}
        let (forwarder, mut stopped) = (Arc::clone(&forwarder), stopped.clone());
        tasks.spawn(async move {
            let _permit = permit;
            let service = service_fn(move |request| {
                let forwarder = Arc::clone(&forwarder);
                async move { Ok::<_, std::convert::Infallible>(forwarder.answer(request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            // What goes wrong with a local client concerns that client alone.
            tokio::select! {
                _ended = connection.as_mut() => {}
                _stop = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    let _ended = connection.await;
                }
            }
        });
    }
    drop(listener);
    drop(stop);
    let drained = timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tasks.shutdown().await;
    }
    Ok(())
}
