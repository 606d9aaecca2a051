//! Turns the JSON envelope of evidence into sized byte strings.
//! Nothing here is verified: these are the bytes that [`crate::verify()`] judges.

use serde::{Deserialize, Serialize};

use crate::{EncodingError, encoding::serde_b64url};

/// Exact size of an SNP report: AMD 56860 rev 1.58, table 23.
pub const SNP_REPORT_LEN: usize = 1184;
/// A leaf certificate is about 1.4 KiB.
pub const MAX_LEAF: usize = 8 * 1024;
/// AMD's CRLs are below 1 KiB; room for growth.
pub const MAX_CRL: usize = 64 * 1024;

/// What the hardware signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// An SEV-SNP attestation report, as received.
    SevSnp {
        /// Raw report.
        report: Vec<u8>,
    },
}

/// What is needed besides the anchors to verify it. Comes from an untrusted place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collateral {
    /// For SEV-SNP.
    SevSnp {
        /// VCEK or VLEK certificate, DER.
        leaf: Vec<u8>,
        /// The product's certificate revocation list, DER.
        crl: Vec<u8>,
    },
}

/// Evidence and collateral as they travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceEnvelope {
    /// Raw SNP report.
    #[serde(with = "serde_b64url")]
    pub report: Vec<u8>,
    /// VCEK or VLEK certificate, DER.
    #[serde(with = "serde_b64url")]
    pub leaf: Vec<u8>,
    /// Certificate revocation list, DER.
    #[serde(with = "serde_b64url")]
    pub crl: Vec<u8>,
}

impl EvidenceEnvelope {
    /// Parts the two, with their sizes capped.
    ///
    /// # Errors
    /// `ENCODING_TOO_LARGE`.
    pub fn into_parts(self) -> Result<(Evidence, Collateral), EncodingError> {
        for (what, bytes, cap) in [
            ("the report", &self.report, SNP_REPORT_LEN),
            ("the leaf certificate", &self.leaf, MAX_LEAF),
            ("the revocation list", &self.crl, MAX_CRL),
        ] {
            if bytes.len() > cap {
                return Err(EncodingError::TooLarge(what, cap));
            }
        }
        Ok((Evidence::SevSnp { report: self.report }, Collateral::SevSnp { leaf: self.leaf, crl: self.crl }))
    }
}
