//! Turns a wrapped key and its package into a stored model key.
//! The package's blobs are not read: that they are whole is for `package verify` and for the enclave to see.

use std::path::Path;

use serde::Serialize;
use vouchsafe_attestation::{Ed25519Public, Mode, UnixTime, encoding::serde_hex};
use vouchsafe_release::{ModelKeyRecord, WrapSecret};
use vouchsafe_sealed::Package;

use crate::{
    BrokerError, admin,
    admin_server::Request,
    config::Config,
    store::{self, Store},
};

/// What was stored.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// Model id.
    pub model: String,
    /// Sequence.
    pub sequence: u64,
    /// The mode that the key was sealed for.
    pub mode: Mode,
    /// Digest of the signed manifest.
    #[serde(with = "serde_hex")]
    pub manifest_digest: [u8; 32],
    /// Who signed it.
    pub signers: Vec<Ed25519Public>,
}

/// Stores the key of a package, directly or through the running broker. Storing the same key again changes nothing.
///
/// # Errors
/// `STATE_MISSING`, `MANIFEST_KEYS_MISSING`, `WRAPPED_KEY_*`, the package's own codes, `IMPORT_MISMATCH`,
/// `IMPORT_CONFLICT`, `SEQUENCE_BELOW_FLOOR`, `LEDGER_UNWRITABLE`.
pub fn import(dir: &Path, package: &Path, wrapped: &[u8]) -> Result<Imported, BrokerError> {
    let package = std::path::absolute(package).map_err(crate::files::failed("the package"))?;
    // Judged here first, so that the caller gets the exact failure; whoever holds the store judges again.
    let (_, imported) = matching(&store::wrap_secret(dir)?, &Config::load(dir)?, &package, wrapped)?;
    admin::command(dir, Request::Import { package, wrapped: wrapped.to_vec() })?;
    Ok(imported)
}

/// Judges a package and its key, and stores the key.
pub(crate) fn into_store(store: &mut Store, package: &Path, wrapped: &[u8], now: UnixTime) -> Result<(), BrokerError> {
    let (record, _) = matching(&store.wrap, &store.config, package, wrapped)?;
    if record.sequence < store.index.floor(&record.model_id) {
        return Err(BrokerError::BelowFloor);
    }
    match store.index.import(&record.model_id, record.sequence) {
        Some(known) if known.uid == record.uid => Ok(()),
        Some(_) => Err(BrokerError::ImportConflict),
        None => store.import(&record, now).map(|_| ()),
    }
}

/// Opens both and compares every field that both carry.
fn matching(
    wrap: &WrapSecret,
    config: &Config,
    package: &Path,
    wrapped: &[u8],
) -> Result<(ModelKeyRecord, Imported), BrokerError> {
    if config.manifest_keys.is_empty() {
        return Err(BrokerError::ManifestKeysMissing);
    }
    let record = wrap.unwrap_key(wrapped)?;
    let package = Package::open(package, &config.manifest_keys)?;
    let manifest = package.manifest();
    compare("model id", &record.model_id, &manifest.model_id)?;
    compare("model uid", &record.uid, &manifest.model_uid)?;
    compare("sequence", &record.sequence, &manifest.sequence)?;
    compare("mode", &record.mode, &manifest.mode)?;
    compare("manifest digest", &record.manifest_digest, &package.manifest_digest())?;
    compare("usage-policy digest", &record.usage_policy_digest, &manifest.usage_policy_digest)?;
    // `unwrap_key` recomputed the commitment from key and uid; here it meets the vendor's signature.
    compare("key commitment", &record.commitment, &manifest.model_commitment)?;
    let imported = Imported {
        model: record.model_id.clone(),
        sequence: record.sequence,
        mode: record.mode,
        manifest_digest: record.manifest_digest,
        signers: package.signers().to_vec(),
    };
    Ok((record, imported))
}

fn compare<T: PartialEq>(what: &'static str, wrapped: &T, signed: &T) -> Result<(), BrokerError> {
    if wrapped == signed { Ok(()) } else { Err(BrokerError::ImportMismatch(what)) }
}
