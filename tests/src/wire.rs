//! Turns an address into a TLS 1.3 connection, or a plain one, that says exactly what a test wants said, well-formed or not.
//! It believes any certificate: what the peer proves is not its business, what the peer refuses is.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
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
    stream: BufReader<Stream>,
    host: String,
}

/// What carries it.
enum Stream {
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Plain(TcpStream),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tls(tls) => tls.get_ref(),
            Self::Plain(tcp) => tcp,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tls(tls) => tls.read(out),
            Self::Plain(tcp) => tcp.read(out),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tls(tls) => tls.write(bytes),
            Self::Plain(tcp) => tcp.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(tls) => tls.flush(),
            Self::Plain(tcp) => tcp.flush(),
        }
    }
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
        let name = ServerName::try_from("enclave.invalid").expect("a name");
        let tls = ClientConnection::new(config(), name).expect("a client");
        let tls = StreamOwned::new(tls, connected(address));
        Self { stream: BufReader::new(Stream::Tls(Box::new(tls))), host: "peer".to_owned() }
    }

    /// Connects without TLS, as local clients of a proxy do.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn plain(address: &str) -> Self {
        Self { stream: BufReader::new(Stream::Plain(connected(address))), host: address.to_owned() }
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
        self.ask(method, path, headers, body);
        self.answer_to(method).unwrap_or_else(|| panic!("no answer to {method} {path} of {} bytes", body.len()))
    }

    /// The same when the peer may close without an answer.
    pub fn try_send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        self.ask(method, path, headers, body);
        self.answer_to(method)
    }

    fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.host, body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.raw(&[head.as_bytes(), b"\r\n", body].concat());
    }

    /// Says no more, and still listens: the TCP connection is closed in one direction, without TLS's goodbye.
    pub fn half_close(&mut self) {
        let _ = self.stream.get_ref().tcp().shutdown(Shutdown::Write);
    }

    /// How long to wait for an answer; 20 s at first.
    ///
    /// # Panics
    /// For no time at all.
    pub fn patience(&self, time: Duration) {
        self.stream.get_ref().tcp().set_read_timeout(Some(time)).expect("a timeout");
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

fn connected(address: &str) -> TcpStream {
    let tcp = TcpStream::connect(address).expect("somebody listens");
    tcp.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    tcp.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    tcp.set_nodelay(true).expect("no delay");
    tcp
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
