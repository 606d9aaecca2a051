//! Turns HTTP that is too large, too slow, badly framed or too early into the refusals of a live enclave, while others are served.
//! Its client believes any certificate: what the enclave proves is tested elsewhere.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::time::{Duration, Instant};

use vouchsafe_enclave::serve::routes::{Gate, ROUTES};
use vouchsafe_tests::{
    live::{INFER, Live, good},
    wire::{CHALLENGE, Wire},
};

const LIMIT: usize = 8 << 20;

fn address() -> &'static str {
    Live::shared().address()
}

#[test]
fn unknown_models_routes_and_methods() {
    let mut wire = Wire::attested(address());
    for (method, path, status, code) in [
        ("POST", "/v2/models/nobody/infer", 404, "MODEL_UNKNOWN"),
        ("POST", "/v2/models/breast-cancer/versions/9/infer", 404, "MODEL_UNKNOWN"),
        ("POST", "/v2/models/breast-cancer/versions/02/infer", 404, "MODEL_UNKNOWN"),
        ("GET", "/v2/models/nobody", 404, "MODEL_UNKNOWN"),
        ("GET", "/v2/models/nobody/ready", 404, "MODEL_UNKNOWN"),
        ("GET", "/v2/models/..%2f..%2fetc", 404, "MODEL_UNKNOWN"),
        ("GET", "/metrics/", 404, "ROUTE_UNKNOWN"),
        ("GET", "/v2/models/", 404, "ROUTE_UNKNOWN"),
        ("GET", "/metrics", 200, "accepted"),
        ("GET", "/v2/models", 200, "accepted"),
        ("GET", INFER, 405, "METHOD_UNSUPPORTED"),
        ("DELETE", INFER, 405, "METHOD_UNSUPPORTED"),
        ("TRACE", "/v2", 405, "METHOD_UNSUPPORTED"),
        ("BREW", "/v2", 405, "METHOD_UNSUPPORTED"),
    ] {
        assert_eq!(wire.send(method, path, &[], &[]).verdict(), (status, code.to_owned()), "{method} {path}");
    }
    assert_eq!(wire.send("POST", INFER, &[], &good()).status, 200, "control");
}

#[test]
fn oversize_is_refused_before_it_is_read_and_the_limit_itself_is_not() {
    let declared = |length: u64| format!("POST {INFER} HTTP/1.1\r\nHost: e\r\nContent-Length: {length}\r\n\r\n");
    for length in [LIMIT as u64 + 1, 1 << 30, 1 << 60] {
        let mut wire = Wire::attested(address());
        wire.raw(declared(length).as_bytes());
        // Not the code of one whose body was waited for.
        assert_eq!(wire.answer().unwrap().verdict(), (413, "BODY_TOO_LARGE".to_owned()), "{length}");
        assert!(wire.answer().is_none(), "such a connection ends");
    }
    // JSON of 8 MiB and one byte, really sent; then the same in chunks, with no length to go by.
    let mut large = good();
    large.resize(LIMIT + 1, b' ');
    assert_eq!(Wire::attested(address()).send("POST", INFER, &[], &large).verdict().1, "BODY_TOO_LARGE");
    let mut wire = Wire::attested(address());
    wire.raw(format!("POST {INFER} HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes());
    for chunk in large.chunks(1 << 20) {
        wire.raw(&[format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    assert_eq!(wire.answer().unwrap().verdict(), (413, "BODY_TOO_LARGE".to_owned()));
    let mut wire = Wire::attested(address());
    assert_eq!(wire.send("POST", INFER, &[], &large[..LIMIT]).verdict().1, "accepted", "control: 8 MiB to the byte");

    let mut wire = Wire::open(address());
    assert_eq!(
        wire.send("POST", "/v1/attest", &[], &[b' '; 16 * 1024 + 1]).verdict(),
        (413, "BODY_TOO_LARGE".to_owned())
    );
    let padded = format!("{CHALLENGE:16384}");
    assert_eq!(Wire::open(address()).send("POST", "/v1/attest", &[], padded.as_bytes()).status, 200, "control: 16 KiB");
}

#[test]
fn a_wrong_challenge_attests_nothing() {
    let mut wire = Wire::open(address());
    for (from, to, code) in [
        ("\"v\":1", "\"v\":2", "JSON_INVALID"),
        ("\"v\":1", "\"v\":1,\"v\":1", "JSON_INVALID"),
        ("\"v\":1", "\"v\":1,\"report_data\":\"\"", "JSON_INVALID"),
        ("AAAA\"", "AAA\"", "JSON_INVALID"),
        ("[\"sev-snp\"]", "[]", "ATTEST_ACCEPT"),
        ("[\"sev-snp\"]", "[\"tdx\"]", "ATTEST_ACCEPT"),
        ("[\"sev-snp\"]", "[\"none\"]", "JSON_INVALID"),
    ] {
        let body = CHALLENGE.replace(from, to);
        assert_ne!(body, CHALLENGE);
        assert_eq!(wire.send("POST", "/v1/attest", &[], body.as_bytes()).verdict(), (400, code.to_owned()), "{to}");
        assert_eq!(wire.send("GET", "/v2", &[], &[]).verdict(), (403, "ATTEST_FIRST".to_owned()), "after {to}");
    }
    assert_eq!(wire.send("POST", "/v1/attest", &[], CHALLENGE.as_bytes()).status, 200, "control");
    assert_eq!(wire.send("GET", "/v2", &[], &[]).status, 200, "control");
}

/// The table that builds the router, times every method: nothing but the open routes answers before evidence was fetched.
#[test]
fn attest_first_on_every_route_and_method() {
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];
    let path = |path: &str| path.replace("{model}", "breast-cancer").replace("{version}", "2");
    let mut wire = Wire::open(address());
    let mut refused = 0;
    for route in ROUTES.iter().filter(|r| r.gate == Gate::Attested) {
        for method in methods {
            let answer = wire.send(method, &path(route.path), &[], &good());
            let code = if method == "HEAD" { "ATTEST_FIRST".to_owned() } else { answer.verdict().1 };
            assert_eq!((answer.status, code.as_str()), (403, "ATTEST_FIRST"), "{method} {}", route.path);
            refused += 1;
        }
    }
    assert_eq!(wire.send("GET", "/nowhere", &[], &[]).verdict(), (403, "ATTEST_FIRST".to_owned()));
    println!("{refused} pairs of route and method refused");
    // Open routes know their own method only (and HEAD, which is GET without a body).
    for route in ROUTES.iter().filter(|r| r.gate == Gate::Open) {
        for method in methods {
            let own = method == route.method || (method, route.method) == ("HEAD", "GET");
            let answer = Wire::open(address()).send(method, route.path, &[], CHALLENGE.as_bytes());
            assert_eq!(answer.status, if own { 200 } else { 405 }, "{method} {}", route.path);
        }
    }
    let mut wire = Wire::attested(address());
    for route in ROUTES.iter().filter(|r| r.gate == Gate::Attested) {
        // An index is of everything, or of what a body asks for.
        let body = if route.path == "/v2/repository/index" { Vec::new() } else { good() };
        let answer = wire.send(route.method, &path(route.path), &[], &body);
        assert_eq!(answer.status, 200, "control: {} {}: {}", route.method, route.path, answer.json());
    }
}

/// One byte a second: the slow one is cut off after its time, and nobody waits for it.
#[test]
fn a_slow_client_holds_up_nobody() {
    let slow = std::thread::spawn(|| {
        let mut wire = Wire::attested(address());
        wire.raw(format!("POST {INFER} HTTP/1.1\r\nHost: e\r\nContent-Length: 100\r\n\r\n").as_bytes());
        let started = Instant::now();
        for _ in 0..5 {
            wire.raw(b" ");
            std::thread::sleep(Duration::from_secs(1));
        }
        (wire.answer().map(|answer| answer.verdict()), started.elapsed())
    });
    let mut wire = Wire::attested(address());
    let started = Instant::now();
    let (mut answered, mut longest) = (0, Duration::ZERO);
    while started.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        assert_eq!(wire.send("POST", INFER, &[], &good()).status, 200);
        longest = longest.max(asked.elapsed());
        answered += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{answered} answers beside a slow client, the slowest in {longest:?}");
    assert!(answered >= 5 && longest < Duration::from_secs(3));
    let (verdict, _) = slow.join().unwrap();
    assert_eq!(verdict, Some((408, "REQUEST_TIMEOUT".to_owned())));
}

#[test]
fn clients_that_go_away_leave_nothing_behind() {
    for at in 0..40 {
        let mut wire = Wire::attested(address());
        let body = good();
        wire.raw(format!("POST {INFER} HTTP/1.1\r\nHost: e\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
        wire.raw(&body[..body.len() * at / 40]);
    }
    assert_eq!(Wire::attested(address()).send("POST", INFER, &[], &good()).status, 200, "control");
}

/// A request that two readers could frame differently is refused (RFC 9112 sections 5.2, 6.1 and 6.3) and the connection closed: what
/// hides behind it is never taken for a second request.
#[test]
fn framing_that_two_readers_could_read_differently_hides_no_request() {
    let body = String::from_utf8(good()).unwrap();
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let (length, te) = (format!("Content-Length: {}", body.len()), "Transfer-Encoding: chunked");
    let hidden = "GET /v2 HTTP/1.1\r\nHost: e\r\n\r\n";
    let ask = |headers: &[&str], sent: &str| {
        let mut wire = Wire::attested(address());
        wire.raw(
            format!("POST {INFER} HTTP/1.1\r\nHost: e\r\n{}\r\n\r\n{sent}{hidden}", headers.join("\r\n")).as_bytes(),
        );
        (wire.answer().map(|answer| answer.verdict()), wire.answer().map(|answer| answer.status))
    };
    let folded = format!("X: a\r\n {te}");
    for (what, headers, sent) in [
        ("Content-Length before Transfer-Encoding", vec![&*length, te], &chunked),
        ("Transfer-Encoding before Content-Length", vec![te, &*length], &chunked),
        ("both, framed by the length", vec![te, &*length], &body),
        ("two lengths", vec![&*length, "Content-Length: 3"], &body),
        ("the same length twice", vec![&*length, &*length], &body),
        ("chunked is not the last coding", vec!["Transfer-Encoding: chunked, identity"], &chunked),
        ("chunked twice", vec![te, te], &chunked),
        ("a length with a sign", vec!["Content-Length: +3"], &body),
        ("a length beyond any number", vec!["Content-Length: 99999999999999999999999"], &body),
        ("a space before the colon", vec![&*length, "Transfer-Encoding : chunked"], &body),
        ("a line folded into the one before", vec![&*length, &*folded], &body),
        ("a folded line first", vec![" X: a", &*length], &body),
        ("a line with a bare line feed", vec!["X: a\nTransfer-Encoding: chunked", &*length], &body),
        ("a line with a bare carriage return", vec!["X: a\rTransfer-Encoding: chunked", &*length], &body),
    ] {
        let refused = (400, "HEADER_INVALID".to_owned());
        assert_eq!(ask(&headers, sent), (Some(refused), None), "{what}");
    }
    let accepted = || Some((200, "accepted".to_owned()));
    assert_eq!(ask(&[&length], &body), (accepted(), Some(200)), "control: two requests are two requests");
    assert_eq!(ask(&[te], &chunked), (accepted(), Some(200)), "control: in chunks too");
}

/// What stands before a body has a limit, in lines and in bytes; nothing of what follows is read.
#[test]
fn heads_that_are_too_large_are_refused_and_the_largest_is_not() {
    let ask = |lines: String| {
        let mut wire = Wire::attested(address());
        let request = format!("GET /v2 HTTP/1.1\r\n{lines}\r\n");
        wire.raw(format!("{request}GET /v2 HTTP/1.1\r\nHost: e\r\n\r\n").as_bytes());
        (wire.answer().map(|answer| answer.verdict()), wire.answer().map(|answer| answer.status))
    };
    let (refused, accepted) = ((431, "HEAD_TOO_LARGE".to_owned()), (200, "accepted".to_owned()));
    let many = |count: usize| (1..count).map(|n| format!("X-{n}: a\r\n")).fold("Host: e\r\n".to_owned(), |a, b| a + &b);
    assert_eq!(ask(many(101)), (Some(refused.clone()), None), "101 lines");
    assert_eq!(ask(many(5000)), (Some(refused.clone()), None), "5000 lines");
    assert_eq!(ask(many(100)), (Some(accepted.clone()), Some(200)), "control: 100 lines");
    let long = |bytes: usize| format!("Host: e\r\nX: {}\r\n", "a".repeat(bytes));
    let around = "GET /v2 HTTP/1.1\r\n\r\n".len() + long(0).len();
    assert_eq!(ask(long(32 * 1024 - around + 1)), (Some(refused.clone()), None), "a byte more than 32 KiB");
    assert_eq!(ask(long(1 << 20)), (Some(refused), None), "1 MiB");
    assert_eq!(ask(long(32 * 1024 - around)), (Some(accepted), Some(200)), "control: 32 KiB to the byte");
}
