//! Turns the eight bytes of a TCB version into named components, in the product's own byte order.
//! It does not say whether the versions are recent: floors are the policy's word.

use std::fmt;

use super::Product;
use crate::VerifyError;

/// A TCB version: AMD 56860 rev 1.58, TCB_VERSION, and its Turin form with FMC first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcb {
    /// Version of the FMC; only Turin has one.
    pub fmc: Option<u8>,
    /// Version of the boot loader.
    pub bootloader: u8,
    /// Version of the operating system of the secure processor.
    pub tee: u8,
    /// Version of the SNP firmware.
    pub snp: u8,
    /// Patch level of the microcode.
    pub microcode: u8,
}

/// One component of a TCB version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcbComponent {
    /// First mutable code of the secure processor (Turin).
    Fmc,
    /// Boot loader.
    Bootloader,
    /// Operating system of the secure processor.
    Tee,
    /// SNP firmware.
    Snp,
    /// Microcode.
    Microcode,
    /// A byte without a meaning today.
    Reserved,
}

/// Byte order on Milan and Genoa: boot loader, TEE, four reserved, SNP, microcode.
const BEFORE_TURIN: [TcbComponent; 8] = [
    TcbComponent::Bootloader,
    TcbComponent::Tee,
    TcbComponent::Reserved,
    TcbComponent::Reserved,
    TcbComponent::Reserved,
    TcbComponent::Reserved,
    TcbComponent::Snp,
    TcbComponent::Microcode,
];

/// Byte order on Turin: FMC, boot loader, TEE, SNP, three reserved, microcode.
const TURIN: [TcbComponent; 8] = [
    TcbComponent::Fmc,
    TcbComponent::Bootloader,
    TcbComponent::Tee,
    TcbComponent::Snp,
    TcbComponent::Reserved,
    TcbComponent::Reserved,
    TcbComponent::Reserved,
    TcbComponent::Microcode,
];

impl Tcb {
    /// Reads the eight bytes at the offset of a TCB field.
    ///
    /// # Errors
    /// `TCB_RESERVED` when a byte without meaning on this product is not zero.
    pub fn read(bytes: [u8; 8], product: Product) -> Result<Self, VerifyError> {
        if Self::order(product).iter().zip(bytes).any(|(c, b)| *c == TcbComponent::Reserved && b != 0) {
            return Err(VerifyError::TcbReserved);
        }
        Ok(match (product, bytes) {
            (Product::Turin, [fmc, bootloader, tee, snp, _, _, _, microcode]) => {
                Self { fmc: Some(fmc), bootloader, tee, snp, microcode }
            }
            (_, [bootloader, tee, _, _, _, _, snp, microcode]) => Self { fmc: None, bootloader, tee, snp, microcode },
        })
    }

    pub(crate) fn order(product: Product) -> &'static [TcbComponent; 8] {
        match product {
            Product::Turin => &TURIN,
            Product::Milan | Product::Genoa => &BEFORE_TURIN,
        }
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "fmc {fmc:#04x} ")?;
        }
        write!(
            f,
            "bootloader {:#04x} tee {:#04x} snp {:#04x} microcode {:#04x}",
            self.bootloader, self.tee, self.snp, self.microcode
        )
    }
}

impl fmt::Display for TcbComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fmc => "FMC",
            Self::Bootloader => "boot loader",
            Self::Tee => "TEE",
            Self::Snp => "SNP firmware",
            Self::Microcode => "microcode",
            Self::Reserved => "reserved",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turin_has_fmc_first() {
        let bytes = [1, 2, 3, 4, 0, 0, 0, 0x51];
        let turin = Tcb::read(bytes, Product::Turin).unwrap();
        assert_eq!(turin, Tcb { fmc: Some(1), bootloader: 2, tee: 3, snp: 4, microcode: 0x51 });
        assert_eq!(Tcb::read(bytes, Product::Genoa), Err(VerifyError::TcbReserved));
        let genoa = Tcb::read([0x0a, 0, 0, 0, 0, 0, 0x19, 0x54], Product::Genoa).unwrap();
        assert_eq!(genoa, Tcb { fmc: None, bootloader: 0x0a, tee: 0, snp: 0x19, microcode: 0x54 });
        assert_eq!(genoa.to_string(), "bootloader 0x0a tee 0x00 snp 0x19 microcode 0x54");
    }

    #[test]
    fn every_reserved_byte_counts() {
        for product in [Product::Milan, Product::Genoa, Product::Turin] {
            let reserved: Vec<usize> = (0..8).filter(|i| Tcb::order(product)[*i] == TcbComponent::Reserved).collect();
            assert_eq!(reserved.len(), if product == Product::Turin { 3 } else { 4 });
            for i in reserved {
                let mut bytes = [0; 8];
                bytes[i] = 1;
                assert_eq!(Tcb::read(bytes, product), Err(VerifyError::TcbReserved));
            }
        }
    }
}
