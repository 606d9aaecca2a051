//! Turns one input of a sealing into its blob and digest list in the staging folder, on several threads and in constant memory.
//! It names no package: the manifest that ties the files together is written by `seal`.

use std::num::NonZero;

use ring::digest::{Context, SHA256};

use crate::{
    CHUNK_LEN, FileEntry, HEADER_LEN, MAX_PADDED_LEN, ModelKey, Role, SealSpec, SealedError,
    chunk::ChunkKey,
    digest_list::{self, ENTRY_LEN},
    directory::{blob_name, list_name},
    header::header,
    key::FileContext,
    lanes,
    plaintext::Buffer,
    source::Source,
    staging::{Staging, sync},
};

/// The next multiple of `pad_to`.
pub(crate) fn padded(true_len: u64, pad_to: u64) -> Result<u64, SealedError> {
    let len = true_len.div_ceil(pad_to).checked_mul(pad_to).filter(|len| *len <= MAX_PADDED_LEN);
    len.ok_or(SealedError::SealPadding)
}

/// The state of one sealing.
pub(crate) struct Job<'a> {
    pub(crate) spec: &'a SealSpec,
    pub(crate) key: &'a ModelKey,
    pub(crate) uid: [u8; 32],
    pub(crate) threads: NonZero<usize>,
    pub(crate) staging: Staging,
    pub(crate) salts: &'a mut dyn FnMut() -> Result<[u8; 32], SealedError>,
    pub(crate) progress: &'a mut (dyn FnMut(u64, u64) + Send),
    pub(crate) done: u64,
    pub(crate) total: u64,
}

impl Job<'_> {
    /// Writes blob and list of one file; returns its entry and the SHA-256 of its plaintext.
    pub(crate) fn file(
        &mut self,
        index: u32,
        name: &str,
        role: Role,
        pad_to: u64,
        mut source: Source,
    ) -> Result<(FileEntry, [u8; 32]), SealedError> {
        let true_len = source.true_len();
        let (padded_len, salt) = (padded(true_len, pad_to)?, (self.salts)()?);
        let context = FileContext { uid: &self.uid, sequence: self.spec.sequence, index, padded_len, salt: &salt };
        let key = ChunkKey::derive(self.key, &context);
        let mut entry = FileEntry {
            index,
            name: name.to_owned(),
            role,
            padded_len,
            blob_len: padded_len + HEADER_LEN as u64,
            salt,
            sealed_len: key.seal_length(true_len),
            list_digest: [0; 32],
        };
        let Self { staging, progress, done, total, .. } = self;
        let (mut blob, mut list) = (staging.file(&blob_name(index))?, staging.file(&list_name(index))?);
        staging.append(&mut blob, &header(index))?;
        let (mut plain, mut list_digest) = (Context::new(&SHA256), blake3::Hasher::new());
        let (mut chunks, mut left) = (0..entry.chunks(), true_len);
        let threads = lanes::at_most(self.threads, entry.chunks());
        let longest = usize::try_from(padded_len).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
        // One at a time: the plaintext, read and hashed in order.
        let take = |buffer: &mut Buffer| {
            let Some(i) = chunks.next() else { return source.end().map(|()| None) };
            let data = &mut buffer[..entry.chunk_len(i)];
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
            let (body, padding) = data.split_at_mut(here);
            source.read(body)?;
            padding.fill(0);
            plain.update(body);
            left -= here as u64;
            Ok(Some((i, here as u64)))
        };
        // Several at a time: ciphertext, tag and digest.
        let encrypt = |buffer: &mut Buffer, (i, here)| {
            let data = &mut buffer[..entry.chunk_len(i)];
            let tag = key.seal(i, data);
            Ok((digest_list::entry(data, &tag), data.len(), here))
        };
        // One at a time, in order: the files of the package.
        let write = |buffer: &mut Buffer, (line, len, here): ([u8; ENTRY_LEN], usize, u64)| {
            staging.append(&mut blob, &buffer[..len])?;
            staging.append(&mut list, &line)?;
            list_digest.update(&line);
            *done += here;
            progress(*done, *total);
            Ok(())
        };
        lanes::in_order(threads, || Buffer::new(longest), take, encrypt, write)?;
        sync(&blob)?;
        sync(&list)?;
        entry.list_digest = *list_digest.finalize().as_bytes();
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(plain.finish().as_ref());
        Ok((entry, sha256))
    }
}
