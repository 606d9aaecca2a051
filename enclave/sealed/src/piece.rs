//! Turns a package's file, its own or a range of a volume, into bytes that are read once, in order and never beyond its end.
//! It believes nothing that it reads: signatures and digests are verified by its callers.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use crate::SealedError;

/// One file of a package, open.
pub(crate) struct Piece {
    device: Arc<File>,
    at: u64,
    end: u64,
    length: u64,
}

impl Piece {
    /// A file of its own. What it has beyond `length` is read as well, so that a file that grew shows.
    pub(crate) fn of_file(file: File, length: u64) -> Self {
        Self { device: Arc::new(file), at: 0, end: u64::MAX, length }
    }

    /// The `length` bytes of `device` at `offset`. A device that shrank shows as an early end.
    pub(crate) const fn of_range(device: Arc<File>, offset: u64, length: u64) -> Self {
        Self { device, at: offset, end: offset.saturating_add(length), length }
    }

    /// How long it was when it was opened.
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Reads all of it, at most one byte more than `cap`: a longer result is too long.
    pub(crate) fn read_all(self, cap: usize) -> Result<Vec<u8>, SealedError> {
        let mut bytes = Vec::new();
        self.take(cap as u64 + 1).read_to_end(&mut bytes).map_err(|e| SealedError::PackageUnreadable(e.kind()))?;
        Ok(bytes)
    }
}

impl Read for Piece {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let here = into.len().min(left);
        let read = self.device.read_at(&mut into[..here], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_range_ends_where_it_ends_and_a_file_where_it_is_found_to_end() {
        let device = Arc::new(file(b"0123456789"));
        assert_eq!(Piece::of_range(device.clone(), 3, 4).read_all(100).unwrap(), b"3456");
        assert_eq!(Piece::of_range(device.clone(), 3, 0).read_all(100).unwrap(), b"");
        assert_eq!(Piece::of_range(device.clone(), 8, 4).read_all(100).unwrap(), b"89");
        assert_eq!(Piece::of_range(device.clone(), 0, 10).read_all(3).unwrap(), b"0123");
        // Two pieces of one device do not move each other.
        let (mut a, mut b) = (Piece::of_range(device.clone(), 0, 5), Piece::of_range(device, 5, 5));
        let mut two = [0; 2];
        for (piece, expected) in [(&mut a, b"01"), (&mut b, b"56")] {
            piece.read_exact(&mut two).unwrap();
            assert_eq!(&two, expected);
        }
        a.read_exact(&mut two).unwrap();
        assert_eq!((&two, b.length()), (b"23", 5));

        let mut grown = Piece::of_file(file(b"01234"), 3);
        assert_eq!(grown.read(&mut [0; 3]).unwrap(), 3);
        assert_eq!(grown.read(&mut [0]).unwrap(), 1);
    }
}
