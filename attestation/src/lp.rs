//! Turns lists of byte strings into unambiguous hash inputs: `LP(x) = u32be(len x) || x`.
//! It establishes no authenticity: a transcript is only as good as the signature over it.

use ring::digest::{self, Context, SHA256, SHA384, SHA512};

/// Appends `LP(x)` to `out`. Inputs of 4 GiB and more do not occur: every caller caps its input far below.
pub fn put_lp(out: &mut Vec<u8>, x: &[u8]) {
    out.extend_from_slice(&length(x));
    out.extend_from_slice(x);
}

fn length(x: &[u8]) -> [u8; 4] {
    u32::try_from(x.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// A hash over length-prefixed fields. `N` chooses the function: 32 is SHA-256, 48 is SHA-384, 64 is SHA-512.
pub struct Transcript<const N: usize>(Context);

impl<const N: usize> Transcript<N> {
    const ALGORITHM: &'static digest::Algorithm = match N {
        32 => &SHA256,
        48 => &SHA384,
        64 => &SHA512,
        _ => panic!("a transcript is 32, 48 or 64 bytes"),
    };

    /// Starts with `LP(label)`, so that no two uses share an input.
    #[must_use]
    pub fn new(label: &str) -> Self {
        Self(Context::new(Self::ALGORITHM)).lp(label.as_bytes())
    }

    /// Absorbs `LP(x)`.
    #[must_use]
    pub fn lp(self, x: &[u8]) -> Self {
        self.raw(&length(x)).raw(x)
    }

    /// Absorbs eight big-endian bytes.
    #[must_use]
    pub fn u64be(self, x: u64) -> Self {
        self.raw(&x.to_be_bytes())
    }

    /// Absorbs four big-endian bytes.
    #[must_use]
    pub fn u32be(self, x: u32) -> Self {
        self.raw(&x.to_be_bytes())
    }

    /// Absorbs bytes of a length fixed by the format.
    #[must_use]
    pub fn raw(mut self, x: &[u8]) -> Self {
        self.0.update(x);
        self
    }

    /// The digest of everything absorbed.
    #[must_use]
    pub fn finish(self) -> [u8; N] {
        fixed(self.0.finish())
    }
}

fn fixed<const N: usize>(digest: digest::Digest) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(digest.as_ref());
    out
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    fixed(digest::digest(&SHA256, bytes))
}

/// SHA-384 of `bytes`.
#[must_use]
pub fn sha384(bytes: &[u8]) -> [u8; 48] {
    fixed(digest::digest(&SHA384, bytes))
}

/// SHA-512 of `bytes`.
#[must_use]
pub fn sha512(bytes: &[u8]) -> [u8; 64] {
    fixed(digest::digest(&SHA512, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_slide_into_each_other() {
        let one = Transcript::<32>::new("t").lp(b"ab").lp(b"c").finish();
        let two = Transcript::<32>::new("t").lp(b"a").lp(b"bc").finish();
        assert_ne!(one, two);
    }

    #[test]
    fn a_transcript_is_the_hash_of_its_encoding() {
        let mut bytes = Vec::new();
        put_lp(&mut bytes, b"vouchsafe/1 t");
        put_lp(&mut bytes, b"x");
        bytes.extend_from_slice(&7_u64.to_be_bytes());
        assert_eq!(Transcript::<64>::new("vouchsafe/1 t").lp(b"x").u64be(7).finish(), sha512(&bytes));
    }
}
