//! Turns directories, files and links into a `newc` cpio archive, the format of the kernel's initramfs.
//! It does not choose order or names: what it is given, it writes, with fixed owner and times.
//!
//! Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.

/// The kind of an entry, with its permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    Program,
    Data,
    Link,
}

impl Kind {
    /// File type and permissions; nothing is writable by anyone.
    fn mode(self) -> u32 {
        match self {
            Self::Directory => 0o040_555,
            Self::Program => 0o100_555,
            Self::Data => 0o100_444,
            Self::Link => 0o120_777,
        }
    }
}

/// An archive that grows.
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    mtime: u32,
}

impl Archive {
    /// An empty archive, all of whose entries carry this time.
    pub(crate) fn new(mtime: u32) -> Self {
        Self { bytes: Vec::new(), entries: 0, mtime }
    }

    /// How many bytes there are so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends one entry; `None` when a length does not fit the format's 32 bits.
    pub(crate) fn entry(&mut self, name: &str, kind: Kind, content: &[u8]) -> Option<()> {
        self.entries = self.entries.checked_add(1)?;
        let links = if kind == Kind::Directory { 2 } else { 1 };
        self.record(self.entries, kind.mode(), links, self.mtime, name, content)
    }

    /// Appends the end mark; the result is a multiple of 512 bytes.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        self.record(0, 0, 1, 0, "TRAILER!!!", &[])?;
        self.pad(512);
        Some(self.bytes)
    }

    fn record(&mut self, inode: u32, mode: u32, links: u32, mtime: u32, name: &str, content: &[u8]) -> Option<()> {
        let size = u32::try_from(content.len()).ok()?;
        let name_size = u32::try_from(name.len()).ok()?.checked_add(1)?;
        // magic, inode, mode, uid, gid, links, mtime, size, device of the file (2), device it stands for (2),
        // size of the name with its zero byte, sum (unused in this variant)
        let fields = [inode, mode, 0, 0, links, mtime, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad(4);
        self.bytes.extend_from_slice(content);
        self.pad(4);
        Some(())
    }

    fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_these_bytes() {
        let mut archive = Archive::new(0x5000_0000);
        archive.entry("ab", Kind::Data, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let header = concat!(
            "070701", "00000001", "00008124", "00000000", "00000000", "00000001", "50000000", "00000005", "00000000",
            "00000000", "00000000", "00000000", "00000003", "00000000",
        );
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(bytes[110..124], b"ab\0\0\0\0hello\0\0\0"[..14]);
        assert_eq!(bytes.len(), 512);
        let trailer = &bytes[124 + 110..];
        assert!(trailer.starts_with(b"TRAILER!!!\0"));
    }
}
