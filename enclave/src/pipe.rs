//! Turns a writer of plaintext and a reader that wants a file name into one pass through a pipe: nothing whole, nothing on a disk.
//! It does not judge the bytes, and it bounds no time: both sides end when the other does, not before.

use std::io::{PipeWriter, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::thread;

use crate::error::EnclaveError;

/// What an ordinary user may ask for (pipe(7), fs.pipe-max-size). A smaller pipe only costs time.
const PIPE_LEN: usize = 1 << 20;
/// So many bytes are written at a time: all of what strace keeps of one call, so that the tests' scan misses none.
const PIECE: usize = 16 * 1024;
/// What follows a stream that was refused: no varint has so many of these bytes in a row, so neither a field, a length nor a list of
/// numbers goes on with them.
const SPOILT: [u8; PIECE] = [0xFF; PIECE];

/// The writing end. Whoever writes does not notice when the reader is gone: its verdict on the bytes must not depend on that.
///
/// A feed that is dropped before its writer was content, by an error or a panic, makes sure that the reader fails.
pub struct Feed {
    pipe: PipeWriter,
    gone: bool,
    accepted: bool,
}

impl Feed {
    /// Hands bytes on, and waits while the pipe is full.
    pub fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            // Nobody reads any more: EPIPE, since SIGPIPE is ignored in every Rust program. Any other failure cuts the stream as well.
            self.gone = self.gone || self.pipe.write_all(piece).is_err();
        }
    }
}

impl Drop for Feed {
    /// An end alone would not do: a stream that is cut between two fields of the model is a model without its last fields. What follows
    /// fills the rest of a string or of raw data under way, no more than was declared, and is malformed wherever else it stands.
    fn drop(&mut self) {
        while !self.accepted && !self.gone {
            self.write(&SPOILT);
        }
    }
}

/// Runs `write` on a thread of its own and `read` here, over one pipe. `read` gets a name by which this process, behind its fence,
/// opens the pipe. The writer's failure is told in preference to the reader's, and makes the reader fail.
///
/// Neither side waits for ever on the other: the stream ends with `write`, and once `read` has returned, nobody holds the reading end.
///
/// # Errors
/// Those of `write`, else those of `read`; `MODEL_UNSUPPORTED` when `read` is content with less than all; `SYSTEM`.
pub fn through<T>(
    write: impl FnOnce(&mut Feed) -> Result<(), EnclaveError> + Send,
    read: impl FnOnce(&Path) -> Result<T, EnclaveError>,
) -> Result<T, EnclaveError> {
    let (reader, pipe) = std::io::pipe().map_err(|_| EnclaveError::System("make a pipe"))?;
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_LEN);
    let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
    let feed = move || -> Result<bool, EnclaveError> {
        let mut feed = Feed { pipe, gone: false, accepted: false };
        write(&mut feed)?;
        feed.accepted = true;
        Ok(!feed.gone)
    };
    let (fed, session) = thread::scope(|scope| {
        let feeding = thread::Builder::new().name("feed".into()).spawn_scoped(scope, feed);
        let feeding = feeding.map_err(|_| EnclaveError::System("start a thread"))?;
        let session = read(&path);
        // Whoever waits for room in the pipe is told now that there will be none. A panic in `read` drops it too.
        drop(reader);
        let fed = feeding.join().map_err(|_| EnclaveError::System("unseal"))?;
        Ok::<_, EnclaveError>((fed, session))
    })?;
    match (fed?, session?) {
        (true, session) => Ok(session),
        (false, _) => Err(EnclaveError::ModelUnsupported("ONNX Runtime did not read the graph to its end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Read as _;
    use std::time::{Duration, Instant};

    /// Much more than a pipe holds.
    const LONG: usize = 5 * PIPE_LEN;

    fn system(_: std::io::Error) -> EnclaveError {
        EnclaveError::System("read")
    }

    /// A model's refusal, of the kind that a writer ends with.
    fn refused() -> EnclaveError {
        EnclaveError::foreign("MODEL_OPERATOR", 6, "", &"an operator that is not supported")
    }

    #[test]
    fn what_is_written_is_read_under_the_name() {
        for len in [0, 1, PIPE_LEN, LONG] {
            let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let write = |feed: &mut Feed| {
                bytes.chunks(100_000).for_each(|piece| feed.write(piece));
                Ok(())
            };
            let read = |path: &Path| fs::read(path).map_err(system);
            assert!(through(write, read).unwrap() == bytes, "{len}");
        }
    }

    #[test]
    fn a_refusal_is_told_and_the_reader_gets_no_end() {
        let write = |feed: &mut Feed| {
            feed.write(b"half");
            Err(refused())
        };
        let mut seen = Vec::new();
        let mut read = |path: &Path| {
            seen = until_spoilt(path)?;
            Err::<(), _>(EnclaveError::ModelUnsupported("spoiled"))
        };
        assert_eq!(through(write, &mut read), Err(refused()));
        assert_eq!(seen, b"half");
        // A reader that swallows everything it gets has to end at some time; one that claims success is not believed.
        assert_eq!(through(|_| Err(refused()), |_| Ok(())), Err(refused()));
    }

    /// What stands before the first byte of what no model has; the stream must not just end.
    fn until_spoilt(path: &Path) -> Result<Vec<u8>, EnclaveError> {
        let (mut file, mut seen, mut byte) = (File::open(path).map_err(system)?, Vec::new(), [0]);
        while file.read(&mut byte).map_err(system)? == 1 {
            if byte == [0xFF] {
                return Ok(seen);
            }
            seen.extend(byte);
        }
        panic!("the stream ended");
    }

    #[test]
    fn a_writer_that_panics_leaves_no_end_either() {
        let mut seen = None;
        let write = |feed: &mut Feed| {
            feed.write(b"half");
            // Without a line on standard error, which a panic on purpose would look like.
            std::panic::resume_unwind(Box::new(()));
        };
        let read = |path: &Path| {
            seen = Some(until_spoilt(path));
            Ok(())
        };
        assert_eq!(through(write, read).unwrap_err().code(), "SYSTEM");
        assert_eq!(seen, Some(Ok(b"half".to_vec())));
    }

    #[test]
    fn neither_side_waits_for_one_that_ended() {
        let begun = Instant::now();
        let long = |feed: &mut Feed| {
            feed.write(&vec![1; LONG]);
            Ok(())
        };
        // Never opens it.
        let failed = EnclaveError::ModelUnsupported("no");
        assert_eq!(through(long, |_| Err::<(), _>(failed.clone())), Err(failed.clone()));
        // Opens it, reads a little, fails.
        let little = |path: &Path| {
            let mut some = [0; 10];
            File::open(path).and_then(|mut file| file.read_exact(&mut some)).map_err(system)?;
            Err::<(), _>(failed.clone())
        };
        assert_eq!(through(long, little), Err(failed.clone()));
        // Reads a little and is content.
        let content = through(long, |_| Ok(())).unwrap_err();
        assert_eq!(content.code(), "MODEL_UNSUPPORTED");
        // The writer ends before it is read at all.
        let late = |path: &Path| {
            std::thread::sleep(Duration::from_millis(50));
            fs::read(path).map_err(system)
        };
        let short = |feed: &mut Feed| {
            feed.write(b"short");
            Ok(())
        };
        assert_eq!(through(short, late), Ok(b"short".to_vec()));
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_writer_hears_nothing_of_a_reader_that_is_gone() {
        let mut verdict = false;
        let write = |feed: &mut Feed| {
            (0..LONG / 1000).for_each(|_| feed.write(&[1; 1000]));
            verdict = true;
            Err(refused())
        };
        assert_eq!(through(write, |_| Err::<(), _>(EnclaveError::ModelUnsupported("no"))), Err(refused()));
        assert!(verdict, "it goes on to its own verdict");
    }

    #[test]
    fn behind_the_fence_the_pipe_is_still_read_by_its_name() {
        use crate::authority::{Gaps, fence};
        use crate::config::Landlock;
        let seen = std::thread::spawn(|| {
            let gaps = Gaps { packages: None, workplace: None, ports: Vec::new() };
            let status = fence(gaps, Landlock::BestEffort).unwrap();
            let write = |feed: &mut Feed| {
                feed.write(b"model");
                Ok(())
            };
            (status, through(write, |path| fs::read(path).map_err(system)), File::open("/etc/passwd").is_err())
        });
        let (status, read, outside) = seen.join().unwrap();
        assert_eq!(read, Ok(b"model".to_vec()));
        if status == "none" {
            println!("NOT RUN: a pipe behind the fence: this kernel does not enforce landlock");
        } else {
            assert!(outside, "control: the fence stands");
        }
    }
}
