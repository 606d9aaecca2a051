//! Turns every way in which a quote or its collateral can fail into one stable code, exit status and piece of advice.
//! It does not establish anything: a code says which rule refused, not what an attacker intended.

use std::fmt;

use super::Item;

/// Why a TDX quote is not authentic, or why its collateral is missing or stale.
///
/// Each variant belongs to one numbered step of the orchestrator (`tdx/verify.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TdxError {
    // ---- step 1: sizes ----
    /// The quote is empty or longer than the cap.
    QuoteLength {
        /// Bytes received.
        actual: usize,
    },
    /// An item of the collateral is missing.
    Missing {
        /// Which.
        item: Item,
    },
    /// An item of the collateral is longer than its cap, or a signature is not 64 bytes.
    Length {
        /// Which.
        item: Item,
        /// Bytes received.
        actual: usize,
    },

    // ---- step 2: header ----
    /// The quote ends before something that it declares; steps 3 and 4 tell so too.
    QuoteTruncated {
        /// The step that wanted more.
        step: u8,
    },
    /// The quote's version is not 4 or 5.
    QuoteVersion {
        /// Version in the quote.
        actual: u16,
    },
    /// The attestation key is not of ECDSA P-256.
    QuoteKeyType {
        /// Value in the quote.
        actual: u16,
    },
    /// The quote is not from TDX.
    QuoteTeeType {
        /// Value in the quote.
        actual: u32,
    },
    /// A reserved byte of the header is not zero.
    QuoteReserved {
        /// Offset of the first offending byte.
        offset: usize,
    },
    /// The quoting enclave is not Intel's.
    QuoteVendor,

    // ---- step 3: body ----
    /// The body is not a TD report of TDX 1.0 or 1.5.
    QuoteBodyType {
        /// Value in the quote.
        actual: u16,
    },
    /// The declared size of the body is not that of its type.
    QuoteBodySize {
        /// Value in the quote.
        actual: u32,
    },

    // ---- step 4: frame ----
    /// Bytes follow the end that the quote declares.
    QuoteTrailing {
        /// How many.
        extra: usize,
    },
    /// The certification data is not a QE report with a PCK certificate chain.
    CertDataType {
        /// Value in the quote.
        actual: u16,
    },
    /// The size of certification data does not fit the quote exactly.
    CertDataLength,
    /// The QE authentication data is not 32 bytes.
    QeAuthData {
        /// Bytes declared.
        actual: u16,
    },
    /// A reserved byte of the quoting enclave's report is not zero.
    QeReserved {
        /// Offset of the first offending byte.
        offset: usize,
    },

    // ---- step 5: collateral ----
    /// An item is not well-formed.
    Malformed {
        /// Which.
        item: Item,
    },
    /// The TCB info is not of TDX, or of a version that this build does not know.
    TcbInfoKind,
    /// The QE identity is not of TDX, or of a version that this build does not know.
    QeIdentityKind,

    // ---- step 6: windows ----
    /// An item is past its end.
    Expired {
        /// Which.
        item: Item,
    },
    /// An item is from the future.
    NotYetValid {
        /// Which.
        item: Item,
    },

    // ---- step 7: platform ----
    /// A certificate carries the simulation marker but the anchors are hardware anchors.
    Simulated,
    /// A certificate lacks the simulation marker but the anchors are a simulated root.
    NotSimulated,
    /// A chain ends with another root than the relying party's.
    ChainRoot,
    /// The PCK certificate's SGX extension, or a required member of it, is missing.
    PckExtensionMissing,
    /// The PCK certificate states something twice.
    PckExtensionDuplicate,
    /// A value in the PCK certificate's SGX extension is not canonical.
    PckExtensionValue,
    /// CPUSVN and the TCB components of the PCK certificate differ.
    PckCpuSvn,
    /// The TCB info is for another family of processors.
    Fmspc,
    /// The TCB info is for another provisioning enclave.
    PceId,

    // ---- step 8: chains ----
    /// The root's revocation list is not from the root.
    RootCrlSignature,
    /// The PCK revocation list is from another authority than the PCK certificate's.
    PckCrlIssuer,
    /// The PCK revocation list's signature is wrong.
    PckCrlSignature,
    /// The certificate that signs the TCB info is not from the root.
    TcbSignerChain,
    /// The certificate that signs the QE identity is not from the root.
    QeSignerChain,
    /// The PCK certificate is not from an authority under the root.
    PckChain,
    /// A certificate is revoked.
    Revoked {
        /// Which.
        item: Item,
    },
    /// A chain breaks another rule of RFC 5280, such as usage, constraints or unknown critical extensions.
    ChainRefused,

    // ---- step 9: statements ----
    /// The TCB info's signature is wrong.
    TcbInfoSignature,
    /// The QE identity's signature is wrong.
    QeIdentitySignature,

    // ---- step 10: quoting enclave ----
    /// The signature over the quoting enclave's report is wrong.
    QeReportSignature,
    /// The quoting enclave did not vouch for this attestation key.
    QeReportData,
    /// The quoting enclave is not the one that Intel's identity describes.
    QeIdentityMismatch,
    /// The quoting enclave is older than every level of Intel's identity.
    QeLevelNone,

    // ---- step 11: signature ----
    /// The quote's signature is wrong.
    QuoteSignature,

    // ---- step 12: tcb ----
    /// The platform meets no level of the TCB info.
    TcbLevelNone,
    /// The TCB info does not know the TDX module.
    TdxModuleUnknown,
    /// The TDX module is older than every level of the TCB info.
    TdxModuleLevelNone,
    /// The TDX module has another signer than the TCB info says.
    TdxModuleSigner,
    /// The TDX module has other attributes than the TCB info says.
    TdxModuleAttributes,
    /// The platform's level is revoked: its keys are not to be believed.
    TcbRevoked,
    /// An advisory has no readable name, or there are too many.
    Advisories,

    // ---- step 13: attributes ----
    /// Reserved bits of the TD's attributes are set.
    TdAttributesReserved,
    /// The TD can be migrated.
    TdMigratable,
    /// The TD has service TDs in a quote that cannot say which.
    TdServtdExt,
    /// The TD does not disable the exceptions that let the host observe it.
    SeptVeDisable,

    /// What was verified is not what the facts were read from: two readers of the same bytes disagree.
    QuoteAmbiguous,
    /// Refused for a reason that this build has no name for.
    QuoteRefused,
}

const N: u8 = 2;
const C: u8 = 3;

const FORGED: &str = "treat the peer as hostile: genuine firmware never produces this";
const RESEND: &str = "ask the peer for fresh evidence; if it happens again the peer is broken or hostile";
const RENEW: &str = "the machine's operator must fetch the current collateral of this platform from Intel";
const UPGRADE: &str = "use a newer version of this software, or evidence of a supported kind";
const CLOCK: &str = "compare this machine's clock with a reliable one, then renew the collateral";
const REVOKED: &str = "Intel has revoked what this machine's evidence stands on: do not use the machine";
const UPDATE: &str = "the machine's operator must update firmware, microcode and TDX module, or fetch newer collateral";
const TD: &str = "the machine's operator must launch the VM with SEPT_VE_DISABLE set and migration off";

impl TdxError {
    /// (step, code, exit, advice)
    pub(crate) fn row(&self) -> (u8, &'static str, u8, &'static str) {
        use TdxError as E;
        match self {
            E::QuoteLength { .. } => (1, "QUOTE_LENGTH", N, RESEND),
            E::Missing { item } => (1, item.codes().missing, C, RENEW),
            E::Length { item, .. } => (1, item.codes().length, N, RESEND),
            E::QuoteTruncated { step: 2 } => (2, "QUOTE_TRUNCATED", N, RESEND),
            E::QuoteVersion { .. } => (2, "QUOTE_VERSION", N, UPGRADE),
            E::QuoteKeyType { .. } => (2, "QUOTE_KEY_TYPE", N, FORGED),
            E::QuoteTeeType { .. } => (2, "QUOTE_TEE_TYPE", N, FORGED),
            E::QuoteReserved { .. } => (2, "QUOTE_RESERVED", N, UPGRADE),
            E::QuoteVendor => (2, "QUOTE_VENDOR", N, FORGED),
            E::QuoteTruncated { step: 3 } => (3, "QUOTE_TRUNCATED", N, RESEND),
            E::QuoteBodyType { .. } => (3, "QUOTE_BODY_TYPE", N, UPGRADE),
            E::QuoteBodySize { .. } => (3, "QUOTE_BODY_SIZE", N, FORGED),
            E::QuoteTruncated { .. } => (4, "QUOTE_TRUNCATED", N, RESEND),
            E::QuoteTrailing { .. } => (4, "QUOTE_TRAILING", N, RESEND),
            E::CertDataType { .. } => (4, "CERT_DATA_TYPE", N, UPGRADE),
            E::CertDataLength => (4, "CERT_DATA_LENGTH", N, FORGED),
            E::QeAuthData { .. } => (4, "QE_AUTH_DATA", N, FORGED),
            E::QeReserved { .. } => (4, "QE_RESERVED", N, UPGRADE),
            E::Malformed { item } => (5, item.codes().malformed, N, RENEW),
            E::TcbInfoKind => (5, "TCB_INFO_KIND", N, RENEW),
            E::QeIdentityKind => (5, "QE_IDENTITY_KIND", N, RENEW),
            E::Expired { item: Item::Root } => (6, "ANCHOR_EXPIRED", C, UPGRADE),
            E::Expired { item } => (6, item.codes().expired, C, RENEW),
            E::NotYetValid { item } => (6, item.codes().not_yet_valid, C, CLOCK),
            E::Simulated => (
                7,
                "LEAF_SIMULATED",
                N,
                "this machine is a simulation: rehearse with a simulation policy, or use real hardware",
            ),
            E::NotSimulated => (
                7,
                "LEAF_NOT_SIMULATED",
                N,
                "the peer is not this simulated root's machine: use a hardware policy for real hardware",
            ),
            E::ChainRoot => (7, "CHAIN_ROOT", N, FORGED),
            E::PckExtensionMissing => (7, "PCK_EXTENSION_MISSING", N, FORGED),
            E::PckExtensionDuplicate => (7, "PCK_EXTENSION_DUPLICATE", N, FORGED),
            E::PckExtensionValue => (7, "PCK_EXTENSION_VALUE", N, FORGED),
            E::PckCpuSvn => (7, "PCK_CPU_SVN", N, FORGED),
            E::Fmspc => (7, "FMSPC_MISMATCH", N, RENEW),
            E::PceId => (7, "PCEID_MISMATCH", N, RENEW),
            E::RootCrlSignature => (8, "ROOT_CRL_SIGNATURE", N, RENEW),
            E::PckCrlIssuer => (8, "PCK_CRL_ISSUER", N, RENEW),
            E::PckCrlSignature => (8, "PCK_CRL_SIGNATURE", N, RENEW),
            E::TcbSignerChain => (8, "TCB_SIGNER_CHAIN", N, RENEW),
            E::QeSignerChain => (8, "QE_SIGNER_CHAIN", N, RENEW),
            E::PckChain => (8, "PCK_CHAIN", N, FORGED),
            E::Revoked { item } => (8, item.codes().revoked, N, REVOKED),
            E::ChainRefused => (8, "CHAIN_REFUSED", N, FORGED),
            E::TcbInfoSignature => (9, "TCB_INFO_SIGNATURE", N, RENEW),
            E::QeIdentitySignature => (9, "QE_IDENTITY_SIGNATURE", N, RENEW),
            E::QeReportSignature => (10, "QE_REPORT_SIGNATURE", N, RESEND),
            E::QeReportData => (10, "QE_REPORT_DATA", N, FORGED),
            E::QeIdentityMismatch => (10, "QE_IDENTITY_MISMATCH", N, FORGED),
            E::QeLevelNone => (10, "QE_LEVEL_NONE", N, UPDATE),
            E::QuoteSignature => (11, "QUOTE_SIGNATURE", N, RESEND),
            E::TcbLevelNone => (12, "TCB_LEVEL_NONE", N, UPDATE),
            E::TdxModuleUnknown => (12, "TDX_MODULE_UNKNOWN", N, UPDATE),
            E::TdxModuleLevelNone => (12, "TDX_MODULE_LEVEL_NONE", N, UPDATE),
            E::TdxModuleSigner => (12, "TDX_MODULE_SIGNER", N, FORGED),
            E::TdxModuleAttributes => (12, "TDX_MODULE_ATTRIBUTES", N, FORGED),
            E::TcbRevoked => (12, "TCB_REVOKED", N, REVOKED),
            E::Advisories => (12, "ADVISORIES_UNREADABLE", N, UPGRADE),
            E::TdAttributesReserved => (13, "TD_ATTRIBUTES_RESERVED", N, UPGRADE),
            E::TdMigratable => (13, "QUOTE_MIGRATABLE", N, TD),
            E::TdServtdExt => (13, "TD_SERVTD_EXT", N, UPGRADE),
            E::SeptVeDisable => (13, "SEPT_VE_DISABLE", N, TD),
            E::QuoteAmbiguous => (8, "QUOTE_AMBIGUOUS", N, FORGED),
            E::QuoteRefused => (8, "QUOTE_REFUSED", N, UPGRADE),
        }
    }
}

impl fmt::Display for TdxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TdxError as E;
        let text = match self {
            E::QuoteLength { actual } => {
                return write!(f, "the quote has {actual} bytes, which is none or above the cap");
            }
            E::Missing { item } => return write!(f, "{item} is not with the evidence"),
            E::Length { item, actual } => return write!(f, "{item} has {actual} bytes, which it cannot have"),
            E::QuoteVersion { actual } => return write!(f, "the quote has version {actual}; only 4 and 5 are known"),
            E::QuoteKeyType { actual } => {
                return write!(f, "the quote names attestation key type {actual} instead of 2 (ECDSA P-256)");
            }
            E::QuoteTeeType { actual } => {
                return write!(f, "the quote names technology {actual:#x} instead of 0x81 (TDX)");
            }
            E::QuoteReserved { offset } => {
                return write!(f, "the quote has a non-zero reserved byte at {offset:#05x}");
            }
            E::QeReserved { offset } => {
                return write!(f, "the quoting enclave's report has a non-zero reserved byte at {offset:#05x}");
            }
            E::QuoteBodyType { actual } => {
                return write!(f, "the quote has a body of type {actual}; only 2 (TDX 1.0) and 3 (TDX 1.5) are known");
            }
            E::QuoteBodySize { actual } => return write!(f, "the quote declares a body of {actual} bytes"),
            E::QuoteTrailing { extra } => return write!(f, "{extra} bytes follow the end that the quote declares"),
            E::CertDataType { actual } => {
                return write!(f, "the quote has certification data of type {actual}, which is not supported there");
            }
            E::QeAuthData { actual } => {
                return write!(f, "the quote has {actual} bytes of QE authentication data instead of 32");
            }
            E::Malformed { item } => return write!(f, "{item} is not well-formed"),
            E::Expired { item } => return write!(f, "{item} has expired"),
            E::NotYetValid { item } => return write!(f, "{item} is from the future"),
            E::Revoked { item } => return write!(f, "{item} is revoked"),
            E::QuoteTruncated { .. } => "the quote ends before something that it declares",
            E::QuoteVendor => "the quote is not from Intel's quoting enclave",
            E::CertDataLength => "the size of certification data does not fit the quote",
            E::TcbInfoKind => "the TCB info is not one of TDX, version 3",
            E::QeIdentityKind => "the QE identity is not one of TDX, version 2 or 3",
            E::Simulated => "the evidence comes from a SIMULATED processor, but real hardware is required",
            E::NotSimulated => "the evidence does not carry the simulation marker, but a simulated root is required",
            E::ChainRoot => "a certificate chain ends with another root than the one required",
            E::PckExtensionMissing => "the PCK certificate lacks a required extension",
            E::PckExtensionDuplicate => "the PCK certificate states an extension twice",
            E::PckExtensionValue => "an extension of the PCK certificate is not encoded canonically",
            E::PckCpuSvn => "the PCK certificate contradicts itself about the processor's security versions",
            E::Fmspc => "the TCB info is for another family of processors than the quote's",
            E::PceId => "the TCB info is for another provisioning enclave than the quote's",
            E::RootCrlSignature => "the root's revocation list is not signed by the root",
            E::PckCrlIssuer => "the PCK revocation list is from another authority than the PCK certificate",
            E::PckCrlSignature => "the PCK revocation list's signature is wrong",
            E::TcbSignerChain => "the certificate that signs the TCB info is not from the root",
            E::QeSignerChain => "the certificate that signs the QE identity is not from the root",
            E::PckChain => "the PCK certificate is not from an authority under the root",
            E::ChainRefused => "a certificate or revocation list breaks a rule of its kind",
            E::TcbInfoSignature => "the TCB info's signature is wrong",
            E::QeIdentitySignature => "the QE identity's signature is wrong",
            E::QeReportSignature => "the signature over the quoting enclave's report is wrong",
            E::QeReportData => "the quoting enclave did not vouch for this attestation key",
            E::QeIdentityMismatch => "the quoting enclave is not the one that Intel's identity describes",
            E::QeLevelNone => "the quoting enclave is older than every level that Intel lists",
            E::QuoteSignature => "the quote's signature is wrong",
            E::TcbLevelNone => "the platform meets no level that Intel lists",
            E::TdxModuleUnknown => "the TDX module's version is not one that Intel lists for this platform",
            E::TdxModuleLevelNone => "the TDX module is older than every level that Intel lists",
            E::TdxModuleSigner => "the TDX module has another signer than Intel says",
            E::TdxModuleAttributes => "the TDX module has other attributes than Intel says",
            E::TcbRevoked => "the platform's level is revoked",
            E::Advisories => "an advisory that applies to the platform has no readable name",
            E::TdAttributesReserved => "reserved bits of the TD's attributes are set",
            E::TdMigratable => "the TD can be migrated to another machine",
            E::TdServtdExt => "the TD has service TDs, but its quote cannot say which",
            E::SeptVeDisable => "the TD does not have SEPT_VE_DISABLE set",
            E::QuoteAmbiguous => "the quote or its collateral can be read in two ways",
            E::QuoteRefused => "the quote was refused for a reason that has no name here",
        };
        f.write_str(text)
    }
}
