//! Turns a model key into one key per file and into the public commitment that a manifest carries.
//! Holding a key proves no right to it: grants and leases are the business of key release.

use ring::{
    hkdf::{HKDF_SHA512, KeyType, Salt},
    rand::{SecureRandom as _, SystemRandom},
};
use vouchsafe_attestation::lp::put_lp;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{CHUNK_LEN, SealedError};

/// The secret of one version of one model: 32 random bytes, wiped when dropped.
pub struct ModelKey(Box<[u8; 32]>);

impl ModelKey {
    /// A fresh key from the operating system.
    ///
    /// # Errors
    /// `SEAL_RANDOM`.
    pub fn generate() -> Result<Self, SealedError> {
        let mut bytes = Box::new([0; 32]);
        SystemRandom::new().fill(&mut *bytes).map_err(|_| SealedError::SealRandom)?;
        Ok(Self(bytes))
    }

    /// A key out of a grant or a store. The caller wipes its own copy.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let mut own = Box::new([0; 32]);
        own.copy_from_slice(&*bytes);
        Self(own)
    }

    /// The secret bytes, for wrapping and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for ModelKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What a manifest and a key bundle say of a key: it names the key without telling it, and no second key has it too.
#[must_use]
pub fn commitment(key: &ModelKey, uid: &[u8; 32]) -> [u8; 32] {
    let mut info = Vec::new();
    put_lp(&mut info, b"vouchsafe/1 model-key");
    let mut out = [0; 32];
    expand(key, uid, &info, &mut out);
    out
}

/// Compares the key with the manifest's commitment, in constant time.
pub(crate) fn compare_commitment(key: &ModelKey, uid: &[u8; 32], expected: &[u8; 32]) -> Result<(), SealedError> {
    // `blake3::Hash` compares in constant time; nothing is hashed here.
    let ours = blake3::Hash::from_bytes(commitment(key, uid));
    if ours == blake3::Hash::from_bytes(*expected) { Ok(()) } else { Err(SealedError::KeyCommitment) }
}

/// What a file key depends on, beside the model key.
pub(crate) struct FileContext<'a> {
    pub(crate) uid: &'a [u8; 32],
    pub(crate) sequence: u64,
    pub(crate) index: u32,
    pub(crate) padded_len: u64,
    pub(crate) salt: &'a [u8; 32],
}

/// AES-256-GCM key (32) and base nonce (12) of one file.
pub(crate) fn file_okm(key: &ModelKey, file: &FileContext<'_>) -> Zeroizing<[u8; 44]> {
    let mut info = Vec::with_capacity(80);
    put_lp(&mut info, b"vouchsafe/1 file");
    put_lp(&mut info, file.uid);
    info.extend_from_slice(&file.sequence.to_be_bytes());
    info.extend_from_slice(&file.index.to_be_bytes());
    info.extend_from_slice(&file.padded_len.to_be_bytes());
    info.extend_from_slice(&(CHUNK_LEN as u32).to_be_bytes());
    let mut okm = Zeroizing::new([0; 44]);
    expand(key, file.salt, &info, &mut *okm);
    okm
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand(key: &ModelKey, salt: &[u8; 32], info: &[u8], out: &mut [u8]) {
    let prk = Salt::new(HKDF_SHA512, salt).extract(key.expose());
    let filled = prk.expand(&[info], Length(out.len())).and_then(|okm| okm.fill(out));
    // HKDF-SHA512 gives up to 255 * 64 bytes, and the output has exactly the requested length.
    #[expect(clippy::expect_used, reason = "32 or 44 bytes are always available")]
    filled.expect("HKDF output of at most 44 bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commitment_depends_on_key_and_uid() {
        let one = commitment(&ModelKey::from_bytes([1; 32]), &[2; 32]);
        assert_ne!(one, commitment(&ModelKey::from_bytes([3; 32]), &[2; 32]));
        assert_ne!(one, commitment(&ModelKey::from_bytes([1; 32]), &[3; 32]));
        assert!(compare_commitment(&ModelKey::from_bytes([1; 32]), &[2; 32], &one).is_ok());
        let other = compare_commitment(&ModelKey::from_bytes([1; 32]), &[9; 32], &one);
        assert_eq!(other, Err(SealedError::KeyCommitment));
    }

    #[test]
    fn a_file_key_depends_on_everything_that_names_the_file() {
        let key = ModelKey::from_bytes([1; 32]);
        let okm = |uid: u8, sequence, index, padded_len, salt: u8| {
            *file_okm(&key, &FileContext { uid: &[uid; 32], sequence, index, padded_len, salt: &[salt; 32] })
        };
        let base = okm(1, 2, 3, 4, 5);
        assert_eq!(base, okm(1, 2, 3, 4, 5));
        for other in
            [okm(9, 2, 3, 4, 5), okm(1, 9, 3, 4, 5), okm(1, 2, 9, 4, 5), okm(1, 2, 3, 9, 5), okm(1, 2, 3, 4, 9)]
        {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(ModelKey::generate().unwrap().expose(), ModelKey::generate().unwrap().expose());
    }
}
