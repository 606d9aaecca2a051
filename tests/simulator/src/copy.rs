//! Turns a path into sealed memory with the digest of exactly the bytes in it: the file is opened once and read once.
//! What was measured is what the launcher receives; it does not prevent the launcher from running something else.

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use ring::digest::{Context, SHA384};
use rustix::{
    fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
};

use crate::SimulatorError;

/// The largest file of a guest.
const MAX_GUEST_FILE: u64 = 1 << 30;

const SEAL_TRIES: u32 = 50;
const SEAL_PAUSE: Duration = Duration::from_millis(40);

/// Memory that nobody can change any more, and what it holds.
#[derive(Debug)]
pub(crate) struct Copy {
    /// The memory.
    pub(crate) memory: OwnedFd,
    /// SHA-384 of all of it.
    pub(crate) digest: [u8; 48],
}

impl Copy {
    /// Opens `path` once, hashes what is read, and keeps exactly that. `what` names the file in an error, `name` the memory.
    pub(crate) fn of(path: &Path, what: &'static str, name: &str) -> Result<Self, SimulatorError> {
        let unreadable = |e: std::io::Error| SimulatorError::GuestFile(what, e.kind());
        let memory = |e: Errno| SimulatorError::GuestMemory(e.kind());
        // Non-blocking: a named pipe must not hold the simulator.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let source = File::options().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
        if !source.metadata().map_err(unreadable)?.is_file() {
            return Err(SimulatorError::GuestFileShape(what));
        }
        let basic = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know MFD_EXEC and need none.
        let memfd =
            memfd_create(name, basic | MemfdFlags::EXEC).or_else(|_| memfd_create(name, basic)).map_err(memory)?;
        let mut copy = File::from(memfd);
        let mut source = source.take(MAX_GUEST_FILE + 1);
        let mut context = Context::new(&SHA384);
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0_u64;
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(unreadable(e)),
            };
            let chunk = buffer.get(..count).unwrap_or_default();
            context.update(chunk);
            copy.write_all(chunk).map_err(|e| SimulatorError::GuestMemory(e.kind()))?;
            total += count as u64;
        }
        if total == 0 || total > MAX_GUEST_FILE {
            return Err(SimulatorError::GuestFileShape(what));
        }
        seal(&copy).map_err(memory)?;
        let mut digest = [0; 48];
        digest.copy_from_slice(context.finish().as_ref());
        Ok(Self { memory: OwnedFd::from(copy), digest })
    }

    /// A path of this very memory, for whoever opens files by path: good while the copy lives, in this process only.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.memory.as_raw_fd()))
    }
}

/// Seals for good. The kernel answers EBUSY while something of its own (reclaim, compaction) still holds a page, which passes.
fn seal(copy: &File) -> Result<(), Errno> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    for _ in 0..SEAL_TRIES {
        match fcntl_add_seals(copy, seals) {
            Err(Errno::BUSY) => std::thread::sleep(SEAL_PAUSE),
            other => return other,
        }
    }
    fcntl_add_seals(copy, seals)
}

#[cfg(test)]
mod tests {
    use vouchsafe_attestation::lp::sha384;

    use super::*;

    #[test]
    fn the_copy_is_what_was_hashed_and_cannot_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"program").unwrap();
        let copy = Copy::of(&path, "f", "f").unwrap();
        assert_eq!(copy.digest, sha384(b"program"));
        std::fs::write(&path, b"another").unwrap();
        assert_eq!(std::fs::read(copy.path()).unwrap(), b"program");
        assert!(File::options().write(true).open(copy.path()).and_then(|mut f| f.write_all(b"x")).is_err());
        let mut memory = File::from(copy.memory);
        assert!(memory.write_all(b"x").is_err());
        assert!(memory.set_len(0).is_err());
        let mut text = [0; 7];
        rustix::io::pread(&memory, &mut text, 0).unwrap();
        assert_eq!(&text, b"program");
    }

    #[test]
    fn odd_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for odd in [&empty, dir.path(), Path::new("/dev/zero"), &pipe] {
            assert!(matches!(Copy::of(odd, "f", "f"), Err(SimulatorError::GuestFileShape("f"))), "{}", odd.display());
        }
        assert!(matches!(Copy::of(&dir.path().join("none"), "f", "f"), Err(SimulatorError::GuestFile(..))));
    }
}
