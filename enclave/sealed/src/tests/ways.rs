//! Turns one file of a package into one answer, after every way of unsealing has given the same.
//! What the answer should be is for its callers to say.

use std::{io, num::NonZero};

use crate::{
    ModelKey, Package, Read, SealedError,
    blob::{Blob, Opening},
    plaintext::PAGE,
};

/// Every number of threads that the tests try.
pub(super) const THREADS: [usize; 4] = [1, 2, 3, 8];

/// What a way gave: plaintext or error, and what a sink had received by then.
type Given = (Result<u64, SealedError>, Vec<u8>);

pub(super) fn threads(n: usize) -> NonZero<usize> {
    NonZero::new(n).unwrap()
}

/// The plaintext, by every way, or the one error of all of them.
pub(super) fn agree(package: &Package, key: &ModelKey, index: u32) -> Result<Vec<u8>, SealedError> {
    let expected = in_sequence(package, key, index);
    for n in THREADS {
        assert!(ordered(package, key, index, n) == expected, "in order on {n} threads");
        // Memory off a page and longer than it must be, too.
        let places: &[_] = if n == 2 { &[(0, 0), (0, 1), (1, 0), (64, PAGE)] } else { &[(0, 0)] };
        for place in places {
            assert_into(package, key, index, n, *place, &expected);
        }
    }
    let whole = package.unseal_to_vec(key, index).map(|plaintext| plaintext.to_vec());
    assert_eq!(whole.as_ref().err(), expected.0.as_ref().err());
    if let Ok(whole) = &whole {
        assert!(*whole == expected.1);
    }
    whole
}

/// One chunk after the other, on this thread, without lanes: what every other way is compared with.
pub(super) fn unseal(
    package: &Package,
    key: &ModelKey,
    index: u32,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<u64, SealedError> {
    let opening = Opening::new(package, key, index)?;
    let mut buffer = opening.blob.buffer();
    for i in 0..opening.chunks() {
        let body = opening.open(i, &mut buffer[..opening.chunk_len(i)])?;
        if body > 0 {
            sink(&buffer[..body]).map_err(|e| SealedError::UnsealSink(e.kind()))?;
        }
    }
    Ok(opening.true_len)
}

/// The same without a key: every chunk compared with its list.
pub(super) fn verify(package: &Package) -> Result<u64, SealedError> {
    let mut compared = 0;
    for file in &package.manifest().files {
        let blob = Blob::open(package, file)?;
        let mut buffer = blob.buffer();
        for i in 0..file.chunks() {
            let data = &mut buffer[..file.chunk_len(i)];
            let _tag = blob.fetch(i, data)?;
            compared += data.len() as u64;
        }
    }
    Ok(compared)
}

/// What [`unseal`] gives.
pub(super) fn in_sequence(package: &Package, key: &ModelKey, index: u32) -> Given {
    let mut got = Vec::new();
    let result = unseal(package, key, index, &mut |data| {
        got.extend_from_slice(data);
        Ok(())
    });
    (result, got)
}

pub(super) fn ordered(package: &Package, key: &ModelKey, index: u32, n: usize) -> Given {
    let mut got = Vec::new();
    let result = package.unseal_ordered(key, index, threads(n), &mut |data| {
        got.extend_from_slice(data);
        io::Result::Ok(())
    });
    (result, got)
}

/// Unseals into memory that begins `shift` bytes off and is `more` bytes longer than it must be.
fn assert_into(
    package: &Package,
    key: &ModelKey,
    index: u32,
    n: usize,
    (shift, more): (usize, usize),
    expected: &Given,
) {
    let len = package.true_len(key, index).map_or(100, |len| usize::try_from(len).unwrap());
    let mut memory = crate::plaintext::Buffer::new(shift + len + more);
    memory.fill(0xa5);
    let out = &mut memory[shift..];
    let result = package.unseal_into(key, index, threads(n), out);
    assert_eq!(result, expected.0, "into memory on {n} threads");
    match result {
        Ok(_) => {
            assert!(out[..len] == expected.1, "into memory on {n} threads");
            assert!(all(&out[len..], 0xa5), "what lies behind is left alone");
        }
        Err(_) => assert!(all(out, 0), "something is left"),
    }
    assert!(all(&memory[..shift], 0xa5));
}

/// Whether all bytes are `byte`; in one comparison, since tests are not optimised.
pub(super) fn all(bytes: &[u8], byte: u8) -> bool {
    bytes == vec![byte; bytes.len()]
}

/// Judges the package with cached and with direct reads.
pub(super) fn both_reads(mut package: Package, mut judge: impl FnMut(&Package)) {
    for read in [Read::Cached, Read::Direct] {
        package = package.reading(read);
        judge(&package);
    }
}
