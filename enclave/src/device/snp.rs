//! Turns the bytes of an SEV-SNP report into the three fields that the guest itself reads.
//! The signature is not verified here: the guest asks its own processor, and verifiers outside have the anchors.

use std::ops::Range;

use vouchsafe_attestation::evidence::SNP_REPORT_LEN;

use super::OwnLaunch;
use super::hardware::Signer;
use crate::error::EnclaveError;

/// AMD 56860 rev 1.58, table 23: KEY_INFO at 0x48, REPORT_DATA at 0x50, MEASUREMENT at 0x90, HOST_DATA at 0xC0.
const KEY_INFO: Range<usize> = 0x48..0x4C;
const REPORT_DATA: Range<usize> = 0x50..0x90;
const MEASUREMENT: Range<usize> = 0x90..0xC0;
const HOST_DATA: Range<usize> = 0xC0..0xE0;

/// Whether the report is whole and about the data asked for.
///
/// # Errors
/// `EVIDENCE_DEVICE`.
pub(super) fn is_about(report: &[u8], data: &[u8; 64]) -> Result<(), EnclaveError> {
    if report.len() != SNP_REPORT_LEN || report.get(REPORT_DATA) != Some(data) {
        return Err(EnclaveError::Device("its report is not about the data asked for"));
    }
    Ok(())
}

/// How the guest of this report was launched.
///
/// # Errors
/// `EVIDENCE_DEVICE` when the report is too short.
pub(super) fn launch(report: &[u8]) -> Result<OwnLaunch, EnclaveError> {
    Ok(OwnLaunch { measurement: field(report, MEASUREMENT)?, config_digest: field(report, HOST_DATA)? })
}

/// Which key signed the report: KEY_INFO bits 4:2, SIGNING_KEY.
///
/// # Errors
/// `EVIDENCE_DEVICE` when the report is too short.
pub(super) fn signer(report: &[u8]) -> Result<Signer, EnclaveError> {
    Ok(match u32::from_le_bytes(field(report, KEY_INFO)?) >> 2 & 7 {
        0 => Signer::Vcek,
        1 => Signer::Vlek,
        _ => Signer::Other,
    })
}

fn field<const N: usize>(report: &[u8], at: Range<usize>) -> Result<[u8; N], EnclaveError> {
    let bytes = report.get(at).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(EnclaveError::Device("its report is too short"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report with this data, HOST_DATA 07… and MEASUREMENT 09…, signed by nobody.
    pub(crate) fn report(data: &[u8; 64]) -> Vec<u8> {
        let mut report = vec![0; SNP_REPORT_LEN];
        report[REPORT_DATA].copy_from_slice(data);
        report[MEASUREMENT].fill(9);
        report[HOST_DATA].fill(7);
        report
    }

    /// The same, signed by a key of this number.
    pub(crate) fn signed_by(data: &[u8; 64], signing_key: u8) -> Vec<u8> {
        let mut report = report(data);
        report[KEY_INFO.start] = signing_key << 2;
        report
    }

    #[test]
    fn the_signing_key_stands_in_three_bits() {
        for (number, signer) in [(0, Signer::Vcek), (1, Signer::Vlek), (2, Signer::Other), (7, Signer::Other)] {
            let mut report = signed_by(&[3; 64], number);
            // Its neighbours are the author's key and the mask, and bits that are reserved.
            for around in [0, 1, 2, 0x20, 0xE3] {
                report[KEY_INFO.start] = number << 2 | around;
                assert_eq!(super::signer(&report), Ok(signer), "{number} {around}");
            }
        }
        assert!(signer(&[0; 0x4B]).is_err());
    }

    #[test]
    fn fields_are_where_amd_puts_them() {
        let report = report(&[3; 64]);
        assert_eq!(launch(&report), Ok(OwnLaunch { measurement: [9; 48], config_digest: [7; 32] }));
        assert_eq!(is_about(&report, &[3; 64]), Ok(()));
        assert!(is_about(&report, &[4; 64]).is_err());
        assert!(is_about(&report[..report.len() - 1], &[3; 64]).is_err());
        assert!(launch(&report[..0xDF]).is_err());
    }
}
