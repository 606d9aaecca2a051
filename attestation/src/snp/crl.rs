//! Turns the bytes of a revocation list into the fact that the leaf's issuer stood unrevoked in a current list of its ARK.
//! It does not say whether the list is the newest: its number and age are the policy's word.

use der::{Decode, Tag, asn1::ObjectIdentifier};

use super::{
    LeafKind,
    cache::Seen,
    chain::{Ca, Roots},
    x509::{Fields, Malformed, Signed, extensions, has_duplicate},
};
use crate::{UnixTime, VerifyError};

/// Which revocation list was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrlFacts {
    /// The list's number: grows with every list.
    pub number: u64,
    /// When it was issued.
    pub this_update: UnixTime,
    /// When the next one is due.
    pub next_update: UnixTime,
}

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");

/// The pieces of a list: RFC 5280 section 5.1.
struct Crl<'a> {
    signed: Signed<'a>,
    issuer: &'a [u8],
    facts: CrlFacts,
    revoked: bool,
    critical: bool,
}

/// Verifies issuer, signature and window, and looks up the leaf's issuer: ASK or ASVK.
///
/// Leaf serials are always 0 and cannot be revoked one by one. AMD publishes one list beside VCEKs and one beside VLEKs,
/// both of the ARK. Nothing in a list tells which it is, and without an issuing distribution point each is by RFC 5280
/// section 5.2.5 a list of everything that the ARK issued: either is accepted for either kind of leaf.
pub(crate) fn verify(
    der: &[u8],
    roots: &Roots,
    kind: LeafKind,
    issuer: &Ca,
    seen: &Seen<'_>,
    now: UnixTime,
) -> Result<CrlFacts, VerifyError> {
    let crl = parse(der, &issuer.serial).map_err(|Malformed| VerifyError::CrlMalformed)?;
    if !crl.signed.is_pss_sha384() {
        return Err(VerifyError::CrlAlgorithm);
    }
    if crl.critical {
        // Delta and indirect lists, or something newer: RFC 5280 section 5.2.
        return Err(VerifyError::CrlExtensionCritical);
    }
    if crl.issuer != roots.ark.subject {
        return Err(VerifyError::CrlIssuer);
    }
    seen.verify(&crl.signed, &roots.ark.key).map_err(|_| VerifyError::CrlSignature)?;
    if now < crl.facts.this_update {
        return Err(VerifyError::CrlNotYetValid);
    }
    if now > crl.facts.next_update {
        return Err(VerifyError::CrlExpired);
    }
    standing(crl.revoked, kind)?;
    Ok(crl.facts)
}

fn standing(revoked: bool, kind: LeafKind) -> Result<(), VerifyError> {
    match (revoked, kind) {
        (true, LeafKind::Vcek) => Err(VerifyError::AskRevoked),
        (true, LeafKind::Vlek) => Err(VerifyError::AsvkRevoked),
        (false, _) => Ok(()),
    }
}

/// Reads a list, and whether this serial number stands in it.
fn parse<'a>(der: &'a [u8], serial: &[u8]) -> Result<Crl<'a>, Malformed> {
    let signed = Signed::parse(der)?;
    let mut tbs = Fields::of(Tag::Sequence, signed.content)?;
    // Version 2 is written as 1.
    if tbs.raw(Tag::Integer)? != [0x02, 0x01, 0x01] || tbs.raw(Tag::Sequence)? != signed.algorithm {
        return Err(Malformed);
    }
    let issuer = tbs.raw(Tag::Sequence)?;
    let (this_update, next_update) = (UnixTime(tbs.time()?), UnixTime(tbs.time()?));
    let mut critical = false;
    let mut revoked = false;
    if tbs.peek() == Some(Tag::Sequence) {
        let mut list = Fields::of(Tag::Sequence, tbs.raw(Tag::Sequence)?)?;
        while !list.is_finished() {
            let mut entry = Fields::of(Tag::Sequence, list.raw(Tag::Sequence)?)?;
            revoked |= entry.raw(Tag::Integer)? == serial;
            entry.time()?;
            if !entry.is_finished() {
                critical |= extensions(entry.raw(Tag::Sequence)?)?.iter().any(|e| e.critical);
            }
            entry.end()?;
        }
    }
    let extensions = extensions(tbs.explicit(0)?)?;
    tbs.end()?;
    if has_duplicate(&extensions) {
        return Err(Malformed);
    }
    critical |= extensions.iter().any(|e| e.critical);
    let number = extensions.iter().find(|e| e.id == CRL_NUMBER).ok_or(Malformed)?;
    let number = u64::from_der(number.value)?;
    Ok(Crl { signed, issuer, facts: CrlFacts { number, this_update, next_update }, revoked, critical })
}
