//! Turns a launch digest and finished signatures into the ID block and its authentication page, and back with the signatures verified.
//! It holds no private key and cannot sign; that the launch digest is this one, the secure processor compares, not this code.
//!
//! Formats: AMD SEV Secure Nested Paging Firmware ABI Specification (56860), section SNP_LAUNCH_FINISH, the structures of the ID
//! block and of the ID authentication information, and the chapter on digital signatures for keys and signatures. Numbers are
//! little-endian. The secure processor refuses to start a guest whose launch digest or guest policy is not the block's, and puts
//! the SHA-384 of both public keys into every report (`ID_KEY_DIGEST`, `AUTHOR_KEY_DIGEST`).

mod auth;
mod key;

pub use auth::{IdAuth, Signed};
pub use key::IdKey;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    MeasurementError,
    bytes::{array, u32_at, u64_at},
};

/// The only version of the block.
const VERSION: u32 = 1;

/// What a guest must be, for the secure processor to start it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBlock {
    /// The launch digest.
    pub launch_digest: [u8; 48],
    /// The owner's name for the family of guests; the firmware does not interpret it.
    pub family_id: [u8; 16],
    /// The owner's name for the image; the firmware does not interpret it.
    pub image_id: [u8; 16],
    /// The owner's version of the guest: it stands in every report as GUEST_SVN.
    pub guest_svn: u32,
    /// The guest policy that the launch must have.
    pub policy: u64,
}

impl IdBlock {
    /// How many bytes a block has.
    pub const SIZE: usize = 96;

    /// The bytes that are signed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::SIZE);
        bytes.extend_from_slice(&self.launch_digest);
        bytes.extend_from_slice(&self.family_id);
        bytes.extend_from_slice(&self.image_id);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.guest_svn.to_le_bytes());
        bytes.extend_from_slice(&self.policy.to_le_bytes());
        bytes
    }

    /// Reads a block.
    ///
    /// # Errors
    /// `ID_BLOCK_FORMAT`.
    pub fn parse(bytes: &[u8]) -> Result<Self, MeasurementError> {
        let wrong = MeasurementError::IdBlock("an ID block has 96 bytes");
        if bytes.len() != Self::SIZE {
            return Err(wrong);
        }
        if u32_at(bytes, 0x50) != Some(VERSION) {
            return Err(MeasurementError::IdBlock("the block's version is not 1"));
        }
        Ok(Self {
            launch_digest: array(bytes, 0).ok_or(wrong)?,
            family_id: array(bytes, 0x30).ok_or(wrong)?,
            image_id: array(bytes, 0x40).ok_or(wrong)?,
            guest_svn: u32_at(bytes, 0x54).ok_or(wrong)?,
            policy: u64_at(bytes, 0x58).ok_or(wrong)?,
        })
    }

    /// The block as QEMU's `id-block` takes it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.to_bytes())
    }

    /// Reads a block in base64; white space at the ends is left out.
    ///
    /// # Errors
    /// `ID_BLOCK_FORMAT`.
    pub fn from_base64(text: &str) -> Result<Self, MeasurementError> {
        Self::parse(&decode(text)?)
    }
}

/// Base64 of at most one page.
fn decode(text: &str) -> Result<Vec<u8>, MeasurementError> {
    let text = text.trim_ascii();
    if text.len() > IdAuth::SIZE * 2 {
        return Err(MeasurementError::IdBlock("it is longer than an authentication page"));
    }
    STANDARD.decode(text).map_err(|_| MeasurementError::IdBlock("it is not base64"))
}

#[cfg(test)]
mod tests;
