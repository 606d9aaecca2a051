//! Turns files into the digests that evidence will carry: the measurement of a process guest, the config digest.
//! These are predictions: the simulator measures for itself, from the descriptors that run.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

use ring::digest::{Context, SHA384};
use vouchsafe_attestation::{Mode, Tee};
use vouchsafe_measurement::{MAX_CONFIG, config_digest, process_measurement};

use crate::LaunchError;

/// The MEASUREMENT or MRTD that a process guest of these files will have.
///
/// # Errors
/// `LAUNCH_FILE`.
pub fn measure_process(enclave: &Path, onnxruntime: &Path, tee: Tee, mode: Mode) -> Result<[u8; 48], LaunchError> {
    let enclave = sha384_of(enclave, "the enclave program")?;
    let onnxruntime = sha384_of(onnxruntime, "ONNX Runtime's library")?;
    Ok(process_measurement(tee, mode, &enclave, &onnxruntime))
}

/// An opened configuration and the digest of what its descriptor holds.
pub struct BoundConfig {
    file: File,
    bytes: Vec<u8>,
    digest: [u8; 32],
}

impl BoundConfig {
    /// Opens and digests the configuration. The enclave gets this descriptor, its offset still at the start.
    ///
    /// # Errors
    /// `LAUNCH_FILE`, `CONFIG_TOO_LARGE`.
    pub fn open(path: &Path) -> Result<Self, LaunchError> {
        let unreadable = |kind| LaunchError::File("the configuration", kind);
        let file = File::open(path).map_err(|e| unreadable(e.kind()))?;
        let metadata = file.metadata().map_err(|e| unreadable(e.kind()))?;
        if !metadata.is_file() {
            return Err(unreadable(ErrorKind::InvalidInput));
        }
        let mut bytes = vec![0; MAX_CONFIG + 1];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(e.kind())),
            }
        }
        if filled > MAX_CONFIG {
            return Err(LaunchError::ConfigTooLarge);
        }
        bytes.truncate(filled);
        Ok(Self { digest: config_digest(&bytes), bytes, file })
    }

    /// SHA-256 of its bytes: HOST_DATA, or the first 32 bytes of MRCONFIGID.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The bytes that were digested.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsFd for BoundConfig {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn sha384_of(path: &Path, what: &'static str) -> Result<[u8; 48], LaunchError> {
    let unreadable = |e: std::io::Error| LaunchError::File(what, e.kind());
    let mut file = File::open(path).map_err(unreadable)?;
    let mut context = Context::new(&SHA384);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => context.update(buffer.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(e)),
        }
    }
    let mut digest = [0; 48];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use vouchsafe_attestation::lp::{sha256, sha384};

    use super::*;

    #[test]
    fn files_measure_as_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, b"enclave").unwrap();
        std::fs::write(&b, b"library").unwrap();
        let expected = process_measurement(Tee::SevSnp, Mode::Simulation, &sha384(b"enclave"), &sha384(b"library"));
        assert_eq!(measure_process(&a, &b, Tee::SevSnp, Mode::Simulation), Ok(expected));
        let missing = measure_process(&a, &dir.path().join("c"), Tee::SevSnp, Mode::Simulation);
        assert_eq!(missing.unwrap_err().code(), "LAUNCH_FILE");
    }

    #[test]
    fn a_config_is_read_once_and_capped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, vec![b'x'; MAX_CONFIG]).unwrap();
        let config = BoundConfig::open(&path).unwrap();
        assert_eq!(config.digest(), &sha256(&vec![b'x'; MAX_CONFIG]));
        assert_eq!(rustix::fs::tell(config.as_fd()), Ok(0));
        std::fs::write(&path, vec![b'x'; MAX_CONFIG + 1]).unwrap();
        assert_eq!(BoundConfig::open(&path).err(), Some(LaunchError::ConfigTooLarge));
        assert_eq!(BoundConfig::open(dir.path()).err().map(|e| e.exit()), Some(9));
    }
}
