//! Turns a place that holds packages, a directory or a volume, into the one package of a model.
//! It does not say which packages are served: the configuration names them, and the vendor's signature makes them genuine.

use std::{
    collections::{BTreeMap, HashSet},
    os::fd::OwnedFd,
    sync::Arc,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
};
use vouchsafe_attestation::{Ed25519Public, claims};

use crate::{
    Package, SealedError, Volume,
    directory::{Directory, kind},
    piece::Piece,
    volume::Extent,
};

/// Where packages stand.
pub enum Shelf {
    /// An open directory with one folder per model id, each a package.
    Directory(OwnedFd),
    /// A volume, as a virtual machine is given: its index is read when it is opened and at every [`Shelf::refresh`].
    Volume(Arc<Volume>),
}

impl Shelf {
    /// Looks for what the host has put there since. A directory is read afresh for every package anyway. Blocks on the disk.
    ///
    /// # Errors
    /// `VOLUME_*`; everything stays as it was.
    pub fn refresh(&self) -> Result<(), SealedError> {
        match self {
            Self::Directory(_) => Ok(()),
            Self::Volume(volume) => volume.refresh(),
        }
    }

    /// Opens the package of `model_id` under the pinned vendor keys.
    ///
    /// # Errors
    /// `PACKAGE_MISSING` when there is none; those of [`Package::open`].
    pub fn package(&self, model_id: &str, vendor_keys: &[Ed25519Public]) -> Result<Package, SealedError> {
        // No other text may become a path.
        claims::model_id(model_id).map_err(|_| SealedError::PackageMissing)?;
        let files = match self {
            Self::Directory(directory) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let folder = openat(directory, model_id, flags, Mode::empty()).map_err(|e| match e {
                    Errno::NOENT | Errno::NOTDIR | Errno::LOOP => SealedError::PackageMissing,
                    e => SealedError::PackageUnreadable(kind(e)),
                })?;
                Files::Directory(Directory::from_fd(folder))
            }
            Self::Volume(volume) => {
                let extents = volume.extents(model_id).ok_or(SealedError::PackageMissing)?;
                Files::Volume(volume.clone(), extents)
            }
        };
        Package::open_files(files, vendor_keys)
    }
}

/// The files of one package, wherever they stand.
pub(crate) enum Files {
    Directory(Directory),
    Volume(Arc<Volume>, Arc<BTreeMap<String, Extent>>),
}

impl Files {
    /// Opens the file `name`.
    pub(crate) fn piece(&self, name: &str) -> Result<Piece, SealedError> {
        match self {
            Self::Directory(directory) => directory.piece(name),
            Self::Volume(volume, extents) => match extents.get(name) {
                Some(extent) => Ok(volume.piece(*extent)),
                None => Err(SealedError::PackageMissingFile(name.to_owned())),
            },
        }
    }

    /// Reads all of `name`, at most one byte more than `cap`: a longer result is too long.
    pub(crate) fn read(&self, name: &str, cap: usize) -> Result<Vec<u8>, SealedError> {
        self.piece(name)?.read_all(cap)
    }

    /// Refuses every file that is not among `expected`.
    pub(crate) fn only(&self, expected: &HashSet<String>) -> Result<(), SealedError> {
        match self {
            Self::Directory(directory) => directory.only(expected),
            Self::Volume(_, extents) if extents.keys().all(|name| expected.contains(name)) => Ok(()),
            Self::Volume(..) => Err(SealedError::PackageExtraFile),
        }
    }
}
