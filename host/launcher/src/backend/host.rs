//! Turns a look at this host into which QEMU and which accelerator a machine gets, or into the first thing that is missing.
//! It is the short form that a launch needs; `vouchsafe doctor` names everything, with the fix for each.

use std::{
    fs::{self, OpenOptions},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{ask::ask, qemu::Accel};
use crate::{
    LaunchError,
    spec::{AccelChoice, Backend, MachineSpec, QuoteService},
};

/// Where programs are (hier(7)); the environment has no say in it.
pub const SEARCH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];
/// QEMU's program, as it is installed.
pub const QEMU: &str = "qemu-system-x86_64";
/// What QEMU must be at least: the version that the machine's command line was tried with.
const QEMU_LEAST: (u32, u32) = (10, 0);
/// The first QEMU with `tdx-guest` (its release notes, 10.1).
const QEMU_LEAST_TDX: (u32, u32) = (10, 1);
/// CPUID Fn8000_001F: encrypted memory; EBX\[5:0\] is the position of the C-bit (AMD 24594, appendix E.4.17).
const CPUID_ENCRYPTED_MEMORY: u32 = 0x8000_001F;

/// The absolute path of QEMU's program: a bare name is looked for in the folders `search`.
///
/// # Errors
/// `QEMU_MISSING`.
pub fn find_qemu(named: &Path, search: &[&Path]) -> Result<PathBuf, LaunchError> {
    let is_program = |path: &PathBuf| path.metadata().is_ok_and(|about| about.is_file());
    let found = if named.components().count() > 1 {
        std::path::absolute(named).ok().filter(is_program)
    } else {
        search.iter().map(|dir| dir.join(named)).find(is_program)
    };
    found.ok_or(LaunchError::QemuMissing)
}

/// The oldest QEMU that runs `backend`.
#[must_use]
pub const fn least_qemu(backend: Backend) -> (u32, u32) {
    if matches!(backend, Backend::Tdx) { QEMU_LEAST_TDX } else { QEMU_LEAST }
}

/// Refuses a QEMU that is too old for `backend`.
///
/// # Errors
/// `QEMU_MISSING` when it does not run or says no version, `QEMU_VERSION`.
pub fn require_version(qemu: &Path, backend: Backend) -> Result<(), LaunchError> {
    let found = ask(qemu, &["--version"]).and_then(|says| version(&says)).ok_or(LaunchError::QemuMissing)?;
    let least = least_qemu(backend);
    if found < least { Err(LaunchError::QemuVersion { found, least }) } else { Ok(()) }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let number = text.strip_prefix("QEMU emulator version ")?.split([' ', '\n']).next()?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// What a machine is started with on this host.
#[derive(Clone, Debug)]
pub struct Means {
    /// QEMU's program.
    pub qemu: PathBuf,
    /// What executes a simulated machine.
    pub accel: Accel,
    /// The bit that marks encrypted memory; 0 where nothing is encrypted.
    pub c_bit: u32,
}

impl Means {
    /// Looks at this host.
    ///
    /// # Errors
    /// `HOST_UNSUPPORTED`, `QEMU_MISSING`, `QEMU_VERSION`.
    pub fn of(backend: Backend, machine: &MachineSpec) -> Result<Self, LaunchError> {
        let root = Path::new("/");
        require_hardware(root, backend, &machine.quote_service)?;
        let c_bit = if backend == Backend::Snp { c_bit()? } else { 0 };
        let accel = match backend {
            Backend::SimVm => accelerator(root, machine.accel)?,
            _ => Accel::Kvm,
        };
        let qemu = find_qemu(&machine.qemu, &SEARCH.map(Path::new))?;
        require_version(&qemu, backend)?;
        Ok(Self { qemu, accel, c_bit })
    }

    /// From KVM to QEMU's interpreter, where the operator left that open and the guest is a simulated one; whether it did.
    pub fn fall_back(&mut self, backend: Backend, choice: AccelChoice) -> bool {
        let falls = self.accel == Accel::Kvm && choice == AccelChoice::Auto && backend.is_simulated();
        if falls {
            self.accel = Accel::Tcg;
        }
        falls
    }
}

/// What executes a simulated machine on the host below `root`.
///
/// A `/dev/kvm` alone does not mean much: hosts that are guests themselves may offer a paravirtual one, where stock kernels hang.
///
/// # Errors
/// `HOST_UNSUPPORTED` when KVM was demanded and is not there.
pub fn accelerator(root: &Path, choice: AccelChoice) -> Result<Accel, LaunchError> {
    let module = ["kvm_amd", "kvm_intel"].iter().any(|name| root.join("sys/module").join(name).is_dir());
    match choice {
        AccelChoice::Tcg => Ok(Accel::Tcg),
        _ if module && opens(&root.join("dev/kvm")) => Ok(Accel::Kvm),
        AccelChoice::Auto => Ok(Accel::Tcg),
        AccelChoice::Kvm if module => Err(LaunchError::HostUnsupported("/dev/kvm that this user may open")),
        AccelChoice::Kvm => Err(LaunchError::HostUnsupported("the kernel module kvm_amd or kvm_intel")),
    }
}

/// Refuses a hardware launch on a host that lacks something for it.
///
/// # Errors
/// `HOST_UNSUPPORTED` with the first missing thing.
pub fn require_hardware(root: &Path, backend: Backend, quotes: &QuoteService) -> Result<(), LaunchError> {
    let is_on = |parameter: &str| {
        let text = fs::read_to_string(root.join("sys/module").join(parameter)).unwrap_or_default();
        matches!(text.trim(), "Y" | "1")
    };
    let needs: &[(bool, &str)] = match backend {
        Backend::SimProcess | Backend::SimVm => return Ok(()),
        Backend::Snp => &[
            (root.join("sys/module/kvm_amd").is_dir(), "the kernel module kvm_amd"),
            (is_on("kvm_amd/parameters/sev_snp"), "SEV-SNP switched on (kvm_amd's parameter sev_snp)"),
            (opens(&root.join("dev/kvm")), "/dev/kvm that this user may open"),
            (opens(&root.join("dev/sev")), "/dev/sev that this user may open"),
        ],
        Backend::Tdx => &[
            (root.join("sys/module/kvm_intel").is_dir(), "the kernel module kvm_intel"),
            (is_on("kvm_intel/parameters/tdx"), "TDX switched on (kvm_intel's parameter tdx)"),
            (opens(&root.join("dev/kvm")), "/dev/kvm that this user may open"),
            (
                matches!(quotes, QuoteService::Vsock { .. }) || unix_exists(root, quotes),
                "the socket of the quote generation service",
            ),
        ],
    };
    needs.iter().find(|(there, _)| !there).map_or(Ok(()), |(_, what)| Err(LaunchError::HostUnsupported(what)))
}

/// The page-table bit that marks encrypted memory on this processor.
///
/// # Errors
/// `HOST_UNSUPPORTED` when there is none.
pub fn c_bit() -> Result<u32, LaunchError> {
    let largest = core::arch::x86_64::__cpuid(0x8000_0000).eax;
    let position = (largest >= CPUID_ENCRYPTED_MEMORY)
        .then(|| core::arch::x86_64::__cpuid(CPUID_ENCRYPTED_MEMORY).ebx & 0x3F)
        .filter(|bit| *bit != 0);
    position.ok_or(LaunchError::HostUnsupported("a processor with encrypted memory"))
}

/// A device is there only if this user may use it; a busy one is there.
fn opens(path: &Path) -> bool {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map_or_else(|e| e.kind() == ErrorKind::ResourceBusy, |_| true)
}

fn unix_exists(root: &Path, quotes: &QuoteService) -> bool {
    matches!(quotes, QuoteService::Unix(path) if root.join(path.trim_start_matches('/')).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new(files: &[(&str, &str)]) -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            files.iter().for_each(|(path, text)| host.add(path, text));
            host
        }

        fn add(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn lacks(&self, backend: Backend) -> Option<String> {
            let quotes = QuoteService::Unix("/run/qgs.socket".into());
            require_hardware(self.0.path(), backend, &quotes).err().map(|e| {
                assert_eq!((e.code(), e.exit()), ("HOST_UNSUPPORTED", 7));
                e.to_string()
            })
        }
    }

    #[test]
    fn versions_are_read_or_nothing() {
        assert_eq!(version("QEMU emulator version 10.0.2 (Debian 1:10.0.2)\nCopyright"), Some((10, 0)));
        assert_eq!(version("QEMU emulator version 9.2.0\n"), Some((9, 2)));
        for text in ["", "qemu", "QEMU emulator version ", "QEMU emulator version ten.zero"] {
            assert_eq!(version(text), None, "{text}");
        }
        assert!((9, 2) < QEMU_LEAST && (10, 0) >= QEMU_LEAST && (10, 0) < QEMU_LEAST_TDX);
    }

    #[test]
    fn a_program_is_found_by_name_or_path() {
        let host = Host::new(&[("bin/qemu", "")]);
        let bin = host.0.path().join("bin");
        assert_eq!(find_qemu(Path::new("qemu"), &[&bin]), Ok(bin.join("qemu")));
        assert_eq!(find_qemu(&bin.join("qemu"), &[]), Ok(bin.join("qemu")));
        assert_eq!(find_qemu(Path::new("other"), &[&bin]), Err(LaunchError::QemuMissing));
        assert_eq!(find_qemu(&bin, &[]), Err(LaunchError::QemuMissing), "a folder");
    }

    #[test]
    fn kvm_needs_the_processors_own_module() {
        let host = Host::new(&[("dev/kvm", ""), ("sys/module/kvm_pvm/x", "")]);
        let accel = |choice| accelerator(host.0.path(), choice);
        assert_eq!(accel(AccelChoice::Auto), Ok(Accel::Tcg));
        assert_eq!(accel(AccelChoice::Kvm).map_err(|e| e.code()), Err("HOST_UNSUPPORTED"));
        host.add("sys/module/kvm_intel/x", "");
        assert_eq!(accel(AccelChoice::Auto), Ok(Accel::Kvm));
        assert_eq!(accel(AccelChoice::Tcg), Ok(Accel::Tcg));
        fs::remove_file(host.0.path().join("dev/kvm")).unwrap();
        assert_eq!(accel(AccelChoice::Auto), Ok(Accel::Tcg));
    }

    #[test]
    fn only_a_simulated_machine_falls_back_and_only_once() {
        let falls = |backend, choice| {
            let mut means = Means { qemu: PathBuf::new(), accel: Accel::Kvm, c_bit: 0 };
            [means.fall_back(backend, choice), means.fall_back(backend, choice)]
        };
        assert_eq!(falls(Backend::SimVm, AccelChoice::Auto), [true, false]);
        assert_eq!(falls(Backend::SimVm, AccelChoice::Kvm), [false, false]);
        assert_eq!(falls(Backend::Snp, AccelChoice::Auto), [false, false]);
    }

    #[test]
    fn the_first_missing_thing_is_named() {
        let host = Host::new(&[]);
        assert!(host.lacks(Backend::Snp).unwrap().contains("kvm_amd"));
        host.add("sys/module/kvm_amd/parameters/sev_snp", "N\n");
        assert!(host.lacks(Backend::Snp).unwrap().contains("sev_snp"));
        host.add("sys/module/kvm_amd/parameters/sev_snp", "Y\n");
        assert!(host.lacks(Backend::Snp).unwrap().contains("/dev/kvm"));
        host.add("dev/kvm", "");
        assert!(host.lacks(Backend::Snp).unwrap().contains("/dev/sev"));
        host.add("dev/sev", "");
        assert_eq!(host.lacks(Backend::Snp), None);
        // An SNP host is no TDX host.
        assert!(host.lacks(Backend::Tdx).unwrap().contains("kvm_intel"));
        host.add("sys/module/kvm_intel/parameters/tdx", "Y\n");
        assert!(host.lacks(Backend::Tdx).unwrap().contains("quote generation"));
        host.add("run/qgs.socket", "");
        assert_eq!(host.lacks(Backend::Tdx), None);
    }
}
