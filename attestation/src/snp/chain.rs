//! Turns a leaf and the anchors of its product into the fact that the product's ASK, under its ARK, issued the leaf.
//! It does not say whether the ASK was revoked: `crl.rs` does.

use super::{
    Product,
    x509::{Certificate, Malformed},
};
use crate::{UnixTime, VerifyError};

/// The two authorities of a product, compared with their pins and verified when the anchors were built.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) product: Product,
    pub(crate) ark: Ca,
    pub(crate) ask: Ca,
}

/// What is needed of an authority's certificate.
#[derive(Debug)]
pub(crate) struct Ca {
    pub(crate) subject: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) key: Vec<u8>,
    not_before: u64,
    not_after: u64,
}

impl Ca {
    pub(crate) fn new(certificate: &Certificate<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            subject: certificate.subject.to_vec(),
            serial: certificate.serial.to_vec(),
            key: certificate.rsa_key()?.to_vec(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        })
    }

    fn in_force(&self, now: UnixTime) -> Result<(), VerifyError> {
        if now.0 < self.not_before {
            return Err(VerifyError::AnchorNotYetValid);
        }
        if now.0 > self.not_after {
            return Err(VerifyError::AnchorExpired);
        }
        Ok(())
    }
}

/// Verifies leaf under ASK, and every date: RFC 5280 section 6.1.3. ASK under ARK was verified with the anchors.
pub(crate) fn verify(leaf: &Certificate<'_>, roots: &Roots, now: UnixTime) -> Result<(), VerifyError> {
    if leaf.issuer != roots.ask.subject {
        return Err(VerifyError::LeafIssuer);
    }
    leaf.signed.verify(&roots.ask.key).map_err(|_| VerifyError::LeafSignature)?;
    roots.ark.in_force(now)?;
    roots.ask.in_force(now)?;
    if now.0 < leaf.not_before {
        return Err(VerifyError::LeafNotYetValid);
    }
    if now.0 > leaf.not_after {
        return Err(VerifyError::LeafExpired);
    }
    Ok(())
}
