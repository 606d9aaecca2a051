//! Turns a block device that the host attached into the files of packages, by an index at its beginning.
//! It believes nothing that it reads: nobody signs a volume, the packages in it are signed, and each of their bytes is read once.

use std::{
    collections::{BTreeMap, btree_map::Entry as Place},
    fs::File,
    io::{ErrorKind, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, FileTypeExt as _},
    sync::{Arc, PoisonError, RwLock},
};

use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};
use vouchsafe_attestation::claims::model_id;

use crate::{
    SealedError,
    manifest::allowed_name,
    piece::{self, Piece},
};

/// The first bytes, padded with zeros to [`MAGIC_FIELD`].
pub(crate) const MAGIC: &[u8; 18] = b"vouchsafe/1 volume";
/// Length of the magic with its padding.
const MAGIC_FIELD: usize = 32;
/// Where the index begins: behind the magic and the index's length, `u64be`.
pub(crate) const INDEX_AT: usize = MAGIC_FIELD + size_of::<u64>();
/// Index and files begin, and the index's padding ends, at multiples of this: a page, and a sector of any disk.
pub(crate) const ALIGNMENT: u64 = 4096;
/// An index has at most so many bytes.
pub const MAX_VOLUME_INDEX: usize = 1 << 20;
/// A volume has at most so many files.
pub const MAX_VOLUME_FILES: usize = 4096;

/// A volume whose index is consistent. What its files hold is not read yet.
pub struct Volume {
    device: Arc<File>,
    /// The same device past the page cache, opened together with it: behind the enclave's fence nothing can be opened any more.
    direct: Option<Arc<File>>,
    models: RwLock<Models>,
}

/// The files of every model, by model id and name.
type Models = BTreeMap<String, Arc<BTreeMap<String, Extent>>>;

/// A range of the device that lies within it and overlaps no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    offset: u64,
    length: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    files: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    offset: u64,
    length: u64,
}

impl Volume {
    /// Reads the index of the volume on `device`, a block device or a regular file.
    ///
    /// # Errors
    /// `VOLUME_*`.
    pub fn open(device: File) -> Result<Self, SealedError> {
        let models = read_models(&device)?;
        let direct = piece::again(&device).map(Arc::new);
        Ok(Self { device: Arc::new(device), direct, models: RwLock::new(models) })
    }

    /// Reads the index again. A package that is open already keeps the ranges of its own index. Blocks on the disk.
    ///
    /// # Errors
    /// `VOLUME_*`; the index of before stays.
    pub fn refresh(&self) -> Result<(), SealedError> {
        // The kernel does not know that the host has written: what it holds of the device is of before.
        fadvise(&*self.device, 0, None, Advice::DontNeed).map_err(|e| failed(e.into()))?;
        let models = read_models(&self.device)?;
        *self.models.write().unwrap_or_else(PoisonError::into_inner) = models;
        Ok(())
    }

    /// The files of a model, by name.
    pub(crate) fn extents(&self, model_id: &str) -> Option<Arc<BTreeMap<String, Extent>>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).get(model_id).cloned()
    }

    /// The bytes of an extent of this volume.
    pub(crate) fn piece(&self, extent: Extent) -> Piece {
        Piece::of_range(self.device.clone(), self.direct.clone(), extent.offset, extent.length)
    }
}

/// What the index says, if all of it can be.
fn read_models(device: &File) -> Result<Models, SealedError> {
    let size = size(device)?;
    let (index, data_at) = read_index(device, size)?;
    let index = parse(&index)?;
    let mut models: BTreeMap<String, BTreeMap<String, Extent>> = BTreeMap::new();
    for (n, entry) in (0_u32..).zip(&index.files) {
        let (model, name) = split(&entry.path).ok_or(SealedError::VolumePath(n))?;
        let extent = Extent { offset: entry.offset, length: entry.length };
        let end = entry.offset.checked_add(entry.length);
        if !entry.offset.is_multiple_of(ALIGNMENT) || entry.offset < data_at || end.is_none_or(|end| end > size) {
            return Err(SealedError::VolumeRange(n));
        }
        match models.entry(model.to_owned()).or_default().entry(name.to_owned()) {
            Place::Vacant(place) => place.insert(extent),
            Place::Occupied(_) => return Err(SealedError::VolumePathTwice(n)),
        };
    }
    disjoint(&index.files)?;
    Ok(models.into_iter().map(|(model, files)| (model, Arc::new(files))).collect())
}

/// How many bytes the device has. A block device's metadata says zero; its end does not.
fn size(mut device: &File) -> Result<u64, SealedError> {
    let kind = device.metadata().map_err(failed)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(SealedError::VolumeDevice(ErrorKind::InvalidInput));
    }
    device.seek(SeekFrom::End(0)).map_err(failed)
}

/// The bytes of the index, and where files may begin.
fn read_index(device: &File, size: u64) -> Result<(Vec<u8>, u64), SealedError> {
    let mut head = [0; INDEX_AT];
    read(device, &mut head, 0, SealedError::VolumeMagic)?;
    let (magic, rest) = head.split_at(MAGIC.len());
    let (zeros, length) = rest.split_at(MAGIC_FIELD - MAGIC.len());
    if magic != MAGIC || zeros.iter().any(|b| *b != 0) {
        return Err(SealedError::VolumeMagic);
    }
    let length = length.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_VOLUME_INDEX);
    let length = length.ok_or(SealedError::VolumeIndexLength)?;
    let data_at = ((INDEX_AT + length) as u64).next_multiple_of(ALIGNMENT);
    if data_at > size {
        return Err(SealedError::VolumeIndexLength);
    }
    let mut index = vec![0; data_at as usize - INDEX_AT];
    read(device, &mut index, INDEX_AT as u64, SealedError::VolumeIndexLength)?;
    if index[length..].iter().any(|b| *b != 0) {
        return Err(SealedError::VolumePadding);
    }
    index.truncate(length);
    Ok((index, data_at))
}

/// The index, if this is the one way to write it: no spaces, no escapes, this order of fields.
fn parse(bytes: &[u8]) -> Result<Index, SealedError> {
    let index: Index = serde_json::from_slice(bytes).map_err(|_| SealedError::VolumeIndex)?;
    if index.files.len() > MAX_VOLUME_FILES {
        return Err(SealedError::VolumeFiles(index.files.len()));
    }
    if serde_json::to_vec(&index).is_ok_and(|written| written == bytes) {
        Ok(index)
    } else {
        Err(SealedError::VolumeIndex)
    }
}

/// `MODEL-ID/NAME`, neither of which can lead elsewhere.
fn split(path: &str) -> Option<(&str, &str)> {
    path.split_once('/').filter(|(model, name)| model_id(model).is_ok() && allowed_name(name))
}

/// No byte belongs to two files. An empty file has none, and still may not stand inside another.
fn disjoint(files: &[Entry]) -> Result<(), SealedError> {
    let mut order: Vec<(u64, u64, u32)> =
        (0_u32..).zip(files).map(|(n, file)| (file.offset, file.offset.saturating_add(file.length), n)).collect();
    order.sort_unstable();
    match order.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        Some(pair) => Err(SealedError::VolumeOverlap(pair[1].2)),
        None => Ok(()),
    }
}

/// Fills `into` from `at`; a device that ends before is `short`.
fn read(device: &File, into: &mut [u8], at: u64, short: SealedError) -> Result<(), SealedError> {
    device.read_exact_at(into, at).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => short,
        _ => failed(e),
    })
}

fn failed(error: std::io::Error) -> SealedError {
    SealedError::VolumeDevice(error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_device_is_as_long_as_its_end() {
        // The first disk of this machine that this user may read; its contents are left alone.
        let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
        for disk in disks {
            let sectors = std::fs::read_to_string(disk.path().join("size")).unwrap_or_default();
            let sectors: u64 = sectors.trim().parse().unwrap_or(0);
            let Ok(device) = File::open(std::path::Path::new("/dev").join(disk.file_name())) else { continue };
            if sectors > 0 {
                assert_eq!(device.metadata().unwrap().len(), 0, "control: why the end is sought");
                assert_eq!(size(&device), Ok(sectors * 512));
                return;
            }
        }
        println!("NOT RUN: a_block_device_is_as_long_as_its_end: no disk that this user may read");
    }
}
