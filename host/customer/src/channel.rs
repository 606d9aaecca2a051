//! Turns an address into a TLS 1.3 channel whose peer really holds the key of the leaf it shows, and names that channel.
//! It does not say who the peer is: any self-signed P-256 leaf passes here, and only evidence bound to this very channel speaks.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, NamedGroup, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime as TlsTime},
    server::ParsedCertificate,
    version::TLS13,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use vouchsafe_attestation::{
    lp::sha256,
    session::{EXPORTER_CONTEXT, EXPORTER_LABEL},
};

use crate::{ConnectOptions, CustomerError};

/// DER of a SubjectPublicKeyInfo with id-ecPublicKey, prime256v1 and an uncompressed point (RFC 5480), up to the point.
const P256_SPKI_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const P256_SPKI_LEN: usize = 91;
/// Not sent (no SNI): rustls wants a name, and no name is believed here.
const UNUSED_NAME: &str = "enclave.invalid";

/// What tells this channel from every other one.
#[derive(Clone, Copy)]
pub(crate) struct ChannelFacts {
    /// TLS exporter value under our label.
    pub ekm: [u8; 32],
    /// SHA-256 of the leaf's SubjectPublicKeyInfo, DER.
    pub spki_sha256: [u8; 32],
    /// Name of the negotiated key-exchange group.
    pub tls_group: &'static str,
}

/// Connects, shakes hands, exports.
pub(crate) async fn open(
    address: &str,
    options: &ConnectOptions,
) -> Result<(TlsStream<TcpStream>, ChannelFacts), CustomerError> {
    let resolve = within("look up the host's name", options.connect_timeout, tokio::net::lookup_host(address)).await?;
    // A failure of the resolver has no kind of its own.
    let addresses: Vec<_> = resolve
        .map_err(|_| CustomerError::Network {
            step: "look up the host's name",
            kind: std::io::ErrorKind::HostUnreachable,
        })?
        .collect();
    let tcp = within("connect", options.connect_timeout, TcpStream::connect(&addresses[..]))
        .await?
        .map_err(|e| CustomerError::Network { step: "connect", kind: e.kind() })?;
    tcp.set_nodelay(true).map_err(|e| CustomerError::Network { step: "connect", kind: e.kind() })?;
    let name = ServerName::try_from(UNUSED_NAME).map_err(|_| internal())?;
    let connector = TlsConnector::from(Arc::new(client_config()?));
    let stream = within("handshake", options.handshake_timeout, connector.connect(name, tcp))
        .await?
        .map_err(|e| handshake_error(&e))?;
    let facts = facts(&stream)?;
    Ok((stream, facts))
}

/// Runs `future` for at most `limit`.
pub(crate) async fn within<F: Future>(
    step: &'static str,
    limit: std::time::Duration,
    future: F,
) -> Result<F::Output, CustomerError> {
    let after_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    timeout(limit, future).await.map_err(|_| CustomerError::Timeout { step, after_ms })
}

fn facts(stream: &TlsStream<TcpStream>) -> Result<ChannelFacts, CustomerError> {
    let (_, tls) = stream.get_ref();
    let leaf = match tls.peer_certificates() {
        Some([leaf]) => leaf,
        _ => return Err(CustomerError::wire("PEER_TLS", "the peer did not show exactly one certificate")),
    };
    let spki = p256_spki(leaf)
        .map_err(|_| CustomerError::wire("PEER_TLS", "the peer's certificate does not hold a P-256 key"))?;
    let ekm = tls
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(EXPORTER_CONTEXT))
        .map_err(|_| CustomerError::wire("PEER_TLS", "the TLS exporter gave nothing"))?;
    let tls_group = match tls.negotiated_key_exchange_group().map(|g| g.name()) {
        Some(NamedGroup::X25519MLKEM768) => "X25519MLKEM768",
        Some(NamedGroup::X25519) => "X25519",
        _ => return Err(CustomerError::wire("PEER_TLS", "a key-exchange group was negotiated that was not offered")),
    };
    Ok(ChannelFacts { ekm, spki_sha256: sha256(&spki), tls_group })
}

/// TLS 1.3 only; X25519MLKEM768 first, then X25519; no resumption, no early data, no name sent.
fn client_config() -> Result<ClientConfig, CustomerError> {
    let provider = Arc::new(provider());
    let verifier = Arc::new(AnyP256Leaf { algorithms: provider.signature_verification_algorithms });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|_| internal())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(config)
}

fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, ring::kx_group::X25519];
    provider
}

/// Accepts any single leaf with a P-256 key, and verifies the handshake signature under that key.
#[derive(Debug)]
struct AnyP256Leaf {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyP256Leaf {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: TlsTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if !intermediates.is_empty() {
            return Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        p256_spki(leaf).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is refused".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        if signature.scheme != SignatureScheme::ECDSA_NISTP256_SHA256 {
            return Err(TlsError::InvalidCertificate(CertificateError::BadSignature));
        }
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn p256_spki(leaf: &CertificateDer<'_>) -> Result<Vec<u8>, TlsError> {
    let spki = ParsedCertificate::try_from(leaf)?.subject_public_key_info();
    if spki.len() == P256_SPKI_LEN && spki.starts_with(P256_SPKI_PREFIX) {
        Ok(spki.to_vec())
    } else {
        Err(TlsError::InvalidCertificate(CertificateError::BadEncoding))
    }
}

fn handshake_error(error: &io::Error) -> CustomerError {
    let tls = error.get_ref().and_then(|e| e.downcast_ref::<TlsError>());
    match tls {
        Some(TlsError::InvalidCertificate(CertificateError::BadSignature)) => {
            CustomerError::wire("PEER_TLS", "the peer does not hold the key of the certificate that it shows")
        }
        Some(TlsError::InvalidCertificate(_)) => {
            CustomerError::wire("PEER_TLS", "the peer's certificate is not one leaf with a P-256 key")
        }
        Some(TlsError::PeerIncompatible(_) | TlsError::AlertReceived(_)) => {
            CustomerError::wire("PEER_TLS", "the peer does not speak TLS 1.3 as an enclave does")
        }
        Some(_) => CustomerError::wire("PEER_TLS", "the peer's TLS handshake is malformed"),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                CustomerError::closed("the peer closed the connection during the TLS handshake")
            }
            kind => CustomerError::Network { step: "handshake", kind },
        },
    }
}

const fn internal() -> CustomerError {
    CustomerError::wire("PEER_TLS", "TLS could not be set up on this side")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hybrid_group_is_offered_first_and_nothing_beyond_the_two() {
        let names: Vec<NamedGroup> = provider().kx_groups.iter().map(|g| g.name()).collect();
        assert_eq!(names, [NamedGroup::X25519MLKEM768, NamedGroup::X25519]);
    }

    #[test]
    fn no_resumption_no_early_data_no_name() {
        let config = client_config().unwrap();
        assert!(!config.enable_early_data && !config.enable_sni);
        assert!(config.alpn_protocols.is_empty());
    }
}
