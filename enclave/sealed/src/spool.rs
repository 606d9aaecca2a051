//! Turns a stream whose length nobody knows into a file of ciphertext that can be read once more, from its beginning.
//! Its key lives in this process alone: what a killed process leaves on the disk is noise, and has no name.

use std::{
    fs::File,
    io::{ErrorKind, Read, Seek as _, SeekFrom, Write as _},
};

use crate::{CHUNK_LEN, MAX_PADDED_LEN, SealedError, chunk::ChunkKey, plaintext::Buffer, staging::failed};

/// A stream, read to its end. Chunk by chunk: ciphertext, then its tag.
pub(crate) struct Spool {
    file: File,
    key: ChunkKey,
    next: u64,
    true_len: u64,
}

impl Spool {
    /// Reads `stream`, input number `at`, to its end into `file`. `progress` hears the bytes so far.
    pub(crate) fn write(
        at: usize,
        stream: &mut dyn Read,
        mut file: File,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, SealedError> {
        let (key, mut buffer) = (ChunkKey::throw_away()?, Buffer::new(CHUNK_LEN));
        let (mut i, mut true_len) = (0, 0);
        loop {
            let here = fill(stream, &mut buffer).map_err(|kind| SealedError::SealInputUnreadable(at, kind))?;
            true_len += here as u64;
            if true_len > MAX_PADDED_LEN {
                return Err(SealedError::SealPadding);
            }
            if here > 0 {
                let data = &mut buffer[..here];
                let tag = key.seal(i, data);
                file.write_all(data).and_then(|()| file.write_all(&tag)).map_err(failed)?;
                i += 1;
                progress(true_len);
            }
            if here < CHUNK_LEN {
                file.seek(SeekFrom::Start(0)).map_err(failed)?;
                return Ok(Self { file, key, next: 0, true_len });
            }
        }
    }

    /// How many bytes the stream had.
    pub(crate) const fn true_len(&self) -> u64 {
        self.true_len
    }

    /// Reads the next chunk: full ones, then what is left.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<(), SealedError> {
        if into.is_empty() {
            return Ok(());
        }
        let mut tag = [0; 16];
        self.file.read_exact(into).and_then(|()| self.file.read_exact(&mut tag)).map_err(failed)?;
        let opened = self.key.open(self.next, into, tag.into());
        self.next += 1;
        // The disk, or somebody on this machine, changed the scratch file.
        opened.map_err(|_| SealedError::SealWrite(ErrorKind::InvalidData))
    }
}

/// Reads until `into` is full or the stream ends.
fn fill(stream: &mut dyn Read, into: &mut [u8]) -> Result<usize, ErrorKind> {
    let mut done = 0;
    while done < into.len() {
        match stream.read(&mut into[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.kind()),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::{io::Cursor, os::unix::fs::FileExt as _};

    use super::*;

    fn scratch() -> (File, File) {
        let file = tempfile::tempfile().unwrap();
        (file.try_clone().unwrap(), file)
    }

    fn spool(bytes: &[u8], file: File) -> Spool {
        Spool::write(0, &mut Cursor::new(bytes), file, &mut |_| {}).unwrap()
    }

    #[test]
    fn what_was_spooled_comes_back_and_stands_nowhere_in_clear() {
        for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN] {
            let (disk, file) = scratch();
            let bytes: Vec<u8> = (0..len).map(|i| (i * i % 251) as u8).collect();
            let mut spool = spool(&bytes, file);
            assert_eq!(spool.true_len(), len as u64);
            let mut on_disk = vec![0; disk.metadata().unwrap().len() as usize];
            disk.read_exact_at(&mut on_disk, 0).unwrap();
            assert_eq!(on_disk.len(), len + len.div_ceil(CHUNK_LEN) * 16);
            if len > 64 {
                assert!(!on_disk.windows(16).any(|window| window == &bytes[..16]));
            }
            for chunk in bytes.chunks(CHUNK_LEN) {
                let mut back = vec![0; chunk.len()];
                spool.read(&mut back).unwrap();
                assert!(back == chunk, "{len}");
            }
            spool.read(&mut []).unwrap();
            assert!(spool.read(&mut [0]).is_err());
        }
    }

    #[test]
    fn a_scratch_file_that_was_changed_or_cut_is_noticed() {
        let bytes = vec![5; 2 * CHUNK_LEN];
        for (at, expected) in [(0, 0), (CHUNK_LEN, 0), (CHUNK_LEN + 16, 1), (2 * CHUNK_LEN + 31, 1)] {
            let (disk, file) = scratch();
            let mut spool = spool(&bytes, file);
            let mut byte = [0];
            disk.read_exact_at(&mut byte, at as u64).unwrap();
            disk.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
            let results: Vec<_> = (0..2).map(|_| spool.read(&mut vec![0; CHUNK_LEN])).collect();
            for (i, result) in results.into_iter().enumerate() {
                let changed = Err(SealedError::SealWrite(ErrorKind::InvalidData));
                assert_eq!(result, if i == expected { changed } else { Ok(()) }, "byte {at}, chunk {i}");
            }
        }
        let (disk, file) = scratch();
        let mut spool = spool(&bytes, file);
        disk.set_len(CHUNK_LEN as u64).unwrap();
        let result = spool.read(&mut vec![0; CHUNK_LEN]);
        assert_eq!(result, Err(SealedError::SealWrite(ErrorKind::UnexpectedEof)));
    }

    #[test]
    fn a_stream_that_fails_is_told_by_its_place() {
        struct Broken(u8);
        impl Read for Broken {
            fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => Err(ErrorKind::Interrupted.into()),
                    2 => Ok(into.len().min(5)),
                    _ => Err(ErrorKind::ConnectionReset.into()),
                }
            }
        }
        let error = Spool::write(3, &mut Broken(0), scratch().1, &mut |_| {}).err();
        assert_eq!(error, Some(SealedError::SealInputUnreadable(3, ErrorKind::ConnectionReset)));
    }
}
