//! Turns a package and its model key into plaintext, in one pass: read a chunk, compare its digest, decrypt, hand it on.
//! It cannot take back what it handed on: after an error the caller drops everything it received.

use std::{io, iter, num::NonZero};

use crate::{
    CHUNK_LEN, Digests, ModelKey, Package, Plaintext, Role, SealedError,
    blob::{Blob, Opening, file_key},
    lanes,
    plaintext::{Buffer, fill_or_wipe},
};

impl Package {
    /// The length of file `index` without padding.
    ///
    /// # Errors
    /// `BLOB_INDEX`, `KEY_COMMITMENT`, `BLOB_TRUE_LENGTH`.
    pub fn true_len(&self, key: &ModelKey, index: u32) -> Result<u64, SealedError> {
        file_key(self, key, self.manifest.file(index)?).map(|(_, true_len)| true_len)
    }

    /// Decrypts file `index` on up to `threads` threads into `sink`, in order, and returns the true length.
    ///
    /// The sink is called by one thread at a time, of which none works on more than one chunk: memory is bounded by
    /// 1 MiB per thread. It receives what lies before the earliest bad chunk, as with one thread, and nothing behind it.
    ///
    /// # Errors
    /// `KEY_COMMITMENT` before anything is decrypted; `BLOB_*`, `PACKAGE_*`; `UNSEAL_SINK` when the sink fails.
    pub fn unseal_ordered(
        &self,
        key: &ModelKey,
        index: u32,
        threads: NonZero<usize>,
        sink: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send),
    ) -> Result<u64, SealedError> {
        let opening = Opening::new(self, key, index)?;
        let mut chunks = 0..opening.chunks();
        lanes::in_order(
            lanes::at_most(threads, opening.chunks()),
            || opening.blob.buffer(),
            |_| Ok(chunks.next()),
            |buffer, i| opening.open(i, &mut buffer[..opening.chunk_len(i)]),
            |buffer, body| hand_on(sink, &buffer[..body]),
        )?;
        Ok(opening.true_len)
    }

    /// Decrypts file `index` on up to `threads` threads into the beginning of `out` and returns the true length.
    ///
    /// `out` has at least [`Package::true_len`] bytes; what it has beyond is left alone. Every chunk is read straight
    /// into its place, once, and decrypted there. On failure all of `out` is zeros, after a panic too, and the error is
    /// that of the earliest bad chunk. For [`Read::Direct`](crate::Read::Direct) `out` begins on a page.
    ///
    /// # Errors
    /// `UNSEAL_MEMORY` when `out` is too short; those of [`Package::unseal_ordered`] but `UNSEAL_SINK`.
    pub fn unseal_into(
        &self,
        key: &ModelKey,
        index: u32,
        threads: NonZero<usize>,
        out: &mut [u8],
    ) -> Result<u64, SealedError> {
        fill_or_wipe(out, |out| self.fill(key, index, threads, out))
    }

    /// Decrypts file `index` into memory that is wiped when dropped.
    ///
    /// # Errors
    /// Those of [`Package::unseal_into`].
    pub fn unseal_to_vec(&self, key: &ModelKey, index: u32) -> Result<Plaintext, SealedError> {
        let true_len = self.true_len(key, index)?;
        let memory = usize::try_from(true_len).ok().and_then(Buffer::try_new);
        let mut out = Plaintext(memory.ok_or(SealedError::UnsealMemory(true_len))?);
        self.unseal_into(key, index, NonZero::<usize>::MIN, &mut out.0)?;
        Ok(out)
    }

    /// The sealed list of plaintext digests.
    ///
    /// # Errors
    /// Those of [`Package::unseal_to_vec`], and `BLOB_DIGESTS`.
    pub fn digests(&self, key: &ModelKey) -> Result<Digests, SealedError> {
        let entry = self.manifest.files.iter().find(|f| f.role == Role::Digests).ok_or(SealedError::BlobDigests)?;
        Digests::parse(&self.unseal_to_vec(key, entry.index)?, &self.manifest)
    }

    /// Compares every list with the manifest and every chunk with its list. Needs no key; returns the bytes compared.
    ///
    /// # Errors
    /// `BLOB_*`, `PACKAGE_*`.
    pub fn verify_blobs(&self, progress: &mut (dyn FnMut(u64, u64) + Send)) -> Result<u64, SealedError> {
        self.verify_blobs_on(NonZero::<usize>::MIN, progress)
    }

    /// [`Package::verify_blobs`] on up to `threads` threads; each holds 1 MiB.
    ///
    /// # Errors
    /// Those of [`Package::verify_blobs`]; of several, that of the earliest chunk.
    pub fn verify_blobs_on(
        &self,
        threads: NonZero<usize>,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<u64, SealedError> {
        let total: u64 = self.manifest.files.iter().map(|f| f.padded_len).sum();
        let mut done = 0;
        progress(done, total);
        for file in &self.manifest.files {
            let blob = Blob::open(self, file)?;
            let mut chunks = 0..file.chunks();
            lanes::in_order(
                lanes::at_most(threads, file.chunks()),
                || blob.buffer(),
                |_| Ok(chunks.next()),
                |buffer, i| {
                    let len = file.chunk_len(i);
                    blob.fetch(i, &mut buffer[..len]).map(|_tag| len as u64)
                },
                |_, len| {
                    done += len;
                    progress(done, total);
                    Ok(())
                },
            )?;
        }
        Ok(done)
    }

    fn fill(&self, key: &ModelKey, index: u32, threads: NonZero<usize>, out: &mut [u8]) -> Result<u64, SealedError> {
        let opening = Opening::new(self, key, index)?;
        let too_short = SealedError::UnsealMemory(opening.true_len);
        let body = usize::try_from(opening.true_len).ok().and_then(|len| out.get_mut(..len)).ok_or(too_short)?;
        // A chunk of padding alone has an empty place.
        let places = body.chunks_mut(CHUNK_LEN).chain(iter::repeat_with(<&mut [u8]>::default));
        lanes::in_any_order(
            lanes::at_most(threads, opening.chunks()),
            || None,
            (0..opening.chunks()).zip(places),
            |beside, (i, place)| {
                let len = opening.chunk_len(i);
                if place.len() == len {
                    return opening.open(i, place).map(|_| ());
                }
                // Its padding has no place in `out`.
                let beside = beside.get_or_insert_with(|| opening.blob.buffer());
                let body = opening.open(i, &mut beside[..len])?;
                place.copy_from_slice(&beside[..body]);
                Ok(())
            },
        )?;
        Ok(opening.true_len)
    }
}

fn hand_on(sink: &mut dyn FnMut(&[u8]) -> io::Result<()>, body: &[u8]) -> Result<(), SealedError> {
    if body.is_empty() {
        return Ok(());
    }
    sink(body).map_err(|e| SealedError::UnsealSink(e.kind()))
}
