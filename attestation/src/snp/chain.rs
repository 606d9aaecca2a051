//! Turns a leaf and the anchors of its product into the fact that the product's ASK or ASVK, under its ARK, issued the leaf.
//! It does not say whether that authority was revoked: `crl.rs` does.

use std::borrow::Cow;

use super::{
    LeafKind, Product,
    cache::Seen,
    leaf::Leaf,
    x509::{Certificate, Malformed},
};
use crate::{
    UnixTime, VerifyError,
    anchors::{SIMULATED_ASVK_NAME, SIMULATED_MARKER},
    lp,
};

/// The authorities of a product, compared with their pins and verified when the anchors were built.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) product: Product,
    pub(crate) ark: Ca,
    pub(crate) ask: Ca,
    pub(crate) asvk: Asvk,
}

/// How the issuer of loaded keys is known, whose certificate comes with the evidence.
#[derive(Debug)]
pub(crate) enum Asvk {
    /// By the SHA-256 of its DER.
    Pinned([u8; 32]),
    /// By the marker, its name, and the signature of the simulated ARK.
    Simulated,
}

/// What is needed of an authority's certificate.
#[derive(Debug, Clone)]
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

/// The authority that must have issued a leaf of this kind: the ASK of the anchors, or the ASVK that came along.
pub(crate) fn issuer<'r>(
    kind: LeafKind,
    asvk: &[u8],
    roots: &'r Roots,
    seen: &Seen<'_>,
) -> Result<Cow<'r, Ca>, VerifyError> {
    presence(kind, asvk)?;
    match kind {
        LeafKind::Vcek => Ok(Cow::Borrowed(&roots.ask)),
        LeafKind::Vlek => loaded_key_authority(asvk, roots, seen).map(Cow::Owned),
    }
}

fn presence(kind: LeafKind, asvk: &[u8]) -> Result<(), VerifyError> {
    match (kind, asvk.is_empty()) {
        (LeafKind::Vcek, false) => Err(VerifyError::AsvkUnexpected),
        (LeafKind::Vlek, true) => Err(VerifyError::AsvkMissing),
        _ => Ok(()),
    }
}

/// The ASVK: by pin or by marker, then by name, issuer and signature, under the ARK of the anchors.
fn loaded_key_authority(der: &[u8], roots: &Roots, seen: &Seen<'_>) -> Result<Ca, VerifyError> {
    if let Asvk::Pinned(sha256) = roots.asvk {
        pinned(der, &sha256)?;
    }
    let malformed = |Malformed| VerifyError::AsvkMalformed;
    let asvk = Certificate::parse(der).map_err(malformed)?;
    if asvk.has_duplicate_extension() {
        return Err(VerifyError::AsvkMalformed);
    }
    let name = match roots.asvk {
        Asvk::Pinned(_) => Cow::Owned(format!("SEV-VLEK-{}", roots.product)),
        Asvk::Simulated => {
            marked(&asvk)?;
            Cow::Borrowed(SIMULATED_ASVK_NAME)
        }
    };
    if asvk.common_name() != Ok(&*name) {
        return Err(VerifyError::AsvkName);
    }
    if !asvk.signed.is_pss_sha384() {
        return Err(VerifyError::AsvkAlgorithm);
    }
    if asvk.issuer != roots.ark.subject {
        return Err(VerifyError::AsvkIssuer);
    }
    seen.verify(&asvk.signed, &roots.ark.key).map_err(|_| VerifyError::AsvkSignature)?;
    Ca::new(&asvk).map_err(malformed)
}

fn pinned(der: &[u8], sha256: &[u8; 32]) -> Result<(), VerifyError> {
    if lp::sha256(der) != *sha256 {
        return Err(VerifyError::AsvkPin);
    }
    Ok(())
}

fn marked(asvk: &Certificate<'_>) -> Result<(), VerifyError> {
    if asvk.extension(SIMULATED_MARKER).is_none_or(|marker| marker.critical) {
        return Err(VerifyError::AsvkMarker);
    }
    Ok(())
}

/// Verifies leaf under its issuer, and every date: RFC 5280 section 6.1.3. The issuer under the ARK was verified before.
pub(crate) fn verify(
    leaf: &Leaf<'_>,
    issuer: &Ca,
    roots: &Roots,
    seen: &Seen<'_>,
    now: UnixTime,
) -> Result<(), VerifyError> {
    let leaf = &leaf.certificate;
    if leaf.issuer != issuer.subject {
        return Err(VerifyError::LeafIssuer);
    }
    seen.verify(&leaf.signed, &issuer.key).map_err(|_| VerifyError::LeafSignature)?;
    roots.ark.in_force(now)?;
    issuer.in_force(now)?;
    if now.0 < leaf.not_before {
        return Err(VerifyError::LeafNotYetValid);
    }
    if now.0 > leaf.not_after {
        return Err(VerifyError::LeafExpired);
    }
    Ok(())
}
