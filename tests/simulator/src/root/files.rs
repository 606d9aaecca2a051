//! Turns names below the root's directory into their bytes, and bytes into files that no reader sees half of.
//! It protects a rehearsal: key files are 0600, nothing is encrypted.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use crate::SimulatorError;

const LOCK: &str = "lock";
/// No file of the directory is larger.
const MAX_FILE: u64 = 64 * 1024;

/// Reads a key file that nobody else may read.
pub(super) fn key_file(dir: &Path, name: &'static str) -> Result<Zeroizing<String>, SimulatorError> {
    let handle = open(dir, name)?;
    let mode = handle.metadata().map_err(file(name))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(SimulatorError::RootPermissions(name));
    }
    let mut text = Zeroizing::new(String::with_capacity(8 * 1024));
    handle.take(MAX_FILE).read_to_string(&mut text).map_err(file(name))?;
    Ok(text)
}

/// Reads a file.
pub(super) fn read(dir: &Path, name: &'static str) -> Result<Vec<u8>, SimulatorError> {
    let mut bytes = Vec::new();
    open(dir, name)?.take(MAX_FILE).read_to_end(&mut bytes).map_err(file(name))?;
    Ok(bytes)
}

/// Reads a file of text.
pub(super) fn read_text(dir: &Path, name: &'static str) -> Result<String, SimulatorError> {
    String::from_utf8(read(dir, name)?).map_err(|_| SimulatorError::RootMalformed(name))
}

/// Reads a file of one line of hex.
pub(super) fn read_hex<const N: usize>(dir: &Path, name: &'static str) -> Result<[u8; N], SimulatorError> {
    let text = read(dir, name)?;
    let mut bytes = [0; N];
    hex::decode_to_slice(text.trim_ascii_end(), &mut bytes).map_err(|_| SimulatorError::RootMalformed(name))?;
    Ok(bytes)
}

fn open(dir: &Path, name: &'static str) -> Result<File, SimulatorError> {
    File::open(dir.join(name)).map_err(|e| match e.kind() {
        ErrorKind::NotFound => SimulatorError::RootIncomplete(name),
        kind => SimulatorError::RootFile(name, kind),
    })
}

/// Writes under another name and renames, so that no reader sees half a file.
pub(super) fn write(dir: &Path, name: &'static str, mode: u32, bytes: &[u8]) -> Result<(), SimulatorError> {
    let temporary = dir.join(format!(".{name}.new"));
    let store = || {
        let _ = fs::remove_file(&temporary);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        out.set_permissions(fs::Permissions::from_mode(mode))?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&temporary, dir.join(name))
    };
    store().map_err(file(name))
}

/// Held until the returned file is dropped.
pub(super) fn lock(dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<File, SimulatorError> {
    let handle = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join(LOCK));
    let handle = handle.map_err(file(LOCK))?;
    if flock(&handle, FlockOperation::NonBlockingLockExclusive).is_err() {
        progress("waiting for another process that works on the SIMULATED root");
        rustix::io::retry_on_intr(|| flock(&handle, FlockOperation::LockExclusive))
            .map_err(|e| SimulatorError::RootFile(LOCK, e.kind()))?;
    }
    Ok(handle)
}

pub(super) fn file(name: &'static str) -> impl Fn(std::io::Error) -> SimulatorError {
    move |e| SimulatorError::RootFile(name, e.kind())
}
