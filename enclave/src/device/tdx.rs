//! Turns a local TDREPORT into how this TD was launched, and finds REPORTDATA inside a quote.
//! The report's MAC is not verified: only the processor has its key. It comes from the guest's own instruction, not over the host.
//!
//! Offsets: Intel TDX Module ABI Specification 348551, TDREPORT_STRUCT (REPORTMACSTRUCT, TEE_TCB_INFO, TDINFO_STRUCT), and
//! Intel TDX DCAP Quote Generation Library and Quote Verification Library, appendix A.3, for quotes.

use std::ops::Range;

use vouchsafe_attestation::lp::sha384;

use super::OwnLaunch;
use crate::error::EnclaveError;

/// TDREPORT_STRUCT.
pub(super) const TDREPORT_LEN: usize = 1024;
/// REPORTMACSTRUCT.REPORTTYPE: type, subtype, version, reserved.
const REPORT_TYPE: Range<usize> = 0..4;
/// A TD's report; the other type is an SGX enclave's.
const TYPE_TDX: u8 = 0x81;
/// Version 1 has service TDs bound to it; both have the same layout.
const VERSIONS: Range<u8> = 0..2;
const TEE_TCB_INFO_HASH: Range<usize> = 32..80;
const TEE_INFO_HASH: Range<usize> = 80..128;
const REPORT_DATA: Range<usize> = 128..192;
const TEE_TCB_INFO: Range<usize> = 256..495;
const TDINFO: Range<usize> = 512..1024;
/// In REPORTMACSTRUCT twice, and between the two information structures.
const RESERVED: [Range<usize>; 3] = [4..16, 192..224, 495..512];
/// TDINFO_STRUCT: ATTRIBUTES 8, XFAM 8, MRTD 48, MRCONFIGID 48, …
const MRTD: Range<usize> = 512 + 16..512 + 64;
const MRCONFIGID: Range<usize> = 512 + 64..512 + 112;

/// A quote's header; version 5 adds type (2) and length (4) of its body.
const QUOTE_HEADER: usize = 48;
const QUOTE_BODY_HEAD: usize = 6;
/// REPORTDATA inside a TD quote body, of TDX 1.0 and 1.5 alike.
const QUOTE_REPORT_DATA: usize = 520;

/// How the TD of this report was launched, once the report is whole, about `challenge` and consistent in itself.
///
/// # Errors
/// `EVIDENCE_DEVICE`; `CONFIG_DIGEST_MISMATCH` when MRCONFIGID is no padded digest.
pub(super) fn launch(report: &[u8], challenge: &[u8; 64]) -> Result<OwnLaunch, EnclaveError> {
    if report.len() != TDREPORT_LEN {
        return Err(EnclaveError::Device("its TDREPORT is not 1024 bytes long"));
    }
    let [kind, subtype, version, reserved] = field::<4>(report, REPORT_TYPE)?;
    if kind != TYPE_TDX || subtype != 0 || !VERSIONS.contains(&version) || reserved != 0 {
        return Err(EnclaveError::Device("its TDREPORT is of another type"));
    }
    if RESERVED.into_iter().any(|range| report.get(range).is_none_or(|bytes| bytes.iter().any(|b| *b != 0))) {
        return Err(EnclaveError::Device("its TDREPORT has a reserved byte that is not zero"));
    }
    if field(report, REPORT_DATA)? != *challenge {
        return Err(EnclaveError::Device("its TDREPORT is not about the data asked for"));
    }
    // The MAC covers the hashes, and the hashes cover everything below.
    for (hash, of) in [(TEE_TCB_INFO_HASH, TEE_TCB_INFO), (TEE_INFO_HASH, TDINFO)] {
        if field(report, hash)? != sha384(report.get(of).unwrap_or_default()) {
            return Err(EnclaveError::Device("its TDREPORT contradicts its own hashes"));
        }
    }
    let digest_end = MRCONFIGID.start + 32;
    if field(report, digest_end..MRCONFIGID.end)? != [0; 16] {
        return Err(EnclaveError::ConfigDigestMismatch);
    }
    Ok(OwnLaunch { measurement: field(report, MRTD)?, config_digest: field(report, MRCONFIGID.start..digest_end)? })
}

/// Whether a quote is about the data asked for.
///
/// # Errors
/// `EVIDENCE_DEVICE`.
pub(super) fn is_about(quote: &[u8], data: &[u8; 64]) -> Result<(), EnclaveError> {
    let body = match u16::from_le_bytes(field(quote, 0..2)?) {
        4 => QUOTE_HEADER,
        5 => QUOTE_HEADER + QUOTE_BODY_HEAD,
        _ => return Err(EnclaveError::Device("its quote has another version than 4 or 5")),
    };
    if quote.get(body + QUOTE_REPORT_DATA..body + QUOTE_REPORT_DATA + data.len()) != Some(data) {
        return Err(EnclaveError::Device("its quote is not about the data asked for"));
    }
    Ok(())
}

fn field<const N: usize>(bytes: &[u8], at: Range<usize>) -> Result<[u8; N], EnclaveError> {
    let bytes = bytes.get(at).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(EnclaveError::Device("its answer is too short"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const CHALLENGE: [u8; 64] = [3; 64];

    fn hashed(mut report: Vec<u8>) -> Vec<u8> {
        let (tcb, info) = (sha384(&report[TEE_TCB_INFO]), sha384(&report[TDINFO]));
        report[TEE_TCB_INFO_HASH].copy_from_slice(&tcb);
        report[TEE_INFO_HASH].copy_from_slice(&info);
        report
    }

    /// A report of a TD with MRTD 09… and this MRCONFIGID.
    pub(crate) fn tdreport(challenge: &[u8; 64], mr_config_id: &[u8; 48]) -> Vec<u8> {
        let mut report = vec![0; TDREPORT_LEN];
        report[0] = TYPE_TDX;
        report[REPORT_DATA].copy_from_slice(challenge);
        report[TEE_TCB_INFO].fill(1);
        report[MRTD].fill(9);
        report[MRCONFIGID].copy_from_slice(mr_config_id);
        hashed(report)
    }

    fn config_id() -> [u8; 48] {
        let mut id = [7; 48];
        id[32..].fill(0);
        id
    }

    fn quote(version: u8, at: usize) -> Vec<u8> {
        let mut quote = vec![0; 1000];
        quote[0] = version;
        quote[at..at + 64].copy_from_slice(&CHALLENGE);
        quote
    }

    #[test]
    fn a_report_tells_how_the_td_was_launched() {
        let report = tdreport(&CHALLENGE, &config_id());
        assert_eq!(launch(&report, &CHALLENGE), Ok(OwnLaunch { measurement: [9; 48], config_digest: [7; 32] }));
        let mut with_services = report;
        with_services[2] = 1;
        assert!(launch(&with_services, &CHALLENGE).is_ok());
    }

    #[test]
    fn every_byte_but_cpusvn_and_mac_counts() {
        let report = tdreport(&CHALLENGE, &config_id());
        for at in (0..TDREPORT_LEN).filter(|at| !(16..32).contains(at) && !(224..256).contains(at)) {
            let mut changed = report.clone();
            changed[at] ^= 0x80;
            assert_eq!(launch(&changed, &CHALLENGE).err().map(|e| e.code()), Some("EVIDENCE_DEVICE"), "{at}");
        }
        for len in [0, 1, 512, TDREPORT_LEN - 1] {
            assert!(launch(&report[..len], &CHALLENGE).is_err());
        }
        assert!(launch(&[&report[..], &[0]].concat(), &CHALLENGE).is_err());
        assert!(launch(&report, &[4; 64]).is_err(), "another challenge");
    }

    #[test]
    fn a_config_id_that_is_no_padded_digest_binds_nothing() {
        for at in 32..48 {
            let mut id = config_id();
            id[at] = 1;
            let error = launch(&tdreport(&CHALLENGE, &id), &CHALLENGE).err().unwrap();
            assert_eq!((error.code(), error.exit()), ("CONFIG_DIGEST_MISMATCH", 2));
        }
    }

    #[test]
    fn report_data_is_found_in_both_versions_of_a_quote() {
        assert_eq!(is_about(&quote(4, 568), &CHALLENGE), Ok(()));
        assert_eq!(is_about(&quote(5, 574), &CHALLENGE), Ok(()));
        for (version, at) in [(4, 574), (5, 568), (3, 568), (4, 567)] {
            assert!(is_about(&quote(version, at), &CHALLENGE).is_err(), "{version} {at}");
        }
        assert!(is_about(&quote(4, 568)[..631], &CHALLENGE).is_err());
        assert!(is_about(&[], &CHALLENGE).is_err());
    }
}
