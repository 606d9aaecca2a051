//! A service that attests honestly, through the simulated processor as a process of its own, and answers by a script.

use std::{
    convert::Infallible,
    fs::File,
    io::{IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use vouchsafe_attestation::{
    Claims, Ed25519Public, EvidenceEnvelope, Mode, Tee,
    claims::{Clock, ModelClaim, Release},
    encoding::b64url,
    lp::sha256,
    receipt::{SignedStatement, Statement, request_digest, response_digest, signed_bytes},
    session::{
        AttestRequest, AttestResponse, EXPORTER_CONTEXT, EXPORTER_LABEL, Tree, leaf, report_data, session_digest,
    },
};
use vouchsafe_policies::Policy;

use super::{Shows, config, leaf as certificate, ring_provider};

pub const CONFIG_DIGEST: [u8; 32] = [0x22; 32];
const VENDOR: Ed25519Public = Ed25519Public([7; 32]);

/// The simulated processor: one process for a test program, ending with it.
pub struct Simulated {
    _child: Mutex<Child>,
    _control: UnixStream,
    device: Mutex<UnixStream>,
    tee: Tee,
    measurement: String,
    root: Vec<u8>,
    root_sha256: String,
    platform: String,
}

/// `None` with a line that says so when the program is not built; a panic where all programs must be there.
pub fn simulated(test: &str) -> Option<&'static Simulated> {
    simulated_on(Tee::SevSnp, test)
}

/// The same on a technology.
pub fn simulated_on(tee: Tee, test: &str) -> Option<&'static Simulated> {
    static BOTH: [OnceLock<Option<Simulated>>; 2] = [OnceLock::new(), OnceLock::new()];
    let one = BOTH[usize::from(tee == Tee::Tdx)].get_or_init(|| program().map(|p| Simulated::start(&p, tee)));
    if one.is_none() {
        println!("NOT RUN: {test}: vouchsafe-simulator is not built");
    }
    one.as_ref()
}

fn program() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("VOUCHSAFE_BIN_DIR") {
        return Some(Path::new(&dir).join("vouchsafe-simulator"));
    }
    let beside = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("vouchsafe-simulator");
    beside.exists().then_some(beside)
}

impl Simulated {
    fn start(program: &Path, tee: Tee) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new(program).args(["root", "--json", "--root"]).arg(dir.path()).output().unwrap();
        let root: Value = serde_json::from_slice(&made.stdout).unwrap();
        let (mut control, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(program)
            .args(["serve", "--root"])
            .arg(dir.path())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (enclave, library) = (dir.path().join("enclave"), dir.path().join("library"));
        File::create(&enclave).unwrap().write_all(b"a program").unwrap();
        File::create(&library).unwrap().write_all(b"a library").unwrap();
        send(
            &mut control,
            &json!({"launch": {
                "tee": tee, "mode": "simulation", "enclave": enclave, "onnxruntime": library,
                "host_data": hex::encode(CONFIG_DIGEST),
            }}),
        );
        let (reply, mut descriptors) = receive_with_descriptors(&mut control);
        let device = descriptors.pop().expect("three descriptors");
        let platform = &root[if tee == Tee::Tdx { "ppid" } else { "chip_id" }];
        Self {
            tee,
            measurement: reply["launched"]["measurement"].as_str().unwrap().to_owned(),
            // All it needs is in memory by now: the folder goes away with this function.
            root: std::fs::read(dir.path().join("root.pem")).unwrap(),
            root_sha256: root["sha256"].as_str().unwrap().to_owned(),
            platform: platform.as_str().unwrap().to_owned(),
            device: Mutex::new(UnixStream::from(device)),
            _control: control,
            _child: Mutex::new(child),
        }
    }

    fn report(&self, report_data: &[u8; 64]) -> EvidenceEnvelope {
        let mut device = self.device.lock().unwrap();
        send(&mut device, &json!({"report_data": b64url(report_data)}));
        serde_json::from_value(receive(&mut device)).unwrap()
    }

    /// A policy that accepts what [`FakeEnclave`] serves, from `min_sequence` on.
    pub fn policy(&self, min_sequence: u64, max_evidence_age_s: u64) -> Arc<Policy> {
        let (tee, measured, zero) = (self.tee, &self.measurement, "00".repeat(48));
        let code = match tee {
            Tee::SevSnp => format!("measurements = [\"{measured}\"]\n"),
            Tee::Tdx => {
                let registers: String = (0..4).map(|n| format!("rtmr{n} = [\"{zero}\"]\n")).collect();
                format!("mr_td = [\"{measured}\"]\n{registers}")
            }
        };
        let text = format!(
            "version = 1\nname = \"rehearsal\"\nmode = \"simulation\"\ntee = [\"{tee}\"]\nextends = \"simulation\"\n\n\
             [root]\npath = \"root.pem\"\nsha256 = \"{}\"\n\n\
             [{tee}]\n{code}config_digests = [\"{}\"]\nplatforms = [\"{}\"]\n\n\
             [session]\nmax_evidence_age_s = {max_evidence_age_s}\n\n\
             [[models]]\nid = \"m\"\nvendor_keys = [\"{VENDOR}\"]\nmin_sequence = {min_sequence}\n",
            self.root_sha256,
            hex::encode(CONFIG_DIGEST),
            self.platform,
        );
        Arc::new(Policy::parse(&text, &|_| Ok(self.root.clone())).unwrap())
    }
}

fn send(channel: &mut UnixStream, value: &Value) {
    let body = value.to_string();
    channel.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
    channel.write_all(body.as_bytes()).unwrap();
}

fn receive(channel: &mut UnixStream) -> Value {
    let mut length = [0; 4];
    channel.read_exact(&mut length).unwrap();
    body(channel, length)
}

fn body(channel: &mut UnixStream, length: [u8; 4]) -> Value {
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    channel.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// The descriptors travel with the frame's first byte.
fn receive_with_descriptors(channel: &mut UnixStream) -> (Value, Vec<OwnedFd>) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0; 4];
    let got = recvmsg(&*channel, &mut [IoSliceMut::new(&mut length)], &mut ancillary, RecvFlags::WAITALL).unwrap();
    assert_eq!(got.bytes, 4);
    let descriptors = ancillary
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => rights.collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    (body(channel, length), descriptors)
}

/// What the service does wrong, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Evidence made for another TLS session.
    OtherSession,
    /// Every request is answered `REATTEST`.
    ReattestForEver,
    /// No receipt.
    NoReceipt,
    /// A receipt over other bytes than were answered.
    ReceiptOverOtherBytes,
    /// A receipt by a key that the claims do not name.
    ReceiptByOtherKey,
    /// A receipt that names another version of the model.
    ReceiptOfOtherVersion,
    /// A receipt that names another session.
    ReceiptOfOtherSession,
    /// A receipt that is no base64url.
    ReceiptGarbage,
    /// Says that its evidence is of the other technology.
    OtherTechnology,
    /// Closes instead of answering.
    Hangup,
    /// Refuses the body before reading it.
    TooLarge,
    /// An answer of 2 MiB.
    Large,
    /// Refuses every inference with this status, code and `Retry-After`.
    Refuse(u16, &'static str, &'static str),
}

/// One request as it arrived on an attested session, whatever the answer was.
#[derive(Clone)]
pub struct Heard {
    pub ekm: [u8; 32],
    pub method: String,
    /// As in the request line.
    pub path: String,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

pub struct FakeEnclave {
    pub address: SocketAddr,
    pub state: Arc<State>,
}

pub struct State {
    simulated: &'static Simulated,
    spki_sha256: [u8; 32],
    receipt_key: Ed25519KeyPair,
    /// The sequence of the model that is served now.
    pub sequence: AtomicU64,
    pub connections: AtomicU64,
    pub attested: AtomicU64,
    pub fault: Mutex<Fault>,
    /// Path and body of every request that was answered with 200.
    pub served: Mutex<Vec<(String, Bytes)>>,
    /// Every request with its body, those that were refused too.
    pub heard: Mutex<Vec<Heard>>,
    tasks: Mutex<Vec<tokio::task::AbortHandle>>,
}

struct Session {
    ekm: [u8; 32],
    last: Mutex<Option<Attested>>,
}

/// Sequence, nonce and claims of the last attestation.
type Attested = (u64, [u8; 32], Vec<u8>);

impl FakeEnclave {
    pub async fn start(simulated: &'static Simulated) -> Self {
        let (leaf, key) = certificate(false);
        let spki = rustls::server::ParsedCertificate::try_from(&leaf).unwrap().subject_public_key_info();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let state = Arc::new(State {
            simulated,
            spki_sha256: sha256(&spki),
            receipt_key: Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap(),
            sequence: AtomicU64::new(2),
            connections: AtomicU64::new(0),
            attested: AtomicU64::new(0),
            fault: Mutex::new(Fault::None),
            served: Mutex::default(),
            heard: Mutex::default(),
            tasks: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config(ring_provider(), Shows::Own, leaf, key)));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (state, acceptor) = (Arc::clone(&shared), acceptor.clone());
                state.connections.fetch_add(1, Ordering::SeqCst);
                let task = tokio::spawn({
                    let state = Arc::clone(&state);
                    async move {
                        let Ok(tls) = acceptor.accept(tcp).await else { return };
                        let ekm =
                            tls.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, Some(EXPORTER_CONTEXT));
                        let session = Arc::new(Session { ekm: ekm.unwrap(), last: Mutex::new(None) });
                        let service =
                            service_fn(move |request| answer(Arc::clone(&state), Arc::clone(&session), request));
                        let _ended = http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
                    }
                });
                state.tasks.lock().unwrap().push(task.abort_handle());
            }
        });
        Self { address, state }
    }

    pub fn fault(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    pub fn serve_sequence(&self, sequence: u64) {
        self.state.sequence.store(sequence, Ordering::SeqCst);
    }

    /// What was heard since the last time.
    pub fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut self.state.heard.lock().unwrap())
    }

    /// Connections so far, attestations so far, requests served so far.
    pub fn counts(&self) -> (u64, u64, usize) {
        let state = &self.state;
        (
            state.connections.load(Ordering::SeqCst),
            state.attested.load(Ordering::SeqCst),
            state.served.lock().unwrap().len(),
        )
    }

    /// Drops every connection, as a restart would.
    pub async fn drop_connections(&self) {
        self.state.tasks.lock().unwrap().drain(..).for_each(|task| task.abort());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

type Answer = Result<Response<Full<Bytes>>, std::io::Error>;

async fn answer(state: Arc<State>, session: Arc<Session>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/v1/attest" {
        let body = whole(body).await?;
        return Ok::<_, Infallible>(attest(&state, &session, &body)).map_err(|e| match e {});
    }
    // What is refused is refused before its body is read; a body that must come again is read and forgotten.
    let fault = *state.fault.lock().unwrap();
    let sequence = state.sequence.load(Ordering::SeqCst);
    let last = session.last.lock().unwrap().clone();
    match last {
        None => Ok(json_answer(403, &json!({"error": "attest first", "code": "ATTEST_FIRST"}))),
        Some((attested, ..)) if attested != sequence || fault == Fault::ReattestForEver => {
            if let Ok(body) = whole(body).await {
                state.hears(&session, &head, &body);
            }
            Ok(json_answer(409, &json!({"error": "attest again", "code": "REATTEST"})))
        }
        Some((_, nonce, claims)) => {
            if fault == Fault::TooLarge {
                return Ok(json_answer(413, &json!({"error": "too large", "code": "BODY_TOO_LARGE"})));
            }
            let body = whole(body).await?;
            state.hears(&session, &head, &body);
            if let (Fault::Refuse(status, code, retry), "POST") = (fault, head.method.as_str()) {
                let mut refusal = json_answer(status, &json!({"error": "refused", "code": code}));
                refusal.headers_mut().insert("retry-after", retry.parse().unwrap());
                return Ok(refusal);
            }
            if fault == Fault::Hangup {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            state.served.lock().unwrap().push((head.uri.to_string(), body.clone()));
            if fault == Fault::Large {
                return Ok(Response::new(Full::new(Bytes::from(vec![b' '; 2 << 20]))));
            }
            if head.method == "GET" {
                return Ok(json_answer(200, &metadata(head.headers.contains_key("x-hop"))));
            }
            // An echo of the decoded body, with the length header as it came.
            let body = match head.headers.get("content-encoding").map(|v| v.to_str().unwrap()) {
                Some("gzip") => {
                    let mut plain = Vec::new();
                    flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain)?;
                    Bytes::from(plain)
                }
                _ => body,
            };
            let mut response = Response::new(Full::new(body.clone()));
            let length = head.headers.get("inference-header-content-length").cloned();
            let header_len = length.as_ref().map_or(0, |l| l.to_str().unwrap().parse().unwrap());
            if let Some(length) = length {
                response.headers_mut().insert("inference-header-content-length", length);
            }
            if let Some(salt) = head.headers.get("vouchsafe-receipt").filter(|_| fault != Fault::NoReceipt) {
                let salt = vouchsafe_customer::Salt::from_text(salt.to_str().unwrap()).unwrap();
                let receipt = state.receipt(salt.expose(), &body, header_len, nonce, &claims, sequence, fault);
                response.headers_mut().insert("vouchsafe-receipt", receipt.parse().unwrap());
            }
            Ok(response)
        }
    }
}

async fn whole(body: Incoming) -> std::io::Result<Bytes> {
    Ok(body.collect().await.map_err(|_| std::io::ErrorKind::UnexpectedEof)?.to_bytes())
}

fn metadata(hop: bool) -> Value {
    json!({"name": "m", "hop": hop, "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]})
}

fn attest(state: &State, session: &Session, body: &[u8]) -> Response<Full<Bytes>> {
    let request: AttestRequest = serde_json::from_slice(body).unwrap();
    let sequence = state.sequence.load(Ordering::SeqCst);
    let claims = state.claims(sequence).to_bytes();
    let mut ekm = session.ekm;
    if *state.fault.lock().unwrap() == Fault::OtherSession {
        ekm[0] ^= 1;
    }
    let (mode, tee) = (Mode::Simulation, state.simulated.tee);
    let ours = leaf(&session_digest(mode, tee, &request.nonce, &ekm, &state.spki_sha256, &claims));
    let tree = Tree::new(vec![[9; 64], ours, [8; 64]]).unwrap();
    let evidence = state.simulated.report(&report_data(mode, tee, &tree.root(), u64::from(tree.size())));
    *session.last.lock().unwrap() = Some((sequence, request.nonce, claims.clone()));
    state.attested.fetch_add(1, Ordering::SeqCst);
    let said = match (*state.fault.lock().unwrap() == Fault::OtherTechnology, tee) {
        (false, tee) => tee,
        (true, Tee::SevSnp) => Tee::Tdx,
        (true, Tee::Tdx) => Tee::SevSnp,
    };
    let response = AttestResponse { v: 1, tee: said, claims, merkle: tree.path(1).unwrap(), evidence };
    json_answer(200, &serde_json::to_value(response).unwrap())
}

fn json_answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status.try_into().unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

impl State {
    fn hears(&self, session: &Session, head: &hyper::http::request::Parts, body: &Bytes) {
        self.heard.lock().unwrap().push(Heard {
            ekm: session.ekm,
            method: head.method.to_string(),
            path: head.uri.to_string(),
            headers: head.headers.clone(),
            body: body.clone(),
        });
    }

    fn claims(&self, sequence: u64) -> Claims {
        Claims {
            v: 1,
            mode: Mode::Simulation,
            version: "0.0.0-test".to_owned(),
            boot_id: [1; 16],
            spki_sha256: self.spki_sha256,
            config_digest: CONFIG_DIGEST,
            brokers: Vec::new(),
            models: vec![ModelClaim {
                id: "m".to_owned(),
                uid: [3; 32],
                sequence,
                manifest_digest: [u8::try_from(sequence).unwrap(); 32],
                vendor_keys: vec![VENDOR],
                usage_policy_digest: [5; 32],
                release: Release::Online,
            }],
            receipt_key: Ed25519Public(self.receipt_key.public_key().as_ref().try_into().unwrap()),
            clock: Clock::HostInfluenced,
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn receipt(
        &self,
        salt: &[u8; 32],
        body: &Bytes,
        header_len: u64,
        nonce: [u8; 32],
        claims: &[u8],
        sequence: u64,
        fault: Fault,
    ) -> String {
        let answered: &[u8] = if fault == Fault::ReceiptOverOtherBytes { b"other" } else { body };
        let model = &self.claims(sequence).models[0];
        let statement = Statement {
            v: 1,
            mode: Mode::Simulation,
            model_id: model.id.clone(),
            manifest_digest: model.manifest_digest,
            sequence: sequence + u64::from(fault == Fault::ReceiptOfOtherVersion),
            usage_policy_digest: model.usage_policy_digest,
            request_digest: request_digest(salt, body, header_len),
            response_digest: response_digest(salt, answered, header_len),
            nonce: if fault == Fault::ReceiptOfOtherSession { [0; 32] } else { nonce },
            claims_digest: sha256(claims),
        };
        let statement = serde_json::to_vec(&statement).unwrap();
        let other = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let key = if fault == Fault::ReceiptByOtherKey { &other } else { &self.receipt_key };
        let signature = key.sign(&signed_bytes(&statement)).as_ref().to_vec();
        match fault {
            Fault::ReceiptGarbage => "!".to_owned(),
            _ => b64url(&serde_json::to_vec(&SignedStatement { statement, signature }).unwrap()),
        }
    }
}
