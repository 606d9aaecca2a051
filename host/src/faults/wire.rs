//! Turns an address into a TLS 1.3 connection that says exactly what a hostile client wants said: HTTP/1.1 by hand.
//! It believes any certificate: what the peer refuses is its business, what the peer proves is not.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme,
    StreamOwned,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    version::TLS13,
};
use serde_json::Value;
use vouchsafe_attestation::lp::sha256;

use crate::failure::Failure;

const PATIENCE: Duration = Duration::from_secs(20);
/// No message of the protocols is longer.
const MAX_BODY: usize = 2 << 20;

/// One connection to a service.
pub struct Wire {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

/// What came back.
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Every `Set-Cookie` header.
    pub cookies: Vec<String>,
    /// Body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A text field of the JSON body.
    pub fn text(&self, name: &str) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        body.get(name)?.as_str().map(str::to_owned)
    }
}

impl Wire {
    /// Connects and shakes hands with whoever answers.
    pub fn open(address: &str) -> Result<Self, Failure> {
        let tcp = TcpStream::connect(address).map_err(|e| broken("connect", &e))?;
        patient(&tcp)?;
        let name = ServerName::try_from("service.invalid").map_err(|_| tls())?;
        let tls = ClientConnection::new(client()?, name).map_err(|_| tls())?;
        Ok(Self { stream: BufReader::new(StreamOwned::new(tls, tcp)) })
    }

    /// Sends one request and reads its answer.
    pub fn send(&mut self, method: &str, path: &str, cookie: Option<&str>, body: &[u8]) -> Result<Reply, Failure> {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        if let Some(cookie) = cookie {
            head += &format!("Cookie: {cookie}\r\n");
        }
        let stream = self.stream.get_mut();
        let sent = stream.write_all(&[head.as_bytes(), b"\r\n", body].concat()).and_then(|()| stream.flush());
        sent.map_err(|e| broken("send", &e))?;
        let (line, headers, body) = message(&mut self.stream)?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(http)?;
        let cookies = headers.into_iter().filter(|(n, _)| n == "set-cookie").map(|(_, v)| v).collect();
        Ok(Reply { status, cookies, body })
    }
}

/// A hostile server: ends TLS with a key of its own.
pub struct Server {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    /// SHA-256 of its key.
    pub spki_sha256: [u8; 32],
}

/// A client that connected to it.
pub struct Victim {
    stream: BufReader<StreamOwned<ServerConnection, TcpStream>>,
}

impl Server {
    /// Listens on a free port of loopback.
    pub fn start() -> Result<Self, Failure> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|_| tls())?;
        let parameters = rcgen::CertificateParams::new(vec!["service.invalid".to_owned()]).map_err(|_| tls())?;
        let certificate = parameters.self_signed(&key).map_err(|_| tls())?;
        let spki_sha256 = sha256(&rcgen::PublicKeyData::subject_public_key_info(&key));
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|_| tls())?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .map_err(|_| tls())?;
        config.send_tls13_tickets = 0;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| broken("listen", &e))?;
        // A client that never comes must not hold the lab.
        listener.set_nonblocking(true).map_err(|e| broken("listen", &e))?;
        Ok(Self { listener, config: Arc::new(config), spki_sha256 })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, Failure> {
        self.listener.local_addr().map_err(|e| broken("listen", &e))
    }

    /// Waits for one client.
    pub fn accept(&self) -> Result<Victim, Failure> {
        let end = Instant::now() + PATIENCE;
        let tcp = loop {
            match self.listener.accept() {
                Ok((tcp, _)) => break tcp,
                Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < end => sleep(Duration::from_millis(1)),
                Err(e) => return Err(broken("accept", &e)),
            }
        };
        tcp.set_nonblocking(false).map_err(|e| broken("accept", &e))?;
        patient(&tcp)?;
        let tls = ServerConnection::new(Arc::clone(&self.config)).map_err(|_| tls())?;
        Ok(Victim { stream: BufReader::new(StreamOwned::new(tls, tcp)) })
    }
}

impl Victim {
    /// Its request's body.
    pub fn request(&mut self) -> Result<Vec<u8>, Failure> {
        Ok(message(&mut self.stream)?.2)
    }

    /// This TLS session's exporter value.
    pub fn exporter(&self, label: &[u8], context: &[u8]) -> Result<[u8; 32], Failure> {
        let connection = &self.stream.get_ref().conn;
        connection.export_keying_material([0; 32], label, Some(context)).map_err(|_| tls())
    }

    /// Answers with JSON and ends the connection.
    pub fn answer(mut self, body: &[u8]) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let stream = self.stream.get_mut();
        // A client that has refused already is gone, which is its right.
        let _ = stream.write_all(&[head.as_bytes(), body].concat()).and_then(|()| stream.flush());
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}

type Message = (String, Vec<(String, String)>, Vec<u8>);

/// First line, headers with names in lower case, body.
fn message(stream: &mut BufReader<impl Read>) -> Result<Message, Failure> {
    let mut read_line = || {
        let mut line = String::new();
        match stream.by_ref().take(64 * 1024).read_line(&mut line) {
            Ok(0) => Err(http()),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(e) => Err(broken("receive", &e)),
        }
    };
    let first = read_line()?;
    let mut headers = Vec::new();
    loop {
        let line = read_line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    if length > MAX_BODY {
        return Err(http());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).map_err(|e| broken("receive", &e))?;
    Ok((first, headers, body))
}

fn patient(tcp: &TcpStream) -> Result<(), Failure> {
    tcp.set_read_timeout(Some(PATIENCE))
        .and_then(|()| tcp.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| tcp.set_nodelay(true))
        .map_err(|e| broken("connect", &e))
}

fn client() -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|_| tls())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        Err(rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn broken(step: &str, error: &std::io::Error) -> Failure {
    Failure::new("FAULT_LAB", 10, format!("the lab's connection broke ({step}): {}", error.kind()), ADVICE)
}

fn http() -> Failure {
    Failure::new("FAULT_LAB", 10, "a service closed the connection or does not speak HTTP/1.1", ADVICE)
}

fn tls() -> Failure {
    Failure::new("FAULT_LAB", 10, "the lab's TLS cannot be set up", ADVICE)
}

const ADVICE: &str = "run it again; with --keep DIR the logs of every process stay in DIR";
