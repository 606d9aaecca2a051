//! Turns the C library's allocator into one that does not keep what was freed: overwritten, and given back to the kernel.
//! It does not reach registers, stacks, or the few small blocks that a living thread keeps for itself: they are overwritten when it ends.

use std::ffi::c_int;

/// Freed blocks are filled with this byte, new ones with its complement.
const FILL: c_int = 0xA5;
/// Blocks from this size on have pages of their own, which go back to the kernel when freed. Written down, the size no longer grows.
const OWN_PAGES: c_int = 128 * 1024;

/// From now on freed memory is overwritten. Call it before there is a secret. Says whether the allocator agreed.
#[must_use]
#[allow(unsafe_code)]
pub fn wipe_freed_memory() -> bool {
    // SAFETY: mallopt takes two integers, touches the allocator's own settings under its own lock, and refuses what it does not know.
    let (fills, own_pages) =
        unsafe { (libc::mallopt(libc::M_PERTURB, FILL), libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES)) };
    fills == 1 && own_pages == 1
}

/// Gives whole pages of freed memory back to the kernel now.
#[allow(unsafe_code)]
pub fn return_freed_memory() {
    // SAFETY: malloc_trim takes an integer and only gives back memory that nobody owns, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
