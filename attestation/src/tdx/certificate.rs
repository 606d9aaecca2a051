//! Turns PEM chains and DER revocation lists into the pieces of certificates and lists, each a slice of the bytes received.
//! It establishes no trust: whose signature they carry is another question.

use der::{
    Decode, Document, Tag,
    asn1::{ObjectIdentifier, UintRef},
};

use crate::snp::x509::{Fields, Malformed, Signed, extensions, has_duplicate};

/// Leaf, authority, root: no genuine chain is longer.
const MAX_CHAIN: usize = 3;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");

/// Splits a chain into DER certificates: `min` to three, one after the other, with nothing before, between or behind
/// but line ends and the one zero byte that Intel's library puts behind a chain in a quote.
///
/// Strict, so that no other reader can find other certificates in the same text.
pub(crate) fn split(pem: &[u8], min: usize) -> Result<Vec<Vec<u8>>, Malformed> {
    let text = core::str::from_utf8(pem.strip_suffix(&[0]).unwrap_or(pem)).map_err(|_| Malformed)?;
    let mut found = Vec::with_capacity(MAX_CHAIN);
    let mut rest = text.trim_end_matches('\n');
    while !rest.is_empty() {
        let end = rest.find(END).ok_or(Malformed)? + END.len();
        let (one, tail) = rest.split_at_checked(end).ok_or(Malformed)?;
        if found.len() == MAX_CHAIN || !is_plain(one) {
            return Err(Malformed);
        }
        match Document::from_pem(one) {
            Ok(("CERTIFICATE", der)) => found.push(der.into_vec()),
            _ => return Err(Malformed),
        }
        rest = tail.trim_start_matches('\n');
    }
    if found.len() < min {
        return Err(Malformed);
    }
    Ok(found)
}

/// One block of lines of base64 between its two marks: no header lines, which an empty line would end for other readers, no
/// other line ends, no blanks.
fn is_plain(block: &str) -> bool {
    let base64 = |line: &str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        !line.is_empty() && line.bytes().all(letter)
    };
    let inside = block.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let lines = inside.and_then(|rest| rest.strip_prefix('\n')).and_then(|rest| rest.strip_suffix('\n'));
    lines.is_some_and(|lines| lines.split('\n').all(base64))
}

/// The pieces of a revocation list: RFC 5280 section 5.1.
#[derive(Debug)]
pub(crate) struct Crl<'a> {
    pub(crate) signed: Signed<'a>,
    pub(crate) issuer: &'a [u8],
    pub(crate) this_update: u64,
    pub(crate) next_update: u64,
    pub(crate) number: u32,
    /// The entries with their header, or nothing.
    revoked: Option<&'a [u8]>,
}

impl<'a> Crl<'a> {
    /// Reads a version 2 list with its number. The entries are read when one is looked up.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Malformed> {
        let signed = Signed::parse(der)?;
        let mut tbs = Fields::of(Tag::Sequence, signed.content)?;
        // Version 2 is written as 1.
        if tbs.raw(Tag::Integer)? != [0x02, 0x01, 0x01] || tbs.raw(Tag::Sequence)? != signed.algorithm {
            return Err(Malformed);
        }
        let issuer = tbs.raw(Tag::Sequence)?;
        let (this_update, next_update) = (tbs.time()?, tbs.time()?);
        let revoked = if tbs.peek() == Some(Tag::Sequence) { Some(tbs.raw(Tag::Sequence)?) } else { None };
        let extensions = extensions(tbs.explicit(0)?)?;
        tbs.end()?;
        if has_duplicate(&extensions) {
            return Err(Malformed);
        }
        let number = extensions.iter().find(|e| e.id == CRL_NUMBER).ok_or(Malformed)?;
        let number = number_of(number.value)?;
        Ok(Self { signed, issuer, this_update, next_update, number, revoked })
    }

    /// Whether a serial number, an INTEGER with its header, stands in the list; true when the list cannot be read.
    pub(crate) fn revokes(&self, serial: &[u8]) -> bool {
        self.find(serial).unwrap_or(true)
    }

    fn find(&self, serial: &[u8]) -> Result<bool, Malformed> {
        let Some(revoked) = self.revoked else { return Ok(false) };
        let mut list = Fields::of(Tag::Sequence, revoked)?;
        while !list.is_finished() {
            let mut entry = Fields::of(Tag::Sequence, list.raw(Tag::Sequence)?)?;
            if entry.raw(Tag::Integer)? == serial {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// RFC 5280 allows 20 bytes; Intel's lists have been number 1 for years.
fn number_of(der: &[u8]) -> Result<u32, Malformed> {
    let bytes = UintRef::from_der(der)?;
    let mut number = [0; 4];
    let start = number.len().checked_sub(bytes.as_bytes().len()).ok_or(Malformed)?;
    for (to, from) in number.iter_mut().skip(start).zip(bytes.as_bytes()) {
        *to = *from;
    }
    Ok(u32::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = include_str!("../../anchors/intel_sgx_root.pem");

    #[test]
    fn a_chain_is_one_to_three_certificates_and_nothing_else() {
        let root = ROOT.trim_end();
        let three = format!("{root}\n{root}\n{root}\n\0");
        assert_eq!(split(three.as_bytes(), 2).unwrap().len(), 3);
        assert_eq!(split(root.as_bytes(), 1).unwrap().len(), 1);
        for bad in [
            String::new(),
            "\0".into(),
            format!("{root}\n{root}\n{root}\n{root}\n"),
            format!("x{root}\n"),
            format!("{root}\nx{root}\n"),
            format!("{root}\nx"),
            format!("{root}\0\0"),
            format!("{root}\n{BEGIN}\n"),
            root.replace("CERTIFICATE", "X509 CRL"),
            root.replace("MII", "M!I"),
            root.replace('\n', "\r\n"),
            root.replacen('\n', "\n\n", 1),
            root.replacen('\n', "\r", 1),
            root.replacen('\n', " \n", 2),
            root.replacen('\n', "\nMII=\n\n", 1),
            root.replacen('\n', "\nProc-Type: 4\n\n", 1),
            root.replace("\n-----END", "\n\n-----END"),
            format!("{BEGIN}\n{END}"),
        ] {
            assert_eq!(split(bad.as_bytes(), 1), Err(Malformed), "{bad}");
        }
        assert_eq!(split(root.as_bytes(), 2), Err(Malformed));
    }

    #[test]
    fn numbers_fit_four_bytes() {
        assert_eq!(number_of(&[2, 1, 1]), Ok(1));
        assert_eq!(number_of(&[2, 5, 0, 0xff, 0, 0, 1]), Ok(0xff00_0001));
        assert_eq!(number_of(&[2, 5, 1, 0, 0, 0, 0]), Err(Malformed));
        assert_eq!(number_of(&[2, 1, 0x80]), Err(Malformed));
        assert_eq!(number_of(&[]), Err(Malformed));
    }
}
