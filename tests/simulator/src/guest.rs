//! Turns a launch request into a guest: opens each file once, copies it into sealed memory while hashing, measures.
//! What was measured is what the launcher receives; it does not prevent the launcher from running something else.

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use ring::{
    digest::{Context, SHA384},
    rand::{SecureRandom, SystemRandom},
};
use rustix::{
    fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
};
use serde::Deserialize;
use vouchsafe_attestation::{Mode, Tee, encoding::serde_hex};
use vouchsafe_measurement::process_measurement;

use crate::{SimulatorError, root::Root, snp::ReportFields, tdx::TdFields};

/// The largest file of a guest.
const MAX_GUEST_FILE: u64 = 1 << 30;

const SEAL_TRIES: u32 = 50;
const SEAL_PAUSE: Duration = Duration::from_millis(40);

/// What the launcher asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchRequest {
    /// The technology: `sev-snp` or `tdx`.
    pub tee: String,
    /// The mode: `simulation`.
    pub mode: String,
    /// Where the enclave's program is.
    pub enclave: PathBuf,
    /// Where ONNX Runtime's library is.
    pub onnxruntime: PathBuf,
    /// The host's 32 bytes: the config digest.
    #[serde(with = "serde_hex")]
    pub host_data: [u8; 32],
}

/// One launched guest: the fields that all its reports share.
#[derive(Clone, Debug)]
pub enum Guest {
    /// An SEV-SNP guest.
    SevSnp(Box<ReportFields>),
    /// A TD.
    Tdx(Box<TdFields>),
}

/// A guest together with the sealed copies that were measured.
pub struct Launched {
    /// The guest, which answers its device.
    pub guest: Guest,
    /// The digest of both files.
    pub measurement: [u8; 48],
    /// The enclave's program, sealed.
    pub enclave: OwnedFd,
    /// ONNX Runtime's library, sealed.
    pub onnxruntime: OwnedFd,
}

impl Guest {
    /// Measures and seals the files of `request`.
    ///
    /// # Errors
    /// `SIMULATOR_MODE`, `SIMULATOR_TEE`, `SIMULATOR_GUEST_*`.
    pub fn launch(root: &Root, request: &LaunchRequest) -> Result<Launched, SimulatorError> {
        if request.mode != Mode::Simulation.as_str() {
            return Err(SimulatorError::ModeUnsupported);
        }
        let tee: Tee = request.tee.parse().map_err(|_| SimulatorError::TeeUnsupported)?;
        let (enclave, enclave_digest) = seal_copy(&request.enclave, "the enclave program", "vouchsafe-enclave")?;
        let (onnxruntime, library_digest) =
            seal_copy(&request.onnxruntime, "ONNX Runtime's library", "libonnxruntime")?;
        let measurement = process_measurement(tee, Mode::Simulation, &enclave_digest, &library_digest);
        let guest = match tee {
            Tee::SevSnp => {
                let mut report_id = [0; 32];
                let no_randomness = |_| SimulatorError::GuestMemory(std::io::ErrorKind::Other);
                SystemRandom::new().fill(&mut report_id).map_err(no_randomness)?;
                let fields = ReportFields::honest(*root.chip_id(), measurement, request.host_data, report_id);
                Self::SevSnp(Box::new(fields))
            }
            Tee::Tdx => Self::Tdx(Box::new(TdFields::honest(measurement, request.host_data))),
        };
        Ok(Launched { guest, measurement, enclave, onnxruntime })
    }

    /// The registers of a TD, RTMR0 to RTMR3: nothing extends them here. Empty on SEV-SNP.
    #[must_use]
    pub fn registers(&self) -> &[[u8; 48]] {
        match self {
            Self::SevSnp(_) => &[],
            Self::Tdx(fields) => &fields.rtmr,
        }
    }
}

/// Opens `path` once, hashes what is read, and keeps exactly that in memory which nobody can change any more.
fn seal_copy(path: &Path, what: &'static str, name: &str) -> Result<(OwnedFd, [u8; 48]), SimulatorError> {
    let unreadable = |e: std::io::Error| SimulatorError::GuestFile(what, e.kind());
    let memory = |e: rustix::io::Errno| SimulatorError::GuestMemory(e.kind());
    // Non-blocking: a named pipe must not hold the simulator.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let source = File::options().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    if !source.metadata().map_err(unreadable)?.is_file() {
        return Err(SimulatorError::GuestFileShape(what));
    }
    let basic = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know MFD_EXEC and need none.
    let memfd = memfd_create(name, basic | MemfdFlags::EXEC).or_else(|_| memfd_create(name, basic)).map_err(memory)?;
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
    Ok((OwnedFd::from(copy), digest))
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
        let (fd, digest) = seal_copy(&path, "f", "f").unwrap();
        assert_eq!(digest, sha384(b"program"));
        std::fs::write(&path, b"another").unwrap();
        let mut copy = File::from(fd);
        assert!(copy.write_all(b"x").is_err());
        assert!(copy.set_len(0).is_err());
        let mut text = [0; 7];
        rustix::io::pread(&copy, &mut text, 0).unwrap();
        assert_eq!(&text, b"program");
    }

    #[test]
    fn odd_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(matches!(seal_copy(&empty, "f", "f"), Err(SimulatorError::GuestFileShape(_))));
        assert!(matches!(seal_copy(dir.path(), "f", "f"), Err(SimulatorError::GuestFileShape(_))));
        assert!(matches!(seal_copy(Path::new("/dev/zero"), "f", "f"), Err(SimulatorError::GuestFileShape(_))));
        assert!(matches!(seal_copy(&dir.path().join("none"), "f", "f"), Err(SimulatorError::GuestFile(..))));
    }
}
