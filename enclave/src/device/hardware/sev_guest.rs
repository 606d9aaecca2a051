//! Turns REPORT_DATA into an SEV-SNP report of this guest, through configfs-tsm or else /dev/sev-guest, and the host's table into
//! the certificates beside it.
//! It verifies no signature: the report comes from the processor under a key of this guest's, and verifiers outside have the anchors.

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;

use sev::firmware::guest::Firmware;
use vouchsafe_attestation::{EvidenceEnvelope, SnpEnvelope};

use super::certificates::{Accompanying, accompanying};
use super::tsm::{Blobs, Tsm};
use crate::device::{EvidenceDevice, OwnLaunch, snp};
use crate::error::EnclaveError;

/// MSG_REPORT_REQ has one version: AMD 56860 rev 1.58, section 7.3.
const MESSAGE_VERSION: u32 = 1;
/// The guest runs at VMPL 0, and nothing runs below it.
const VMPL: u32 = 0;

/// An SEV-SNP guest's evidence device.
pub(super) struct SnpDevice {
    source: Source,
}

/// By which way the processor is asked.
pub(super) enum Source {
    /// configfs-tsm.
    Tsm(Tsm),
    /// /dev/sev-guest.
    Guest(SevGuest),
}

impl SnpDevice {
    pub(super) fn new(source: Source) -> Self {
        Self { source }
    }

    /// A report about `data`, and the host's table if that is wanted and this way has one.
    fn report(&self, data: &[u8; 64], with_table: bool) -> Result<Blobs, EnclaveError> {
        let blobs = match &self.source {
            Source::Tsm(tsm) => tsm.report(data, with_table)?,
            Source::Guest(guest) => Blobs { outblob: guest.report(data)?, auxblob: Vec::new() },
        };
        snp::is_about(&blobs.outblob, data)?;
        Ok(blobs)
    }
}

impl EvidenceDevice for SnpDevice {
    /// With the leaf that the host's table holds for the key that signed; without one the leaf is empty, and the CRL always is.
    /// The collateral file fills what is empty. What nobody filled, verifiers refuse: `LEAF_MISSING`, `CRL_MISSING`.
    fn quote(&self, report_data: [u8; 64]) -> Result<EvidenceEnvelope, EnclaveError> {
        let Blobs { outblob: report, auxblob } = self.report(&report_data, true)?;
        let Accompanying { leaf, asvk } = accompanying(&auxblob, snp::signer(&report)?)?;
        Ok(EvidenceEnvelope::SevSnp(SnpEnvelope { report, leaf, crl: Vec::new(), asvk }))
    }

    fn own_launch(&self, challenge: [u8; 64]) -> Result<OwnLaunch, EnclaveError> {
        snp::launch(&self.report(&challenge, false)?.outblob)
    }

    fn workplace(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Tsm(tsm) => tsm.base(),
            // Open since the start.
            Source::Guest(_) => None,
        }
    }
}

/// The guest message for a report: answered by the driver, and in tests by a program that can misbehave.
pub(super) trait GuestMessages: Send {
    /// The report in the answer; the reason of a failure is not used.
    fn report(&mut self, data: [u8; 64]) -> Option<Vec<u8>>;
}

impl GuestMessages for Firmware {
    fn report(&mut self, data: [u8; 64]) -> Option<Vec<u8>> {
        // Not the extended report: this crate follows a table's offsets and lengths, which the host chooses, without comparing
        // them with the table's size, and could carry the guest's memory out as a certificate. The leaf comes from the
        // collateral file instead.
        self.get_report(Some(MESSAGE_VERSION), Some(data), Some(VMPL)).ok()
    }
}

/// /dev/sev-guest, open.
pub(super) struct SevGuest {
    messages: Mutex<Box<dyn GuestMessages>>,
}

impl SevGuest {
    /// Opens the device, which exists in an SEV-SNP guest alone.
    ///
    /// # Errors
    /// `NO_TEE` when there is none; `EVIDENCE_DEVICE` when it cannot be opened.
    pub(super) fn open() -> Result<Self, EnclaveError> {
        match Firmware::open() {
            Ok(firmware) => Ok(Self::over(Box::new(firmware))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(EnclaveError::NoTee("configfs-tsm has no provider here, and there is no /dev/sev-guest"))
            }
            Err(_) => Err(EnclaveError::Device("/dev/sev-guest cannot be opened")),
        }
    }

    /// The same over given messages.
    pub(super) fn over(messages: Box<dyn GuestMessages>) -> Self {
        Self { messages: Mutex::new(messages) }
    }

    fn report(&self, data: &[u8; 64]) -> Result<Vec<u8>, EnclaveError> {
        let mut messages = self.messages.lock().map_err(|_| EnclaveError::Device("an earlier report panicked"))?;
        // Not asked again: after a failed message the driver gives up its key, because using the counter twice would break it.
        messages.report(*data).ok_or(EnclaveError::Device("/dev/sev-guest made no report"))
    }
}
