//! Turns an open blob and its digest list into chunks that are the vendor's, each read once, by several threads at a time.
//! Without a file key it gives ciphertext; with one, plaintext whose padding has been compared with zeros.

use std::{io, io::ErrorKind};

use ring::aead::Tag;

use crate::{
    CHUNK_LEN, FileEntry, HEADER_LEN, ModelKey, Package, SealedError,
    chunk::ChunkKey,
    digest_list::DigestList,
    directory::{blob_name, list_name},
    header::header,
    key::{FileContext, compare_commitment},
    piece::Piece,
    plaintext::Buffer,
};

/// One blob whose list and header have been compared.
pub(crate) struct Blob<'a> {
    file: &'a FileEntry,
    piece: Piece,
    list: DigestList,
}

impl<'a> Blob<'a> {
    pub(crate) fn open(package: &Package, file: &'a FileEntry) -> Result<Self, SealedError> {
        let index = file.index;
        // The list has at most 48 bytes per MiB of a length that the vendor signed.
        let cap = usize::try_from(file.list_len()).map_err(|_| SealedError::BlobList(index))?;
        let list = package.stored.read(&list_name(index), cap)?;
        let list = DigestList::open(index, list, file.chunks(), &file.list_digest)?;
        let piece = package.stored.piece(&blob_name(index))?.reading(package.read);
        if piece.length() != file.blob_len {
            return Err(SealedError::BlobLength(index));
        }
        let blob = Self { file, piece, list };
        let mut found = Buffer::new(HEADER_LEN);
        blob.read(&mut found, 0)?;
        if *found != header(index) {
            return Err(SealedError::BlobHeader(index));
        }
        Ok(blob)
    }

    /// Reads chunk `i` into `data`, which has its length, and compares it with the list.
    pub(crate) fn fetch(&self, i: u64, data: &mut [u8]) -> Result<Tag, SealedError> {
        self.read(data, HEADER_LEN as u64 + i * CHUNK_LEN as u64)?;
        let last = i + 1 == self.file.chunks();
        if last && self.piece.continues_at(self.file.blob_len).map_err(|e| self.unread(&e))? {
            return Err(SealedError::BlobLength(self.file.index));
        }
        self.list.compare(i, data)
    }

    /// A buffer for any chunk of this blob.
    pub(crate) fn buffer(&self) -> Buffer {
        Buffer::new(usize::try_from(self.file.padded_len).unwrap_or(CHUNK_LEN).min(CHUNK_LEN))
    }

    fn read(&self, into: &mut [u8], offset: u64) -> Result<(), SealedError> {
        self.piece.read_exact_at(into, offset).map_err(|e| self.unread(&e))
    }

    fn unread(&self, error: &io::Error) -> SealedError {
        match error.kind() {
            ErrorKind::UnexpectedEof => SealedError::BlobLength(self.file.index),
            other => SealedError::BlobUnreadable(self.file.index, other),
        }
    }
}

/// A blob and the key that opens it.
pub(crate) struct Opening<'a> {
    pub(crate) blob: Blob<'a>,
    file: &'a FileEntry,
    key: ChunkKey,
    pub(crate) true_len: u64,
}

impl<'a> Opening<'a> {
    pub(crate) fn new(package: &'a Package, key: &ModelKey, index: u32) -> Result<Self, SealedError> {
        let file = package.manifest.file(index)?;
        let (key, true_len) = file_key(package, key, file)?;
        Ok(Self { blob: Blob::open(package, file)?, file, key, true_len })
    }

    /// Number of chunks.
    pub(crate) const fn chunks(&self) -> u64 {
        self.file.chunks()
    }

    /// Length of chunk `i` with its padding.
    pub(crate) const fn chunk_len(&self, i: u64) -> usize {
        self.file.chunk_len(i)
    }

    /// Reads chunk `i` into `data`, which has its length, and decrypts it there; returns where its padding begins.
    /// On failure `data` holds nothing that may be handed on.
    pub(crate) fn open(&self, i: u64, data: &mut [u8]) -> Result<usize, SealedError> {
        let index = self.file.index;
        let tag = self.blob.fetch(i, data)?;
        self.key.open(i, data, tag).map_err(|_| SealedError::BlobTag(index, i))?;
        let left = self.true_len.saturating_sub(i * CHUNK_LEN as u64);
        let body = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        if data[body..].iter().fold(0, |all, byte| all | byte) != 0 {
            return Err(SealedError::BlobPadding(index));
        }
        Ok(body)
    }
}

/// The file's key and true length, after the model key has been compared with the commitment.
pub(crate) fn file_key(package: &Package, key: &ModelKey, file: &FileEntry) -> Result<(ChunkKey, u64), SealedError> {
    let manifest = &package.manifest;
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
