//! Turns bad conversations with the broker into the code that its ledger has under the peer's ticket, or into silence when there
//! is no line. The broker is the shipped program; it hears a guest of the shipped simulator, whose complete handshake is the control.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{os::unix::net::UnixStream, path::Path, sync::Mutex, sync::OnceLock};

use serde_json::{Value, json};
use vouchsafe_attestation::{Ed25519Public, EvidenceEnvelope, Mode, Tee, UnixTime, encoding::b64url, lp::sha256};
use vouchsafe_launcher::{LaunchRequest, Simulator, frame};
use vouchsafe_release::{
    ReleaseError,
    client::{Auth, Incoming, Outgoing},
    rcar::{AttestRequest, ErrorBody},
};
use vouchsafe_tests::{
    Scene, Service, bin_dir,
    wire::{Answer, Wire},
};

/// A measured guest with the operator's configuration, and a broker's address.
struct Guest {
    tee: Tee,
    _simulator: Simulator,
    device: UnixStream,
    broker: String,
    release_key: Ed25519Public,
}

impl Guest {
    fn new(scene: &Scene, broker: &str) -> Self {
        Self::on(Tee::SevSnp, scene, broker)
    }

    fn on(tee: Tee, scene: &Scene, broker: &str) -> Self {
        Self::launched(tee, Path::new(&scene.at("tester/root")), scene.text("operator/config.toml").as_bytes(), broker)
    }

    fn launched(tee: Tee, root: &Path, config: &[u8], broker: &str) -> Self {
        let mut simulator = Simulator::start(&bin_dir().join("vouchsafe-simulator"), root).unwrap();
        let request = LaunchRequest {
            tee,
            mode: Mode::Simulation,
            enclave: bin_dir().join("vouchsafe-enclave"),
            onnxruntime: bin_dir().join("libonnxruntime.so"),
            host_data: sha256(config),
        };
        let device = simulator.launch(&request).unwrap().device.into();
        let text = std::str::from_utf8(config).unwrap();
        let key = text.split("release_keys = [\"").nth(1).and_then(|t| t.split('"').next()).unwrap();
        Self { tee, _simulator: simulator, device, broker: broker.to_owned(), release_key: key.parse().unwrap() }
    }

    fn quote(&self, report_data: &[u8; 64]) -> EvidenceEnvelope {
        frame::write(&self.device, &json!({ "report_data": b64url(report_data) }), &[]).unwrap();
        frame::read(&self.device).unwrap().unwrap().0
    }

    fn send(&self, out: &Outgoing) -> Answer {
        let cookie: Vec<(&str, &str)> = out.cookie.iter().map(|c| ("Cookie", c.as_str())).collect();
        Wire::open(&self.broker).send(out.method, &out.path, &cookie, &out.body)
    }

    fn post(&self, path: &str, cookie: Option<&str>, body: &[u8]) -> Answer {
        let out = Outgoing { method: "POST", path: path.into(), cookie: cookie.map(str::to_owned), body: body.into() };
        self.send(&out)
    }

    fn get(&self, path: &str, cookie: Option<&str>) -> Answer {
        self.send(&Outgoing { method: "GET", path: path.into(), cookie: cookie.map(str::to_owned), body: vec![] })
    }

    /// A session with its cookie and its `attest` message, not yet sent.
    fn challenged(&self) -> Outgoing {
        self.challenged_as(self.tee)
    }

    /// The same; what was announced may be another technology than the evidence's.
    fn challenged_as(&self, announced: Tee) -> Outgoing {
        let auth = Auth::begin(announced, None).unwrap();
        let attest = given(&self.send(&auth.request()), |i| auth.answer(i)).unwrap();
        attest.request(&self.quote(&attest.report_data())).unwrap()
    }

    /// All three requests; the bundle is opened under the pinned release key.
    fn handshake(&self) -> Result<u64, ReleaseError> {
        let auth = Auth::begin(self.tee, None)?;
        let attest = given(&self.send(&auth.request()), |i| auth.answer(i))?;
        let out = attest.request(&self.quote(&attest.report_data()))?;
        let resource = given(&self.send(&out), |i| attest.answer(i))?;
        let answer = self.send(&resource.request("breast-cancer", 2));
        let keys = [self.release_key];
        let opened = |i: &Incoming<'_>| resource.answer(i, ("breast-cancer", 2), &keys, Mode::Simulation, UnixTime(0));
        given(&answer, opened).map(|grant| grant.sequence())
    }
}

fn given<T>(answer: &Answer, read: impl FnOnce(&Incoming<'_>) -> T) -> T {
    let cookies: Vec<&str> = answer.header("set-cookie").into_iter().collect();
    read(&Incoming { status: answer.status, set_cookie: &cookies, body: &answer.body })
}

fn ticket(answer: &Answer) -> String {
    assert_eq!(answer.status, 401, "{}", String::from_utf8_lossy(&answer.body));
    let length = br#"{"type":"urn:vouchsafe:refused","detail":"ticket "}"#.len() + 32;
    assert_eq!(answer.body.len(), length, "a refused peer hears a ticket and nothing else");
    hex::encode(ErrorBody::ticket_of(&answer.body).unwrap())
}

const RESOURCE: &str = "/kbs/v0/resource/vouchsafe/breast-cancer/2";

fn shared() -> (&'static Scene, &'static str) {
    static SHARED: OnceLock<(Scene, Mutex<Service>, String)> = OnceLock::new();
    let (scene, _, address) = SHARED.get_or_init(|| {
        let scene = Scene::new();
        let (broker, address) = scene.broker();
        (scene, Mutex::new(broker), address)
    });
    (scene, address)
}

#[test]
fn nonces_tokens_and_sessions_serve_once() {
    let (scene, broker) = shared();
    let guest = Guest::new(scene, broker);
    let (attest, auth) = ("/kbs/v0/attest", "/kbs/v0/auth");
    assert_eq!(guest.handshake(), Ok(2), "control: before");
    let code = |answer: &Answer| scene.ledger_code(&ticket(answer));

    let first = guest.challenged();
    let cookie = first.cookie.as_deref();
    assert_eq!(code(&guest.get(RESOURCE, cookie)), "TOKEN_MISSING", "asking before attesting");
    assert_eq!(code(&guest.send(&first)), "NONCE_USED", "and the nonce is used by it");

    let first = guest.challenged();
    let cookie = first.cookie.as_deref();
    assert_eq!(guest.send(&first).status, 200, "control: the message itself is good");
    assert_eq!(code(&guest.send(&first)), "NONCE_USED", "the same message once more");
    assert_eq!(code(&guest.get(RESOURCE, cookie)), "TOKEN_MISSING", "which ended the session");

    let second = guest.challenged();
    assert_eq!(code(&guest.post(attest, second.cookie.as_deref(), &first.body)), "NONCE_MISMATCH", "an old message");
    let third = guest.challenged();
    let mut old: Value = serde_json::from_slice(&first.body).unwrap();
    let new: Value = serde_json::from_slice(&third.body).unwrap();
    old["runtime-data"] = new["runtime-data"].clone();
    let replayed = serde_json::to_vec(&old).unwrap();
    assert!(AttestRequest::parse(&replayed).is_ok(), "control: well formed");
    let answer = guest.post(attest, third.cookie.as_deref(), &replayed);
    assert_eq!(code(&answer), "REPORT_DATA_MISMATCH", "old evidence under a fresh nonce");

    let fourth = guest.challenged();
    assert_eq!(guest.send(&fourth).status, 200);
    assert_eq!(guest.get(RESOURCE, fourth.cookie.as_deref()).status, 200, "control");
    assert_eq!(code(&guest.get(RESOURCE, fourth.cookie.as_deref())), "TOKEN_USED");

    for (what, path, code_expected) in [
        ("another repository", "/kbs/v0/resource/other/breast-cancer/2", "RESOURCE_PATH"),
        ("a number in another form", "/kbs/v0/resource/vouchsafe/breast-cancer/02", "RESOURCE_PATH"),
        ("an unknown model", "/kbs/v0/resource/vouchsafe/nobody/2", "MODEL_UNKNOWN"),
        ("an unknown version", "/kbs/v0/resource/vouchsafe/breast-cancer/9", "MODEL_UNKNOWN"),
    ] {
        let accepted = guest.challenged();
        assert_eq!(guest.send(&accepted).status, 200);
        assert_eq!(code(&guest.get(path, accepted.cookie.as_deref())), code_expected, "{what}");
    }

    let unknown = format!("kbs-session-id={}", "0".repeat(32));
    for (what, cookie) in [("unknown", Some(unknown.as_str())), ("malformed", Some("kbs-session-id=x")), ("no", None)] {
        assert_eq!(code(&guest.post(attest, cookie, &first.body)), "SESSION_UNKNOWN", "{what} cookie");
    }
    let good = br#"{"version":"0.4.0","tee":"snp","extra-params":{"supported-hash-algorithms":["sha384"]}}"#;
    for (what, from, to) in [
        ("an unknown field", "{\"version\"", "{\"note\":1,\"version\""),
        ("a duplicate key", "{\"version\"", "{\"version\":\"0.4.0\",\"version\""),
        ("no technology", "\"tee\":\"snp\",", ""),
        ("no JSON", "{", "["),
    ] {
        let body = String::from_utf8(good.to_vec()).unwrap().replacen(from, to, 1);
        assert_eq!(code(&guest.post(auth, None, body.as_bytes())), "RCAR_MESSAGE", "{what}");
    }
    assert_eq!(guest.post(auth, None, good).status, 200, "control");
    assert_eq!(guest.handshake(), Ok(2), "control: after");
}

#[test]
fn a_technology_is_announced_as_it_is_and_only_an_accepted_one_gets_a_key() {
    for (ours, scene) in [(Tee::SevSnp, Scene::new()), (Tee::Tdx, Scene::on(vouchsafe_tests::TDX))] {
        let (_broker, address) = scene.broker();
        let guest = Guest::on(ours, &scene, &address);
        assert_eq!(guest.handshake(), Ok(2), "{ours}: control: before");
        let other = if ours == Tee::Tdx { Tee::SevSnp } else { Tee::Tdx };
        let stranger = Guest::on(other, &scene, &address);
        let code = |sent: &Outgoing| scene.ledger_code(&ticket(&guest.send(sent)));
        assert_eq!(code(&guest.challenged_as(other)), "TEE_MISMATCH", "{ours} announced as {other}");
        assert_eq!(code(&stranger.challenged_as(ours)), "TEE_MISMATCH", "{other} announced as {ours}");
        assert_eq!(code(&stranger.challenged()), "TEE_NOT_ALLOWED", "{other} under a policy for {ours}");
        assert_eq!(guest.handshake(), Ok(2), "{ours}: control: after");
    }
}

#[test]
fn oversize_and_strange_requests_cost_no_ledger_line() {
    let scene = Scene::new();
    let (_broker, address) = scene.broker();
    let guest = Guest::new(&scene, &address);
    let before = scene.ledger(None).len();
    for (what, path, length, status) in [
        ("auth of more than 4 KiB", "/kbs/v0/auth", 4 * 1024 + 1, 413),
        ("attest of more than 256 KiB", "/kbs/v0/attest", 256 * 1024 + 1, 413),
        ("a path that is none", "/kbs/v0/nothing", 0, 404),
        ("administration from outside", "/admin", 0, 404),
    ] {
        assert_eq!(guest.post(path, None, &vec![b' '; length]).status, status, "{what}");
    }
    assert_eq!(guest.get("/kbs/v0/auth", None).status, 405);
    for length in [1_u64 << 30, 1 << 60] {
        let mut wire = Wire::open(&address);
        wire.raw(format!("POST /kbs/v0/attest HTTP/1.1\r\nHost: b\r\nContent-Length: {length}\r\n\r\n").as_bytes());
        assert_eq!(wire.answer().map(|a| a.status), Some(413), "{length} declared");
    }
    assert_eq!(scene.ledger(None).len(), before);
    assert_eq!(guest.handshake(), Ok(2), "control");
    assert_eq!(scene.ledger(None).len(), before + 1, "control: a grant is a line");
}

/// Set in the child that runs where a 64 KiB disk is mounted.
const SMALL_DISK: &str = "VOUCHSAFE_TEST_SMALL_DISK";

#[test]
fn on_a_full_disk_the_broker_answers_nothing_that_needs_a_line() {
    const NAME: &str = "on_a_full_disk_the_broker_answers_nothing_that_needs_a_line";
    if let Some(dir) = std::env::var_os(SMALL_DISK) {
        full_disk(Path::new(&dir));
        println!("FULL DISK DONE");
        return;
    }
    let scene = Scene::new();
    let disk = scene.at("broker/disk");
    std::fs::create_dir(&disk).unwrap();
    let script = r#"mount -t tmpfs -o size=64k,mode=700 tmpfs "$0" && exec "$@""#;
    let may_mount = std::process::Command::new("unshare").args(["-rm", "sh", "-c", script, &disk, "true"]).output();
    if !may_mount.is_ok_and(|o| o.status.success()) {
        println!("NOT RUN: {NAME}: this user may not mount a file system of its own");
        return;
    }
    let output = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", script, &disk])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(SMALL_DISK, scene.at(""))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("FULL DISK DONE"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn full_disk(scene: &Path) {
    let (state, disk) = (scene.join("broker/state"), scene.join("broker/disk"));
    vouchsafe_tests::scene::copy_dir(&state, &disk);
    let fill = disk.join("fill");
    let full = || {
        let error = std::fs::write(&fill, vec![0; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "control: the disk is full");
    };
    let (disk_text, ledger) = (disk.to_str().unwrap(), disk.join("ledger.jsonl"));
    let verified = || vouchsafe_tests::scene::told(&["broker", "ledger", "verify", disk_text]);
    let serve = ["broker", "serve", disk_text, "--exit-with-stdin", "--json"];
    let mut broker = Service::start("vouchsafe", &serve);
    let address = broker.wait_listening();
    let config = std::fs::read(scene.join("operator/config.toml")).unwrap();
    let guest = Guest::launched(Tee::SevSnp, &scene.join("tester/root"), &config, &address);
    assert_eq!(guest.handshake(), Ok(2), "control: before");

    // The last page of the ledger still has room; lines are refused until it is used up.
    full();
    let mut refusals = 0;
    while guest.post("/kbs/v0/attest", None, b"{}").status == 401 {
        refusals += 1;
        assert!(refusals < 60, "the disk is not full");
    }
    println!("{refusals} more lines fitted");
    let before = std::fs::read(&ledger).unwrap();
    assert_eq!(guest.post("/kbs/v0/attest", None, b"{}").status, 503, "no ticket without a line");
    assert_eq!(guest.handshake(), Err(ReleaseError::Status(503)), "no key without a line");
    let body = guest.post("/kbs/v0/attest", None, b"{}").body;
    assert!(ErrorBody::ticket_of(&body).is_none(), "{}", String::from_utf8_lossy(&body));
    assert_eq!(std::fs::read(&ledger).unwrap(), before, "no torn line is left");
    assert_eq!(verified(), (0, "accepted".to_owned()));
    drop(broker);
    let (exit, json) = vouchsafe_tests::vouchsafe_json(&serve[..3]);
    assert_eq!((exit, json["code"].as_str()), (9, Some("LEDGER_UNWRITABLE")), "it does not start either");

    std::fs::remove_file(fill).unwrap();
    let mut broker = Service::start("vouchsafe", &serve);
    let guest = Guest::launched(Tee::SevSnp, &scene.join("tester/root"), &config, &broker.wait_listening());
    assert_eq!(guest.handshake(), Ok(2), "control: after");
    assert_eq!(verified(), (0, "accepted".to_owned()));
    assert!(std::fs::read(&ledger).unwrap().starts_with(&before));
}
