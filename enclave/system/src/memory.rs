//! Turns the C library's allocator into one that does not keep what was freed: it is overwritten, or its pages go back to the kernel.
//! It does not reach registers, stacks, or memory that a program gives up without freeing it.
//!
//! The allocator's own setting for this (`M_PERTURB`) fills every new block as well, which takes a model's loading a quarter more time, and
//! leaves the few blocks that a thread keeps for itself as they are. So the program brings `free` and `realloc` of its own, in front of the
//! C library's: whoever links this crate has them, C++ libraries that are loaded later among them.

use std::ffi::{c_int, c_void};

/// Blocks from this size on get pages of their own, which go back to the kernel when freed, unless a heap has so much free. Written down,
/// the size no longer grows.
const OWN_PAGES: usize = 128 * 1024;
/// The same for who has to do with many blocks of a mebibyte: new pages cost more than all the copies of a body.
const OWN_PAGES_LATER: usize = 4 << 20;
/// Then a heap keeps so much that is free and overwritten.
const KEPT_FREE: usize = 32 << 20;
/// In the word before a block, which has its length: it has pages of its own (glibc 2.36, malloc/malloc.c, IS_MMAPPED).
const IS_MAPPED: usize = 2;

#[allow(unsafe_code)]
unsafe extern "C" {
    // The C library's own, for those who come before it (glibc, "Replacing malloc").
    fn __libc_malloc(len: usize) -> *mut c_void;
    fn __libc_free(block: *mut c_void);
    fn __libc_realloc(block: *mut c_void, len: usize) -> *mut c_void;
}

/// Whether a block has pages of its own. Its length does not tell: what is free in a heap is used first.
///
/// # Safety
/// `block` is a block of this allocator, and not null.
#[allow(unsafe_code)]
unsafe fn is_mapped(block: *mut c_void) -> bool {
    // SAFETY: before every block of this allocator stands the word with its length, aligned like the block.
    unsafe { block.cast::<usize>().sub(1).read() & IS_MAPPED != 0 }
}

/// Overwrites a block and gives it back. What has pages of its own is not overwritten: the kernel does that before anybody gets them.
///
/// # Safety
/// As for free(3): `block` is null or a block of this allocator that nobody uses any more.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller gives up the block, all usable bytes of which are writable; null has none and may be freed. The call after the
    // writes is opaque, so that they are not left out.
    unsafe {
        if !block.is_null() && !is_mapped(block) {
            block.cast::<u8>().write_bytes(0, libc::malloc_usable_size(block));
        }
        __libc_free(block);
    }
}

/// Changes a block's length. A block that moves leaves nothing behind.
///
/// # Safety
/// As for realloc(3): `block` is null or a block of this allocator, and nobody uses it any more unless null is returned.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(block: *mut c_void, len: usize) -> *mut c_void {
    // SAFETY: every branch hands the caller's own promises on. The copy is between two different blocks, within the usable bytes of both.
    unsafe {
        if block.is_null() || is_mapped(block) {
            // The kernel moves pages; what is copied out of them goes back to it.
            return __libc_realloc(block, len);
        }
        if len == 0 {
            free(block);
            return std::ptr::null_mut();
        }
        let here = libc::malloc_usable_size(block);
        if len <= here && len >= here / 2 {
            return block;
        }
        let there = __libc_malloc(len);
        if !there.is_null() {
            there.cast::<u8>().copy_from_nonoverlapping(block.cast(), here.min(len));
            free(block);
        }
        there
    }
}

/// Fixes from what size on blocks have pages of their own, and says whether freed memory is overwritten in the whole process, loaded
/// libraries included. Call it before there is a secret.
#[must_use]
#[allow(unsafe_code)]
pub fn wipe_freed_memory() -> bool {
    // SAFETY: mallopt takes two integers, touches the allocator's own settings under its own lock, and refuses what it does not know.
    let own_pages = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES as c_int) };
    let ours = [(c"free", free as *const c_void), (c"realloc", realloc as *const c_void)];
    // SAFETY: both names end with zero; a lookup changes nothing.
    let found =
        ours.iter().all(|(name, own)| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) } == own.cast_mut());
    own_pages == 1 && found
}

/// From now on blocks of up to 4 MiB come from a heap, which keeps them for the next ones, overwritten. For who reads and writes bodies;
/// whoever loads a model does better without it. Says whether the allocator does so.
#[must_use]
#[allow(unsafe_code)]
pub fn keep_freed_memory() -> bool {
    // SAFETY: mallopt takes two integers, touches the allocator's own settings under its own lock, and refuses what it does not know.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_LATER as c_int) == 1
            && libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_FREE as c_int) == 1
    }
}

/// Gives whole pages of freed memory back to the kernel now.
#[allow(unsafe_code)]
pub fn return_freed_memory() {
    // SAFETY: malloc_trim takes an integer and only gives back memory that nobody owns, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        unsafe_code,
        reason = "a failed step is a failed test; blocks are freed as C frees them"
    )]

    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// The allocator keeps its own words at the beginning of what is free.
    const KEPT: usize = 64;

    /// Leaves much free in this thread's heap, with a block behind it, so that it stays there. That block is to be freed. It is as long as
    /// the others: a short one might stand in what an earlier test left free before them.
    fn make_room() -> *mut u8 {
        let blocks = [(); 8].map(|()| block(OWN_PAGES - 4096));
        let behind = block(OWN_PAGES - 4096);
        for block in blocks {
            // SAFETY: it is this function's own block.
            unsafe { libc::free(block.cast()) };
        }
        behind
    }

    /// A block full of a byte that nothing else here is full of.
    fn block(len: usize) -> *mut u8 {
        // SAFETY: the block is as long as what is written.
        unsafe {
            let block = libc::malloc(len).cast::<u8>();
            assert!(!block.is_null());
            block.write_bytes(0x5E, len);
            block
        }
    }

    /// Reads memory past the rules for pointers. It has a page of its own to read into, lest it takes the very block that was freed. There
    /// is one at a time: pages that one test gave up may come back filled for another.
    struct Eye {
        memory: File,
        bytes: Vec<u8>,
        _alone: MutexGuard<'static, ()>,
    }

    impl Eye {
        fn new() -> Self {
            static ALONE: Mutex<()> = Mutex::new(());
            Self {
                memory: File::open("/proc/self/mem").unwrap(),
                bytes: vec![0; 8 * OWN_PAGES],
                _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
            }
        }

        /// How many bytes of a place still are that byte. Pages that are gone hold nothing.
        fn left(&mut self, address: usize, len: usize) -> usize {
            let bytes = &mut self.bytes[..len];
            let read = self.memory.read_at(bytes, address as u64).unwrap_or(0);
            bytes[..read].iter().filter(|byte| **byte == 0x5E).count()
        }
    }

    #[test]
    fn the_program_frees_through_the_functions_here() {
        assert!(wipe_freed_memory());
    }

    #[test]
    fn freed_blocks_hold_nothing() {
        let mut eye = Eye::new();
        assert!(wipe_freed_memory());
        for len in [200, 1000, 5000, 100_000, OWN_PAGES, 3 * OWN_PAGES] {
            let block = block(len);
            let address = block.addr();
            assert_eq!(eye.left(address, len), len, "control");
            // SAFETY: it is this test's own block.
            unsafe { libc::free(block.cast()) };
            assert!(eye.left(address, len) <= KEPT, "{len}");
        }
        for len in [OWN_PAGES, 3 * OWN_PAGES, 5 * OWN_PAGES] {
            let behind = make_room();
            let block = block(len);
            // SAFETY: as above; it was used last.
            unsafe {
                assert!(!is_mapped(block.cast()), "control: {len}, where others were");
                libc::free(block.cast());
                libc::free(behind.cast());
            }
            assert!(eye.left(block.addr(), len) <= KEPT, "{len}, from the heap");
        }
        let block = block(5000);
        // SAFETY: as above; control: the C library's own does not overwrite.
        unsafe { __libc_free(block.cast()) };
        assert!(eye.left(block.addr(), 5000) > 4000, "control");
    }

    /// How many pages of a place are there.
    fn resident(address: *mut u8, len: usize) -> usize {
        let start = address.map_addr(|at| at.next_multiple_of(4096));
        let mut pages = vec![0_u8; len / 4096 - 1];
        // SAFETY: the kernel writes a byte for each of the pages, or, when the heap has become shorter, none.
        unsafe { libc::mincore(start.cast(), pages.len() * 4096, pages.as_mut_ptr()) };
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn what_a_heap_keeps_for_bodies_is_there_and_holds_nothing() {
        let mut eye = Eye::new();
        assert!(wipe_freed_memory() && keep_freed_memory());
        let len = 8 * OWN_PAGES;
        for _ in 0..3 {
            let (one, two) = (block(len), block(len));
            // SAFETY: both are this test's own, used last here.
            unsafe {
                assert!(!is_mapped(one.cast()) && !is_mapped(two.cast()), "control: from a heap");
                libc::free(one.cast());
                libc::free(two.cast());
            }
            assert!(eye.left(one.addr(), len) <= KEPT && eye.left(two.addr(), len) <= KEPT);
            assert!(resident(one, len) > 200 && resident(two, len) > 200, "kept for the next");
        }
        // Not the last one of its heap, which keeps that.
        let (one, behind) = (block(len), block(len));
        // SAFETY: as above.
        unsafe { libc::free(one.cast()) };
        return_freed_memory();
        assert!(resident(one, len) < 200, "control: now they are gone");
        // SAFETY: as above.
        unsafe { libc::free(behind.cast()) };
    }

    #[test]
    fn a_block_that_grows_or_shrinks_keeps_its_bytes_and_leaves_none() {
        let mut eye = Eye::new();
        assert!(wipe_freed_memory());
        for (from, to) in [(200, 5000), (5000, 100), (5000, 200_000), (300_000, 500), (300_000, 900_000), (1000, 900)] {
            let behind = make_room();
            let old = block(from);
            let address = old.addr();
            // SAFETY: it is this test's own block, of which only the new address is used afterwards.
            unsafe {
                let new = libc::realloc(old.cast(), to).cast::<u8>();
                assert!(std::slice::from_raw_parts(new, from.min(to)).iter().all(|byte| *byte == 0x5E), "{from} {to}");
                if new.addr() != address {
                    assert!(eye.left(address, from) <= KEPT, "{from} {to}");
                }
                libc::free(new.cast());
                libc::free(behind.cast());
                assert!(eye.left(new.addr(), to) <= KEPT, "{from} {to}");
            }
        }
        // SAFETY: null is a block of no length.
        unsafe {
            let new = libc::realloc(std::ptr::null_mut(), 100);
            assert!(!new.is_null() && libc::realloc(new, 0).is_null());
            libc::free(std::ptr::null_mut());
        }
    }
}
