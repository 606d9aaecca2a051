//! A plain local client through the proxy to a service that has proved itself.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use serde_json::Value;
use support::{
    enclave::{FakeEnclave, Fault, simulated},
    local::{Running, exchange, get, options_under, start},
};
use tokio::net::TcpStream;
use vouchsafe_customer::{Bodies, Body, ProxyOptions, Salt, verify_log, verify_receipt};

const JSON: &[u8] = b"{\"inputs\":[]}";

fn binary(running: &Running, more: &str) -> Vec<u8> {
    let tensor = [0_u8, 255, 10, 13, 13, 10, 13, 10];
    let head = format!(
        "POST /v2/models/m/infer HTTP/1.1\r\nHost: {}\r\nInference-Header-Content-Length: {}\r\nConnection: keep-alive\r\n\
         {more}Content-Length: {}\r\n\r\n",
        running.address(),
        JSON.len(),
        JSON.len() + tensor.len()
    );
    [head.as_bytes(), JSON, &tensor].concat()
}

async fn world(set: impl FnOnce(&mut ProxyOptions)) -> Option<(FakeEnclave, Running)> {
    let simulated = simulated(module_path!())?;
    let enclave = FakeEnclave::start(simulated).await;
    let mut options = options_under(simulated.policy(1, 3600), enclave.address);
    set(&mut options);
    let running = start(options).await;
    Some((enclave, running))
}

fn events(log: &Path) -> Vec<String> {
    verify_log(log).unwrap();
    let text = std::fs::read_to_string(log).unwrap();
    let event = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["mode"], "simulation", "the word stands in every line");
        let code = line["code"].as_str().map(|c| format!(" {c}")).unwrap_or_default();
        format!("{}{code}", line["event"].as_str().unwrap())
    };
    text.lines().map(event).collect()
}

#[tokio::test]
async fn binary_tensors_pass_unchanged_over_one_connection() {
    let Some((enclave, running)) = world(|_| {}).await else { return };
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    for n in 1..=3 {
        let request = binary(&running, "Keep-Alive: timeout=5\r\nX-Client: 1\r\n");
        let (status, head, body) = exchange(&mut stream, &request).await;
        assert_eq!(status, 200);
        assert!(request.ends_with(&body) && body.len() == JSON.len() + 8);
        assert!(head.contains(&format!("inference-header-content-length: {}", JSON.len())), "{head}");
        assert!(head.contains("vouchsafe-mode: simulation"), "{head}");
        assert_eq!(enclave.counts(), (1, 1, n), "one attested connection for all");
    }
    let query = exchange(
        &mut stream,
        format!("GET /v2/models/m?a=b HTTP/1.1\r\nHost: {}\r\n\r\n", running.address()).as_bytes(),
    )
    .await;
    assert_eq!(query.0, 200);
    assert_eq!(enclave.state.served.lock().unwrap().last().unwrap().0, "/v2/models/m?a=b");
    running.stop().await;
}

#[tokio::test]
async fn a_lost_connection_means_a_new_proof() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let Some((enclave, running)) = world(|o| o.log = Some(log.clone())).await else { return };
    let own = running.address().to_string();
    assert_eq!(get(running.address(), "/v2", &own).await.0, 200);
    enclave.drop_connections().await;
    assert_eq!(get(running.address(), "/v2", &own).await.0, 200);
    assert_eq!(enclave.counts(), (2, 2, 2));
    running.stop().await;
    assert_eq!(events(&log), ["verdict", "verdict"]);
}

#[tokio::test]
async fn a_connection_lost_while_it_answers_is_asked_once_more_at_most() {
    let Some((enclave, running)) = world(|_| {}).await else { return };
    let own = running.address().to_string();
    enclave.fault(Fault::Hangup);
    let (status, _, body) = get(running.address(), "/v2", &own).await;
    assert_eq!((status, &body["code"]), (502, &Value::from("PEER_CLOSED")));
    assert_eq!(enclave.counts().0, 1, "a fresh connection that is lost is not replaced");
    enclave.fault(Fault::None);
    assert_eq!(get(running.address(), "/v2", &own).await.0, 200);
    enclave.fault(Fault::Hangup);
    assert_eq!(get(running.address(), "/v2", &own).await.0, 502);
    assert_eq!(enclave.counts().0, 3, "an idle one is replaced once");
    running.stop().await;
}

#[tokio::test]
async fn a_changed_model_is_appraised_and_a_rolled_back_one_refused() {
    let Some(simulated) = simulated("a_changed_model") else { return };
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let set = |o: &mut ProxyOptions| {
        o.log = Some(log.clone());
        o.policy = simulated.policy(2, 3600);
    };
    let Some((enclave, running)) = world(set).await else { return };
    let own = running.address().to_string();
    assert_eq!(get(running.address(), "/v2", &own).await.0, 200);
    enclave.serve_sequence(3);
    assert_eq!(get(running.address(), "/v2", &own).await.0, 200);
    enclave.serve_sequence(1);
    let (status, _, body) = get(running.address(), "/v2", &own).await;
    assert_eq!((status, &body["code"]), (502, &Value::from("MODEL_SEQUENCE_BELOW_FLOOR")));
    assert_eq!(body["mode"], "simulation");
    assert!(body["reasons"][0]["expected"].as_str().unwrap().contains("2 or higher"), "{body}");
    assert_eq!(enclave.counts(), (1, 3, 2), "one connection, three proofs, two answers");
    running.stop().await;
    let all = events(&log);
    assert_eq!(all, ["verdict", "verdict", "refused MODEL_SEQUENCE_BELOW_FLOOR"]);
}

#[tokio::test]
async fn callers_at_once_share_the_lanes_in_order() {
    let Some((enclave, running)) = world(|o| o.max_lanes = 3).await else { return };
    let running = Arc::new(running);
    let asks: Vec<_> = (0..24)
        .map(|_| {
            let running = Arc::clone(&running);
            tokio::spawn(async move { get(running.address(), "/v2", &running.address().to_string()).await.0 })
        })
        .collect();
    for ask in asks {
        assert_eq!(ask.await.unwrap(), 200);
    }
    let (connections, attested, served) = enclave.counts();
    assert!(connections <= 3 && attested == connections, "{connections} {attested}");
    assert_eq!(served, 24);
}

#[tokio::test]
async fn every_inference_leaves_a_receipt_and_its_salt_apart() {
    let Some(simulated) = simulated("every_inference_leaves_a_receipt") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (log, kept) = (dir.path().join("log"), dir.path().join("receipts"));
    let set = |o: &mut ProxyOptions| {
        o.log = Some(log.clone());
        o.receipts = Some(kept.clone());
    };
    let Some((enclave, running)) = world(set).await else { return };
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    let mut names = BTreeSet::new();
    for more in [String::new(), format!("Vouchsafe-Receipt: {}\r\n", Salt::random().unwrap().to_text())] {
        let request = binary(&running, &more);
        let (status, head, body) = exchange(&mut stream, &request).await;
        assert_eq!(status, 200);
        let name = head.lines().find_map(|l| l.strip_prefix("vouchsafe-receipt-name: ")).unwrap().to_owned();
        let file = std::fs::read(kept.join(format!("{name}.receipt.json"))).unwrap();
        let salt = std::fs::read_to_string(kept.join("salts").join(format!("{name}.salt"))).unwrap();
        if let Some(own) = more.strip_prefix("Vouchsafe-Receipt: ") {
            assert_eq!(salt.trim(), own.trim(), "the client's own salt");
        }
        let salt = Salt::from_text(&salt).unwrap();
        let body = Body { bytes: &body, header_len: JSON.len() as u64 };
        let at = vouchsafe_attestation::UnixTime(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs());
        let bodies = Bodies { request: body, response: body, salt: &salt };
        let verdict = verify_receipt(&file, &simulated.policy(1, 3600), at, Some(bodies)).unwrap();
        assert_eq!(verdict.statement().model_id, "m");
        assert!(std::fs::read_to_string(&log).unwrap().contains(&hex::encode(verdict.digest())));
        names.insert(name);
    }
    assert_eq!(names.len(), 2);
    let own = running.address().to_string();
    assert_eq!(get(running.address(), "/v2", &own).await.0, 200, "no inference, no receipt");

    enclave.fault(Fault::ReceiptByOtherKey);
    let request = binary(&running, "");
    let (status, _, body) = exchange(&mut stream, &request).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &body["code"]), (502, &Value::from("RECEIPT_SIGNATURE")));
    running.stop().await;
    assert_eq!(events(&log)[..3], ["verdict", "receipt", "receipt"]);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("inputs"), "no payload");
}
