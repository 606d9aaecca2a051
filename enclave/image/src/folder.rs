//! Turns an image folder, which has a manifest beside the files that are booted, into verified digests; `write.rs` makes one.
//! It does not boot anything, and whoever wrote the folder wrote the manifest: trust comes from the measurement alone.
//!
//! # The folder
//!
//! | file          | is                                                                              |
//! |---------------|---------------------------------------------------------------------------------|
//! | `kernel`      | a Linux x86 boot image (`vmlinuz`), as its package carries it                     |
//! | `initrd`      | a `newc` cpio archive, compressed by zstd                                         |
//! | `firmware.fd` | OVMF for AMD SEV, which enforces kernel hashes, without its ways around them       |
//! | `image.json`  | the manifest: one JSON object as [`Manifest`] describes it, at most 1 MiB         |
//!
//! ```json
//! { "version": 1,
//!   "mtime": 1767225600,
//!   "kernel":   { "bytes": 11614144, "sha256": "…64 hex digits…" },
//!   "initrd":   { "bytes": 10799015, "sha256": "…" },
//!   "firmware": { "bytes": 4194304,  "sha256": "…" },
//!   "firmware_from": "…",
//!   "kernel_release": "6.12.95+deb12-cloud-amd64",
//!   "compressor": "zstd 1.5.7 level 19",
//!   "archive":  { "bytes": 37806080, "sha256": "…" },
//!   "enclave_sha256": "…",
//!   "onnxruntime_sha256": "…",
//!   "contents": [ { "path": "init", "bytes": 10219624, "sha256": "…" }, … ],
//!   "packages": [ { "name": "libc6", "version": "2.36-9+deb12u10", "suite": "bookworm", "architecture": "amd64",
//!                   "bytes": 2755800, "sha256": "…" }, … ] }
//! ```
//!
//! Digests are SHA-256 in lower-case hex. `firmware_from` is the package's own firmware file, which can be made to start what nobody
//! measured; `firmware` is what `doors.rs` makes of it. `archive` is the initrd before compression, `contents` its regular files in order of
//! their paths, `packages` the locked inputs. Unknown members are refused. A program that only wants to know whether the files
//! are the manifest's own needs `version`, `kernel`, `initrd` and `firmware`, and may ignore the rest.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ring::digest;
use serde::{Deserialize, Serialize};

use crate::error::ImageError;
use crate::lock::Input;
use crate::spec::allowed;

/// The kernel's name in an image folder.
pub const KERNEL: &str = "kernel";
/// The initrd's name in an image folder.
pub const INITRD: &str = "initrd";
/// The firmware's name in an image folder.
pub const FIRMWARE: &str = "firmware.fd";
/// The manifest's name in an image folder.
pub const MANIFEST: &str = "image.json";

/// The one version of the manifest.
const VERSION: u32 = 1;
/// The largest manifest.
const MAX_MANIFEST: u64 = 1 << 20;
/// The largest part of an image; QEMU loads each whole.
const MAX_PART: u64 = 1 << 30;

/// What `image.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format: 1.
    pub version: u32,
    /// The one time that all entries of the initrd carry, in seconds since 1970.
    pub mtime: u32,
    /// The file `kernel`.
    pub kernel: Part,
    /// The file `initrd`.
    pub initrd: Part,
    /// The file `firmware.fd`.
    pub firmware: Part,
    /// SHA-256 of the file in its package that the firmware was made from.
    pub firmware_from: String,
    /// What `uname -r` prints in the guest.
    pub kernel_release: String,
    /// The compressor of the initrd, with its version and level: another one gives other bytes.
    pub compressor: String,
    /// The initrd before compression.
    pub archive: Part,
    /// SHA-256 of the enclave program, which is `init` in the initrd.
    pub enclave_sha256: String,
    /// SHA-256 of the ONNX Runtime library.
    pub onnxruntime_sha256: String,
    /// Every regular file of the initrd, sorted by path.
    pub contents: Vec<FileRecord>,
    /// Every package that something was taken from, as locked.
    pub packages: Vec<Input>,
}

/// One file of an image folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// One regular file inside the initrd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Its path inside the image, without a leading slash.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

impl Part {
    /// The length and digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: hex::encode(digest::digest(&digest::SHA256, bytes)) }
    }
}

impl Manifest {
    /// Reads `image.json` of a folder and compares the three files beside it with what it says.
    /// A caller that boots the files later measures them then: they may change in between.
    ///
    /// # Errors
    /// [`ImageError::File`] when something cannot be read, [`ImageError::Manifest`] when `image.json` is not of the described
    /// form, [`ImageError::Mismatch`] when a file is not the one that it names.
    pub fn read(dir: &Path) -> Result<Self, ImageError> {
        let manifest = Self::parse(&read_small(&dir.join(MANIFEST))?)?;
        for (name, part) in manifest.parts() {
            let found = part_of_file(&dir.join(name))?;
            if found != *part {
                return Err(ImageError::Mismatch { file: name, expected: part.sha256.clone(), found: found.sha256 });
            }
        }
        Ok(manifest)
    }

    /// Reads the bytes of an `image.json` alone; no other file is looked at.
    ///
    /// # Errors
    /// [`ImageError::Manifest`] with the reason.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ImageError::Manifest("it has more than 1 MiB"));
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|_| ImageError::Manifest("it is not JSON with exactly the members of an image manifest"))?;
        if manifest.version != VERSION {
            return Err(ImageError::Manifest("its version is not 1"));
        }
        let parts = manifest.parts().map(|(_, part)| &part.sha256);
        let digests = parts
            .into_iter()
            .chain([&manifest.firmware_from, &manifest.archive.sha256])
            .chain([&manifest.enclave_sha256, &manifest.onnxruntime_sha256])
            .chain(manifest.contents.iter().map(|file| &file.sha256))
            .chain(manifest.packages.iter().map(|input| &input.sha256));
        for digest in digests {
            if !is_sha256(digest) {
                return Err(ImageError::Manifest("a digest is not 64 lower-case hex digits"));
            }
        }
        // People read these: nothing in them may move a terminal's cursor or forge a line.
        let printable = |text: &String| text.len() <= 100 && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if ![&manifest.kernel_release, &manifest.compressor].into_iter().all(printable)
            || manifest.contents.iter().any(|file| allowed(&file.path).is_err())
            || manifest.packages.iter().any(|input| input.well_formed().is_err())
        {
            return Err(ImageError::Manifest("a name, a path or a version has characters that none of ours has"));
        }
        if !manifest.contents.is_sorted_by(|a, b| a.path < b.path) {
            return Err(ImageError::Manifest("the files of the initrd are not sorted, or one is named twice"));
        }
        Ok(manifest)
    }

    /// The three parts with their file names.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, &Part); 3] {
        [(KERNEL, &self.kernel), (INITRD, &self.initrd), (FIRMWARE, &self.firmware)]
    }

    /// The manifest as it stands in the folder.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, ImageError> {
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|_| ImageError::Manifest("it cannot be written as JSON"))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Whether this is a SHA-256 as we write it.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn read_small(path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    open(path)?.take(MAX_MANIFEST + 1).read_to_end(&mut bytes).map_err(ImageError::file(path))?;
    Ok(bytes)
}

fn part_of_file(path: &Path) -> Result<Part, ImageError> {
    let mut file = open(path)?.take(MAX_PART + 1);
    let mut context = digest::Context::new(&digest::SHA256);
    let (mut bytes, mut buffer) = (0, vec![0; 1 << 18]);
    loop {
        let read = file.read(&mut buffer).map_err(ImageError::file(path))?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        context.update(&buffer[..read]);
    }
    if bytes > MAX_PART {
        return Err(ImageError::TooLarge);
    }
    Ok(Part { bytes, sha256: hex::encode(context.finish()) })
}

/// Opens a regular file; a pipe without a writer is refused, not waited for.
pub(crate) fn open(path: &Path) -> Result<File, ImageError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| ImageError::file(path)(error.into()))?;
    let file = File::from(file);
    if !file.metadata().map_err(ImageError::file(path))?.is_file() {
        return Err(ImageError::file(path)(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
    }
    Ok(file)
}
