//! A service that has proved itself gets requests, renews its proof when it must, and signs receipts that hold.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{Method, Request, Response};
use serde_json::json;
use support::{
    enclave::{FakeEnclave, Fault, simulated, simulated_on},
    hardware_policy, short,
};
use vouchsafe_attestation::{Mode, Tee, UnixTime, receipt::MAX_RECEIPT};
use vouchsafe_customer::{
    Bodies, BodiesVerdict, Body, CustomerError, InferInput, Pinned, Receipted, Salt, connect_with, error_json,
    receipt_json, receipt_table, refusal_table, report, table, verdict_json, verify_receipt,
};
use vouchsafe_policies::Binding;

const INFER: &str = "/v2/models/m/infer";

fn post(body: &'static [u8]) -> Request<Bytes> {
    Request::builder().method(Method::POST).uri(INFER).body(Bytes::from_static(body)).unwrap()
}

fn now() -> UnixTime {
    UnixTime(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

macro_rules! start {
    ($min:expr, $age:expr) => {{
        let Some(simulated) = simulated(module_path!()) else { return };
        let enclave = FakeEnclave::start(simulated).await;
        let pinned = connect_with(&enclave.address.to_string(), simulated.policy($min, $age), short()).await;
        (enclave, pinned.unwrap())
    }};
}

#[tokio::test]
async fn a_service_that_proves_itself_gets_requests_and_every_verdict_says_simulated() {
    let (enclave, mut pinned) = start!(1, 3600);
    let answer = pinned.send(post(b"{\"a\":1}")).await.unwrap();
    assert_eq!(answer.body().as_ref(), b"{\"a\":1}");
    assert_eq!(enclave.counts(), (1, 1, 1));
    assert_eq!(pinned.tls_group(), "X25519MLKEM768");
    assert!(pinned.evidence_age_s() <= 1 && pinned.is_open());

    let text = table(&pinned);
    assert!(text.lines().next().unwrap().starts_with("SIMULATED"), "{text}");
    assert!(text.contains("X25519MLKEM768") && text.contains("not proven") && text.contains("SIMULATED processor"));
    let json = verdict_json(&pinned);
    assert_eq!(
        (&json["accepted"], &json["simulated"], &json["tls_group"]),
        (&json!(true), &json!(true), &json!("X25519MLKEM768"))
    );
    assert_eq!(json["models"][0]["sequence"], 2);
    assert!(json["steps"].as_array().unwrap().len() >= 10);
    let page = report(pinned.appraised(), pinned.address(), now());
    assert!(page.starts_with("# SIMULATED"), "{page}");
    assert!(
        page.contains("do not send personal data")
            && !page.contains("## What was proven")
            && page.contains("## What was not proven")
    );
    assert!(page.lines().count() < 70, "one page: {}", page.lines().count());
}

#[tokio::test]
async fn a_service_on_tdx_proves_itself_renews_its_proof_and_signs_receipts() {
    let Some(simulated) = simulated_on(Tee::Tdx, "a_service_on_tdx") else { return };
    let enclave = FakeEnclave::start(simulated).await;
    let policy = simulated.policy(1, 3600);
    let address = enclave.address.to_string();
    let mut pinned = connect_with(&address, Arc::clone(&policy), short()).await.unwrap();
    let json = verdict_json(&pinned);
    assert_eq!((&json["accepted"], &json["tee"]), (&json!(true), &json!("tdx")));
    assert_eq!(json["rtmr"], json!(vec!["00".repeat(48); 4]));
    let page = report(pinned.appraised(), pinned.address(), now());
    assert!(page.contains("SIMULATED processor that plays an Intel TDX platform") && !page.contains("AMD"), "{page}");
    assert!(page.lines().count() < 80, "one page: {}", page.lines().count());
    pinned.reattest().await.unwrap();
    assert_eq!(pinned.appraised().binding(), Binding::Session);
    let Receipted::Answered(answer) = pinned.infer_with_receipt(post(b"{}")).await.unwrap() else {
        panic!("unanswered")
    };
    let kept = answer.receipt_json();
    let verdict = verify_receipt(kept.as_bytes(), &policy, now(), None).unwrap();
    assert_eq!(verdict.appraised().binding(), Binding::Session);
    assert_eq!(enclave.counts(), (1, 2, 1));
    // An answer for another technology than its evidence, or than was asked for.
    let snp = hardware_policy();
    let error = connect_with(&address, snp, short()).await.err().unwrap();
    assert_eq!((error.code(), error.exit()), ("ATTEST_RESPONSE_INVALID", 8), "an SEV-SNP policy");
    enclave.fault(Fault::OtherTechnology);
    let error = connect_with(&address, policy, short()).await.err().unwrap();
    assert_eq!((error.code(), error.exit()), ("ATTEST_RESPONSE_INVALID", 8));
    assert_eq!(enclave.counts().2, 1);
}

#[tokio::test]
async fn data_for_a_model_that_the_evidence_does_not_name_never_leaves() {
    let (enclave, mut pinned) = start!(1, 3600);
    for path in ["/v2/models/other/infer", "/v2/models/other/versions/1/infer"] {
        let request = Request::builder().method(Method::POST).uri(path).body(Bytes::from_static(b"secret")).unwrap();
        assert_eq!(pinned.send(request).await.unwrap_err().code(), "MODEL_NOT_CLAIMED");
    }
    assert_eq!(enclave.counts(), (1, 1, 0), "nothing but the attestation was heard");
    // Control: the same connection still carries data to the model that is named.
    assert!(pinned.send(post(b"{}")).await.unwrap().status().is_success());
}

#[tokio::test]
async fn rows_become_a_request_with_the_models_own_words() {
    let (enclave, mut pinned) = start!(1, 3600);
    let input = InferInput::parse(br#"{"rows": [[1, 2], [3, 4]]}"#).unwrap();
    let echoed = pinned.infer("m", &input).await.unwrap();
    assert_eq!(echoed["inputs"][0], json!({"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}));
    assert_eq!(enclave.counts(), (1, 1, 2));
    let error = pinned.infer("../m", &input).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), ("INPUT_INVALID", 1));
}

#[tokio::test]
async fn evidence_for_another_session_is_refused() {
    let Some(simulated) = simulated("evidence_for_another_session_is_refused") else { return };
    let enclave = FakeEnclave::start(simulated).await;
    enclave.fault(Fault::OtherSession);
    let policy = simulated.policy(1, 3600);
    let error = connect_with(&enclave.address.to_string(), policy, short()).await.err().unwrap();
    assert_eq!((error.code(), error.exit()), ("REPORT_DATA_MISMATCH", 2));
    assert_eq!(enclave.counts(), (1, 1, 0));
    let text = refusal_table(&error, Mode::Simulation);
    assert!(text.starts_with("SIMULATED") && text.contains("REPORT_DATA_MISMATCH"), "{text}");
    let json = error_json(&error);
    assert_eq!((&json["code"], &json["exit"]), (&json!("REPORT_DATA_MISMATCH"), &json!(2)));
    assert!(json["reasons"][0]["expected"].is_string() && json["reasons"][0]["actual"].is_string());
}

#[tokio::test]
async fn a_simulated_service_never_satisfies_a_hardware_policy() {
    let Some(simulated) = simulated("a_simulated_service_never_satisfies_a_hardware_policy") else { return };
    let enclave = FakeEnclave::start(simulated).await;
    let error = connect_with(&enclave.address.to_string(), hardware_policy(), short()).await.err().unwrap();
    assert!(matches!(error, CustomerError::Verify(_)), "{error}");
    assert_eq!((error.code(), error.exit()), ("LEAF_SIMULATED", 2));
    assert_eq!(enclave.counts().2, 0);
}

#[tokio::test]
async fn an_older_model_than_the_policy_accepts_is_refused() {
    let Some(simulated) = simulated("an_older_model_than_the_policy_accepts_is_refused") else { return };
    let enclave = FakeEnclave::start(simulated).await;
    let error = connect_with(&enclave.address.to_string(), simulated.policy(3, 3600), short()).await.err().unwrap();
    assert_eq!((error.code(), error.exit()), ("MODEL_SEQUENCE_BELOW_FLOOR", 4));
    assert_eq!(enclave.counts(), (1, 1, 0));
}

#[tokio::test]
async fn a_model_changed_under_an_open_session_is_appraised_before_anything_more_is_sent() {
    let (enclave, mut pinned) = start!(2, 3600);
    pinned.send(post(b"{}")).await.unwrap();
    enclave.serve_sequence(3);
    let answer = pinned.send(post(b"{\"kept\":1}")).await.unwrap();
    assert_eq!(answer.body().as_ref(), b"{\"kept\":1}");
    assert_eq!(enclave.counts(), (1, 2, 2), "same connection, new evidence, sent once more");
    assert_eq!(pinned.claims().unwrap().models[0].sequence, 3);

    enclave.serve_sequence(1);
    let error = pinned.send(post(b"{}")).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), ("MODEL_SEQUENCE_BELOW_FLOOR", 4));
    assert_eq!(enclave.counts(), (1, 3, 2));
    enclave.serve_sequence(3);
    assert_eq!(closed(&mut pinned).await, "PEER_CLOSED", "a refused connection stays closed");
    assert_eq!(enclave.counts().2, 2);
}

/// The service answers `REATTEST` before it reads the body, and a large one is still on its way then.
#[tokio::test]
async fn a_large_body_survives_a_renewal() {
    let (enclave, mut pinned) = start!(1, 3600);
    let body = Bytes::from(vec![b'x'; 900 * 1024]);
    let request = || Request::builder().method(Method::POST).uri(INFER).body(body.clone()).unwrap();
    for sequence in 3..6 {
        enclave.serve_sequence(sequence);
        assert_eq!(pinned.send(request()).await.unwrap().body(), &body);
    }
    assert_eq!(enclave.counts(), (1, 4, 3));
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_still_arrives() {
    for _ in 0..20 {
        let (enclave, mut pinned) = start!(1, 3600);
        enclave.fault(Fault::TooLarge);
        let body = Bytes::from(vec![b'x'; 12 << 20]);
        let request = Request::builder().method(Method::POST).uri(INFER).body(body).unwrap();
        let answer = pinned.send(request).await.unwrap();
        assert_eq!(answer.status(), 413);
    }
}

async fn closed(pinned: &mut Pinned) -> &'static str {
    assert!(!pinned.is_open());
    pinned.send(post(b"{}")).await.unwrap_err().code()
}

#[tokio::test]
async fn a_service_that_never_settles_is_given_up() {
    let (enclave, mut pinned) = start!(1, 3600);
    enclave.fault(Fault::ReattestForEver);
    let error = pinned.send(post(b"{}")).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), ("REATTEST", 8));
    assert_eq!(enclave.counts(), (1, 2, 0));
    assert_eq!(closed(&mut pinned).await, "PEER_CLOSED");
}

#[tokio::test]
async fn old_evidence_is_renewed_before_the_request() {
    let (enclave, mut pinned) = start!(1, 1);
    let first = pinned.record().nonce;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    pinned.send(post(b"{}")).await.unwrap();
    assert_ne!(pinned.record().nonce, first);
    assert_eq!(enclave.counts(), (1, 2, 1));
}

#[tokio::test]
async fn a_lost_connection_stays_lost() {
    let (enclave, mut pinned) = start!(1, 3600);
    enclave.drop_connections().await;
    let error = pinned.send(post(b"{}")).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), ("PEER_CLOSED", 8));
    assert_eq!(enclave.counts().0, 1, "no second connection");
}

#[tokio::test]
async fn an_answer_above_the_limit_is_refused() {
    let (enclave, mut pinned) = start!(1, 3600);
    enclave.fault(Fault::Large);
    let error = pinned.send(post(b"{}")).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), ("PEER_RESPONSE_TOO_LARGE", 8));
}

#[tokio::test]
async fn a_receipt_is_verified_on_arrival_and_again_from_its_file() {
    let Some(simulated) = simulated("a_receipt") else { return };
    let (_enclave, mut pinned) = start!(1, 3600);
    let mut request = post(b"{\"a\":1}binary");
    request.headers_mut().insert("inference-header-content-length", "7".parse().unwrap());
    let Receipted::Answered(answer) = pinned.infer_with_receipt(request).await.unwrap() else {
        panic!("no answer");
    };
    assert_eq!((answer.statement.model_id.as_str(), answer.statement.sequence), ("m", 2));
    let file = answer.receipt_json();
    assert!(!file.contains(&answer.salt.to_text()), "the salt is kept apart");

    let policy = simulated.policy(1, 3600);
    let body = Body { bytes: b"{\"a\":1}binary", header_len: 7 };
    let bodies = Bodies { request: body, response: body, salt: &answer.salt };
    let verdict = verify_receipt(file.as_bytes(), &policy, now(), Some(bodies)).unwrap();
    assert_eq!(verdict.bodies(), BodiesVerdict::Equal);
    let text = receipt_table(&verdict);
    assert!(text.starts_with("SIMULATED") && text.contains("proves no time"), "{text}");
    assert_eq!(receipt_json(&verdict)["statement"]["sequence"], 2);
    let without = verify_receipt(file.as_bytes(), &policy, now(), None).unwrap();
    assert_eq!(without.bodies(), BodiesVerdict::NotGiven);

    let code =
        |bodies| verify_receipt(file.as_bytes(), &policy, now(), Some(bodies)).err().map(|e| (e.code(), e.exit()));
    let wrong = Some(("RECEIPT_BODY_MISMATCH", 2));
    let other = Body { bytes: b"{\"a\":2}binary", header_len: 7 };
    assert_eq!(code(Bodies { request: other, ..bodies }), wrong);
    assert_eq!(code(Bodies { response: other, ..bodies }), wrong);
    assert_eq!(code(Bodies { request: Body { header_len: 0, ..body }, ..bodies }), wrong);
    assert_eq!(code(Bodies { salt: &Salt::random().unwrap(), ..bodies }), wrong);

    let refused = |file: &str, policy: &vouchsafe_policies::Policy, at| {
        verify_receipt(file.as_bytes(), policy, at, None).err().map(|e| e.code())
    };
    assert_eq!(refused(&file, &hardware_policy(), now()), Some("LEAF_SIMULATED"));
    assert_eq!(refused(&file, &simulated.policy(3, 3600), now()), Some("MODEL_SEQUENCE_BELOW_FLOOR"));
    assert_eq!(refused(&file[..file.len() - 9], &policy, now()), Some("ENCODING_JSON"));
    assert_eq!(refused(&" ".repeat(MAX_RECEIPT + 1), &policy, now()), Some("ENCODING_TOO_LARGE"));
    // A year later the revocation list is stale, and the verdict under that assumption says so.
    let stale = verify_receipt(file.as_bytes(), &policy, now().plus(2 * 366 * 86_400), None).err().unwrap();
    assert_eq!(stale.exit(), 3, "{stale}");

    // Another session's record around a genuine statement.
    let mut second = connect_with(pinned.address(), simulated.policy(1, 3600), short()).await.unwrap();
    second.send(post(b"{}")).await.unwrap();
    let mut mixed = answer.receipt.clone();
    mixed.session = second.record().clone();
    let mixed = serde_json::to_string(&mixed).unwrap();
    assert_eq!(refused(&mixed, &policy, now()), Some("RECEIPT_STATEMENT_MISMATCH"));
    let mut edited = answer.receipt.clone();
    edited.session.ekm[0] ^= 1;
    assert_eq!(refused(&serde_json::to_string(&edited).unwrap(), &policy, now()), Some("REPORT_DATA_MISMATCH"));
    let mut edited = answer.receipt.clone();
    let at = edited.receipt.statement.len() - 3;
    edited.receipt.statement[at] ^= 1;
    assert_eq!(refused(&serde_json::to_string(&edited).unwrap(), &policy, now()), Some("RECEIPT_SIGNATURE"));
}

#[tokio::test]
async fn an_answer_without_a_receipt_that_holds_is_an_error() {
    for (fault, code) in [
        (Fault::NoReceipt, "RECEIPT_MISSING"),
        (Fault::ReceiptGarbage, "RECEIPT_MALFORMED"),
        (Fault::ReceiptByOtherKey, "RECEIPT_SIGNATURE"),
        (Fault::ReceiptOverOtherBytes, "RECEIPT_BODY_MISMATCH"),
        (Fault::ReceiptOfOtherVersion, "RECEIPT_STATEMENT_MISMATCH"),
        (Fault::ReceiptOfOtherSession, "RECEIPT_STATEMENT_MISMATCH"),
    ] {
        let (enclave, mut pinned) = start!(1, 3600);
        enclave.fault(fault);
        let error = pinned.infer_with_receipt(post(b"{}")).await.err().unwrap();
        assert_eq!((error.code(), error.exit()), (code, 2), "{fault:?}");
        // The control: the same request, without the fault.
        enclave.fault(Fault::None);
        let response: Receipted = pinned.infer_with_receipt(post(b"{}")).await.unwrap();
        assert!(matches!(response, Receipted::Answered(_)), "{fault:?}");
    }
}

#[tokio::test]
async fn a_refused_request_has_no_receipt_and_its_code_is_the_services() {
    let (_enclave, mut pinned) = start!(1, 3600);
    let odd = Request::builder().method(Method::POST).uri("/v2/models/other/infer").body(Bytes::new()).unwrap();
    let error = pinned.infer_with_receipt(odd).await.err().unwrap();
    assert_eq!(error.code(), "MODEL_NOT_CLAIMED", "a model that the evidence does not name");
    let mut packed = post(b"{}");
    packed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(pinned.infer_with_receipt(packed).await.err().unwrap().code(), "CONTENT_ENCODING", "this is no gzip");
    let answer: Response<Bytes> = pinned.send(post(b"{}")).await.unwrap();
    assert_eq!(answer.status(), 200);
}
