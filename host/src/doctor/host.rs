//! Turns the files below a root path (`/`, or a tree that a test made) into facts about a host.
//! It judges nothing: see `backends.rs` for what a backend needs.

use core::fmt;
use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};
use vouchsafe_launcher::backend::host::{self as launcher, QEMU, SEARCH};

use super::ask::{Ask, Landlock};

/// How much of a file below `/proc` or `/sys` is read: the first processor of `/proc/cpuinfo` fits many times.
const MAX_TEXT: u64 = 64 << 10;
/// The longest processor name that is printed.
const MAX_NAME: usize = 64;
/// How many entries of `/sys/module` are looked at.
const MAX_MODULES: usize = 4096;

/// Where to look.
pub struct Places<'a> {
    /// What stands for `/`.
    pub root: &'a Path,
    /// The folder of this project's programs.
    pub programs: &'a Path,
    /// A guest image, when one was named.
    pub image: Option<&'a Path>,
}

/// What a host has.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    pub cpu: Cpu,
    pub kernel: Option<Version>,
    pub kvm: Kvm,
    pub sev: Sev,
    /// `/sys/module/kvm_intel/parameters/tdx`.
    pub tdx: Switch,
    pub memory: Memory,
    pub landlock: Landlock,
    pub qemu: Option<Qemu>,
    /// Where Intel's quote generation service shows: its socket or its settings.
    pub quote_service: Option<&'static str>,
    /// Whether `vouchsafe image build` finds Debian's package tools.
    pub apt: bool,
    /// What is not beside this program.
    pub programs_missing: Vec<&'static str>,
    pub image: Image,
}

/// The processor.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cpu {
    pub vendor: Vendor,
    pub name: Option<String>,
    /// Those flags of `/proc/cpuinfo` that matter here.
    pub flags: Vec<&'static str>,
}

impl Cpu {
    /// Whether the kernel shows a flag.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }
}

/// Who made the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    Amd,
    Intel,
    #[default]
    Other,
}

/// A version of three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Whether this user can open a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    Missing,
    Denied,
    /// It is there, and opening it fails in another way.
    Broken,
    Opens,
}

/// A module's parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// There is no such parameter: the module is not loaded, or too old to have it.
    Absent,
    Off,
    On,
}

/// Virtualisation by the processor.
#[derive(Clone, Debug, Serialize)]
pub struct Kvm {
    pub device: Device,
    /// Every loaded module whose name begins with `kvm_`.
    pub modules: Vec<String>,
}

impl Kvm {
    /// Whether a module is loaded.
    pub fn loaded(&self, module: &str) -> bool {
        self.modules.iter().any(|name| name == module)
    }

    /// Whether a stock kernel runs under it: `/dev/kvm` opens, and one of the two modules that drive the processor's own
    /// virtualisation is behind it. Others emulate parts of it, and guests were seen to hang.
    pub fn is_usable(&self) -> bool {
        self.device == Device::Opens && (self.loaded("kvm_amd") || self.loaded("kvm_intel"))
    }
}

/// AMD's secure processor, as the kernel shows it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sev {
    pub device: Device,
    pub sev: Switch,
    pub sev_es: Switch,
    pub sev_snp: Switch,
}

/// Memory in MiB.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    pub total_mib: Option<u64>,
    pub available_mib: Option<u64>,
    /// Free huge pages that were set aside.
    pub huge_free: Option<u64>,
    /// The chosen word of `/sys/kernel/mm/transparent_hugepage/enabled`.
    pub transparent: Option<&'static str>,
}

/// The `qemu-system-x86_64` that a launch would find.
#[derive(Clone, Debug, Serialize)]
pub struct Qemu {
    pub path: PathBuf,
    pub version: Option<Version>,
    pub sev_snp_guest: bool,
    pub tdx_guest: bool,
}

/// A guest image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// None was named.
    NotNamed,
    /// It cannot be used, and why: the image reader's code and fact.
    Unusable { code: &'static str, fact: String },
    /// Its files are those of its manifest.
    Complete {
        /// SHA-256 of its firmware.
        firmware_sha256: String,
        /// Whether this firmware is known to refuse a kernel that was not measured.
        firmware_known: bool,
    },
}

impl Host {
    /// Reads everything. What cannot be read is a fact, too.
    pub fn read(places: &Places<'_>, ask: &dyn Ask) -> Self {
        let at = |path: &str| places.root.join(path);
        let switch = |path: &str| switch(&at(path));
        let amd = |name: &str| switch(&format!("sys/module/kvm_amd/parameters/{name}"));
        let quote = ["run/tdx-qgs/qgs.socket", "var/run/tdx-qgs/qgs.socket", "etc/qgs.conf"];
        Self {
            cpu: cpu(&text(&at("proc/cpuinfo")).unwrap_or_default()),
            kernel: text(&at("proc/sys/kernel/osrelease")).and_then(|text| version(&text)),
            kvm: Kvm { device: device(&at("dev/kvm")), modules: kvm_modules(&at("sys/module")) },
            sev: Sev {
                device: device(&at("dev/sev")),
                sev: amd("sev"),
                sev_es: amd("sev_es"),
                sev_snp: amd("sev_snp"),
            },
            tdx: switch("sys/module/kvm_intel/parameters/tdx"),
            memory: memory(places.root),
            landlock: ask.landlock(),
            qemu: find_qemu(places.root).map(|path| qemu(path, ask)),
            quote_service: quote.into_iter().find(|path| at(path).exists()),
            apt: ["usr/bin/apt-get", "usr/bin/dpkg-deb"].iter().all(|tool| at(tool).is_file()),
            programs_missing: PROGRAMS.into_iter().filter(|name| !places.programs.join(name).is_file()).collect(),
            image: places.image.map_or(Image::NotNamed, super::image::look),
        }
    }
}

/// Starts everything else.
pub const LAUNCHER: &str = "vouchsafe-launch";
/// Plays the processor in rehearsals.
pub const SIMULATOR: &str = "vouchsafe-simulator";
/// The enclave's program; a guest image has its own.
pub const ENCLAVE: &str = "vouchsafe-enclave";
/// ONNX Runtime's library; a guest image has its own.
pub const LIBRARY: &str = "libonnxruntime.so";
const PROGRAMS: [&str; 4] = [LAUNCHER, SIMULATOR, ENCLAVE, LIBRARY];

/// The flags of `/proc/cpuinfo` that matter (Linux, arch/x86/include/asm/cpufeatures.h).
const FLAGS: [&str; 8] = ["hypervisor", "svm", "vmx", "sev", "sev_es", "sev_snp", "tdx_host_platform", "rdrand"];

fn cpu(info: &str) -> Cpu {
    // The first processor speaks for all.
    let value = |name: &str| {
        let fields = info.lines().filter_map(|line| line.split_once(':'));
        fields
            .map(|(name, value)| (name.trim(), value.trim()))
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    };
    let flags: Vec<&str> = value("flags").unwrap_or_default().split_whitespace().collect();
    let printable = |name: &str| name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_NAME).collect();
    Cpu {
        vendor: match value("vendor_id") {
            Some("AuthenticAMD") => Vendor::Amd,
            Some("GenuineIntel") => Vendor::Intel,
            _ => Vendor::Other,
        },
        name: value("model name").map(printable),
        flags: FLAGS.into_iter().filter(|flag| flags.contains(flag)).collect(),
    }
}

fn kvm_modules(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().take(MAX_MODULES).flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let plain = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && name.len() <= MAX_NAME;
    let mut names: Vec<String> = names.filter(|name| name.starts_with("kvm_") && plain(name)).collect();
    names.sort();
    names
}

fn memory(root: &Path) -> Memory {
    let info = text(&root.join("proc/meminfo")).unwrap_or_default();
    let value = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let chosen = text(&root.join("sys/kernel/mm/transparent_hugepage/enabled")).unwrap_or_default();
    Memory {
        total_mib: value("MemTotal").map(|kib| kib / 1024),
        available_mib: value("MemAvailable").map(|kib| kib / 1024),
        huge_free: value("HugePages_Free"),
        transparent: ["always", "madvise", "never"].into_iter().find(|word| chosen.contains(&format!("[{word}]"))),
    }
}

fn qemu(path: PathBuf, ask: &dyn Ask) -> Qemu {
    let says = ask.run(&path, &["--version"]).unwrap_or_default();
    let objects = ask.run(&path, &["-object", "help"]).unwrap_or_default();
    let knows = |object: &str| objects.lines().any(|line| line.trim() == object);
    Qemu {
        version: says.strip_prefix("QEMU emulator version ").and_then(version),
        sev_snp_guest: knows("sev-snp-guest"),
        tdx_guest: knows("tdx-guest"),
        path,
    }
}

/// Where a launch looks, below the root.
fn find_qemu(root: &Path) -> Option<PathBuf> {
    let below = SEARCH.map(|folder| root.join(folder.trim_start_matches('/')));
    launcher::find_qemu(QEMU.as_ref(), &below.each_ref().map(PathBuf::as_path)).ok()
}

/// `6.12.95+deb12-cloud-amd64` and `10.0.2 (Debian …)` begin with a version; a third number may be missing.
pub fn version(text: &str) -> Option<Version> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut numbers = text.get(..end)?.split('.').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Version(next()?, next()?, next().unwrap_or(0)))
}

fn device(path: &Path) -> Device {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Device::Opens,
        Err(e) if e.kind() == ErrorKind::NotFound => Device::Missing,
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Device::Denied,
        // Somebody else uses it right now.
        Err(e) if e.kind() == ErrorKind::ResourceBusy => Device::Opens,
        Err(_) => Device::Broken,
    }
}

/// Parameters are `Y` and `N`, or `1` and `0` in older kernels.
fn switch(path: &Path) -> Switch {
    match text(path).as_deref().map(str::trim) {
        None => Switch::Absent,
        Some("Y" | "1") => Switch::On,
        Some(_) => Switch::Off,
    }
}

fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
