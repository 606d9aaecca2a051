//! A service that fails any step gets one attestation request at most, and each failure has its own code.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use support::{Act, Service, Shows, hardware_policy, http, short};
use vouchsafe_customer::{CustomerError, connect_with};

async fn refused(service: &Service) -> CustomerError {
    match connect_with(&service.address.to_string(), hardware_policy(), short()).await {
        Ok(_) => panic!("a misbehaving service was accepted"),
        Err(error) => error,
    }
}

/// The service speaks TLS as it should and gets the attestation request; then it does `act`.
async fn after_attest(act: Act) -> &'static str {
    let service = Service::start(Shows::Own, act).await;
    let error = refused(&service).await;
    assert_eq!(error.exit(), 8, "{error}");
    service.saw_one_attest_request_only().await;
    error.code()
}

#[tokio::test]
async fn answers_that_are_no_attestation() {
    let envelope = br#"{"v":1,"tee":"sev-snp","claims":"","merkle":{"index":0,"size":1,"path":[]},"evidence":{"report":"","leaf":"","crl":""},"extra":1}"#;
    for body in [&b"garbage"[..], b"", b"{}", b"[]", b"\xff\xfe", b"{\"v\":1", envelope] {
        assert_eq!(after_attest(Act::Say(http("200 OK", body))).await, "ATTEST_RESPONSE_INVALID");
    }
}

#[tokio::test]
async fn deep_nesting_is_no_stack_overflow() {
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert_eq!(after_attest(Act::Say(http("200 OK", &deep))).await, "ATTEST_RESPONSE_INVALID");
}

#[tokio::test]
async fn answers_above_the_cap() {
    assert_eq!(after_attest(Act::Say(http("200 OK", &vec![b' '; 300 * 1024]))).await, "ATTEST_RESPONSE_INVALID");
    let mut chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        chunked.extend_from_slice(b"4000\r\n");
        chunked.extend_from_slice(&[b' '; 0x4000]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(after_attest(Act::Say(chunked)).await, "ATTEST_RESPONSE_INVALID");
    let head = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 200 * 1024]].concat();
    assert_eq!(after_attest(Act::Say(head)).await, "PEER_PROTOCOL");
}

#[tokio::test]
async fn other_statuses() {
    for status in ["500 Internal Server Error", "404 Not Found", "201 Created", "301 Moved", "204 No Content"] {
        assert_eq!(after_attest(Act::Say(http(status, b""))).await, "PEER_STATUS", "{status}");
    }
}

#[tokio::test]
async fn answers_that_are_not_http() {
    assert_eq!(after_attest(Act::Say(b"SSH-2.0-x\r\n\r\n".to_vec())).await, "PEER_PROTOCOL");
    assert_eq!(after_attest(Act::Say(b"HTTP/2.0 200 OK\r\n\r\n".to_vec())).await, "PEER_PROTOCOL");
}

#[tokio::test]
async fn slow_answers() {
    assert_eq!(after_attest(Act::Silence).await, "PEER_TIMEOUT");
    assert_eq!(after_attest(Act::Drip(http("200 OK", &[b' '; 1000]))).await, "PEER_TIMEOUT");
}

#[tokio::test]
async fn early_ends() {
    assert_eq!(after_attest(Act::Close).await, "PEER_CLOSED");
    let cut = http("200 OK", b"0123456789").split_off(0);
    assert_eq!(after_attest(Act::SayAndClose(cut[..cut.len() - 3].to_vec())).await, "PEER_CLOSED");
}

/// Evidence that parses as an envelope and is no report.
#[tokio::test]
async fn evidence_that_is_not_genuine() {
    let body = br#"{"v":1,"tee":"sev-snp","claims":"e30","merkle":{"index":0,"size":1,"path":[]},"evidence":{"report":"AAAA","leaf":"AAAA","crl":"AAAA"}}"#;
    let service = Service::start(Shows::Own, Act::Say(http("200 OK", body))).await;
    let error = refused(&service).await;
    assert!(matches!(error, CustomerError::Verify(_)), "{error}");
    assert_eq!((error.code(), error.exit()), ("REPORT_LENGTH", 2));
    service.saw_one_attest_request_only().await;
}

async fn at_the_handshake(shows: Shows, act: Act) -> &'static str {
    let service = Service::start(shows, act).await;
    let error = refused(&service).await;
    assert_eq!(error.exit(), 8, "{error}");
    service.saw_nothing().await;
    error.code()
}

#[tokio::test]
async fn handshakes_that_are_not_an_enclaves() {
    assert_eq!(at_the_handshake(Shows::Own, Act::Tls12).await, "PEER_TLS");
    assert_eq!(at_the_handshake(Shows::Foreign, Act::Silence).await, "PEER_TLS");
    assert_eq!(at_the_handshake(Shows::P384, Act::Silence).await, "PEER_TLS");
    assert_eq!(at_the_handshake(Shows::Two, Act::Silence).await, "PEER_TLS");
    assert_eq!(at_the_handshake(Shows::Own, Act::CloseAtOnce).await, "PEER_CLOSED");
}

/// X25519 alone is the fallback; a peer with neither group gets no handshake.
#[tokio::test]
async fn groups_beyond_the_two_are_not_negotiated() {
    use rustls::crypto::ring::{default_provider, kx_group};
    for (group, code) in [(kx_group::X25519, "ATTEST_RESPONSE_INVALID"), (kx_group::SECP256R1, "PEER_TLS")] {
        let mut provider = default_provider();
        provider.kx_groups = vec![group];
        let service = Service::start_with(provider, Shows::Own, Act::Say(http("200 OK", b"garbage"))).await;
        assert_eq!(refused(&service).await.code(), code);
    }
}

#[tokio::test]
async fn a_peer_that_never_shakes_hands() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let held = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(stream);
    });
    let error = connect_with(&address, hardware_policy(), short()).await.err().unwrap();
    assert_eq!((error.code(), error.exit()), ("PEER_TIMEOUT", 8));
    held.abort();
}

#[tokio::test]
async fn nobody_there() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = connect_with(&address, hardware_policy(), short()).await.err().unwrap();
    assert_eq!((error.code(), error.exit()), ("PEER_UNREACHABLE", 8));
    let error = connect_with("no port", hardware_policy(), short()).await.err().unwrap();
    assert_eq!((error.code(), error.exit()), ("ADDRESS_INVALID", 1));
}
