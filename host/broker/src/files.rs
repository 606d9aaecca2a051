//! Turns paths of the state directory into bytes and back, with their modes.
//! It judges owners and modes only; what a file holds is its reader's business.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use crate::BrokerError;

pub(crate) const CONFIG: &str = "broker.toml";
pub(crate) const TLS_KEY: &str = "tls.key";
pub(crate) const TLS_CERT: &str = "tls.crt";
pub(crate) const RELEASE_KEY: &str = "release.key";
pub(crate) const WRAP_KEY: &str = "wrap.key";
pub(crate) const KEK: &str = "kek";
pub(crate) const MODELS: &str = "models";
pub(crate) const LEDGER: &str = "ledger.jsonl";
pub(crate) const HEAD: &str = "head";
pub(crate) const SOCKET: &str = "admin.sock";
const LOCK: &str = "lock";
/// No file that is read whole is larger.
const MAX_FILE: u64 = 1024 * 1024;

pub(crate) fn failed(what: &'static str) -> impl Fn(std::io::Error) -> BrokerError {
    move |e| BrokerError::File(what, e.kind())
}

/// Reads a file that is no secret.
pub(crate) fn read(dir: &Path, name: &'static str) -> Result<Vec<u8>, BrokerError> {
    let mut out = Vec::new();
    let file = File::open(dir.join(name)).map_err(failed(name))?;
    file.take(MAX_FILE).read_to_end(&mut out).map_err(failed(name))?;
    Ok(out)
}

/// Reads a key file; refuses one that group or others can reach.
pub(crate) fn read_secret(dir: &Path, name: &'static str) -> Result<Zeroizing<Vec<u8>>, BrokerError> {
    let mut file = File::open(dir.join(name)).map_err(failed(name))?;
    let metadata = file.metadata().map_err(failed(name))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(BrokerError::KeyFileMode(name));
    }
    if metadata.len() > 16 * 1024 {
        return Err(BrokerError::KeyFile(name));
    }
    // One byte more than the file, so that the buffer never grows and leaves a copy behind.
    let size = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut buffer = Zeroizing::new(vec![0; size]);
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]).map_err(failed(name))? {
            0 => break,
            n => filled += n,
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// Writes a new file, 0600, durable; replaces one of the same name atomically.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8], what: &'static str) -> Result<(), BrokerError> {
    stage(dir, name, bytes, what)?;
    commit(dir, name, what)
}

/// The first half of [`write`]: a durable temporary file beside the real one.
pub(crate) fn stage(dir: &Path, name: &str, bytes: &[u8], what: &'static str) -> Result<(), BrokerError> {
    let temporary = temporary(dir, name);
    let result = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(failed(what))
}

/// The second half: the temporary file takes the real one's place. After an error here either of the two may be in place.
pub(crate) fn commit(dir: &Path, name: &str, what: &'static str) -> Result<(), BrokerError> {
    fs::rename(temporary(dir, name), dir.join(name)).and_then(|()| File::open(dir)?.sync_all()).map_err(failed(what))
}

fn temporary(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.new"))
}

/// Makes a directory that only its owner can enter.
pub(crate) fn make_dir(path: &Path, what: &'static str) -> Result<(), BrokerError> {
    DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(failed(what))
}

/// The lock of a state directory: held as long as this lives.
pub(crate) struct DirLock(#[expect(dead_code, reason = "held, not read: closing it releases the lock")] File);

impl DirLock {
    /// Takes the lock without waiting.
    pub(crate) fn take(dir: &Path) -> Result<Self, BrokerError> {
        if !dir.join(CONFIG).is_file() {
            return Err(BrokerError::StateMissing);
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(LOCK))
            .map_err(failed(LOCK))?;
        lock(&file, LOCK)?;
        Ok(Self(file))
    }
}

/// `flock`, exclusive, without waiting.
pub(crate) fn lock(file: &File, what: &'static str) -> Result<(), BrokerError> {
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|e| match std::io::Error::from(e).kind() {
        ErrorKind::WouldBlock => BrokerError::Locked,
        kind => BrokerError::File(what, kind),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), KEK, &[7; 32], KEK).unwrap();
        assert_eq!(read_secret(dir.path(), KEK).unwrap().as_slice(), &[7; 32]);
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(dir.path().join(KEK), fs::Permissions::from_mode(mode)).unwrap();
            let error = read_secret(dir.path(), KEK).unwrap_err();
            assert_eq!((error.code(), error.exit()), ("KEY_FILE_MODE", 9));
        }
    }

    #[test]
    fn the_lock_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DirLock::take(dir.path()).err().map(|e| e.code()), Some("STATE_MISSING"));
        write(dir.path(), CONFIG, b"", CONFIG).unwrap();
        let held = DirLock::take(dir.path()).unwrap();
        assert_eq!(DirLock::take(dir.path()).err().map(|e| e.code()), Some("STATE_LOCKED"));
        drop(held);
        assert!(DirLock::take(dir.path()).is_ok());
    }
}
