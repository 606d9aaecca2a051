//! A service that misbehaves on purpose, and remembers every application byte that it decrypted.
#![allow(dead_code, reason = "each test program uses its own part")]

pub mod enclave;
pub mod local;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use vouchsafe_customer::ConnectOptions;
use vouchsafe_policies::Policy;

/// What the service does once TLS stands.
#[derive(Clone)]
pub enum Act {
    /// Answers these bytes, whatever was asked, then listens on.
    Say(Vec<u8>),
    /// Answers these bytes and closes.
    SayAndClose(Vec<u8>),
    /// Never answers.
    Silence,
    /// Answers these bytes, one every 20 ms.
    Drip(Vec<u8>),
    /// Closes after the request.
    Close,
    /// Closes before the handshake.
    CloseAtOnce,
    /// Answers a ServerHello of TLS 1.2.
    Tls12,
}

/// Which key and certificate it shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// Its own P-256 leaf.
    Own,
    /// A leaf whose key it does not hold.
    Foreign,
    /// A P-384 leaf.
    P384,
    /// Two certificates.
    Two,
}

pub struct Service {
    pub address: SocketAddr,
    pub decrypted: Arc<Mutex<Vec<u8>>>,
    pub connections: Arc<Mutex<u32>>,
}

impl Service {
    pub async fn start(shows: Shows, act: Act) -> Self {
        Self::start_with(ring_provider(), shows, act).await
    }

    pub async fn start_with(provider: CryptoProvider, shows: Shows, act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (decrypted, connections) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<u32>>::default());
        let (certificate, key) = leaf(shows == Shows::P384);
        let acceptor = TlsAcceptor::from(Arc::new(config(provider, shows, certificate, key)));
        let (seen, count) = (Arc::clone(&decrypted), Arc::clone(&connections));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                tokio::spawn(serve(stream, acceptor.clone(), act.clone(), Arc::clone(&seen)));
            }
        });
        Self { address, decrypted, connections }
    }

    /// What it decrypted was one attestation request and not a byte more.
    pub async fn saw_one_attest_request_only(&self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let seen = self.decrypted.lock().unwrap().clone();
        let text = String::from_utf8(seen).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("one whole request head");
        assert!(head.starts_with("POST /v1/attest HTTP/1.1\r\n"), "{head}");
        let length: usize = head
            .lines()
            .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
            .and_then(|l| l.parse().ok())
            .expect("a declared length");
        assert_eq!(body.len(), length, "application bytes after the attestation request");
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json["v"], 1);
        assert_eq!(json["nonce"].as_str().unwrap().len(), 43);
    }

    pub async fn saw_nothing(&self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(self.decrypted.lock().unwrap().len(), 0, "application bytes");
    }
}

async fn serve(mut stream: TcpStream, acceptor: TlsAcceptor, act: Act, seen: Arc<Mutex<Vec<u8>>>) {
    match act {
        Act::CloseAtOnce => return,
        Act::Tls12 => {
            let mut hello = vec![0; 4096];
            let _n = stream.read(&mut hello).await.unwrap();
            stream.write_all(&tls12_server_hello()).await.unwrap();
            let _n = stream.read(&mut hello).await;
            return;
        }
        _ => {}
    }
    let Ok(mut tls) = acceptor.accept(stream).await else { return };
    let mut buffer = vec![0; 64 * 1024];
    let mut answered = false;
    loop {
        let Ok(n) = tls.read(&mut buffer).await else { return };
        if n == 0 {
            return;
        }
        seen.lock().unwrap().extend_from_slice(&buffer[..n]);
        let whole = seen.lock().unwrap().ends_with(b"}");
        if answered || !whole {
            continue;
        }
        answered = true;
        match &act {
            Act::Say(bytes) => {
                let _gone = tls.write_all(bytes).await;
                let _gone = tls.flush().await;
            }
            Act::SayAndClose(bytes) => {
                let _gone = tls.write_all(bytes).await;
                let _gone = tls.shutdown().await;
                return;
            }
            Act::Drip(bytes) => {
                for byte in bytes {
                    if tls.write_all(&[*byte]).await.is_err() || tls.flush().await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Act::Close => {
                let _gone = tls.shutdown().await;
                return;
            }
            Act::Silence | Act::CloseAtOnce | Act::Tls12 => {}
        }
    }
}

/// A ServerHello that chooses TLS 1.2: no supported_versions extension.
fn tls12_server_hello() -> Vec<u8> {
    let mut hello = vec![0x03, 0x03];
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(&[0, 0xc0, 0x2b, 0]);
    let mut message = vec![2, 0, 0, u8::try_from(hello.len()).unwrap()];
    message.extend_from_slice(&hello);
    let mut record = vec![22, 3, 3, 0, u8::try_from(message.len()).unwrap()];
    record.extend_from_slice(&message);
    record
}

fn ring_provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, ring::kx_group::X25519];
    provider
}

fn leaf(p384: bool) -> (CertificateDer<'static>, KeyPair) {
    let algorithm = if p384 { &PKCS_ECDSA_P384_SHA384 } else { &PKCS_ECDSA_P256_SHA256 };
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = CertificateParams::new(vec!["enclave.invalid".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.der().clone(), key)
}

fn config(provider: CryptoProvider, shows: Shows, certificate: CertificateDer<'static>, key: KeyPair) -> ServerConfig {
    let chain = match shows {
        Shows::Own | Shows::P384 => vec![certificate],
        Shows::Foreign => vec![leaf(false).0],
        Shows::Two => vec![certificate, leaf(false).0],
    };
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = provider.key_provider.load_private_key(der).unwrap();
    // `with_single_cert` would notice a foreign key; a resolver shows whatever it likes.
    let shown = Arc::new(Always(Arc::new(CertifiedKey::new(chain, signer))));
    ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(shown)
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// An HTTP answer with a JSON body.
pub fn http(status: &str, body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len())
            .into_bytes();
    answer.extend_from_slice(body);
    answer
}

pub fn short() -> ConnectOptions {
    let second = Duration::from_millis(800);
    ConnectOptions {
        connect_timeout: second,
        handshake_timeout: second,
        attest_timeout: second,
        request_timeout: second,
        max_response_bytes: 1024 * 1024,
    }
}

/// A complete policy under AMD's roots, for a machine that does not exist.
pub fn hardware_policy() -> Arc<Policy> {
    let text = format!(
        "version = 1\nname = \"test\"\nmode = \"hardware\"\nextends = \"hardware-snp-strict\"\nmodels = \"any\"\n\n[sev-snp]\n\
         measurements = [\"{}\"]\nconfig_digests = [\"{}\"]\nplatforms = [\"{}\"]\n",
        "11".repeat(48),
        "22".repeat(32),
        "33".repeat(64)
    );
    let nothing = |_: &str| Err(std::io::ErrorKind::NotFound.into());
    Arc::new(Policy::parse(&text, &nothing).unwrap())
}
