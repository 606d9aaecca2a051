//! Turns an input of a sealing, a file, a spooled stream or bytes, into plaintext of a length that is known before it is read.
//! It tells that an input changed by length and time, not by contents: whoever sets times back is not noticed.

use std::{
    fs::{File, Metadata},
    io::{ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    time::SystemTime,
};

use rustix::fs::OFlags;

use crate::{Plaintext, SealInput, SealedError, spool::Spool};

/// Plaintext to be read in order, in the chunks of the format.
pub(crate) enum Source {
    /// A regular file, and what it was when it was opened.
    File { at: usize, file: File, opened: Stamp },
    /// A stream that was read before.
    Spool(Box<Spool>),
    /// What `seal` wrote itself.
    Bytes { bytes: Plaintext, at: usize },
}

/// Length and time of the last change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
}

impl Source {
    /// Opens input number `at`.
    pub(crate) fn open(at: usize, input: &SealInput) -> Result<Self, SealedError> {
        let unreadable = |e: std::io::Error| SealedError::SealInputUnreadable(at, e.kind());
        // NONBLOCK: opening a pipe must not wait for a writer.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(&input.path).map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        if meta.is_file() {
            Ok(Self::File { at, file, opened: Stamp::of(&meta) })
        } else {
            Err(SealedError::SealInputNotRegular(at))
        }
    }

    /// Bytes of this process.
    pub(crate) const fn of(bytes: Plaintext) -> Self {
        Self::Bytes { bytes, at: 0 }
    }

    /// How many bytes it will give.
    pub(crate) fn true_len(&self) -> u64 {
        match self {
            Self::File { opened, .. } => opened.len,
            Self::Spool(spool) => spool.true_len(),
            Self::Bytes { bytes, .. } => bytes.len() as u64,
        }
    }

    /// Fills `body`, the next chunk's plaintext.
    pub(crate) fn read(&mut self, body: &mut [u8]) -> Result<(), SealedError> {
        match self {
            Self::File { at, file, .. } => file.read_exact(body).map_err(|e| match e.kind() {
                ErrorKind::UnexpectedEof => SealedError::SealInputChanged(*at),
                other => SealedError::SealInputUnreadable(*at, other),
            }),
            Self::Spool(spool) => spool.read(body),
            Self::Bytes { bytes, at } => {
                // Callers ask for no more than `true_len` bytes in all.
                if let Some(next) = bytes.get(*at..*at + body.len()) {
                    body.copy_from_slice(next);
                    *at += body.len();
                }
                Ok(())
            }
        }
    }

    /// Refuses a file that is not as long and as old as it was.
    pub(crate) fn end(&mut self) -> Result<(), SealedError> {
        let Self::File { at, file, opened } = self else { return Ok(()) };
        let unreadable = |e: std::io::Error| SealedError::SealInputUnreadable(*at, e.kind());
        let more = file.read(&mut [0]).map_err(unreadable)? != 0;
        if more || Stamp::of(&file.metadata().map_err(unreadable)?) != *opened {
            return Err(SealedError::SealInputChanged(*at));
        }
        Ok(())
    }
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { len: meta.len(), modified: meta.modified().ok() }
    }
}
