//! Turns the enclave program, its libraries and the kernel's modules into the one archive that the guest runs from.
//! It does not load anything: the enclave, started by the kernel as `/init`, mounts and loads by itself.
//!
//! Content: `init` (the enclave), `usr/lib/libonnxruntime.so`, the loader, the libraries that both need, `lib/modules/NN-name.ko`
//! in loading order, and empty folders to mount on. No shell, no other program, nothing that is not listed in the manifest.

use std::borrow::Cow;

use crate::elf::{self, LOADER};
use crate::error::ImageError;
use crate::kernel::Kernel;
use crate::spec::{ImageSpec, Item};
use crate::unpack::Tree;

/// The path of the program that the kernel starts.
pub const INIT: &str = "init";
/// The path of ONNX Runtime.
pub const ONNXRUNTIME: &str = "usr/lib/libonnxruntime.so";
/// Where the loader finds libraries without being told.
const LIBRARIES: &str = "lib/x86_64-linux-gnu";
/// Where the guest loads modules from, in the order of their names.
const MODULES: &str = "lib/modules";
/// Folders that the guest mounts on or writes below; all else of the initrd is read.
const MOUNT_POINTS: [&str; 5] = ["config", "dev", "proc", "run", "sys"];
/// zstd's level. Higher ones take more memory to unpack than a guest needs to have.
const LEVEL: i32 = 19;

/// Whether a path of a library's package is looked at.
pub(crate) fn wanted(path: &str) -> bool {
    let folder = path.rsplit_once('/').map(|(folder, _)| folder);
    matches!(folder, Some("lib/x86_64-linux-gnu" | "usr/lib/x86_64-linux-gnu" | "lib64" | "usr/lib64"))
}

/// Everything in the initrd. `libraries` holds what the library packages carry.
pub(crate) fn content(
    enclave: &[u8],
    onnxruntime: &[u8],
    libraries: &Tree,
    kernel: &Kernel,
) -> Result<ImageSpec, ImageError> {
    let find = |name: &str| {
        let places = [LIBRARIES, "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64"];
        places.iter().find_map(|place| libraries.file(&format!("{place}/{name}")))
    };
    let program = |bytes: &[u8]| Item::Bytes { content: bytes.to_vec(), executable: true };
    let mut spec = ImageSpec::new();
    spec.add(INIT, program(enclave))?;
    spec.add(ONNXRUNTIME, program(onnxruntime))?;
    for (name, bytes) in elf::libraries(&[(INIT, enclave), (ONNXRUNTIME, onnxruntime)], &find)? {
        let path = if LOADER.ends_with(&format!("/{name}")) {
            Cow::Borrowed(LOADER)
        } else {
            Cow::Owned(format!("{LIBRARIES}/{name}"))
        };
        spec.add(&path, program(bytes))?;
    }
    for (name, bytes) in &kernel.modules {
        spec.add(&format!("{MODULES}/{name}"), Item::Bytes { content: bytes.clone(), executable: false })?;
    }
    for directory in MOUNT_POINTS {
        spec.add(directory, Item::Directory)?;
    }
    Ok(spec)
}

/// Compresses an archive: one thread, one frame, so that the bytes depend on nothing but the archive and zstd's version.
pub(crate) fn compress(archive: &[u8]) -> Result<Vec<u8>, ImageError> {
    zstd::bulk::compress(archive, LEVEL).map_err(|_| ImageError::TooLarge)
}

/// The compressor, for the manifest.
pub(crate) fn compressor() -> String {
    format!("zstd {} level {LEVEL}", zstd::zstd_safe::version_string())
}
