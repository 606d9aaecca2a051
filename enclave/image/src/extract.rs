//! Turns the initrd of an image folder back into files on disk, for people and programs that look into it.
//! The bytes are compared with the manifest beside them first; whether that manifest is the one you want is for you to say.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::ImageError;
use crate::folder::{INITRD, Manifest, Part, open};
use crate::spec::allowed;

/// The longest archive that is unpacked; the builder makes none longer.
const MAX_BYTES: u64 = 1 << 30;
/// Six bytes of magic and thirteen numbers of eight hex digits (Linux, early-userspace/buffer-format.rst).
const HEADER: usize = 6 + 13 * 8;
const MAGIC: &[u8] = b"070701";
const END: &str = "TRAILER!!!";

/// One entry of an archive.
struct Entry<'a> {
    path: &'a str,
    mode: u32,
    content: &'a [u8],
}

/// Writes the initrd's content into `out`, which must not exist. On an error some of it may be there.
///
/// # Errors
/// [`ImageError::Mismatch`] when the initrd or the archive in it is not the one that the manifest names,
/// [`ImageError::Manifest`] when the archive is not of the builder's form, [`ImageError::File`].
pub fn extract(image: &Path, out: &Path) -> Result<Manifest, ImageError> {
    let manifest = Manifest::read(image)?;
    let archive = archive(&image.join(INITRD))?;
    let found = Part::of(&archive);
    if found != manifest.archive {
        let expected = manifest.archive.sha256;
        return Err(ImageError::Mismatch { file: INITRD, expected, found: found.sha256 });
    }
    // Every entry is read, and found allowed, before the first one is written.
    let entries = entries(&archive).ok_or(ImageError::Manifest("the initrd is no archive of the builder's form"))?;
    fs::create_dir(out).map_err(ImageError::file(out))?;
    for entry in entries {
        let path = out.join(entry.path);
        write(&path, &entry).map_err(ImageError::file(&path))?;
    }
    Ok(manifest)
}

fn archive(initrd: &Path) -> Result<Vec<u8>, ImageError> {
    let failed = || ImageError::file(initrd);
    let mut archive = Vec::new();
    let decoder = zstd::Decoder::new(open(initrd)?).map_err(failed())?;
    decoder.take(MAX_BYTES + 1).read_to_end(&mut archive).map_err(failed())?;
    if archive.len() as u64 > MAX_BYTES { Err(ImageError::TooLarge) } else { Ok(archive) }
}

/// All entries up to the end mark, or `None` when one is not as the builder writes it.
fn entries(mut rest: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut found = Vec::new();
    loop {
        let (entry, after) = entry(rest)?;
        if entry.path == END {
            return Some(found);
        }
        let regular = matches!(entry.mode, 0o100_555 | 0o100_444);
        let directory = entry.mode == 0o040_555 && entry.content.is_empty();
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
    if entry.mode == 0o040_555 {
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
        for at in 0..good.len().min(400) {
            let mut bad = good.clone();
            bad[at] ^= 0x15;
            let _ = entries(&bad);
        }
    }
}
