//! Turns evidence into what must be asked of its vendor: product, chip and versions of a report, family and authority of a quote.
//! It establishes nothing: the bytes are read as they are, and a wrong one costs a useless request.

use core::fmt;

use der::{Decode, Tag, asn1::ObjectIdentifier};

use super::items::{common_name, pem_chain};
use crate::{
    evidence::{MAX_QUOTE, SNP_REPORT_LEN},
    snp::{
        Product, Tcb,
        x509::{Certificate, Fields, Malformed},
    },
};

/// What AMD's key distribution service wants to know for the certificate of a chip's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpSought {
    /// The product line.
    pub product: Product,
    /// The chip: 64 bytes, 8 on Turin.
    pub hwid: Vec<u8>,
    /// The versions that the key was derived for: REPORTED_TCB.
    pub tcb: Tcb,
}

/// What Intel's provisioning service wants to know for the collateral of a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdxSought {
    /// The family of processors.
    pub fmspc: [u8; 6],
    /// Who issued its certificate.
    pub authority: PckAuthority,
}

/// Intel's two authorities for provisioning certification keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PckAuthority {
    /// Platforms of several packages, registered with Intel.
    Platform,
    /// Single processors.
    Processor,
}

impl PckAuthority {
    /// The word in Intel's addresses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }
}

/// Why evidence does not say what to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoughtError {
    /// It has not the form of a report or quote.
    Form,
    /// A report of version 2 does not name its product.
    ProductNotNamed,
    /// A provider's key (VLEK) signed: its certificate comes from the provider.
    Vlek,
    /// The host masks the chip.
    ChipMasked,
    /// The quote's certificate is not of the kind that Intel's service knows.
    Certificate,
}

impl fmt::Display for SoughtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "the file has not the form of a report of 1184 bytes, or of a quote",
            Self::ProductNotNamed => "a report of version 2 does not name its product line",
            Self::Vlek => "a provider's key (VLEK) signed this report: its certificate comes from the provider",
            Self::ChipMasked => "the host masks the chip in this report",
            Self::Certificate => "the quote holds no certificate of a provisioning certification key of Intel's",
        })
    }
}

/// Reads a report; `product` is asked for where the report does not name it.
///
/// # Errors
/// [`SoughtError`].
pub fn sought_by_report(report: &[u8], product: Option<Product>) -> Result<SnpSought, SoughtError> {
    // AMD 56860 rev 1.58, table 23: VERSION, SIGNING_KEY, REPORTED_TCB, CPUID_FAM_ID and CPUID_MOD_ID, CHIP_ID.
    let bytes = |at: usize, len: usize| report.get(at..at + len).ok_or(SoughtError::Form);
    if report.len() != SNP_REPORT_LEN {
        return Err(SoughtError::Form);
    }
    if bytes(0x48, 1)?.iter().any(|flags| flags >> 2 & 7 == 1) {
        return Err(SoughtError::Vlek);
    }
    let product = match (bytes(0, 4)?, bytes(0x188, 2)?) {
        ([0..=2, 0, 0, 0], _) => product.ok_or(SoughtError::ProductNotNamed)?,
        (_, [family, model]) => Product::from_cpuid(*family, *model).ok_or(SoughtError::Form)?,
        _ => return Err(SoughtError::Form),
    };
    let tcb = bytes(0x180, 8)?.try_into().map_err(|_| SoughtError::Form)?;
    let tcb = Tcb::read(tcb, product).map_err(|_| SoughtError::Form)?;
    let hwid = bytes(0x1a0, if product == Product::Turin { 8 } else { 64 })?.to_vec();
    if hwid.iter().all(|b| *b == 0) {
        return Err(SoughtError::ChipMasked);
    }
    Ok(SnpSought { product, hwid, tcb })
}

/// Reads the certificate chain inside a quote.
///
/// # Errors
/// [`SoughtError`].
pub fn sought_by_quote(quote: &[u8]) -> Result<TdxSought, SoughtError> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    if quote.len() > MAX_QUOTE {
        return Err(SoughtError::Form);
    }
    let at = quote.windows(BEGIN.len()).position(|w| w == BEGIN).ok_or(SoughtError::Form)?;
    let text = core::str::from_utf8(quote.get(at..).unwrap_or_default()).map_err(|_| SoughtError::Form)?;
    let chain = pem_chain(text).ok_or(SoughtError::Certificate)?;
    let leaf = chain.first().ok_or(SoughtError::Certificate)?;
    pck(leaf).map_err(|Malformed| SoughtError::Certificate)
}

/// Intel SGX PCK Certificate and CRL Profile Specification, section 1.3.5: the extension is a sequence of (identifier, value).
fn pck(der: &[u8]) -> Result<TdxSought, Malformed> {
    const SGX: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");
    const FMSPC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.4");
    let certificate = Certificate::parse(der)?;
    let authority = match common_name(certificate.issuer)?.as_str() {
        "Intel SGX PCK Platform CA" => PckAuthority::Platform,
        "Intel SGX PCK Processor CA" => PckAuthority::Processor,
        _ => return Err(Malformed),
    };
    let extension = certificate.extension(SGX).ok_or(Malformed)?;
    let mut list = Fields::of(Tag::Sequence, extension.value)?;
    while !list.is_finished() {
        let mut pair = Fields::of(Tag::Sequence, list.raw(Tag::Sequence)?)?;
        if ObjectIdentifier::from_der(pair.raw(Tag::ObjectIdentifier)?)? == FMSPC {
            let fmspc = <&der::asn1::OctetStringRef>::from_der(pair.raw(Tag::OctetString)?)?;
            return Ok(TdxSought { fmspc: fmspc.as_bytes().try_into().map_err(|_| Malformed)?, authority });
        }
    }
    Err(Malformed)
}
