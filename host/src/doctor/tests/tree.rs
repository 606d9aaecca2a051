//! Turns a few lines into a made-up host: a tree of files, and the answers of its QEMU and its kernel.
//! Made up from what such hosts are said to show: no machine with SEV-SNP or TDX was looked at.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::super::{
    ask::{Ask, Landlock},
    host::{Host, Places},
};

pub(super) const QEMU_10_0: &str = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright (c) 2003-2025\n";
pub(super) const QEMU_10_1: &str = "QEMU emulator version 10.1.0\n";
pub(super) const OBJECTS_10_0: &str =
    "List of user creatable objects:\n  memory-backend-ram\n  sev-guest\n  sev-snp-guest\n";
pub(super) const OBJECTS_10_1: &str = "List of user creatable objects:\n  sev-snp-guest\n  tdx-guest\n";

/// A host that a test made.
pub(super) struct Tree {
    pub(super) root: TempDir,
    pub(super) programs: TempDir,
    pub(super) version: &'static str,
    pub(super) objects: &'static str,
    pub(super) landlock: Landlock,
}

impl Ask for Tree {
    fn run(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        assert_eq!(program, self.root.path().join("usr/bin/qemu-system-x86_64"));
        Some(if arguments == ["--version"] { self.version } else { self.objects }.to_owned())
    }

    fn landlock(&self) -> Landlock {
        self.landlock
    }
}

impl Tree {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self {
            root: tempfile::tempdir().unwrap(),
            programs: tempfile::tempdir().unwrap(),
            version: QEMU_10_0,
            objects: OBJECTS_10_0,
            landlock: Landlock::Full,
        };
        for name in ["vouchsafe-launch", "vouchsafe-simulator", "vouchsafe-enclave", "libonnxruntime.so"] {
            fs::write(tree.programs.path().join(name), "").unwrap();
        }
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    pub(super) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn host(&self) -> Host {
        self.host_with(None)
    }

    pub(super) fn host_with(&self, image: Option<&Path>) -> Host {
        Host::read(&Places { root: self.root.path(), programs: self.programs.path(), image }, self)
    }
}

pub(super) fn processor(vendor: &str, name: &str, flags: &str) -> String {
    let one = |number| {
        format!(
            "processor\t: {number}\nvendor_id\t: {vendor}\nmodel name\t: {name}\nflags\t\t: fpu rdrand {flags}\nbugs\t\t:\n\n"
        )
    };
    one(0) + &one(1)
}

pub(super) const MEMORY: &str =
    "MemTotal:       263000000 kB\nMemFree: 1 kB\nMemAvailable:   250000000 kB\nHugePages_Free:        0\n";

pub(super) fn snp_host() -> Tree {
    let tree = Tree::new(&[
        ("proc/cpuinfo", &processor("AuthenticAMD", "AMD EPYC 9654 96-Core Processor", "svm sev sev_es sev_snp")),
        ("proc/sys/kernel/osrelease", "6.12.95+deb12-amd64\n"),
        ("proc/meminfo", MEMORY),
        ("sys/module/kvm/parameters/halt_poll_ns", "200000\n"),
        ("sys/module/kvm_amd/parameters/sev", "Y\n"),
        ("sys/module/kvm_amd/parameters/sev_es", "Y\n"),
        ("sys/module/kvm_amd/parameters/sev_snp", "Y\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ("dev/kvm", ""),
        ("dev/sev", ""),
        ("usr/bin/qemu-system-x86_64", ""),
        ("usr/bin/apt-get", ""),
        ("usr/bin/dpkg-deb", ""),
    ]);
    fs::create_dir(tree.root.path().join("sys/module/kvm_amd/holders")).unwrap();
    tree
}

pub(super) fn tdx_host() -> Tree {
    let mut tree = Tree::new(&[
        ("proc/cpuinfo", &processor("GenuineIntel", "INTEL(R) XEON(R) PLATINUM 8580", "vmx tdx_host_platform")),
        ("proc/sys/kernel/osrelease", "6.17.0-5-generic\n"),
        ("proc/meminfo", MEMORY),
        ("sys/module/kvm_intel/parameters/tdx", "Y\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
        ("etc/qgs.conf", "port = 4050\n"),
        ("dev/kvm", ""),
        ("usr/bin/qemu-system-x86_64", ""),
    ]);
    (tree.version, tree.objects) = (QEMU_10_1, OBJECTS_10_1);
    tree
}

/// A virtual machine whose host offers a paravirtual kvm.
pub(super) fn paravirtual_host() -> Tree {
    Tree::new(&[
        ("proc/cpuinfo", &processor("GenuineIntel", "Intel(R) Xeon(R) Processor", "hypervisor")),
        ("proc/sys/kernel/osrelease", "6.18.44\n"),
        ("proc/meminfo", "MemTotal:       24684084 kB\nMemAvailable:   23981060 kB\nHugePages_Free:        0\n"),
        ("sys/module/kvm/parameters/x", "N\n"),
        ("sys/module/kvm_pvm/parameters/x", "N\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ("dev/kvm", ""),
        ("usr/bin/qemu-system-x86_64", ""),
        ("usr/bin/apt-get", ""),
        ("usr/bin/dpkg-deb", ""),
    ])
}

pub(super) fn laptop() -> Tree {
    let mut tree = Tree::new(&[
        ("proc/cpuinfo", &processor("GenuineIntel", "Intel(R) Core(TM) Ultra 7 155H", "vmx")),
        ("proc/sys/kernel/osrelease", "6.1.0-40-amd64\n"),
        ("proc/meminfo", "MemTotal:       16000000 kB\nMemAvailable:   409600 kB\n"),
        ("sys/module/kvm_intel/parameters/ept", "Y\n"),
        ("dev/kvm", ""),
        ("usr/bin/qemu-system-x86_64", ""),
    ]);
    (tree.version, tree.objects) = ("QEMU emulator version 7.2.19 (Debian)\n", "  sev-guest\n");
    tree.landlock = Landlock::Part;
    tree
}
