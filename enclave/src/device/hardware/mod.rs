//! Turns the technology that the measured words name into the evidence device that the guest's own kernel offers for it.
//! It proves nothing: verifiers outside do. Where there is no such device it says so; nothing here plays one.
//!
//! On both technologies evidence comes through configfs-tsm (Linux, Documentation/ABI/testing/configfs-tsm). An SEV-SNP guest
//! whose kernel has no provider there is asked through /dev/sev-guest. A TD's own launch is read through /dev/tdx_guest, because
//! a quote travels over the host and a TDREPORT does not.
//!
//! Collateral is the host's: certificates in the table that accompanies an SEV-SNP report, everything else in the collateral file
//! (`Served`). Without either, evidence travels with empty collateral. The enclave boots and asks for its keys, since
//! it judges no collateral itself, and the verifiers outside refuse with `LEAF_MISSING`, `CRL_MISSING` or `<ITEM>_MISSING`.

mod certificates;
mod folder;
mod sev_guest;
mod tdx_guest;
mod tsm;

#[cfg(test)]
mod machine;
#[cfg(test)]
mod played;
#[cfg(test)]
mod tests;

use std::path::Path;

use vouchsafe_attestation::Tee;

use super::EvidenceDevice;
use crate::error::EnclaveError;
pub(super) use certificates::Signer;
use sev_guest::{SevGuest, SnpDevice, Source};
use tdx_guest::TdxDevice;
use tsm::Tsm;

/// The evidence device of this machine, if it is of that technology.
///
/// # Errors
/// `NO_TEE` when there is none or one of another technology; `EVIDENCE_DEVICE` when there is one that cannot be used.
pub(super) fn open(tee: Tee) -> Result<Box<dyn EvidenceDevice>, EnclaveError> {
    open_beneath(Path::new(tsm::REPORTS), tee)
}

/// The same, with the folder of configfs-tsm named by the caller.
fn open_beneath(reports: &Path, tee: Tee) -> Result<Box<dyn EvidenceDevice>, EnclaveError> {
    let reports = Tsm::open(reports, tee)?;
    match tee {
        Tee::SevSnp => {
            let source = match reports {
                Some(reports) => Source::Tsm(reports),
                None => Source::Guest(SevGuest::open()?),
            };
            Ok(Box::new(SnpDevice::new(source)))
        }
        Tee::Tdx => {
            let quotes = reports.ok_or(EnclaveError::NoTee("configfs-tsm has no provider here"))?;
            Ok(Box::new(TdxDevice::open(quotes)?))
        }
    }
}
