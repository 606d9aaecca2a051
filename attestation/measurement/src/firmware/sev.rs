//! Turns an OVMF image's SEV metadata into the pages that a host prepares for an SEV-SNP guest.
//! It does not compute their part of the launch digest.

use super::table::Table;
use crate::{
    MeasurementError,
    bytes::{array, slice, u32_at},
};

/// The entry that points to the metadata (edk2: OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm, "SEV metadata
/// descriptor"; QEMU: hw/i386/pc_sysfw.c and target/i386/sev.c, `OVMF_SEV_META_DATA_GUID`).
const POINTER: [u8; 16] = super::guid(0xdc88_6566, 0x984a, 0x4798, [0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc]);
/// Signature, length, version, number of sections (edk2: OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm).
const HEADER: usize = 16;
/// Address, size, type: three 32-bit numbers (same file).
const SECTION: usize = 12;
/// OVMF has seven today.
const MAX_SECTIONS: u32 = 64;
/// OVMF's largest section has 124 KiB.
const MAX_SIZE: u32 = 16 << 20;

/// What a prepared page is for (edk2: OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm; QEMU: target/i386/sev.h, `SevMetadataType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SevSectionKind {
    /// Zeroed memory that the firmware uses before it accepts more.
    SecMemory,
    /// The secrets page.
    Secrets,
    /// The CPUID page.
    Cpuid,
    /// The calling area of a secure service module.
    SvsmCallingArea,
    /// The page that holds the kernel hash table.
    KernelHashes,
}

/// A range of guest memory that the host prepares before an SEV-SNP guest starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SevSection {
    /// Its first byte.
    pub address: u32,
    /// How many bytes, in whole pages.
    pub size: u32,
    /// What for.
    pub kind: SevSectionKind,
}

pub(super) fn sections(image: &[u8], table: &Table<'_>) -> Result<Vec<SevSection>, MeasurementError> {
    let bad = MeasurementError::Firmware;
    let Some(at) = table.pointer(&POINTER, image.len())? else { return Ok(Vec::new()) };
    let outside = bad("the SEV metadata reach beyond the image");
    let header = slice(image, at, HEADER).ok_or(outside)?;
    if array(header, 0) != Some(*b"ASEV") || u32_at(header, 8) != Some(1) {
        return Err(bad("the SEV metadata are of an unknown kind or version"));
    }
    let (length, count) = (u32_at(header, 4).unwrap_or(0), u32_at(header, 12).unwrap_or(0));
    if count > MAX_SECTIONS {
        return Err(bad("the SEV metadata have more than 64 sections"));
    }
    let length = usize::try_from(length).map_err(|_| outside)?;
    let count = usize::try_from(count).map_err(|_| outside)?;
    // Header and sections, and nothing else: the length says so too.
    if length != HEADER + count * SECTION {
        return Err(bad("the SEV metadata's length is not that of their sections"));
    }
    let body = slice(image, at, length).and_then(|all| all.get(HEADER..)).ok_or(outside)?;
    body.chunks_exact(SECTION).map(section).collect()
}

fn section(bytes: &[u8]) -> Result<SevSection, MeasurementError> {
    let bad = MeasurementError::Firmware;
    let number = |at| u32_at(bytes, at).ok_or(bad("an SEV section is cut"));
    let kind = match number(8)? {
        1 => SevSectionKind::SecMemory,
        2 => SevSectionKind::Secrets,
        3 => SevSectionKind::Cpuid,
        4 => SevSectionKind::SvsmCallingArea,
        0x10 => SevSectionKind::KernelHashes,
        _ => return Err(bad("an SEV section is of an unknown kind")),
    };
    let section = SevSection { address: number(0)?, size: number(4)?, kind };
    // Builds leave sections of no size behind: they prepare nothing.
    let whole = section.address.is_multiple_of(4096) && section.size.is_multiple_of(4096);
    if !whole || section.size > MAX_SIZE || section.address.checked_add(section.size).is_none() {
        return Err(bad("an SEV section is not made of whole pages below 4 GiB, at most 16 MiB"));
    }
    // These three are one page each (AMD 56860, SNP_LAUNCH_UPDATE): more would be measured as one all the same.
    let single = matches!(kind, SevSectionKind::Secrets | SevSectionKind::Cpuid | SevSectionKind::KernelHashes);
    if single && section.size != 4096 {
        return Err(bad("a page for secrets, CPUID or kernel hashes is not one page"));
    }
    Ok(section)
}
