//! In whose name an inference is asked, through a connection and through the proxy, and what a refusal of a caller looks like.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{io::Write as _, sync::Arc};

use bytes::Bytes;
use hyper::{Method, Request};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use support::{
    enclave::{FakeEnclave, Fault, Heard, simulated},
    local::{Running, exchange, options_under, start},
    short,
};
use tokio::net::TcpStream;
use vouchsafe_attestation::{
    Mode, Tee, UnixTime,
    caller::{CallerHeader, caller_bytes},
    lp::sha256,
};
use vouchsafe_customer::{
    Bodies, Body, Caller, InferInput, Pinned, ProxyOptions, Salt, connect_with, error_json, verify_receipt,
};

const INFER: &str = "/v2/models/m/infer";
const API_KEY: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap()
}

fn signs() -> Option<Arc<Caller>> {
    Some(Arc::new(Caller::key(pair())))
}

fn api_key() -> Option<Arc<Caller>> {
    Some(Arc::new(Caller::api_key(&format!("{API_KEY}\n").into_bytes().into()).unwrap()))
}

fn post(body: &'static [u8], header_len: Option<u64>) -> Request<Bytes> {
    let mut request = Request::builder().method(Method::POST).uri(INFER);
    if let Some(length) = header_len {
        request = request.header("Inference-Header-Content-Length", length);
    }
    request.body(Bytes::from_static(body)).unwrap()
}

/// The counter of a request, if its signature holds for the session it came on and for exactly this request.
fn counter(heard: &Heard, header_len: u64) -> Option<u64> {
    let mut values = heard.headers.get_all("vouchsafe-caller").iter();
    let header: CallerHeader = values.next()?.to_str().unwrap().parse().unwrap();
    assert!(values.next().is_none(), "one signature");
    assert_eq!(&header.key.0[..], pair().public_key().as_ref());
    let (ekm, path, digest) = (&heard.ekm, &heard.path, sha256(&heard.body));
    let message =
        caller_bytes(Mode::Simulation, Tee::SevSnp, ekm, header.counter, &heard.method, path, header_len, &digest);
    header.verify(&message).ok().map(|()| header.counter)
}

macro_rules! start_with {
    ($caller:expr) => {{
        let Some(simulated) = simulated(module_path!()) else { return };
        let enclave = FakeEnclave::start(simulated).await;
        let pinned: Pinned =
            connect_with(&enclave.address.to_string(), simulated.policy(1, 3600), short()).await.unwrap();
        (enclave, pinned.with_caller($caller))
    }};
}

#[tokio::test]
async fn every_inference_is_signed_for_its_own_session_and_counted() {
    let (enclave, mut pinned) = start_with!(signs());
    pinned.metadata("m").await.unwrap();
    assert!(!enclave.heard()[0].headers.contains_key("vouchsafe-caller"), "no inference");
    for n in 1..=3 {
        pinned.send(post(b"{\"a\":1}binary", Some(7))).await.unwrap();
        let heard = enclave.heard().pop().unwrap();
        assert_eq!(counter(&heard, 7), Some(n));
        // Controls: whatever is changed, the signature no longer holds.
        for (other, header_len) in [
            (Heard { ekm: [0; 32], ..heard.clone() }, 7),
            (Heard { method: "PUT".to_owned(), ..heard.clone() }, 7),
            (Heard { path: "/v2/models/other/infer".to_owned(), ..heard.clone() }, 7),
            (Heard { body: Bytes::from_static(b"{\"a\":2}binary"), ..heard.clone() }, 7),
            (heard.clone(), 8),
        ] {
            assert_eq!(counter(&other, header_len), None);
        }
    }
    // What must go again after a renewal is signed again, under a new number.
    enclave.serve_sequence(3);
    pinned.send(post(b"{}", None)).await.unwrap();
    let numbers: Vec<_> = enclave.heard().iter().map(|heard| counter(heard, 0)).collect();
    assert_eq!(numbers, [Some(4), Some(5)]);
    assert_eq!(enclave.counts().0, 1);
}

#[tokio::test]
async fn an_api_key_goes_with_inferences_only() {
    let (enclave, mut pinned) = start_with!(api_key());
    let input = InferInput::parse(br#"{"rows": [[1, 2]]}"#).unwrap();
    pinned.infer("m", &input).await.unwrap();
    let [metadata, infer] = enclave.heard().try_into().ok().unwrap();
    assert!(!metadata.headers.contains_key("authorization"));
    assert_eq!(infer.headers["authorization"], format!("Bearer {API_KEY}"));
    assert!(!infer.headers.contains_key("vouchsafe-caller"));
}

#[tokio::test]
async fn a_refused_caller_reads_code_wait_and_advice() {
    let (enclave, mut pinned) = start_with!(None);
    let input = InferInput::parse(br#"{"rows": [[1, 2]]}"#).unwrap();
    for (status, code, exit, word) in [
        (401, "CALLER_UNKNOWN", 4, "--caller-key"),
        (403, "CALLER_FORBIDDEN", 4, "does not list"),
        (429, "QUOTA_EXCEEDED", 4, "quota"),
        (503, "BUSY", 8, "again"),
    ] {
        enclave.fault(Fault::Refuse(status, code, "42"));
        let error = pinned.infer("m", &input).await.unwrap_err();
        assert_eq!((error.code(), error.exit()), (code, exit));
        assert!(error.to_string().ends_with("ask again in 42 s"), "{error}");
        assert!(error.advice().contains(word), "{}", error.advice());
        assert_eq!(error_json(&error)["retry_after_s"], 42);
    }
    enclave.fault(Fault::Refuse(429, "QUOTA_EXCEEDED", "soon"));
    let error = pinned.infer("m", &input).await.unwrap_err();
    assert_eq!(error_json(&error).get("retry_after_s"), None, "what is no number is not repeated");
    enclave.fault(Fault::None);
    assert!(pinned.infer("m", &input).await.is_ok(), "control: the same connection");
    assert_eq!(enclave.counts().0, 1);
}

async fn world(set: impl FnOnce(&mut ProxyOptions)) -> Option<(FakeEnclave, Running)> {
    let simulated = simulated(module_path!())?;
    let enclave = FakeEnclave::start(simulated).await;
    let mut options = options_under(simulated.policy(1, 3600), enclave.address);
    set(&mut options);
    let running = start(options).await;
    Some((enclave, running))
}

async fn ask(running: &Running, method: &str, path: &str, more: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    let (host, length) = (running.address(), body.len());
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: {length}\r\n\r\n");
    exchange(&mut stream, &[head.as_bytes(), body].concat()).await
}

const CLAIMED: &str = "Vouchsafe-Caller: AAAA.1.AAAA\r\nAuthorization: Bearer the-clients-own\r\n";

#[tokio::test]
async fn the_proxy_asks_in_its_own_name_whoever_the_client_says_it_is() {
    let Some((enclave, running)) = world(|o| o.caller = signs()).await else { return };
    for n in 1..=2 {
        assert_eq!(ask(&running, "POST", "/v2/models/m/versions/2/infer?a=b", CLAIMED, b"{}").await.0, 200);
        let heard = enclave.heard().pop().unwrap();
        assert_eq!(counter(&heard, 0), Some(n));
        assert!(!heard.headers.contains_key("authorization"));
    }
    // Anything but an inference is asked in nobody's name.
    for (method, path) in [("GET", "/v2/models/m"), ("GET", INFER), ("POST", "/v2/repository/index")] {
        assert_eq!(ask(&running, method, path, CLAIMED, b"").await.0, 200);
        let headers = enclave.heard().pop().unwrap().headers;
        assert!(!headers.contains_key("vouchsafe-caller") && !headers.contains_key("authorization"), "{path}");
    }
    // A new connection is a new session: its counter starts again, under its own exporter value.
    enclave.drop_connections().await;
    assert_eq!(ask(&running, "POST", INFER, "", b"{}").await.0, 200);
    assert_eq!(counter(&enclave.heard().pop().unwrap(), 0), Some(1));
    running.stop().await;
}

#[tokio::test]
async fn a_clients_own_api_key_passes_only_where_the_proxy_has_no_name() {
    let Some((enclave, running)) = world(|_| {}).await else { return };
    assert_eq!(ask(&running, "POST", INFER, CLAIMED, b"{}").await.0, 200);
    let headers = enclave.heard().pop().unwrap().headers;
    assert_eq!(headers["authorization"], "Bearer the-clients-own");
    assert!(!headers.contains_key("vouchsafe-caller"), "nobody but the proxy can sign for its session");
    running.stop().await;

    let Some((enclave, running)) = world(|o| o.caller = api_key()).await else { return };
    assert_eq!(ask(&running, "POST", INFER, CLAIMED, b"{}").await.0, 200);
    let headers = enclave.heard().pop().unwrap().headers;
    let all: Vec<_> = headers.get_all("authorization").iter().collect();
    assert_eq!(all, [&format!("Bearer {API_KEY}")]);
    assert!(!headers.contains_key("vouchsafe-caller"));
    running.stop().await;
}

#[tokio::test]
async fn refusals_reach_the_client_unchanged_with_their_wait() {
    let dir = tempfile::tempdir().unwrap();
    for receipts in [None, Some(dir.path().join("receipts"))] {
        let Some((enclave, running)) = world(|o| o.receipts = receipts).await else { return };
        for (status, code) in [
            (401, "CALLER_UNKNOWN"),
            (403, "CALLER_FORBIDDEN"),
            (429, "QUOTA_EXCEEDED"),
            (503, "BUSY"),
            (400, "NEW_CODE"),
        ] {
            enclave.fault(Fault::Refuse(status, code, "42"));
            let (got, head, body) = ask(&running, "POST", INFER, "", b"{}").await;
            assert_eq!(got, status);
            assert!(head.contains("\nretry-after: 42\r") && head.contains("content-type: application/json"), "{head}");
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!({"error": "refused", "code": code}));
        }
        assert_eq!(enclave.counts().0, 1, "a refusal costs no connection");
        running.stop().await;
    }
}

/// What `tritonclient.http` and KServe's `InferenceRESTClient` ask for besides inferences.
#[tokio::test]
async fn every_route_of_the_clients_passes() {
    let Some((enclave, running)) = world(|_| {}).await else { return };
    for (method, path) in [
        ("GET", "/v2"),
        ("GET", "/v2/health/live"),
        ("GET", "/v2/health/ready"),
        ("GET", "/v2/models"),
        ("GET", "/v2/models/stats"),
        ("GET", "/v2/models/m"),
        ("GET", "/v2/models/m/ready"),
        ("GET", "/v2/models/m/config"),
        ("GET", "/v2/models/m/stats"),
        ("GET", "/v2/models/m/versions/2"),
        ("GET", "/v2/models/m/versions/2/ready"),
        ("GET", "/v2/models/m/versions/2/config"),
        ("GET", "/v2/models/m/versions/2/stats"),
        ("POST", "/v2/repository/index"),
    ] {
        assert_eq!(ask(&running, method, path, "", b"").await.0, 200, "{method} {path}");
        let heard = enclave.heard().pop().unwrap();
        assert_eq!((heard.method.as_str(), heard.path.as_str()), (method, path));
    }
    running.stop().await;
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(plain).unwrap();
    out.finish().unwrap()
}

/// A JSON part longer than the whole body is when compressed, and a tensor.
fn binary() -> (Vec<u8>, u64) {
    let json = format!("{{\"inputs\":[]}}{}", " ".repeat(500));
    ([json.as_bytes(), &[0; 64]].concat(), json.len() as u64)
}

#[tokio::test]
async fn a_compressed_request_passes_as_it_is_and_its_receipt_names_what_was_compressed() {
    let Some(simulated) = simulated("a_compressed_request") else { return };
    let dir = tempfile::tempdir().unwrap();
    let set = |o: &mut ProxyOptions| {
        o.receipts = Some(dir.path().to_owned());
        o.caller = signs();
    };
    let Some((enclave, running)) = world(set).await else { return };
    let (plain, header_len) = binary();
    let packed = gzip(&plain);
    assert!((packed.len() as u64) < header_len, "control");
    let more = format!("Content-Encoding: gzip\r\nInference-Header-Content-Length: {header_len}\r\n");
    let (status, head, echoed) = ask(&running, "POST", INFER, &more, &packed).await;
    assert_eq!((status, &echoed), (200, &plain));
    assert!(head.contains(&format!("inference-header-content-length: {header_len}")), "{head}");
    let heard = enclave.heard().pop().unwrap();
    assert_eq!((&heard.body[..], &heard.headers["content-encoding"]), (&packed[..], &"gzip".parse().unwrap()));
    assert_eq!(counter(&heard, header_len), Some(1), "the signature is over what was sent");

    let name = head.lines().find_map(|l| l.strip_prefix("vouchsafe-receipt-name: ")).unwrap();
    let file = std::fs::read(dir.path().join(format!("{name}.receipt.json"))).unwrap();
    let salt = std::fs::read_to_string(dir.path().join("salts").join(format!("{name}.salt"))).unwrap();
    let salt = Salt::from_text(&salt).unwrap();
    let at = UnixTime(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let response = Body { bytes: &echoed, header_len };
    let verdict = |bytes: &[u8]| {
        let bodies = Bodies { request: Body { bytes, header_len }, response, salt: &salt };
        verify_receipt(&file, &simulated.policy(1, 3600), at, Some(bodies)).err().map(|e| e.code())
    };
    assert_eq!(verdict(&plain), None);
    assert_eq!(verdict(&packed), Some("RECEIPT_BODY_MISMATCH"), "not what was sent");

    // What cannot be inflated here could not be compared: it is not sent, and costs no connection.
    for damaged in [&packed[..packed.len() - 1], b"not gzip"] {
        let (status, _, body) = ask(&running, "POST", INFER, "Content-Encoding: gzip\r\n", damaged).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &body["code"]), (400, &json!("CONTENT_ENCODING")));
    }
    assert!(enclave.heard().is_empty());
    assert_eq!(ask(&running, "POST", INFER, "", b"{}").await.0, 200);
    assert_eq!(enclave.counts().0, 1);
    running.stop().await;
}

#[tokio::test]
async fn without_receipts_compressed_bodies_are_the_services_to_judge() {
    let Some((enclave, running)) = world(|_| {}).await else { return };
    for (coding, body) in [("gzip", gzip(b"{}")), ("deflate", b"anything".to_vec()), ("br", b"anything".to_vec())] {
        let more = format!("Content-Encoding: {coding}\r\nAccept-Encoding: gzip\r\n");
        assert_eq!(ask(&running, "POST", INFER, &more, &body).await.0, 200);
        let heard = enclave.heard().pop().unwrap();
        assert_eq!((&heard.headers["content-encoding"], &heard.body[..]), (&coding.parse().unwrap(), &body[..]));
        assert_eq!(heard.headers["accept-encoding"], "gzip");
    }
    running.stop().await;
}
