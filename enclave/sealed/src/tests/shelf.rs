//! Turns files held in memory into a directory or a volume that a test may change while a package of it is open.
//! The volume is written here from the words of `docs/sealed-model.md`; the launcher's own writer is tested beside it.

use std::{
    fmt::Write as _,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use tempfile::TempDir;

use super::support::{Files, Fixture, store};
use crate::{Package, SealedError, Shelf, Volume};

pub(super) const PAGE: usize = 4096;
/// The model's folder in a [`Stand`].
pub(super) const MODEL: &str = "vector";

/// `MODEL/NAME` and contents of each file.
pub(super) fn paths(model: &str, files: &Files) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, bytes)| (format!("{model}/{name}"), bytes.clone())).collect()
}

/// Path, offset and length of each file as an index, written by hand.
pub(super) fn index<'a>(files: impl IntoIterator<Item = (&'a str, u64, u64)>) -> String {
    let mut text = "{\"files\":[".to_owned();
    for (n, (path, offset, length)) in files.into_iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        write!(text, "{comma}{{\"path\":\"{path}\",\"offset\":{offset},\"length\":{length}}}").unwrap();
    }
    text + "]}"
}

/// Magic, length, index, and zeros to the next page.
pub(super) fn frame(index: &[u8]) -> Vec<u8> {
    let mut bytes = b"vouchsafe/1 volume".to_vec();
    bytes.resize(32, 0);
    bytes.extend((index.len() as u64).to_be_bytes());
    bytes.extend(index);
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    bytes
}

/// Where `volume` puts each file.
pub(super) fn places(files: &[(String, Vec<u8>)]) -> Vec<u64> {
    // The first offset decides how long the index is, and that how large the first offset must be.
    let mut first = PAGE;
    loop {
        let mut at = first;
        let mut places = Vec::new();
        for (_, bytes) in files {
            places.push(at as u64);
            at = (at + bytes.len()).next_multiple_of(PAGE);
        }
        let needed = frame(index_at(files, &places).as_bytes()).len();
        if needed <= first {
            return places;
        }
        first = needed;
    }
}

fn index_at(files: &[(String, Vec<u8>)], places: &[u64]) -> String {
    index(files.iter().zip(places).map(|((path, bytes), at)| (path.as_str(), *at, bytes.len() as u64)))
}

/// A volume of these files, in their order.
pub(super) fn volume(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let places = places(files);
    let mut out = frame(index_at(files, &places).as_bytes());
    for ((_, bytes), at) in files.iter().zip(places) {
        out.resize(at as usize, 0);
        out.extend(bytes);
    }
    out.resize(out.len().next_multiple_of(PAGE), 0);
    out
}

/// These bytes as a device.
pub(super) fn device(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// The shelf on a device of these bytes.
pub(super) fn on_volume(bytes: &[u8]) -> Result<Shelf, SealedError> {
    Volume::open(device(bytes)).map(|volume| Shelf::Volume(Arc::new(volume)))
}

/// One package at a place that the test may still change, as the host may.
pub(super) enum Stand {
    Directory(TempDir),
    Volume(File, Vec<(String, u64)>),
}

impl Stand {
    /// The files in a directory, and the same in a volume.
    pub(super) fn both(files: &Files) -> [Self; 2] {
        let dir = TempDir::new().unwrap();
        store(&dir.path().join(MODEL), files);
        // Blobs behind their lists, so that a cut can meet a blob alone.
        let paths: Vec<_> = paths(MODEL, files).into_iter().rev().collect();
        let places = files.keys().rev().cloned().zip(places(&paths)).collect();
        [Self::Directory(dir), Self::Volume(device(&volume(&paths)), places)]
    }

    pub(super) fn shelf(&self) -> Shelf {
        match self {
            Self::Directory(dir) => Shelf::Directory(File::open(dir.path()).unwrap().into()),
            Self::Volume(file, _) => Shelf::Volume(Arc::new(Volume::open(file.try_clone().unwrap()).unwrap())),
        }
    }

    pub(super) fn open(&self, fixture: &Fixture) -> Result<Package, SealedError> {
        self.shelf().package(MODEL, &fixture.vendor_keys())
    }

    /// Changes a file to others bytes of the same length.
    pub(super) fn overwrite(&self, name: &str, bytes: &[u8]) {
        match self {
            Self::Directory(dir) => fs::write(dir.path().join(MODEL).join(name), bytes).unwrap(),
            Self::Volume(file, places) => file.write_all_at(bytes, place(places, name)).unwrap(),
        }
    }

    /// Writes over a part of a file, which keeps its length all the while.
    pub(super) fn patch(&self, name: &str, at: usize, bytes: &[u8]) {
        match self {
            Self::Directory(dir) => {
                let file = File::options().write(true).open(dir.path().join(MODEL).join(name)).unwrap();
                file.write_all_at(bytes, at as u64).unwrap();
            }
            Self::Volume(file, places) => file.write_all_at(bytes, place(places, name) + at as u64).unwrap(),
        }
    }

    /// Cuts a file; of a volume, everything that follows is cut as well.
    pub(super) fn cut(&self, name: &str, length: usize) {
        match self {
            Self::Directory(dir) => {
                let file = File::options().write(true).open(dir.path().join(MODEL).join(name)).unwrap();
                file.set_len(length as u64).unwrap();
            }
            Self::Volume(file, places) => file.set_len(place(places, name) + length as u64).unwrap(),
        }
    }

    /// Removes a file, if this place lets its host do that.
    pub(super) fn remove(&self, name: &str) -> bool {
        match self {
            Self::Directory(dir) => fs::remove_file(dir.path().join(MODEL).join(name)).is_ok(),
            Self::Volume(..) => false,
        }
    }
}

fn place(places: &[(String, u64)], name: &str) -> u64 {
    places.iter().find(|(other, _)| other == name).unwrap().1
}
