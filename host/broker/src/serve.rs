//! Turns a state directory into a listening key broker, until it is told to stop.
//! Listening promises nothing: every key still needs evidence, policy, gates and a durable ledger line.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::StatusCode};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use vouchsafe_policies::Policy;

use crate::{
    BrokerError, admin_server, clock, config::Limits, event::Event, exchange::Exchange, files::SOCKET, log, routes,
    store::Store, tls,
};

/// Running answers get this long after the word to stop.
const GRACE: Duration = Duration::from_secs(3);

/// Serves until `shutdown` completes. `ready` is called once with the address in use.
///
/// # Errors
/// `STATE_MISSING`, `STATE_LOCKED`, `BROKER_CONFIG`, `KEY_FILE_MODE`, `KEY_FILE`, `MODEL_KEY_CORRUPT`, `LEDGER_BROKEN`,
/// `LEDGER_UNWRITABLE`, `TLS_SETUP`, `RANDOM_UNAVAILABLE`, `PORT_IN_USE`, `LISTEN_FAILED`, and the policy's own codes.
pub async fn serve(
    dir: &Path,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), BrokerError> {
    // Under a clock in the past, lists that were replaced look current.
    vouchsafe_policies::plausible(clock::now())?;
    let mut store = Store::open(dir, clock::now())?;
    let tls = TlsAcceptor::from(tls::load(dir)?);
    let policy = Policy::load(&store.config.policy)?;
    let limits = store.config.limits;
    let listener = TcpListener::bind(store.config.listen).await.map_err(|e| BrokerError::Listen(e.kind()))?;
    let address = listener.local_addr().map_err(|e| BrokerError::Listen(e.kind()))?;
    store.record(Event::Started { policy_digest: policy.digest() }, clock::now())?;

    let exchange = Arc::new(Exchange::new(store, policy)?);
    let admin = tokio::spawn(admin_server::run(admin_server::bind(dir)?, Arc::clone(&exchange)));
    let router = routes::router(exchange, Duration::from_secs(limits.read_timeout_s));
    log::event("serving", "OK");
    ready(address);

    accept(&listener, &tls, &router, limits, shutdown).await;
    admin.abort();
    let _ = admin.await;
    let _ = std::fs::remove_file(dir.join(SOCKET));
    log::event("stopped", "OK");
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    tls: &TlsAcceptor,
    router: &Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        // A slot first: when all are taken, newcomers wait in the kernel's queue.
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (slot, accepted) = next => match accepted {
                Ok((stream, peer)) => {
                    let (tls, router, stopping) = (tls.clone(), router.clone(), stopping.clone());
                    connections.spawn(async move {
                        let whole = Duration::from_secs(limits.connection_s);
                        let _ = timeout(whole, connection(stream, peer, tls, router, limits, stopping)).await;
                        drop(slot);
                    });
                }
                // Out of descriptors, most likely: let some connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
    let _ = stop.send(());
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<()>,
) {
    let patience = Duration::from_secs(limits.read_timeout_s);
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(patience, tls.accept(stream)).await else {
        return;
    };
    let requests = AtomicU32::new(0);
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(routes::Peer(peer.ip()));
        let count = requests.fetch_add(1, Ordering::Relaxed) + 1;
        let router = router.clone();
        async move {
            if count > limits.max_requests_per_connection {
                let answer = routes::plain(StatusCode::TOO_MANY_REQUESTS, "limited", "open a new connection");
                return Ok::<_, Infallible>(routes::closing(answer));
            }
            let answer = router.oneshot(request.map(Body::new)).await?;
            Ok(if count == limits.max_requests_per_connection { routes::closing(answer) } else { answer })
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience).max_headers(64).max_buf_size(64 * 1024);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = serving.as_mut() => {}
        _ = stopping.changed() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}
