//! What the broker's tests share: a broker in a thread, and a client that pins its key.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use vouchsafe_broker::{InitOptions, InitSummary, event::Event, init, ledger};
use vouchsafe_policies::{InitAnchors, InitModel, InitOptions as PolicyOptions, InitSnp, Listed, init_text};
use vouchsafe_release::Lease;

/// A state directory below `dir`, with a hardware policy that accepts nothing real.
pub fn make(dir: &Path, limits: &str) -> (PathBuf, InitSummary) {
    let policy = dir.join("policy.toml");
    let text = init_text(&PolicyOptions {
        name: "test".to_owned(),
        anchors: InitAnchors::Hardware,
        config_digests: Listed::Only(vec![[2; 32]]),
        models: Listed::<InitModel>::Any,
        snp: Some(InitSnp {
            measurements: Listed::Only(vec![[1; 48]]),
            platforms: Listed::Only(vec![[3; 64]]),
            products: Vec::new(),
        }),
        tdx: None,
    });
    std::fs::write(&policy, text).unwrap();
    let state = dir.join("state");
    let listen = "127.0.0.1:0".parse().unwrap();
    let options = InitOptions { listen, policy, lease: Lease::DEFAULT, manifest_keys: Vec::new() };
    let summary = init(&state, &options).unwrap();
    let mut config = std::fs::read_to_string(state.join("broker.toml")).unwrap();
    config.push_str(limits);
    std::fs::write(state.join("broker.toml"), config).unwrap();
    (state, summary)
}

/// A broker that serves until dropped.
pub struct Running {
    pub address: SocketAddr,
    pub state: PathBuf,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

pub fn start(state: &Path) -> Running {
    let (ready, is_ready) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let dir = state.to_owned();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let shutdown = async { drop(stopped.await) };
        let served = vouchsafe_broker::serve(&dir, |address| ready.send(address).unwrap(), shutdown);
        runtime.block_on(served).unwrap();
    });
    let address = is_ready.recv_timeout(Duration::from_secs(20)).unwrap();
    Running { address, state: state.to_owned(), stop: Some(stop), thread: Some(thread) }
}

impl Running {
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    pub fn client(&self) -> Client {
        Client::open(self.address)
    }

    /// The code that the ledger has under the ticket of a refusal.
    pub fn code(&self, answer: &Answer) -> String {
        code(&self.state, answer)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn code(state: &Path, answer: &Answer) -> String {
    assert_eq!(answer.status, 401);
    let ticket = vouchsafe_release::rcar::ErrorBody::ticket_of(&answer.body).unwrap();
    assert_eq!(answer.body.len(), br#"{"type":"urn:vouchsafe:refused","detail":"ticket "}"#.len() + 32);
    let lines = ledger::find(&state.join("ledger.jsonl"), vouchsafe_broker::event::Id(ticket)).unwrap();
    let [entry] = lines.as_slice() else { panic!("one ledger line per ticket") };
    match &entry.line.event {
        Event::Refused(refused) => refused.code.clone(),
        _ => panic!("a ticket names a refusal"),
    }
}

/// One TLS connection, HTTP/1.1 by hand.
pub struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn cookie(&self) -> String {
        self.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Client {
    pub fn open(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(client_config(), name).unwrap();
        Self { stream: BufReader::new(StreamOwned::new(tls, tcp)) }
    }

    pub fn tls(&self) -> &ClientConnection {
        &self.stream.get_ref().conn
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        let stream = self.stream.get_mut();
        // A peer that has answered already may have closed.
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    }

    pub fn send(&mut self, method: &str, path: &str, cookie: Option<&str>, body: &[u8]) -> Answer {
        let cookie = cookie.map(|c| format!("Cookie: {c}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{cookie}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat());
        self.answer().unwrap()
    }

    /// The next answer, `None` when the peer closed.
    pub fn answer(&mut self) -> Option<Answer> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |v| v.parse().unwrap());
        answer.body = vec![0; length];
        self.stream.read_exact(&mut answer.body).ok()?;
        Some(answer)
    }

    pub fn auth(&mut self) -> (String, String) {
        let answer = self.send("POST", "/kbs/v0/auth", None, AUTH);
        assert_eq!(answer.status, 200);
        (answer.json()["nonce"].as_str().unwrap().to_owned(), answer.cookie())
    }
}

pub const AUTH: &[u8] = br#"{"version":"0.4.0","tee":"snp","extra-params":{"supported-hash-algorithms":["sha384"]}}"#;

pub fn client_config() -> Arc<ClientConfig> {
    let mut provider = ring::default_provider();
    provider.kx_groups.insert(0, aws_lc_rs::kx_group::X25519MLKEM768);
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// Accepts any certificate (tests compare the key themselves), but verifies the handshake signature.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
