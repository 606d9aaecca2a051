//! The broker on its wire: real TLS on loopback, hostile and clumsy peers, and the ledger line behind every ticket.
//! Evidence that is accepted needs a root, real or simulated: those tests stand elsewhere.

#![allow(clippy::unwrap_used, reason = "test helpers")]

mod support;

use std::{sync::Barrier, time::Duration};

use support::{AUTH, Client, make, start};
use vouchsafe_attestation::{EvidenceEnvelope, Tee, lp::sha256};
use vouchsafe_release::{
    ReleaseError, TeeKey,
    client::{Auth, Incoming, Outgoing},
    rcar::AttestRequest,
};

fn attest_body(nonce: &str) -> Vec<u8> {
    let evidence = EvidenceEnvelope::sev_snp(vec![7; 1184], vec![1], vec![2]);
    AttestRequest::to_bytes(nonce, &TeeKey::generate().unwrap().public_jwk(), &evidence).unwrap()
}

const RESOURCE: &str = "/kbs/v0/resource/vouchsafe/m/1";

#[test]
fn tls_is_hybrid_tls13_with_the_pinned_key_and_nothing_to_resume() {
    let dir = tempfile::tempdir().unwrap();
    let (state, summary) = make(dir.path(), "");
    let broker = start(&state);
    let mut client = broker.client();
    client.auth();
    let tls = client.tls();
    assert_eq!(tls.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(tls.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(tls.tls13_tickets_received(), 0);
    let leaf = tls.peer_certificates().unwrap()[0].as_ref();
    let spki = rcgen_spki(leaf);
    assert_eq!(sha256(&spki), summary.tls_spki_sha256);
}

/// The SubjectPublicKeyInfo inside a P-256 certificate: found by its fixed 26-byte prefix.
fn rcgen_spki(cert: &[u8]) -> Vec<u8> {
    let prefix = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    let at = cert.windows(prefix.len()).position(|w| w == prefix).unwrap();
    cert[at..at + 91].to_vec()
}

#[test]
fn a_nonce_is_used_once_whatever_the_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "");
    let broker = start(&state);
    let mut client = broker.client();
    let (nonce, cookie) = client.auth();
    let first = client.send("POST", "/kbs/v0/attest", Some(&cookie), &attest_body(&nonce));
    assert!(broker.code(&first).starts_with("REPORT_"), "the evidence was looked at: {}", broker.code(&first));
    let again = client.send("POST", "/kbs/v0/attest", Some(&cookie), &attest_body(&nonce));
    assert_eq!(broker.code(&again), "NONCE_USED");
    let elsewhere = broker.client().send("POST", "/kbs/v0/attest", Some(&cookie), &attest_body(&nonce));
    assert_eq!(broker.code(&elsewhere), "NONCE_USED");
    let (other_nonce, cookie) = client.auth();
    assert_ne!(other_nonce, nonce);
    let replayed = client.send("POST", "/kbs/v0/attest", Some(&cookie), &attest_body(&nonce));
    assert_eq!(broker.code(&replayed), "NONCE_MISMATCH");
}

#[test]
fn every_refusal_has_a_ticket_and_the_ledger_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "");
    let broker = start(&state);
    let mut client = broker.client();
    let unknown = "kbs-session-id=00000000000000000000000000000000";
    let mut refused = |method: &str, path: &str, cookie: Option<&str>, body: &[u8]| {
        let answer = client.send(method, path, cookie, body);
        (broker.code(&answer), answer.body)
    };
    let post = "POST";
    let (auth, attest) = ("/kbs/v0/auth", "/kbs/v0/attest");
    let mut tickets = Vec::new();
    for (expected, method, path, cookie, body) in [
        ("RCAR_MESSAGE", post, auth, None, b"garbage".as_slice()),
        ("RCAR_MESSAGE", post, auth, None, br#"{"version":"0.4.0","tee":"snp","extra-params":"","x":1}"#),
        ("RCAR_MESSAGE", post, auth, None, br#"{"version":"0.4.0","version":"0.4.0","tee":"snp","extra-params":""}"#),
        ("RCAR_VERSION", post, auth, None, br#"{"version":"0.1.0","tee":"snp","extra-params":""}"#),
        (
            "RCAR_HASH",
            post,
            auth,
            None,
            br#"{"version":"0.4.0","tee":"snp","extra-params":{"supported-hash-algorithms":["sm3"]}}"#,
        ),
        ("SESSION_UNKNOWN", post, attest, None, b"{}"),
        ("SESSION_UNKNOWN", post, attest, Some(unknown), b"{}"),
        ("SESSION_UNKNOWN", post, attest, Some("kbs-session-id=../../x"), b"{}"),
        ("TOKEN_MISSING", "GET", RESOURCE, None, b""),
        ("SESSION_UNKNOWN", "GET", RESOURCE, Some(unknown), b""),
    ] {
        let (code, ticket) = refused(method, path, cookie, body);
        assert_eq!(code, expected);
        assert!(!tickets.contains(&ticket));
        tickets.push(ticket);
    }

    let mut client = broker.client();
    let mut attest_with = |change: &dyn Fn(String) -> Vec<u8>| {
        let (nonce, cookie) = client.auth();
        let body = change(String::from_utf8(attest_body(&nonce)).unwrap());
        broker.code(&client.send(post, attest, Some(&cookie), &body))
    };
    assert_eq!(attest_with(&|_| b"{".to_vec()), "RCAR_MESSAGE");
    assert_eq!(attest_with(&|b| b.replace("\"report\"", "\"attestation_report\"").into_bytes()), "EVIDENCE_FORMAT");
    assert_eq!(attest_with(&|b| b.replace("P-256", "P-384").into_bytes()), "TEE_PUBKEY");
    let (_, cookie) = client.auth();
    assert_eq!(broker.code(&client.send("GET", RESOURCE, Some(&cookie), b"")), "TOKEN_MISSING");
}

#[test]
fn the_transport_refuses_sizes_methods_and_paths_without_a_ledger_line() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "");
    let broker = start(&state);
    let lines = || vouchsafe_broker::admin::ledger_verify(&state).unwrap().head.n;
    let before = lines();
    for (method, path, body, status) in [
        ("POST", "/kbs/v0/auth", vec![b' '; 5 * 1024], 413),
        ("POST", "/kbs/v0/attest", vec![b' '; 257 * 1024], 413),
        ("POST", "/kbs/v0/attest", vec![b' '; 500 * 1024], 413),
        ("GET", RESOURCE, vec![b' '; 1], 413),
        ("GET", "/kbs/v0/auth", vec![], 405),
        ("PUT", "/kbs/v0/attest", vec![], 405),
        ("POST", RESOURCE, vec![], 405),
        ("GET", "/", vec![], 404),
        ("GET", "/kbs/v0/resource/", vec![], 404),
        ("POST", "/kbs/v0/attest/", vec![], 404),
    ] {
        let answer = broker.client().send(method, path, None, &body);
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let mut client = broker.client();
    client.raw(b"POST /kbs/v0/attest HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n");
    assert_eq!(client.answer().unwrap().status, 413, "one declared gigabyte is not read");
    let mut client = broker.client();
    client.raw(b"POST /kbs/v0/attest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
    for _ in 0..17 {
        client.raw(&chunk);
    }
    client.raw(b"0\r\n\r\n");
    assert_eq!(client.answer().unwrap().status, 413, "nor is an undeclared one");
    assert_eq!(lines(), before);
    broker.client().auth();
}

#[test]
fn one_of_many_concurrent_uses_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "");
    let broker = start(&state);
    let (nonce, cookie) = broker.client().auth();
    let gate = Barrier::new(8);
    let mut codes: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = broker.client();
                    let body = attest_body(&nonce);
                    gate.wait();
                    broker.code(&client.send("POST", "/kbs/v0/attest", Some(&cookie), &body))
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    codes.sort();
    assert_eq!(codes[..7], vec!["NONCE_USED"; 7]);
    assert!(codes[7].starts_with("REPORT_"));
}

#[test]
fn a_nonce_expires() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "\n[limits]\nnonce_ttl_s = 1\n");
    let broker = start(&state);
    let mut client = broker.client();
    let (nonce, cookie) = client.auth();
    std::thread::sleep(Duration::from_millis(1_100));
    let late = client.send("POST", "/kbs/v0/attest", Some(&cookie), &attest_body(&nonce));
    assert_eq!(broker.code(&late), "SESSION_EXPIRED");
}

#[test]
fn connections_and_refusals_are_capped() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "\n[limits]\nmax_requests_per_connection = 2\nrefusals_per_second = 1\n");
    let broker = start(&state);
    let mut client = broker.client();
    client.auth();
    let last = client.send("POST", "/kbs/v0/auth", None, AUTH);
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(client.answer().is_none(), "closed after the last request");
    let statuses: Vec<u16> = (0..12).map(|_| broker.client().send("POST", "/kbs/v0/auth", None, b"x").status).collect();
    assert_eq!(statuses[..10], [401; 10]);
    assert!(statuses[10..].contains(&429), "refusals do not fill the disk");
}

#[test]
fn a_flood_of_challenges_takes_nobody_s_place() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "\n[limits]\nmax_sessions = 1\nmax_requests_per_connection = 10000\n");
    let broker = start(&state);
    let mut legitimate = broker.client();
    let (nonce, cookie) = legitimate.auth();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut stranger = broker.client();
                for _ in 0..1_000 {
                    stranger.auth();
                }
            });
        }
    });
    let answer = legitimate.send("POST", "/kbs/v0/attest", Some(&cookie), &attest_body(&nonce));
    assert!(broker.code(&answer).starts_with("REPORT_"), "the evidence is looked at: {}", broker.code(&answer));
}

#[test]
fn slow_peers_are_dropped_and_hold_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "\n[limits]\nread_timeout_s = 1\n");
    let broker = start(&state);
    let silent = std::net::TcpStream::connect(broker.address).unwrap();
    let mut half_head = broker.client();
    half_head.raw(b"POST /kbs/v0/auth HTTP/1.1\r\nHost:");
    let mut half_body = broker.client();
    half_body.raw(b"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
    broker.client().auth();
    assert_eq!(half_body.answer().unwrap().status, 408);
    assert!(half_head.answer().is_none_or(|a| a.status == 408));
    silent.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut silent = silent;
    let mut byte = [0];
    assert!(matches!(std::io::Read::read(&mut silent, &mut byte), Ok(0) | Err(_)));
}

#[test]
fn an_address_in_use_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = std::fs::read_to_string(state.join("broker.toml")).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(state.join("broker.toml"), config.replace("127.0.0.1:0", &address)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(vouchsafe_broker::serve(&state, |_| {}, std::future::pending())).unwrap_err();
    assert_eq!((error.code(), error.exit()), ("PORT_IN_USE", 9));
}

#[test]
fn stopping_ends_open_connections_and_frees_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "");
    let broker = start(&state);
    let mut idle = Client::open(broker.address);
    idle.auth();
    broker.stop();
    assert!(idle.answer().is_none());
    assert!(!state.join("admin.sock").exists());
    start(&state).client().auth();
}

#[test]
fn our_client_and_our_broker_speak_the_same_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "");
    let broker = start(&state);
    let mut connection = broker.client();
    let mut send = |out: Outgoing| connection.send(out.method, &out.path, out.cookie.as_deref(), &out.body);

    let auth = Auth::begin(Tee::SevSnp, Some([9; 32])).unwrap();
    let answer = send(auth.request());
    let cookies = [answer.header("set-cookie").unwrap()];
    let attest = auth.answer(&Incoming { status: answer.status, set_cookie: &cookies, body: &answer.body }).unwrap();
    let evidence = EvidenceEnvelope::sev_snp(vec![7; 1184], vec![1], vec![2]);
    let answer = send(attest.request(&evidence).unwrap());
    let error = attest.answer(&Incoming { status: answer.status, set_cookie: &[], body: &answer.body }).err().unwrap();
    let ReleaseError::Refused(Some(ticket)) = error else { panic!("a ticket") };
    assert_eq!((error.code(), error.exit()), ("KEY_REFUSED", 5));
    let shown = vouchsafe_broker::admin::ledger_show(&state, Some(&hex::encode(ticket))).unwrap();
    assert_eq!(shown.len(), 1);
    assert!(broker.code(&answer).starts_with("REPORT_"));
}

#[test]
fn a_stock_client_is_answered_in_its_own_words() {
    let dir = std::env::var_os("VOUCHSAFE_VECTORS").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into(),
        std::path::PathBuf::from,
    );
    let Ok(recorded) = std::fs::read(dir.join("rcar/kbsclient-to-mock.json")) else {
        assert_ne!(std::env::var("VOUCHSAFE_REQUIRE_VECTORS").as_deref(), Ok("1"), "vectors missing");
        return println!("NOT RUN: a_stock_client_is_answered_in_its_own_words: vectors missing");
    };
    let recorded: serde_json::Value = serde_json::from_slice(&recorded).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "");
    let broker = start(&state);
    let mut client = broker.client();
    let mut replay = |step: usize, cookie: Option<&str>| {
        let request = &recorded[step]["request"];
        let text = |name: &str| request[name].as_str().unwrap();
        client.send(text("method"), text("path"), cookie, text("body").as_bytes())
    };
    let members = |body: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap();
        value.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    let there = |step: usize| recorded[step]["response"]["body"].as_str().unwrap().as_bytes();

    let first = replay(0, None);
    assert_eq!((first.status, members(&first.body)), (401, members(there(0))));
    assert_eq!(broker.code(&first), "TOKEN_MISSING");
    let challenge = replay(1, None);
    assert_eq!((challenge.status, members(&challenge.body)), (200, members(there(1))));
    let set_cookie = challenge.header("set-cookie").unwrap();
    assert!(set_cookie.starts_with("kbs-session-id=") && set_cookie.ends_with("; HttpOnly; SameSite=Strict"));
    assert_eq!(challenge.json()["nonce"].as_str().unwrap().len(), 44);
    let attest = replay(2, Some(&challenge.cookie()));
    assert_eq!(broker.code(&attest), "NONCE_MISMATCH", "read to the end; the nonce is the recorded one");
}
