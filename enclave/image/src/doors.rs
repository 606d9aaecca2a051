//! Turns a firmware that can be made to start what nobody measured into one that cannot: no shim, no ROM, no driver that reads a disk.
//! It does not say that other doors are shut; a firmware in which these are not where they are expected is refused.
//!
//! The three doors (SECURITY.md, "Virtual machines"): OVMF starts the file `shim` of QEMU's loader before the kernel and compares it with
//! no hash (edk2: OvmfPkg/Library/GenericQemuLoadImageLib, OvmfPkg/QemuKernelLoaderFsDxe), and it goes on to a disk when the kernel
//! fails. The name that it looks for becomes one that no host can give, since hosts' names have 8 bits to a letter; the drivers become
//! padding. It also loads drivers out of devices' ROMs, unless a driver that the host can turn off forbids it (edk2:
//! OvmfPkg/IncompatiblePciDeviceSupportDxe); the one function that hands them out now finds none. Formats: UEFI Platform Initialization 1.8, volume 3, sections 2 and 3 (volumes, files, sections); LZMA as in edk2's
//! LzmaCustomDecompressLib.

use std::io::{Read as _, Write as _};

use lzma_rust2::{LzmaOptions, LzmaReader, LzmaWriter};

/// EE4E5898-3914-4259-9D6E-DC7BD79403CF as UEFI lays it out: a section compressed with LZMA (edk2: LzmaDecompress.h).
const LZMA: [u8; 16] = [0x98, 0x58, 0x4e, 0xee, 0x14, 0x39, 0x59, 0x42, 0x9d, 0x6e, 0xdc, 0x7b, 0xd7, 0x94, 0x03, 0xcf];
/// EFI_SECTION_GUID_DEFINED and EFI_SECTION_USER_INTERFACE.
const GUID_DEFINED: u8 = 0x02;
const USER_INTERFACE: u8 = 0x15;
/// EFI_FV_FILETYPE_DRIVER, EFI_FV_FILETYPE_APPLICATION, EFI_FV_FILETYPE_FFS_PAD.
const DRIVER: u8 = 0x07;
const APPLICATION: u8 = 0x09;
const PADDING: u8 = 0xF0;
/// More than any firmware holds uncompressed, and the memory that this takes, in KiB.
const MAX_BYTES: u64 = 64 << 20;
const MAX_MEMORY_KIB: u32 = 256 << 10;
/// Everything through which the firmware reads a medium of the host's, runs its byte code, or lets it choose at the console.
const DROPPED: [&str; 20] = [
    "AtaAtapiPassThruDxe",
    "AtaBusDxe",
    "BootManagerMenuApp",
    "DiskIoDxe",
    "EbcDxe",
    "EmmcDxe",
    "Fat",
    "NvmExpressDxe",
    "PartitionDxe",
    "RamDiskDxe",
    "SataController",
    "ScsiBus",
    "ScsiDisk",
    "SdDxe",
    "SdMmcPciHcDxe",
    "UdfDxe",
    "UiApp",
    "UsbMassStorageDxe",
    "VirtioBlkDxe",
    "VirtioScsiDxe",
];

/// In PciBusDxe's LoadFile2, through which every driver in a ROM is loaded (edk2: PciOptionRomSupport.c, LocalLoadFile2): is this a
/// ROM? `cmp word [rax], 0xaa55; je on; mov rax, EFI_NOT_FOUND`, after which it returns.
const ROM: [u8; 17] = *b"\x66\x81\x38\x55\xaa\x74\x0f\x48\xb8\x0e\0\0\0\0\0\0\x80";
/// Where in it the jump stands, and what comes in its place: twice `nop`, so that nothing is ever a ROM.
const JUMP: usize = 5;
const NEVER: [u8; 2] = [0x90, 0x90];

/// The same firmware with its doors shut, in the same length; why not otherwise.
pub(crate) fn shut(firmware: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (start, end) = compressed(firmware).ok_or("its compressed part is not where it should be")?;
    let body = firmware.get(start..end).unwrap_or_default();
    let mut inside = Vec::new();
    let reader = LzmaReader::new_mem_limit(body, MAX_MEMORY_KIB, None).map_err(|_| "its compressed part is broken")?;
    reader.take(MAX_BYTES).read_to_end(&mut inside).map_err(|_| "its compressed part is broken")?;

    forget_shim(&mut inside)?;
    forget_roms(&mut inside)?;
    drop_files(&mut inside)?;

    let (properties, dictionary) = (body.first().copied().unwrap_or(0), body.get(1..5).and_then(|d| d.try_into().ok()));
    let mut options = LzmaOptions::with_preset(9);
    options.dict_size = u32::from_le_bytes(dictionary.unwrap_or([0; 4]));
    (options.lc, options.lp, options.pb) =
        (u32::from(properties % 9), u32::from(properties / 9 % 5), u32::from(properties / 45));
    options.nice_len = 273;
    let failed = |_| "it cannot be compressed again";
    let mut writer = LzmaWriter::new_use_header(Vec::new(), &options, Some(inside.len() as u64)).map_err(failed)?;
    writer.write_all(&inside).map_err(failed)?;
    let mut again = writer.finish().map_err(failed)?;
    if again.len() > body.len() {
        return Err("it does not fit into its place any more");
    }
    // The reader stops when it has all; what is left of the place is not looked at.
    again.resize(body.len(), 0);
    let mut shut = firmware.to_vec();
    shut.get_mut(start..end).unwrap_or_default().copy_from_slice(&again);
    Ok(shut)
}

/// Where the bytes of the first LZMA section are: the volumes with PEI and DXE. A second, if there is one, is code of the reset vector.
fn compressed(firmware: &[u8]) -> Option<(usize, usize)> {
    let guid = firmware.windows(LZMA.len()).position(|bytes| bytes == LZMA)?;
    let section = guid.checked_sub(4)?;
    let size = number(firmware, section, 3)?;
    let data = number(firmware, guid + LZMA.len(), 2)?;
    let (start, end) = (section.checked_add(data)?, section.checked_add(size)?);
    let fits = *firmware.get(section + 3)? == GUID_DEFINED && data == 24 && start + 13 < end && end <= firmware.len();
    fits.then_some((start, end))
}

fn forget_shim(inside: &mut [u8]) -> Result<(), &'static str> {
    let name = utf16("shim");
    let places: Vec<_> =
        inside.windows(name.len()).enumerate().filter(|(_, bytes)| *bytes == name).map(|(at, _)| at).collect();
    if places.is_empty() {
        return Err("it looks for no shim where it should");
    }
    for at in places {
        // U+FF53, a wide letter s.
        inside.get_mut(at..at + 2).unwrap_or_default().copy_from_slice(&[0x53, 0xFF]);
    }
    Ok(())
}

fn forget_roms(inside: &mut [u8]) -> Result<(), &'static str> {
    let mut places = inside.windows(ROM.len()).enumerate().filter(|(_, bytes)| *bytes == ROM).map(|(at, _)| at);
    let (Some(at), None) = (places.next(), places.next()) else {
        return Err("it reads devices' ROMs in another way than the one that is known");
    };
    inside.get_mut(at + JUMP..at + JUMP + NEVER.len()).unwrap_or_default().copy_from_slice(&NEVER);
    Ok(())
}

fn drop_files(inside: &mut [u8]) -> Result<(), &'static str> {
    let volumes: Vec<_> =
        inside.windows(4).enumerate().filter(|(_, b)| *b == b"_FVH").filter_map(|(at, _)| at.checked_sub(40)).collect();
    let mut dropped: Vec<&str> = Vec::new();
    for volume in volumes {
        for (at, name) in files(inside, volume) {
            let (Some(name), Some(header)) = (DROPPED.iter().find(|d| **d == name), inside.get_mut(at..at + 24)) else {
                continue;
            };
            let kind = header[18];
            if kind != DRIVER && kind != APPLICATION {
                return Err("a driver in it is of another type");
            }
            // The header's bytes add up to the same sum.
            header[16] = header[16].wrapping_add(kind).wrapping_sub(PADDING);
            header[18] = PADDING;
            dropped.push(name);
        }
    }
    dropped.sort_unstable();
    if dropped == DROPPED { Ok(()) } else { Err("it has other drivers than the ones that are known") }
}

/// The files of a volume and their names, as far as it has any.
fn files(inside: &[u8], volume: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (Some(length), Some(header), Some(extended)) =
        (number(inside, volume + 32, 8), number(inside, volume + 48, 2), number(inside, volume + 52, 2))
    else {
        return found;
    };
    let Some(end) = volume.checked_add(length).filter(|end| *end <= inside.len()) else { return found };
    let behind = match extended {
        0 => Some(header),
        at => number(inside, volume + at + 16, 4).and_then(|size| size.checked_add(at)),
    };
    let Some(mut at) = behind.map(|behind| volume.saturating_add(behind.next_multiple_of(8))) else { return found };
    while let (Some(size), true) = (number(inside, at + 20, 3), at + 24 < end) {
        if !(24..0xFF_FFFF).contains(&size) {
            break;
        }
        if let Some(name) = inside.get(at + 24..at + size).and_then(name) {
            found.push((at, name));
        }
        at = volume + (at - volume + size).next_multiple_of(8);
    }
    found
}

/// The text of a file's user-interface section.
fn name(mut sections: &[u8]) -> Option<String> {
    loop {
        let size = number(sections, 0, 3).filter(|size| *size >= 4)?;
        if sections.get(3) == Some(&USER_INTERFACE) {
            let (units, _) = sections.get(4..size)?.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
            return String::from_utf16(&units).ok().map(|name| name.trim_end_matches('\0').to_owned());
        }
        sections = sections.get(size.next_multiple_of(4)..)?;
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    usize::try_from(bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    /// SHA-256 of what becomes of the locked firmware.
    const RESULT: &str = "0bf590c9b79a7ff6961a962f991979e96b0d6ab7d93ba7006a0469a1442d651c";

    /// The locked package's file, out of the cache that `cargo xtask image` keeps.
    fn locked() -> Option<Vec<u8>> {
        let lock = crate::Lock::committed().unwrap();
        let input = lock.packages().iter().find(|input| input.role() == "firmware").unwrap();
        let cache = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/image-cache/packages");
        let package = std::fs::read(cache.join(format!("{}.deb", input.sha256))).ok()?;
        let mut tree = crate::unpack::Tree::default();
        crate::unpack::unpack(&mut tree, &input.name, &package, &|path| path == crate::build::FIRMWARE).unwrap();
        tree.file(crate::build::FIRMWARE).map(<[u8]>::to_vec)
    }

    #[test]
    fn what_is_no_firmware_is_refused() {
        for bytes in [&b""[..], &[0; 100], &LZMA, &[&[0, 0, 0, 2][..], &LZMA, &[24, 0, 1, 0]].concat()] {
            assert!(shut(bytes).is_err());
        }
    }

    #[test]
    fn the_locked_firmware_loses_its_doors_and_nothing_else() {
        let Some(before) = locked() else {
            println!("NOT RUN: the_locked_firmware_loses_its_doors: its package is not in target/image-cache");
            return;
        };
        let after = shut(&before).unwrap();
        let digest = hex::encode(ring::digest::digest(&ring::digest::SHA256, &after));
        assert_eq!(digest, RESULT, "attestation/measurement/src/firmware/known.rs names it, too");
        let (start, end) = compressed(&before).unwrap();
        assert!(after.len() == before.len() && after[..start] == before[..start] && after[end..] == before[end..]);
        let unpack = |bytes: &[u8]| {
            let mut inside = Vec::new();
            LzmaReader::new_mem_limit(&bytes[start..end], MAX_MEMORY_KIB, None)
                .unwrap()
                .read_to_end(&mut inside)
                .unwrap();
            inside
        };
        let (old, new) = (unpack(&before), unpack(&after));
        let changed = old.iter().zip(&new).filter(|(a, b)| a != b).count();
        assert!(old.len() == new.len() && changed <= 2 * DROPPED.len() + 2 * 4 + NEVER.len(), "{changed} bytes");
        assert!(!new.windows(10).any(|bytes| bytes == utf16("shim")) && !new.windows(17).any(|bytes| bytes == ROM));
        assert!(shut(&after).is_err(), "there is nothing to shut any more");
    }
}
