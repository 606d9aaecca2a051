//! Turns an address into a TLS 1.3 connection that says exactly what a test wants said, well-formed or not.
//! It believes any certificate: what the peer proves is not its business, what the peer refuses is.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::Value;

/// A good challenge.
pub const CHALLENGE: &str = r#"{"v":1,"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","accept":["sev-snp"]}"#;

/// One connection, HTTP/1.1 by hand.
pub struct Wire {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as JSON, null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Status and code, `accepted` for a 200.
    #[must_use]
    pub fn verdict(&self) -> (u16, String) {
        let code = if self.status == 200 { "accepted".to_owned() } else { crate::scene::code(&self.json()) };
        (self.status, code)
    }
}

impl Wire {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens or the handshake fails.
    #[must_use]
    pub fn open(address: &str) -> Self {
        let tcp = TcpStream::connect(address).expect("somebody listens");
        tcp.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        tcp.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        tcp.set_nodelay(true).expect("no delay");
        let name = ServerName::try_from("enclave.invalid").expect("a name");
        let tls = ClientConnection::new(config(), name).expect("a client");
        Self { stream: BufReader::new(StreamOwned::new(tls, tcp)) }
    }

    /// Connects and fetches evidence, so that the connection may ask.
    ///
    /// # Panics
    /// When there is no evidence.
    #[must_use]
    pub fn attested(address: &str) -> Self {
        let mut wire = Self::open(address);
        let answer = wire.send("POST", "/v1/attest", &[], CHALLENGE.as_bytes());
        assert_eq!(answer.verdict(), (200, "accepted".to_owned()));
        wire
    }

    /// Sends bytes as they are; a peer that has answered already may have closed.
    pub fn raw(&mut self, bytes: &[u8]) {
        let stream = self.stream.get_mut();
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    }

    /// Sends one request with its length.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: peer\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.raw(&[head.as_bytes(), b"\r\n", body].concat());
        self.answer_to(method).unwrap_or_else(|| panic!("no answer to {method} {path} of {} bytes", body.len()))
    }

    /// The next answer, `None` when the peer closed first.
    pub fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET")
    }

    fn answer_to(&mut self, method: &str) -> Option<Answer> {
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
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        if method != "HEAD" {
            answer.body = vec![0; length];
            self.stream.read_exact(&mut answer.body).ok()?;
        }
        Some(answer)
    }
}

fn config() -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

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
