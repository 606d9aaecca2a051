//! Turns the JSON envelope of evidence into sized byte strings.
//! Nothing here is verified: these are the bytes that [`crate::verify()`] judges.

use serde::{Deserialize, Serialize};

use crate::{EncodingError, Tee, encoding::serde_b64url};

/// Exact size of an SNP report: AMD 56860 rev 1.58, table 23.
pub const SNP_REPORT_LEN: usize = 1184;
/// A leaf certificate is about 1.4 KiB.
pub const MAX_LEAF: usize = 8 * 1024;
/// AMD's CRLs are below 1 KiB; room for growth.
pub const MAX_CRL: usize = 64 * 1024;
/// A TDX quote with its PCK chain is about 5 KiB.
pub const MAX_QUOTE: usize = 16 * 1024;
/// Intel's TCB info is about 4 KiB, its longest revocation list about 40; each item alone is capped by this.
pub const MAX_TDX_ITEM: usize = 64 * 1024;

/// What the hardware signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// An SEV-SNP attestation report, as received.
    SevSnp {
        /// Raw report.
        report: Vec<u8>,
    },
    /// A TDX quote, as received.
    Tdx {
        /// Raw quote, with the PCK certificate chain inside.
        quote: Vec<u8>,
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
        /// The authority that issued a VLEK, DER: pinned by digest. Empty with a VCEK.
        asvk: Vec<u8>,
    },
    /// For TDX.
    Tdx(TdxCollateral),
}

/// What Intel's provisioning service answers about one family of processors. Texts are exact: signatures cover their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxCollateral {
    /// Issuer chain of the PCK revocation list, PEM.
    pub pck_crl_issuer_chain: String,
    /// Revocation list of the root authority, DER.
    #[serde(with = "serde_b64url")]
    pub root_ca_crl: Vec<u8>,
    /// Revocation list of the PCK authority, DER.
    #[serde(with = "serde_b64url")]
    pub pck_crl: Vec<u8>,
    /// Issuer chain of the TCB info, PEM.
    pub tcb_info_issuer_chain: String,
    /// TCB info, JSON text as signed.
    pub tcb_info: String,
    /// Its ECDSA P-256 signature, r || s.
    #[serde(with = "serde_b64url")]
    pub tcb_info_signature: Vec<u8>,
    /// Issuer chain of the QE identity, PEM.
    pub qe_identity_issuer_chain: String,
    /// QE identity, JSON text as signed.
    pub qe_identity: String,
    /// Its ECDSA P-256 signature, r || s.
    #[serde(with = "serde_b64url")]
    pub qe_identity_signature: Vec<u8>,
}

/// Evidence and collateral as they travel: the fields tell the technology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EvidenceEnvelope {
    /// SEV-SNP.
    SevSnp(SnpEnvelope),
    /// TDX.
    Tdx(Box<TdxEnvelope>),
}

/// SEV-SNP evidence as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpEnvelope {
    /// Raw SNP report.
    #[serde(with = "serde_b64url")]
    pub report: Vec<u8>,
    /// VCEK or VLEK certificate, DER.
    #[serde(with = "serde_b64url")]
    pub leaf: Vec<u8>,
    /// Certificate revocation list, DER.
    #[serde(with = "serde_b64url")]
    pub crl: Vec<u8>,
    /// The VLEK's authority, DER; left out with a VCEK.
    #[serde(with = "serde_b64url", default, skip_serializing_if = "Vec::is_empty")]
    pub asvk: Vec<u8>,
}

/// TDX evidence as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxEnvelope {
    /// Raw quote.
    #[serde(with = "serde_b64url")]
    pub quote: Vec<u8>,
    /// What verifies it.
    pub collateral: TdxCollateral,
}

impl EvidenceEnvelope {
    /// An SEV-SNP envelope under a chip's own key.
    #[must_use]
    pub fn sev_snp(report: Vec<u8>, leaf: Vec<u8>, crl: Vec<u8>) -> Self {
        Self::SevSnp(SnpEnvelope { report, leaf, crl, asvk: Vec::new() })
    }

    /// A TDX envelope.
    #[must_use]
    pub fn tdx(quote: Vec<u8>, collateral: TdxCollateral) -> Self {
        Self::Tdx(Box::new(TdxEnvelope { quote, collateral }))
    }

    /// The technology that the fields tell.
    #[must_use]
    pub fn tee(&self) -> Tee {
        match self {
            Self::SevSnp(_) => Tee::SevSnp,
            Self::Tdx(_) => Tee::Tdx,
        }
    }

    /// What the hardware signed, as received: a report or a quote.
    #[must_use]
    pub fn signed(&self) -> &[u8] {
        match self {
            Self::SevSnp(snp) => &snp.report,
            Self::Tdx(tdx) => &tdx.quote,
        }
    }

    /// Parts the two, with their sizes capped.
    ///
    /// # Errors
    /// `ENCODING_TOO_LARGE`.
    pub fn into_parts(self) -> Result<(Evidence, Collateral), EncodingError> {
        match self {
            Self::SevSnp(SnpEnvelope { report, leaf, crl, asvk }) => {
                capped("the report", report.len(), SNP_REPORT_LEN)?;
                capped("the leaf certificate", leaf.len(), MAX_LEAF)?;
                capped("the revocation list", crl.len(), MAX_CRL)?;
                capped("the authority's certificate", asvk.len(), MAX_LEAF)?;
                Ok((Evidence::SevSnp { report }, Collateral::SevSnp { leaf, crl, asvk }))
            }
            Self::Tdx(tdx) => {
                let TdxEnvelope { quote, collateral } = *tdx;
                capped("the quote", quote.len(), MAX_QUOTE)?;
                for (what, len) in collateral.sizes() {
                    capped(what, len, MAX_TDX_ITEM)?;
                }
                Ok((Evidence::Tdx { quote }, Collateral::Tdx(collateral)))
            }
        }
    }
}

impl TdxCollateral {
    /// Every item with its size in bytes.
    #[must_use]
    pub fn sizes(&self) -> [(&'static str, usize); 9] {
        [
            ("the PCK list's issuer chain", self.pck_crl_issuer_chain.len()),
            ("the root's revocation list", self.root_ca_crl.len()),
            ("the PCK revocation list", self.pck_crl.len()),
            ("the TCB info's issuer chain", self.tcb_info_issuer_chain.len()),
            ("the TCB info", self.tcb_info.len()),
            ("the TCB info's signature", self.tcb_info_signature.len()),
            ("the QE identity's issuer chain", self.qe_identity_issuer_chain.len()),
            ("the QE identity", self.qe_identity.len()),
            ("the QE identity's signature", self.qe_identity_signature.len()),
        ]
    }
}

fn capped(what: &'static str, len: usize, cap: usize) -> Result<(), EncodingError> {
    if len > cap { Err(EncodingError::TooLarge(what, cap)) } else { Ok(()) }
}
