//! Turns a kernel, an initrd, a firmware and their manifest into an image folder, whole or not at all.
//! It does not judge what it writes, except that the manifest is about these very bytes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::error::ImageError;
use crate::folder::{FIRMWARE, INITRD, KERNEL, MANIFEST, Manifest, Part};

/// The bytes of the three parts.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Of `kernel`.
    pub kernel: &'a [u8],
    /// Of `initrd`.
    pub initrd: &'a [u8],
    /// Of `firmware.fd`.
    pub firmware: &'a [u8],
}

/// Writes a whole image folder, or nothing: it is made under another name and then renamed.
/// An image folder that lies there already is replaced at once; anything else is left alone.
///
/// # Errors
/// [`ImageError::OutTaken`] when something else than an image folder is there, [`ImageError::Mismatch`] when the manifest is
/// not about these bytes, [`ImageError::File`] when it cannot be written.
pub fn write(dir: &Path, parts: Parts<'_>, manifest: &Manifest) -> Result<(), ImageError> {
    let bytes = [parts.kernel, parts.initrd, parts.firmware];
    for ((name, part), bytes) in manifest.parts().into_iter().zip(bytes) {
        let found = Part::of(bytes);
        if found != *part {
            return Err(ImageError::Mismatch { file: name, expected: part.sha256.clone(), found: found.sha256 });
        }
    }
    let replace = is_taken(dir)?;
    let parent = match dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(ImageError::file(parent))?;
    let temporary = tempfile::Builder::new()
        .prefix(".vouchsafe-image-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(ImageError::file(parent))?;
    let text = manifest.to_bytes()?;
    for (name, bytes) in [KERNEL, INITRD, FIRMWARE, MANIFEST].into_iter().zip([bytes[0], bytes[1], bytes[2], &text]) {
        let path = temporary.path().join(name);
        write_file(&path, bytes).map_err(ImageError::file(&path))?;
    }
    if replace {
        // One step: no reader ever finds the folder missing. What was there goes with the temporary name.
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            temporary.path(),
            rustix::fs::CWD,
            dir,
            rustix::fs::RenameFlags::EXCHANGE,
        )
        .map_err(|error| ImageError::file(dir)(error.into()))?;
    } else {
        fs::rename(temporary.path(), dir).map_err(ImageError::file(dir))?;
        // The name is gone: there is nothing left to remove.
        let _ = temporary.keep();
    }
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(ImageError::file(parent))
}

/// Tells, before any work is done for it, whether a folder may be written at `dir`: nothing is there (`false`), or an image
/// folder is there that will be replaced (`true`).
///
/// # Errors
/// [`ImageError::OutTaken`] when something else is there.
pub fn is_taken(dir: &Path) -> Result<bool, ImageError> {
    let taken = || ImageError::OutTaken { path: dir.to_owned() };
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ImageError::file(dir)(error)),
        Ok(meta) if !meta.is_dir() => Err(taken()),
        Ok(_) => {
            const OURS: [&str; 4] = [KERNEL, INITRD, FIRMWARE, MANIFEST];
            for entry in fs::read_dir(dir).map_err(ImageError::file(dir))? {
                let name = entry.map_err(ImageError::file(dir))?.file_name();
                if !OURS.iter().any(|ours| name == *ours) {
                    return Err(taken());
                }
            }
            Ok(true)
        }
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.sync_all()
}
