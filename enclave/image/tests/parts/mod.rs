//! Turns files of this machine and invented ones into Debian packages, a lock of them, and an apt that carries them.
//! No network: the apt is three shell scripts over a folder.

#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part; a failed step is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use lzma_rust2::{LzmaOptions, LzmaWriter, XzOptions, XzWriter};
use object::write::Object;
use object::{Architecture, BinaryFormat, Endianness, SectionKind};
use vouchsafe_image::{Input, Lock, Origin, Part};

/// 2026-01-01T00:00:00Z
pub const MTIME: u32 = 1_767_225_600;
pub const KERNEL: &str = "linux-image-6.99.1+deb12-cloud-amd64";
/// Where its package keeps the firmware.
pub const FIRMWARE: &str = "./usr/share/ovmf/OVMF.amdsev.fd";
/// What the builder expects in a firmware, and one driver that stays.
pub const DRIVERS: [&str; 21] = [
    "AtaAtapiPassThruDxe",
    "AtaBusDxe",
    "BootManagerMenuApp",
    "DiskIoDxe",
    "EbcDxe",
    "EmmcDxe",
    "Fat",
    "NvmExpressDxe",
    "PartitionDxe",
    "PciBusDxe",
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
const RELEASE: &str = "6.99.1+deb12-cloud-amd64";
const MODULES: [(&str, &str); 8] = [
    ("net/core/failover", ""),
    ("drivers/net/net_failover", "failover"),
    ("drivers/net/virtio_net", "net_failover"),
    ("drivers/block/virtio_blk", ""),
    ("fs/configfs/configfs", ""),
    ("drivers/virt/coco/tsm", "configfs"),
    ("drivers/virt/coco/sev-guest/sev-guest", "tsm"),
    ("drivers/virt/coco/tdx-guest/tdx-guest", "tsm"),
];
const OPTIONS: [&str; 14] = [
    "AMD_MEM_ENCRYPT",
    "INTEL_TDX_GUEST",
    "BLK_DEV_INITRD",
    "RD_ZSTD",
    "EFI_STUB",
    "PROC_FS",
    "SYSFS",
    "TMPFS",
    "DEVTMPFS",
    "INET",
    "SERIAL_8250_CONSOLE",
    "VIRTIO_PCI",
    "VIRTIO_CONSOLE",
    "SECURITY_LANDLOCK",
];

/// Path in a package -> content; a link begins with `->`.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A machine with an apt, an archive, a cache and the two programs of ours.
pub struct Bench {
    pub dir: tempfile::TempDir,
    packages: Vec<Input>,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["bin", "pool", "etc"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let mut bench = Self { dir, packages: Vec::new() };
        bench.write("etc/sources.list", b"deb http://archive.invalid/debian bookworm main\n");
        bench.write("enclave", &fs::read("/bin/true").unwrap());
        bench.write("onnxruntime.so", &mapped()["libgcc_s.so.1"]);
        bench.apt();
        bench.carry_bytes("libc6", "bookworm", "amd64", libc());
        bench.carry("libgcc-s1", "bookworm", "amd64", &Files::new(), true);
        bench.carry("libstdc++6", "bookworm", "amd64", &Files::new(), false);
        bench.carry(KERNEL, "bookworm-backports", "amd64", &kernel_files(), false);
        let firmware = Files::from([(FIRMWARE.into(), firmware(&DRIVERS))]);
        bench.carry("ovmf-amdsev", "sid", "all", &firmware, true);
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub fn lock(&self) -> Lock {
        Lock::new(MTIME, self.packages.clone()).unwrap()
    }

    pub fn origin(&self) -> Origin {
        Origin { cache: self.path("cache"), mirror: None, programs: self.path("bin"), etc: self.path("etc") }
    }

    /// Puts a package into the archive, in place of one with the same name.
    pub fn carry(&mut self, name: &str, suite: &str, architecture: &str, files: &Files, xz: bool) {
        self.carry_bytes(name, suite, architecture, &deb(files, xz));
    }

    fn carry_bytes(&mut self, name: &str, suite: &str, architecture: &str, bytes: &[u8]) {
        let Part { bytes: size, sha256 } = Part::of(bytes);
        let version = "1.0-1".to_owned();
        self.write(&format!("pool/{name}={version}.deb"), bytes);
        self.tell(name, &version, suite, &format!("Architecture: {architecture}\nSize: {size}\nSHA256: {sha256}\n"));
        let input = Input {
            name: name.into(),
            version,
            suite: suite.into(),
            architecture: architecture.into(),
            bytes: size,
            sha256,
        };
        self.packages.retain(|other| other.name != name);
        self.packages.push(input);
    }

    /// What the archive says of a package.
    pub fn tell(&self, name: &str, version: &str, suite: &str, fields: &str) {
        let line = format!(" {name} | {version} | http://archive.invalid/debian {suite}/main amd64 Packages\n");
        self.write(&format!("pool/{name}.madison"), line.as_bytes());
        self.write(&format!("pool/{name}={version}.show"), format!("Package: {name}\n{fields}").as_bytes());
    }

    /// The real programs' manner of answering, over the folder `pool`.
    fn apt(&self) {
        let pool = self.path("pool");
        let pool = pool.display();
        let script = |name: &str, body: &str| {
            let text = format!("#!/bin/sh\nset -e\necho \"{name} $*\" >> {pool}/calls\n{body}\n");
            self.write(&format!("bin/{name}"), text.as_bytes());
            fs::set_permissions(self.path(&format!("bin/{name}")), fs::Permissions::from_mode(0o755)).unwrap();
        };
        let absent = "else echo \"E: Unable to locate package $2\" >&2; exit 100; fi";
        script("apt-config", "echo 'Acquire::Retries \"3\";'; echo 'DPkg::Post-Invoke:: \"false\";'");
        script(
            "apt-cache",
            &format!(
                "case $1 in\n madison) if [ -f {pool}/$2.madison ]; then cat {pool}/$2.madison; fi ;;\n \
                 show) if [ -f {pool}/$2.show ]; then cat {pool}/$2.show; {absent} ;;\nesac"
            ),
        );
        script(
            "apt-get",
            &format!(
                "case $2 in\n update) test -f \"$APT_CONFIG\"; cp \"$APT_CONFIG\" {pool}/apt.conf ;;\n \
                 download) if [ -f {pool}/$3.deb ]; then cp {pool}/$3.deb .; {absent} ;;\nesac"
            ),
        );
    }

    /// What apt was asked so far.
    pub fn calls(&self) -> String {
        fs::read_to_string(self.path("pool/calls")).unwrap_or_default()
    }
}

/// The package of the C library that this very test runs with, made once: compressing it takes a while.
fn libc() -> &'static [u8] {
    static LIBC: OnceLock<Vec<u8>> = OnceLock::new();
    LIBC.get_or_init(|| {
        let mut files = Files::new();
        for (name, bytes) in mapped() {
            files.insert(format!("./lib/x86_64-linux-gnu/{name}"), bytes);
        }
        let loader = b"->/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2".to_vec();
        files.insert("./lib64/ld-linux-x86-64.so.2".into(), loader);
        files.insert("./usr/share/doc/libc6/not-taken".into(), b"text".to_vec());
        deb(&files, true)
    })
}

/// A firmware as the builder expects it, in small: a volume with drivers and the name of the shim, compressed, between other bytes.
pub fn firmware(drivers: &[&str]) -> Vec<u8> {
    let utf16 = |text: &str| text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut volume = vec![0; 56];
    for driver in drivers {
        let name = utf16(driver);
        let mut file = vec![7; 24];
        file[20..23].copy_from_slice(&(28 + name.len() as u32).to_le_bytes()[..3]);
        file.extend([4 + name.len() as u8, 0, 0, 0x15]);
        file.extend(name);
        volume.extend(file);
        volume.resize(volume.len().next_multiple_of(8), 0xFF);
    }
    let length = volume.len() as u64;
    volume[32..40].copy_from_slice(&length.to_le_bytes());
    volume[40..44].copy_from_slice(b"_FVH");
    volume[48] = 56;
    volume.extend(utf16("shim"));
    volume.extend(b"\x66\x81\x38\x55\xaa\x74\x0f\x48\xb8\x0e\0\0\0\0\0\0\x80");
    let options = LzmaOptions { dict_size: 1 << 16, ..LzmaOptions::with_preset(1) };
    let mut writer = LzmaWriter::new_use_header(Vec::new(), &options, Some(volume.len() as u64)).unwrap();
    writer.write_all(&volume).unwrap();
    let mut section = writer.finish().unwrap();
    section.extend([0; 256]);
    let size = (24 + section.len() as u32).to_le_bytes();
    let guid = b"\x98\x58\x4e\xee\x14\x39\x59\x42\x9d\x6e\xdc\x7b\xd7\x94\x03\xcf";
    [&[9; 500][..], &size[..3], &[2], guid, &[24, 0, 1, 0], &section, &[9; 500]].concat()
}

/// A kernel package as Debian makes them, with invented content.
pub fn kernel_files() -> Files {
    let mut files = Files::new();
    let mut image = vec![0; 0x400];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    files.insert(format!("./boot/vmlinuz-{RELEASE}"), image);
    let config: String = OPTIONS.iter().map(|option| format!("CONFIG_{option}=y\n")).collect();
    files.insert(format!("./boot/config-{RELEASE}"), config.into_bytes());
    for (path, depends) in MODULES {
        files.insert(module_path(path), xz(&module(depends)));
    }
    files.insert(format!("./lib/modules/{RELEASE}/modules.builtin"), b"kernel/lib/crc16.ko\n".to_vec());
    files.insert(format!("./lib/modules/{RELEASE}/kernel/drivers/net/other.ko.xz"), b"not taken".to_vec());
    files
}

pub fn module_path(path: &str) -> String {
    format!("./lib/modules/{RELEASE}/kernel/{path}.ko.xz")
}

pub fn config_path() -> String {
    format!("./boot/config-{RELEASE}")
}

/// An object file with the section that says what a module depends on.
pub fn module(depends: &str) -> Vec<u8> {
    let mut file = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let section = file.add_section(Vec::new(), b".modinfo".to_vec(), SectionKind::ReadOnlyData);
    file.append_section_data(section, format!("license=GPL\0depends={depends}\0name=x\0").as_bytes(), 1);
    file.write().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A Debian package, its data compressed or not.
pub fn deb(files: &Files, compressed: bool) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some(to) = content.strip_prefix(b"->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, path, std::str::from_utf8(to).unwrap()).unwrap();
        } else {
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, path, &content[..]).unwrap();
        }
    }
    let data = archive.into_inner().unwrap();
    let (name, data) = if compressed { ("data.tar.xz", xz(&data)) } else { ("data.tar", data) };
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar.xz", b"odd"), (name, &data)] {
        bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes());
        bytes.extend(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// The libraries that this very test runs with, by name.
pub fn mapped() -> BTreeMap<String, Vec<u8>> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let libraries = paths.map(Path::new).filter(|path| path.is_absolute() && path.to_string_lossy().contains(".so"));
    libraries.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())).collect()
}
