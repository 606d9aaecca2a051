//! Turns the plaintext digests of a package into the JSON of its last, sealed file, and back.
//! They name the weights for someone who has the key; the host sees only ciphertext of them.

use serde::{Deserialize, Serialize};
use vouchsafe_attestation::encoding::serde_hex;

use crate::{Manifest, SealedError};

/// Name of the file in every manifest.
pub(crate) const NAME: &str = "digests.json";

/// SHA-256 of each file's plaintext, but of this list itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digests {
    /// Format version: 1.
    pub version: u32,
    /// One entry per file, in order.
    pub files: Vec<DigestEntry>,
}

/// The digest of one file. It holds no length: its decimal digits would tell the host what padding hides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestEntry {
    /// Index in the manifest.
    pub index: u32,
    /// Name in the manifest.
    pub name: String,
    /// SHA-256 of the plaintext without padding.
    #[serde(with = "serde_hex")]
    pub sha256: [u8; 32],
}

impl Digests {
    /// Reads the plaintext of the digests file and compares it with the manifest's files.
    ///
    /// # Errors
    /// `BLOB_DIGESTS`.
    pub fn parse(plaintext: &[u8], manifest: &Manifest) -> Result<Self, SealedError> {
        let digests: Self = serde_json::from_slice(plaintext).map_err(|_| SealedError::BlobDigests)?;
        let others = manifest.files.len().saturating_sub(1);
        let same = digests.files.iter().zip(&manifest.files).all(|(d, f)| d.index == f.index && d.name == f.name);
        if digests.version == 1 && digests.files.len() == others && same {
            Ok(digests)
        } else {
            Err(SealedError::BlobDigests)
        }
    }

    /// The plaintext to seal.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and lists of them always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
