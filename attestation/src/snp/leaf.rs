//! Turns the bytes of a VCEK certificate into the key, product, chip and TCB version that it speaks for.
//! It does not establish who signed the certificate: `chain.rs` does.

use der::asn1::ObjectIdentifier;

use super::{
    Product, Tcb, TcbComponent,
    x509::{Certificate, Malformed},
};
use crate::{Mode, VerifyError, anchors::SIMULATED_MARKER};

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
    /// 64 bytes, or 8 on Turin.
    pub(crate) hwid: Vec<u8>,
    /// The TCB version in the byte order of a report of this product.
    pub(crate) tcb: [u8; 8],
}

impl Leaf<'_> {
    /// The chip as a report spells it: a short identifier (Turin) stands in the first 8 bytes, followed by zeros.
    pub(crate) fn chip_id(&self) -> [u8; 64] {
        let mut chip_id = [0; 64];
        for (to, from) in chip_id.iter_mut().zip(&self.hwid) {
            *to = *from;
        }
        chip_id
    }
}

// AMD 57230, "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification": X.509 extensions.
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
    let hwid = value(&certificate, HWID)?.to_vec();
    if hwid.len() != 64 && !(named == Product::Turin && hwid.len() == 8) {
        return Err(VerifyError::LeafHwid);
    }
    let tcb = tcb(&certificate, named)?;
    Ok(Leaf { certificate, kind, product: named, key, hwid, tcb })
}

/// The marker must be there, and not be critical, exactly under a simulated root.
fn compare_marker(certificate: &Certificate<'_>, mode: Mode) -> Result<(), VerifyError> {
    match (mode, certificate.extension(SIMULATED_MARKER)) {
        (Mode::Hardware, None) => Ok(()),
        (Mode::Hardware, Some(_)) => Err(VerifyError::LeafSimulated),
        (Mode::Simulation, None) => Err(VerifyError::LeafNotSimulated),
        (Mode::Simulation, Some(marker)) if marker.critical => Err(VerifyError::LeafExtensionCritical),
        (Mode::Simulation, Some(_)) => Ok(()),
    }
}

/// The common name is exactly the one that AMD (57230) or the simulator gives.
fn kind_from_name(certificate: &Certificate<'_>, mode: Mode) -> Result<LeafKind, VerifyError> {
    let name = certificate.common_name().map_err(|Malformed| VerifyError::LeafName)?;
    match (mode, name) {
        (Mode::Hardware, "SEV-VCEK") | (Mode::Simulation, "SEV-SIM") => Ok(LeafKind::Vcek),
        // The ASVK is not among the anchors, so the chain of a loaded key cannot be verified.
        (Mode::Hardware, "SEV-VLEK") => Err(VerifyError::LeafVlekUnsupported),
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
    // An IA5String with a length of one byte.
    let name = match value(certificate, PRODUCT_NAME)? {
        [0x16, len, text @ ..] if usize::from(*len) == text.len() && *len < 0x80 => text,
        _ => return Err(VerifyError::LeafExtensionValue),
    };
    core::str::from_utf8(name).ok().and_then(Product::from_leaf_name).ok_or(VerifyError::LeafProduct)
}

/// A canonical INTEGER from 0 to 255.
fn integer(certificate: &Certificate<'_>, oid: ObjectIdentifier) -> Result<u8, VerifyError> {
    match value(certificate, oid)? {
        [0x02, 0x01, low @ 0x00..=0x7f] => Ok(*low),
        [0x02, 0x02, 0x00, high @ 0x80..=0xff] => Ok(*high),
        _ => Err(VerifyError::LeafExtensionValue),
    }
}

fn value<'c>(certificate: &'c Certificate<'_>, oid: ObjectIdentifier) -> Result<&'c [u8], VerifyError> {
    certificate.extension(oid).map(|e| e.extn_value.as_bytes()).ok_or(VerifyError::LeafExtensionMissing)
}
