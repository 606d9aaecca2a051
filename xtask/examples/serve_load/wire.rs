//! Turns an address into one keep-alive HTTP/1.1 connection, plain or attested, and a request's bytes into its answer.
//! It believes any certificate and does not verify the evidence that it fetches: this is a load generator, no customer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A good challenge; its nonce is not fresh, since nobody looks at the evidence.
const CHALLENGE: &str = r#"{"v":1,"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","accept":["sev-snp"]}"#;
/// An answer is at most so long.
const MAX_ANSWER: usize = 64 << 20;

/// How a connection begins.
#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// TCP alone.
    Plain,
    /// TLS 1.3 and nothing more.
    Tls,
    /// TLS 1.3, then evidence is fetched.
    Attested,
}

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

/// One connection. It lives until it is dropped.
pub struct Wire {
    stream: Box<dyn Both>,
    buffer: Vec<u8>,
}

/// An answer, as long as nothing else is asked.
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// Without the first line.
    pub head: &'a str,
    /// All of it.
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// A header's value; names in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }
}

/// The client side of every connection of this process.
pub struct Connector(TlsConnector);

impl Connector {
    /// The groups of a customer: X25519MLKEM768 first.
    ///
    /// # Errors
    /// When rustls refuses the provider.
    pub fn new() -> io::Result<Self> {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.kx_groups =
            vec![rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768, rustls::crypto::ring::kx_group::X25519];
        let provider = Arc::new(provider);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any(provider)))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Connects and, for an attested channel, fetches evidence.
    ///
    /// # Errors
    /// Whatever the peer does but answer.
    pub async fn open(&self, address: SocketAddr, channel: Channel) -> io::Result<Wire> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Both> = if channel == Channel::Plain {
            Box::new(tcp)
        } else {
            let name = ServerName::try_from("enclave.invalid").map_err(io::Error::other)?;
            Box::new(self.0.connect(name, tcp).await?)
        };
        let mut wire = Wire { stream, buffer: Vec::with_capacity(16 << 10) };
        if channel == Channel::Attested {
            let answer = wire.ask(&request("/v1/attest", &[], CHALLENGE.as_bytes())).await?;
            if answer.status != 200 {
                return Err(io::Error::other(format!("no evidence: status {}", answer.status)));
            }
        }
        Ok(wire)
    }
}

/// A POST request as it goes out.
pub fn request(path: &str, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: server\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        head += "Content-Type: application/json\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

impl Wire {
    /// Sends one request and reads its answer to the end.
    ///
    /// # Errors
    /// Whatever the peer does but answer with a length.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        let body_at = loop {
            let from = self.buffer.len().saturating_sub(3);
            self.more(4096).await?;
            let tail = self.buffer.get(from..).unwrap_or_default();
            if let Some(at) = tail.windows(4).position(|four| four == b"\r\n\r\n") {
                break from + at + 4;
            }
        };
        let (status, length) = {
            let head = std::str::from_utf8(self.buffer.get(..body_at).unwrap_or_default()).map_err(io::Error::other)?;
            let status = head.split(' ').nth(1).and_then(|word| word.parse::<u16>().ok());
            let length = header(head, "content-length").and_then(|word| word.parse::<usize>().ok());
            let length = length.filter(|length| *length <= MAX_ANSWER);
            (status, length.ok_or_else(|| io::Error::other("an answer without a length"))?)
        };
        let end = body_at + length;
        while self.buffer.len() < end {
            self.more(end - self.buffer.len()).await?;
        }
        let (head, body) = self.buffer.split_at(body_at);
        let head = std::str::from_utf8(head).map_err(io::Error::other)?;
        Ok(Answer { status: status.unwrap_or(0), head, body })
    }

    async fn more(&mut self, wanted: usize) -> io::Result<()> {
        self.buffer.reserve(wanted);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Any certificate; the handshake's signature is verified all the same, since a customer pays for that too.
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
        Err(rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
