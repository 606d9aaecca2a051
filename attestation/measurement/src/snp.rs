//! Turns firmware, kernel, initrd and command line into the launch digest of an SEV-SNP guest under QEMU.
//! It computes with the `sev` crate and shares its mistakes; a test compares it with a second tool of the same ancestry.

use std::{fs::File, io::Read as _, path::Path};

use sev::measurement::{
    snp::{SnpMeasurementArgs, snp_calc_launch_digest},
    vmsa::{GuestFeatures, VMMType},
};

use crate::{CpuModel, Firmware, MeasurementError, firmware::MAX_FIRMWARE, measurable};

/// The `SEV_FEATURES` word of a guest that has SNP and nothing else: bit 0 (AMD64 APM volume 2, table B-4, VMSA offset 0x3B0).
pub const SNP_ACTIVE: u64 = 1;

/// The most virtual processors: what QEMU's q35 machine took for most of its life (hw/i386/pc_q35.c, `max_cpus`).
pub const MAX_VCPUS: u32 = 288;

/// A kernel or initrd is at most 256 MiB.
const MAX_BOOT_FILE: u64 = 256 << 20;

/// What QEMU is given to start an SEV-SNP guest with a measured kernel.
pub struct SnpVm<'a> {
    /// The firmware (OVMF, AmdSev flavour).
    pub firmware: &'a Path,
    /// The kernel.
    pub kernel: &'a Path,
    /// The initial RAM disk.
    pub initrd: &'a Path,
    /// The kernel command line, with its two measured words.
    pub command_line: &'a str,
    /// How many virtual processors, 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
    /// QEMU's processor model.
    pub cpu: CpuModel,
    /// The `SEV_FEATURES` word of the VMSA: [`SNP_ACTIVE`] alone unless the host turns on more.
    pub guest_features: u64,
}

/// The launch digest (MEASUREMENT) of the guest.
///
/// The files are opened more than once: give files that nobody changes meanwhile, such as sealed memory files.
///
/// # Errors
/// `COMMAND_LINE`, `MEASUREMENT_NO_PROCESSOR`, `MEASUREMENT_PROCESSORS`, `MEASUREMENT_INPUTS` when a file cannot be read, `FIRMWARE_FORMAT`, and
/// `FIRMWARE_LACKS` when the firmware does not ask for kernel hashes.
pub fn snp_launch_digest(vm: &SnpVm<'_>) -> Result<[u8; 48], MeasurementError> {
    measurable(vm.command_line)?;
    if vm.vcpus == 0 {
        return Err(MeasurementError::NoProcessor);
    }
    if vm.vcpus > MAX_VCPUS {
        return Err(MeasurementError::TooManyProcessors);
    }
    // The crate below indexes into the firmware's tables; what it would stumble over is refused here.
    Firmware::parse(&firmware_bytes(vm.firmware)?)?.fit_for_snp()?;
    for path in [vm.kernel, vm.initrd] {
        boot_file(path)?;
    }
    let digest = snp_calc_launch_digest(SnpMeasurementArgs {
        vcpus: vm.vcpus,
        vcpu_type: vm.cpu.of_sev(),
        ovmf_file: vm.firmware.to_path_buf(),
        guest_features: GuestFeatures(vm.guest_features),
        kernel_file: Some(vm.kernel.to_path_buf()),
        initrd_file: Some(vm.initrd.to_path_buf()),
        append: Some(vm.command_line),
        ovmf_hash_str: None,
        vmm_type: Some(VMMType::QEMU),
    })
    .map_err(|_| MeasurementError::LaunchInputs)?;
    let bytes: Vec<u8> = digest.try_into().map_err(|_| MeasurementError::LaunchInputs)?;
    bytes.try_into().map_err(|_| MeasurementError::LaunchInputs)
}

fn firmware_bytes(path: &Path) -> Result<Vec<u8>, MeasurementError> {
    let mut bytes = Vec::new();
    let cap = u64::try_from(MAX_FIRMWARE).map_err(|_| MeasurementError::LaunchInputs)?;
    File::open(path)
        .and_then(|file| file.take(cap + 1).read_to_end(&mut bytes))
        .map_err(|_| MeasurementError::LaunchInputs)?;
    Ok(bytes)
}

/// A regular file of a size that a kernel or initrd may have.
fn boot_file(path: &Path) -> Result<(), MeasurementError> {
    let metadata = File::open(path).and_then(|file| file.metadata()).map_err(|_| MeasurementError::LaunchInputs)?;
    if !metadata.is_file() || metadata.len() > MAX_BOOT_FILE {
        return Err(MeasurementError::LaunchInputs);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn vm<'a>(firmware: &'a Path, guest_features: u64, vcpus: u32) -> SnpVm<'a> {
        // Its bytes do not matter here, but it must be a regular file: an empty one, as the known values were made with.
        let empty = samples::empty();
        let command_line = "console=ttyS0 loglevel=7";
        SnpVm { firmware, kernel: empty, initrd: empty, command_line, vcpus, cpu: CpuModel::EpycV4, guest_features }
    }

    #[test]
    fn known_launch_digests() {
        let ovmf = samples::sev_file("ovmf_AmdSev_suffix.bin");
        let digest = |features| hex::encode(snp_launch_digest(&vm(&ovmf, features, 1)).unwrap());
        // tests/measurement.rs of the `sev` crate.
        assert_eq!(
            digest(0x1),
            "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa"
        );
        assert_eq!(
            digest(0x21),
            "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977"
        );
    }

    #[test]
    fn every_input_changes_the_digest() {
        let ovmf = samples::sev_file("ovmf_AmdSev_suffix.bin");
        let base = || vm(&ovmf, SNP_ACTIVE, 1);
        let all = [
            base(),
            SnpVm { vcpus: 2, ..base() },
            SnpVm { cpu: CpuModel::EpycMilan, ..base() },
            SnpVm { guest_features: 0x21, ..base() },
            SnpVm { command_line: "console=ttyS0 loglevel=8", ..base() },
            SnpVm { kernel: &ovmf, ..base() },
            SnpVm { initrd: &ovmf, ..base() },
        ]
        .map(|vm| snp_launch_digest(&vm).unwrap());
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b), "case {i}");
        }
    }

    #[test]
    fn bad_inputs_have_codes() {
        let ovmf = samples::sev_file("ovmf_AmdSev_suffix.bin");
        let code = |vm: &SnpVm<'_>| snp_launch_digest(vm).unwrap_err().code();
        assert_eq!(code(&vm(&ovmf, 1, 0)), "MEASUREMENT_NO_PROCESSOR");
        assert_eq!(code(&vm(&ovmf, 1, MAX_VCPUS + 1)), "MEASUREMENT_PROCESSORS");
        assert_eq!(code(&vm(Path::new("/nonexistent"), 1, 1)), "MEASUREMENT_INPUTS");
        assert_eq!(code(&SnpVm { kernel: Path::new("/dev/null"), ..vm(&ovmf, 1, 1) }), "MEASUREMENT_INPUTS");
        assert_eq!(code(&SnpVm { command_line: "a ", ..vm(&ovmf, 1, 1) }), "COMMAND_LINE");
        assert_eq!(code(&vm(samples::empty(), 1, 1)), "FIRMWARE_FORMAT");
        let no_hashes_section = samples::sev_file("ovmf_OvmfX64_suffix.bin");
        assert_eq!(code(&vm(&no_hashes_section, 1, 1)), "FIRMWARE_LACKS");
    }

    #[test]
    fn what_the_parser_lets_through_the_crate_below_does_not_stumble_over() {
        let whole = std::fs::read(samples::sev_file("ovmf_AmdSev_suffix.bin")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("firmware");
        // Footer table and SEV metadata with every byte changed; the rest of the image is only hashed.
        let mut computed = 0;
        for at in (0xaac..0xaac + 100).chain(0xf48..0xfe0) {
            for value in [0x00, 0x01, 0x10, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if Firmware::parse(&bytes).and_then(|firmware| firmware.fit_for_snp()).is_ok() {
                    std::fs::write(&path, &bytes).unwrap();
                    assert!(snp_launch_digest(&vm(&path, 1, 1)).is_ok(), "byte {at:#x} = {value:#x}");
                    computed += 1;
                }
            }
        }
        assert!(computed > 100, "control: {computed} of them were computed");
    }
}
