//! Turns the listening socket into TLS sessions, each with its own exporter value and its own router.
//! It does not authenticate the client. It bounds what one client can hold: connections, time, bytes.
//!
//! On the way up a byte passes [`Patient`] (the socket), TLS, [`Strict`] (one reading of the framing), hyper and the router.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;
use vouchsafe_attestation::session::{EXPORTER_CONTEXT, EXPORTER_LABEL};

use super::Service;
use super::head::MAX_HEAD;
use super::metrics::Connected;
use super::newcomers::Newcomers;
use super::patient::Patient;
use super::routes::router;
use super::session::Session;
use super::strict::{MARK, Refused, Strict};
use crate::error::EnclaveError;

/// hyper's own limit lies above what is handed to it, so that the refusal is ours.
pub const BUFFER: usize = 8 * MAX_HEAD;
/// After an answer that leaves a body unread, so much of it is read and forgotten, so that the answer arrives.
const LINGER: (usize, Duration) = (16 << 20, Duration::from_secs(2));
/// A connection that has not fetched evidence by then ends: health probes come again, and others want its place.
pub const UNATTESTED: Duration = Duration::from_secs(30);
/// A connection that was told to leave is gone within this time.
const LEAVING: Duration = Duration::from_millis(100);
/// Requests under way at the end get so long.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `stop` turns true; then lets the requests under way end.
pub async fn serve(service: Arc<Service>, listener: TcpListener, max_connections: usize, stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(max_connections));
    let acceptor = TlsAcceptor::from(service.identity.server.clone());
    let router = router(&service);
    let mut stopping = stop.clone();
    let newcomers = Newcomers::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors or the like: the place of an old connection must become free first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(place) = place(&places, &newcomers).await else {
            service.metrics.turned_away();
            continue;
        };
        let newcomer = newcomers.add();
        let (service, acceptor, router, stop) = (service.clone(), acceptor.clone(), router.clone(), stop.clone());
        tokio::spawn(async move {
            let connected = Connected::new(&service);
            let talk = async {
                if let Some((stream, session)) = handshake(&service, &acceptor, stream).await {
                    newcomer.is(&session);
                    answer(&service, router, stream, session, stop).await;
                }
            };
            tokio::select! {
                () = talk => {}
                () = newcomer.leaves() => {}
            }
            drop((connected, place));
        });
    }
    drop(listener);
    let all = u32::try_from(max_connections).unwrap_or(u32::MAX);
    // Whoever is still there after that is cut off by the end of the process.
    let _ = tokio::time::timeout(GRACE, places.acquire_many(all)).await;
}

/// A place for one more connection. When all are taken, whoever came first of those that have not fetched evidence leaves; when there is
/// nobody like that, the client is turned away at once: waiting clients would cost memory.
async fn place(places: &Arc<Semaphore>, newcomers: &Newcomers) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = places.clone().try_acquire_owned() {
        return Some(place);
    }
    newcomers.first_leaves().then_some(())?;
    tokio::time::timeout(LEAVING, places.clone().acquire_owned()).await.ok()?.ok()
}

async fn handshake(
    service: &Service,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> Option<(TlsStream<Patient>, Arc<Session>)> {
    let _ = stream.set_nodelay(true);
    let stream = Patient::new(stream, service.request_timeout);
    let stream = tokio::time::timeout(service.request_timeout, acceptor.accept(stream)).await.ok()?.ok()?;
    let ekm = export(stream.get_ref().1).ok()?;
    Some((stream, Arc::new(Session::new(ekm))))
}

/// The exporter value of a finished handshake.
///
/// # Errors
/// `IDENTITY`.
pub fn export(connection: &ServerConnection) -> Result<[u8; 32], EnclaveError> {
    connection
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(EXPORTER_CONTEXT))
        .map_err(|_| EnclaveError::Identity("TLS exporter"))
}

async fn answer(
    service: &Service,
    router: Router,
    stream: TlsStream<Patient>,
    session: Arc<Session>,
    mut stop: watch::Receiver<bool>,
) {
    let refused = Refused::default();
    let stream = Strict::new(stream, refused.clone());
    let asking = session.clone();
    let requests = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let refusal = refused.get().filter(|_| request.headers().contains_key(MARK)).cloned();
        let (router, session) = (router.clone(), asking.clone());
        Box::pin(async move {
            if let Some(error) = refusal {
                return Ok(error.into_response());
            }
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(session);
            router.oneshot(request).await
        })
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(service.request_timeout)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), requests);
    let (mut asked, mut proven) = (false, false);
    let unattested = tokio::time::sleep(service.unattested);
    tokio::pin!(unattested);
    let ended = loop {
        tokio::select! {
            ended = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            _ = stop.wait_for(|stop| *stop), if !asked => {
                asked = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            () = &mut unattested, if !proven => {
                if !session.is_attested() {
                    return;
                }
                proven = true;
            }
        }
    };
    if ended.is_ok() {
        linger(connection.into_parts().io.into_inner().into_inner()).await;
    }
}

/// Says goodbye, then waits for the peer's: closing on unread bytes would reset the connection and lose the answer.
async fn linger(mut stream: TlsStream<Patient>) {
    let (most, patience) = LINGER;
    let rest = async {
        stream.shutdown().await?;
        let mut buffer = [0; 16 * 1024];
        let mut left = most;
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        std::io::Result::Ok(())
    };
    // The connection ends either way.
    let _ = tokio::time::timeout(patience, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::tests::{long, model, service};
    use crate::tls::broker_config;
    use rustls::pki_types::ServerName;
    use std::net::SocketAddr;
    use std::time::Instant;
    use tokio::io::{AsyncRead, AsyncWrite};
    use tokio_rustls::TlsConnector;
    use vouchsafe_attestation::session::AttestResponse;

    struct Running {
        service: Arc<Service>,
        address: SocketAddr,
        stop: watch::Sender<bool>,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start(max_connections: usize) -> Running {
        let service = service(model(1, "never", long()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(serve(service.clone(), listener, max_connections, stopping));
        Running { service, address, stop, task }
    }

    async fn connect(running: &Running) -> tokio_rustls::client::TlsStream<TcpStream> {
        let config = broker_config(&[running.service.identity.spki_sha256]).unwrap();
        let stream = TcpStream::connect(running.address).await.unwrap();
        let name = ServerName::try_from("enclave.invalid").unwrap();
        TlsConnector::from(config).connect(name, stream).await.unwrap()
    }

    /// Sends a request as text and reads one answer with its body.
    async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&seen);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
                if body.len() >= length.parse().unwrap() {
                    return text.into_owned();
                }
            }
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "closed after {seen:?}");
            seen.extend_from_slice(&buffer[..read]);
        }
    }

    fn post(path: &str, body: &str) -> String {
        format!("POST {path} HTTP/1.1\r\nHost: e\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    const CHALLENGE: &str = r#"{"v":1,"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","accept":["sev-snp"]}"#;
    const ROW: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#;

    #[tokio::test]
    async fn a_session_is_attested_by_its_own_exporter_and_again_after_a_change() {
        let running = start(8).await;
        let mut stream = connect(&running).await;
        let infer = post("/v2/models/m/infer", ROW);
        assert!(ask(&mut connect(&running).await, &infer).await.starts_with("HTTP/1.1 403"));
        let answer = ask(&mut stream, &post("/v1/attest", CHALLENGE)).await;
        let response: AttestResponse = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let ekm = stream.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, Some(EXPORTER_CONTEXT)).unwrap();
        let (words, spki) = (running.service.words, &running.service.identity.spki_sha256);
        let digest = vouchsafe_attestation::session::session_digest(
            words.mode,
            words.tee,
            &[0; 32],
            &ekm,
            spki,
            &response.claims,
        );
        let root = vouchsafe_attestation::session::root_from_path(
            &vouchsafe_attestation::session::leaf(&digest),
            &response.merkle,
        );
        let size = u64::from(response.merkle.size);
        let data = vouchsafe_attestation::session::report_data(words.mode, words.tee, &root.unwrap(), size);
        assert_eq!(response.evidence.signed()[0x50..0x90], data);
        assert!(ask(&mut stream, &infer).await.starts_with("HTTP/1.1 200"));
        running.service.registry.install(model(2, "never", long()));
        // A body larger than any buffer: the connection lives on all the same.
        let large = post("/v2/models/m/infer", &" ".repeat(60_000));
        let refused = ask(&mut stream, &large).await;
        assert!(refused.starts_with("HTTP/1.1 409") && refused.contains("REATTEST"), "{refused}");
        assert!(ask(&mut stream, &post("/v1/attest", CHALLENGE)).await.starts_with("HTTP/1.1 200"));
        assert!(ask(&mut stream, &infer).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_huge_declared_length_is_answered_at_once_and_the_answer_arrives() {
        let running = start(8).await;
        let mut stream = connect(&running).await;
        ask(&mut stream, &post("/v1/attest", CHALLENGE)).await;
        let head = "POST /v2/models/m/infer HTTP/1.1\r\nHost: e\r\nContent-Length: 1073741824\r\n\r\n";
        let begun = head.to_owned() + &"x".repeat(300_000);
        assert!(ask(&mut stream, &begun).await.starts_with("HTTP/1.1 413"));
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).await.is_ok(), "closed in order");
    }

    #[tokio::test]
    async fn what_two_readers_could_read_differently_is_refused_and_hides_nothing() {
        let running = start(8).await;
        let chunked = "2\r\n{}\r\n0\r\n\r\n";
        let many = "X: a\r\n".repeat(10_000);
        let long = format!("X: {}\r\n", "a".repeat(40_000));
        for (headers, status, code) in [
            ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400, "HEADER_INVALID"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", 400, "HEADER_INVALID"),
            ("Content-Length: 3\r\nContent-Length: 4\r\n", 400, "HEADER_INVALID"),
            ("Transfer-Encoding: gzip, chunked\r\n", 400, "HEADER_INVALID"),
            ("Transfer-Encoding: chunked\r\nX: a\r\n folded\r\n", 400, "HEADER_INVALID"),
            (&many, 431, "HEAD_TOO_LARGE"),
            (&long, 431, "HEAD_TOO_LARGE"),
        ] {
            let mut stream = connect(&running).await;
            let first = post("/v1/attest", CHALLENGE);
            let bad = format!("{first}GET /v2 HTTP/1.1\r\nHost: e\r\n{headers}\r\n{chunked}{first}");
            stream.write_all(bad.as_bytes()).await.unwrap();
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            let all = String::from_utf8(all).unwrap();
            let answers: Vec<&str> = all.split("HTTP/1.1 ").skip(1).collect();
            assert_eq!(answers.len(), 2, "{all}");
            assert!(answers[0].starts_with("200"), "control: the one before");
            assert!(answers[1].starts_with(&status.to_string()) && answers[1].contains(code), "{all}");
            assert!(answers[1].contains("connection: close"), "{all}");
        }
        let mut stream = connect(&running).await;
        let head = "POST /v1/attest HTTP/1.1\r\nHost: e\r\nVouchsafe-Refused: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let good = format!("{head}{:x}\r\n{CHALLENGE}\r\n0\r\n\r\n", CHALLENGE.len());
        assert!(
            ask(&mut stream, &good).await.starts_with("HTTP/1.1 200"),
            "control: chunks alone, and the mark means nothing"
        );
        assert!(ask(&mut stream, &good).await.starts_with("HTTP/1.1 200"), "control: the connection lives");
    }

    #[tokio::test]
    async fn the_end_of_a_client_ends_its_request() {
        struct Ends(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Ends {
            fn drop(&mut self) {
                let _ = self.0.take().unwrap().send(());
            }
        }
        let service = service(model(1, "never", long()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begins, begun) = tokio::sync::oneshot::channel();
        let (ends, ended) = tokio::sync::oneshot::channel();
        let once = Arc::new(std::sync::Mutex::new(Some((begins, Ends(Some(ends))))));
        // A request that runs until it is given up.
        let runs = axum::routing::post(move || {
            let (begins, ends) = once.lock().unwrap().take().unwrap();
            async move {
                begins.send(()).unwrap();
                std::future::pending::<()>().await;
                drop(ends);
            }
        });
        let (_stop, stopping) = watch::channel(false);
        let serving = service.clone();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(serving.identity.server.clone());
            let (stream, session) = handshake(&serving, &acceptor, listener.accept().await.unwrap().0).await.unwrap();
            answer(&serving, Router::new().route("/run", runs), stream, session, stopping).await;
        });
        let running = Running { service, address, stop: watch::channel(false).0, task: tokio::spawn(async {}) };
        let mut stream = connect(&running).await;
        stream.write_all(post("/run", "{}").as_bytes()).await.unwrap();
        begun.await.unwrap();
        drop(stream);
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it runs on for nobody").unwrap();
    }

    #[tokio::test]
    async fn slow_and_silent_clients_are_cut_off() {
        let running = start(8).await;
        let started = Instant::now();
        let mut silent = TcpStream::connect(running.address).await.unwrap();
        let mut slow = connect(&running).await;
        slow.write_all(b"GET /v2/health/live HT").await.unwrap();
        let mut buffer = Vec::new();
        let _ = silent.read_to_end(&mut buffer).await;
        let _ = slow.read_to_end(&mut buffer).await;
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_client_that_never_reads_loses_its_place() {
        let running = start(1).await;
        let mut deaf = connect(&running).await;
        ask(&mut deaf, &post("/v1/attest", CHALLENGE)).await;
        // More requests than the buffers between us hold answers for.
        let many = "GET /v2/health/live HTTP/1.1\r\nHost: e\r\n\r\n".repeat(1000);
        let fill = async { while deaf.write_all(many.as_bytes()).await.is_ok() {} };
        let started = Instant::now();
        tokio::time::timeout(Duration::from_secs(20), fill).await.expect("the connection ends");
        println!("cut off after {:?}", started.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(ask(&mut connect(&running).await, &post("/v1/attest", CHALLENGE)).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn only_a_connection_that_fetched_evidence_lives_long() {
        let running = start(8).await;
        let live = "GET /v2/health/live HTTP/1.1\r\nHost: e\r\n\r\n";
        let (mut probe, mut attested) = (connect(&running).await, connect(&running).await);
        ask(&mut attested, &post("/v1/attest", CHALLENGE)).await;
        for _ in 0..8 {
            // Never idle for as long as the request timeout.
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(ask(&mut attested, live).await.starts_with("HTTP/1.1 200"));
            let mut end = [0; 512];
            if probe.write_all(live.as_bytes()).await.is_err() || probe.read(&mut end).await.unwrap_or(0) == 0 {
                assert!(ask(&mut connect(&running).await, live).await.starts_with("HTTP/1.1 200"), "it comes again");
                return;
            }
        }
        panic!("a connection without evidence lives on");
    }

    #[tokio::test]
    async fn above_the_cap_who_has_not_fetched_evidence_leaves_and_who_has_stays() {
        let running = start(1).await;
        let live = "GET /v2/health/live HTTP/1.1\r\nHost: e\r\n\r\n";
        let mut probe = connect(&running).await;
        assert!(ask(&mut probe, live).await.starts_with("HTTP/1.1 200"), "control: there is one place");
        // The next one gets it, at once.
        let mut attested = connect(&running).await;
        assert_eq!(probe.read(&mut [0; 1]).await.unwrap_or(0), 0, "the first has left");
        assert!(ask(&mut attested, &post("/v1/attest", CHALLENGE)).await.starts_with("HTTP/1.1 200"));
        for _ in 0..3 {
            let mut third = TcpStream::connect(running.address).await.unwrap();
            let turned = tokio::time::timeout(Duration::from_millis(300), third.read(&mut [0; 1])).await;
            assert_eq!(turned.expect("at once, not when a handshake times out").unwrap_or(0), 0);
        }
        assert!(ask(&mut attested, live).await.starts_with("HTTP/1.1 200"), "who has fetched evidence stays");
        drop(attested);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(ask(&mut connect(&running).await, &post("/v1/attest", CHALLENGE)).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn stopping_lets_idle_connections_go() {
        let running = start(4).await;
        let mut idle = connect(&running).await;
        ask(&mut idle, &post("/v1/attest", CHALLENGE)).await;
        running.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(5), running.task).await.unwrap().unwrap();
        assert!(TcpStream::connect(running.address).await.is_err());
    }
}
