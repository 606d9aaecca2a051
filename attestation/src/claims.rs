//! Turns what an enclave says of itself into bytes that the evidence binds, and back.
//! Claims prove nothing alone: a session digest in genuine evidence must cover these exact bytes.

use serde::{Deserialize, Serialize};

use crate::{
    Ed25519Public, EncodingError, Mode,
    encoding::{serde_hex, serde_hex_list},
};

/// Claims longer than this are refused before they are parsed.
pub const MAX_CLAIMS: usize = 16 * 1024;
const MAX_MODELS: usize = 64;
const MAX_BROKERS: usize = 16;
const MAX_WORD: usize = 64;

/// What an enclave says of itself. Sent as exact bytes, hashed as received, never re-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Format version: 1.
    pub v: u32,
    /// Which trust root the enclave runs under.
    pub mode: Mode,
    /// Version of the enclave program, at most 64 printable ASCII characters.
    pub version: String,
    /// Random, made at every boot.
    #[serde(with = "serde_hex")]
    pub boot_id: [u8; 16],
    /// SHA-256 of the DER SubjectPublicKeyInfo of the TLS leaf.
    #[serde(with = "serde_hex")]
    pub spki_sha256: [u8; 32],
    /// SHA-256 of the bound configuration.
    #[serde(with = "serde_hex")]
    pub config_digest: [u8; 32],
    /// SHA-256 of the TLS keys of the brokers that may release keys.
    #[serde(with = "serde_hex_list")]
    pub brokers: Vec<[u8; 32]>,
    /// What is being served now.
    pub models: Vec<ModelClaim>,
    /// Verifies the receipts of this boot.
    pub receipt_key: Ed25519Public,
    /// Whether the host can bend the enclave's sense of time.
    pub clock: Clock,
}

/// One served model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelClaim {
    /// The vendor's name for the model, at most 64 characters of `a-z 0-9 - _ .`.
    pub id: String,
    /// Random, fresh for every version.
    #[serde(with = "serde_hex")]
    pub uid: [u8; 32],
    /// Rises with every version.
    pub sequence: u64,
    /// SHA-256 of the signed manifest.
    #[serde(with = "serde_hex")]
    pub manifest_digest: [u8; 32],
    /// The pinned vendor keys that signed it.
    pub vendor_keys: Vec<Ed25519Public>,
    /// SHA-256 of the vendor's usage policy.
    #[serde(with = "serde_hex")]
    pub usage_policy_digest: [u8; 32],
    /// Whether the key's release ends (online) or not (static).
    pub release: Release,
}

/// How the model key was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// A lease that a broker renews and may revoke.
    Online,
    /// A stored bundle: no lease and no revocation.
    Static,
}

/// How far the enclave's clock can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// The hardware guards the guest's clock.
    Trusted,
    /// The host can slow or stop it: only counts are hard bounds.
    HostInfluenced,
}

impl Claims {
    /// Reads claims.
    ///
    /// # Errors
    /// `ENCODING_TOO_LARGE`, `ENCODING_JSON`, `ENCODING_VERSION`, `ENCODING_WORD`.
    pub fn parse(bytes: &[u8]) -> Result<Self, EncodingError> {
        if bytes.len() > MAX_CLAIMS {
            return Err(EncodingError::TooLarge("claims", MAX_CLAIMS));
        }
        let claims: Self = serde_json::from_slice(bytes).map_err(|_| EncodingError::Json("claims"))?;
        if claims.v != 1 {
            return Err(EncodingError::Version("claims"));
        }
        if claims.version.len() > MAX_WORD || !claims.version.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(EncodingError::Word("version", "at most 64 printable ASCII characters"));
        }
        if claims.models.len() > MAX_MODELS || claims.brokers.len() > MAX_BROKERS {
            return Err(EncodingError::TooLarge("claims", MAX_CLAIMS));
        }
        for (at, model) in claims.models.iter().enumerate() {
            model_id(&model.id)?;
            if model.vendor_keys.is_empty() || claims.models[..at].iter().any(|m| m.id == model.id) {
                return Err(EncodingError::Json("claims"));
            }
        }
        Ok(claims)
    }

    /// The bytes to send and to hash.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and lists of them always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The claim of model `id`.
    #[must_use]
    pub fn model(&self, id: &str) -> Option<&ModelClaim> {
        self.models.iter().find(|m| m.id == id)
    }
}

/// A model id is 1 to 64 characters of `a-z 0-9 - _ .` and begins with a letter or digit: it is also a folder and a URL segment.
///
/// # Errors
/// `ENCODING_WORD`.
pub fn model_id(id: &str) -> Result<(), EncodingError> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let good = id.len() <= MAX_WORD
        && id.bytes().next().is_some_and(letter)
        && id.bytes().all(|b| letter(b) || matches!(b, b'-' | b'_' | b'.'))
        && !id.contains("..");
    if good { Ok(()) } else { Err(EncodingError::Word("model id", "1 to 64 characters of a-z 0-9 - _ .")) }
}
