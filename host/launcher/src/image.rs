//! Turns a guest image's folder into three open files whose digests are the manifest's and whose firmware is a known one.
//! Whoever wrote the folder wrote the manifest too: this finds damage and mix-ups. What runs is proven by the measurement.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use ring::digest::{Context, SHA256};
use serde::Deserialize;
use vouchsafe_attestation::encoding::serde_hex;
use vouchsafe_measurement::firmware::known::known;

use crate::{LaunchError, spec::MachineSpec};

/// The largest manifest (crate vouchsafe-image, `MAX_MANIFEST`).
const MAX_MANIFEST: u64 = 1 << 20;

/// Where the parts of a machine are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The firmware.
    pub firmware: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
}

impl Paths {
    /// The image's files, or the operator's own firmware with the image's other two.
    #[must_use]
    pub fn of(machine: &MachineSpec) -> Self {
        let own = Self::in_image(&machine.image);
        Self { firmware: machine.firmware.clone().unwrap_or(own.firmware), ..own }
    }

    /// The image's files.
    #[must_use]
    pub fn in_image(image: &Path) -> Self {
        Self { firmware: image.join("firmware.fd"), kernel: image.join("kernel"), initrd: image.join("initrd") }
    }
}

/// The parts of a machine, opened: what is compared is what QEMU gets.
#[derive(Debug)]
pub struct Parts {
    /// The firmware.
    pub firmware: File,
    /// The kernel.
    pub kernel: File,
    /// The initial RAM disk.
    pub initrd: File,
}

impl Parts {
    /// Opens the three files.
    ///
    /// # Errors
    /// `LAUNCH_FILE`.
    pub fn open(paths: &Paths) -> Result<Self, LaunchError> {
        let open = |path: &Path, what| File::open(path).map_err(|e| LaunchError::File(what, e.kind()));
        Ok(Self {
            firmware: open(&paths.firmware, "the firmware")?,
            kernel: open(&paths.kernel, "the image's kernel")?,
            initrd: open(&paths.initrd, "the image's initrd")?,
        })
    }
}

/// SHA-256 of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Of the firmware.
    pub firmware: [u8; 32],
    /// Of the kernel.
    pub kernel: [u8; 32],
    /// Of the initial RAM disk.
    pub initrd: [u8; 32],
}

/// What `image.json` says, as far as a launch needs it.
#[derive(Debug, Deserialize)]
struct Manifest {
    version: u32,
    firmware: Part,
    kernel: Part,
    initrd: Part,
}

#[derive(Debug, Deserialize)]
struct Part {
    bytes: u64,
    #[serde(with = "serde_hex")]
    sha256: [u8; 32],
}

/// Digests the parts and compares them with the manifest and the firmware with the known ones.
///
/// # Errors
/// `LAUNCH_FILE`, `IMAGE_MANIFEST`, `IMAGE_MISMATCH`, `FIRMWARE_UNKNOWN`.
pub fn judge(parts: &Parts, machine: &MachineSpec) -> Result<Digests, LaunchError> {
    let digests = compare(parts, &machine.image, machine.firmware.is_none())?;
    let is_named = machine.firmware_sha256 == Some(digests.firmware);
    if !is_named {
        known(&digests.firmware).map_err(LaunchError::FirmwareUnknown)?;
    }
    Ok(digests)
}

/// Digests the parts and compares them with the image's manifest, the firmware only when it is the image's own.
///
/// # Errors
/// `LAUNCH_FILE`, `IMAGE_MANIFEST`, `IMAGE_MISMATCH`.
pub fn compare(parts: &Parts, image: &Path, firmware_is_its_own: bool) -> Result<Digests, LaunchError> {
    let manifest = manifest(image)?;
    let part = |file: &File, stated: Option<&Part>, what: &'static str| {
        let (bytes, sha256) = digest(file).map_err(|e| LaunchError::File(what, e.kind()))?;
        match stated {
            Some(part) if (part.bytes, part.sha256) != (bytes, sha256) => Err(LaunchError::ImageMismatch(what)),
            _ => Ok(sha256),
        }
    };
    Ok(Digests {
        firmware: part(&parts.firmware, firmware_is_its_own.then_some(&manifest.firmware), "the firmware")?,
        kernel: part(&parts.kernel, Some(&manifest.kernel), "the image's kernel")?,
        initrd: part(&parts.initrd, Some(&manifest.initrd), "the image's initrd")?,
    })
}

fn manifest(image: &Path) -> Result<Manifest, LaunchError> {
    let unreadable = |e: io::Error| LaunchError::File("the image's manifest", e.kind());
    let mut bytes = Vec::new();
    let file = File::open(image.join("image.json")).map_err(unreadable)?;
    file.take(MAX_MANIFEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(LaunchError::ImageManifest);
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|_| LaunchError::ImageManifest)?;
    if manifest.version == 1 { Ok(manifest) } else { Err(LaunchError::ImageManifest) }
}

/// Length and SHA-256 of a file; its offset stays where it is.
fn digest(file: &File) -> io::Result<(u64, [u8; 32])> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        match file.read_at(&mut buffer, length) {
            Ok(0) => break,
            Ok(count) => {
                context.update(buffer.get(..count).unwrap_or_default());
                length += count as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    Ok((length, sha256))
}
