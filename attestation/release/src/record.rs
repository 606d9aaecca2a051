//! Holds one model key together with everything that says which model it opens.
//! A record proves nothing by itself: the broker compares it with the vendor's signed manifest before it stores it.

use vouchsafe_attestation::Mode;
use vouchsafe_sealed::{ModelKey, commitment};

use crate::ReleaseError;

/// A model key and the version of the model it belongs to. No Debug, no Clone, no serde: it holds the key.
pub struct ModelKeyRecord {
    /// The model's name.
    pub model_id: String,
    /// 32 random bytes, fresh for every version.
    pub uid: [u8; 32],
    /// The version number, only ever growing.
    pub sequence: u64,
    /// What the key was sealed for.
    pub mode: Mode,
    /// SHA-256 of the signed manifest's payload.
    pub manifest_digest: [u8; 32],
    /// SHA-256 of the usage policy's payload.
    pub usage_policy_digest: [u8; 32],
    /// The key commitment, as in the manifest.
    pub commitment: [u8; 32],
    /// The key.
    pub key: ModelKey,
}

impl ModelKeyRecord {
    /// Recomputes the commitment from key and uid.
    ///
    /// # Errors
    /// `KEY_COMMITMENT`.
    pub fn matching(self) -> Result<Self, ReleaseError> {
        if commitment(&self.key, &self.uid) != self.commitment {
            return Err(ReleaseError::Commitment);
        }
        Ok(self)
    }
}
