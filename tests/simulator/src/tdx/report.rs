//! Turns the fields of a TD into the TDREPORT that the module hands to the TD itself, 1024 bytes.
//! Its MAC is random here: on hardware only the same machine can verify it, and a guest asks its own module directly.
//!
//! Layout: Intel TDX Module ABI Specification 348551, TDREPORT_STRUCT, REPORTMACSTRUCT, TEE_TCB_INFO and TDINFO_STRUCT.

use ring::rand::{SecureRandom, SystemRandom};
use vouchsafe_attestation::lp::sha384;

use super::{TdFields, pki::CPU_SVN};
use crate::SimulatorError;

/// Size of a TDREPORT.
pub const TDREPORT_LEN: usize = 1024;
/// TEE_TCB_INFO.
const TCB_INFO: core::ops::Range<usize> = 256..495;
/// TDINFO_STRUCT; between the two lie 17 reserved bytes.
const TD_INFO: core::ops::Range<usize> = 512..1024;

/// A TDREPORT before its hashes are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdReport {
    /// What the module says of the TD.
    pub fields: TdFields,
    /// REPORTTYPE at offset 0: type 0x81, subtype, version, reserved.
    pub report_type: [u8; 4],
    /// CPUSVN at offset 16.
    pub cpu_svn: [u8; 16],
    /// SHA-384 of TEE_TCB_INFO at offset 32; `None` computes it.
    pub tcb_info_hash: Option<[u8; 48]>,
    /// SHA-384 of TDINFO_STRUCT at offset 80; `None` computes it.
    pub td_info_hash: Option<[u8; 48]>,
}

impl TdReport {
    /// An honest report.
    #[must_use]
    pub const fn honest(fields: TdFields) -> Self {
        Self { fields, report_type: [0x81, 0, 0, 0], cpu_svn: CPU_SVN, tcb_info_hash: None, td_info_hash: None }
    }

    /// The structure.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn to_bytes(&self) -> Result<[u8; TDREPORT_LEN], SimulatorError> {
        let td = &self.fields;
        let mut out = [0; TDREPORT_LEN];
        // TEE_TCB_INFO, 239 bytes. VALID names the 8-byte words that mean something: up to MRSEAM, and TEE_TCB_SVN2.
        put(&mut out, TCB_INFO.start, &0x3_01ff_u64.to_le_bytes());
        put(&mut out, TCB_INFO.start + 8, &td.tee_tcb_svn);
        put(&mut out, TCB_INFO.start + 24, &td.mr_seam);
        put(&mut out, TCB_INFO.start + 72, &td.mr_signer_seam);
        put(&mut out, TCB_INFO.start + 120, &td.seam_attributes);
        put(&mut out, TCB_INFO.start + 128, &td.tee_tcb_svn2);
        // TDINFO_STRUCT, 512 bytes.
        put(&mut out, TD_INFO.start, &td.attributes.to_le_bytes());
        put(&mut out, TD_INFO.start + 8, &td.xfam.to_le_bytes());
        put(&mut out, TD_INFO.start + 16, &td.mr_td);
        put(&mut out, TD_INFO.start + 64, &td.mr_config_id);
        put(&mut out, TD_INFO.start + 112, &td.mr_owner);
        put(&mut out, TD_INFO.start + 160, &td.mr_owner_config);
        put(&mut out, TD_INFO.start + 208, &td.rtmr.concat());
        put(&mut out, TD_INFO.start + 400, &td.mr_service_td);
        // REPORTMACSTRUCT, 256 bytes.
        let hash = |range| sha384(out.get(range).unwrap_or_default());
        let (tcb_info_hash, td_info_hash) = (hash(TCB_INFO), hash(TD_INFO));
        let mut mac = [0; 32];
        SystemRandom::new().fill(&mut mac).map_err(|_| SimulatorError::RootMaking("random bytes"))?;
        put(&mut out, 0, &self.report_type);
        put(&mut out, 16, &self.cpu_svn);
        put(&mut out, 32, &self.tcb_info_hash.unwrap_or(tcb_info_hash));
        put(&mut out, 80, &self.td_info_hash.unwrap_or(td_info_hash));
        put(&mut out, 128, &td.report_data);
        put(&mut out, 224, &mac);
        Ok(out)
    }
}

fn put(out: &mut [u8], offset: usize, field: &[u8]) {
    if let Some(place) = out.get_mut(offset..offset + field.len()) {
        place.copy_from_slice(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_cover_their_structures() {
        let fields = TdFields { report_data: [7; 64], ..TdFields::honest([1; 48], [2; 32]) };
        let report = TdReport::honest(fields).to_bytes().unwrap();
        assert_eq!(report[..4], [0x81, 0, 0, 0]);
        assert_eq!(report[32..80], sha384(&report[256..495]));
        assert_eq!(report[80..128], sha384(&report[512..]));
        assert_eq!(report[128..192], [7; 64]);
        assert_eq!(report[512 + 16..512 + 64], [1; 48]);
        assert_eq!(report[512 + 64..512 + 96], [2; 32]);
        assert!(report[495..512].iter().chain(&report[192..224]).all(|b| *b == 0));
    }
}
