//! Turns REPORTDATA into a TDX quote through configfs-tsm, and a challenge into the TD's own launch through /dev/tdx_guest.
//! It verifies no quote: a service of the host makes it from the TD's report, and verifiers outside have the anchors.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

use vouchsafe_attestation::{EvidenceEnvelope, TdxCollateral};
use vouchsafe_system::{TDREPORT_LEN, TdxGuest};

use super::tsm::{Tsm, patiently};
use crate::device::{EvidenceDevice, OwnLaunch, tdx};
use crate::error::EnclaveError;

/// The TD's own instruction: answered by the driver, and in tests by a program that can misbehave.
pub(super) trait LocalReports: Send + Sync {
    /// A TDREPORT about `data`.
    fn report(&self, data: &[u8; 64]) -> io::Result<[u8; TDREPORT_LEN]>;
}

impl LocalReports for TdxGuest {
    fn report(&self, data: &[u8; 64]) -> io::Result<[u8; TDREPORT_LEN]> {
        TdxGuest::report(self, data)
    }
}

/// A TD's evidence device.
pub(super) struct TdxDevice {
    quotes: Tsm,
    local: Box<dyn LocalReports>,
}

impl TdxDevice {
    /// Opens the guest device beside the quotes.
    ///
    /// # Errors
    /// `NO_TEE` when there is none; `EVIDENCE_DEVICE` when it cannot be opened.
    pub(super) fn open(quotes: Tsm) -> Result<Self, EnclaveError> {
        match TdxGuest::open() {
            Ok(guest) => Ok(Self::over(quotes, Box::new(guest))),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(EnclaveError::NoTee("there is no /dev/tdx_guest")),
            Err(_) => Err(EnclaveError::Device("/dev/tdx_guest cannot be opened")),
        }
    }

    /// The same over a given instruction.
    pub(super) fn over(quotes: Tsm, local: Box<dyn LocalReports>) -> Self {
        Self { quotes, local }
    }
}

impl EvidenceDevice for TdxDevice {
    /// Without collateral: the kernel has none for a quote. The collateral file fills it; what nobody filled, verifiers refuse
    /// as `<ITEM>_MISSING`.
    fn quote(&self, report_data: [u8; 64]) -> Result<EvidenceEnvelope, EnclaveError> {
        let quote = self.quotes.report(&report_data, false)?.outblob;
        tdx::is_about(&quote, &report_data)?;
        Ok(EvidenceEnvelope::tdx(quote, nothing()))
    }

    fn own_launch(&self, challenge: [u8; 64]) -> Result<OwnLaunch, EnclaveError> {
        let report = patiently(|| self.local.report(&challenge))
            .map_err(|_| EnclaveError::Device("/dev/tdx_guest made no report"))?;
        tdx::launch(&report, &challenge)
    }

    fn workplace(&self) -> Option<BorrowedFd<'_>> {
        self.quotes.base()
    }
}

/// Collateral with nothing in it.
fn nothing() -> TdxCollateral {
    TdxCollateral {
        pck_crl_issuer_chain: String::new(),
        root_ca_crl: Vec::new(),
        pck_crl: Vec::new(),
        tcb_info_issuer_chain: String::new(),
        tcb_info: String::new(),
        tcb_info_signature: Vec::new(),
        qe_identity_issuer_chain: String::new(),
        qe_identity: String::new(),
        qe_identity_signature: Vec::new(),
    }
}
