//! Evidence, requests that are answered, with receipts and padding, and requests that are refused for what they say.

use super::*;
use vouchsafe_attestation::claims::Claims;
use vouchsafe_attestation::encoding::from_b64url;
use vouchsafe_attestation::lp::sha256;
use vouchsafe_attestation::receipt::{SignedStatement, request_digest, response_digest, verify_statement};
use vouchsafe_attestation::session::{leaf, report_data, root_from_path, session_digest};

#[tokio::test]
async fn evidence_speaks_for_this_session_and_these_claims() {
    let service = service(model(1, "never", long()));
    let answer = Client::new(&service).attest().await;
    let spki = service.identity.spki_sha256;
    let digest = session_digest(WORDS.mode, WORDS.tee, &[9; 32], &EKM, &spki, &answer.claims);
    let root = root_from_path(&leaf(&digest), &answer.merkle).unwrap();
    let expected = report_data(WORDS.mode, WORDS.tee, &root, u64::from(answer.merkle.size));
    assert_eq!(answer.evidence.signed()[0x50..0x90], expected);
    let claims = Claims::parse(&answer.claims).unwrap();
    assert_eq!((claims.spki_sha256, claims.config_digest, claims.brokers), (spki, [7; 32], vec![[4; 32]]));
    assert_eq!(claims.models.len(), 1);
}

#[tokio::test]
async fn challenges_are_exact() {
    let service = service(model(1, "never", long()));
    let client = Client::new(&service);
    let nonce = b64url(&[9; 32]);
    for (body, code) in [
        (json!({ "v": 1, "nonce": nonce, "accept": ["tdx"] }).to_string(), "ATTEST_ACCEPT"),
        (json!({ "v": 2, "nonce": nonce, "accept": ["sev-snp"] }).to_string(), "JSON_INVALID"),
        (json!({ "v": 1, "nonce": "AA", "accept": ["sev-snp"] }).to_string(), "JSON_INVALID"),
        (json!({ "v": 1, "nonce": nonce, "accept": ["sev-snp"], "report_data": "x" }).to_string(), "JSON_INVALID"),
    ] {
        assert_eq!(client.call("POST", "/v1/attest", body).await.code(), (400, code.into()));
    }
    assert_eq!(
        client.call("POST", "/v1/attest", " ".repeat(16 * 1024 + 1)).await.code(),
        (413, "BODY_TOO_LARGE".into())
    );
    // None of these counts as evidence fetched.
    assert_eq!(client.call("GET", "/v2", "").await.code().1, "ATTEST_FIRST");
}

#[tokio::test]
async fn json_and_binary_tensors_give_the_same_numbers() {
    let service = service(model(3, "never", long()));
    let client = Client::attested(&service).await;
    let reply = client.infer(with(|b| b["id"] = json!("42"))).await;
    assert_eq!(reply.status, 200);
    let expected = json!({
        "model_name": "m", "model_version": "3", "id": "42",
        "outputs": [
            { "name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0] },
            { "name": "probabilities", "datatype": "FP32", "shape": [2, 2], "data": [0.25, 0.75, 1.0, 0.0] },
        ],
    });
    assert_eq!(reply.json(), expected);

    let text = json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [2, 2], "parameters": { "binary_data_size": 16 } }],
        "outputs": [{ "name": "probabilities", "parameters": { "binary_data": true } }, { "name": "label" }],
    })
    .to_string();
    let rows: Vec<u8> = [0.25_f32, 0.75, 1.0, 0.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let body = [text.as_bytes(), &rows].concat();
    let send = |length: String, body: Vec<u8>| {
        let request = Request::post("/v2/models/m/versions/3/infer").header("Inference-Header-Content-Length", length);
        client.send(request.body(body.into()).unwrap())
    };
    let reply = send(text.len().to_string(), body.clone()).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["content-type"]),
        (200, &"application/octet-stream".parse().unwrap())
    );
    let at: usize = reply.headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(&reply.body[at..], rows);
    let head: Value = serde_json::from_slice(&reply.body[..at]).unwrap();
    assert_eq!(head["outputs"][0]["parameters"], json!({ "binary_data_size": 16 }));
    assert_eq!(head["outputs"][1]["data"], json!([1, 0]));

    let mut longer = body.clone();
    longer.push(0);
    assert_eq!(send(text.len().to_string(), longer).await.code(), (400, "INPUT_DATA".into()));
    assert_eq!(send(text.len().to_string(), body[..body.len() - 1].to_vec()).await.code(), (400, "INPUT_DATA".into()));
    assert_eq!(send("999999".into(), body.clone()).await.code(), (400, "HEADER_INVALID".into()));
    assert_eq!(send("-1".into(), body.clone()).await.code(), (400, "HEADER_INVALID".into()));
    let mut nan = body;
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert_eq!(send(text.len().to_string(), nan).await.code(), (400, "INPUT_NOT_FINITE".into()));
}

#[tokio::test]
async fn bad_requests_have_their_codes_and_echo_nothing() {
    let service = service(model(1, "never", long()));
    let client = Client::attested(&service).await;
    for (body, status, code) in [
        (with(|b| b["inputs"][0]["name"] = json!("evil")), 400, "INPUT_UNKNOWN"),
        (with(|b| b["inputs"][0]["datatype"] = json!("FP64")), 400, "INPUT_DTYPE"),
        (with(|b| b["inputs"][0]["datatype"] = json!("evil")), 400, "INPUT_DTYPE"),
        (with(|b| b["inputs"][0]["shape"] = json!([2, 3])), 400, "INPUT_SHAPE"),
        (with(|b| b["inputs"][0]["shape"] = json!([4])), 400, "INPUT_SHAPE"),
        (with(|b| b["inputs"][0]["shape"] = json!([3, 2])), 400, "INPUT_DATA"),
        (with(|b| b["inputs"][0]["shape"] = json!([-1, 2])), 400, "JSON_INVALID"),
        (with(|b| b["inputs"][0]["data"] = json!([[1, "evil"], [1, 0]])), 400, "INPUT_DATA"),
        (with(|b| b["inputs"][0]["parameters"] = json!({ "evil": 1 })), 400, "PARAMETER_UNSUPPORTED"),
        (with(|b| b["inputs"][0]["parameters"] = json!({ "binary_data_size": 16 })), 400, "INPUT_DATA"),
        (with(|b| b["inputs"] = json!([])), 400, "INPUT_MISSING"),
        (with(|b| b["inputs"] = json!([b["inputs"][0], b["inputs"][0]])), 400, "INPUT_REPEATED"),
        (with(|b| b["outputs"] = json!([{ "name": "evil" }])), 400, "OUTPUT_UNKNOWN"),
        (with(|b| b["evil"] = json!(1)), 400, "JSON_INVALID"),
        (with(|b| b["parameters"] = json!({ "sequence_id": 1 })), 400, "PARAMETER_UNSUPPORTED"),
    ] {
        let reply = client.infer(body).await;
        assert_eq!(reply.code(), (status, code.into()));
        assert!(!String::from_utf8_lossy(&reply.body).contains("evil"));
    }
    let raw = |text: &str| request().to_string().replace("0.25", text);
    for text in ["NaN", "Infinity", "0.25e"] {
        assert_eq!(client.call("POST", "/v2/models/m/infer", raw(text)).await.code(), (400, "JSON_INVALID".into()));
    }
    let twice = request().to_string().replacen("\"inputs\"", "\"inputs\":[],\"inputs\"", 1);
    assert_eq!(client.call("POST", "/v2/models/m/infer", twice).await.code().1, "JSON_INVALID");
    assert_eq!(
        client.call("POST", "/v2/models/m/infer", vec![b'['; 65 * 1024]).await.code(),
        (413, "BODY_TOO_LARGE".into())
    );
    for path in [
        "/v2/models/evil/infer",
        "/v2/models/m/versions/2/infer",
        "/v2/models/m%2f../infer",
        "/v2/models/%ffevil/infer",
    ] {
        let reply = client.call("POST", path, request().to_string()).await;
        assert_eq!(reply.code(), (404, "MODEL_UNKNOWN".into()));
        assert!(!String::from_utf8_lossy(&reply.body).contains("evil"));
    }
    // Control.
    assert_eq!(client.infer(request()).await.status, 200);
}

#[tokio::test]
async fn a_receipt_names_the_weights_the_bodies_and_the_session() {
    let service = service(model(5, "never", long()));
    let client = Client::new(&service);
    let claims_bytes = client.attest().await.claims;
    let salt = [0x5a; 32];
    let body = request().to_string();
    let send = |salt: &str| {
        client.send(
            Request::post("/v2/models/m/infer").header("Vouchsafe-Receipt", salt).body(body.clone().into()).unwrap(),
        )
    };
    let reply = send(&b64url(&salt)).await;
    let signed: SignedStatement =
        serde_json::from_slice(&from_b64url(reply.headers["vouchsafe-receipt"].to_str().unwrap(), "receipt").unwrap())
            .unwrap();
    let statement = verify_statement(&signed, &claims_bytes, &Claims::parse(&claims_bytes).unwrap()).unwrap();
    assert_eq!(statement.request_digest, request_digest(&salt, body.as_bytes(), 0));
    assert_eq!(statement.response_digest, response_digest(&salt, &reply.body, 0));
    assert_eq!((statement.sequence, statement.manifest_digest, statement.nonce), (5, [5; 32], [9; 32]));
    assert_eq!((statement.mode, statement.claims_digest), (WORDS.mode, sha256(&claims_bytes)));
    for bad in ["", "AA", "not base64!", &b64url(&[0; 33])] {
        assert_eq!(send(bad).await.code(), (400, "RECEIPT_SALT".into()));
    }
    assert!(!client.infer(request()).await.headers.contains_key("vouchsafe-receipt"));
}

#[tokio::test]
async fn an_answer_is_as_long_as_others_when_it_is_padded() {
    let service = service_with(model(1, "never", long()), |service| service.pad_answers_to = Some(256));
    let client = Client::attested(&service).await;
    let plain = Client::attested(&super::service(model(1, "never", long()))).await;
    for rows in [1_usize, 2, 9] {
        let body = || {
            with(|b| {
                b["inputs"][0] =
                    json!({ "name": "x", "datatype": "FP32", "shape": [rows, 2], "data": vec![0.5; rows * 2] })
            })
        };
        let (padded, bare) = (client.infer(body()).await, plain.infer(body()).await);
        assert_eq!((padded.status, padded.body.len() % 256), (StatusCode::OK, 0));
        assert_eq!(padded.json(), bare.json(), "the same answer");
        assert_ne!(bare.body.len() % 256, 0, "control");
        let binary = with(|b| {
            b["parameters"] = json!({ "binary_data_output": true });
            b["inputs"] = body()["inputs"].clone();
        });
        let reply = client.infer(binary).await;
        let at: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
        assert_eq!((reply.body.len() % 256, reply.body.len() - at), (0, rows * 16));
        let head: Value = serde_json::from_slice(&reply.body[..at]).unwrap();
        assert_eq!(head["outputs"][1]["parameters"]["binary_data_size"], rows * 8);
    }
}

#[tokio::test]
async fn large_requests_and_answers_are_the_same_as_small_ones() {
    let usage = policy(&[("\"max_batch\": 1024", "\"max_batch\": 1048576")]);
    let service = service_with(running(1, usage, long(), compute), |service| {
        (service.max_body_bytes, service.request_timeout) = (8 << 20, Duration::from_secs(60));
    });
    let client = Client::attested(&service).await;
    let rows = 150_000_usize;
    let numbers: Vec<f32> = (0..rows * 2).map(|n| n as f32 / 8.0).collect();
    let input = |rest: Value| {
        let mut input = json!({ "name": "x", "datatype": "FP32", "shape": [rows, 2] });
        input.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        json!({ "inputs": [input], "outputs": [{ "name": "probabilities" }] }).to_string()
    };
    let body = input(json!({ "data": numbers }));
    assert!(body.len() > 1 << 20);
    let reply = client.with(&[("Vouchsafe-Receipt", &b64url(&[7; 32]))], body).await;
    assert!(reply.status == 200 && reply.headers.contains_key("vouchsafe-receipt"));
    let said: Vec<f32> = serde_json::from_value(reply.json()["outputs"][0]["data"].clone()).unwrap();
    assert_eq!(said, numbers);
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let head = input(json!({ "parameters": { "binary_data_size": bytes.len() } }));
    let headers = [("Inference-Header-Content-Length", &*head.len().to_string())];
    let binary = client.with(&headers, [head.as_bytes(), &bytes].concat()).await;
    assert_eq!(binary.json(), reply.json());
    let mut infinite = bytes;
    infinite[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let refused = client.with(&headers, [head.as_bytes(), &infinite].concat()).await;
    assert_eq!(refused.code(), (400, "INPUT_NOT_FINITE".into()), "rules hold on any thread");
}
