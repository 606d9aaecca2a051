//! Turns chunks into the list of tags and digests that ties each of them to the vendor's signature, and back.
//! A list is worth nothing until its own digest has been compared with a verified manifest.

use ring::aead::Tag;

use crate::SealedError;

/// Bytes per chunk in a digest list: `tag(16) || BLAKE3(ciphertext || tag)(32)`.
pub(crate) const ENTRY_LEN: usize = 48;

/// The entry of one chunk.
pub(crate) fn entry(ciphertext: &[u8], tag: &[u8; 16]) -> [u8; ENTRY_LEN] {
    let mut out = [0; ENTRY_LEN];
    out[..16].copy_from_slice(tag);
    out[16..].copy_from_slice(digest(ciphertext, tag).as_bytes());
    out
}

/// A digest list whose own digest is the manifest's.
pub(crate) struct DigestList {
    file: u32,
    bytes: Vec<u8>,
}

impl DigestList {
    /// Accepts `bytes` as the list of `file` if they hash to `expected` and hold exactly `chunks` entries.
    pub(crate) fn open(file: u32, bytes: Vec<u8>, chunks: u64, expected: &[u8; 32]) -> Result<Self, SealedError> {
        let complete = bytes.len() as u64 == chunks * ENTRY_LEN as u64;
        if complete && blake3::hash(&bytes) == blake3::Hash::from_bytes(*expected) {
            Ok(Self { file, bytes })
        } else {
            Err(SealedError::BlobList(file))
        }
    }

    /// Compares chunk `i` with its entry and hands back its tag.
    pub(crate) fn compare(&self, i: u64, ciphertext: &[u8]) -> Result<Tag, SealedError> {
        let wrong = SealedError::BlobChunk(self.file, i);
        let at = usize::try_from(i).ok().and_then(|i| i.checked_mul(ENTRY_LEN)).ok_or(wrong.clone())?;
        let entry = self.bytes.get(at..at + ENTRY_LEN).ok_or(wrong.clone())?;
        let (tag, expected) = entry.split_first_chunk::<16>().ok_or(wrong.clone())?;
        if digest(ciphertext, tag).as_bytes() == expected { Ok(Tag::from(*tag)) } else { Err(wrong) }
    }
}

fn digest(ciphertext: &[u8], tag: &[u8; 16]) -> blake3::Hash {
    blake3::Hasher::new().update(ciphertext).update(tag).finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_answers_for_its_own_chunks_only() {
        let bytes = [entry(b"one", &[1; 16]), entry(b"", &[2; 16])].concat();
        let digest = *blake3::hash(&bytes).as_bytes();
        let list = DigestList::open(7, bytes.clone(), 2, &digest).unwrap();
        assert_eq!(list.compare(0, b"one").unwrap().as_ref(), [1; 16]);
        assert_eq!(list.compare(1, b"").unwrap().as_ref(), [2; 16]);
        for (i, data) in [(0, &b""[..]), (1, b"one"), (2, b""), (u64::MAX, b"")] {
            assert_eq!(list.compare(i, data).map(|_| ()), Err(SealedError::BlobChunk(7, i)));
        }
        for (chunks, digest) in [(1, digest), (3, digest), (2, [0; 32])] {
            assert_eq!(DigestList::open(7, bytes.clone(), chunks, &digest).err(), Some(SealedError::BlobList(7)));
        }
    }
}
