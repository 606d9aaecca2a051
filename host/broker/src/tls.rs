//! Turns tls.key and tls.crt into a TLS 1.3 server, and the key into the digest that enclaves pin.
//! The certificate proves nothing by itself: it is self-signed, and only the pinned key counts.

use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    server::NoServerSessionStorage,
    version::TLS13,
};
use vouchsafe_attestation::lp::sha256;
use zeroize::Zeroizing;

use crate::{
    BrokerError,
    files::{self, TLS_CERT, TLS_KEY},
};

/// A new key and its certificate, PEM.
pub(crate) struct NewTls {
    pub(crate) key_pem: Zeroizing<String>,
    pub(crate) cert_pem: String,
    pub(crate) spki_sha256: [u8; 32],
}

/// ring's provider with the hybrid group first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.kx_groups.insert(0, aws_lc_rs::kx_group::X25519MLKEM768);
    Arc::new(provider)
}

/// Makes a P-256 key and a self-signed certificate for it.
pub(crate) fn generate() -> Result<NewTls, BrokerError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| BrokerError::Random)?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(|_| BrokerError::Tls)?;
    params.distinguished_name.push(DnType::CommonName, "vouchsafe broker");
    let cert = params.self_signed(&key).map_err(|_| BrokerError::Tls)?;
    Ok(NewTls {
        key_pem: Zeroizing::new(key.serialize_pem()),
        cert_pem: cert.pem(),
        spki_sha256: sha256(&key.subject_public_key_info()),
    })
}

/// TLS 1.3 only; no tickets, no resumption, no early data.
pub(crate) fn load(dir: &std::path::Path) -> Result<Arc<ServerConfig>, BrokerError> {
    let key = files::read_secret(dir, TLS_KEY)?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&key).map_err(|_| BrokerError::KeyFile(TLS_KEY))?;
    let certs = CertificateDer::pem_slice_iter(&files::read(dir, TLS_CERT)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| BrokerError::Tls)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|_| BrokerError::Tls)?
        .with_no_client_auth()
        // Also refuses a certificate that is not this key's.
        .with_single_cert(certs, PrivateKeyDer::Pkcs8(key))
        .map_err(|_| BrokerError::Tls)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}
