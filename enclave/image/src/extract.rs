//! Turns the initrd of an image folder back into a list of files, or files on disk, for people and programs that look into it.
//! All of it is compared with the manifest beside it first; whether that manifest is the one you want is for you to say.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead as _, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::ImageError;
use crate::folder::{FileRecord, INITRD, Manifest, Part, open};
use crate::initrd::{INIT, ONNXRUNTIME};
use crate::spec::allowed;

/// The longest archive that is unpacked; the builder makes none longer.
const MAX_BYTES: u64 = 1 << 30;
/// Six bytes of magic and thirteen numbers of eight hex digits (Linux, early-userspace/buffer-format.rst).
const HEADER: usize = 6 + 13 * 8;
const MAGIC: &[u8] = b"070701";
const END: &str = "TRAILER!!!";
/// The builder pads an archive to a multiple of this.
const BLOCK: usize = 512;
const DIRECTORY: u32 = 0o040_555;

/// One entry of an archive.
struct Entry<'a> {
    path: &'a str,
    mode: u32,
    content: &'a [u8],
}

/// Reads an image folder down to the bytes of every file inside the initrd: what the manifest says of them holds.
///
/// # Errors
/// Those of [`Manifest::read`]; [`ImageError::Mismatch`] when the archive in the initrd is not the one that the manifest names,
/// [`ImageError::Manifest`] when it is not of the builder's form or holds other files than listed.
pub fn inspect(image: &Path) -> Result<Manifest, ImageError> {
    let (manifest, archive) = opened(image)?;
    compared(&manifest, &archive)?;
    Ok(manifest)
}

/// Writes the initrd's content into `out`, which must not exist. On an error some of it may be there.
///
/// # Errors
/// Those of [`inspect`], and [`ImageError::File`].
pub fn extract(image: &Path, out: &Path) -> Result<Manifest, ImageError> {
    let (manifest, archive) = opened(image)?;
    // Every entry is read, and found allowed, before the first one is written.
    let entries = compared(&manifest, &archive)?;
    fs::create_dir(out).map_err(ImageError::file(out))?;
    for entry in entries {
        let path = out.join(entry.path);
        write(&path, &entry).map_err(ImageError::file(&path))?;
    }
    Ok(manifest)
}

fn opened(image: &Path) -> Result<(Manifest, Vec<u8>), ImageError> {
    let manifest = Manifest::read(image)?;
    let archive = archive(&image.join(INITRD))?;
    let found = Part::of(&archive);
    if found == manifest.archive {
        return Ok((manifest, archive));
    }
    Err(ImageError::Mismatch { file: INITRD, expected: manifest.archive.sha256, found: found.sha256 })
}

fn archive(initrd: &Path) -> Result<Vec<u8>, ImageError> {
    // What is no error of the system's is one of the bytes.
    let failed = || {
        |error: io::Error| match error.raw_os_error() {
            Some(_) => ImageError::file(initrd)(error),
            None => ImageError::Manifest("the initrd is not compressed by zstd"),
        }
    };
    let mut archive = Vec::new();
    let mut decoder = zstd::Decoder::new(open(initrd)?).map_err(failed())?.single_frame();
    decoder.by_ref().take(MAX_BYTES + 1).read_to_end(&mut archive).map_err(failed())?;
    if archive.len() as u64 > MAX_BYTES {
        return Err(ImageError::TooLarge);
    }
    // The kernel would go on there, with another archive.
    match decoder.finish().fill_buf().map_err(failed())? {
        [] => Ok(archive),
        _ => Err(ImageError::Manifest("the initrd goes on behind its archive")),
    }
}

/// The archive's entries, after each was compared with what the manifest lists.
fn compared<'a>(manifest: &Manifest, archive: &'a [u8]) -> Result<Vec<Entry<'a>>, ImageError> {
    let entries = entries(archive).ok_or(ImageError::Manifest("the initrd is no archive of the builder's form"))?;
    let record = |entry: &Entry<'_>| {
        let Part { bytes, sha256 } = Part::of(entry.content);
        FileRecord { path: entry.path.to_owned(), bytes, sha256 }
    };
    let mut found: Vec<_> = entries.iter().filter(|entry| entry.mode != DIRECTORY).map(record).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    if found != manifest.contents {
        return Err(ImageError::Manifest("the initrd holds other files than are listed"));
    }
    for (path, digest) in [(INIT, &manifest.enclave_sha256), (ONNXRUNTIME, &manifest.onnxruntime_sha256)] {
        if !found.iter().any(|file| file.path == path && file.sha256 == *digest) {
            return Err(ImageError::Manifest("the enclave or ONNX Runtime in the initrd is not the one that is named"));
        }
    }
    Ok(entries)
}

/// All entries up to the end, or `None` when one is not as the builder writes it.
fn entries(archive: &[u8]) -> Option<Vec<Entry<'_>>> {
    let (mut rest, mut found) = (archive, Vec::new());
    loop {
        let (entry, after) = entry(rest)?;
        if entry.path == END {
            // The kernel passes over zeros and reads on: a second archive would replace files of the first.
            let ends =
                after.iter().all(|byte| *byte == 0) && after.len() < BLOCK && archive.len().is_multiple_of(BLOCK);
            return ends.then_some(found);
        }
        let regular = matches!(entry.mode, 0o100_555 | 0o100_444);
        let directory = entry.mode == DIRECTORY && entry.content.is_empty();
        // A link could lead the next file out of the folder; images have none.
        if !(regular || directory) || allowed(entry.path).is_err() {
            return None;
        }
        found.push(entry);
        rest = after;
    }
}

/// The first entry and what follows it. Name and content each end at a multiple of four bytes.
fn entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    if header.get(..MAGIC.len())? != MAGIC {
        return None;
    }
    let number = |index: usize| {
        let digits = header.get(MAGIC.len() + index * 8..)?.get(..8)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    };
    let (mode, length, name_length) = (number(1)?, number(6)?, number(11)?);
    let (length, name_length) = (usize::try_from(length).ok()?, usize::try_from(name_length).ok()?);
    let name = rest.get(..name_length)?;
    let path = str::from_utf8(name.strip_suffix(b"\0")?).ok()?;
    let rest = rest.get(padded(HEADER + name_length)? - HEADER..)?;
    let content = rest.get(..length)?;
    // The last file's padding may be the archive's own end.
    let rest = rest.get(padded(length)?.min(rest.len())..)?;
    Some((Entry { path, mode, content }, rest))
}

fn padded(length: usize) -> Option<usize> {
    length.checked_next_multiple_of(4)
}

fn write(path: &Path, entry: &Entry<'_>) -> io::Result<()> {
    if entry.mode == DIRECTORY {
        // Writable by the owner, unlike inside the initrd: files follow, and somebody has to remove it again.
        return DirBuilder::new().mode(0o755).create(path);
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(entry.content)?;
    file.set_permissions(fs::Permissions::from_mode(entry.mode & 0o777))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::{Archive, Kind};

    fn packed(items: &[(&str, Kind, &[u8])]) -> Vec<u8> {
        let mut archive = Archive::new(1);
        for (name, kind, content) in items {
            archive.entry(name, *kind, content).unwrap();
        }
        archive.finish().unwrap()
    }

    #[test]
    fn what_was_packed_is_found_again() {
        let bytes = packed(&[
            ("lib", Kind::Directory, b""),
            ("lib/a", Kind::Data, b"12345"),
            ("init", Kind::Program, b"program"),
            ("empty", Kind::Data, b""),
        ]);
        let found = entries(&bytes).unwrap();
        let read: Vec<_> = found.iter().map(|e| (e.path, e.mode, e.content)).collect();
        assert_eq!(
            read,
            [
                ("lib", 0o040_555, &b""[..]),
                ("lib/a", 0o100_444, b"12345"),
                ("init", 0o100_555, b"program"),
                ("empty", 0o100_444, b"")
            ]
        );
        let dir = tempfile::tempdir().unwrap();
        for entry in &found {
            write(&dir.path().join(entry.path), entry).unwrap();
        }
        assert_eq!(fs::read(dir.path().join("lib/a")).unwrap(), b"12345");
        assert_eq!(fs::metadata(dir.path().join("init")).unwrap().permissions().mode() & 0o777, 0o555);
    }

    #[test]
    fn other_archives_are_refused_and_none_panics() {
        assert!(entries(&packed(&[])).is_some_and(|e| e.is_empty()), "control");
        assert!(entries(&packed(&[("link", Kind::Link, b"/etc")])).is_none(), "a link");
        for name in ["../a", "/a", "a/../../b", ""] {
            assert!(entries(&packed(&[(name, Kind::Data, b"")])).is_none(), "{name}");
        }
        let good = packed(&[("a", Kind::Data, b"content"), ("b", Kind::Directory, b"")]);
        for cut in 0..good.len() {
            // The end mark may lose its padding, and nothing else.
            let _ = entries(&good[..cut]);
        }
        assert!(entries(&good[..200]).is_none());
        let evil = packed(&[("a", Kind::Data, b"another")]);
        for more in [&evil[..], &[0; 512], &[&[0; 512], &evil[..]].concat(), b"x"] {
            assert!(entries(&[&good[..], more].concat()).is_none(), "what follows the end");
        }
        for at in 0..good.len().min(400) {
            let mut bad = good.clone();
            bad[at] ^= 0x15;
            let _ = entries(&bad);
        }
    }
}
