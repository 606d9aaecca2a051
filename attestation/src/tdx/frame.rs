//! Turns the bytes of a quote into slices: signed part, body, signatures, quoting enclave's report, PCK chain.
//! It does not verify anything: until the signatures are, these are bytes nobody vouches for.

use super::{
    TdxError,
    layout::{self as at, Field, Kind},
};

/// The version of a quote, after the rules about its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u16,
}

/// Where the body of a quote lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Body {
    /// 2 or 3.
    pub(crate) kind: u16,
    start: usize,
    end: usize,
}

/// A quote whose every length fits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// The TD report.
    pub(crate) body: &'a [u8],
    /// The PCK certificate chain, PEM.
    pub(crate) pck_chain: &'a [u8],
}

impl Header {
    /// Appendix A.3.1: version, algorithm, technology, reserved bytes, vendor.
    pub(crate) fn read(quote: &[u8]) -> Result<Self, TdxError> {
        let Some(header) = quote.get(..at::HEADER_LEN) else {
            return Err(TdxError::QuoteTruncated { step: 2 });
        };
        let version = u16_at(header, at::VERSION);
        if !matches!(version, 4 | 5) {
            return Err(TdxError::QuoteVersion { actual: version });
        }
        let key_type = u16_at(header, at::ATT_KEY_TYPE);
        if key_type != at::ATT_KEY_ECDSA_P256 {
            return Err(TdxError::QuoteKeyType { actual: key_type });
        }
        let tee = u32::from_le_bytes(array(header, at::TEE_TYPE));
        if tee != at::TEE_TDX {
            return Err(TdxError::QuoteTeeType { actual: tee });
        }
        zero(header, at::HEADER).map_err(|offset| TdxError::QuoteReserved { offset })?;
        if array::<16>(header, at::QE_VENDOR_ID) != at::INTEL_QE {
            return Err(TdxError::QuoteVendor);
        }
        Ok(Self { version })
    }
}

impl Body {
    /// Appendices A.3.2 and A.4: version 4 has a body of type 2, version 5 says which.
    pub(crate) fn read(quote: &[u8], header: Header) -> Result<Self, TdxError> {
        let (kind, start) = match header.version {
            4 => (2, at::HEADER_LEN),
            _ => {
                let start = at::HEADER_LEN + at::DESCRIPTOR_LEN;
                let Some(descriptor) = quote.get(..start) else {
                    return Err(TdxError::QuoteTruncated { step: 3 });
                };
                let kind = u16_at(descriptor, at::BODY_TYPE);
                let size = u32::from_le_bytes(array(descriptor, at::BODY_SIZE));
                let Some(expected) = len_of(kind) else {
                    return Err(TdxError::QuoteBodyType { actual: kind });
                };
                if usize::try_from(size) != Ok(expected) {
                    return Err(TdxError::QuoteBodySize { actual: size });
                }
                (kind, start)
            }
        };
        let len = len_of(kind).ok_or(TdxError::QuoteBodyType { actual: kind })?;
        let end = start + len;
        if quote.len() < end {
            return Err(TdxError::QuoteTruncated { step: 3 });
        }
        Ok(Self { kind, start, end })
    }
}

const fn len_of(kind: u16) -> Option<usize> {
    match kind {
        2 => Some(at::TD_REPORT_10_LEN),
        3 => Some(at::TD_REPORT_15_LEN),
        _ => None,
    }
}

impl<'a> Frame<'a> {
    /// Appendices A.3.8 to A.3.11: every declared length fits exactly, nothing is left over anywhere, and what is reserved in
    /// the quoting enclave's report is zero.
    pub(crate) fn new(quote: &'a [u8], body: Body) -> Result<Self, TdxError> {
        let (Some(report), Some(rest)) = (quote.get(body.start..body.end), quote.get(body.end..)) else {
            return Err(TRUNCATED);
        };
        let mut rest = Cursor(rest);
        let declared = rest.u32()?;
        if rest.0.len() < declared {
            return Err(TRUNCATED);
        }
        if rest.0.len() > declared {
            return Err(TdxError::QuoteTrailing { extra: rest.0.len() - declared });
        }
        rest.take(128)?;
        let kind = rest.u16()?;
        if kind != at::CERT_DATA_QE_REPORT {
            return Err(TdxError::CertDataType { actual: kind });
        }
        if rest.u32()? != rest.0.len() {
            return Err(TdxError::CertDataLength);
        }
        let qe_report = rest.take(at::QE_REPORT_LEN)?;
        rest.take(64)?;
        let auth_data = rest.u16()?;
        if usize::from(auth_data) != at::QE_AUTH_DATA_LEN {
            return Err(TdxError::QeAuthData { actual: auth_data });
        }
        rest.take(at::QE_AUTH_DATA_LEN)?;
        let kind = rest.u16()?;
        if kind != at::CERT_DATA_PCK_CHAIN {
            return Err(TdxError::CertDataType { actual: kind });
        }
        if rest.u32()? != rest.0.len() {
            return Err(TdxError::CertDataLength);
        }
        zero(qe_report, at::QE_REPORT).map_err(|offset| TdxError::QeReserved { offset })?;
        Ok(Self { body: report, pck_chain: rest.0 })
    }
}

/// Every reserved byte of a structure is zero; otherwise where the first one is that is not.
fn zero(bytes: &[u8], table: &[Field]) -> Result<(), usize> {
    for field in table.iter().filter(|field| field.kind == Kind::Reserved) {
        let reserved = bytes.get(field.offset..field.offset + field.size).unwrap_or_default();
        if let Some(i) = reserved.iter().position(|b| *b != 0) {
            return Err(field.offset + i);
        }
    }
    Ok(())
}

/// The bytes of a field; zero where the structure is too short, which the callers have excluded.
pub(crate) fn array<const N: usize>(bytes: &[u8], field: Field) -> [u8; N] {
    let slice = bytes.get(field.offset..field.offset + field.size).unwrap_or_default();
    <[u8; N]>::try_from(slice).unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], field: Field) -> u16 {
    u16::from_le_bytes(array(bytes, field))
}

/// Step 4 wanted more.
const TRUNCATED: TdxError = TdxError::QuoteTruncated { step: 4 };

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], TdxError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, TdxError> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes(<[u8; 2]>::try_from(bytes).map_err(|_| TRUNCATED)?))
    }

    fn u32(&mut self) -> Result<usize, TdxError> {
        let bytes = self.take(4)?;
        let value = u32::from_le_bytes(<[u8; 4]>::try_from(bytes).map_err(|_| TRUNCATED)?);
        usize::try_from(value).map_err(|_| TRUNCATED)
    }
}
