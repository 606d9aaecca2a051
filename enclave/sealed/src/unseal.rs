//! Turns a package and its model key into plaintext, in one pass: read a chunk, compare its digest, decrypt, hand it on.
//! It cannot take back what it handed on: after an error the caller drops everything it received.

use std::io::{self, ErrorKind, Read as _};

use ring::aead::Tag;

use crate::{
    CHUNK_LEN, Digests, FileEntry, HEADER_LEN, ModelKey, Package, Plaintext, Role, SealedError,
    chunk::ChunkKey,
    digest_list::DigestList,
    directory::{blob_name, list_name},
    header::header,
    key::{FileContext, compare_commitment},
    piece::Piece,
    plaintext::Buffer,
};

impl Package {
    /// Decrypts file `index` into `sink`, chunk by chunk, and returns the true length.
    ///
    /// # Errors
    /// `KEY_COMMITMENT` before anything is decrypted; `BLOB_*`, `PACKAGE_*`; `UNSEAL_SINK` when the sink fails.
    pub fn unseal(
        &self,
        key: &ModelKey,
        index: u32,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64, SealedError> {
        let file = self.manifest.file(index)?;
        let (chunk_key, true_len) = self.file_key(key, file)?;
        let mut chunks = Chunks::open(self, file)?;
        let mut left = true_len;
        while let Some(chunk) = chunks.next()? {
            chunk_key.open(chunk.i, chunk.data, chunk.tag).map_err(|_| SealedError::BlobTag(index, chunk.i))?;
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.data.len());
            let (body, padding) = chunk.data.split_at(here);
            if padding.iter().any(|b| *b != 0) {
                return Err(SealedError::BlobPadding(index));
            }
            if !body.is_empty() {
                sink(body).map_err(|e| SealedError::UnsealSink(e.kind()))?;
            }
            left -= here as u64;
        }
        Ok(true_len)
    }

    /// Decrypts file `index` into memory that is wiped when dropped.
    ///
    /// # Errors
    /// Those of [`Package::unseal`], and `UNSEAL_MEMORY`.
    pub fn unseal_to_vec(&self, key: &ModelKey, index: u32) -> Result<Plaintext, SealedError> {
        let (_, true_len) = self.file_key(key, self.manifest.file(index)?)?;
        let mut out = Plaintext(Vec::new());
        // Reserved once, so that growing leaves no copies behind.
        let reserved = usize::try_from(true_len).ok().and_then(|len| out.0.try_reserve_exact(len).ok());
        reserved.ok_or(SealedError::UnsealMemory(true_len))?;
        self.unseal(key, index, &mut |data| {
            out.0.extend_from_slice(data);
            Ok(())
        })?;
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
    pub fn verify_blobs(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<u64, SealedError> {
        let total = self.manifest.files.iter().map(|f| f.padded_len).sum();
        let mut done = 0;
        progress(done, total);
        for file in &self.manifest.files {
            let mut chunks = Chunks::open(self, file)?;
            while let Some(chunk) = chunks.next()? {
                done += chunk.data.len() as u64;
                progress(done, total);
            }
        }
        Ok(done)
    }

    /// The file's key and true length, after the model key has been compared with the commitment.
    fn file_key(&self, key: &ModelKey, file: &FileEntry) -> Result<(ChunkKey, u64), SealedError> {
        let manifest = &self.manifest;
        compare_commitment(key, &manifest.model_uid, &manifest.model_commitment)?;
        let context = FileContext {
            uid: &manifest.model_uid,
            sequence: manifest.sequence,
            index: file.index,
            padded_len: file.padded_len,
            salt: &file.salt,
        };
        let chunk_key = ChunkKey::derive(key, &context);
        match chunk_key.open_length(&file.sealed_len) {
            Ok(true_len) if true_len <= file.padded_len => Ok((chunk_key, true_len)),
            _ => Err(SealedError::BlobTrueLength(file.index)),
        }
    }
}

/// Ciphertext chunks that are the vendor's: each has been compared with the signed list.
struct Chunks<'a> {
    file: &'a FileEntry,
    blob: Piece,
    list: DigestList,
    buffer: Buffer,
    next: u64,
}

struct Chunk<'a> {
    i: u64,
    data: &'a mut [u8],
    tag: Tag,
}

impl<'a> Chunks<'a> {
    fn open(package: &Package, file: &'a FileEntry) -> Result<Self, SealedError> {
        let index = file.index;
        // The list has at most 48 bytes per MiB of a length that the vendor signed.
        let cap = usize::try_from(file.list_len()).map_err(|_| SealedError::BlobList(index))?;
        let list = package.stored.read(&list_name(index), cap)?;
        let list = DigestList::open(index, list, file.chunks(), &file.list_digest)?;
        let mut blob = package.stored.piece(&blob_name(index))?;
        if blob.length() != file.blob_len {
            return Err(SealedError::BlobLength(index));
        }
        let mut found = [0; HEADER_LEN];
        read(&mut blob, &mut found, index)?;
        if found != header(index) {
            return Err(SealedError::BlobHeader(index));
        }
        let longest = usize::try_from(file.padded_len).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
        Ok(Self { file, blob, list, buffer: Buffer::new(longest), next: 0 })
    }

    fn next(&mut self) -> Result<Option<Chunk<'_>>, SealedError> {
        let (i, index) = (self.next, self.file.index);
        if i == self.file.chunks() {
            return Ok(None);
        }
        let data = &mut self.buffer.0[..self.file.chunk_len(i)];
        read(&mut self.blob, data, index)?;
        let last = i + 1 == self.file.chunks();
        if last && self.blob.read(&mut [0]).map_err(|e| SealedError::BlobUnreadable(index, e.kind()))? != 0 {
            return Err(SealedError::BlobLength(index));
        }
        let tag = self.list.compare(i, data)?;
        self.next += 1;
        Ok(Some(Chunk { i, data, tag }))
    }
}

fn read(blob: &mut Piece, into: &mut [u8], index: u32) -> Result<(), SealedError> {
    blob.read_exact(into).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => SealedError::BlobLength(index),
        other => SealedError::BlobUnreadable(index, other),
    })
}
