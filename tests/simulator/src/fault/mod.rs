//! Turns the name in the root's `fault` file into changes of evidence in the making.
//! Without that file, or with an empty one, nothing is changed.

mod snp_chain;
mod snp_report;
mod tdx;
mod tdx_collateral;

use std::{fs::File, io::Read as _};

use serde_json::{Value, json};
use vouchsafe_attestation::{
    EvidenceEnvelope, Tee,
    evidence::{SnpEnvelope, TdxEnvelope},
};

use crate::{
    SimulatorError,
    root::Root,
    snp::SnpMaking,
    tdx::{TdReport, TdxMaking},
};

type Result<T> = core::result::Result<T, SimulatorError>;

/// The name of a fault is shorter.
const MAX_NAME: u64 = 64;

/// The fault that one answer is made with. Read once for each question, so that one answer has one fault.
pub struct Fault(Option<&'static Named>);

/// One fault.
struct Named {
    name: &'static str,
    what: &'static str,
    change: Change,
}

/// Where it changes what an honest processor would say.
enum Change {
    /// SNP evidence before it is signed.
    Snp(fn(&mut SnpMaking<'_>) -> Result<()>),
    /// Finished SNP evidence.
    SnpBytes(fn(&mut SnpEnvelope)),
    /// TDX evidence before it is signed.
    Tdx(fn(&mut TdxMaking<'_>) -> Result<()>),
    /// Finished TDX evidence.
    TdxBytes(fn(&mut TdxEnvelope)),
    /// The local report of a TD about itself.
    TdReport(fn(&mut TdReport)),
}

impl Named {
    const fn tee(&self) -> Tee {
        match self.change {
            Change::Snp(_) | Change::SnpBytes(_) => Tee::SevSnp,
            Change::Tdx(_) | Change::TdxBytes(_) | Change::TdReport(_) => Tee::Tdx,
        }
    }
}

/// A fault of SNP evidence, made before it is signed.
const fn snp(name: &'static str, what: &'static str, change: fn(&mut SnpMaking<'_>) -> Result<()>) -> Named {
    Named { name, what, change: Change::Snp(change) }
}

/// A fault of finished SNP evidence.
const fn snp_bytes(name: &'static str, what: &'static str, change: fn(&mut SnpEnvelope)) -> Named {
    Named { name, what, change: Change::SnpBytes(change) }
}

/// A fault of TDX evidence, made before it is signed.
const fn tdx(name: &'static str, what: &'static str, change: fn(&mut TdxMaking<'_>) -> Result<()>) -> Named {
    Named { name, what, change: Change::Tdx(change) }
}

/// A fault of finished TDX evidence.
const fn tdx_bytes(name: &'static str, what: &'static str, change: fn(&mut TdxEnvelope)) -> Named {
    Named { name, what, change: Change::TdxBytes(change) }
}

fn all() -> impl Iterator<Item = &'static Named> {
    [snp_report::FAULTS, snp_chain::FAULTS, tdx::FAULTS, tdx_collateral::FAULTS].into_iter().flatten()
}

/// Reads the name.
///
/// # Errors
/// When it is no name of a fault.
pub fn current(root: &Root) -> Result<Fault> {
    let Ok(file) = File::open(root.dir().join("fault")) else { return Ok(Fault(None)) };
    let mut name = String::new();
    file.take(MAX_NAME + 1).read_to_string(&mut name).map_err(|_| SimulatorError::FaultUnknown)?;
    let name = name.trim_end();
    if name.is_empty() {
        return Ok(Fault(None));
    }
    all().find(|fault| fault.name == name).map(|fault| Fault(Some(fault))).ok_or(SimulatorError::FaultUnknown)
}

/// What `vouchsafe-simulator faults --json` prints: one object for each name.
#[must_use]
pub fn list() -> Vec<Value> {
    all().map(|fault| json!({ "name": fault.name, "tee": fault.tee().as_str(), "what": fault.what })).collect()
}

impl Fault {
    /// Changes SNP evidence before it is signed.
    ///
    /// # Errors
    /// Those of making keys and certificates.
    pub fn snp(&self, making: &mut SnpMaking<'_>) -> Result<()> {
        match self.0 {
            Some(Named { change: Change::Snp(change), .. }) => change(making),
            _ => Ok(()),
        }
    }

    /// Changes TDX evidence before it is signed.
    ///
    /// # Errors
    /// Those of making keys and certificates.
    pub fn tdx(&self, making: &mut TdxMaking<'_>) -> Result<()> {
        match self.0 {
            Some(Named { change: Change::Tdx(change), .. }) => change(making),
            _ => Ok(()),
        }
    }

    /// Changes the local report that a TD asks for about itself.
    ///
    /// # Errors
    /// Those of making keys and certificates.
    pub fn td_report(&self, report: &mut TdReport) -> Result<()> {
        if let Some(Named { change: Change::TdReport(change), .. }) = self.0 {
            change(report);
        }
        Ok(())
    }

    /// Changes finished bytes.
    ///
    /// # Errors
    /// Those of making keys and certificates.
    pub fn bytes(&self, envelope: &mut EvidenceEnvelope) -> Result<()> {
        match (self.0, envelope) {
            (Some(Named { change: Change::SnpBytes(change), .. }), EvidenceEnvelope::SevSnp(snp)) => change(snp),
            (Some(Named { change: Change::TdxBytes(change), .. }), EvidenceEnvelope::Tdx(tdx)) => change(tdx),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_said_once() {
        let mut names: Vec<_> = all().map(|f| f.name).collect();
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')));
        assert!(all().all(|f| f.name.starts_with("tdx-") == (f.tee() == Tee::Tdx) && !f.what.is_empty()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(list().len(), count);
    }
}
