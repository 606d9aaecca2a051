//! Turns fresh evidence into a key grant: the key-release handshake with one of the configured brokers, over pinned TLS.
//! It does not compare the grant with the package: [`crate::unseal`] does. A false broker can only deny.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use vouchsafe_attestation::Ed25519Public;
use vouchsafe_release::client::{Auth, CONTENT_TYPE as JSON, Incoming, Outgoing};
use vouchsafe_release::rcar::MAX_MESSAGE;
use vouchsafe_release::{KeyGrant, ReleaseError};

use crate::config::Broker;
use crate::device::{EvidenceDevice, Words};
use crate::dial::Dialer;
use crate::error::EnclaveError;
use crate::lease::{GuestClock, RunningLease};
use crate::tls;

/// A broker that is silent for so long is taken for unreachable.
const PATIENCE: Duration = Duration::from_secs(30);

/// A key and the lease that began before it was asked for.
pub struct Granted {
    /// The key and what it is for.
    pub grant: KeyGrant,
    /// Runs since before the request.
    pub lease: RunningLease,
}

/// The enclave's side of key release.
pub struct ReleaseClient {
    brokers: Vec<Peer>,
    dialer: Dialer,
    device: Arc<dyn EvidenceDevice>,
    words: Words,
    release_keys: Vec<Ed25519Public>,
    clock: Arc<GuestClock>,
}

struct Peer {
    address: SocketAddr,
    tls: TlsConnector,
    /// Head of the ledger in the broker's newest bundle: echoed, so that a truncated ledger is noticed there.
    head: Mutex<Option<[u8; 32]>>,
}

struct Answer {
    status: u16,
    cookies: Vec<String>,
    body: Bytes,
}

impl ReleaseClient {
    /// A client of the configured brokers.
    ///
    /// # Errors
    /// `IDENTITY`.
    pub fn new(
        brokers: &[Broker],
        dialer: Dialer,
        device: Arc<dyn EvidenceDevice>,
        words: Words,
        release_keys: Vec<Ed25519Public>,
        clock: Arc<GuestClock>,
    ) -> Result<Self, EnclaveError> {
        let peer = |broker: &Broker| {
            let tls = TlsConnector::from(tls::broker_config(&broker.spki_sha256)?);
            Ok(Peer { address: broker.address, tls, head: Mutex::new(None) })
        };
        let brokers = brokers.iter().map(peer).collect::<Result<_, EnclaveError>>()?;
        Ok(Self { brokers, dialer, device, words, release_keys, clock })
    }

    /// Asks the brokers in turn for the key of a model version: a full handshake with a new nonce and fresh evidence.
    ///
    /// # Errors
    /// The first definite refusal; `BROKER_UNREACHABLE` and the like when no broker decided.
    pub async fn grant(&self, model_id: &str, sequence: u64) -> Result<Granted, EnclaveError> {
        let mut worst = EnclaveError::BrokerUnreachable;
        for peer in &self.brokers {
            let asked = tokio::time::timeout(PATIENCE, self.ask(peer, model_id, sequence)).await;
            match asked.unwrap_or(Err(EnclaveError::BrokerUnreachable)) {
                Ok(granted) => return Ok(granted),
                Err(error) if worst.is_transient() => worst = error,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    async fn ask(&self, peer: &Peer, model_id: &str, sequence: u64) -> Result<Granted, EnclaveError> {
        // The lease runs from here: whatever the network takes counts against it.
        let started = Instant::now();
        let mut sender = connect(&self.dialer, peer).await?;
        let head = *peer.head.lock().unwrap_or_else(PoisonError::into_inner);
        let auth = Auth::begin(self.words.tee, head)?;
        let answer = send(&mut sender, peer.address, auth.request()).await?;
        let attest = answer.give(|incoming| auth.answer(incoming))?;
        let (device, data) = (self.device.clone(), attest.report_data());
        let evidence = tokio::task::spawn_blocking(move || device.quote(data)).await;
        let evidence = evidence.map_err(|_| EnclaveError::Device("the quote panicked"))??;
        let answer = send(&mut sender, peer.address, attest.request(&evidence)?).await?;
        let resource = answer.give(|incoming| attest.answer(incoming))?;
        let answer = send(&mut sender, peer.address, resource.request(model_id, sequence)).await?;
        let (asked, keys, mode) = ((model_id, sequence), &self.release_keys, self.words.mode);
        let grant = answer.give(|incoming| resource.answer(incoming, asked, keys, mode, self.clock.now()))?;
        self.clock.learn(grant.issued_at(), Instant::now());
        *peer.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(*grant.ledger_head());
        let lease = RunningLease::new(grant.lease().ttl_s, grant.lease().max_requests, started);
        Ok(Granted { grant, lease })
    }
}

impl Answer {
    fn give<T>(&self, read: impl FnOnce(&Incoming<'_>) -> Result<T, ReleaseError>) -> Result<T, EnclaveError> {
        let cookies: Vec<&str> = self.cookies.iter().map(String::as_str).collect();
        Ok(read(&Incoming { status: self.status, set_cookie: &cookies, body: &self.body })?)
    }
}

async fn connect(dialer: &Dialer, peer: &Peer) -> Result<SendRequest<Full<Bytes>>, EnclaveError> {
    let stream = dialer.dial(peer.address).await?;
    let name = ServerName::IpAddress(peer.address.ip().into());
    let stream = peer.tls.connect(name, stream).await.map_err(|error| {
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) => EnclaveError::BrokerPin,
            Some(_) => EnclaveError::BrokerProtocol("TLS"),
            None => EnclaveError::BrokerUnreachable,
        }
    })?;
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = connected.map_err(|_| EnclaveError::BrokerUnreachable)?;
    // Ends when the sender is dropped or the broker closes.
    tokio::spawn(connection);
    Ok(sender)
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    host: SocketAddr,
    outgoing: Outgoing,
) -> Result<Answer, EnclaveError> {
    let mut request = hyper::Request::builder()
        .method(outgoing.method)
        .uri(outgoing.path)
        .header(HOST, host.to_string())
        .header(ACCEPT, JSON)
        .header(CONTENT_TYPE, JSON);
    if let Some(cookie) = outgoing.cookie {
        request = request.header(COOKIE, cookie);
    }
    let request =
        request.body(Full::from(outgoing.body)).map_err(|_| EnclaveError::BrokerProtocol("the session cookie"))?;
    let response = sender.send_request(request).await.map_err(|_| EnclaveError::BrokerUnreachable)?;
    let status = response.status().as_u16();
    let cookies =
        response.headers().get_all(SET_COOKIE).iter().filter_map(|c| c.to_str().ok().map(str::to_owned)).collect();
    let body = Limited::new(response.into_body(), MAX_MESSAGE).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            EnclaveError::BrokerProtocol("the length of an answer")
        } else {
            EnclaveError::BrokerUnreachable
        }
    })?;
    Ok(Answer { status, cookies, body: body.to_bytes() })
}
