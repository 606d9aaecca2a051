//! Turns chunks of plaintext into ciphertext and tag, and back, under the key of one file (AES-256-GCM, STREAM nonces).
//! GCM alone does not name the weights to someone who holds the key: the digest list does.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};
use zeroize::Zeroizing;

use crate::{
    SealedError,
    key::{FileContext, ModelKey, file_okm},
};

/// The counter under which the true length is sealed; no chunk ever has it.
const TRUE_LENGTH: u64 = u64::MAX;
/// Length of a sealed true length: 8 bytes and a tag.
pub(crate) const SEALED_LEN: usize = 24;

/// The key of one file; it wipes its derivation, ring keeps the AES schedule.
pub(crate) struct ChunkKey {
    key: LessSafeKey,
    base: [u8; 12],
}

impl ChunkKey {
    /// Derives the key of one file.
    pub(crate) fn derive(model: &ModelKey, file: &FileContext<'_>) -> Self {
        Self::of(&file_okm(model, file))
    }

    /// A random key that nobody else will ever have.
    pub(crate) fn throw_away() -> Result<Self, SealedError> {
        let mut okm = Zeroizing::new([0; 44]);
        SystemRandom::new().fill(&mut *okm).map_err(|_| SealedError::SealRandom)?;
        Ok(Self::of(&okm))
    }

    /// Key (32) and base nonce (12).
    fn of(okm: &[u8; 44]) -> Self {
        let mut base = [0; 12];
        base.copy_from_slice(&okm[32..]);
        #[expect(clippy::expect_used, reason = "AES-256-GCM takes every key of 32 bytes")]
        let key = UnboundKey::new(&AES_256_GCM, &okm[..32]).expect("a key of 32 bytes");
        Self { key: LessSafeKey::new(key), base }
    }

    /// Encrypts chunk `i` in place and returns its tag.
    pub(crate) fn seal(&self, i: u64, data: &mut [u8]) -> [u8; 16] {
        let mut out = [0; 16];
        #[expect(clippy::expect_used, reason = "a chunk is at most 2^20 bytes, GCM takes 2^36")]
        let tag = self.key.seal_in_place_separate_tag(self.nonce(i), Aad::empty(), data).expect("a short chunk");
        out.copy_from_slice(tag.as_ref());
        out
    }

    /// Decrypts chunk `i` in place. On failure the data is no plaintext.
    pub(crate) fn open(&self, i: u64, data: &mut [u8], tag: Tag) -> Result<(), Unauthentic> {
        let opened = self.key.open_in_place_separate_tag(self.nonce(i), Aad::empty(), tag, data, 0..);
        opened.map(|_| ()).map_err(|_| Unauthentic)
    }

    /// Seals a file's true length.
    pub(crate) fn seal_length(&self, true_len: u64) -> [u8; SEALED_LEN] {
        let mut out = [0; SEALED_LEN];
        out[..8].copy_from_slice(&true_len.to_be_bytes());
        let tag = self.seal(TRUE_LENGTH, &mut out[..8]);
        out[8..].copy_from_slice(&tag);
        out
    }

    /// Opens a file's true length.
    pub(crate) fn open_length(&self, sealed: &[u8; SEALED_LEN]) -> Result<u64, Unauthentic> {
        let (length, tag) = sealed.split_first_chunk::<8>().ok_or(Unauthentic)?;
        let (mut length, tag) = (*length, Tag::try_from(tag).map_err(|_| Unauthentic)?);
        self.open(TRUE_LENGTH, &mut length, tag)?;
        Ok(u64::from_be_bytes(length))
    }

    /// `base XOR (0^4 || u64be(i))`.
    fn nonce(&self, i: u64) -> Nonce {
        let mut nonce = self.base;
        for (byte, counter) in nonce[4..].iter_mut().zip(i.to_be_bytes()) {
            *byte ^= counter;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// A tag does not fit.
#[derive(Debug)]
pub(crate) struct Unauthentic;

#[cfg(test)]
mod tests {
    use aes_gcm::{Aes256Gcm, KeyInit as _, aead::Aead as _};

    use super::*;

    fn context<'a>() -> FileContext<'a> {
        FileContext { uid: &[2; 32], sequence: 3, index: 4, padded_len: 5, salt: &[6; 32] }
    }

    #[test]
    fn a_second_implementation_reads_the_same_bytes() {
        let model = ModelKey::from_bytes([1; 32]);
        let (key, okm) = (ChunkKey::derive(&model, &context()), file_okm(&model, &context()));
        for i in [0_u64, 1, 255, 256, 1 << 40] {
            let mut data = *b"some weights";
            let tag = key.seal(i, &mut data);
            let mut nonce = [0; 12];
            nonce.copy_from_slice(&okm[32..]);
            for (at, byte) in i.to_be_bytes().iter().enumerate() {
                nonce[4 + at] ^= byte;
            }
            let other = Aes256Gcm::new_from_slice(&okm[..32]).unwrap();
            let sealed = [&data[..], &tag].concat();
            assert_eq!(other.decrypt(&nonce.into(), &sealed[..]).unwrap(), b"some weights");
        }
    }

    #[test]
    fn chunks_do_not_open_at_another_place() {
        let key = ChunkKey::derive(&ModelKey::from_bytes([1; 32]), &context());
        let mut data = *b"weights";
        let tag = key.seal(0, &mut data);
        assert!(key.open(1, &mut data.clone(), Tag::from(tag)).is_err());
        assert!(key.open(0, &mut data, Tag::from(tag)).is_ok());
        assert_eq!(&data, b"weights");
    }

    #[test]
    fn a_true_length_survives_and_nothing_else_passes() {
        let key = ChunkKey::derive(&ModelKey::from_bytes([1; 32]), &context());
        let sealed = key.seal_length(12_345);
        assert_eq!(key.open_length(&sealed).unwrap(), 12_345);
        for bit in 0..SEALED_LEN * 8 {
            let mut bad = sealed;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open_length(&bad).is_err(), "bit {bit}");
        }
    }
}
