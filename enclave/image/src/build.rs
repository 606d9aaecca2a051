//! Turns an image spec into initrd bytes and a manifest that names every file with its SHA-256.
//! It does not compress, and it does not say what a launch measures: that is `vouchsafe-measurement`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ring::digest;
use serde::Serialize;

use crate::cpio::{Archive, Kind};
use crate::error::ImageError;
use crate::spec::{ImageSpec, Item};

/// The largest image, and so the largest file in one.
const MAX_BYTES: u64 = 1 << 30;

/// A built image.
#[derive(Debug)]
pub struct Image {
    /// The initrd, an uncompressed `newc` archive.
    pub initrd: Vec<u8>,
    /// What is in it.
    pub manifest: Manifest,
}

/// The contents of an image, for a person or a program to compare with a build of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The version of this format.
    pub version: u32,
    /// SHA-256 of the initrd, in hex.
    pub initrd_sha256: String,
    /// The one time that all entries carry, in seconds.
    pub mtime: u32,
    /// Every regular file, sorted by path.
    pub files: Vec<FileRecord>,
}

/// One regular file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileRecord {
    /// Its path inside the image.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// Builds the image. The same file contents, paths and `mtime` give the same bytes, wherever the files come from.
///
/// # Errors
/// [`ImageError`] when a source cannot be read, paths collide, or the image would be too large.
pub fn build(spec: &ImageSpec, mtime: u32) -> Result<Image, ImageError> {
    let mut archive = Archive::new(mtime);
    let mut files = Vec::new();
    for (path, item) in spec.plan()? {
        let written = match item {
            Item::Directory => archive.entry(path, Kind::Directory, &[]),
            Item::Link { to } => archive.entry(path, Kind::Link, to.as_bytes()),
            Item::File { source, executable } => {
                // Read once: the bytes that are hashed are the bytes that are written.
                let content = read(source)?;
                files.push(FileRecord {
                    path: path.to_owned(),
                    bytes: content.len() as u64,
                    sha256: sha256_hex(&content),
                });
                let kind = if *executable { Kind::Program } else { Kind::Data };
                archive.entry(path, kind, &content)
            }
        };
        written.ok_or(ImageError::TooLarge)?;
        if archive.len() as u64 > MAX_BYTES {
            return Err(ImageError::TooLarge);
        }
    }
    let initrd = archive.finish().ok_or(ImageError::TooLarge)?;
    let manifest = Manifest { version: 1, initrd_sha256: sha256_hex(&initrd), mtime, files };
    Ok(Image { initrd, manifest })
}

fn read(source: &Path) -> Result<Vec<u8>, ImageError> {
    let failed = |error| ImageError::File { path: source.to_owned(), source: error };
    let file = File::open(source).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(failed(std::io::Error::from(std::io::ErrorKind::InvalidInput)));
    }
    let mut content = Vec::with_capacity(usize::try_from(about.len().min(MAX_BYTES)).unwrap_or(0));
    file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(ImageError::TooLarge);
    }
    Ok(content)
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}
