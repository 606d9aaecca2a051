//! The proxy's own answers: who may call it, where it listens, and what a client reads when the service fails.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use serde_json::Value;
use support::{
    Act, Service, Shows, hardware_policy, http,
    local::{ask, get, options_under, start},
};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use vouchsafe_customer::{Listen, ProxyOptions, proxy, verify_log};

fn options(upstream: impl ToString) -> ProxyOptions {
    options_under(hardware_policy(), upstream)
}

async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_service_that_is_down_is_a_502_with_the_reason() {
    let running = start(options(nobody().await)).await;
    let host = format!("localhost:{}", running.address().port());
    let (status, head, body) = get(running.address(), "/v2/health/live", &host).await;
    assert_eq!((status, &body["code"]), (502, &Value::from("PEER_UNREACHABLE")));
    assert!(head.contains("content-type: application/problem+json"), "{head}");
    assert!(head.contains("vouchsafe-mode: hardware"), "{head}");
    assert_eq!(body["status"], 502);
    assert_eq!(body["codes"], serde_json::json!(["PEER_UNREACHABLE"]));
    assert!(body["error"].as_str().unwrap().starts_with("PEER_UNREACHABLE: "));
    assert!(!body["advice"].as_str().unwrap().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_service_that_fails_a_step_is_a_502_and_gets_nothing() {
    for (act, code) in [
        (Act::Say(http("200 OK", b"garbage")), "ATTEST_RESPONSE_INVALID"),
        (Act::Say(http("500 Oh", b"")), "PEER_STATUS"),
        (Act::Silence, "PEER_TIMEOUT"),
        (Act::Close, "PEER_CLOSED"),
    ] {
        let service = Service::start(Shows::Own, act).await;
        let running = start(options(service.address)).await;
        let stream = TcpStream::connect(running.address()).await.unwrap();
        let request = format!(
            "POST /v2/models/m/infer HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\n{{\"ca\":\"n\"",
            running.address()
        );
        let (status, _, body) = ask(stream, &request).await;
        assert_eq!((status, &body["code"]), (502, &Value::from(code)));
        service.saw_one_attest_request_only().await;
        assert_eq!(*service.connections.lock().unwrap(), 1, "no second try behind the client's back");
        running.stop().await;
    }
}

#[tokio::test]
async fn foreign_hosts_origins_and_paths_stay_outside() {
    let service = Service::start(Shows::Own, Act::Silence).await;
    let running = start(options(service.address)).await;
    let (address, own) = (running.address(), running.address().to_string());
    let (status, head, body) = get(address, "/v2", "evil.example").await;
    assert_eq!((status, &body["code"]), (421, &Value::from("HOST_REFUSED")));
    assert!(head.contains("application/problem+json"));
    let (status, _, body) = get(address, "/v1/attest", &own).await;
    assert_eq!((status, &body["code"]), (404, &Value::from("PATH_REFUSED")));
    let (status, _, body) = get(address, "/v2/../v1/attest", &own).await;
    assert_eq!((status, &body["code"]), (404, &Value::from("PATH_REFUSED")));
    let stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /v2 HTTP/1.1\r\nHost: {own}\r\nOrigin: https://evil.example\r\n\r\n");
    let (status, _, body) = ask(stream, &request).await;
    assert_eq!((status, &body["code"]), (403, &Value::from("ORIGIN_REFUSED")));
    assert_eq!(*service.connections.lock().unwrap(), 0, "none of these reached the service");
    running.stop().await;
}

#[tokio::test]
async fn bodies_too_large_too_slow_or_cut_stay_outside() {
    let service = Service::start(Shows::Own, Act::Silence).await;
    let running = start(options(service.address)).await;
    let own = running.address().to_string();
    let post = |rest: &str| format!("POST /v2/models/m/infer HTTP/1.1\r\nHost: {own}\r\n{rest}");
    for (rest, expected) in [
        ("Content-Length: 1073741824\r\n\r\n".to_owned(), (413, "BODY_TOO_LARGE")),
        (
            format!("Transfer-Encoding: chunked\r\n\r\n{}", format!("1000\r\n{}\r\n", "x".repeat(0x1000)).repeat(17)),
            (413, "BODY_TOO_LARGE"),
        ),
        ("Content-Length: 10\r\n\r\nabc".to_owned(), (408, "BODY_TIMEOUT")),
    ] {
        let stream = TcpStream::connect(running.address()).await.unwrap();
        let (status, _, body) = ask(stream, &post(&rest)).await;
        assert_eq!((status, body["code"].as_str().unwrap()), expected);
    }
    assert_eq!(*service.connections.lock().unwrap(), 0, "none of these reached the service");
    running.stop().await;
}

#[tokio::test]
async fn one_client_connection_serves_many_requests() {
    let running = start(options(nobody().await)).await;
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    let request = format!("GET /v2 HTTP/1.1\r\nHost: {}\r\n\r\n", running.address());
    for _ in 0..3 {
        let (status, _, _) = ask(&mut stream, &request).await;
        assert_eq!(status, 502);
    }
    running.stop().await;
}

#[tokio::test]
async fn only_loopback_and_ports_that_are_free() {
    let mut wrong = options(nobody().await);
    wrong.listen = Listen::Tcp("0.0.0.0:0".parse().unwrap());
    let error = proxy(wrong, |_| panic!("ready"), std::future::pending()).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), ("PROXY_NOT_LOOPBACK", 1));

    let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut taken = options(nobody().await);
    taken.listen = Listen::Tcp(held.local_addr().unwrap());
    let error = proxy(taken, |_| panic!("ready"), std::future::pending()).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), ("PORT_IN_USE", 9));

    let error = proxy(options("no-port"), |_| panic!("ready"), std::future::pending()).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), ("ADDRESS_INVALID", 1));
}

#[tokio::test]
async fn a_unix_socket_is_the_owners_alone_and_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.sock");
    let mut over_unix = options(nobody().await);
    over_unix.listen = Listen::Unix(path.clone());
    let running = start(over_unix).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let stream = UnixStream::connect(&path).await.unwrap();
    let (status, _, body) = ask(stream, "GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!((status, &body["code"]), (502, &Value::from("PEER_UNREACHABLE")));

    let mut again = options(nobody().await);
    again.listen = Listen::Unix(path.clone());
    let error = proxy(again, |_| panic!("ready"), std::future::pending()).await.unwrap_err();
    assert_eq!(error.code(), "PORT_IN_USE");
    running.stop().await;
    assert!(!path.exists());

    // A socket that a dead proxy left behind is taken over; any other file is not.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut over_unix = options(nobody().await);
    over_unix.listen = Listen::Unix(path.clone());
    start(over_unix).await.stop().await;
    std::fs::write(&path, "precious").unwrap();
    let mut over_unix = options(nobody().await);
    over_unix.listen = Listen::Unix(path.clone());
    let error = proxy(over_unix, |_| panic!("ready"), std::future::pending()).await.unwrap_err();
    assert_eq!(error.code(), "PORT_IN_USE");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn every_refused_service_is_a_line_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log: PathBuf = dir.path().join("proxy.log");
    let mut logged = options(nobody().await);
    logged.log = Some(log.clone());
    let running = start(logged).await;
    let own = running.address().to_string();
    for _ in 0..2 {
        let (status, _, _) = get(running.address(), "/v2/models/secret-name", &own).await;
        assert_eq!(status, 502);
    }
    running.stop().await;
    assert_eq!(verify_log(&log).unwrap().lines, 2);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.lines().all(|l| l.contains("\"code\":\"PEER_UNREACHABLE\"") && l.contains("\"mode\":\"hardware\"")));
    assert!(!text.contains("secret-name"), "no payload, no path");
}

/// Eight callers at once share the lanes, first come, first served, and all get an answer.
#[tokio::test]
async fn callers_wait_their_turn() {
    let service = Service::start(Shows::Own, Act::Say(http("200 OK", b"{}"))).await;
    let mut narrow = options(service.address);
    narrow.max_lanes = 1;
    let running = Arc::new(start(narrow).await);
    let asks: Vec<_> = (0..8)
        .map(|_| {
            let running = Arc::clone(&running);
            tokio::spawn(async move { get(running.address(), "/v2", &running.address().to_string()).await.0 })
        })
        .collect();
    for ask in asks {
        assert_eq!(ask.await.unwrap(), 502);
    }
}
