//! Turns a TDX firmware, a kernel, an initrd and a command line into MRTD, RTMR1 and RTMR2 of a direct boot under QEMU.
//! None of it was ever compared with a quote of a real machine by this project, and RTMR0 is not computed at all.
//!
//! # What is assumed
//!
//! **MRTD** depends on the firmware and on how the host adds it, and the secure module measures every call. Assumed is Linux's KVM
//! since 6.16 with QEMU since 10.1: for every section of the TDX metadata in their order, page by page, TDH.MEM.PAGE.ADD and, where
//! the section says so, TDH.MR.EXTEND for its 16 chunks of 256 bytes (Linux: arch/x86/kvm/vmx/tdx.c, `tdx_gmem_post_populate`;
//! QEMU: target/i386/kvm/tdx.c, `tdx_finalize_vm`). Some kernels that were patched for TDX before that add all pages of a section
//! first and extend afterwards: they give another MRTD for the same firmware.
//!
//! **RTMR1** is extended five times, by OVMF: with the Authenticode digest of the kernel when it is loaded, "Calling EFI Application
//! from Boot Option", a separator of four zero bytes, and the two actions of leaving the boot services (edk2:
//! OvmfPkg/Library/PlatformBootManagerLib/QemuKernel.c loads the image before it signals ready-to-boot;
//! OvmfPkg/Tcg/TdTcg2Dxe/TdTcg2Dxe.c, `OnReadyToBoot`, `OnExitBootServices`; PCRs 2 to 6 map to RTMR1). Assumed are an OVMF that
//! reads the unpatched kernel (`etc/boot/kernel`, QEMU since 10.0; Debian's 2026.08 build for SEV was seen to do so), no device with an option
//! ROM, no shim, and one successful ExitBootServices.
//!
//! **RTMR2** is extended twice, by Linux's EFI stub since 6.9: with its load options as UTF-16 with a closing zero, and with the
//! initrd (Linux: drivers/firmware/efi/libstub/efi-stub-helper.c, `efi_convert_cmdline`, `efi_load_initrd`,
//! `efi_measure_tagged_event`; PCR 9 maps to RTMR2). OVMF puts `initrd=initrd ` before the command line (edk2:
//! OvmfPkg/Library/GenericQemuLoadImageLib/GenericQemuLoadImageLib.c); versions before 2025 put it behind, and give another RTMR2.
//!
//! **RTMR0** holds what the host chose: the list of memory, the ACPI tables, the firmware's variables. It is recorded from a first
//! boot that its owner trusts, and named in the policy.

use ring::digest::{Context, SHA384};
use vouchsafe_attestation::lp;

use crate::{Firmware, MeasurementError, authenticode, bytes::slice, firmware::TdxSection, measurable};

/// A page (Intel TDX Module Base Architecture Specification, 348549).
const PAGE: u64 = 4096;
/// What one TDH.MR.EXTEND measures (Intel TDX Module ABI Reference Specification, 348551, TDH.MR.EXTEND leaf).
const CHUNK: usize = 256;
/// What OVMF puts before the command line (edk2: GenericQemuLoadImageLib.c).
const INITRD_OPTION: &str = "initrd=initrd ";
/// `EFI_CALLING_EFI_APPLICATION` (TCG PC Client Platform Firmware Profile, actions of PCR 4; edk2:
/// MdePkg/Include/IndustryStandard/UefiTcgPlatform.h).
const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
/// `EV_SEPARATOR` (the same documents).
const SEPARATOR: &[u8] = &[0; 4];
/// `EFI_EXIT_BOOT_SERVICES_INVOCATION` (the same documents).
const LEAVING: &[u8] = b"Exit Boot Services Invocation";
/// `EFI_EXIT_BOOT_SERVICES_SUCCEEDED` (the same documents).
const LEFT: &[u8] = b"Exit Boot Services Returned with Success";

/// MRTD: the digest of the pages that the host adds before the guest runs.
///
/// # Errors
/// `FIRMWARE_FORMAT`, and `FIRMWARE_LACKS` without TDX metadata or when nothing of the image is measured.
pub fn mrtd(firmware: &[u8]) -> Result<[u8; 48], MeasurementError> {
    let parsed = Firmware::parse(firmware)?;
    let sections = parsed.tdx_sections();
    if sections.is_empty() {
        return Err(MeasurementError::FirmwareLacks("TDX metadata"));
    }
    if !sections.iter().any(|section| section.extended) {
        return Err(MeasurementError::FirmwareLacks("TDX section whose contents are measured"));
    }
    let mut context = Context::new(&SHA384);
    for section in sections {
        add(&mut context, section, firmware)?;
    }
    let mut digest = [0; 48];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

/// RTMR1: the firmware's record of the kernel that it loaded.
///
/// # Errors
/// `KERNEL_FORMAT`.
pub fn rtmr1(kernel: &[u8]) -> Result<[u8; 48], MeasurementError> {
    let events = [CALLING, SEPARATOR, LEAVING, LEFT].map(lp::sha384);
    let loaded = extend([0; 48], &authenticode::sha384(kernel)?);
    Ok(events.iter().fold(loaded, extend))
}

/// RTMR2: the kernel's record of its options and its initrd. `command_line` is what QEMU is given.
///
/// # Errors
/// `COMMAND_LINE`.
pub fn rtmr2(command_line: &str, initrd: &[u8]) -> Result<[u8; 48], MeasurementError> {
    measurable(command_line)?;
    // The firmware widens byte by byte: what is not ASCII does not become the UTF-16 of its letters.
    let options: Vec<u8> = INITRD_OPTION.bytes().chain(command_line.bytes()).chain([0]).flat_map(|b| [b, 0]).collect();
    Ok(extend(extend([0; 48], &lp::sha384(&options)), &lp::sha384(initrd)))
}

/// TDG.MR.RTMR.EXTEND: the register becomes the digest of itself and the new digest (Intel 348551).
fn extend(register: [u8; 48], digest: &[u8; 48]) -> [u8; 48] {
    let mut both = [0; 96];
    let (left, right) = both.split_at_mut(48);
    left.copy_from_slice(&register);
    right.copy_from_slice(digest);
    lp::sha384(&both)
}

fn add(context: &mut Context, section: &TdxSection, image: &[u8]) -> Result<(), MeasurementError> {
    let beyond = MeasurementError::Firmware("a TDX section's bytes lie beyond the image");
    let data = slice(image, section.data_offset, section.data_size).ok_or(beyond)?;
    let mut pages = data.chunks(4096);
    for number in 0..section.size / PAGE {
        let address = section.address + number * PAGE;
        context.update(&call(b"MEM.PAGE.ADD", address));
        let mut page = [0; 4096];
        // Memory beyond the bytes of the image is zero.
        if let Some((bytes, place)) = pages.next().and_then(|bytes| Some((bytes, page.get_mut(..bytes.len())?))) {
            place.copy_from_slice(bytes);
        }
        if section.extended {
            for (at, chunk) in (address..).step_by(CHUNK).zip(page.chunks_exact(CHUNK)) {
                context.update(&call(b"MR.EXTEND", at));
                context.update(chunk);
            }
        }
    }
    Ok(())
}

/// What a call of the host adds to MRTD: 128 bytes, the call's name at 0, the guest's physical address at 16 (Intel 348549, "Build-time
/// measurement register (MRTD)"; 348551, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND leaves).
fn call(name: &[u8], address: u64) -> [u8; 128] {
    let mut block = [0; 128];
    for (place, byte) in block.iter_mut().zip(name) {
        *place = *byte;
    }
    for (place, byte) in block.iter_mut().skip(16).zip(address.to_le_bytes()) {
        *place = byte;
    }
    block
}

#[cfg(test)]
mod tests;
