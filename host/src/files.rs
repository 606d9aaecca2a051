//! Turns paths into bytes and bytes into files, with the project's errors and permissions.
//! It does not judge what it reads.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use ring::signature::Ed25519KeyPair;
use vouchsafe_attestation::Ed25519Public;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Reads at most `cap` bytes of a regular file.
pub fn read(path: &Path, cap: u64) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|e| Failure::file(path, "opened", &e))?;
    let meta = file.metadata().map_err(|e| Failure::file(path, "read", &e))?;
    if !meta.is_file() || meta.len() > cap {
        let fact = format!("{} is not a regular file of at most {cap} bytes", path.display());
        return Err(Failure::new("FILE", 9, fact, "name another file"));
    }
    // Sized once: a buffer that grows leaves copies of a key behind.
    let mut out = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 64);
    file.take(cap).read_to_end(&mut out).map_err(|e| Failure::file(path, "read", &e))?;
    Ok(out)
}

/// Reads evidence or collateral: a regular file of at most `cap` bytes, with a code of its own for each thing it may be instead.
/// An empty file is read: the rule that wants its bytes says what is missing.
pub fn read_input(path: &Path, cap: u64) -> Result<Vec<u8>, Failure> {
    // A pipe without a writer is told, not waited for.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(|e| Failure::file(path, "opened", &e))?;
    let meta = file.metadata().map_err(|e| Failure::file(path, "read", &e))?;
    let refused =
        |code, what: &str, advice: &str| Err(Failure::new(code, 9, format!("{} is {what}", path.display()), advice));
    if !meta.is_file() {
        let what = if meta.is_dir() { "a directory" } else { "not a regular file" };
        return refused("FILE_NOT_REGULAR", what, "name the file itself");
    }
    if meta.len() > cap {
        let what = format!("larger than {cap} bytes, and no evidence or collateral is");
        return refused("FILE_TOO_LARGE", &what, "name the raw report, quote, certificate, list or collateral file");
    }
    let mut out = Vec::new();
    file.take(cap).read_to_end(&mut out).map_err(|e| Failure::file(path, "read", &e))?;
    Ok(out)
}

/// Tells, before any work is done for it, that a file to be written is there already.
pub fn absent(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(Failure::file(path, "created", &std::io::ErrorKind::AlreadyExists.into())),
        Err(_) => Ok(()),
    }
}

/// Reads a text file of at most 1 MiB.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path, 1 << 20)?)
        .map_err(|_| Failure::new("FILE", 9, format!("{} is not UTF-8 text", path.display()), "name another file"))
}

/// Writes a new file; an existing one is never overwritten. `mode` is the permission bits.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|e| Failure::file(path, "created", &e))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| {
        // A half-written file would be taken for a whole one later.
        let _ = fs::remove_file(path);
        Failure::file(path, "written", &e)
    })
}

/// Writes a file at once or not at all: a reader sees the old bytes or the new ones, also after a power cut.
/// An existing file is replaced only when `replace` says so.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32, replace: bool) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let failed = |e: &std::io::Error| Failure::file(path, "written", e);
    let mut file = tempfile::Builder::new()
        .prefix(".vouchsafe-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(|e| failed(&e))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| failed(&e))?;
    if replace { file.persist(path) } else { file.persist_noclobber(path) }.map_err(|e| failed(&e.error))?;
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(|e| failed(&e))
}

/// Reads a signing key that `vouchsafe keys` wrote. One that others of this machine can read is not used.
pub fn signing_key(path: &Path) -> Result<Ed25519KeyPair, Failure> {
    let bytes = Zeroizing::new(read(path, 4096)?);
    let key = Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| {
        let fact = format!("{} is not a signing key of this program", path.display());
        Failure::new("KEY_FILE", 9, fact, "name the file without .pub that `vouchsafe keys` wrote")
    })?;
    owner_only(path)?;
    Ok(key)
}

/// Refuses a key file that others of this machine can read.
pub fn owner_only(path: &Path) -> Result<(), Failure> {
    let mode = fs::metadata(path).map_err(|e| Failure::file(path, "opened", &e))?.permissions().mode();
    if mode & 0o077 != 0 {
        let fact = format!("{} can be read by others than its owner", path.display());
        let advice = "chmod 600 it, and make a new key if others may have read it";
        return Err(Failure::new("KEY_FILE_MODE", 9, fact, advice));
    }
    Ok(())
}

/// Reads a public key given as text or as the path of a `.pub` file.
pub fn public_key(text_or_path: &str) -> Result<Ed25519Public, Failure> {
    if let Ok(key) = text_or_path.parse() {
        return Ok(key);
    }
    if text_or_path.starts_with("ed25519:") {
        let fact =
            "a public key given as text is not `ed25519:` and 64 lower-case hex digits, or is no point of the curve";
        return Err(Failure::usage(fact, "copy it whole, or name the .pub file"));
    }
    let bytes = read(Path::new(text_or_path), 4096)?;
    core::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        let fact = format!("{text_or_path} holds no public key");
        Failure::new("KEY_FILE", 9, fact, "name the .pub file that `vouchsafe keys` wrote, or give ed25519:<hex>")
    })
}

/// Public keys from many arguments.
pub fn public_keys(texts: &[String]) -> Result<Vec<Ed25519Public>, Failure> {
    texts.iter().map(|t| public_key(t)).collect()
}
