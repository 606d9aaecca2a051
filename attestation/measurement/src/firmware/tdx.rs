//! Turns an OVMF image's TDX metadata into the pages that a host adds to a TDX guest before it starts.
//! It does not compute MRTD; see the `tdx` module of this crate.

use super::table::Table;
use crate::{
    MeasurementError,
    bytes::{array, size_at, slice, u32_at, u64_at},
};

/// The entry that points to the metadata (edk2: OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm; QEMU: hw/i386/tdvf.c,
/// `TDX_METADATA_OFFSET_GUID`).
const POINTER: [u8; 16] = super::guid(0xe47a_6535, 0x984a, 0x4798, [0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2]);
/// What stands before the metadata (edk2: OvmfPkg/ResetVector/X64/IntelTdxMetadata.asm, `TdxMetadataGuid`).
const GUID: [u8; 16] = super::guid(0xe9ea_f9f3, 0x168e, 0x44d5, [0xa8, 0xeb, 0x7f, 0x4d, 0x87, 0x38, 0xf6, 0xae]);
/// Signature, length, version, number of sections (Intel TDX Virtual Firmware Design Guide, 344991, TDVF
/// descriptor).
const HEADER: usize = 16;
/// The guide's TDVF section: two 32-bit numbers, two 64-bit ones, two 32-bit ones.
const SECTION: usize = 32;
/// OVMF has seven today.
const MAX_SECTIONS: usize = 64;
/// All memory that the sections name together: OVMF's are below 8 MiB.
const MAX_MEMORY: u64 = 64 << 20;

/// What a section is for (Intel TDX Virtual Firmware Design Guide, TDVF section types; QEMU: include/hw/i386/tdvf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TdxSectionKind {
    /// The boot firmware volume: code.
    Bfv,
    /// The configuration firmware volume: variables.
    Cfv,
    /// Where the host writes the list of the machine's resources.
    TdHob,
    /// Memory that the firmware uses first.
    TempMem,
}

/// A range of guest memory that the host adds before a TDX guest starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdxSection {
    /// What for.
    pub kind: TdxSectionKind,
    /// Where its bytes stand in the image. Whether they do is seen when they are measured: the tables of an image can be read
    /// from its last part alone.
    pub data_offset: usize,
    /// How many bytes of the image; the rest of the memory is zero.
    pub data_size: usize,
    /// Its first byte in the guest.
    pub address: u64,
    /// How many bytes in the guest, in whole pages.
    pub size: u64,
    /// Whether its contents are measured (TDH.MR.EXTEND), or only its place (TDH.MEM.PAGE.ADD).
    pub extended: bool,
}

pub(super) fn sections(image: &[u8], table: &Table<'_>) -> Result<Vec<TdxSection>, MeasurementError> {
    let bad = MeasurementError::Firmware;
    let Some(at) = table.pointer(&POINTER, image.len())? else { return Ok(Vec::new()) };
    let outside = bad("the TDX metadata reach beyond the image");
    if at.checked_sub(GUID.len()).and_then(|before| array(image, before)) != Some(GUID) {
        return Err(bad("the TDX metadata have no GUID before them"));
    }
    let header = slice(image, at, HEADER).ok_or(outside)?;
    if array(header, 0) != Some(*b"TDVF") || u32_at(header, 8) != Some(1) {
        return Err(bad("the TDX metadata are of an unknown kind or version"));
    }
    let (length, count) = (size_at(header, 4).unwrap_or(0), size_at(header, 12).unwrap_or(0));
    if count == 0 || count > MAX_SECTIONS {
        return Err(bad("the TDX metadata have no section or more than 64"));
    }
    if length != HEADER + count * SECTION {
        return Err(bad("the TDX metadata's length is not that of their sections"));
    }
    let body = slice(image, at, length).and_then(|all| all.get(HEADER..)).ok_or(outside)?;
    let sections: Vec<_> = body.chunks_exact(SECTION).map(section).collect::<Result<_, _>>()?;
    let mut ranges: Vec<(u64, u64)> = sections.iter().map(|s| (s.address, s.address + s.size)).collect();
    ranges.sort_unstable();
    if ranges.windows(2).any(|pair| matches!(pair, [(_, end), (start, _)] if end > start)) {
        return Err(bad("two TDX sections overlap"));
    }
    if sections.iter().map(|s| s.size).sum::<u64>() > MAX_MEMORY {
        return Err(bad("the TDX sections name more than 64 MiB"));
    }
    Ok(sections)
}

fn section(bytes: &[u8]) -> Result<TdxSection, MeasurementError> {
    let bad = MeasurementError::Firmware;
    let cut = bad("a TDX section is cut");
    let kind = match u32_at(bytes, 24).ok_or(cut)? {
        0 => TdxSectionKind::Bfv,
        1 => TdxSectionKind::Cfv,
        2 => TdxSectionKind::TdHob,
        3 => TdxSectionKind::TempMem,
        _ => return Err(bad("a TDX section is of a kind that QEMU does not place")),
    };
    let extended = match u32_at(bytes, 28).ok_or(cut)? {
        0 => false,
        1 => true,
        _ => return Err(bad("a TDX section has attributes that QEMU does not serve")),
    };
    let section = TdxSection {
        kind,
        data_offset: size_at(bytes, 0).ok_or(cut)?,
        data_size: size_at(bytes, 4).ok_or(cut)?,
        address: u64_at(bytes, 8).ok_or(cut)?,
        size: u64_at(bytes, 16).ok_or(cut)?,
        extended,
    };
    let whole = section.address.is_multiple_of(4096) && section.size.is_multiple_of(4096) && section.size != 0;
    if !whole || section.size > MAX_MEMORY || section.address.checked_add(section.size).is_none() {
        return Err(bad("a TDX section is not made of whole pages"));
    }
    let from_image = matches!(kind, TdxSectionKind::Bfv | TdxSectionKind::Cfv);
    if from_image == (section.data_size == 0) || u64::try_from(section.data_size).is_ok_and(|n| n > section.size) {
        return Err(bad("a TDX section and its bytes in the image do not fit"));
    }
    Ok(section)
}
