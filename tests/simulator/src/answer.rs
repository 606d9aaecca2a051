//! Turns one question of a guest into evidence or a local report: honest pieces, changed by the fault of the moment.
//! It is the only place where evidence is made for a live guest.

use vouchsafe_attestation::EvidenceEnvelope;

use crate::{
    SimulatorError, fault,
    guest::Guest,
    root::Root,
    snp::{ReportFields, SnpMaking},
    tdx::{TdFields, TdReport, TdxMaking, report::TDREPORT_LEN},
};

/// Evidence over 64 bytes of the guest's choice.
///
/// # Errors
/// `SIMULATOR_ROOT_*`, and those of the fault.
pub fn evidence(
    root: &Root,
    guest: &Guest,
    report_data: [u8; 64],
    now: u64,
) -> Result<EvidenceEnvelope, SimulatorError> {
    let fault = fault::current(root)?;
    let mut envelope = match guest {
        Guest::SevSnp(fields) => {
            let fields = ReportFields { report_data, ..fields.as_ref().clone() };
            let mut making = SnpMaking::honest(root, fields, now)?;
            fault.snp(&mut making)?;
            making.finish()?
        }
        Guest::Tdx(fields) => {
            let fields = TdFields { report_data, ..fields.as_ref().clone() };
            let mut making = TdxMaking::honest(root, fields, now)?;
            fault.tdx(&mut making)?;
            making.finish()?
        }
    };
    fault.bytes(&mut envelope)?;
    Ok(envelope)
}

/// The local report of a TD over 64 bytes of its choice.
///
/// # Errors
/// `SIMULATOR_REQUEST` on SEV-SNP, and those of the fault.
pub fn td_report(root: &Root, guest: &Guest, report_data: [u8; 64]) -> Result<[u8; TDREPORT_LEN], SimulatorError> {
    let Guest::Tdx(fields) = guest else {
        return Err(SimulatorError::RequestInvalid);
    };
    let fault = fault::current(root)?;
    let mut report = TdReport::honest(TdFields { report_data, ..fields.as_ref().clone() });
    fault.td_report(&mut report)?;
    report.to_bytes()
}
