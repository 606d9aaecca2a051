//! Turns a point of the curve P-384 into the key structure that the secure processor hashes, and back.
//! It is a public key: nothing here can sign.

use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use vouchsafe_attestation::lp;

use crate::{MeasurementError, bytes::array, bytes::u32_at};

/// P-384's number (AMD 56860, chapter on digital signatures, curve identifiers).
const CURVE_P384: u32 = 2;
/// A coordinate, and each half of a signature: 48 bytes used of 72, little-endian (same chapter).
pub(super) const FIELD: usize = 72;
/// A coordinate's bytes.
pub(super) const USED: usize = 48;

/// A public ID key or author key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdKey {
    x: [u8; USED],
    y: [u8; USED],
}

impl IdKey {
    /// Curve, two coordinates, zeros.
    pub const SIZE: usize = 0x404;

    /// From an uncompressed point: 0x04 and both coordinates, big-endian. That it lies on the curve is seen when it verifies.
    ///
    /// # Errors
    /// `ID_BLOCK_FORMAT`.
    pub fn from_point(point: &[u8]) -> Result<Self, MeasurementError> {
        let wrong = MeasurementError::IdBlock("a public key is no uncompressed point of P-384");
        if point.len() != 1 + 2 * USED || point.first() != Some(&4) {
            return Err(wrong);
        }
        Ok(Self { x: array(point, 1).ok_or(wrong)?, y: array(point, 1 + USED).ok_or(wrong)? })
    }

    /// The structure as it stands in the page: what an author key signs and what a report's digest is over.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = CURVE_P384.to_le_bytes().to_vec();
        put_field(&mut bytes, &self.x);
        put_field(&mut bytes, &self.y);
        bytes.resize(Self::SIZE, 0);
        bytes
    }

    /// SHA-384 of [`Self::to_bytes`]: a report's ID_KEY_DIGEST or AUTHOR_KEY_DIGEST.
    #[must_use]
    pub fn digest(&self) -> [u8; 48] {
        lp::sha384(&self.to_bytes())
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, MeasurementError> {
        let bad = MeasurementError::IdBlock;
        if bytes.len() != Self::SIZE || u32_at(bytes, 0) != Some(CURVE_P384) {
            return Err(bad("a public key is not of the curve P-384"));
        }
        if bytes.iter().skip(4 + 2 * FIELD).any(|byte| *byte != 0) {
            return Err(bad("a public key's reserved bytes are not zero"));
        }
        Ok(Self { x: field(bytes, 4)?, y: field(bytes, 4 + FIELD)? })
    }

    /// Verifies an ECDSA signature with SHA-384; `signature` is r and s, big-endian.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8; 2 * USED]) -> Result<(), ring::error::Unspecified> {
        let mut point = vec![4];
        point.extend_from_slice(&self.x);
        point.extend_from_slice(&self.y);
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
    }
}

/// Appends a big-endian number as a little-endian field.
pub(super) fn put_field(out: &mut Vec<u8>, number: &[u8; USED]) {
    out.extend(number.iter().rev());
    out.extend([0; FIELD - USED]);
}

/// Reads a little-endian field as a big-endian number.
pub(super) fn field(bytes: &[u8], at: usize) -> Result<[u8; USED], MeasurementError> {
    let field: [u8; FIELD] = array(bytes, at).ok_or(MeasurementError::IdBlock("it is cut"))?;
    let (used, rest) = field.split_at(USED);
    if rest.iter().any(|byte| *byte != 0) {
        return Err(MeasurementError::IdBlock("a number is longer than 384 bits"));
    }
    let mut number = [0; USED];
    for (place, byte) in number.iter_mut().zip(used.iter().rev()) {
        *place = *byte;
    }
    Ok(number)
}
