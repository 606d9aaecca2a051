//! Turns randomness into the boot's identity (TLS key and certificate, receipt key, boot id) and into the two TLS configurations.
//! A self-signed certificate proves nothing: evidence binds its key, and brokers are known by their pinned key alone.

use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime as RustlsTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use vouchsafe_attestation::Ed25519Public;
use vouchsafe_attestation::lp::sha256;
use zeroize::Zeroizing;

use crate::error::EnclaveError;

/// Who this boot is. Made at start, never stored.
pub struct Identity {
    /// Random, in every claim.
    pub boot_id: [u8; 16],
    /// SHA-256 of the TLS leaf's SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// Signs receipts.
    pub receipt_key: Ed25519KeyPair,
    /// Public half of the receipt key.
    pub receipt_public: Ed25519Public,
    /// For the listener.
    pub server: Arc<ServerConfig>,
}

/// ring for everything but the first key exchange, X25519MLKEM768, which only aws-lc-rs has.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::{aws_lc_rs, ring};
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, ring::kx_group::X25519];
    Arc::new(provider)
}

impl Identity {
    /// Makes a new identity.
    ///
    /// # Errors
    /// `IDENTITY`.
    pub fn generate() -> Result<Self, EnclaveError> {
        let random = SystemRandom::new();
        let mut boot_id = [0; 16];
        random.fill(&mut boot_id).map_err(|_| EnclaveError::Identity("boot id"))?;
        let document = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| EnclaveError::Identity("receipt key"))?;
        let document = Zeroizing::new(document.as_ref().to_vec());
        let receipt_key = Ed25519KeyPair::from_pkcs8(&document).map_err(|_| EnclaveError::Identity("receipt key"))?;
        let mut public = [0; 32];
        public.copy_from_slice(receipt_key.public_key().as_ref());
        let (server, spki_sha256) = server_config()?;
        Ok(Self { boot_id, spki_sha256, receipt_key, receipt_public: Ed25519Public(public), server })
    }
}

fn server_config() -> Result<(Arc<ServerConfig>, [u8; 32]), EnclaveError> {
    let failed = |_| EnclaveError::Identity("TLS certificate");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let parameters = rcgen::CertificateParams::new(vec![String::from("vouchsafe-enclave.invalid")]).map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    let spki = sha256(&rcgen::PublicKeyData::subject_public_key_info(&key));
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| EnclaveError::Identity("TLS version"))?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .map_err(|_| EnclaveError::Identity("TLS certificate"))?;
    // No tickets, no resumption, no early data: every session is attested on its own.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), spki))
}

/// TLS to a broker whose leaf has one of the pinned keys.
///
/// # Errors
/// `IDENTITY`.
pub fn broker_config(pins: &[[u8; 32]]) -> Result<Arc<ClientConfig>, EnclaveError> {
    let provider = provider();
    let verifier = Pinned { pins: pins.to_vec(), provider: provider.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| EnclaveError::Identity("TLS version"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// Accepts a leaf by its key; the handshake signature is really verified with it.
#[derive(Debug)]
struct Pinned {
    pins: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: RustlsTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let spki = ParsedCertificate::try_from(leaf)?.subject_public_key_info();
        if self.pins.contains(&sha256(&spki)) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConnection, NamedGroup, ServerConnection};

    /// Shakes hands in memory and says which group was agreed on.
    fn shake(identity: &Identity, client: Arc<ClientConfig>) -> Result<NamedGroup, rustls::Error> {
        let mut server = ServerConnection::new(identity.server.clone())?;
        let mut client = ClientConnection::new(client, "enclave.invalid".try_into().unwrap())?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        let mut ours = [0; 32];
        let mut theirs = [0; 32];
        server.export_keying_material(&mut ours, b"EXPERIMENTAL-test", Some(b"server"))?;
        client.export_keying_material(&mut theirs, b"EXPERIMENTAL-test", Some(b"server"))?;
        assert_eq!(ours, theirs);
        Ok(server.negotiated_key_exchange_group().unwrap().name())
    }

    #[test]
    fn the_hybrid_group_is_agreed_on_and_x25519_is_left() {
        let identity = Identity::generate().unwrap();
        let client = broker_config(&[identity.spki_sha256]).unwrap();
        assert_eq!(shake(&identity, client), Ok(NamedGroup::X25519MLKEM768));
        let mut old = (*provider()).clone();
        old.kx_groups.remove(0);
        let mut client = ClientConfig::builder_with_provider(Arc::new(old))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned {
                pins: vec![identity.spki_sha256],
                provider: provider(),
            }))
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        assert_eq!(shake(&identity, Arc::new(client)), Ok(NamedGroup::X25519));
    }

    #[test]
    fn a_broker_with_another_key_is_refused() {
        let identity = Identity::generate().unwrap();
        let client = broker_config(&[[0; 32]]).unwrap();
        let expected = rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure);
        assert_eq!(shake(&identity, client), Err(expected));
    }

    #[test]
    fn every_boot_is_another() {
        let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert_ne!(one.boot_id, two.boot_id);
        assert_ne!(one.spki_sha256, two.spki_sha256);
        assert_ne!(one.receipt_public, two.receipt_public);
    }
}
