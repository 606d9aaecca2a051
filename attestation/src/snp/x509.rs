//! Turns DER into the raw pieces of a certificate or revocation list, each a slice of the bytes received.
//! It establishes no trust: [`Signed::verify`] must be called with an anchor's key.

use der::{
    AnyRef, Decode, Reader, SliceReader, Tag, Tagged,
    asn1::{BitStringRef, ObjectIdentifier, UintRef},
};
use ring::signature::{ECDSA_P256_SHA256_ASN1, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use x509_cert::time::Time;

/// The bytes are not the DER that they should be. Callers name whose bytes they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl From<der::Error> for Malformed {
    fn from(_: der::Error) -> Self {
        Self
    }
}

/// RSASSA-PSS with SHA-384, MGF1 SHA-384, salt 48: trailerField absent, as DER wants a default (newer AMD leaves).
const PSS_SHA384: &[u8] = &[
    0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34, 0xa0, 0x0f, 0x30, 0x0d,
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09,
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
    0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30,
];

/// The same with trailerField 1 written out, as AMD's authorities and older leaves have it.
const PSS_SHA384_TRAILER: &[u8] = &[
    0x30, 0x46, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x39, 0xa0, 0x0f, 0x30, 0x0d,
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09,
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
    0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30, 0xa3, 0x03, 0x02, 0x01, 0x01,
];

/// AlgorithmIdentifier of an EC key on P-384.
const EC_P384: &[u8] =
    &[0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// AlgorithmIdentifier of an RSA key.
const RSA: &[u8] = &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// ECDSA with SHA-256, as the roots of TDX are signed.
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// AlgorithmIdentifier of an EC key on P-256.
const EC_P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// SEQUENCE { content, AlgorithmIdentifier, BIT STRING }: RFC 5280 sections 4.1 and 5.1.
#[derive(Debug)]
pub(crate) struct Signed<'a> {
    /// The signed content with its header, as received.
    pub(crate) content: &'a [u8],
    /// The algorithm, compared with the one inside the content by the parsers below.
    pub(crate) algorithm: &'a [u8],
    signature: &'a [u8],
}

/// The pieces of a certificate.
#[derive(Debug)]
pub(crate) struct Certificate<'a> {
    pub(crate) signed: Signed<'a>,
    pub(crate) serial: &'a [u8],
    pub(crate) issuer: &'a [u8],
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
    pub(crate) subject: &'a [u8],
    pub(crate) spki: &'a [u8],
    pub(crate) extensions: Vec<Extension<'a>>,
}

/// One extension of a certificate or list, its value as received: RFC 5280 section 4.2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extension<'a> {
    pub(crate) id: ObjectIdentifier,
    pub(crate) critical: bool,
    pub(crate) value: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut parts = Fields::of(Tag::Sequence, der)?;
        let signed = Self {
            content: parts.raw(Tag::Sequence)?,
            algorithm: parts.raw(Tag::Sequence)?,
            signature: bit_string(parts.raw(Tag::BitString)?)?,
        };
        parts.end()?;
        Ok(signed)
    }

    /// Whether the algorithm is RSASSA-PSS with SHA-384 in one of the two encodings found in genuine certificates.
    pub(crate) fn is_pss_sha384(&self) -> bool {
        self.algorithm == PSS_SHA384 || self.algorithm == PSS_SHA384_TRAILER
    }

    /// Verifies the signature over the content as received.
    pub(crate) fn verify(&self, rsa_public_key: &[u8]) -> Result<(), ring::error::Unspecified> {
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, rsa_public_key).verify(self.content, self.signature)
    }

    /// Whether the algorithm is ECDSA with SHA-256.
    pub(crate) fn is_ecdsa_sha256(&self) -> bool {
        self.algorithm == ECDSA_SHA256
    }

    /// Verifies an ECDSA signature by a P-256 key over the content as received.
    pub(crate) fn verify_p256(&self, point: &[u8]) -> Result<(), ring::error::Unspecified> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(self.content, self.signature)
    }
}

impl<'a> Certificate<'a> {
    /// Reads a version 3 certificate: RFC 5280 section 4.1.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Malformed> {
        let signed = Signed::parse(der)?;
        let mut tbs = Fields::of(Tag::Sequence, signed.content)?;
        if tbs.explicit(0)? != [0x02, 0x01, 0x02] {
            return Err(Malformed);
        }
        let serial = tbs.raw(Tag::Integer)?;
        UintRef::from_der(serial)?;
        if tbs.raw(Tag::Sequence)? != signed.algorithm {
            return Err(Malformed);
        }
        let issuer = tbs.raw(Tag::Sequence)?;
        let mut validity = Fields::of(Tag::Sequence, tbs.raw(Tag::Sequence)?)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        validity.end()?;
        let subject = tbs.raw(Tag::Sequence)?;
        let spki = tbs.raw(Tag::Sequence)?;
        let extensions = extensions(tbs.explicit(3)?)?;
        tbs.end()?;
        Ok(Self { signed, serial, issuer, not_before, not_after, subject, spki, extensions })
    }

    /// The one common name of the subject.
    pub(crate) fn common_name(&self) -> Result<&'a str, Malformed> {
        let mut found = None;
        let mut name = Fields::of(Tag::Sequence, self.subject)?;
        while !name.is_finished() {
            let mut set = Fields::of(Tag::Set, name.raw(Tag::Set)?)?;
            let mut attribute = Fields::of(Tag::Sequence, set.raw(Tag::Sequence)?)?;
            set.end()?;
            let oid = ObjectIdentifier::from_der(attribute.raw(Tag::ObjectIdentifier)?)?;
            let text = AnyRef::from_der(attribute.0.tlv_bytes()?)?;
            attribute.end()?;
            if oid == COMMON_NAME {
                if !matches!(text.tag(), Tag::Utf8String | Tag::PrintableString) || found.is_some() {
                    return Err(Malformed);
                }
                found = Some(core::str::from_utf8(text.value()).map_err(|_| Malformed)?);
            }
        }
        found.ok_or(Malformed)
    }

    /// The first extension with this identifier; callers refuse duplicates first.
    pub(crate) fn extension(&self, oid: ObjectIdentifier) -> Option<&Extension<'a>> {
        self.extensions.iter().find(|e| e.id == oid)
    }

    /// Whether some extension occurs twice (RFC 5280 section 4.2 forbids it).
    pub(crate) fn has_duplicate_extension(&self) -> bool {
        has_duplicate(&self.extensions)
    }

    /// The RSAPublicKey inside the key information.
    pub(crate) fn rsa_key(&self) -> Result<&'a [u8], Malformed> {
        self.key(RSA)
    }

    /// The uncompressed P-384 point inside the key information: 0x04 and two coordinates of 48 bytes.
    pub(crate) fn p384_key(&self) -> Result<&'a [u8], Malformed> {
        match self.key(EC_P384)? {
            point @ [0x04, ..] if point.len() == 97 => Ok(point),
            _ => Err(Malformed),
        }
    }

    /// The uncompressed P-256 point inside the key information.
    pub(crate) fn p256_key(&self) -> Result<&'a [u8], Malformed> {
        match self.key(EC_P256)? {
            point @ [0x04, ..] if point.len() == 65 => Ok(point),
            _ => Err(Malformed),
        }
    }

    fn key(&self, algorithm: &[u8]) -> Result<&'a [u8], Malformed> {
        let mut spki = Fields::of(Tag::Sequence, self.spki)?;
        if spki.raw(Tag::Sequence)? != algorithm {
            return Err(Malformed);
        }
        let key = bit_string(spki.raw(Tag::BitString)?)?;
        spki.end()?;
        Ok(key)
    }
}

/// Genuine leaves have 14 extensions, lists one or two: nothing is kept of more than this.
const MAX_EXTENSIONS: usize = 32;

/// Whether one extension occurs twice.
pub(crate) fn has_duplicate(extensions: &[Extension<'_>]) -> bool {
    extensions.iter().enumerate().any(|(i, e)| extensions.iter().take(i).any(|other| other.id == e.id))
}

/// The elements of Extensions, in order: RFC 5280 section 4.1.
pub(crate) fn extensions(der: &[u8]) -> Result<Vec<Extension<'_>>, Malformed> {
    let mut list = Fields::of(Tag::Sequence, der)?;
    let mut found = Vec::with_capacity(16);
    while !list.is_finished() {
        if found.len() == MAX_EXTENSIONS {
            return Err(Malformed);
        }
        let mut one = Fields::of(Tag::Sequence, list.raw(Tag::Sequence)?)?;
        let id = ObjectIdentifier::from_der(one.raw(Tag::ObjectIdentifier)?)?;
        // DEFAULT FALSE: written out only when true.
        let critical = one.peek() == Some(Tag::Boolean);
        if critical && one.raw(Tag::Boolean)? != [0x01, 0x01, 0xff] {
            return Err(Malformed);
        }
        let value = AnyRef::from_der(one.raw(Tag::OctetString)?)?.value();
        one.end()?;
        found.push(Extension { id, critical, value });
    }
    Ok(found)
}

/// The elements of a constructed value, one after the other.
pub(crate) struct Fields<'a>(SliceReader<'a>);

impl<'a> Fields<'a> {
    /// Opens exactly one element with this tag and nothing after it.
    pub(crate) fn of(tag: Tag, der: &'a [u8]) -> Result<Self, Malformed> {
        let any = AnyRef::from_der(der)?;
        if any.tag() != tag {
            return Err(Malformed);
        }
        Ok(Self(SliceReader::new(any.value())?))
    }

    /// The next element with its header, when it has this tag.
    pub(crate) fn raw(&mut self, tag: Tag) -> Result<&'a [u8], Malformed> {
        if self.peek() != Some(tag) {
            return Err(Malformed);
        }
        Ok(self.0.tlv_bytes()?)
    }

    /// The content of the next element, when it is `[number] EXPLICIT`.
    pub(crate) fn explicit(&mut self, number: u8) -> Result<&'a [u8], Malformed> {
        let any = AnyRef::decode(&mut self.0)?;
        let expected = Tag::ContextSpecific { constructed: true, number: der::TagNumber(number.into()) };
        if any.tag() != expected {
            return Err(Malformed);
        }
        Ok(any.value())
    }

    /// The next element as seconds since 1970: UTCTime or GeneralizedTime.
    pub(crate) fn time(&mut self) -> Result<u64, Malformed> {
        Ok(Time::from_der(self.0.tlv_bytes()?)?.to_unix_duration().as_secs())
    }

    /// The tag of the next element, if there is one.
    pub(crate) fn peek(&self) -> Option<Tag> {
        Tag::peek(&self.0).ok()
    }

    /// Whether nothing is left.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.is_finished() { Ok(()) } else { Err(Malformed) }
    }
}

fn bit_string(der: &[u8]) -> Result<&[u8], Malformed> {
    BitStringRef::from_der(der)?.as_bytes().ok_or(Malformed)
}
