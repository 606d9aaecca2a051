//! Turns the bytes of a revocation list into the fact that the product's ASK stood unrevoked in a current list of its ARK.
//! It does not say whether the list is the newest: its number and age are the policy's word.

use der::{Decode, Tag, asn1::ObjectIdentifier};
use x509_cert::ext::Extension;

use super::{
    chain::Roots,
    x509::{Fields, Malformed, Signed, has_duplicate},
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
    revoked: Vec<&'a [u8]>,
    critical: bool,
}

/// Verifies issuer, signature and window, and looks up the ASK. Leaf serials are always 0 and cannot be revoked one by one.
pub(crate) fn verify(der: &[u8], roots: &Roots, now: UnixTime) -> Result<CrlFacts, VerifyError> {
    let crl = parse(der).map_err(|Malformed| VerifyError::CrlMalformed)?;
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
    crl.signed.verify(&roots.ark.key).map_err(|_| VerifyError::CrlSignature)?;
    if now < crl.facts.this_update {
        return Err(VerifyError::CrlNotYetValid);
    }
    if now > crl.facts.next_update {
        return Err(VerifyError::CrlExpired);
    }
    if crl.revoked.contains(&roots.ask.serial.as_slice()) {
        return Err(VerifyError::AskRevoked);
    }
    Ok(crl.facts)
}

fn parse(der: &[u8]) -> Result<Crl<'_>, Malformed> {
    let signed = Signed::parse(der)?;
    let mut tbs = Fields::of(Tag::Sequence, signed.content)?;
    // Version 2 is written as 1.
    if tbs.raw(Tag::Integer)? != [0x02, 0x01, 0x01] || tbs.raw(Tag::Sequence)? != signed.algorithm {
        return Err(Malformed);
    }
    let issuer = tbs.raw(Tag::Sequence)?;
    let (this_update, next_update) = (UnixTime(tbs.time()?), UnixTime(tbs.time()?));
    let mut critical = false;
    let mut revoked = Vec::new();
    if tbs.peek() == Some(Tag::Sequence) {
        let mut list = Fields::of(Tag::Sequence, tbs.raw(Tag::Sequence)?)?;
        while !list.is_finished() {
            let mut entry = Fields::of(Tag::Sequence, list.raw(Tag::Sequence)?)?;
            revoked.push(entry.raw(Tag::Integer)?);
            entry.time()?;
            if !entry.is_finished() {
                critical |= Vec::<Extension>::from_der(entry.raw(Tag::Sequence)?)?.iter().any(|e| e.critical);
            }
            entry.end()?;
        }
    }
    let extensions = Vec::<Extension>::from_der(tbs.explicit(0)?)?;
    tbs.end()?;
    if has_duplicate(&extensions) {
        return Err(Malformed);
    }
    critical |= extensions.iter().any(|e| e.critical);
    let number = extensions.iter().find(|e| e.extn_id == CRL_NUMBER).ok_or(Malformed)?;
    let number = u64::from_der(number.extn_value.as_bytes())?;
    Ok(Crl { signed, issuer, facts: CrlFacts { number, this_update, next_update }, revoked, critical })
}
