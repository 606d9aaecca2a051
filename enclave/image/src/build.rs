//! Turns fetched packages, the enclave program and ONNX Runtime into a whole image with its manifest.
//! It does not say what a launch of it measures: that is `vouchsafe-measurement`.

use std::io::Read;
use std::path::Path;

use crate::cpio::{Archive, Kind};
use crate::doors;
use crate::error::ImageError;
use crate::fetch::Fetched;
use crate::folder::{FileRecord, Manifest, Part, open};
use crate::initrd;
use crate::kernel;
use crate::lock::Lock;
use crate::spec::{ImageSpec, Item};
use crate::unpack::{Tree, unpack};
use crate::write::{Parts, write};

/// The largest image, and so the largest file in one.
const MAX_BYTES: u64 = 1 << 30;
/// Where its package keeps the firmware that enforces kernel hashes.
pub(crate) const FIRMWARE: &str = "usr/share/ovmf/OVMF.amdsev.fd";

/// A built image, in memory.
pub struct Image {
    /// The kernel's boot image.
    pub kernel: Vec<u8>,
    /// The compressed initrd.
    pub initrd: Vec<u8>,
    /// The firmware: the package's, with its doors shut.
    pub firmware: Vec<u8>,
    /// What is in all three.
    pub manifest: Manifest,
}

/// An initrd before compression.
#[derive(Debug)]
pub struct Unpacked {
    /// A `newc` archive.
    pub archive: Vec<u8>,
    /// Its regular files, sorted by path.
    pub files: Vec<FileRecord>,
}

/// Builds an image. The same lock, program and library give the same bytes, wherever and whenever.
///
/// # Errors
/// [`ImageError`] with what is missing or does not fit together.
pub fn build(lock: &Lock, packages: &[Fetched], enclave: &Path, onnxruntime: &Path) -> Result<Image, ImageError> {
    let (enclave, onnxruntime) = (read(enclave)?, read(onnxruntime)?);
    let (mut libraries, mut from_kernel, mut from_firmware) = (Tree::default(), Tree::default(), Tree::default());
    let (mut kernel_package, mut firmware_package) = ("", "");
    for Fetched { input, bytes } in packages {
        match input.role() {
            "kernel" => {
                kernel_package = &input.name;
                unpack(&mut from_kernel, &input.name, bytes, &kernel::wanted)?;
            }
            "firmware" => {
                firmware_package = &input.name;
                unpack(&mut from_firmware, &input.name, bytes, &|path| path == FIRMWARE)?;
            }
            _ => unpack(&mut libraries, &input.name, bytes, &initrd::wanted)?,
        }
    }
    let no_firmware =
        || ImageError::Package { package: firmware_package.to_owned(), fact: "it holds no AmdSev firmware" };
    let package_firmware = from_firmware.file(FIRMWARE).ok_or_else(no_firmware)?;
    let firmware = doors::shut(package_firmware).map_err(ImageError::Firmware)?;
    let kernel = kernel::kernel(&from_kernel, kernel_package)?;
    let spec = initrd::content(&enclave, &onnxruntime, &libraries, &kernel)?;
    let Unpacked { archive, files } = pack(&spec, lock.mtime())?;
    let initrd = initrd::compress(&archive)?;
    let manifest = Manifest {
        version: 1,
        mtime: lock.mtime(),
        kernel: Part::of(&kernel.boot_image),
        initrd: Part::of(&initrd),
        firmware: Part::of(&firmware),
        firmware_from: Part::of(package_firmware).sha256,
        kernel_release: kernel.release,
        compressor: initrd::compressor(),
        archive: Part::of(&archive),
        enclave_sha256: Part::of(&enclave).sha256,
        onnxruntime_sha256: Part::of(&onnxruntime).sha256,
        contents: files,
        packages: lock.packages().to_vec(),
    };
    Ok(Image { kernel: kernel.boot_image, initrd, firmware, manifest })
}

impl Image {
    /// Writes the image folder, whole or not at all; an image folder that is there is replaced.
    ///
    /// # Errors
    /// [`ImageError::OutTaken`] when something else is there, [`ImageError::File`] when it cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), ImageError> {
        let parts = Parts { kernel: &self.kernel, initrd: &self.initrd, firmware: &self.firmware };
        write(dir, parts, &self.manifest)
    }
}

/// Packs a spec. The same contents, paths and `mtime` give the same bytes, wherever the files come from.
///
/// # Errors
/// [`ImageError`] when a source cannot be read, paths collide, or the image would be too large.
pub fn pack(spec: &ImageSpec, mtime: u32) -> Result<Unpacked, ImageError> {
    let mut archive = Archive::new(mtime);
    let mut files = Vec::new();
    let mut file = |archive: &mut Archive, path: &str, content: &[u8], executable: bool| {
        let Part { bytes, sha256 } = Part::of(content);
        files.push(FileRecord { path: path.to_owned(), bytes, sha256 });
        archive.entry(path, if executable { Kind::Program } else { Kind::Data }, content)
    };
    for (path, item) in spec.plan()? {
        let written = match item {
            Item::Directory => archive.entry(path, Kind::Directory, &[]),
            Item::Link { to } => archive.entry(path, Kind::Link, to.as_bytes()),
            // Read once: the bytes that are hashed are the bytes that are written.
            Item::File { source, executable } => file(&mut archive, path, &read(source)?, *executable),
            Item::Bytes { content, executable } => file(&mut archive, path, content, *executable),
        };
        written.ok_or(ImageError::TooLarge)?;
        if archive.len() as u64 > MAX_BYTES {
            return Err(ImageError::TooLarge);
        }
    }
    let archive = archive.finish().ok_or(ImageError::TooLarge)?;
    Ok(Unpacked { archive, files })
}

fn read(source: &Path) -> Result<Vec<u8>, ImageError> {
    let file = open(source)?;
    let about = file.metadata().map_err(ImageError::file(source))?;
    let mut content = Vec::with_capacity(usize::try_from(about.len().min(MAX_BYTES)).unwrap_or(0));
    file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(ImageError::file(source))?;
    if content.len() as u64 > MAX_BYTES {
        return Err(ImageError::TooLarge);
    }
    Ok(content)
}
