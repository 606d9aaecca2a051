//! Turns HTTP requests into calls of `exchange` and its replies into HTTP answers.
//! It reads sizes, a cookie and a path; what they mean is decided behind it.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, SET_COOKIE},
    },
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use vouchsafe_release::rcar::{
    ATTEST_PATH, AUTH_PATH, COOKIE as SESSION_COOKIE, ErrorBody, MAX_ATTEST, MAX_AUTH, RESOURCE_PREFIX, to_bytes,
};

use crate::{clock, exchange::Exchange, refusal::Reply};

/// At most so many verifications and ledger writes wait in threads at once.
const WORKERS: usize = 8;
/// A body that is too large by less than this is read to its end and dropped.
const DRAIN: usize = 256 * 1024;

/// What every handler gets.
pub(crate) struct App {
    exchange: Arc<Exchange>,
    workers: Semaphore,
    read_timeout: Duration,
}

/// The router.
pub(crate) fn router(exchange: Arc<Exchange>, read_timeout: Duration) -> Router {
    Router::new()
        .route(AUTH_PATH, post(auth))
        .route(ATTEST_PATH, post(attest))
        .route(&format!("{RESOURCE_PREFIX}{{*path}}"), get(resource))
        .fallback(|| async { plain(StatusCode::NOT_FOUND, "not-found", "no such path") })
        .with_state(Arc::new(App { exchange, workers: Semaphore::new(WORKERS), read_timeout }))
}

/// Where a request came from; `serve` adds it to each.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

async fn auth(State(app): State<Arc<App>>, request: Request) -> Response {
    let peer = peer(&request);
    match read(request, MAX_AUTH, app.read_timeout).await {
        Ok(body) => run(app, move |x| x.auth(peer, &body, clock::now())).await,
        Err(response) => response,
    }
}

async fn attest(State(app): State<Arc<App>>, request: Request) -> Response {
    let (peer, session) = (peer(&request), session(request.headers()));
    match read(request, MAX_ATTEST, app.read_timeout).await {
        Ok(body) => run(app, move |x| x.attest(peer, session.as_deref(), &body, clock::now())).await,
        Err(response) => response,
    }
}

async fn resource(State(app): State<Arc<App>>, request: Request) -> Response {
    let (peer, session) = (peer(&request), session(request.headers()));
    let path = request.uri().path().to_owned();
    match read(request, 0, app.read_timeout).await {
        Ok(_) => run(app, move |x| x.resource(peer, session.as_deref(), &path, clock::now())).await,
        Err(response) => response,
    }
}

/// Runs a step in a thread: it verifies signatures and waits for the disk.
async fn run(app: Arc<App>, step: impl FnOnce(&Exchange) -> Reply + Send + 'static) -> Response {
    let Ok(_permit) = app.workers.acquire().await else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "try again later");
    };
    let exchange = Arc::clone(&app.exchange);
    match spawn_blocking(move || step(&exchange)).await {
        Ok(reply) => respond(reply),
        Err(_) => {
            app.exchange.say("unavailable", "INTERNAL");
            plain(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "try again later")
        }
    }
}

fn respond(reply: Reply) -> Response {
    match reply {
        Reply::Accepted { body, cookie } => {
            let mut response = json(StatusCode::OK, body);
            let cookie = cookie.map(|value| format!("{SESSION_COOKIE}={value}; HttpOnly; SameSite=Strict"));
            if let Some(value) = cookie.and_then(|c| HeaderValue::from_str(&c).ok()) {
                response.headers_mut().insert(SET_COOKIE, value);
            }
            response
        }
        Reply::Refused(ticket) => json(StatusCode::UNAUTHORIZED, to_bytes(&ErrorBody::ticket("refused", &ticket.0))),
        Reply::Limited => plain(StatusCode::TOO_MANY_REQUESTS, "limited", "try again later"),
        Reply::Unavailable => plain(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "try again later"),
    }
}

/// An answer of the transport: no ticket, no ledger line, nothing of the request in it.
pub(crate) fn plain(status: StatusCode, kind: &str, detail: &str) -> Response {
    let body = ErrorBody { kind: format!("urn:vouchsafe:{kind}"), detail: detail.to_owned() };
    json(status, to_bytes(&body))
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = (status, Body::from(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Reads a body of at most `cap` bytes. A little more is read and dropped, so that the peer hears the answer.
async fn read(request: Request, cap: usize, patience: Duration) -> Result<Bytes, Response> {
    let too_large = || closing(plain(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is too large"));
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if declared.is_some_and(|n: u64| n > (cap + DRAIN) as u64) {
        return Err(too_large());
    }
    let mut stream = request.into_body();
    let whole = async {
        let (mut body, mut seen) = (BytesMut::new(), 0);
        while let Some(frame) = stream.frame().await {
            let frame = frame.map_err(|_| plain(StatusCode::BAD_REQUEST, "bad-request", "the body cannot be read"))?;
            let Ok(data) = frame.into_data() else { continue };
            seen += data.len();
            if seen <= cap {
                body.extend_from_slice(&data);
            } else if seen > cap + DRAIN {
                break;
            }
        }
        if seen > cap { Err(too_large()) } else { Ok(body.freeze()) }
    };
    let late = |_| plain(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took too long");
    timeout(patience, whole).await.map_err(late).flatten().map_err(closing)
}

/// The rest of such a request is not worth reading.
pub(crate) fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn peer(request: &Request) -> IpAddr {
    request.extensions().get::<Peer>().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0)
}

fn session(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == SESSION_COOKIE)
        .map(|(_, value)| value.to_owned())
}
