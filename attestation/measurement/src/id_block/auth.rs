//! Turns keys and signatures into the page that authenticates an ID block, and such a page back, every byte accounted for.
//! Whose keys these are is for its reader to know: a page always verifies under its own keys.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    IdBlock, decode,
    key::{FIELD, IdKey, USED, field, put_field},
};
use crate::{
    MeasurementError,
    bytes::{slice, u32_at},
};

/// ECDSA with P-384 and SHA-384 (AMD 56860, chapter on digital signatures, algorithm encodings).
const ECDSA_P384_SHA384: u32 = 1;
/// Offsets of the page (AMD 56860, SNP_LAUNCH_FINISH, ID authentication information).
const BLOCK_SIGNATURE: usize = 0x040;
/// The ID key.
const ID_KEY: usize = 0x240;
/// The author key's signature of the ID key.
const KEY_SIGNATURE: usize = 0x680;
/// The author key.
const AUTHOR_KEY: usize = 0x880;
/// A signature's place: two fields, zeros up to 512 bytes.
const SIGNATURE: usize = 0x200;

/// A key and what it signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Who signed.
    pub key: IdKey,
    /// r and s, big-endian: what ring calls "fixed".
    pub signature: [u8; 2 * USED],
}

/// The page: the ID key signs the block; an author key, where there is one, signs the ID key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdAuth {
    /// The ID key and its signature of the block.
    pub id: Signed,
    /// The author key and its signature of the ID key; a launch without one has no author.
    pub author: Option<Signed>,
}

impl IdAuth {
    /// How many bytes a page has.
    pub const SIZE: usize = 4096;

    /// The page.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let author_algorithm = if self.author.is_some() { ECDSA_P384_SHA384 } else { 0 };
        let mut page = Vec::with_capacity(Self::SIZE);
        page.extend_from_slice(&ECDSA_P384_SHA384.to_le_bytes());
        page.extend_from_slice(&author_algorithm.to_le_bytes());
        page.resize(BLOCK_SIGNATURE, 0);
        put_signature(&mut page, &self.id.signature);
        page.resize(ID_KEY, 0);
        page.extend(self.id.key.to_bytes());
        page.resize(KEY_SIGNATURE, 0);
        if let Some(author) = &self.author {
            put_signature(&mut page, &author.signature);
            page.resize(AUTHOR_KEY, 0);
            page.extend(author.key.to_bytes());
        }
        page.resize(Self::SIZE, 0);
        page
    }

    /// Reads a page: every byte that has no meaning must be zero.
    ///
    /// # Errors
    /// `ID_BLOCK_FORMAT`.
    pub fn parse(page: &[u8]) -> Result<Self, MeasurementError> {
        let bad = MeasurementError::IdBlock;
        let wrong = bad("an authentication page has 4,096 bytes");
        if page.len() != Self::SIZE {
            return Err(wrong);
        }
        if u32_at(page, 0) != Some(ECDSA_P384_SHA384) {
            return Err(bad("the ID key's algorithm is not ECDSA P-384 with SHA-384"));
        }
        let signed = |signature: usize, key: usize| {
            Ok(Signed {
                key: IdKey::parse(slice(page, key, IdKey::SIZE).ok_or(wrong)?)?,
                signature: read_signature(slice(page, signature, SIGNATURE).ok_or(wrong)?)?,
            })
        };
        let author = match u32_at(page, 4) {
            Some(0) => None,
            Some(ECDSA_P384_SHA384) => Some(signed(KEY_SIGNATURE, AUTHOR_KEY)?),
            _ => return Err(bad("the author key's algorithm is neither none nor ECDSA P-384 with SHA-384")),
        };
        let auth = Self { id: signed(BLOCK_SIGNATURE, ID_KEY)?, author };
        // Everything else: what we would write for these values is what must stand there.
        if auth.to_bytes() != page {
            return Err(bad("bytes without a meaning are not zero"));
        }
        Ok(auth)
    }

    /// Verifies the ID key's signature of the block, and the author key's of the ID key where there is one.
    ///
    /// # Errors
    /// `ID_BLOCK_SIGNATURE`, naming the key.
    pub fn verify(&self, block: &IdBlock) -> Result<(), MeasurementError> {
        let failed = |whose| move |_| MeasurementError::IdSignature(whose);
        self.id.key.verify(&block.to_bytes(), &self.id.signature).map_err(failed("ID"))?;
        match &self.author {
            Some(author) => author.key.verify(&self.id.key.to_bytes(), &author.signature).map_err(failed("author")),
            None => Ok(()),
        }
    }

    /// The page as QEMU's `id-auth` takes it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.to_bytes())
    }

    /// Reads a page in base64; white space at the ends is left out.
    ///
    /// # Errors
    /// `ID_BLOCK_FORMAT`.
    pub fn from_base64(text: &str) -> Result<Self, MeasurementError> {
        Self::parse(&decode(text)?)
    }
}

fn put_signature(out: &mut Vec<u8>, signature: &[u8; 2 * USED]) {
    for half in signature.as_chunks::<USED>().0 {
        put_field(out, half);
    }
}

fn read_signature(bytes: &[u8]) -> Result<[u8; 2 * USED], MeasurementError> {
    let mut signature = [0; 2 * USED];
    let (r, s) = signature.split_at_mut(USED);
    r.copy_from_slice(&field(bytes, 0)?);
    s.copy_from_slice(&field(bytes, FIELD)?);
    Ok(signature)
}
