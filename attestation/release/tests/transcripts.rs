//! Two recorded conversations: ours with a stock Trustee broker, a stock `kbs-client` with a server of ours.
//! They fix the wire format; they say nothing about evidence (both used RCAR's `sample` technology).

#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::path::PathBuf;

use serde_json::Value;
use vouchsafe_attestation::{EvidenceEnvelope, Tee, encoding::from_hex};
use vouchsafe_release::{
    TeeKey,
    client::{Auth, Incoming},
    jwe,
    rcar::{self, AttestRequest, AuthRequest, Challenge, ErrorBody, TokenResponse},
};

/// The directory of vectors; `None` when it is missing and nobody insists on it.
fn vectors(test: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("VOUCHSAFE_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")), PathBuf::from);
    if dir.join("rcar").is_dir() {
        return Some(dir.join("rcar"));
    }
    assert_ne!(std::env::var("VOUCHSAFE_REQUIRE_VECTORS").as_deref(), Ok("1"), "vectors missing");
    println!("NOT RUN: {test}: vectors missing");
    None
}

fn load(dir: &std::path::Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}

fn body<'a>(transcript: &'a Value, step: usize, side: &str) -> &'a str {
    transcript[step][side]["body"].as_str().unwrap()
}

const FILES: [&str; 2] = ["client-to-trustee.json", "kbsclient-to-mock.json"];

#[test]
fn recorded_report_data_is_reproduced() {
    let Some(dir) = vectors("recorded_report_data_is_reproduced") else { return };
    for name in FILES {
        let request = AttestRequest::parse(body(&load(&dir, name), 2, "request").as_bytes()).unwrap();
        let sample: Value = serde_json::from_str(body(&load(&dir, name), 2, "request")).unwrap();
        let recorded = sample["tee-evidence"]["primary_evidence"]["report_data"].as_str().unwrap();
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let recorded = STANDARD.decode(recorded).unwrap();
        assert_eq!(recorded.len(), 48, "{name}: SHA-384");
        assert_eq!(request.report_data()[..48], recorded, "{name}");
        assert_eq!(request.report_data()[48..], [0; 16], "{name}");
        assert!(request.tee_evidence.envelope().is_err(), "sample evidence is not ours");
    }
}

#[test]
fn the_recorded_jwe_opens_with_the_recorded_key() {
    let Some(dir) = vectors("the_recorded_jwe_opens_with_the_recorded_key") else { return };
    let scalar: [u8; 32] = from_hex(load(&dir, "teekey.json")["d"].as_str().unwrap(), "d").unwrap();
    let key = TeeKey::from_scalar(&scalar).unwrap();
    let transcript = load(&dir, FILES[0]);
    let plain = key.open(body(&transcript, 3, "response").as_bytes()).unwrap();
    assert_eq!(plain.as_slice(), b"vouchsafe-rcar-fixture-key-bytes");
    let sent = AttestRequest::parse(body(&transcript, 2, "request").as_bytes()).unwrap();
    assert_eq!(sent.runtime_data.tee_pubkey, key.public_jwk());
}

#[test]
fn our_server_reads_every_recorded_request() {
    let Some(dir) = vectors("our_server_reads_every_recorded_request") else { return };
    for name in FILES {
        let transcript = load(&dir, name);
        let auth = AuthRequest::parse(body(&transcript, 1, "request").as_bytes()).unwrap();
        assert_eq!((auth.tee.as_str(), auth.ledger_head()), ("sample", None));
        AttestRequest::parse(body(&transcript, 2, "request").as_bytes()).unwrap();
    }
}

#[test]
fn our_client_reads_every_recorded_answer() {
    let Some(dir) = vectors("our_client_reads_every_recorded_answer") else { return };
    for name in FILES {
        let transcript = load(&dir, name);
        let refusal = body(&transcript, 0, "response").as_bytes();
        serde_json::from_slice::<ErrorBody>(refusal).unwrap();
        assert_eq!(ErrorBody::ticket_of(refusal), None);
        Challenge::parse(body(&transcript, 1, "response").as_bytes()).unwrap();
        TokenResponse::parse(body(&transcript, 2, "response").as_bytes()).unwrap();
        let headers = transcript[1]["response"]["headers"].as_object().unwrap();
        let cookie = headers.iter().find(|(k, _)| k.eq_ignore_ascii_case("set-cookie")).unwrap().1.as_str().unwrap();
        let answer = Incoming { status: 200, set_cookie: &[cookie], body: body(&transcript, 1, "response").as_bytes() };
        let attest = Auth::begin(Tee::SevSnp, None).unwrap().answer(&answer).unwrap();
        let request = attest.request(&EvidenceEnvelope::sev_snp(vec![], vec![], vec![])).unwrap();
        assert_eq!(request.cookie.as_deref(), cookie.split(';').next());
        assert_eq!(attest.report_data()[48..], [0; 16]);
    }
}

/// The same member names at every level, in the same order where a stock peer depends on none: compared as a tree.
fn shape(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let members: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", shape(v))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(_) => "[]".to_owned(),
        Value::String(_) => "s".to_owned(),
        other => other.to_string(),
    }
}

#[test]
fn what_our_client_sends_has_the_shape_that_stock_trustee_accepted() {
    let Some(dir) = vectors("what_our_client_sends_has_the_shape_that_stock_trustee_accepted") else { return };
    let transcript = load(&dir, FILES[0]);
    let recorded = |step| serde_json::from_str::<Value>(body(&transcript, step, "request")).unwrap();

    let auth = Auth::begin(Tee::SevSnp, None).unwrap();
    let sent: Value = serde_json::from_slice(&auth.request().body).unwrap();
    assert_eq!(shape(&sent), shape(&recorded(1)));
    assert_eq!(sent["version"], recorded(1)["version"]);
    assert_eq!((auth.request().method, auth.request().path.as_str()), ("POST", "/kbs/v0/auth"));

    let answer = Incoming {
        status: 200,
        set_cookie: &["kbs-session-id=fba1"],
        body: body(&transcript, 1, "response").as_bytes(),
    };
    let attest = auth.answer(&answer).unwrap();
    let request = attest.request(&EvidenceEnvelope::sev_snp(vec![1], vec![2], vec![3])).unwrap();
    let mut sent: Value = serde_json::from_slice(&request.body).unwrap();
    let mut there = recorded(2);
    assert_eq!(sent["runtime-data"]["nonce"], there["runtime-data"]["nonce"], "the nonce goes back as the same text");
    assert_eq!(sent["runtime-data"]["tee-pubkey"]["alg"], there["runtime-data"]["tee-pubkey"]["alg"]);
    // What differs by technology is taken out; everything around it must be the same.
    sent["tee-evidence"]["primary_evidence"] = Value::Null;
    there["tee-evidence"]["primary_evidence"] = Value::Null;
    assert_eq!(shape(&sent), shape(&there));
    assert_eq!((request.method, request.path.as_str()), ("POST", "/kbs/v0/attest"));
    assert_eq!(
        request.cookie.as_deref(),
        transcript[2]["request"]["headers"]["Cookie"].as_str().map(|_| "kbs-session-id=fba1")
    );
}

#[test]
fn what_our_server_answers_has_the_shape_that_stock_kbs_client_accepted() {
    let Some(dir) = vectors("what_our_server_answers_has_the_shape_that_stock_kbs_client_accepted") else { return };
    let transcript = load(&dir, FILES[1]);
    let recorded = |step| serde_json::from_str::<Value>(body(&transcript, step, "response")).unwrap();
    let ours = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();

    assert_eq!(shape(&ours(rcar::to_bytes(&ErrorBody::ticket("refused", &[1; 16])))), shape(&recorded(0)));
    let challenge = ours(rcar::to_bytes(&Challenge::new("AAAA".to_owned())));
    assert_eq!(shape(&challenge), shape(&recorded(1)));
    assert_eq!(challenge["extra-params"], recorded(1)["extra-params"]);
    assert_eq!(shape(&ours(rcar::to_bytes(&TokenResponse { token: "t".to_owned() }))), shape(&recorded(2)));

    let sent = AttestRequest::parse(body(&transcript, 2, "request").as_bytes()).unwrap();
    let resource = ours(jwe::seal_to(&sent.runtime_data.tee_pubkey, b"key").unwrap());
    assert_eq!(shape(&resource), shape(&recorded(3)));
    let header = |jwe: &Value| {
        let bytes = vouchsafe_attestation::encoding::from_b64url(jwe["protected"].as_str().unwrap(), "h").unwrap();
        (String::from_utf8(bytes.clone()).unwrap(), serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    let ((ours, our_tree), (theirs, their_tree)) = (header(&resource), header(&recorded(3)));
    assert_eq!(shape(&our_tree), shape(&their_tree));
    assert_eq!(ours.len(), theirs.len(), "compact, the same members");
    assert_eq!(ours[..70], theirs[..70], "the same order, byte for byte, up to the coordinates");
}
