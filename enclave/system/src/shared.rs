//! Turns a length into memory that two processes share, the size of which neither can change, and copies bytes in and out of it.
//! It does not say whose turn it is: the other process may write at any time, so what is read is judged as a copy, and once.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;

/// The size of a page on x86-64.
const PAGE: usize = 4096;
/// From this size on, pages go back to the kernel instead of being overwritten.
const LARGE: usize = 4 << 20;
/// Whoever has the descriptor can neither shrink nor grow the memory: a mapping never loses its pages.
const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// Zeros at first. Begins on a page; in no core dump.
pub struct SharedMemory {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping stays where it is until the value is dropped; every access to its bytes is a copy through raw pointers, or `borrow`,
// whose callers say that nobody writes meanwhile.
#[allow(unsafe_code)]
unsafe impl Send for SharedMemory {}
// SAFETY: as above: bytes that another process may write at any time are not harmed by a second thread of this one.
#[allow(unsafe_code)]
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Makes memory of `len` bytes, at least one, and the descriptor by which another process maps it.
    ///
    /// # Errors
    /// `InvalidInput` for no bytes; what the kernel says.
    pub fn new(len: usize) -> io::Result<(Self, OwnedFd)> {
        let file = anonymous()?;
        file.set_len(u64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?)?;
        seal(&file)?;
        let memory = Self::map(&file, len)?;
        Ok((memory, file.into()))
    }

    /// Maps the memory behind a descriptor, if it has exactly this size and can change it no more.
    ///
    /// # Errors
    /// `InvalidInput` for another size, no bytes, or a descriptor without the seals; what the kernel says.
    #[allow(unsafe_code)]
    pub fn map(fd: impl AsFd, len: usize) -> io::Result<Self> {
        let fd = fd.as_fd();
        // SAFETY: it takes two numbers and reads nothing of this process.
        let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
        let size = File::from(fd.try_clone_to_owned()?).metadata()?.len();
        if len == 0 || seals < 0 || seals & SEALS != SEALS || u64::try_from(len) != Ok(size) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if isize::try_from(len).is_err() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: without MAP_FIXED and with a null address the kernel picks a free range; no existing memory is touched.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the range is exactly the mapping; the advice changes neither contents nor rights.
        unsafe { libc::madvise(at, len, libc::MADV_DONTDUMP) };
        Ok(Self { start, len })
    }

    /// How many bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none: never.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `bytes` to `at`. False, and nothing is written, if they do not fit there.
    #[must_use]
    #[allow(unsafe_code)]
    pub fn write(&self, at: usize, bytes: &[u8]) -> bool {
        let Some(to) = self.place(at, bytes.len()) else { return false };
        // SAFETY: `to` has room for that many bytes of the mapping, and `bytes` are not among them: they are a reference's, whose owner
        // was told not to write while it is borrowed.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        true
    }

    /// A copy of the `len` bytes that stand at `at`. Nothing if there are not so many, or no memory for them.
    #[must_use]
    #[inline(never)]
    #[allow(unsafe_code)]
    pub fn read(&self, at: usize, len: usize) -> Option<Vec<u8>> {
        let from = self.place(at, len)?;
        let mut out = Vec::new();
        out.try_reserve_exact(len).ok()?;
        // SAFETY: `from` begins that many bytes of the mapping, and the vector's own memory has room for them and is none of them. Should
        // the other process write meanwhile, the copy holds some mixture of bytes: any bytes are valid. All `len` are written by then.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), out.as_mut_ptr(), len);
            out.set_len(len);
        }
        // Whoever looks at the copy looks at these bytes, not at the memory once more: the compiler may not know where they came from.
        zeroize::optimization_barrier(out.as_slice());
        Some(out)
    }

    /// Overwrites a range with zeros; whole pages of a large one go back to the kernel. What of it lies beyond the end is left out.
    pub fn wipe(&self, range: Range<usize>) {
        let (start, end) = (range.start, range.end.min(self.len));
        if start >= end {
            return;
        }
        let whole = start.next_multiple_of(PAGE)..end / PAGE * PAGE;
        if end - start >= LARGE && self.give_back(whole.clone()) {
            self.fill(start..whole.start);
            self.fill(whole.end..end);
        } else {
            self.fill(start..end);
        }
    }

    /// The bytes of a range themselves.
    ///
    /// For the process whose turn it is: while they are borrowed, the other process must not write them, nor may [`Self::write`] or
    /// [`Self::wipe`] here reach into the range.
    #[must_use]
    #[allow(unsafe_code)]
    pub fn borrow(&self, range: Range<usize>) -> Option<&[u8]> {
        let len = range.end.checked_sub(range.start)?;
        let from = self.place(range.start, len)?;
        // SAFETY: that many bytes from there are mapped and initialised as long as `self` lives, and nobody writes them meanwhile: that is
        // what the caller answers for.
        Some(unsafe { std::slice::from_raw_parts(from.as_ptr(), len) })
    }

    /// Where `len` bytes from `at` on begin, if they are all inside.
    #[allow(unsafe_code)]
    fn place(&self, at: usize, len: usize) -> Option<NonNull<u8>> {
        if at.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `at` is at most `self.len`, so this is inside the mapping or just behind it.
        Some(unsafe { self.start.add(at) })
    }

    #[allow(unsafe_code)]
    fn fill(&self, range: Range<usize>) {
        let len = range.end.saturating_sub(range.start);
        let Some(at) = self.place(range.start, len) else { return };
        // SAFETY: that many bytes of the mapping are writable. Another process sees them, so the write is not left out: the system call
        // and the messages that hand the memory over are opaque.
        unsafe { at.as_ptr().write_bytes(0, len) };
    }

    /// Whole pages back to the kernel; they are zeros for both processes when they are next looked at.
    #[allow(unsafe_code)]
    fn give_back(&self, pages: Range<usize>) -> bool {
        let Some(at) = self.place(pages.start, pages.end.saturating_sub(pages.start)) else { return false };
        // SAFETY: the range is whole pages inside the mapping, which is shared memory: they keep their addresses and read as zeros.
        unsafe { libc::madvise(at.as_ptr().cast(), pages.end - pages.start, libc::MADV_REMOVE) == 0 }
    }
}

impl Drop for SharedMemory {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the range is exactly the mapping made for it; `self` ends here, and no borrow outlives it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[allow(unsafe_code)]
fn anonymous() -> io::Result<File> {
    // SAFETY: the name ends with zero; the call makes a descriptor or fails.
    let fd = unsafe { libc::memfd_create(c"tensors".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, and nothing else owns it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[allow(unsafe_code)]
fn seal(file: &File) -> io::Result<()> {
    // SAFETY: it takes three numbers.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, SEALS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn two_mappings_are_one_memory() {
        let (one, fd) = SharedMemory::new(3 * PAGE + 5).unwrap();
        let two = SharedMemory::map(&fd, 3 * PAGE + 5).unwrap();
        assert_eq!((one.len(), two.is_empty()), (3 * PAGE + 5, false));
        assert!(one.write(PAGE - 2, b"tensor"));
        assert_eq!(two.read(PAGE - 2, 6).unwrap(), b"tensor");
        assert_eq!(two.borrow(PAGE..PAGE + 4), Some(&b"nsor"[..]));
        drop(one);
        assert_eq!(two.read(PAGE - 2, 6).unwrap(), b"tensor", "each has its own mapping");
    }

    #[test]
    fn nothing_reaches_outside() {
        let (memory, _fd) = SharedMemory::new(100).unwrap();
        for (at, len, inside) in [
            (0, 100, true),
            (100, 0, true),
            (99, 1, true),
            (0, 101, false),
            (100, 1, false),
            (101, 0, false),
            (usize::MAX, 0, false),
            (usize::MAX, 2, false),
            (50, usize::MAX - 10, false),
        ] {
            if len < 1000 {
                assert_eq!(memory.write(at, &vec![1; len]), inside, "{at} {len}");
                assert_eq!(memory.read(at, len).is_some(), inside, "{at} {len}");
            }
            assert_eq!(memory.borrow(at..at.wrapping_add(len)).is_some(), inside, "{at} {len}");
        }
        memory.wipe(90..usize::MAX);
        memory.wipe(200..300);
        assert_eq!(memory.read(89, 11).unwrap(), [&[1][..], &[0; 10]].concat());
    }

    #[test]
    fn wiping_leaves_zeros_there_and_nothing_else_touched() {
        let len = 3 * LARGE + 777;
        let (memory, fd) = SharedMemory::new(len).unwrap();
        let file = File::from(fd);
        let used = || std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512;
        for range in [0..1, 10..PAGE, 5..LARGE + 5, PAGE..PAGE + LARGE, 3..len, 0..len] {
            assert!(memory.write(0, &vec![7; len]));
            assert!(used() >= len as u64, "control");
            memory.wipe(range.clone());
            let gone = len as u64 - used().min(len as u64);
            assert!(range.len() < LARGE || gone + 2 * PAGE as u64 >= range.len() as u64, "{range:?}: {gone}");
            let mut expected = vec![7; len];
            expected[range.clone()].fill(0);
            assert!(memory.read(0, len).unwrap() == expected, "{range:?}");
        }
    }

    #[test]
    fn its_size_cannot_be_changed_and_another_is_not_mapped() {
        let (memory, fd) = SharedMemory::new(2 * PAGE).unwrap();
        for other in [0, 1, PAGE, 2 * PAGE - 1, 2 * PAGE + 1, usize::MAX] {
            assert_eq!(SharedMemory::map(&fd, other).err().unwrap().kind(), io::ErrorKind::InvalidInput, "{other}");
        }
        let file = File::from(fd);
        for size in [0, PAGE, 3 * PAGE] {
            assert!(file.set_len(size as u64).is_err(), "{size}");
        }
        assert!(file.write_at(b"behind", 2 * PAGE as u64).is_err());
        assert!(memory.write(0, b"still there"));
        assert!(SharedMemory::new(0).is_err() && SharedMemory::new(usize::MAX).is_err());
    }

    #[test]
    fn a_descriptor_whose_size_may_change_is_refused() {
        let mut file = anonymous().unwrap();
        file.write_all(&[0; PAGE]).unwrap();
        assert_eq!(SharedMemory::map(&file, PAGE).err().unwrap().kind(), io::ErrorKind::InvalidInput);
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(SharedMemory::map(&socket, PAGE).is_err());
        seal(&file).unwrap();
        assert!(SharedMemory::map(&file, PAGE).is_ok(), "control");
    }
}
