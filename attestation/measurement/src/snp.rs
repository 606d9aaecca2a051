//! Turns firmware, kernel, initrd and command line into the launch digest of an SEV-SNP guest under QEMU.
//! It computes with the `sev` crate and shares its mistakes; the image's tests compare it with a second tool.

use std::path::Path;

use sev::measurement::{
    snp::{SnpMeasurementArgs, snp_calc_launch_digest},
    vcpu_types::CpuType,
    vmsa::{GuestFeatures, VMMType},
};

use crate::MeasurementError;

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
    /// How many virtual processors, at least one.
    pub vcpus: u32,
    /// The SEV_FEATURES word of the VMSA: bit 0 is SNP itself.
    pub guest_features: u64,
}

/// The launch digest (MEASUREMENT) for a guest with EPYC-v4 processors.
///
/// # Errors
/// `MEASUREMENT_INPUTS` when a file cannot be read or the firmware does not fit, `MEASUREMENT_NO_PROCESSOR`.
pub fn snp_launch_digest(vm: &SnpVm<'_>) -> Result<[u8; 48], MeasurementError> {
    if vm.vcpus == 0 {
        return Err(MeasurementError::NoProcessor);
    }
    let digest = snp_calc_launch_digest(SnpMeasurementArgs {
        vcpus: vm.vcpus,
        vcpu_type: CpuType::EpycV4,
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// The firmware samples lie in the source folder of the `sev` crate.
    fn firmware(name: &str) -> PathBuf {
        let only_here = ["--filter-platform", "x86_64-unknown-linux-gnu"].map(String::from).to_vec();
        let metadata = cargo_metadata::MetadataCommand::new().other_options(only_here).exec().unwrap();
        let sev = metadata.packages.iter().find(|p| p.name.as_str() == "sev").unwrap();
        sev.manifest_path.parent().unwrap().join("tests/measurement").join(name).into_std_path_buf()
    }

    fn vm<'a>(firmware: &'a Path, guest_features: u64, vcpus: u32) -> SnpVm<'a> {
        let null = Path::new("/dev/null");
        SnpVm { firmware, kernel: null, initrd: null, command_line: "console=ttyS0 loglevel=7", vcpus, guest_features }
    }

    #[test]
    fn known_launch_digests() {
        let ovmf = firmware("ovmf_AmdSev_suffix.bin");
        let digest = |features| hex::encode(snp_launch_digest(&vm(&ovmf, features, 1)).unwrap());
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
    fn bad_inputs_have_codes() {
        let ovmf = firmware("ovmf_AmdSev_suffix.bin");
        assert_eq!(snp_launch_digest(&vm(&ovmf, 1, 0)), Err(MeasurementError::NoProcessor));
        assert_eq!(snp_launch_digest(&vm(Path::new("/nonexistent"), 1, 1)), Err(MeasurementError::LaunchInputs));
        let no_hashes_section = firmware("ovmf_OvmfX64_suffix.bin");
        assert_eq!(snp_launch_digest(&vm(&no_hashes_section, 1, 1)), Err(MeasurementError::LaunchInputs));
    }
}
