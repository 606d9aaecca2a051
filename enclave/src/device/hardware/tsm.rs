//! Turns 64 bytes into what the kernel's configfs-tsm answers for them: the signed blob, and the table that accompanies it.
//! It reads neither of them, and an answer about other bytes is not noticed here: the devices above compare.
//!
//! Linux, Documentation/ABI/testing/configfs-tsm: a folder made beneath the base is one request with files of its own, `inblob`
//! (write), `outblob`, `auxblob`, `provider`, `generation` (read) and `privlevel` (write). The folder belongs to this request alone, and
//! `generation` counts the writes: it must stand where our own writes have put it, before the blobs are read and after. The count
//! is also the only sign that `inblob` arrived: what a binary attribute says to a write is lost when its file is closed
//! (Linux, fs/configfs/file.c).

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vouchsafe_attestation::Tee;
use vouchsafe_attestation::evidence::{MAX_QUOTE, SNP_REPORT_LEN};

use super::certificates::MAX_TABLE;
use super::folder::Folder;
use crate::error::EnclaveError;

/// Where the kernel keeps it once configfs is mounted.
pub(super) const REPORTS: &str = "/sys/kernel/config/tsm/report";
/// A busy or interrupted operation is tried so often, with this pause: about a second in all.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);
/// Names that an earlier program may have left behind.
const NAMES: u32 = 16;
/// `provider` and `generation` are a word and a number.
const MAX_WORD: usize = 64;

/// The file operations that a report takes: answered by the kernel, and in tests by a program that can misbehave.
pub(super) trait Attributes: Send + Sync {
    /// Makes the folder of a request.
    fn make(&self, entry: &str) -> io::Result<()>;
    /// Removes it.
    fn remove(&self, entry: &str) -> io::Result<()>;
    /// Reads a file in it whole; one that is longer than `cap` is `FileTooLarge`.
    fn read(&self, entry: &str, attribute: &str, cap: usize) -> io::Result<Vec<u8>>;
    /// Writes a file in it with one call.
    fn write(&self, entry: &str, attribute: &str, bytes: &[u8]) -> io::Result<()>;
    /// The base folder, when there is a real one.
    fn base(&self) -> Option<BorrowedFd<'_>>;
}

/// What differs between the providers.
struct Provider {
    /// The module's name, which `provider` shows.
    name: &'static str,
    /// The most that `outblob` holds.
    outblob: usize,
    /// What is written to `privlevel`, where it exists: the guest runs at VMPL 0, and nothing runs below it.
    privlevel: Option<&'static [u8]>,
}

impl Provider {
    fn of(tee: Tee) -> Self {
        match tee {
            Tee::SevSnp => Self { name: "sev_guest", outblob: SNP_REPORT_LEN, privlevel: Some(b"0") },
            Tee::Tdx => Self { name: "tdx_guest", outblob: MAX_QUOTE, privlevel: None },
        }
    }
}

/// configfs-tsm with the provider of one technology.
pub(super) struct Tsm {
    attributes: Box<dyn Attributes>,
    provider: Provider,
    entries: AtomicU64,
}

/// The folder of one request; gone when this is dropped.
struct Entry<'a> {
    tsm: &'a Tsm,
    name: String,
}

/// What the kernel answered.
pub(super) struct Blobs {
    /// An SEV-SNP report or a TDX quote.
    pub(super) outblob: Vec<u8>,
    /// The certificate table of the host, empty where none was asked for.
    pub(super) auxblob: Vec<u8>,
}

impl Tsm {
    /// configfs-tsm beneath `base`; `None` where the kernel has none, or none with a provider.
    ///
    /// # Errors
    /// `NO_TEE` when its provider is of another technology; `EVIDENCE_DEVICE` when it cannot be used.
    pub(super) fn open(base: &Path, tee: Tee) -> Result<Option<Self>, EnclaveError> {
        match Folder::open(base) {
            Ok(folder) => Self::over(Box::new(folder), tee),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(_) => Err(EnclaveError::Device("the folder of configfs-tsm cannot be opened")),
        }
    }

    /// The same over given attributes.
    pub(super) fn over(attributes: Box<dyn Attributes>, tee: Tee) -> Result<Option<Self>, EnclaveError> {
        let tsm = Self { attributes, provider: Provider::of(tee), entries: AtomicU64::new(0) };
        let there = match tsm.entry()? {
            Some(entry) => {
                entry.is_of_the_provider()?;
                entry.end()?;
                true
            }
            None => false,
        };
        Ok(there.then_some(tsm))
    }

    /// One report about `data`, with the table that accompanies it if that is wanted. Blocks.
    ///
    /// # Errors
    /// `EVIDENCE_DEVICE`; `NO_TEE` when the provider is not the one of the start any more.
    pub(super) fn report(&self, data: &[u8; 64], with_table: bool) -> Result<Blobs, EnclaveError> {
        let entry = self.entry()?.ok_or(EnclaveError::Device("configfs-tsm has no provider any more"))?;
        entry.is_of_the_provider()?;
        let mut written = entry.generation()?;
        if let Some(level) = self.provider.privlevel {
            let refused = "configfs-tsm refused privilege level 0";
            entry.write("privlevel", level, refused)?;
            written = written.wrapping_add(1);
        }
        entry.write("inblob", data, "configfs-tsm refused the data to report about")?;
        written = written.wrapping_add(1);
        entry.stands_at(written)?;
        let outblob = entry.read("outblob", self.provider.outblob, "configfs-tsm made no report")?;
        let auxblob = match with_table {
            true => entry.read("auxblob", MAX_TABLE, "configfs-tsm gave no certificate table")?,
            false => Vec::new(),
        };
        entry.stands_at(written)?;
        entry.end()?;
        Ok(Blobs { outblob, auxblob })
    }

    /// The folder in which requests are made.
    pub(super) fn base(&self) -> Option<BorrowedFd<'_>> {
        self.attributes.base()
    }

    /// A new folder for a request; `None` when there is no provider.
    fn entry(&self) -> Result<Option<Entry<'_>>, EnclaveError> {
        for _ in 0..NAMES {
            let name = format!("vouchsafe-{}", self.entries.fetch_add(1, Ordering::Relaxed));
            match patiently(|| self.attributes.make(&name)) {
                Ok(()) => return Ok(Some(Entry { tsm: self, name })),
                // An earlier program ended without removing it.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if is(&error, rustix::io::Errno::NXIO) || error.kind() == ErrorKind::NotFound => {
                    return Ok(None);
                }
                Err(_) => return Err(EnclaveError::Device("configfs-tsm takes no request")),
            }
        }
        Err(EnclaveError::Device("configfs-tsm is full of requests of an earlier program"))
    }
}

impl Entry<'_> {
    fn read(&self, attribute: &str, cap: usize, failed: &'static str) -> Result<Vec<u8>, EnclaveError> {
        patiently(|| self.tsm.attributes.read(&self.name, attribute, cap)).map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => {
                EnclaveError::Device("configfs-tsm answered with more than its kind of answer holds")
            }
            _ => EnclaveError::Device(failed),
        })
    }

    fn write(&self, attribute: &str, bytes: &[u8], failed: &'static str) -> Result<(), EnclaveError> {
        patiently(|| self.tsm.attributes.write(&self.name, attribute, bytes)).map_err(|_| EnclaveError::Device(failed))
    }

    fn is_of_the_provider(&self) -> Result<(), EnclaveError> {
        let name = self.read("provider", MAX_WORD, "configfs-tsm names no provider")?;
        if name.strip_suffix(b"\n").unwrap_or(&name) != self.tsm.provider.name.as_bytes() {
            return Err(EnclaveError::NoTee("this machine's device is of another technology"));
        }
        Ok(())
    }

    fn generation(&self) -> Result<u64, EnclaveError> {
        let text = self.read("generation", MAX_WORD, "configfs-tsm counts no writes")?;
        let text = std::str::from_utf8(&text).ok().map(|text| text.strip_suffix('\n').unwrap_or(text));
        let digits = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits
            .and_then(|text| text.parse().ok())
            .ok_or(EnclaveError::Device("configfs-tsm counts writes with no number"))
    }

    /// Whether nobody but us has written, and everything that we wrote arrived.
    fn stands_at(&self, written: u64) -> Result<(), EnclaveError> {
        if self.generation()? != written {
            return Err(EnclaveError::Device("the request was changed, or did not arrive, in configfs-tsm"));
        }
        Ok(())
    }

    /// Removes the folder, and tells if that fails.
    fn end(self) -> Result<(), EnclaveError> {
        let removed = patiently(|| self.tsm.attributes.remove(&self.name));
        // Nothing is left to remove, or nothing that could be.
        std::mem::forget(self);
        removed.map_err(|_| EnclaveError::Device("a request cannot be removed from configfs-tsm"))
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // On the way out of an earlier error, which is the one that is told.
        let _ = patiently(|| self.tsm.attributes.remove(&self.name));
    }
}

/// Tries again, a bounded number of times, what was busy or interrupted: another request in flight, or a signal.
pub(super) fn patiently<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut left = TRIES;
    loop {
        let result = operation();
        left -= 1;
        match result {
            Err(error) if left > 0 && passes(&error) => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
}

fn passes(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::BUSY, Errno::INTR, Errno::AGAIN].into_iter().any(|errno| is(error, errno))
}

fn is(error: &io::Error, errno: rustix::io::Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
