//! Turns a package's file, its own or a range of a volume, into bytes that are read once and never beyond its end.
//! It believes nothing that it reads: signatures and digests are verified by its callers.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::{SealedError, plaintext::PAGE};

/// How the ciphertext of a folder is read from the disk. A volume's is always read past the page cache where that can be done: nobody
/// else reads it, and what the cache holds may be of before its host wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Read {
    /// Through the kernel's page cache: for what is there already or will be read again.
    #[default]
    Cached,
    /// Past it (`O_DIRECT`), so that a model does not take its own size of memory there as well. Where the file system
    /// or the buffer does not allow that, as [`Read::Cached`].
    Direct,
}

/// One file of a package, open. Threads may share it: reads name their place.
pub(crate) struct Piece {
    device: Arc<File>,
    direct: Option<Direct>,
    begin: u64,
    end: u64,
    length: u64,
}

/// The same file once more, to be read past the page cache.
struct Direct {
    file: Arc<File>,
    /// It was refused once; all further reads are cached.
    refused: AtomicBool,
}

impl Direct {
    const fn new(file: Arc<File>) -> Self {
        Self { file, refused: AtomicBool::new(false) }
    }
}

impl Piece {
    /// A file of its own. What it has beyond `length` is read as well, so that a file that grew shows.
    pub(crate) fn of_file(file: File, length: u64) -> Self {
        Self { device: Arc::new(file), direct: None, begin: 0, end: u64::MAX, length }
    }

    /// The `length` bytes of `device` at `offset`, whole pages by way of `direct`. A device that shrank shows as an early end.
    pub(crate) fn of_range(device: Arc<File>, direct: Option<Arc<File>>, offset: u64, length: u64) -> Self {
        let direct = direct.map(Direct::new);
        Self { device, direct, begin: offset, end: offset.saturating_add(length), length }
    }

    /// From now on whole pages are read as `read` says.
    pub(crate) fn reading(mut self, read: Read) -> Self {
        if read == Read::Direct && self.direct.is_none() {
            self.direct = again(&self.device).map(|file| Direct::new(Arc::new(file)));
        }
        self
    }

    /// How long it was when it was opened.
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Fills `into` with the bytes at `offset`, each read once. An early end is `UnexpectedEof`.
    pub(crate) fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = self.read_pages(into, offset)?;
        while done < into.len() {
            match self.read_at(&mut into[done..], offset.saturating_add(done as u64)) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Whether anything follows behind `offset`.
    pub(crate) fn continues_at(&self, offset: u64) -> io::Result<bool> {
        Ok(self.read_at(&mut [0], offset)? != 0)
    }

    /// Reads all of it, at most one byte more than `cap`: a longer result is too long.
    pub(crate) fn read_all(self, cap: usize) -> Result<Vec<u8>, SealedError> {
        let mut bytes = Vec::new();
        let mut from_start = io::Read::take(Sequence { piece: &self, at: 0 }, cap as u64 + 1);
        io::Read::read_to_end(&mut from_start, &mut bytes).map_err(|e| SealedError::PackageUnreadable(e.kind()))?;
        Ok(bytes)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = self.begin.saturating_add(offset);
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let here = into.len().min(left);
        // Nothing of another file, and no place that the system does not know.
        if here == 0 { Ok(0) } else { self.device.read_at(&mut into[..here], at) }
    }

    /// As many whole pages of `into` as can be read directly, from the first on; returns how many bytes these are.
    fn read_pages(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = self.begin.saturating_add(offset);
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let whole = into.len().min(left) / PAGE * PAGE;
        let Some(direct) = &self.direct else { return Ok(0) };
        let aligned = into.as_ptr().addr().is_multiple_of(PAGE) && at.is_multiple_of(PAGE as u64);
        if !aligned || direct.refused.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let mut done = 0;
        // A read that stops within a page met the end or goes on cached.
        while done < whole && done.is_multiple_of(PAGE) {
            match direct.file.read_at(&mut into[done..whole], at.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::InvalidInput => {
                    direct.refused.store(true, Ordering::Relaxed);
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}

/// Opens the very file of `device` for direct reads; none where the system refuses that.
pub(crate) fn again(device: &File) -> Option<File> {
    // By the descriptor: a name could mean another file by now.
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(CWD, format!("/proc/self/fd/{}", device.as_raw_fd()), flags, Mode::empty()).ok().map(File::from)
}

/// Bytes of a piece from a place on.
struct Sequence<'a> {
    piece: &'a Piece,
    at: u64,
}

impl io::Read for Sequence<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.piece.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::plaintext::Buffer;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_range_ends_where_it_ends_and_a_file_where_it_is_found_to_end() {
        let device = Arc::new(file(b"0123456789"));
        assert_eq!(Piece::of_range(device.clone(), None, 3, 4).read_all(100).unwrap(), b"3456");
        assert_eq!(Piece::of_range(device.clone(), None, 3, 0).read_all(100).unwrap(), b"");
        assert_eq!(Piece::of_range(device.clone(), None, 8, 4).read_all(100).unwrap(), b"89");
        assert_eq!(Piece::of_range(device.clone(), None, 0, 10).read_all(3).unwrap(), b"0123");
        let piece = Piece::of_range(device, None, 5, 5);
        let mut two = [0; 2];
        piece.read_exact_at(&mut two, 3).unwrap();
        assert_eq!((&two, piece.length(), piece.continues_at(5).unwrap()), (b"89", 5, false));
        for offset in [4, 5, 6, u64::MAX] {
            assert_eq!(piece.read_exact_at(&mut two, offset).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }

        let grown = Piece::of_file(file(b"01234"), 3);
        assert!(grown.continues_at(3).unwrap());
        assert!(!grown.continues_at(5).unwrap());
    }

    #[test]
    fn direct_reads_give_the_same_bytes_wherever_they_begin_and_end() {
        let bytes: Vec<u8> = (0..9 * PAGE + 77).map(|i| (i * i % 251) as u8).collect();
        let device = Arc::new(file(&bytes));
        let mut by_disk = 0;
        for (begin, length) in [(0, bytes.len()), (0, PAGE), (PAGE, 3 * PAGE + 5), (2 * PAGE, 7 * PAGE + 77), (5, 9000)]
        {
            let piece = || Piece::of_range(device.clone(), None, begin as u64, length as u64);
            let direct = piece().reading(Read::Direct);
            for (at, len, shift) in [(0, length, 0), (0, length, 1), (PAGE, length.saturating_sub(PAGE), 0), (7, 50, 0)]
            {
                let mut buffer = Buffer::new(len + shift);
                let result = direct.read_exact_at(&mut buffer[shift..], at as u64);
                if at + len <= length {
                    result.unwrap();
                    assert_eq!(buffer[shift..], bytes[begin + at..begin + at + len], "{begin} {length} {at} {len}");
                } else {
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
                }
            }
            by_disk += direct.direct.as_ref().map_or(0, |d| u32::from(!d.refused.load(Ordering::Relaxed)));
            let mut long = Buffer::new(length + 1);
            assert_eq!(direct.read_exact_at(&mut long, 0).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
        if by_disk < 5 {
            println!("NOT RUN: direct reads: the file system of temporary files does not allow them");
        }
    }
}
