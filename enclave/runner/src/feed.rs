//! Turns a writer of plaintext in the gate into one pass through a pipe to a runner: nothing whole, nothing on a disk.
//! It does not judge the bytes, and it bounds no time: a writer ends when its reader does, not before.

use std::io::{PipeReader, PipeWriter, Write as _};

use rustix::fs::Mode;

use crate::error::RunnerError;

/// What an ordinary user may ask for (pipe(7), fs.pipe-max-size). A smaller pipe only costs time.
const PIPE_LEN: usize = 1 << 20;
/// So many bytes are written at a time: all of what strace keeps of one call, so that the tests' scan misses none.
const PIECE: usize = 16 * 1024;
/// What follows a stream that was refused: no varint has so many of these bytes in a row, so neither a field, a length nor a list of
/// numbers goes on with them.
const SPOILT: [u8; PIECE] = [0xFF; PIECE];
/// The writer is the owner. A runner with a user of its own opens the pipe again by name, which is asked of the pipe's mode; nobody else
/// has a name for it.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::ROTH);

/// The writing end. Whoever writes does not notice when the reader is gone: its verdict on the bytes must not depend on that.
///
/// A feed that is dropped before its writer was content, by an error or a panic, makes sure that the reader fails.
pub struct Feed {
    pipe: PipeWriter,
    gone: bool,
    accepted: bool,
    /// So many bytes spoil what was refused: no field under way is longer than all that was announced.
    spoils: u64,
}

/// The two ends of a new pipe for so many bytes.
///
/// # Errors
/// `SYSTEM`.
pub(crate) fn pipe(announced: u64) -> Result<(PipeReader, Feed), RunnerError> {
    let (reader, pipe) = std::io::pipe().map_err(|_| RunnerError::System("make a pipe"))?;
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_LEN);
    rustix::fs::fchmod(&reader, MODE).map_err(|_| RunnerError::System("make a pipe readable"))?;
    let spoils = announced.saturating_add(PIPE_LEN as u64);
    Ok((reader, Feed { pipe, gone: false, accepted: false, spoils }))
}

impl Feed {
    /// Hands bytes on, and waits while the pipe is full.
    pub fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            // Nobody reads any more: EPIPE, since SIGPIPE is ignored in every Rust program. Any other failure cuts the stream as well.
            self.gone = self.gone || self.pipe.write_all(piece).is_err();
        }
    }

    /// Runs a writer. Its failure, or its panic, spoils what it wrote. `false` when the reader went away before the end.
    pub(crate) fn run<E>(mut self, write: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<bool, E> {
        write(&mut self)?;
        self.accepted = true;
        Ok(!self.gone)
    }
}

impl Drop for Feed {
    /// An end alone would not do: a stream that is cut between two fields of the model is a model without its last fields. What follows
    /// fills the rest of a string or of raw data under way, no more than was declared, and is malformed wherever else it stands. A reader
    /// that goes on reading sees an end in the midst of it.
    fn drop(&mut self) {
        while !self.accepted && !self.gone && self.spoils > 0 {
            self.write(&SPOILT);
            self.spoils = self.spoils.saturating_sub(PIECE as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::thread;

    /// Much more than a pipe holds.
    const LONG: usize = 5 * PIPE_LEN;

    /// What a reader that takes at most so many bytes gets of a writer, and how the writer ended.
    fn through(
        most: u64,
        write: impl FnOnce(&mut Feed) -> Result<(), &'static str> + Send,
    ) -> (Vec<u8>, thread::Result<Result<bool, &'static str>>) {
        let (reader, feed) = pipe(u64::MAX).unwrap();
        thread::scope(|scope| {
            let feeding = scope.spawn(move || feed.run(write));
            let mut seen = Vec::new();
            let mut some = reader.take(most);
            some.read_to_end(&mut seen).unwrap();
            drop(some);
            (seen, feeding.join())
        })
    }

    #[test]
    fn what_is_written_is_read() {
        for len in [0, 1, PIPE_LEN, LONG] {
            let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let write = |feed: &mut Feed| {
                bytes.chunks(100_000).for_each(|piece| feed.write(piece));
                Ok(())
            };
            let (seen, fed) = through(u64::MAX, write);
            assert!(seen == bytes, "{len}");
            assert_eq!(fed.unwrap(), Ok(true));
        }
    }

    #[test]
    fn a_stream_that_is_refused_does_not_end() {
        let refuse = |feed: &mut Feed| {
            feed.write(b"half");
            Err("refused")
        };
        let (seen, fed) = through(LONG as u64, refuse);
        assert_eq!(seen.len(), LONG, "until its reader has enough");
        assert!(seen.starts_with(b"half") && seen[4..].iter().all(|byte| *byte == 0xFF));
        assert_eq!(fed.unwrap(), Err("refused"));
        let panic = |feed: &mut Feed| -> Result<(), &'static str> {
            feed.write(b"half");
            // Without a line on standard error, which a panic on purpose would look like.
            std::panic::resume_unwind(Box::new(()));
        };
        let (seen, fed) = through(100, panic);
        assert!(seen.len() == 100 && seen[4..].iter().all(|byte| *byte == 0xFF));
        assert!(fed.is_err());
    }

    #[test]
    fn a_writer_goes_on_to_its_own_verdict_when_its_reader_is_gone() {
        let mut written = 0;
        let long = |feed: &mut Feed| {
            for _ in 0..LONG / 1000 {
                feed.write(&[1; 1000]);
                written += 1000;
            }
            Err("refused")
        };
        assert_eq!(through(10, long).1.unwrap(), Err("refused"));
        assert_eq!(written, LONG / 1000 * 1000);
        let long = |feed: &mut Feed| {
            feed.write(&vec![1; LONG]);
            Ok(())
        };
        assert_eq!(through(10, long).1.unwrap(), Ok(false), "it is told afterwards");
    }

    #[test]
    fn others_may_read_the_pipe_and_nobody_else_may_write() {
        use std::os::fd::AsFd as _;
        let (reader, _feed) = pipe(u64::MAX).unwrap();
        let mode = rustix::fs::fstat(reader.as_fd()).unwrap().st_mode & 0o777;
        assert_eq!(mode, 0o604);
        // Lets the feed go.
        drop(reader);
    }
}
