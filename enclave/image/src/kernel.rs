//! Turns an unpacked kernel package into the boot image and the modules that the guest loads, in their order.
//! It does not boot the kernel, and does not say that the kernel is free of known faults: the lock's owner chose it.

use crate::elf;
use crate::error::ImageError;
use crate::unpack::{Tree, decompress};

/// The modules that the guest loads, in this order: each stands after those that it depends on.
/// The network and the model disk; then where an evidence device is found, one each for SEV-SNP and TDX.
const MODULES: [&str; 8] =
    ["failover", "net_failover", "virtio_net", "virtio_blk", "configfs", "tsm", "sev-guest", "tdx-guest"];

/// What must be compiled into the kernel: nothing could load it as a module before it is needed.
const BUILT_IN: [&str; 14] = [
    "CONFIG_AMD_MEM_ENCRYPT",
    "CONFIG_INTEL_TDX_GUEST",
    "CONFIG_BLK_DEV_INITRD",
    "CONFIG_RD_ZSTD",
    "CONFIG_EFI_STUB",
    "CONFIG_PROC_FS",
    "CONFIG_SYSFS",
    "CONFIG_TMPFS",
    "CONFIG_DEVTMPFS",
    "CONFIG_INET",
    "CONFIG_SERIAL_8250_CONSOLE",
    "CONFIG_VIRTIO_PCI",
    "CONFIG_VIRTIO_CONSOLE",
    "CONFIG_SECURITY_LANDLOCK",
];

/// What an image takes from the kernel's package.
pub(crate) struct Kernel {
    /// The boot image.
    pub(crate) boot_image: Vec<u8>,
    /// What `uname -r` prints.
    pub(crate) release: String,
    /// File name `NN-name.ko` and bytes, in loading order.
    pub(crate) modules: Vec<(String, Vec<u8>)>,
}

/// Whether a path of the kernel's package is looked at.
pub(crate) fn wanted(path: &str) -> bool {
    path.starts_with("boot/vmlinuz-")
        || path.starts_with("boot/config-")
        || module_of(path).is_some_and(|name| MODULES.contains(&name))
        || path.ends_with("/modules.builtin")
}

/// Takes the kernel out of its unpacked package.
pub(crate) fn kernel(tree: &Tree, package: &str) -> Result<Kernel, ImageError> {
    let wrong = |fact| ImageError::Package { package: package.to_owned(), fact };
    let mut images = tree.paths().filter_map(|path| path.strip_prefix("boot/vmlinuz-"));
    let release = images.next().ok_or(wrong("it holds no boot image"))?;
    if images.next().is_some() {
        return Err(wrong("it holds two boot images"));
    }
    let boot_image = tree.file(&format!("boot/vmlinuz-{release}")).ok_or(wrong("it holds no boot image"))?;
    // Linux, Documentation/arch/x86/boot.rst: the header's magic.
    if boot_image.get(0x202..0x206) != Some(b"HdrS") {
        return Err(wrong("its boot image is not one for x86"));
    }
    let config = tree.file(&format!("boot/config-{release}")).ok_or(wrong("it holds no configuration"))?;
    let config = String::from_utf8_lossy(config);
    for option in BUILT_IN {
        if !config.lines().any(|line| line.strip_prefix(option) == Some("=y")) {
            return Err(ImageError::Kernel { lacks: option });
        }
    }
    let builtin = tree.paths().find(|path| path.ends_with(&format!("{release}/modules.builtin")));
    let builtin = String::from_utf8_lossy(builtin.and_then(|path| tree.file(path)).unwrap_or_default()).into_owned();
    let is_builtin = |name: &str| builtin.lines().any(|line| module_of(line).is_some_and(|other| same(other, name)));
    let mut loaded: Vec<&str> = Vec::new();
    let mut modules = Vec::new();
    for module in MODULES {
        let path = tree.paths().find(|path| module_of(path) == Some(module));
        let Some(path) = path else {
            if is_builtin(module) {
                continue;
            }
            return Err(ImageError::Kernel { lacks: module });
        };
        let bytes = tree.file(path).and_then(|bytes| decompress(path, bytes));
        let bytes = bytes.ok_or(wrong("a module in it is damaged"))?;
        let about = elf::section(&bytes, ".modinfo").ok_or(wrong("a module in it is damaged"))?;
        for other in depends(about) {
            if !loaded.iter().any(|loaded| same(loaded, &other)) && !is_builtin(&other) {
                return Err(ImageError::ModuleOrder { module });
            }
        }
        loaded.push(module);
        modules.push((format!("{:02}-{module}.ko", modules.len()), bytes));
    }
    Ok(Kernel { boot_image: boot_image.to_vec(), release: release.to_owned(), modules })
}

/// The name of the module that a file holds, compressed or not.
fn module_of(path: &str) -> Option<&str> {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let name = name.trim_end_matches(".xz").trim_end_matches(".zst");
    name.strip_suffix(".ko")
}

/// Files are named with dashes where modules are named with underscores.
fn same(one: &str, other: &str) -> bool {
    one.replace('-', "_") == other.replace('-', "_")
}

/// The `depends=` line of a module's section of zero-ended lines.
fn depends(modinfo: &[u8]) -> Vec<String> {
    let lines = modinfo.split(|byte| *byte == 0).filter_map(|line| std::str::from_utf8(line).ok());
    let names = lines.filter_map(|line| line.strip_prefix("depends=")).flat_map(|names| names.split(','));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
