//! Turns a length into memory for a secret: pages of its own, in no core dump, locked where that is allowed, overwritten when dropped.
//! It does not reach copies that a user of the memory makes, and a locked page is still the host's to see without memory encryption.

use std::io;
use std::ptr::NonNull;

/// The size of a page on x86-64.
const PAGE: usize = 4096;
/// From this size on huge pages are worth asking for.
const HUGE: usize = 2 << 20;

/// Zeros at first. Begins on a page. Nothing of it is given to a core dump, and nothing is left of it when it is dropped.
pub struct SecretBuffer {
    start: NonNull<u8>,
    len: usize,
    mapped: usize,
    locked: bool,
}

// SAFETY: the mapping belongs to this value alone, whichever thread holds it: nothing else has its address, no thread-local state is involved.
#[allow(unsafe_code)]
unsafe impl Send for SecretBuffer {}
// SAFETY: a shared reference gives out nothing but `&[u8]` and plain numbers.
#[allow(unsafe_code)]
unsafe impl Sync for SecretBuffer {}

impl SecretBuffer {
    /// Reserves `len` bytes. Pages come when they are first written to.
    ///
    /// # Errors
    /// `OutOfMemory` when the kernel grants no such mapping.
    pub fn new(len: usize) -> io::Result<Self> {
        let (start, mapped) = map(len).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut buffer = Self { start, len, mapped, locked: false };
        buffer.advise();
        Ok(buffer)
    }

    /// Asks for what the kernel may refuse: huge pages, and locking of pages as they come.
    #[allow(unsafe_code)]
    fn advise(&mut self) {
        let at = self.start.as_ptr().cast::<libc::c_void>();
        // SAFETY: the range is exactly the mapping made for it; both kinds of advice change neither contents nor rights.
        unsafe {
            libc::madvise(at, self.mapped, libc::MADV_DONTDUMP);
            if self.mapped >= HUGE {
                libc::madvise(at, self.mapped, libc::MADV_HUGEPAGE);
            }
        }
        // SAFETY: the range is exactly the mapping; locking changes no contents. ONFAULT leaves bringing in the pages to who writes them.
        self.locked = unsafe { libc::mlock2(at, self.mapped, libc::MLOCK_ONFAULT) } == 0;
    }

    /// How many bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the kernel agreed never to write it to swap: RLIMIT_MEMLOCK is small for an ordinary user.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        self.locked
    }

    /// The bytes.
    #[must_use]
    #[allow(unsafe_code)]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` are mapped, readable and initialised (zero until written) as long as `self` lives; nobody
        // writes while they are borrowed, since writing takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The bytes, to be written.
    #[must_use]
    #[allow(unsafe_code)]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; the pages are writable, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for SecretBuffer {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        wipe(self.as_mut_slice());
        // SAFETY: the range is exactly the mapping made for it; `self` ends here, and no slice outlives it. Unmapping unlocks.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.mapped);
        }
    }
}

/// Whether the kernel would grant `len` bytes now. No page is touched; who else asks meanwhile may get them.
#[must_use]
#[allow(unsafe_code)]
pub fn has_room(len: usize) -> bool {
    map(len).is_some_and(|(start, mapped)| {
        // SAFETY: the range is exactly the mapping just made, of which nothing else knows.
        unsafe { libc::munmap(start.as_ptr().cast(), mapped) == 0 }
    })
}

/// Whole pages for `len` bytes, at least one: where they begin and how many bytes they are.
#[allow(unsafe_code)]
fn map(len: usize) -> Option<(NonNull<u8>, usize)> {
    let mapped = len.max(1).checked_next_multiple_of(PAGE).filter(|mapped| isize::try_from(*mapped).is_ok())?;
    let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: without MAP_FIXED and with a null address the kernel picks a free range; no existing memory is touched. The length is not
    // zero and fits `isize`.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), mapped, rights, kind, -1, 0) };
    if at == libc::MAP_FAILED {
        return None;
    }
    NonNull::new(at.cast()).map(|start| (start, mapped))
}

/// Overwrites `bytes` with zeros at the speed of `memset`, in a way that the optimiser must keep.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Shown to assembly, which might read it: unlike the standard library's black box, this is a promise.
    zeroize::optimization_barrier(bytes);
}

/// Keeps the whole pages of `bytes` out of core dumps; best effort, and nothing else about them changes.
#[allow(unsafe_code)]
pub fn leave_out_of_dumps(bytes: &mut [u8]) {
    let at = bytes.as_mut_ptr();
    let before = at.align_offset(PAGE);
    let Some(whole) = bytes.len().checked_sub(before).map(|len| len / PAGE * PAGE).filter(|len| *len > 0) else {
        return;
    };
    // SAFETY: `before + whole` is at most the length of `bytes`, so the range lies within them; the advice changes no contents.
    unsafe {
        libc::madvise(at.add(before).cast(), whole, libc::MADV_DONTDUMP);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    /// The flags that the kernel keeps of the mapping with this address.
    fn flags(address: usize) -> Vec<String> {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut here = false;
        for line in maps.lines() {
            let range = line.split_whitespace().next().and_then(|word| word.split_once('-'));
            let number = |word: &str| usize::from_str_radix(word, 16).ok();
            if let Some((Some(from), Some(to))) = range.map(|(from, to)| (number(from), number(to))) {
                here = (from..to).contains(&address);
            } else if let (true, Some(flags)) = (here, line.strip_prefix("VmFlags: ")) {
                return flags.split_whitespace().map(str::to_owned).collect();
            }
        }
        Vec::new()
    }

    #[test]
    fn a_buffer_is_zeros_of_its_length_that_begin_on_a_page() {
        for len in [0, 1, PAGE - 1, PAGE, PAGE + 1, HUGE + 5] {
            let mut buffer = SecretBuffer::new(len).unwrap();
            assert_eq!((buffer.len(), buffer.is_empty()), (len, len == 0));
            assert_eq!(buffer.as_slice().as_ptr().addr() % PAGE, 0);
            assert!(buffer.as_slice().iter().all(|byte| *byte == 0), "{len}");
            buffer.as_mut_slice().fill(7);
            assert!(buffer.as_slice().iter().all(|byte| *byte == 7), "{len}");
        }
    }

    #[test]
    fn a_buffer_is_in_no_core_dump_and_locked_if_it_says_so() {
        let mut buffer = SecretBuffer::new(3 * HUGE).unwrap();
        buffer.as_mut_slice().fill(7);
        let at = buffer.as_slice().as_ptr().addr();
        let flags = flags(at);
        assert!(flags.iter().any(|flag| flag == "dd"), "{flags:?}");
        assert_eq!(flags.iter().any(|flag| flag == "lo"), buffer.is_locked(), "{flags:?}");
    }

    #[test]
    fn what_no_machine_has_is_an_error() {
        assert!(has_room(0) && has_room(1 << 20), "control");
        for len in [usize::MAX, usize::MAX - PAGE, usize::MAX / 2, 1 << 50] {
            assert!(!has_room(len), "{len}");
            assert_eq!(SecretBuffer::new(len).err().unwrap().kind(), io::ErrorKind::OutOfMemory, "{len}");
        }
    }

    #[test]
    fn wiping_leaves_zeros_and_advice_leaves_everything() {
        let mut bytes = vec![7; 5 * PAGE];
        leave_out_of_dumps(&mut bytes);
        leave_out_of_dumps(&mut bytes[..10]);
        leave_out_of_dumps(&mut []);
        assert!(bytes.iter().all(|byte| *byte == 7));
        wipe(&mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn it_goes_from_thread_to_thread() {
        let mut buffer = SecretBuffer::new(PAGE).unwrap();
        buffer.as_mut_slice().fill(3);
        let sum = std::thread::spawn(move || buffer.as_slice().iter().map(|byte| u32::from(*byte)).sum::<u32>());
        assert_eq!(sum.join().unwrap(), 3 * 4096);
    }
}
