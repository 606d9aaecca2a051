//! Turns the SGX extension of a PCK certificate into the identity and the level of one platform.
//! It does not say that Intel issued the certificate: the chain does.
//!
//! Document: Intel, "SGX PCK Certificate and Certificate Revocation List Profile Specification", rev 1.5, section 1.3.5.

use der::{AnyRef, Decode, Reader, SliceReader, Tag, Tagged, asn1::ObjectIdentifier};

use super::{PckFlag, TdxError};
use crate::snp::x509::{Certificate, Fields, Malformed};

const SGX: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");
const PPID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.1");
const TCB: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2");
const PCE_SVN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2.17");
const CPU_SVN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2.18");
const PCE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.3");
const FMSPC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.4");
const SGX_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.5");
const INSTANCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.6");
const CONFIGURATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7");
const DYNAMIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.1");
const CACHED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.2");
const SMT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.3");

/// The TCB has 18 members, everything else fewer.
const MAX_MEMBERS: usize = 32;

/// What a PCK certificate says of its platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Platform {
    pub(crate) ppid: [u8; 16],
    pub(crate) cpu_svn: [u8; 16],
    pub(crate) pce_svn: u16,
    pub(crate) pce_id: [u8; 2],
    pub(crate) fmspc: [u8; 6],
    pub(crate) instance: Option<[u8; 16]>,
    pub(crate) dynamic: PckFlag,
    pub(crate) cached: PckFlag,
    pub(crate) smt: PckFlag,
}

/// Reads the extension: every member at most once, every value canonical, CPUSVN equal to the sixteen components.
pub(crate) fn read(certificate: &Certificate<'_>) -> Result<Platform, TdxError> {
    if certificate.has_duplicate_extension() {
        return Err(TdxError::PckExtensionDuplicate);
    }
    let sgx = certificate.extension(SGX).ok_or(TdxError::PckExtensionMissing)?;
    let members = Members::of(sgx.value)?;
    let tcb = Members::of(members.required(TCB)?)?;
    let cpu_svn = octets(tcb.required(CPU_SVN)?)?;
    components(&tcb, &cpu_svn)?;
    enumerated(members.required(SGX_TYPE)?)?;
    let flags = members.optional(CONFIGURATION).map(Members::of).transpose()?;
    let flag = |oid| flags.as_ref().and_then(|flags| flags.optional(oid)).map_or(Ok(PckFlag::Undefined), boolean);
    Ok(Platform {
        ppid: octets(members.required(PPID)?)?,
        cpu_svn,
        pce_svn: integer(tcb.required(PCE_SVN)?)?,
        pce_id: octets(members.required(PCE_ID)?)?,
        fmspc: octets(members.required(FMSPC)?)?,
        instance: members.optional(INSTANCE).map(octets).transpose()?,
        dynamic: flag(DYNAMIC)?,
        cached: flag(CACHED)?,
        smt: flag(SMT)?,
    })
}

/// Intel compares the components, dcap-qvl the bytes of CPUSVN: they must say the same.
fn components(tcb: &Members<'_>, cpu_svn: &[u8; 16]) -> Result<(), TdxError> {
    for (number, svn) in (1u32..).zip(cpu_svn) {
        let oid = TCB.push_arc(number).map_err(|_| TdxError::PckExtensionValue)?;
        if integer(tcb.required(oid)?)? != u16::from(*svn) {
            return Err(TdxError::PckCpuSvn);
        }
    }
    Ok(())
}

/// SEQUENCE OF SEQUENCE { identifier, value }.
struct Members<'a>(Vec<(ObjectIdentifier, &'a [u8])>);

impl<'a> Members<'a> {
    fn of(der: &'a [u8]) -> Result<Self, TdxError> {
        let members = Self::parse(der).map_err(|Malformed| TdxError::PckExtensionValue)?;
        let twice = |(i, (oid, _)): (usize, &(ObjectIdentifier, _))| members.iter().take(i).any(|(o, _)| o == oid);
        if members.iter().enumerate().any(twice) {
            return Err(TdxError::PckExtensionDuplicate);
        }
        Ok(Self(members))
    }

    fn parse(der: &'a [u8]) -> Result<Vec<(ObjectIdentifier, &'a [u8])>, Malformed> {
        let mut members = Vec::new();
        let mut list = Fields::of(Tag::Sequence, der)?;
        while !list.is_finished() {
            let member = AnyRef::from_der(list.raw(Tag::Sequence)?)?;
            let mut reader = SliceReader::new(member.value())?;
            let oid = ObjectIdentifier::from_der(reader.tlv_bytes()?)?;
            members.push((oid, reader.tlv_bytes()?));
            if !reader.is_finished() || members.len() > MAX_MEMBERS {
                return Err(Malformed);
            }
        }
        Ok(members)
    }

    fn optional(&self, oid: ObjectIdentifier) -> Option<&'a [u8]> {
        self.0.iter().find(|(o, _)| *o == oid).map(|(_, value)| *value)
    }

    fn required(&self, oid: ObjectIdentifier) -> Result<&'a [u8], TdxError> {
        self.optional(oid).ok_or(TdxError::PckExtensionMissing)
    }
}

/// An OCTET STRING of exactly this length.
fn octets<const N: usize>(der: &[u8]) -> Result<[u8; N], TdxError> {
    let any = AnyRef::from_der(der).map_err(|_| TdxError::PckExtensionValue)?;
    let value = <[u8; N]>::try_from(any.value()).map_err(|_| TdxError::PckExtensionValue)?;
    if any.tag() == Tag::OctetString { Ok(value) } else { Err(TdxError::PckExtensionValue) }
}

/// A canonical INTEGER from 0 to 32767.
fn integer(der: &[u8]) -> Result<u16, TdxError> {
    match der {
        [0x02, 0x01, low @ 0x00..=0x7f] => Ok(u16::from(*low)),
        [0x02, 0x02, 0x00, low @ 0x80..=0xff] => Ok(u16::from(*low)),
        [0x02, 0x02, high @ 0x01..=0x7f, low] => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(TdxError::PckExtensionValue),
    }
}

/// Standard, scalable, scalable with integrity: 0 to 2.
fn enumerated(der: &[u8]) -> Result<(), TdxError> {
    if matches!(der, [0x0a, 0x01, 0..=2]) { Ok(()) } else { Err(TdxError::PckExtensionValue) }
}

fn boolean(der: &[u8]) -> Result<PckFlag, TdxError> {
    match der {
        [0x01, 0x01, 0x00] => Ok(PckFlag::No),
        [0x01, 0x01, 0xff] => Ok(PckFlag::Yes),
        _ => Err(TdxError::PckExtensionValue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_values_are_read() {
        assert_eq!(integer(&[2, 1, 5]), Ok(5));
        assert_eq!(integer(&[2, 2, 0, 0x80]), Ok(0x80));
        assert_eq!(integer(&[2, 2, 1, 0]), Ok(0x100));
        for bad in [&[2, 1, 0x80][..], &[2, 2, 0, 1], &[2, 2, 0x80, 0], &[2, 3, 0, 0x80, 0], &[4, 1, 5], &[2, 0], &[]] {
            assert_eq!(integer(bad), Err(TdxError::PckExtensionValue));
        }
        assert_eq!(boolean(&[1, 1, 0xff]), Ok(PckFlag::Yes));
        assert_eq!(boolean(&[1, 1, 0]), Ok(PckFlag::No));
        assert!(boolean(&[1, 1, 1]).is_err());
        assert_eq!(octets(&[4, 2, 7, 8]), Ok([7, 8]));
        assert!(octets::<2>(&[4, 1, 7]).is_err());
        assert!(octets::<2>(&[3, 2, 7, 8]).is_err());
        assert_eq!(enumerated(&[10, 1, 2]), Ok(()));
        assert!(enumerated(&[10, 1, 3]).is_err());
    }
}
