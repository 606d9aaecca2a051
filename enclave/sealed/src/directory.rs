//! Turns a package directory into regular files, opened below one descriptor and never through a link.
//! It believes nothing that it reads: signatures and digests are verified by its callers.

use std::{
    collections::HashSet,
    fs::File,
    io::{ErrorKind, Read as _},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat},
    io::Errno,
};

use crate::SealedError;

/// Name of the signed manifest.
pub(crate) const MANIFEST: &str = "manifest.dsse.json";
/// Name of the signed usage policy.
pub(crate) const USAGE_POLICY: &str = "usage-policy.dsse.json";

/// `NNNN.blob`.
pub(crate) fn blob_name(index: u32) -> String {
    format!("{index:04}.blob")
}

/// `NNNN.list`.
pub(crate) fn list_name(index: u32) -> String {
    format!("{index:04}.list")
}

/// An open package directory. Renaming another package over its path does not change what it holds.
pub(crate) struct Directory(OwnedFd);

impl Directory {
    /// Opens the directory at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, SealedError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).map(Self).map_err(|e| SealedError::PackageUnreadable(kind(e)))
    }

    /// A directory that somebody else opened.
    pub(crate) const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Opens the regular file `name` and tells its length.
    pub(crate) fn file(&self, name: &str) -> Result<(File, u64), SealedError> {
        let not_regular = || SealedError::PackageNotRegular(name.to_owned());
        // NONBLOCK: opening a pipe must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(&self.0, name, flags, Mode::empty()).map_err(|e| match e {
            Errno::NOENT => SealedError::PackageMissingFile(name.to_owned()),
            Errno::LOOP | Errno::NXIO | Errno::NODEV => not_regular(),
            e => SealedError::PackageUnreadable(kind(e)),
        })?;
        let stat = fstat(&fd).map_err(|e| SealedError::PackageUnreadable(kind(e)))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_regular());
        }
        let len = u64::try_from(stat.st_size).map_err(|_| not_regular())?;
        Ok((File::from(fd), len))
    }

    /// Reads all of `name`, at most one byte more than `cap`: a longer result is too long.
    pub(crate) fn read(&self, name: &str, cap: usize) -> Result<Vec<u8>, SealedError> {
        let (file, _) = self.file(name)?;
        let mut bytes = Vec::new();
        file.take(cap as u64 + 1).read_to_end(&mut bytes).map_err(|e| SealedError::PackageUnreadable(e.kind()))?;
        Ok(bytes)
    }

    /// Refuses every entry that is not among `expected`.
    pub(crate) fn only(&self, expected: &HashSet<String>) -> Result<(), SealedError> {
        let unreadable = |e| SealedError::PackageUnreadable(kind(e));
        for entry in Dir::read_from(&self.0).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if !name.to_str().is_ok_and(|name| expected.contains(name)) {
                return Err(SealedError::PackageExtraFile);
            }
        }
        Ok(())
    }
}

fn kind(errno: Errno) -> ErrorKind {
    std::io::Error::from(errno).kind()
}
