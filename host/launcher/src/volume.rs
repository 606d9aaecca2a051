//! Turns a models directory into one volume file, which a guest reads as a block device, and newer packages into its other half.
//! It believes nothing that it copies: the enclave verifies every package by itself.

mod packages;

use core::fmt;
use std::{
    fs::File,
    io::{self, ErrorKind},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use crate::LaunchError;
use packages::{Package, Stamp, copy, open, packages};

/// What a volume begins with, padded with zeros to `MAGIC_SPACE` (docs/sealed-model.md).
const MAGIC: &[u8] = b"vouchsafe/1 volume";
const MAGIC_SPACE: u64 = 32;
/// Where the index begins: behind the magic and the index's length as a big-endian number of 8 bytes.
const INDEX_AT: u64 = MAGIC_SPACE + 8;
/// Every file begins at a multiple of this, the page size: a copy then shares blocks on file systems that can.
const ALIGN: u64 = 4096;

/// The most files of a volume (docs/sealed-model.md).
pub const MAX_FILES: usize = 4096;
/// The largest index of a volume, in bytes (docs/sealed-model.md).
pub const MAX_INDEX: usize = 1 << 20;
/// Where files begin, however long the index is: it may grow when packages are renewed.
const FILES_AT: u64 = (INDEX_AT + MAX_INDEX as u64).next_multiple_of(ALIGN);
/// How much larger than the first packages newer ones may be in any case; they may be half as large again, too.
pub const ROOM: u64 = 64 << 20;

/// Why packages cannot be made into a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VolumeError {
    /// The models directory, or something below it, cannot be read.
    Unreadable(ErrorKind),
    /// The volume cannot be written.
    Unwritable(ErrorKind),
    /// There are more files than a volume holds.
    TooManyFiles,
    /// A package has a link, a pipe, a device or a folder inside.
    NotRegular,
    /// A file inside a package has a name that no package has.
    Name,
    /// The index is larger than a volume's may be.
    IndexTooLarge,
    /// A file changed its length while it was copied.
    Changed,
    /// Newer packages are larger than what a volume keeps free for them.
    NoRoom,
}

impl VolumeError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "VOLUME_UNREADABLE",
            Self::Unwritable(_) => "VOLUME_UNWRITABLE",
            Self::TooManyFiles => "VOLUME_TOO_MANY_FILES",
            Self::NotRegular => "VOLUME_NOT_REGULAR",
            Self::Name => "VOLUME_NAME",
            Self::IndexTooLarge => "VOLUME_INDEX_TOO_LARGE",
            Self::Changed => "VOLUME_CHANGED",
            Self::NoRoom => "VOLUME_NO_ROOM",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "let this user read the models directory, its package folders and their files",
            Self::Unwritable(_) => "free some space for a second copy of the packages",
            Self::TooManyFiles | Self::IndexTooLarge => {
                "leave only packages that this launch serves in the models directory"
            }
            Self::NotRegular => "put the package folder itself there, with regular files, in place of links to it",
            Self::Name => "leave only packages in the models directory, as `vouchsafe seal` wrote them",
            Self::Changed => "put a new package there by renaming a finished folder, then try again",
            Self::NoRoom => "launch again: a new volume has the room that its packages need",
        }
    }
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(kind) => write!(f, "the models directory or a package in it cannot be read: {kind}"),
            Self::Unwritable(kind) => write!(f, "the volume cannot be written: {kind}"),
            Self::TooManyFiles => write!(f, "the models directory holds more than {MAX_FILES} files"),
            Self::NotRegular => {
                f.write_str("the models directory holds a link, or a package something that is no regular file")
            }
            Self::Name => f.write_str("a package in the models directory holds a file with a name that no package has"),
            Self::IndexTooLarge => write!(f, "the index of the volume would be larger than {MAX_INDEX} bytes"),
            Self::Changed => f.write_str("a package in the models directory changed while it was copied"),
            Self::NoRoom => f.write_str("the newer packages need more room than the machine's volume has"),
        }
    }
}

/// A volume that newer packages can be written into, while a guest reads it.
///
/// Behind the index it has two halves of one length. Packages lie in one of them; newer ones go into the other, and then the
/// index names those alone: what a guest is reading stays where it is until the renewal after the next.
#[derive(Debug)]
pub struct Volume {
    file: File,
    device: File,
    half: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Where the packages lie that the index names.
    second: bool,
    /// What they were copied from; none after a renewal that failed.
    stamps: Option<Vec<Stamped>>,
}

/// Path and stamp of a file.
type Stamped = (String, Stamp);

impl Volume {
    /// Writes every package below `models_dir` into `file`, which nobody else has, with at least `room` for larger ones.
    ///
    /// A package is a folder whose name is a model id; what else lies in the directory stays out. After an error the file
    /// holds nothing of use.
    ///
    /// # Errors
    /// `VOLUME_*`.
    pub fn create(models_dir: &Path, file: File, room: u64) -> Result<Self, LaunchError> {
        Self::make(models_dir, file, room).map_err(LaunchError::Volume)
    }

    fn make(models_dir: &Path, file: File, room: u64) -> Result<Self, VolumeError> {
        let layout = Layout::of(models_dir)?;
        let half = layout.length.saturating_add((layout.length / 2).max(room));
        let end = align(half).and_then(|half| half.checked_mul(2)?.checked_add(FILES_AT));
        let end = end.ok_or(VolumeError::Unwritable(ErrorKind::FileTooLarge))?;
        // What is between the parts is a hole, and reads as zeros.
        file.set_len(0).and_then(|()| file.set_len(end)).map_err(unwritable)?;
        // A guest is given a descriptor that cannot write.
        let device = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(unwritable)?;
        layout.write(&file, FILES_AT)?;
        let state = Mutex::new(State { second: false, stamps: Some(layout.stamps()) });
        Ok(Self { file, device, half: (end - FILES_AT) / 2, state })
    }

    /// Writes every package below `models_dir` beside those that a guest may be reading, and then the index; nothing when they
    /// are still the same files. After an error the packages of before are served on.
    ///
    /// # Errors
    /// `VOLUME_NO_ROOM` and the other `VOLUME_*`.
    pub fn renew(&self, models_dir: &Path) -> Result<(), VolumeError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let layout = Layout::of(models_dir)?;
        let stamps = layout.stamps();
        if state.stamps.as_ref() == Some(&stamps) {
            return Ok(());
        }
        if layout.length > self.half {
            return Err(VolumeError::NoRoom);
        }
        state.stamps = None;
        let second = !state.second;
        layout.write(&self.file, if second { FILES_AT + self.half } else { FILES_AT })?;
        *state = State { second, stamps: Some(stamps) };
        Ok(())
    }

    /// The volume, for reading.
    #[must_use]
    pub const fn device(&self) -> &File {
        &self.device
    }
}

/// What goes into a volume, and how much room it takes.
struct Layout {
    packages: Vec<Package>,
    /// From the first file to the end of the last, aligned.
    length: u64,
}

#[derive(Serialize)]
struct Index {
    files: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    path: String,
    offset: u64,
    length: u64,
}

impl Layout {
    fn of(models_dir: &Path) -> Result<Self, VolumeError> {
        let mut layout = Self { packages: packages(models_dir)?, length: 0 };
        layout.length = layout.index(0)?.1;
        // Wherever it is put, its index fits: no offset has more digits than this.
        layout.index((i64::MAX as u64).saturating_sub(layout.length))?.0.bytes().map(|_| layout)
    }

    /// The index of these packages when the first file begins at `at`, and where the last ends.
    fn index(&self, mut at: u64) -> Result<(Index, u64), VolumeError> {
        let mut files = Vec::new();
        for (path, stamp) in self.stamps() {
            files.push(Entry { path, offset: at, length: stamp.length });
            // An empty file takes a place of its own, too: no two files begin at one offset.
            at = at.checked_add(stamp.length.max(1)).and_then(align).ok_or(VolumeError::Changed)?;
        }
        Ok((Index { files }, at))
    }

    fn stamps(&self) -> Vec<Stamped> {
        let of = |p: &Package| -> Vec<Stamped> {
            p.files.iter().map(|(name, stamp)| (format!("{}/{name}", p.id), *stamp)).collect()
        };
        self.packages.iter().flat_map(of).collect()
    }

    /// Copies the files to where they belong from `at` on; then, and only then, the index names them.
    fn write(&self, into: &File, at: u64) -> Result<(), VolumeError> {
        let (index, _) = self.index(at)?;
        let mut offsets = index.files.iter().map(|entry| entry.offset);
        for package in &self.packages {
            for ((name, stamp), offset) in package.files.iter().zip(&mut offsets) {
                let (file, now) = open(&package.folder, name)?;
                if now.length != stamp.length {
                    return Err(VolumeError::Changed);
                }
                copy(&file, into, offset, stamp.length)?;
            }
        }
        let index = index.bytes()?;
        let length = (index.len() as u64).to_be_bytes();
        let magic: Vec<u8> = MAGIC.iter().copied().chain(std::iter::repeat(0)).take(MAGIC_SPACE as usize).collect();
        let mut area = [&magic[..], &length, &index].concat();
        // The rest of an older index goes, and the room of a longer one is never lacking.
        area.resize(FILES_AT as usize, 0);
        into.write_all_at(&area, 0).map_err(unwritable)
    }
}

impl Index {
    fn bytes(&self) -> Result<Vec<u8>, VolumeError> {
        let bytes = serde_json::to_vec(self).map_err(|_| VolumeError::IndexTooLarge)?;
        if bytes.len() > MAX_INDEX { Err(VolumeError::IndexTooLarge) } else { Ok(bytes) }
    }
}

fn align(at: u64) -> Option<u64> {
    at.checked_next_multiple_of(ALIGN)
}

#[expect(clippy::needless_pass_by_value, reason = "an error handler")]
fn unwritable(error: io::Error) -> VolumeError {
    VolumeError::Unwritable(error.kind())
}

#[cfg(test)]
mod tests;
