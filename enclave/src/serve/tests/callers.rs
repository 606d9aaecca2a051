//! Who may ask and how often: API keys, signatures over this session and this request, quotas, and what leases may promise.

use super::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use vouchsafe_attestation::caller::{CallerHeader, caller_bytes};
use vouchsafe_attestation::lp::sha256;
use vouchsafe_policies::usage::Credential;

const API_KEY: &str = "an-api-key-of-at-least-32-characters";
const OTHER_KEY: &str = "another-api-key-that-nobody-listed-";

fn pair(n: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[n; 32]).unwrap()
}

fn public(n: u8) -> Ed25519Public {
    Ed25519Public(pair(n).public_key().as_ref().try_into().unwrap())
}

/// Two callers: key 1 is of the role `ward`, the API key of the role `lab`.
fn listed() -> String {
    let api = Credential::of_api_key(API_KEY).unwrap();
    format!(r#""callers": [{{"key":"{}","role":"ward"}},{{"key":"{api}","role":"lab"}}]"#, Credential::Key(public(1)))
}

fn callers() -> Model {
    ruled(&[(r#""callers": "any""#, &listed())])
}

/// What a caller signs, to be changed by a test.
#[derive(Clone)]
struct Signed {
    key: u8,
    mode: Mode,
    tee: Tee,
    ekm: [u8; 32],
    counter: u64,
    method: &'static str,
    path: &'static str,
    header_len: u64,
    body: Vec<u8>,
}

impl Signed {
    fn new(counter: u64) -> Self {
        let body = request().to_string().into_bytes();
        Self {
            key: 1,
            mode: WORDS.mode,
            tee: WORDS.tee,
            ekm: EKM,
            counter,
            method: "POST",
            path: INFER,
            header_len: 0,
            body,
        }
    }

    fn header(&self) -> String {
        let body = sha256(&self.body);
        let bytes =
            caller_bytes(self.mode, self.tee, &self.ekm, self.counter, self.method, self.path, self.header_len, &body);
        let signature = pair(self.key).sign(&bytes).as_ref().try_into().unwrap();
        CallerHeader { key: public(self.key), counter: self.counter, signature }.to_string()
    }
}

async fn signed(client: &Client, signed: &Signed) -> Reply {
    client.with(&[("Vouchsafe-Caller", &signed.header())], request().to_string()).await
}

#[tokio::test]
async fn an_api_key_is_judged_before_the_body_is_read() {
    let service = service(callers());
    let client = Client::attested(&service).await;
    let bearer = |key: &str| format!("Bearer {key}");
    for (name, value) in [
        ("Authorization", bearer(OTHER_KEY)),
        ("Authorization", bearer("short")),
        ("Authorization", bearer("")),
        ("Authorization", API_KEY.to_owned()),
        ("Authorization", format!("Basic {API_KEY}")),
        ("Authorization", bearer(&format!(" {API_KEY}"))),
        ("X-Api-Key", API_KEY.to_owned()),
    ] {
        let reply = client.with(&[(name, &value)], Body::new(super::bodies::Never)).await;
        assert_eq!(reply.code(), (401, "CALLER_UNKNOWN".into()), "{name}: {value}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer, Vouchsafe-Caller"));
        assert!(!String::from_utf8_lossy(&reply.body).contains(API_KEY));
    }
    let twice = [("Authorization", &*bearer(OTHER_KEY)), ("Authorization", &bearer(API_KEY))];
    assert_eq!(client.with(&twice, Body::new(super::bodies::Never)).await.code().1, "CALLER_SIGNATURE");
    for scheme in ["Bearer", "bearer"] {
        let reply = client.with(&[("Authorization", &format!("{scheme} {API_KEY}"))], request().to_string()).await;
        assert_eq!(reply.status, 200, "control: {scheme}");
    }
    // What is not an inference needs no caller.
    assert_eq!(client.call("GET", "/v2/models/m", "").await.status, 200);
}

#[tokio::test]
async fn a_signature_is_for_one_request_of_one_session() {
    let service = service(callers());
    let client = Client::attested(&service).await;
    let good = Signed::new(7);
    type Change = fn(&mut Signed);
    let changes: [(&str, Change); 9] = [
        ("the other mode", |s| s.mode = Mode::Hardware),
        ("another technology", |s| s.tee = Tee::Tdx),
        ("another session", |s| s.ekm = [0xf; 32]),
        ("another method", |s| s.method = "GET"),
        ("another path", |s| s.path = "/v2/models/m/versions/1/infer"),
        ("another query", |s| s.path = "/v2/models/m/infer?x"),
        ("another framing", |s| s.header_len = 1),
        ("another body", |s| s.body.push(b' ')),
        ("nobody's body", |s| s.body.clear()),
    ];
    for (what, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(signed(&client, &bad).await.code(), (401, "CALLER_SIGNATURE".into()), "{what}");
    }
    let header = good.header();
    let (counted, last) = (header.replacen(".7.", ".8.", 1), &header[..header.len() - 1]);
    for bad in [counted.as_str(), last, "", "x", "a.1.b", &format!("{header}.1"), &header.replacen(".7.", ".07.", 1)] {
        let reply = client.with(&[("Vouchsafe-Caller", bad)], request().to_string()).await;
        assert_eq!(reply.code(), (401, "CALLER_SIGNATURE".into()), "{bad}");
    }
    let both = [("Vouchsafe-Caller", &*header), ("Authorization", &format!("Bearer {API_KEY}"))];
    assert_eq!(client.with(&both, request().to_string()).await.code(), (401, "CALLER_SIGNATURE".into()));
    assert_eq!(signed(&client, &good).await.status, 200, "control: none of these moved the counter");
}

#[tokio::test]
async fn a_signed_request_is_taken_once_and_never_an_earlier_one_again() {
    let service = service(callers());
    let client = Client::attested(&service).await;
    for (counter, expected) in [(5, 200), (5, 401), (4, 401), (0, 401), (6, 200), (u64::MAX, 200), (u64::MAX, 401)] {
        let reply = signed(&client, &Signed::new(counter)).await;
        assert_eq!(reply.status, expected, "{counter}");
        assert!(expected == 200 || reply.code().1 == "CALLER_REPLAYED");
    }
    // A key that is not listed learns so only with a signature that holds, and moves nobody else's counter.
    let stranger = Signed { key: 2, ..Signed::new(9) };
    assert_eq!(signed(&client, &stranger).await.code(), (403, "CALLER_FORBIDDEN".into()));
    assert_eq!(signed(&client, &stranger).await.code(), (401, "CALLER_REPLAYED".into()));
    let other = Client { service: service.clone(), session: Arc::new(Session::new([0xf; 32])) };
    other.attest().await;
    assert_eq!(signed(&other, &Signed::new(50)).await.code(), (401, "CALLER_SIGNATURE".into()), "another session");
    assert_eq!(signed(&other, &Signed { ekm: [0xf; 32], ..Signed::new(1) }).await.status, 200, "control: counts anew");
}

#[tokio::test]
async fn a_signature_covers_what_was_sent_not_what_it_means() {
    use flate2::{Compression, write::GzEncoder};
    let service = service(callers());
    let client = Client::attested(&service).await;
    let mut sent = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut sent, request().to_string().as_bytes()).unwrap();
    let sent = sent.finish().unwrap();
    let send = |signed: Signed, sent: Vec<u8>| {
        let header = signed.header();
        let client = &client;
        async move { client.with(&[("Vouchsafe-Caller", &header), ("Content-Encoding", "gzip")], sent).await }
    };
    assert_eq!(send(Signed::new(1), sent.clone()).await.code(), (401, "CALLER_SIGNATURE".into()), "over the text");
    assert_eq!(send(Signed { body: sent.clone(), ..Signed::new(1) }, sent).await.status, 200, "over the bytes");
}

#[tokio::test]
async fn where_everybody_may_ask_nobody_is_asked_who_they_are() {
    let service = service(model(1, "never", long()));
    let client = Client::attested(&service).await;
    let reply = client.with(&[("Authorization", "Basic x"), ("Vouchsafe-Caller", "x")], request().to_string()).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn quotas_count_by_role_and_outlive_a_new_version() {
    let quotas = r#""quotas": [{"role":"ward","requests":2,"per_s":60},{"role":"any","requests":4,"per_s":60}]"#;
    let changes = [(r#""callers": "any""#, &*listed()), (r#""quotas": "none""#, quotas)];
    let service = service(running(1, policy(&changes), long(), compute));
    let client = Client::attested(&service).await;
    let key = format!("Bearer {API_KEY}");
    let by_key = async || client.with(&[("Authorization", &key)], request().to_string()).await;
    // What proves no caller is nobody's request.
    for counter in 0..9 {
        let bad = Signed { body: vec![], ..Signed::new(counter) };
        assert_eq!(signed(&client, &bad).await.status, 401);
    }
    assert_eq!(signed(&client, &Signed::new(1)).await.status, 200);
    assert_eq!(signed(&client, &Signed::new(2)).await.status, 200);
    let refused = signed(&client, &Signed::new(3)).await;
    assert_eq!(refused.code(), (429, "QUOTA_EXCEEDED".into()));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(by_key().await.status, 200, "another role has its own");
    service.registry.install(running(2, policy(&changes), long(), compute));
    client.attest().await;
    assert_eq!(signed(&client, &Signed::new(4)).await.code().1, "QUOTA_EXCEEDED", "a new version is no new allowance");
    assert_eq!(by_key().await.status, 200);
    assert_eq!(by_key().await.code().1, "QUOTA_EXCEEDED", "everybody's is used up");
    let stats = client.call("GET", "/v2/models/m/stats", "").await.json();
    assert_eq!(stats["model_stats"][0]["inference_stats"]["success"]["count"], 1, "of version 2");
}

#[test]
fn a_lease_promises_no_more_than_a_day() {
    let day = r#""quotas": [{"role":"any","requests":100,"per_s":86400}]"#;
    let usage = || policy(&[(r#""quotas": "none""#, day)]);
    let lease = |requests| RunningLease::new(3600, requests, Instant::now());
    let new = |requests| {
        let (usage, engine) = (usage(), Engine::of_function(ports(), compute));
        Model::new(claim(1, &usage), usage, engine, lease(requests), clock())
    };
    let error = new(101).err().unwrap();
    assert_eq!((error.code(), error.is_transient()), ("QUOTA_NOT_COVERED", false));
    let model = new(100).ok().unwrap();
    let now = Instant::now();
    assert_eq!(model.renew(lease(101), now).unwrap_err().code(), "QUOTA_NOT_COVERED");
    assert!(model.is_ready(now), "the old lease goes on");
    assert_eq!(model.renew(lease(100), now), Ok(true), "control");
}
