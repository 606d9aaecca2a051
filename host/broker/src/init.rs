//! Turns an empty place into a broker: keys, settings and a ledger with its first line.
//! A new broker can grant nothing: it holds no model key until `import`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::Ed25519KeyPair,
};
use serde::Serialize;
use vouchsafe_attestation::{Ed25519Public, dsse, encoding::serde_hex};
use vouchsafe_release::{Lease, WrapSecret};
use zeroize::Zeroizing;

use crate::{
    BrokerError, clock, config,
    event::Event,
    files::{self, CONFIG, KEK, LEDGER, MODELS, RELEASE_KEY, TLS_CERT, TLS_KEY, WRAP_KEY},
    head::HeadKey,
    ledger::Ledger,
    tls,
};

/// What a new broker is to do.
pub struct InitOptions {
    /// Where it listens. Port 0 lets the system choose one at every start.
    pub listen: SocketAddr,
    /// The vendor's policy: which enclaves get keys. It may be written later.
    pub policy: PathBuf,
    /// What every grant allows.
    pub lease: Lease,
    /// Whose packages can be imported.
    pub manifest_keys: Vec<Ed25519Public>,
}

/// What others need to know of a new broker.
#[derive(Debug, Serialize)]
pub struct InitSummary {
    /// For `seal --to`: `vouchsafe-broker-p256:…`.
    pub wrap_public: String,
    /// For `release_keys` in the enclave's configuration.
    pub release_key: Ed25519Public,
    /// For `spki_sha256` of the broker in the enclave's configuration.
    #[serde(with = "serde_hex")]
    pub tls_spki_sha256: [u8; 32],
}

/// Makes a broker in `dir`, which must not exist or be empty. Either all of it is there afterwards, or nothing.
///
/// # Errors
/// `STATE_EXISTS`, `FILE_IO`, `RANDOM_UNAVAILABLE`, `ARGUMENT`, `LEASE_EMPTY`.
pub fn init(dir: &Path, options: &InitOptions) -> Result<InitSummary, BrokerError> {
    let dir = std::path::absolute(dir).map_err(files::failed("the state directory"))?;
    if fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BrokerError::StateExists);
    }
    let name = dir.file_name().and_then(|n| n.to_str()).ok_or(BrokerError::Argument("the state directory"))?;
    let parent = dir.parent().ok_or(BrokerError::Argument("the state directory"))?;
    files::make_dir(parent, "the state directory")?;
    let staging = parent.join(format!(".{name}.init-{}", std::process::id()));
    let result = fill(&staging, options).and_then(|summary| {
        // Renaming onto an empty directory replaces it; onto anything else it fails.
        fs::rename(&staging, &dir).map_err(files::failed("the state directory"))?;
        Ok(summary)
    });
    if result.is_err() {
        let _ = fs::remove_dir_all(&staging);
    }
    result
}

fn fill(dir: &Path, options: &InitOptions) -> Result<InitSummary, BrokerError> {
    files::make_dir(dir, "the state directory")?;
    files::make_dir(&dir.join(MODELS), MODELS)?;
    let policy = std::path::absolute(&options.policy).map_err(files::failed("the policy"))?;
    let lease = options.lease.granting()?;
    let text = config::text(options.listen, &policy, &options.manifest_keys, lease)?;
    files::write(dir, CONFIG, text.as_bytes(), CONFIG)?;

    let tls = tls::generate()?;
    files::write(dir, TLS_KEY, tls.key_pem.as_bytes(), TLS_KEY)?;
    files::write(dir, TLS_CERT, tls.cert_pem.as_bytes(), TLS_CERT)?;

    let random = SystemRandom::new();
    let mut kek = Zeroizing::new([0; 32]);
    random.fill(kek.as_mut_slice()).map_err(|_| BrokerError::Random)?;
    files::write(dir, KEK, kek.as_slice(), KEK)?;

    let (release, pair) = signing_key(&random)?;
    files::write(dir, RELEASE_KEY, &release, RELEASE_KEY)?;
    let release_key = dsse::public(&pair);

    let wrap = WrapSecret::generate()?;
    files::write(dir, WRAP_KEY, wrap.to_bytes().as_slice(), WRAP_KEY)?;

    let now = clock::now();
    let mut ledger = Ledger::create(&dir.join(LEDGER), &HeadKey::derive(&kek)?)?;
    ledger.append(Event::Created { release_key, tls_spki_sha256: tls.spki_sha256 }, now)?;
    Ok(InitSummary { wrap_public: wrap.public().to_string(), release_key, tls_spki_sha256: tls.spki_sha256 })
}

/// A new Ed25519 key and its PKCS #8 form (RFC 5958, version 2), which is wiped: ring's own document is not.
fn signing_key(random: &SystemRandom) -> Result<(Zeroizing<Vec<u8>>, Ed25519KeyPair), BrokerError> {
    let broken = |_| BrokerError::KeyFile(RELEASE_KEY);
    let mut seed = Zeroizing::new([0; 32]);
    random.fill(seed.as_mut_slice()).map_err(|_| BrokerError::Random)?;
    let public = dsse::public(&Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(broken)?);
    let mut document = Zeroizing::new(Vec::with_capacity(128));
    document.extend_from_slice(b"\x30\x51\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20");
    document.extend_from_slice(seed.as_slice());
    document.extend_from_slice(b"\x81\x21\x00");
    document.extend_from_slice(&public.0);
    let pair = Ed25519KeyPair::from_pkcs8(&document).map_err(broken)?;
    Ok((document, pair))
}
