//! Turns a package directory into regular files, opened below one descriptor and never through a link.
//! It believes nothing that it reads: signatures and digests are verified by its callers.

use std::{collections::HashSet, fs::File, io::ErrorKind, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat},
    io::Errno,
};

use crate::{SealedError, piece::Piece};

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

    /// Opens the regular file `name`.
    pub(crate) fn piece(&self, name: &str) -> Result<Piece, SealedError> {
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
        Ok(Piece::of_file(File::from(fd), len))
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

pub(crate) fn kind(errno: Errno) -> ErrorKind {
    std::io::Error::from(errno).kind()
}
