//! Drives the service in memory: every route before and after attestation, and in the modules below what each rule refuses.
//! The models here are functions: ONNX Runtime, runners and real evidence have their own tests.

mod answers;
mod bodies;
mod callers;
mod changes;
mod outputs;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vouchsafe_attestation::claims::{ModelClaim, Release};
use vouchsafe_attestation::encoding::b64url;
use vouchsafe_attestation::session::AttestResponse;
use vouchsafe_attestation::{Ed25519Public, Mode, Tee, UnixTime};
use vouchsafe_oip::{Dtype, Port, Ports, Tensor};
use vouchsafe_policies::usage::{Dtype as RuleDtype, InputRule, UsagePolicy};

use super::Service;
use super::metrics::Metrics;
use super::routes::{Gate, ROUTES, router};
use super::session::Session;
use crate::attest::Window;
use crate::device::Words;
use crate::device::tests::UnsignedDevice;
use crate::engine::Engine;
use crate::lease::{GuestClock, RunningLease};
use crate::model::{Model, Registry};
use crate::tls::Identity;

const WORDS: Words = Words { tee: Tee::SevSnp, mode: Mode::Simulation };
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
pub(super) const EKM: [u8; 32] = [0xe; 32];
const INFER: &str = "/v2/models/m/infer";

/// Two columns in; the larger one's index, and the columns themselves, out.
fn ports() -> Ports {
    let port = |name: &str, dtype, shape: &[i64]| Port { name: name.into(), dtype, shape: shape.to_vec() };
    Ports {
        inputs: vec![port("x", Dtype::F32, &[-1, 2])],
        outputs: vec![port("label", Dtype::I64, &[-1]), port("probabilities", Dtype::F32, &[-1, 2])],
    }
}

fn compute(inputs: Vec<Tensor>) -> Vec<Tensor> {
    let x = &inputs[0];
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let labels = x.data.chunks(8).map(|row| i64::from(number(&row[4..]) > number(&row[..4])));
    let labels: Vec<u8> = labels.flat_map(i64::to_le_bytes).collect();
    let shape = vec![labels.len() / 8];
    vec![
        Tensor { name: "label".into(), dtype: Dtype::I64, shape, data: labels.into() },
        Tensor { name: "probabilities".into(), ..x.clone() },
    ]
}

/// The policy of a vendor who allows everything, with these changes.
fn policy(changes: &[(&str, &str)]) -> UsagePolicy {
    let text = UsagePolicy::template("m", &[InputRule::new("x", RuleDtype::Fp32, vec![-1, 2])]);
    let text = changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    UsagePolicy::parse(text.as_bytes()).unwrap()
}

fn claim(sequence: u64, usage: &UsagePolicy) -> ModelClaim {
    ModelClaim {
        id: "m".into(),
        uid: [1; 32],
        sequence,
        manifest_digest: [u8::try_from(sequence).unwrap(); 32],
        vendor_keys: vec![Ed25519Public([3; 32])],
        usage_policy_digest: usage.digest(),
        release: Release::Online,
    }
}

/// A model of this function under this policy.
fn running(sequence: u64, usage: UsagePolicy, lease: RunningLease, run: fn(Vec<Tensor>) -> Vec<Tensor>) -> Model {
    let claim = claim(sequence, &usage);
    Model::new(claim, usage, Engine::of_function(ports(), run), lease, clock()).unwrap()
}

fn ruled(changes: &[(&str, &str)]) -> Model {
    running(1, policy(changes), long(), compute)
}

pub(super) fn model(sequence: u64, expires: &str, lease: RunningLease) -> Model {
    running(sequence, policy(&[("\"never\"", &format!("\"{expires}\""))]), lease, compute)
}

fn clock() -> Arc<GuestClock> {
    Arc::new(GuestClock::new(UnixTime(1_800_000_000), Instant::now()))
}

pub(super) fn long() -> RunningLease {
    RunningLease::new(3600, 1000, Instant::now())
}

pub(super) fn service(model: Model) -> Arc<Service> {
    service_with(model, |_| {})
}

fn service_with(model: Model, change: impl FnOnce(&mut Service)) -> Arc<Service> {
    let identity = Identity::generate().unwrap();
    let registry = Registry::new(&identity, WORDS, [7; 32], vec![[4; 32]], vec![Arc::new(model)]);
    let device = Arc::new(UnsignedDevice { quotes: AtomicUsize::new(0) });
    let mut service = Service {
        identity,
        words: WORDS,
        registry: Arc::new(registry),
        window: Window::start(device, WORDS, Duration::from_millis(1), 16),
        clock: clock(),
        max_body_bytes: 64 * 1024,
        request_timeout: Duration::from_millis(500),
        pad_answers_to: None,
        work: Arc::new(tokio::sync::Semaphore::new(2)),
        bodies: Arc::new(tokio::sync::Semaphore::new(1 << 20)),
        metrics: Metrics::default(),
        unattested: Duration::from_secs(2),
    };
    change(&mut service);
    Arc::new(service)
}

struct Client {
    service: Arc<Service>,
    session: Arc<Session>,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> (u16, String) {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        (self.status.as_u16(), json["code"].as_str().unwrap_or_default().to_owned())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Client {
    fn new(service: &Arc<Service>) -> Self {
        Self { service: service.clone(), session: Arc::new(Session::new(EKM)) }
    }

    /// One that has fetched evidence.
    async fn attested(service: &Arc<Service>) -> Self {
        let client = Self::new(service);
        client.attest().await;
        client
    }

    async fn send(&self, mut request: Request<Body>) -> Reply {
        request.extensions_mut().insert(self.session.clone());
        let response = router(&self.service).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Reply { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> Reply {
        self.send(Request::builder().method(method).uri(path).body(body.into()).unwrap()).await
    }

    async fn with(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
        let request = headers.iter().fold(Request::post(INFER), |request, (name, value)| request.header(*name, *value));
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn attest(&self) -> AttestResponse {
        let body = json!({ "v": 1, "nonce": b64url(&[9; 32]), "accept": ["tdx", "sev-snp"] }).to_string();
        let reply = self.call("POST", "/v1/attest", body).await;
        assert_eq!(reply.status, 200);
        serde_json::from_slice(&reply.body).unwrap()
    }

    async fn infer(&self, body: Value) -> Reply {
        self.call("POST", INFER, body.to_string()).await
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

/// What the control of a walk over the routes sends: nothing where a body is a question of its own.
fn body_for(path: &str) -> &'static str {
    if path == "/v2/repository/index" { "" } else { "{}" }
}

#[tokio::test]
async fn before_attestation_only_health_metrics_and_attest_answer() {
    let service = service(model(1, "never", long()));
    let client = Client::new(&service);
    let (mut refused, mut open) = (0, Vec::new());
    let others = ["/", "/v2/", "/v1/quote", "/v2/repository"];
    for path in ROUTES.iter().map(|r| filled(r.path, "1")).chain(others.map(String::from)) {
        for method in METHODS {
            let reply = client.call(method, &path, "{}").await;
            if ROUTES.iter().any(|r| r.path == path && r.gate == Gate::Open) {
                assert_ne!(reply.status, 403, "{method} {path}");
                open.push(path.clone());
            } else {
                refused += 1;
                assert_eq!(reply.status, 403, "{method} {path}");
                assert!(method == "HEAD" || reply.code().1 == "ATTEST_FIRST", "{method} {path}");
            }
        }
    }
    open.dedup();
    assert_eq!(open, ["/v2/health/live", "/v2/health/ready", "/metrics", "/v1/attest"], "and nothing else");
    assert_eq!(refused, (ROUTES.len() - open.len() + others.len()) * METHODS.len());
    // Control: the same walk after attestation meets no gate.
    client.attest().await;
    for route in ROUTES {
        let reply = client.call(route.method, &filled(route.path, "1"), body_for(route.path)).await;
        // Only what has a body is wrong with this one.
        let wrong = route.method == "POST" && route.path != "/v2/repository/index";
        assert_eq!(reply.status, if wrong { 400 } else { 200 }, "{}", route.path);
    }
    assert_eq!(client.call("GET", "/v1/quote", "").await.code(), (404, "ROUTE_UNKNOWN".into()));
    assert_eq!(client.call("DELETE", "/v2/models/m", "").await.code(), (405, "METHOD_UNSUPPORTED".into()));
}

#[tokio::test]
async fn models_are_described_listed_and_counted() {
    let service = service(model(4, "never", RunningLease::new(3600, 2, Instant::now())));
    let client = Client::attested(&service).await;
    let server = client.call("GET", "/v2", "").await.json();
    let extensions = json!(["binary_tensor_data", "model_configuration", "model_repository", "statistics"]);
    assert_eq!(server["extensions"], extensions);
    let model = client.call("GET", "/v2/models/m", "").await.json();
    assert_eq!(model["inputs"], json!([{ "name": "x", "datatype": "FP32", "shape": [-1, 2] }]));
    assert_eq!((&model["name"], &model["versions"]), (&json!("m"), &json!(["4"])));
    assert_eq!(client.call("GET", "/v2/models", "").await.json(), json!({ "models": ["m"] }));
    for path in ["/v2/models/m/config", "/v2/models/m/versions/4/config"] {
        let config = client.call("GET", path, "").await.json();
        assert_eq!((&config["name"], &config["input"][0]["data_type"]), (&json!("m"), &json!("TYPE_FP32")));
    }
    for path in ["/v2/models/m/versions/5/config", "/v2/models/n/stats", "/v2/models/m/versions/04/stats"] {
        assert_eq!(client.call("GET", path, "").await.code(), (404, "MODEL_UNKNOWN".into()));
    }
    let index = |body: &'static str| client.call("POST", "/v2/repository/index", body);
    let ready = json!([{ "name": "m", "version": "4", "state": "READY", "reason": "" }]);
    for body in ["", "{}", "{\"ready\":true}", "{\"ready\":false}"] {
        assert_eq!(index(body).await.json(), ready, "{body}");
    }
    for body in ["[", "[]", "{\"ready\":1}", "{\"unready\":true}"] {
        assert_eq!(index(body).await.code(), (400, "JSON_INVALID".into()), "{body}");
    }
    assert_eq!(client.infer(json!({})).await.status, 400);
    assert_eq!(client.infer(request()).await.status, 200);
    assert_eq!(client.infer(request()).await.status, 200);
    assert_eq!(client.infer(request()).await.status, 503, "the lease allows two");
    assert_eq!(index("").await.json()[0]["state"], "UNAVAILABLE");
    assert_eq!(index("{\"ready\":true}").await.json(), json!([]));
    for path in ["/v2/models/stats", "/v2/models/m/stats", "/v2/models/m/versions/4/stats"] {
        let stats = &client.call("GET", path, "").await.json()["model_stats"];
        assert_eq!(
            (&stats[0]["name"], &stats[0]["version"], stats.as_array().unwrap().len()),
            (&json!("m"), &json!("4"), 1)
        );
        assert_eq!((&stats[0]["inference_count"], &stats[0]["last_inference"]), (&json!(2), &json!(0)));
        assert_eq!(stats[0]["inference_stats"]["success"]["count"], 2);
        assert_eq!(stats[0]["inference_stats"]["fail"]["count"], 2);
    }
    let metrics = Client::new(&service).call("GET", "/metrics", "").await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        "vouchsafe_requests_total{model=\"m\",version=\"4\",outcome=\"answered\"} 2",
        "vouchsafe_requests_total{model=\"m\",version=\"4\",outcome=\"rejected\"} 1",
        "vouchsafe_requests_total{model=\"m\",version=\"4\",outcome=\"unavailable\"} 1",
        "vouchsafe_request_seconds_count{model=\"m\",version=\"4\"} 2",
        "vouchsafe_models_ready 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
}
