//! Turns an OVMF image into what its footer tables announce: where kernel hashes go, what SEV and TDX prepare in memory.
//! An announcement is no proof: a firmware may ask for kernel hashes and never compare them.

pub mod known;
mod sev;
mod table;
mod tdx;

pub use sev::{SevSection, SevSectionKind};
pub use tdx::{TdxSection, TdxSectionKind};

use crate::{MeasurementError, bytes::u32_at};
use table::Table;

/// The largest firmware image: QEMU maps it below 4 GiB, and OVMF builds have 1 to 4 MiB; edk2's largest option is 16 MiB.
pub const MAX_FIRMWARE: usize = 16 << 20;

/// Where QEMU writes the kernel hashes (edk2: OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm, "SEV FW config hash
/// block"; QEMU: target/i386/sev.c, `SEV_HASH_TABLE_RV_GUID`).
const HASH_TABLE: [u8; 16] = guid(0x7255_371f, 0x3a3b, 0x4b04, [0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54]);
/// Where further processors start (the same files, "SEV-ES reset block", `SEV_INFO_BLOCK_GUID`).
const RESET_BLOCK: [u8; 16] = guid(0x00f7_71de, 0x1a7e, 0x4fcb, [0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e]);

/// A place in the guest's physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// The first byte.
    pub address: u32,
    /// How many bytes.
    pub size: u32,
}

/// What an OVMF image announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    hash_table: Option<Area>,
    reset_address: Option<u32>,
    sev: Vec<SevSection>,
    tdx: Vec<TdxSection>,
}

impl Firmware {
    /// Reads the tables of a whole firmware image.
    ///
    /// # Errors
    /// `FIRMWARE_FORMAT` when a table is missing where it must stand, points outside the image or contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, MeasurementError> {
        if bytes.len() > MAX_FIRMWARE {
            return Err(MeasurementError::Firmware("it is larger than 16 MiB"));
        }
        if !bytes.len().is_multiple_of(4096) {
            return Err(MeasurementError::Firmware("its size is no multiple of 4,096 bytes"));
        }
        let table = Table::parse(bytes)?;
        let hash_table = match table.entry(&HASH_TABLE) {
            Some(data) => Some(area(data).ok_or(MeasurementError::Firmware("the kernel hash entry is not 8 bytes"))?),
            None => None,
        };
        let reset_address = match table.entry(&RESET_BLOCK) {
            Some(data) if data.len() == 4 => u32_at(data, 0),
            Some(_) => return Err(MeasurementError::Firmware("the reset entry is not 4 bytes")),
            None => None,
        };
        // Address 0 means that the build has none (the AmdSev build alone sets it).
        let hash_table = hash_table.filter(|area| area.address != 0);
        Ok(Self { hash_table, reset_address, sev: sev::sections(bytes, &table)?, tdx: tdx::sections(bytes, &table)? })
    }

    /// Where the table of kernel hashes goes, if this firmware asks for one.
    #[must_use]
    pub const fn hash_table(&self) -> Option<Area> {
        self.hash_table
    }

    /// Where processors after the first one start under SEV-ES and SEV-SNP.
    #[must_use]
    pub const fn reset_address(&self) -> Option<u32> {
        self.reset_address
    }

    /// What the host prepares for an SEV-SNP guest, in the image's order; empty for a build without SEV.
    #[must_use]
    pub fn sev_sections(&self) -> &[SevSection] {
        &self.sev
    }

    /// What the host prepares for a TDX guest, in the image's order; empty for a build without TDX.
    #[must_use]
    pub fn tdx_sections(&self) -> &[TdxSection] {
        &self.tdx
    }

    /// Refuses a firmware that cannot start an SEV-SNP guest with hashes of its kernel in the measurement.
    ///
    /// # Errors
    /// `FIRMWARE_LACKS`, `FIRMWARE_FORMAT` when the hash table and the page for it do not fit.
    pub fn fit_for_snp(&self) -> Result<(), MeasurementError> {
        let lacks = |what| Err(MeasurementError::FirmwareLacks(what));
        if self.reset_address.is_none() {
            return lacks("reset address for further processors");
        }
        if self.sev.is_empty() {
            return lacks("SEV metadata");
        }
        let Some(table) = self.hash_table else { return lacks("place for kernel hashes") };
        let mut pages = self.sev.iter().filter(|section| section.kind == SevSectionKind::KernelHashes);
        let Some(page) = pages.next() else { return lacks("SEV-SNP section for kernel hashes") };
        let offset = table.address.checked_sub(page.address);
        let size = u32::try_from(crate::KernelHashes::TABLE_SIZE).unwrap_or(u32::MAX);
        let room = offset.and_then(|offset| page.size.checked_sub(offset)).is_some_and(|room| room >= size);
        if pages.next().is_some() || page.size != 4096 || !room || table.size < size {
            return Err(MeasurementError::Firmware("the kernel hash table does not lie in the one page for it"));
        }
        Ok(())
    }
}

fn area(data: &[u8]) -> Option<Area> {
    if data.len() != 8 {
        return None;
    }
    Some(Area { address: u32_at(data, 0)?, size: u32_at(data, 4)? })
}

/// A GUID's bytes as UEFI lays them out: the first three numbers little-endian (UEFI 2.10, appendix A).
pub(crate) const fn guid(a: u32, b: u16, c: u16, rest: [u8; 8]) -> [u8; 16] {
    let ([a0, a1, a2, a3], [b0, b1], [c0, c1]) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rest;
    [a0, a1, a2, a3, b0, b1, c0, c1, r0, r1, r2, r3, r4, r5, r6, r7]
}

#[cfg(test)]
mod tests;
