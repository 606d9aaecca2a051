//! Turns the bytes of a VCEK or VLEK certificate into the key, product, TCB version, and chip or provider, that it speaks for.
//! It does not establish who signed the certificate: `chain.rs` does.

use der::asn1::ObjectIdentifier;

use super::{
    Product, Tcb, TcbComponent,
    x509::{Certificate, Malformed},
};
use crate::{
    Mode, VerifyError,
    anchors::{SIMULATED_LEAF_NAME, SIMULATED_MARKER, SIMULATED_VLEK_NAME},
};

/// Which kind of key a leaf certifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafKind {
    /// Versioned chip endorsement key: derived from one chip's secret.
    Vcek,
    /// Versioned loaded endorsement key: given by AMD to a cloud provider.
    Vlek,
}

impl LeafKind {
    /// The word used in policies and verdicts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
        }
    }
}

/// What a leaf says.
#[derive(Debug)]
pub(crate) struct Leaf<'a> {
    pub(crate) certificate: Certificate<'a>,
    pub(crate) kind: LeafKind,
    pub(crate) product: Product,
    /// Uncompressed P-384 point.
    pub(crate) key: &'a [u8],
    /// Whose it is.
    pub(crate) owner: Owner<'a>,
    /// The TCB version in the byte order of a report of this product.
    pub(crate) tcb: [u8; 8],
}

/// Who holds the key that a leaf certifies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner<'a> {
    /// One chip, spelt as a report spells it: a short identifier (Turin) stands in the first 8 bytes, followed by zeros.
    Chip([u8; 64]),
    /// A cloud provider: the certificate's text without its leading `CN=`.
    Provider(&'a str),
}

// AMD 57230, "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification", rev 0.51, tables of X.509 extensions.
// FMC and the hardware identifier of 8 bytes are younger than that revision: as genuine leaves of Turin have them.
const STRUCT_VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.1");
const PRODUCT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
const BOOTLOADER_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const SPL_4: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.4");
const SPL_5: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.5");
const SPL_6: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.6");
const SPL_7: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.7");
const MICROCODE_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const FMC_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
const HWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const CSP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");

/// Reads a leaf by every rule that needs no other certificate.
///
/// `product` is the report's, where the report names one (version 3 and later).
pub(crate) fn read<'a>(der: &'a [u8], mode: Mode, product: Option<Product>) -> Result<Leaf<'a>, VerifyError> {
    let certificate = Certificate::parse(der).map_err(|Malformed| VerifyError::LeafMalformed)?;
    if certificate.has_duplicate_extension() {
        return Err(VerifyError::LeafExtensionDuplicate);
    }
    compare_marker(&certificate, mode)?;
    let kind = kind_from_name(&certificate, mode)?;
    if !certificate.signed.is_pss_sha384() {
        return Err(VerifyError::LeafAlgorithm);
    }
    let key = certificate.p384_key().map_err(|Malformed| VerifyError::LeafKey)?;
    if certificate.extensions.iter().any(|e| e.critical) {
        return Err(VerifyError::LeafExtensionCritical);
    }

    integer(&certificate, STRUCT_VERSION)?;
    let named = product_name(&certificate)?;
    if product.is_some_and(|p| p != named) {
        return Err(VerifyError::LeafProduct);
    }
    let owner = owner(&certificate, kind, named)?;
    let tcb = tcb(&certificate, named)?;
    Ok(Leaf { certificate, kind, product: named, key, owner, tcb })
}

/// A chip's key names a chip and no provider, a loaded key a provider and no chip: AMD 57230, the extensions of each.
fn owner<'a>(certificate: &Certificate<'a>, kind: LeafKind, product: Product) -> Result<Owner<'a>, VerifyError> {
    let (own, foreign) = match kind {
        LeafKind::Vcek => (HWID, CSP_ID),
        LeafKind::Vlek => (CSP_ID, HWID),
    };
    if certificate.extension(foreign).is_some() {
        return Err(VerifyError::LeafExtensionUnexpected);
    }
    let value = value(certificate, own)?;
    match kind {
        LeafKind::Vcek => chip(value, product).map(Owner::Chip),
        LeafKind::Vlek => provider(value).map(Owner::Provider),
    }
}

/// The raw identifier: 64 bytes, or 8 on Turin.
fn chip(hwid: &[u8], product: Product) -> Result<[u8; 64], VerifyError> {
    let short = product == Product::Turin && hwid.len() == 8;
    if hwid.len() != 64 && !short {
        return Err(VerifyError::LeafHwid);
    }
    let mut chip_id = [0; 64];
    for (to, from) in chip_id.iter_mut().zip(hwid) {
        *to = *from;
    }
    Ok(chip_id)
}

/// An IA5String such as `CN=cc-us-east-2.amazonaws.com`, of at most 127 characters; the name alone goes into verdicts and policies.
fn provider(value: &[u8]) -> Result<&str, VerifyError> {
    let text = ia5_string(value)?;
    let name = text.strip_prefix("CN=").unwrap_or(text);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(VerifyError::LeafCsp);
    }
    Ok(name)
}

/// The marker must be there exactly under a simulated root. No extension may be critical, this one neither: [`read`] says so.
fn compare_marker(certificate: &Certificate<'_>, mode: Mode) -> Result<(), VerifyError> {
    match (mode, certificate.extension(SIMULATED_MARKER)) {
        (Mode::Hardware, None) => Ok(()),
        (Mode::Hardware, Some(_)) => Err(VerifyError::LeafSimulated),
        (Mode::Simulation, None) => Err(VerifyError::LeafNotSimulated),
        (Mode::Simulation, Some(_)) => Ok(()),
    }
}

/// The common name is exactly the one that AMD (57230) or the simulator gives.
fn kind_from_name(certificate: &Certificate<'_>, mode: Mode) -> Result<LeafKind, VerifyError> {
    let name = certificate.common_name().map_err(|Malformed| VerifyError::LeafName)?;
    match (mode, name) {
        (Mode::Hardware, "SEV-VCEK") | (Mode::Simulation, SIMULATED_LEAF_NAME) => Ok(LeafKind::Vcek),
        (Mode::Hardware, "SEV-VLEK") | (Mode::Simulation, SIMULATED_VLEK_NAME) => Ok(LeafKind::Vlek),
        _ => Err(VerifyError::LeafName),
    }
}

/// The SPL extensions in the byte order of the product's TCB version.
fn tcb(certificate: &Certificate<'_>, product: Product) -> Result<[u8; 8], VerifyError> {
    let mut spare = match product {
        Product::Turin => [SPL_5, SPL_6, SPL_7].iter(),
        Product::Milan | Product::Genoa => [SPL_4, SPL_5, SPL_6, SPL_7].iter(),
    };
    let mut bytes = [0; 8];
    for (byte, component) in bytes.iter_mut().zip(Tcb::order(product)) {
        let oid = match component {
            TcbComponent::Fmc => FMC_SPL,
            TcbComponent::Bootloader => BOOTLOADER_SPL,
            TcbComponent::Tee => TEE_SPL,
            TcbComponent::Snp => SNP_SPL,
            TcbComponent::Microcode => MICROCODE_SPL,
            TcbComponent::Reserved => *spare.next().ok_or(VerifyError::LeafExtensionMissing)?,
        };
        *byte = integer(certificate, oid)?;
    }
    Ok(bytes)
}

fn product_name(certificate: &Certificate<'_>) -> Result<Product, VerifyError> {
    let name = ia5_string(value(certificate, PRODUCT_NAME)?)?;
    Product::from_leaf_name(name).ok_or(VerifyError::LeafProduct)
}

/// An IA5String with a length of one byte.
fn ia5_string(value: &[u8]) -> Result<&str, VerifyError> {
    match value {
        [0x16, len, text @ ..] if usize::from(*len) == text.len() && *len < 0x80 => {
            core::str::from_utf8(text).map_err(|_| VerifyError::LeafExtensionValue)
        }
        _ => Err(VerifyError::LeafExtensionValue),
    }
}

/// A canonical INTEGER from 0 to 255.
fn integer(certificate: &Certificate<'_>, oid: ObjectIdentifier) -> Result<u8, VerifyError> {
    match value(certificate, oid)? {
        [0x02, 0x01, low @ 0x00..=0x7f] => Ok(*low),
        [0x02, 0x02, 0x00, high @ 0x80..=0xff] => Ok(*high),
        _ => Err(VerifyError::LeafExtensionValue),
    }
}

fn value<'a>(certificate: &Certificate<'a>, oid: ObjectIdentifier) -> Result<&'a [u8], VerifyError> {
    certificate.extension(oid).map(|e| e.value).ok_or(VerifyError::LeafExtensionMissing)
}
