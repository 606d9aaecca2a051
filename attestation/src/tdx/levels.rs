//! Turns the texts of TCB info and QE identity into the certainty that every level in them can be read.
//! It does not choose a level or verify a signature: whoever brought the texts may have written them.
//!
//! The crate `dcap-qvl` reads them again, and tells of a level only when a platform comes to it: the same collateral would be
//! well-formed for one machine and not for another.

use dcap_qvl::{
    qe_identity::QeIdentity,
    tcb_info::{TcbInfo, TcbLevel, TcbStatus as Theirs, TdxModuleTcbLevel},
};

use super::{Item, TdxError, collateral::json};
use crate::UnixTime;

/// CPUSVN and TEE_TCB_SVN have sixteen components each.
const COMPONENTS: usize = 16;
const MRSIGNER_LEN: usize = 48;
const ATTRIBUTES_LEN: usize = 8;

/// Step 5, TCB info: its levels, the TDX module's identities and theirs.
pub(crate) fn tcb_info(text: &str) -> Result<(), TdxError> {
    let info: TcbInfo = json(Item::TcbInfo, text)?;
    let hex = |text: &str, len: usize| hex::decode(text).is_ok_and(|bytes| bytes.len() == len);
    let module = |signer: &str, attributes: &str, mask: &str| {
        hex(signer, MRSIGNER_LEN) && hex(attributes, ATTRIBUTES_LEN) && hex(mask, ATTRIBUTES_LEN)
    };
    let readable = info.tdx_module.is_some_and(|m| module(&m.mrsigner, &m.attributes, &m.attributes_mask))
        && info.tdx_module_identities.iter().all(|identity| {
            module(&identity.mrsigner, &identity.attributes, &identity.attributes_mask)
                && identity.tcb_levels.iter().all(of_module)
        })
        && info.tcb_levels.iter().all(of_platform);
    if readable { Ok(()) } else { Err(TdxError::Malformed { item: Item::TcbInfo }) }
}

/// Step 5, QE identity: its levels.
pub(crate) fn qe_identity(text: &str) -> Result<(), TdxError> {
    let identity: QeIdentity = json(Item::QeIdentity, text)?;
    let word = |status| {
        !matches!(status, Theirs::SWHardeningNeeded | Theirs::ConfigurationAndSWHardeningNeeded) && !is_relaunch(status)
    };
    if identity.tcb_levels.iter().all(|level| is_time(&level.tcb_date) && word(level.tcb_status)) {
        return Ok(());
    }
    Err(TdxError::Malformed { item: Item::QeIdentity })
}

fn of_platform(level: &TcbLevel) -> bool {
    level.tcb.sgx_components.len() == COMPONENTS
        && level.tcb.tdx_components.len() == COMPONENTS
        && is_time(&level.tcb_date)
        && !is_relaunch(level.tcb_status)
}

fn of_module(level: &TdxModuleTcbLevel) -> bool {
    is_time(&level.tcb_date) && matches!(level.tcb_status, Theirs::UpToDate | Theirs::OutOfDate | Theirs::Revoked)
}

/// Intel's library says this of a TD; no level says it.
fn is_relaunch(status: Theirs) -> bool {
    matches!(status, Theirs::TDRelaunchAdvised | Theirs::TDRelaunchAdvisedConfigurationNeeded)
}

fn is_time(text: &str) -> bool {
    UnixTime::parse_rfc3339(text).is_ok()
}
