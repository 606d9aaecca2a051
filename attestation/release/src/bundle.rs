//! Turns the broker's signed bytes into a [`KeyGrant`], the one type that can open a model.
//! It does not say that the broker was right to grant: it says that a pinned release key signed, for this handshake and mode.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use vouchsafe_attestation::{
    Ed25519Public, Mode, UnixTime, claims,
    dsse::{self, KEY_BUNDLE},
    encoding::{EncodingError, serde_hex},
};
use vouchsafe_sealed::{ModelKey, commitment};
use zeroize::Zeroizing;

use crate::{Lease, ReleaseError};

/// A bundle is about 1.5 KiB.
pub const MAX_BUNDLE: usize = 16 * 1024;
/// How far a broker's clock may lag behind the time known inside the enclave.
pub const CLOCK_SKEW_S: u64 = 300;
/// Room for any payload, so that no half-written copy of it is left behind by a growing buffer.
const PAYLOAD_CAPACITY: usize = 4 * 1024;

/// The signed payload, `application/vnd.vouchsafe.key-bundle.v1+json`. The key is borrowed text: it is never copied by serde.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payload<'a> {
    pub v: u32,
    pub mode: Mode,
    pub model_id: &'a str,
    #[serde(with = "serde_hex")]
    pub model_uid: [u8; 32],
    pub sequence: u64,
    pub model_key: &'a str,
    #[serde(with = "serde_hex")]
    pub key_commitment: [u8; 32],
    #[serde(with = "serde_hex")]
    pub manifest_digest: [u8; 32],
    #[serde(with = "serde_hex")]
    pub usage_policy_digest: [u8; 32],
    pub lease: Lease,
    pub issued_at: UnixTime,
    pub nonce: &'a str,
    #[serde(with = "serde_hex")]
    pub ledger_head: [u8; 32],
}

/// The bundle's envelope, as it travels inside the JWE. It holds the key in clear: wiped on drop, no Debug.
pub struct SignedBundle(Zeroizing<Vec<u8>>);

/// A key that a pinned broker granted to this enclave. Only [`SignedBundle::open`] makes one.
#[must_use]
pub struct KeyGrant {
    mode: Mode,
    model_id: String,
    uid: [u8; 32],
    sequence: u64,
    key: ModelKey,
    commitment: [u8; 32],
    manifest_digest: [u8; 32],
    usage_policy_digest: [u8; 32],
    lease: Lease,
    issued_at: UnixTime,
    ledger_head: [u8; 32],
}

impl SignedBundle {
    /// Takes bytes as they came; [`SignedBundle::open`] judges them.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The envelope, for the JWE.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Opens a bundle: it must answer the very handshake whose `nonce` is given. There is no other way to a grant.
    ///
    /// `now` is the latest time already known here (the build time, or an earlier bundle's time and what has passed since).
    ///
    /// # Errors
    /// `BUNDLE_SIGNATURE`, `BUNDLE_FORM`, `MODE_MISMATCH`, `BUNDLE_NONCE`, `BUNDLE_STALE`, `LEASE_EMPTY`, `KEY_COMMITMENT`.
    pub fn open(
        bytes: &[u8],
        release_keys: &[Ed25519Public],
        nonce: &str,
        mode: Mode,
        now: UnixTime,
    ) -> Result<KeyGrant, ReleaseError> {
        let opened = dsse::open(bytes, KEY_BUNDLE, release_keys, 1, MAX_BUNDLE).map_err(|e| match e {
            EncodingError::Signatures(_) | EncodingError::PayloadType => ReleaseError::BundleSignature,
            EncodingError::TooLarge(what, cap) => ReleaseError::TooLarge(what, cap),
            _ => ReleaseError::BundleForm,
        })?;
        let text = opened.payload;
        let payload: Payload<'_> = serde_json::from_slice(&text).map_err(|_| ReleaseError::BundleForm)?;
        if payload.v != 1 || claims::model_id(payload.model_id).is_err() {
            return Err(ReleaseError::BundleForm);
        }
        if payload.mode != mode {
            return Err(ReleaseError::Mode);
        }
        if payload.nonce.is_empty() || payload.nonce != nonce {
            return Err(ReleaseError::Nonce);
        }
        if payload.issued_at.plus(CLOCK_SKEW_S) < now {
            return Err(ReleaseError::Stale);
        }
        let lease = payload.lease.granting()?;
        let key = read_key(payload.model_key).ok_or(ReleaseError::BundleForm)?;
        if commitment(&key, &payload.model_uid) != payload.key_commitment {
            return Err(ReleaseError::Commitment);
        }
        Ok(KeyGrant {
            mode,
            model_id: payload.model_id.to_owned(),
            uid: payload.model_uid,
            sequence: payload.sequence,
            key,
            commitment: payload.key_commitment,
            manifest_digest: payload.manifest_digest,
            usage_policy_digest: payload.usage_policy_digest,
            lease,
            issued_at: payload.issued_at,
            ledger_head: payload.ledger_head,
        })
    }
}

/// Serializes a payload that holds a key, without leaving copies behind.
pub(crate) fn secret_json<T: Serialize>(payload: &T) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(PAYLOAD_CAPACITY));
    // Writing into memory does not fail, and structs of strings and numbers always serialize.
    let _ = serde_json::to_writer(&mut *out, payload);
    out
}

/// The key as text.
pub(crate) fn write_key(key: &ModelKey) -> Zeroizing<String> {
    Zeroizing::new(URL_SAFE_NO_PAD.encode(key.expose()))
}

/// The key from text, through wiped buffers only.
pub(crate) fn read_key(text: &str) -> Option<ModelKey> {
    let mut buffer = Zeroizing::new([0_u8; 48]);
    if URL_SAFE_NO_PAD.decode_slice(text, buffer.as_mut_slice()).ok()? != 32 {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(&buffer[..32]);
    Some(ModelKey::from_bytes(*key))
}

impl KeyGrant {
    /// The mode of the grant; the same as the verdict's and the enclave's.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }
    /// The model's name.
    #[must_use]
    pub fn model_id(&self) -> &str {
        &self.model_id
    }
    /// The uid of this version of the model.
    #[must_use]
    pub const fn uid(&self) -> &[u8; 32] {
        &self.uid
    }
    /// The version number.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &ModelKey {
        &self.key
    }
    /// The commitment that the package's manifest must carry too.
    #[must_use]
    pub const fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }
    /// The digest of the manifest that this key was granted for.
    #[must_use]
    pub const fn manifest_digest(&self) -> &[u8; 32] {
        &self.manifest_digest
    }
    /// The digest of the usage policy that this key was granted under.
    #[must_use]
    pub const fn usage_policy_digest(&self) -> &[u8; 32] {
        &self.usage_policy_digest
    }
    /// How long and how often.
    #[must_use]
    pub const fn lease(&self) -> Lease {
        self.lease
    }
    /// The broker's clock at the grant.
    #[must_use]
    pub const fn issued_at(&self) -> UnixTime {
        self.issued_at
    }
    /// The broker's ledger head, to be echoed at renewal.
    #[must_use]
    pub const fn ledger_head(&self) -> &[u8; 32] {
        &self.ledger_head
    }
}
