//! Drives the service in memory: every route before and after attestation, requests, refusals, leases, receipts.
//! The models here are functions: ONNX Runtime and real evidence have their own tests.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vouchsafe_attestation::claims::{Claims, ModelClaim, Release};
use vouchsafe_attestation::encoding::{b64url, from_b64url};
use vouchsafe_attestation::lp::sha256;
use vouchsafe_attestation::receipt::{SignedStatement, request_digest, response_digest, verify_statement};
use vouchsafe_attestation::session::{AttestResponse, leaf, report_data, root_from_path, session_digest};
use vouchsafe_attestation::{Ed25519Public, Mode, Tee, UnixTime};
use vouchsafe_policies::usage::{Dtype as RuleDtype, InputRule, UsagePolicy};

use super::Service;
use super::oip::InferRequest;
use super::routes::{Gate, ROUTES, router};
use super::session::Session;
use super::tensor::{Data, Dtype, Tensor};
use crate::attest::Window;
use crate::device::Words;
use crate::device::tests::UnsignedDevice;
use crate::engine::{Engine, Port, Ports};
use crate::lease::{GuestClock, RunningLease};
use crate::model::{Model, Registry};
use crate::tls::Identity;

const WORDS: Words = Words { tee: Tee::SevSnp, mode: Mode::Simulation };
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
pub(super) const EKM: [u8; 32] = [0xe; 32];

/// Two columns in; the larger one's index, and the columns themselves, out.
fn ports() -> Ports {
    let port = |name: &str, dtype, shape: &[i64]| Port { name: name.into(), dtype, shape: shape.to_vec() };
    Ports {
        inputs: vec![port("x", Dtype::F32, &[-1, 2])],
        outputs: vec![port("label", Dtype::I64, &[-1]), port("probabilities", Dtype::F32, &[-1, 2])],
    }
}

fn compute(inputs: Vec<Tensor>) -> Vec<Tensor> {
    let Data::F32(x) = &inputs[0].data else { return Vec::new() };
    let label = x.chunks(2).map(|row| i64::from(row[1] > row[0])).collect::<Vec<_>>();
    vec![
        Tensor { name: "label".into(), shape: vec![label.len()], data: Data::I64(label) },
        Tensor { name: "probabilities".into(), shape: inputs[0].shape.clone(), data: inputs[0].data.clone() },
    ]
}

pub(super) fn model(sequence: u64, expires: &str, lease: RunningLease) -> Model {
    let rule = InputRule { name: "x".into(), dtype: RuleDtype::Fp32, shape: vec![-1, 2], finite: true };
    let text = UsagePolicy::template("m", &[rule]).replace("\"never\"", &format!("\"{expires}\""));
    let usage = UsagePolicy::parse(text.as_bytes()).unwrap();
    let claim = ModelClaim {
        id: "m".into(),
        uid: [1; 32],
        sequence,
        manifest_digest: [u8::try_from(sequence).unwrap(); 32],
        vendor_keys: vec![Ed25519Public([3; 32])],
        usage_policy_digest: usage.digest(),
        release: Release::Online,
    };
    Model::new(claim, usage, Engine::of_function(ports(), compute), lease, clock())
}

fn clock() -> Arc<GuestClock> {
    Arc::new(GuestClock::new(UnixTime(1_800_000_000), Instant::now()))
}

pub(super) fn long() -> RunningLease {
    RunningLease::new(3600, 1000, Instant::now())
}

pub(super) fn service(model: Model) -> Arc<Service> {
    let identity = Identity::generate().unwrap();
    let registry = Registry::new(&identity, WORDS, [7; 32], vec![[4; 32]], vec![Arc::new(model)]);
    let device = Arc::new(UnsignedDevice { quotes: AtomicUsize::new(0) });
    Arc::new(Service {
        identity,
        words: WORDS,
        registry: Arc::new(registry),
        window: Window::start(device, WORDS, Duration::from_millis(1), 16),
        clock: clock(),
        max_body_bytes: 64 * 1024,
        request_timeout: Duration::from_millis(500),
        unattested: Duration::from_secs(2),
    })
}

struct Client {
    service: Arc<Service>,
    session: Arc<Session>,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> (u16, String) {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        (self.status.as_u16(), json["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Client {
    fn new(service: &Arc<Service>) -> Self {
        Self { service: service.clone(), session: Arc::new(Session::new(EKM)) }
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response = router(&self.service, self.session.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Reply { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes().to_vec() }
    }

    async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> Reply {
        self.send(Request::builder().method(method).uri(path).body(body.into()).unwrap()).await
    }

    async fn attest(&self) -> AttestResponse {
        let body = json!({ "v": 1, "nonce": b64url(&[9; 32]), "accept": ["tdx", "sev-snp"] }).to_string();
        let reply = self.call("POST", "/v1/attest", body).await;
        assert_eq!(reply.status, 200);
        serde_json::from_slice(&reply.body).unwrap()
    }

    async fn infer(&self, body: Value) -> Reply {
        self.call("POST", "/v2/models/m/infer", body.to_string()).await
    }
}

fn request() -> Value {
    json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[0.25, 0.75], [1, 0]] }] })
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut body = request();
    change(&mut body);
    body
}

fn filled(path: &str, version: &str) -> String {
    path.replace("{model}", "m").replace("{version}", version)
}

#[tokio::test]
async fn before_attestation_only_health_and_attest_answer() {
    let service = service(model(1, "never", long()));
    let client = Client::new(&service);
    let mut refused = 0;
    for path in ROUTES
        .iter()
        .map(|r| filled(r.path, "1"))
        .chain(["/", "/metrics", "/v2/", "/v2/models", "/v2/repository/index"].map(String::from))
    {
        for method in METHODS {
            let reply = client.call(method, &path, "{}").await;
            let open = ROUTES.iter().any(|r| r.path == path && r.gate == Gate::Open);
            if open {
                assert_ne!(reply.status, 403, "{method} {path}");
            } else {
                refused += 1;
                assert_eq!(reply.status, 403, "{method} {path}");
                assert!(method == "HEAD" || reply.code().1 == "ATTEST_FIRST", "{method} {path}");
            }
        }
    }
    assert_eq!(refused, (7 + 5) * METHODS.len());
    // Control: the same walk after attestation meets no gate.
    client.attest().await;
    for route in ROUTES {
        assert_ne!(client.call(route.method, &filled(route.path, "1"), "{}").await.status, 403, "{}", route.path);
    }
    assert_eq!(client.call("GET", "/metrics", "").await.code(), (404, "ROUTE_UNKNOWN".into()));
    assert_eq!(client.call("DELETE", "/v2/models/m", "").await.code(), (405, "METHOD_UNSUPPORTED".into()));
}

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
    let client = Client::new(&service);
    client.attest().await;
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
    let client = Client::new(&service);
    client.attest().await;
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
    for path in ["/v2/models/evil/infer", "/v2/models/m/versions/2/infer", "/v2/models/m%2f../infer"] {
        let reply = client.call("POST", path, request().to_string()).await;
        assert_eq!(reply.code(), (404, "MODEL_UNKNOWN".into()));
        assert!(!String::from_utf8_lossy(&reply.body).contains("evil"));
    }
    let zipped = Request::post("/v2/models/m/infer").header("Content-Encoding", "gzip").body(Body::empty()).unwrap();
    assert_eq!(client.send(zipped).await.code(), (415, "CONTENT_ENCODING".into()));
    // Control.
    assert_eq!(client.infer(request()).await.status, 200);
}

#[tokio::test]
async fn a_length_declared_too_large_is_refused_unread_and_a_slow_body_is_cut() {
    let service = service(model(1, "never", long()));
    let client = Client::new(&service);
    client.attest().await;
    let endless = || Body::new(Never);
    let declared = Request::post("/v2/models/m/infer").header("Content-Length", 1_u64 << 30).body(endless()).unwrap();
    let reply = client.send(declared).await;
    // Not the code of one whose body was waited for.
    assert_eq!(
        (reply.code(), &reply.headers["connection"]),
        ((413, "BODY_TOO_LARGE".into()), &"close".parse().unwrap())
    );
    let slow = Request::post("/v2/models/m/infer").body(endless()).unwrap();
    assert_eq!(client.send(slow).await.code(), (408, "REQUEST_TIMEOUT".into()));
}

/// A body that never sends anything.
struct Never;

impl hyper::body::Body for Never {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn a_change_under_an_open_session_needs_new_evidence() {
    let service = service(model(1, "never", long()));
    let client = Client::new(&service);
    let before = client.attest().await;
    assert_eq!(client.infer(request()).await.status, 200);
    service.registry.install(model(2, "never", long()));
    for route in ROUTES.iter().filter(|r| r.gate == Gate::Attested) {
        assert_eq!(
            client.call(route.method, &filled(route.path, "2"), "").await.code(),
            (409, "REATTEST".into()),
            "{}",
            route.path
        );
    }
    assert_eq!(client.call("GET", "/v2/health/ready", "").await.status, 200);
    let after = client.attest().await;
    assert_ne!(before.claims, after.claims);
    assert_eq!(client.infer(request()).await.json()["model_version"], "2");
    // The same version again (after a lapse), or an older one, changes no claim.
    service.registry.install(model(2, "never", long()));
    service.registry.install(model(1, "never", long()));
    assert_eq!(client.infer(request()).await.json()["model_version"], "2");
}

#[tokio::test]
async fn a_lease_ends_the_service_and_a_new_one_begins_it_again() {
    let service = service(model(1, "never", RunningLease::new(3600, 2, Instant::now())));
    let client = Client::new(&service);
    client.attest().await;
    assert_eq!(client.infer(json!({ "inputs": [] })).await.status, 400, "a refused request costs nothing");
    assert_eq!(client.infer(request()).await.status, 200);
    assert_eq!(client.infer(request()).await.status, 200);
    assert_eq!(client.infer(request()).await.code(), (503, "LEASE_LAPSED".into()));
    assert_eq!(client.call("GET", "/v2/models/m/ready", "").await.code(), (503, "LEASE_LAPSED".into()));
    assert_eq!(client.call("GET", "/v2/health/ready", "").await.status, 503);
    assert_eq!(client.call("GET", "/v2/health/live", "").await.status, 200);
    let generation = service.registry.current();
    let lapsed = generation.model("m").unwrap();
    assert!(!lapsed.renew(long(), Instant::now()), "the session is gone: a lease alone does not bring it back");
    service.registry.install(model(1, "never", long()));
    assert_eq!(client.infer(request()).await.status, 200, "the claims did not change: no new evidence is needed");
}

#[tokio::test]
async fn the_session_ends_with_the_right_to_use_it() {
    let usable = model(1, "2100-01-01T00:00:00Z", long());
    let (now, expired) = (Instant::now(), model(1, "2020-01-01T00:00:00Z", long()));
    assert!(usable.is_in_force(now).is_ok() && usable.is_ready(now) && usable.renew(long(), now), "control");
    assert_eq!(expired.is_in_force(now).unwrap_err().code(), "USAGE_EXPIRED");
    assert!(!expired.is_ready(now) && !expired.renew(long(), now), "a new lease does not bring it back");
    assert_eq!(expired.take(now).err().unwrap().code(), "USAGE_EXPIRED");
    // It expires while it runs: the keeper is told when.
    let soon = UnixTime(1_800_000_000 + 60).to_string();
    let soon = model(1, &soon, long());
    let (renew_in, ends_in) = soon.times(Instant::now());
    assert!(renew_in <= Duration::from_secs(60) && ends_in <= Duration::from_secs(60), "{renew_in:?} {ends_in:?}");
    assert!(soon.take(now).is_ok() && !soon.is_ready(now + Duration::from_secs(61)));
}

#[tokio::test]
async fn a_panic_in_a_run_is_not_called_ready() {
    // A panic without its lines on the terminal.
    let panics = |_: Vec<Tensor>| -> Vec<Tensor> { std::panic::resume_unwind(Box::new(())) };
    let engine = Engine::of_function(ports(), panics);
    let fine = model(1, "never", long());
    let broken = Model::new(fine.claim().clone(), fine.usage().clone(), engine, long(), clock());
    let service = service(broken);
    let client = Client::new(&service);
    client.attest().await;
    assert_eq!(client.call("GET", "/v2/health/ready", "").await.status, 200, "control: before");
    assert_eq!(client.infer(request()).await.code(), (500, "ENGINE_FAILED".into()));
    // The thread may still be ending.
    let end = Instant::now() + Duration::from_secs(20);
    while client.call("GET", "/v2/health/ready", "").await.status != 503 {
        assert!(Instant::now() < end, "it is called ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    service.registry.install(fine);
    assert_eq!(client.infer(request()).await.status, 200, "control: unsealed again");
}

#[tokio::test]
async fn the_right_to_use_ends_at_its_time() {
    let early = service(model(1, "2100-01-01T00:00:00Z", long()));
    let late = service(model(1, "2020-01-01T00:00:00Z", long()));
    for (service, expected) in [(early, (200, "")), (late, (403, "USAGE_EXPIRED"))] {
        let client = Client::new(&service);
        client.attest().await;
        assert_eq!(client.infer(request()).await.code(), (expected.0, expected.1.into()));
    }
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
async fn descriptions_come_from_the_model() {
    let service = service(model(1, "never", long()));
    let client = Client::new(&service);
    client.attest().await;
    let server = client.call("GET", "/v2", "").await.json();
    assert_eq!(server["extensions"], json!(["binary_tensor_data"]));
    let model = client.call("GET", "/v2/models/m", "").await.json();
    assert_eq!(model["inputs"], json!([{ "name": "x", "datatype": "FP32", "shape": [-1, 2] }]));
    assert_eq!((&model["name"], &model["versions"]), (&json!("m"), &json!(["1"])));
}

proptest::proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(
        body in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        head in proptest::option::of(0_u64..220),
    ) {
        let _ = InferRequest::decode(&body, head, &ports());
    }

    #[test]
    fn any_small_change_of_a_request_decodes_or_is_refused(at in 0_usize..90, byte in proptest::num::u8::ANY) {
        let mut body = request().to_string().into_bytes();
        let at = at % body.len();
        body[at] = byte;
        if let Ok(decoded) = InferRequest::decode(&body, None, &ports()) {
            proptest::prop_assert!(decoded.inputs.iter().all(|t| t.shape.len() == 2 && t.data.is_finite()));
        }
    }

    #[test]
    fn binary_and_json_rows_are_the_same_tensor(rows in proptest::collection::vec(proptest::array::uniform2(-1e30_f32..1e30), 0..20)) {
        let flat: Vec<f32> = rows.concat();
        let bytes: Vec<u8> = flat.iter().flat_map(|x| x.to_le_bytes()).collect();
        let input = |rest: Value| {
            let mut input = json!({ "name": "x", "datatype": "FP32", "shape": [rows.len(), 2] });
            input.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            json!({ "inputs": [input] }).to_string()
        };
        let head = input(json!({ "parameters": { "binary_data_size": bytes.len() } }));
        let binary = [head.as_bytes(), &bytes].concat();
        let binary = InferRequest::decode(&binary, Some(head.len() as u64), &ports()).unwrap().inputs;
        let nested = InferRequest::decode(input(json!({ "data": rows })).as_bytes(), None, &ports()).unwrap().inputs;
        let plain = InferRequest::decode(input(json!({ "data": flat })).as_bytes(), None, &ports()).unwrap().inputs;
        proptest::prop_assert_eq!(&binary, &nested);
        proptest::prop_assert_eq!(&binary, &plain);
    }
}
