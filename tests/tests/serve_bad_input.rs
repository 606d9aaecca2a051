//! Turns bad input of every layer (bytes, TLS, HTTP, encodings, JSON, tensors, clients that vanish) into refusals of a live enclave,
//! and looks afterwards at what they left behind: the server answers, with the descriptors and about the memory that it had.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use vouchsafe_tests::{
    live::{INFER, Live, good, tensor},
    processes::{Family, is_root, open_files, status},
    python,
    wire::Wire,
};

const LENGTH: &str = "Inference-Header-Content-Length";

fn address() -> &'static str {
    Live::shared().address()
}

fn control(what: &str) {
    let answer = Wire::attested(address()).send("POST", INFER, &[], &good());
    assert_eq!(answer.status, 200, "control: after {what}: {}", answer.json());
}

/// A request with one binary tensor that says this of itself, and these bytes.
fn binary(shape: &Value, size: &Value, data: &[u8]) -> (String, Vec<u8>) {
    let head = tensor(|t| {
        *t = json!({ "name": "features", "datatype": "FP32", "shape": shape, "parameters": { "binary_data_size": size } });
    });
    (head.len().to_string(), [head, data.to_vec()].concat())
}

/// What is wrong, what it may be called, and the body, after its header length if it has one.
type Case = (&'static str, &'static [&'static str], Option<String>, Vec<u8>);

fn bodies() -> Vec<Case> {
    let text = String::from_utf8(good()).unwrap();
    let numbers = json!(vec![0.5; 30]).to_string();
    let replaced = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    };
    let nested = |levels: usize| replaced(&numbers, &("[".repeat(levels) + &"]".repeat(levels)));
    let set = |field: &'static str, value: Value| tensor(|t| t[field] = value);
    let parameters = |value: &str| replaced("{\"inputs\"", &format!("{{\"parameters\":{value},\"inputs\""));
    let row = [0_u8; 120];
    let sized = |shape: Value, size: Value, data: &[u8]| {
        let (length, body) = binary(&shape, &size, data);
        (Some(length), body)
    };
    let size: &[&str] = &["INPUT_SHAPE", "INPUT_DATA", "INPUT_TOO_LARGE", "BATCH_TOO_LARGE"];
    let mut cases: Vec<Case> = vec![
        ("JSON of 101 levels", &["JSON_INVALID"], None, nested(101)),
        ("JSON of a million levels", &["JSON_INVALID"], None, nested(1_000_000)),
        ("parameters of 101 levels", &["JSON_INVALID", "PARAMETER_UNSUPPORTED"], None, {
            parameters(&("{\"a\":".repeat(101) + "1" + &"}".repeat(101)))
        }),
        ("brackets that are never closed", &["JSON_INVALID"], None, replaced(&numbers, &"[".repeat(100_000))),
        ("inputs twice", &["JSON_INVALID"], None, replaced("{\"inputs\"", "{\"inputs\":[],\"inputs\"")),
        ("shape twice", &["JSON_INVALID"], None, replaced("\"shape\"", "\"shape\":[1],\"shape\"")),
        ("data twice", &["JSON_INVALID"], None, replaced("\"data\"", "\"data\":[],\"data\"")),
        ("the same key, once escaped", &["JSON_INVALID"], None, replaced("\"name\"", "\"n\\u0061me\":\"x\",\"name\"")),
        ("NaN", &["JSON_INVALID", "INPUT_DATA"], None, replaced("[0.5", "[NaN")),
        ("-Infinity", &["JSON_INVALID", "INPUT_DATA"], None, replaced("[0.5", "[-Infinity")),
        ("a number that is infinite", &["INPUT_DATA"], None, replaced("[0.5", "[1e400")),
        ("a number of a megabyte", &["INPUT_DATA"], None, replaced("[0.5", &format!("[{}", "9".repeat(1 << 20)))),
        ("a name of a megabyte", &["INPUT_UNKNOWN", "JSON_INVALID"], None, set("name", json!("n".repeat(1 << 20)))),
        ("an id of a megabyte", &["JSON_INVALID"], None, {
            replaced("{\"inputs\"", &format!("{{\"id\":\"{}\",\"inputs\"", "i".repeat(1 << 20)))
        }),
        ("half a surrogate", &["JSON_INVALID", "INPUT_UNKNOWN"], None, replaced("features", "\\ud800")),
        ("dimension of 2^63", size, None, set("shape", json!([1_u64 << 63, 30]))),
        ("dimension of 2^64", &["JSON_INVALID"], None, replaced("[1,30]", "[18446744073709551616,30]")),
        ("dimensions whose product overflows", size, None, set("shape", json!([1_u64 << 62, 30]))),
        ("a product that is 0 modulo 2^64", size, None, set("shape", json!([1_u64 << 63, 30]))),
        (
            "a hundred thousand dimensions",
            &["INPUT_SHAPE", "JSON_INVALID"],
            None,
            set("shape", json!(vec![1; 100_000])),
        ),
        ("ten thousand inputs", &["INPUT_REPEATED", "INPUT_UNKNOWN", "JSON_INVALID"], None, {
            let one = serde_json::from_slice::<Value>(&good()).unwrap()["inputs"][0].clone();
            json!({ "inputs": vec![one; 10_000] }).to_string().into_bytes()
        }),
        ("ten thousand outputs", &["OUTPUT_UNKNOWN", "JSON_INVALID"], None, {
            let outputs = json!(vec![json!({ "name": "label" }); 10_000]).to_string();
            replaced("{\"inputs\"", &format!("{{\"outputs\":{outputs},\"inputs\""))
        }),
        ("another datatype", &["INPUT_DTYPE"], None, set("datatype", json!("BF16"))),
        ("one element less", &["INPUT_DATA"], None, set("data", json!(vec![0.5; 29]))),
        ("an element less in the middle", &["INPUT_DATA", "JSON_INVALID"], None, replaced("0.5,0.5", "0.5,,0.5")),
    ];
    let mut more = |what, codes, (length, body): (Option<String>, Vec<u8>)| cases.push((what, codes, length, body));
    more("binary, 1 GiB declared", &["INPUT_DATA", "INPUT_TOO_LARGE"], sized(json!([1, 30]), json!(1 << 30), &row));
    more("binary, 1 GiB declared and shaped", size, sized(json!([8_947_849, 30]), json!(8_947_849_u64 * 120), &row));
    more("binary, 2^63 bytes declared", &["INPUT_DATA", "PARAMETER_UNSUPPORTED", "INPUT_TOO_LARGE"], {
        sized(json!([1, 30]), json!(1_u64 << 63), &row)
    });
    more("binary, -1 byte declared", &["PARAMETER_UNSUPPORTED", "INPUT_DATA"], sized(json!([1, 30]), json!(-1), &row));
    more("binary, infinity", &["INPUT_NOT_FINITE"], {
        let mut data = row;
        data[4..8].copy_from_slice(&f32::INFINITY.to_le_bytes());
        sized(json!([1, 30]), json!(120), &data)
    });
    let (length, body) = binary(&json!([1, 30]), &json!(120), &row);
    let beyond = (body.len() + 1).to_string();
    for (what, length) in [
        ("a header length beyond the body", beyond.as_str()),
        ("a header length of 2^63", "9223372036854775808"),
        ("a header length of 2^64", "18446744073709551616"),
        ("a header length with a sign", "+10"),
        ("a header length in hexadecimal", "0x10"),
        ("an empty header length", ""),
    ] {
        cases.push((what, &["HEADER_INVALID"], Some(length.to_owned()), body.clone()));
    }
    let middle = (length.parse::<usize>().unwrap() / 2).to_string();
    cases.push(("a header length in the middle of the JSON", &["JSON_INVALID"], Some(middle), body));
    cases
}

#[test]
fn every_bad_body_has_its_code_and_the_connection_lives_on() {
    let mut wire = Wire::attested(address());
    let mut wrong = Vec::new();
    let cases = bodies();
    for (what, codes, length, body) in &cases {
        let headers: Vec<_> = length.iter().map(|length| (LENGTH, length.as_str())).collect();
        let answer = wire.send("POST", INFER, &headers, body);
        let (status, code) = answer.verdict();
        println!("{what}: {status} {code}");
        let named = codes.contains(&code.as_str()) && (400..=413).contains(&status);
        if !named || !answer.json()["error"].is_string() {
            wrong.push((*what, status, code));
        }
        assert_eq!(wire.send("POST", INFER, &[], &good()).status, 200, "control: after {what}");
    }
    println!("{} bad bodies", cases.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Compressed bodies, made by Python's own zlib.
fn compressed() -> Vec<(&'static str, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
import gzip, sys, zlib
folder, good = sys.argv[1], sys.argv[2].encode()
whole = gzip.compress(good)
raw = zlib.compressobj(wbits=-15)
bomb = b" " * (256 << 20)
for name, data in {
    "good": whole, "good deflate": zlib.compress(good), "raw deflate": raw.compress(good) + raw.flush(),
    "cut": whole[:-9], "checksum": whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:], "more behind": whole + b"x",
    "twice": gzip.compress(whole), "bomb": gzip.compress(bomb, 9), "bomb deflate": zlib.compress(bomb, 9),
    "two members": gzip.compress(good[:10]) + gzip.compress(good[10:]), "empty": gzip.compress(b""), "none": b"",
}.items():
    open(f"{folder}/{name}", "wb").write(data)
"#;
    let output = python(script, &[folder.path().to_str().unwrap(), std::str::from_utf8(&good()).unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names =
        ["good", "good deflate", "cut", "checksum", "more behind", "twice", "bomb", "bomb deflate", "empty", "none"];
    names.into_iter().map(|name| (name, fs::read(folder.path().join(name)).unwrap())).collect()
}

#[test]
fn compressed_bodies_are_bounded_and_whole() {
    let all = compressed();
    let body = |name: &str| &all.iter().find(|(n, _)| *n == name).unwrap().1;
    let resident = || memory(Family::of(Live::shared().launcher()).gate);
    let before = resident();
    let plain = good();
    for (name, encoding, wanted) in [
        ("good", "gzip", &["accepted"][..]),
        ("good deflate", "deflate", &["accepted"]),
        ("good", "GZIP", &["accepted", "CONTENT_ENCODING"]),
        ("bomb", "gzip", &["BODY_TOO_LARGE"]),
        ("bomb deflate", "deflate", &["BODY_TOO_LARGE"]),
        ("cut", "gzip", &["CONTENT_DAMAGED"]),
        ("checksum", "gzip", &["CONTENT_DAMAGED"]),
        ("more behind", "gzip", &["CONTENT_DAMAGED"]),
        ("good deflate", "gzip", &["CONTENT_DAMAGED"]),
        ("good", "deflate", &["CONTENT_DAMAGED"]),
        ("none", "gzip", &["CONTENT_DAMAGED", "JSON_INVALID"]),
        ("empty", "gzip", &["JSON_INVALID"]),
        ("twice", "gzip", &["JSON_INVALID"]),
        ("twice", "gzip, gzip", &["CONTENT_ENCODING"]),
        ("good", "br", &["CONTENT_ENCODING"]),
        ("good", "gzip;q=1", &["CONTENT_ENCODING"]),
    ] {
        let mut wire = Wire::attested(address());
        let answer = wire.send("POST", INFER, &[("Content-Encoding", encoding)], body(name));
        println!("{name} as {encoding}, {} bytes: {:?}", body(name).len(), answer.verdict());
        assert!(wanted.contains(&answer.verdict().1.as_str()), "{name} as {encoding}: {:?}", answer.verdict());
    }
    let answer = Wire::attested(address()).send("POST", INFER, &[("Content-Encoding", "identity")], &plain);
    assert!(matches!(answer.verdict().1.as_str(), "accepted" | "CONTENT_ENCODING"), "{:?}", answer.verdict());
    let after = resident();
    println!("the gate's memory: {} MiB before, {} MiB after two bombs of 256 MiB", before >> 20, after >> 20);
    assert!(after < before + (96 << 20), "no bomb was unpacked");
    control("compressed bodies");
}

#[test]
fn bodies_that_are_only_declared_take_no_memory() {
    let resident = || memory(Family::of(Live::shared().launcher()).gate);
    let before = resident();
    let wires: Vec<Wire> = (0..60)
        .map(|_| {
            let mut wire = Wire::attested(address());
            wire.raw(format!("POST {INFER} HTTP/1.1\r\nHost: e\r\nContent-Length: 4000000\r\n\r\n1").as_bytes());
            wire
        })
        .collect();
    control("sixty bodies that do not come");
    let during = resident();
    drop(wires);
    control("sixty clients that have gone");
    let after = resident();
    let mib = [before, during, after].map(|bytes| bytes >> 20);
    println!("the gate's memory: {mib:?} MiB before, with 60 bodies of 4 MB declared, after");
    assert!(during.max(after) < before + (96 << 20), "{mib:?}");
}

fn memory(pid: u32) -> u64 {
    status(pid, "VmRSS").trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10
}

/// Heads that readers could frame differently, or that are too large: refused, and nothing behind them is taken for a request.
#[test]
fn bad_heads_are_refused_and_hide_nothing() {
    let body = String::from_utf8(good()).unwrap();
    let length = format!("Content-Length: {}", body.len());
    let chunked = "Transfer-Encoding: chunked".to_owned();
    let with = |headers: &[&str]| format!("POST {INFER} HTTP/1.1\r\nHost: e\r\n{}\r\n\r\n{body}", headers.join("\r\n"));
    let many: Vec<String> = (0..10_000).map(|n| format!("X-{n}: {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain([length.as_str()]).collect();
    let long = format!("X: {}", "x".repeat(1 << 20));
    let hidden = "GET /v2 HTTP/1.1\r\nHost: e\r\n\r\n";
    let cases: Vec<(&str, u16, String)> = vec![
        ("length and chunks", 400, with(&[&length, &chunked])),
        ("chunks and length", 400, with(&[&chunked, &length])),
        ("two lengths that differ", 400, with(&[&length, "Content-Length: 3"])),
        ("a list of lengths", 400, with(&["Content-Length: 3, 4"])),
        ("a folded header", 400, with(&[&length, "X: a\r\n b"])),
        ("a folded length", 400, with(&["Content-Length:\r\n 3"])),
        ("a folded first header", 400, format!("POST {INFER} HTTP/1.1\r\n Host: e\r\n{length}\r\n\r\n{body}")),
        ("ten thousand headers", 431, with(&many)),
        ("a header of a megabyte", 431, with(&[&long, &length])),
        ("a path of a megabyte", 431, format!("GET /{} HTTP/1.1\r\nHost: e\r\n\r\n", "p".repeat(1 << 20))),
        ("a space before the colon", 400, with(&[&length, "Transfer-Encoding : chunked"])),
        ("a zero byte in a header", 400, with(&[&length, "X: a\0b"])),
        ("a bare carriage return", 400, with(&[&length, "X: a\rTransfer-Encoding: chunked"])),
        ("a bare line feed", 400, with(&[&length, "X: a\nTransfer-Encoding: chunked"])),
        ("chunks that are not last", 400, with(&["Transfer-Encoding: chunked, gzip"])),
        ("an unknown coding", 400, with(&["Transfer-Encoding: zip"])),
        ("a chunk of 2^64 bytes", 400, with(&[&chunked]).replace(&body, "10000000000000000\r\n")),
        ("a chunk that is not as long as it says", 400, with(&[&chunked]).replace(&body, "5\r\nabcdefgh\r\n0\r\n\r\n")),
        ("a request line of one word", 400, "HELLO\r\n\r\n".to_owned()),
        ("HTTP/2 without asking", 400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("HTTP/9.9", 400, "GET /v2 HTTP/9.9\r\nHost: e\r\n\r\n".to_owned()),
    ];
    let mut wrong = Vec::new();
    for (what, status, request) in &cases {
        let mut wire = Wire::attested(address());
        wire.raw(request.as_bytes());
        wire.raw(hidden.as_bytes());
        let first = wire.answer().map(|answer| answer.status);
        let second = wire.answer().map(|answer| answer.status);
        println!("{what}: {first:?}, then {second:?}");
        // A peer that says so much nonsense may also be left without an answer, never with another one's.
        if second.is_some() || !(first == Some(*status) || first.is_none() && *status == 431) {
            wrong.push((*what, first, second));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut wire = Wire::attested(address());
    wire.raw(with(&[&length]).as_bytes());
    wire.raw(hidden.as_bytes());
    let both = (wire.answer().map(|answer| answer.status), wire.answer().map(|answer| answer.status));
    assert_eq!(both, (Some(200), Some(200)), "control: two good requests are two");
    println!("{} bad heads", cases.len());
}

#[test]
fn unknown_models_versions_methods_and_routes_are_told_apart() {
    let mut wire = Wire::attested(address());
    for (method, path, status) in [
        ("POST", "/v2/models/nobody/infer", 404),
        ("POST", "/v2/models/breast-cancer/versions/9/infer", 404),
        ("POST", "/v2/models/breast-cancer/versions/-1/infer", 404),
        ("POST", "/v2/models/breast-cancer/versions/18446744073709551618/infer", 404),
        ("GET", "/v2/models/nobody/config", 404),
        ("GET", "/v2/models/nobody/stats", 404),
        ("GET", "/v2/models/breast-cancer%00", 404),
        ("GET", "/v2/models/%ff", 404),
        ("GET", "/v2/models/..%2fbreast-cancer", 404),
        ("GET", "/v2/models//", 404),
        ("GET", "//v2/models/breast-cancer", 404),
        ("GET", "/v2/repository/index", 405),
        ("DELETE", "/v2/models/breast-cancer", 405),
        ("PUT", INFER, 405),
        ("BREW", INFER, 405),
        ("POST", "/v2/models/breast-cancer/generate", 404),
        ("POST", "/v2/repository/models/breast-cancer/unload", 404),
        ("GET", "/v2/nothing", 404),
    ] {
        let answer = wire.send(method, path, &[], b"{}");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.json());
        assert!(answer.json()["error"].is_string(), "{method} {path}: {}", answer.json());
    }
    assert_eq!(wire.send("POST", INFER, &[], &good()).status, 200, "control");
}

/// Bytes that are no TLS, TLS that stops, requests that stop, sockets that close one way: all of it is forgotten in time.
#[test]
fn clients_that_vanish_leave_no_descriptor_behind() {
    let gate = Family::of(Live::shared().launcher()).gate;
    let held = || if is_root() { open_files(gate).len() } else { 0 };
    control("nothing");
    let before = held();
    let head = |length: usize| format!("POST {INFER} HTTP/1.1\r\nHost: e\r\nContent-Length: {length}\r\n\r\n");
    let body = good();
    let mut open = Vec::new();
    for at in 0..30 {
        let mut tcp = TcpStream::connect(address()).unwrap();
        let noise: Vec<u8> = (0..at * 37).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect();
        let _ = tcp.write_all(&noise);
        if at % 2 == 0 {
            let _ = tcp.shutdown(std::net::Shutdown::Write);
            open.push(tcp);
        }
        let mut wire = Wire::attested(address());
        wire.raw(head(body.len()).as_bytes());
        wire.raw(&body[..body.len() * at / 30]);
        if at % 3 == 0 {
            wire.half_close();
            wire.patience(Duration::from_secs(10));
            let answer = wire.answer().map(|answer| answer.status);
            assert!(matches!(answer, None | Some(400 | 408)), "half a body, then nothing: {answer:?}");
        }
    }
    // A whole request, then one direction is closed: it may be answered, and nothing waits for ever.
    let mut wire = Wire::attested(address());
    wire.raw(&[head(body.len()).as_bytes(), &body].concat());
    wire.half_close();
    let asked = Instant::now();
    let answer = wire.answer().map(|answer| answer.status);
    println!("a half-closed socket: {answer:?} after {:?}", asked.elapsed());
    assert!(matches!(answer, None | Some(200)), "{answer:?}");
    for tcp in &mut open {
        tcp.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let mut rest = Vec::new();
        // Whatever is said of it, the end comes.
        let ended = tcp.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock), "it hangs");
    }
    drop((open, wire));
    control("clients that vanished");
    let until = Instant::now() + Duration::from_secs(20);
    while held() > before + 2 {
        assert!(Instant::now() < until, "{} descriptors, {before} before", held());
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{before} descriptors of the gate before, {} after", held());
}
