//! Turns values into DER, tag by tag, without asking whether the result makes sense.
//! It refuses nothing: wrong certificates are made from the same pieces as right ones.

use std::time::Duration;

use der_07::{
    Encode,
    asn1::{GeneralizedTime, ObjectIdentifier, UtcTime},
    pem::{self, LineEnding},
};

use crate::SimulatorError;

type Result<T> = core::result::Result<T, SimulatorError>;

/// BOOLEAN.
pub const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// NULL.
pub const NULL: u8 = 0x05;
/// OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// ENUMERATED.
pub const ENUMERATED: u8 = 0x0a;
/// UTF8String.
pub const UTF8_STRING: u8 = 0x0c;
/// PrintableString.
pub const PRINTABLE_STRING: u8 = 0x13;
/// IA5String.
pub const IA5_STRING: u8 = 0x16;
/// SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// SET.
pub const SET: u8 = 0x31;

/// One element: tag, length, content.
#[must_use]
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        len @ 0..=0x7f => out.push(len as u8),
        len => {
            let bytes = len.to_be_bytes();
            let significant: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
            out.push(0x80 | significant.len() as u8);
            out.extend_from_slice(&significant);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A SEQUENCE of finished elements.
#[must_use]
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

/// `[number] EXPLICIT`.
#[must_use]
pub fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, content)
}

/// A non-negative INTEGER from its big-endian magnitude, in the shortest form.
#[must_use]
pub fn unsigned(magnitude: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = magnitude.iter().copied().skip_while(|b| *b == 0).collect();
    if content.first().is_none_or(|first| first & 0x80 != 0) {
        content.insert(0, 0);
    }
    tlv(INTEGER, &content)
}

/// A non-negative INTEGER.
#[must_use]
pub fn integer(value: u64) -> Vec<u8> {
    unsigned(&value.to_be_bytes())
}

/// A BIT STRING of whole bytes.
#[must_use]
pub fn bits(content: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], content].concat())
}

/// An OBJECT IDENTIFIER from its dotted form.
///
/// # Errors
/// `SIMULATOR_ROOT_MAKING` for text that is none.
pub fn oid(dotted: &str) -> Result<Vec<u8>> {
    let oid = ObjectIdentifier::new(dotted).map_err(|_| SimulatorError::RootMaking("an object identifier"))?;
    Ok(tlv(OID, oid.as_bytes()))
}

/// UTCTime, or GeneralizedTime from 2050 on: RFC 5280 section 4.1.2.5.
///
/// # Errors
/// `SIMULATOR_ROOT_MAKING` after the year 9999.
pub fn time(seconds: u64) -> Result<Vec<u8>> {
    let at = Duration::from_secs(seconds);
    let making = |_| SimulatorError::RootMaking("a date");
    match UtcTime::from_unix_duration(at) {
        Ok(time) => time.to_der().map_err(making),
        Err(_) => GeneralizedTime::from_unix_duration(at).and_then(|time| time.to_der()).map_err(making),
    }
}

/// A certificate as PEM.
///
/// # Errors
/// `SIMULATOR_ROOT_MAKING`, which only a huge certificate can cause.
pub fn certificate_pem(der: &[u8]) -> Result<String> {
    pem::encode_string("CERTIFICATE", LineEnding::LF, der).map_err(|_| SimulatorError::RootMaking("a certificate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_integers_are_the_shortest() {
        assert_eq!(tlv(OCTET_STRING, &[7; 3]), [4, 3, 7, 7, 7]);
        assert_eq!(tlv(OCTET_STRING, &[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(tlv(OCTET_STRING, &[0; 0x123])[..4], [4, 0x82, 1, 0x23]);
        assert_eq!(integer(0), [2, 1, 0]);
        assert_eq!(integer(0x80), [2, 2, 0, 0x80]);
        assert_eq!(integer(0x2_0002), [2, 3, 2, 0, 2]);
        assert_eq!(oid("2.5.29.20").unwrap(), [6, 3, 0x55, 0x1d, 0x14]);
        assert_eq!(time(1_772_323_200).unwrap(), b"\x17\x0d260301000000Z");
        assert_eq!(time(4_000_000_000).unwrap()[..2], [0x18, 15]);
        assert!(oid("9.9.9").is_err());
    }
}
