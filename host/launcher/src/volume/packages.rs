//! Turns a models directory into open package folders with their files, and copies one file of them.
//! It says which files a package folder holds, not that they are a package.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, copy_file_range, fstat, openat, statat},
    io::Errno,
};

use super::{MAX_FILES, VolumeError};

/// The longest name of a file in a package (docs/sealed-model.md).
const MAX_NAME: usize = 128;
/// How much one system call copies at most.
const PIECE: usize = 1 << 30;
const BUFFER: usize = 1 << 20;

/// An open package folder: renaming another one over its path does not change what is copied.
pub(super) struct Package {
    pub folder: OwnedFd,
    pub id: String,
    pub files: Vec<(String, Stamp)>,
}

/// One file at one time: another file, or the same one written since, has another stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub length: u64,
    device: u64,
    inode: u64,
    changed: [(i64, u64); 2],
}

/// Every package folder, in the order of its name, its files likewise: the same packages make the same volume.
pub(super) fn packages(models_dir: &Path) -> Result<Vec<Package>, VolumeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let models = openat(CWD, models_dir, flags, Mode::empty()).map_err(unreadable)?;
    let mut packages = Vec::new();
    let mut count = 0;
    for id in names(&models)?.into_iter().flatten().filter(|name| vouchsafe_attestation::claims::model_id(name).is_ok())
    {
        let stat = statat(&models, id.as_str(), AtFlags::SYMLINK_NOFOLLOW).map_err(unreadable)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {}
            FileType::Symlink => return Err(VolumeError::NotRegular),
            _ => continue,
        }
        let folder = openat(&models, id.as_str(), flags | OFlags::NOFOLLOW, Mode::empty()).map_err(|e| match e {
            Errno::LOOP | Errno::NOTDIR => VolumeError::NotRegular,
            e => unreadable(e),
        })?;
        let mut files = Vec::new();
        for name in names(&folder)? {
            let name = name.filter(|name| allowed_name(name)).ok_or(VolumeError::Name)?;
            count += 1;
            if count > MAX_FILES {
                return Err(VolumeError::TooManyFiles);
            }
            let (_, stamp) = open(&folder, &name)?;
            files.push((name, stamp));
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        packages.push(Package { folder, id, files });
    }
    packages.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(packages)
}

/// The names in a folder; `None` stands for one that is no text. More than a volume holds are not read.
fn names(folder: &OwnedFd) -> Result<Vec<Option<String>>, VolumeError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if names.len() == MAX_FILES {
            return Err(VolumeError::TooManyFiles);
        }
        names.push(name.to_str().ok().map(str::to_owned));
    }
    Ok(names)
}

/// Opens a regular file and tells what it is; a link is not followed, a pipe not waited for.
pub(super) fn open(folder: &OwnedFd, name: &str) -> Result<(File, Stamp), VolumeError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(folder, name, flags, Mode::empty()).map_err(|e| match e {
        Errno::LOOP | Errno::NXIO | Errno::NODEV => VolumeError::NotRegular,
        e => unreadable(e),
    })?;
    let stat = fstat(&fd).map_err(unreadable)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(VolumeError::NotRegular);
    }
    let length = u64::try_from(stat.st_size).map_err(|_| VolumeError::NotRegular)?;
    let changed = [(stat.st_mtime, stat.st_mtime_nsec), (stat.st_ctime, stat.st_ctime_nsec)];
    Ok((File::from(fd), Stamp { length, device: stat.st_dev, inode: stat.st_ino, changed }))
}

/// Copies exactly `length` bytes; the kernel does it, and shares blocks, where both file systems let it.
pub(super) fn copy(file: &File, into: &File, offset: u64, length: u64) -> Result<(), VolumeError> {
    let (mut from, mut to) = (0, offset);
    while from < length {
        let piece = usize::try_from(length - from).unwrap_or(PIECE).min(PIECE);
        match copy_file_range(file, Some(&mut from), into, Some(&mut to), piece) {
            Ok(0) => return copy_by_hand(file, into, from, to, length),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::NOSPC | Errno::FBIG | Errno::DQUOT) => {
                return Err(VolumeError::Unwritable(ErrorKind::StorageFull));
            }
            // Other file systems, other kernels: reading and writing tells what is really wrong, if anything is.
            Err(_) => return copy_by_hand(file, into, from, to, length),
        }
    }
    Ok(())
}

fn copy_by_hand(file: &File, into: &File, mut from: u64, mut to: u64, length: u64) -> Result<(), VolumeError> {
    let mut buffer = vec![0; BUFFER];
    while from < length {
        let piece = usize::try_from(length - from).unwrap_or(BUFFER).min(BUFFER);
        let count = match file.read_at(buffer.get_mut(..piece).unwrap_or_default(), from) {
            Ok(0) => return Err(VolumeError::Changed),
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(VolumeError::Unreadable(e.kind())),
        };
        let read = buffer.get(..count).unwrap_or_default();
        into.write_all_at(read, to).map_err(|e| VolumeError::Unwritable(e.kind()))?;
        from += count as u64;
        to += count as u64;
    }
    Ok(())
}

/// A name as packages have them (docs/sealed-model.md): the same file on every file system, never another folder.
fn allowed_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"._-+=@".contains(&b);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(letter) && !name.starts_with('.') && !name.contains("..")
}

fn unreadable(errno: Errno) -> VolumeError {
    VolumeError::Unreadable(io::Error::from(errno).kind())
}
