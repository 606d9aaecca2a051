//! Turns every way in which evidence, collateral or anchors can fail into one stable code, exit status and piece of advice.
//! It does not establish anything: a code says which rule refused, not what an attacker intended.

use std::fmt;

use crate::{
    snp::{Product, TcbComponent},
    tdx::TdxError,
};

/// Why evidence is not authentic, or why the collateral or anchors needed to decide are missing or stale.
///
/// Each variant belongs to one numbered step of the orchestrator (`snp/verify.rs`); the anchors have step 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    // ---- step 0: building the anchors ----
    /// The simulated root file does not have the SHA-256 that the policy names.
    AnchorDigest,
    /// An anchor file is not three (simulated) or one (compiled-in) PEM certificates of the expected form.
    AnchorMalformed,
    /// A compiled-in anchor differs from its SHA-256 pin.
    AnchorPin,
    /// A simulated anchor has a common name other than ARK-SIM, ASK-SIM or SGX-ROOT-SIM, in this order.
    AnchorName,
    /// A simulated anchor lacks the simulation marker.
    AnchorMarker,
    /// An anchor's own signature does not verify under the ARK, or under the root of TDX.
    AnchorSignature,

    // ---- step 1: sizes ----
    /// The collateral is of another technology than the evidence.
    CollateralKind,
    /// No leaf certificate was supplied.
    LeafMissing,
    /// The leaf certificate is larger than the cap.
    LeafLength {
        /// Bytes received.
        actual: usize,
    },
    /// No certificate revocation list was supplied.
    CrlMissing,
    /// The certificate revocation list is larger than the cap.
    CrlLength {
        /// Bytes received.
        actual: usize,
    },

    /// The certificate of the authority of loaded keys is larger than the cap.
    AsvkLength {
        /// Bytes received.
        actual: usize,
    },

    // ---- step 2: frame ----
    /// The report is not exactly 1184 bytes.
    ReportLength {
        /// Bytes received.
        actual: usize,
    },

    // ---- step 3: version ----
    /// The report version is not 2, 3 or 5.
    ReportVersion {
        /// Version in the report.
        actual: u32,
    },

    // ---- step 4: algorithm ----
    /// The report's signature algorithm is not ECDSA P-384 with SHA-384.
    SignatureAlgorithm {
        /// Value in the report.
        actual: u32,
    },

    // ---- step 5: reserved ----
    /// A reserved bit of the report has a value that the specification forbids.
    ReportReserved {
        /// Offset of the first offending byte.
        offset: usize,
    },
    /// Unsigned padding after the signature components is not zero.
    SignaturePadding {
        /// Offset of the first offending byte.
        offset: usize,
    },

    // ---- step 6: product ----
    /// The processor named in the report is not one that this build knows.
    ProductUnknown {
        /// Combined CPUID family.
        family: u8,
        /// Combined CPUID model.
        model: u8,
    },

    // ---- step 7: leaf ----
    /// The leaf is not a well-formed DER certificate of the expected shape.
    LeafMalformed,
    /// The leaf is not signed with RSASSA-PSS, SHA-384, MGF1 SHA-384 and a salt of 48 bytes.
    LeafAlgorithm,
    /// The leaf's public key is not an uncompressed P-384 point.
    LeafKey,
    /// The leaf carries the simulation marker but the anchors are hardware anchors.
    LeafSimulated,
    /// The leaf lacks the simulation marker but the anchors are a simulated root.
    LeafNotSimulated,
    /// The leaf's common name is not the one that its root requires.
    LeafName,
    /// An extension occurs twice in the leaf.
    LeafExtensionDuplicate,
    /// A required AMD extension is missing from the leaf.
    LeafExtensionMissing,
    /// A chip's leaf names a provider, or a provider's leaf names a chip.
    LeafExtensionUnexpected,
    /// An AMD extension of the leaf has a value that is not canonical.
    LeafExtensionValue,
    /// The leaf has a critical extension that this build does not know.
    LeafExtensionCritical,
    /// The product named in the leaf is not the report's product.
    LeafProduct,
    /// The hardware identifier in the leaf has a wrong length for the product.
    LeafHwid,
    /// The provider named in a VLEK is empty or holds unprintable characters.
    LeafCsp,

    // ---- step 8: chain ----
    /// The anchors have no root for this product.
    AnchorMissing {
        /// The report's product.
        product: Product,
    },
    /// A VLEK came without its authority's certificate.
    AsvkMissing,
    /// A VCEK came with an authority for loaded keys.
    AsvkUnexpected,
    /// The ASVK is not the one whose SHA-256 is compiled in.
    AsvkPin,
    /// The ASVK is not a well-formed DER certificate of the expected shape.
    AsvkMalformed,
    /// A simulated ASVK lacks the simulation marker.
    AsvkMarker,
    /// The ASVK's common name is not the one that its root requires.
    AsvkName,
    /// The ASVK is not signed with RSASSA-PSS and SHA-384.
    AsvkAlgorithm,
    /// The ASVK was issued by another authority than the product's ARK.
    AsvkIssuer,
    /// The ASVK's signature does not verify under the ARK.
    AsvkSignature,
    /// The leaf's issuer is not the ASK (of a VCEK) or ASVK (of a VLEK) of the product.
    LeafIssuer,
    /// The leaf's signature does not verify under its issuer.
    LeafSignature,
    /// The leaf is past its end date.
    LeafExpired,
    /// The leaf is not yet in force.
    LeafNotYetValid,
    /// The ARK, ASK or ASVK is past its end date.
    AnchorExpired,
    /// The ARK, ASK or ASVK is not yet in force.
    AnchorNotYetValid,

    // ---- step 9: crl ----
    /// The revocation list is not well-formed.
    CrlMalformed,
    /// The revocation list is not signed with RSASSA-PSS and SHA-384.
    CrlAlgorithm,
    /// The revocation list has a critical extension that this build does not know.
    CrlExtensionCritical,
    /// The revocation list was issued by another authority.
    CrlIssuer,
    /// The revocation list's signature does not verify under the ARK.
    CrlSignature,
    /// The revocation list is past its next update.
    CrlExpired,
    /// The revocation list was issued in the future.
    CrlNotYetValid,
    /// The ASK, which issued the VCEK, is revoked.
    AskRevoked,
    /// The ASVK, which issued the VLEK, is revoked.
    AsvkRevoked,

    // ---- step 10: signature ----
    /// The report's signature does not verify under the leaf's key.
    SignatureInvalid,

    // ---- step 11: signer ----
    /// The report's SIGNING_KEY field disagrees with the kind of leaf.
    SignerKey {
        /// Value in the report.
        actual: u8,
    },
    /// The report says that the chip key is masked, yet a chip key signed it.
    SignerMasked,
    /// AUTHOR_KEY_EN and AUTHOR_KEY_DIGEST disagree.
    SignerAuthorKey,

    // ---- step 12: tcb ----
    /// A reserved byte of a TCB version is not zero.
    TcbReserved,
    /// REPORTED_TCB differs from the version that the leaf was issued for.
    TcbMismatch {
        /// First component that differs.
        component: TcbComponent,
    },

    // ---- step 13: identity ----
    /// CHIP_ID differs from the leaf's hardware identifier.
    HwidMismatch,
    /// The host, not the guest, requested the report.
    HostRequested,
    /// VMPL is not 0 to 3.
    VmplRange,
    /// A migration agent is bound although the guest policy forbids one.
    ReportIdMa,

    /// Everything about TDX, with steps of its own.
    Tdx(TdxError),
}

impl From<TdxError> for VerifyError {
    fn from(error: TdxError) -> Self {
        Self::Tdx(error)
    }
}

/// Exit status for evidence that is not authentic (DESIGN section 10).
const NOT_AUTHENTIC: u8 = 2;
/// Exit status for collateral that is missing or stale.
const COLLATERAL: u8 = 3;

const FORGED: &str = "treat the peer as hostile: genuine firmware never produces this";
const RESEND: &str = "ask the peer for fresh evidence; if it happens again the peer is broken or hostile";
const NEW_CRL: &str = "the machine's operator must fetch the current revocation list of this product from AMD";
const NEW_LEAF: &str = "the machine's operator must fetch the current leaf certificate of this chip from AMD";
const POLICY_ROOT: &str = "compare the root file and its SHA-256 with those written in your policy";
const NEW_ASVK: &str =
    "the machine's operator must send AMD's own certificate of the authority of loaded keys with a VLEK";
const REVOKED: &str = "the authority that issued this machine's certificate is revoked: do not use the machine";
const REINSTALL: &str = "this build is damaged: install it again from a source that you have verified";
const UPGRADE: &str = "use a newer version of this software, or evidence of a supported kind";
const CLOCK: &str = "compare this machine's clock with a reliable one, then renew the collateral";

impl VerifyError {
    /// The stable code, in SCREAMING_SNAKE case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.row().1
    }

    /// The exit status of a command that fails with this error.
    #[must_use]
    pub fn exit(&self) -> u8 {
        self.row().2
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        self.row().3
    }

    /// The number of the step that refused; 0 while the anchors were built.
    #[must_use]
    pub fn step(&self) -> u8 {
        self.row().0
    }

    /// (step, code, exit, advice)
    fn row(&self) -> (u8, &'static str, u8, &'static str) {
        use VerifyError as E;
        const N: u8 = NOT_AUTHENTIC;
        const C: u8 = COLLATERAL;
        match self {
            E::AnchorDigest => (0, "ANCHOR_DIGEST", N, POLICY_ROOT),
            E::AnchorMalformed => (0, "ANCHOR_MALFORMED", N, POLICY_ROOT),
            E::AnchorPin => (0, "ANCHOR_PIN", N, REINSTALL),
            E::AnchorName => (0, "ANCHOR_NAME", N, POLICY_ROOT),
            E::AnchorMarker => (0, "ANCHOR_MARKER", N, POLICY_ROOT),
            E::AnchorSignature => (0, "ANCHOR_SIGNATURE", N, POLICY_ROOT),
            E::CollateralKind => (1, "COLLATERAL_KIND", N, RESEND),
            E::LeafMissing => (1, "LEAF_MISSING", C, NEW_LEAF),
            E::LeafLength { .. } => (1, "LEAF_LENGTH", N, RESEND),
            E::CrlMissing => (1, "CRL_MISSING", C, NEW_CRL),
            E::CrlLength { .. } => (1, "CRL_LENGTH", N, RESEND),
            E::AsvkLength { .. } => (1, "ASVK_LENGTH", N, RESEND),
            E::ReportLength { .. } => (2, "REPORT_LENGTH", N, RESEND),
            E::ReportVersion { .. } => (3, "REPORT_VERSION", N, UPGRADE),
            E::SignatureAlgorithm { .. } => (4, "SIGNATURE_ALGORITHM", N, FORGED),
            E::ReportReserved { .. } => (5, "REPORT_RESERVED", N, UPGRADE),
            E::SignaturePadding { .. } => (5, "SIGNATURE_PADDING", N, FORGED),
            E::ProductUnknown { .. } => (6, "PRODUCT_UNKNOWN", N, UPGRADE),
            E::LeafMalformed => (7, "LEAF_MALFORMED", N, RESEND),
            E::LeafAlgorithm => (7, "LEAF_ALGORITHM", N, FORGED),
            E::LeafKey => (7, "LEAF_KEY", N, FORGED),
            E::LeafSimulated => (
                7,
                "LEAF_SIMULATED",
                N,
                "this machine is a simulation: rehearse with a simulation policy, or use real hardware",
            ),
            E::LeafNotSimulated => (
                7,
                "LEAF_NOT_SIMULATED",
                N,
                "the peer is not this simulated root's machine: use a hardware policy for real hardware",
            ),
            E::LeafName => (7, "LEAF_NAME", N, FORGED),
            E::LeafExtensionDuplicate => (7, "LEAF_EXTENSION_DUPLICATE", N, FORGED),
            E::LeafExtensionMissing => (7, "LEAF_EXTENSION_MISSING", N, FORGED),
            E::LeafExtensionUnexpected => (7, "LEAF_EXTENSION_UNEXPECTED", N, FORGED),
            E::LeafExtensionValue => (7, "LEAF_EXTENSION_VALUE", N, FORGED),
            E::LeafExtensionCritical => (7, "LEAF_EXTENSION_CRITICAL", N, UPGRADE),
            E::LeafProduct => (7, "LEAF_PRODUCT", N, NEW_LEAF),
            E::LeafHwid => (7, "LEAF_HWID", N, FORGED),
            E::LeafCsp => (7, "LEAF_CSP", N, FORGED),
            E::AnchorMissing { .. } => (
                8,
                "ANCHOR_MISSING",
                N,
                "the root named in your policy does not cover this processor: name one that does, or refuse the peer",
            ),
            E::AsvkMissing => (8, "ASVK_MISSING", C, NEW_ASVK),
            E::AsvkUnexpected => (8, "ASVK_UNEXPECTED", N, RESEND),
            E::AsvkPin => (8, "ASVK_PIN", N, NEW_ASVK),
            E::AsvkMalformed => (8, "ASVK_MALFORMED", N, RESEND),
            E::AsvkMarker => (8, "ASVK_MARKER", N, FORGED),
            E::AsvkName => (8, "ASVK_NAME", N, FORGED),
            E::AsvkAlgorithm => (8, "ASVK_ALGORITHM", N, FORGED),
            E::AsvkIssuer => (8, "ASVK_ISSUER", N, FORGED),
            E::AsvkSignature => (8, "ASVK_SIGNATURE", N, FORGED),
            E::LeafIssuer => (8, "LEAF_ISSUER", N, NEW_LEAF),
            E::LeafSignature => (8, "LEAF_SIGNATURE", N, FORGED),
            E::LeafExpired => (8, "LEAF_EXPIRED", C, NEW_LEAF),
            E::LeafNotYetValid => (8, "LEAF_NOT_YET_VALID", C, CLOCK),
            E::AnchorExpired => (8, "ANCHOR_EXPIRED", C, UPGRADE),
            E::AnchorNotYetValid => (8, "ANCHOR_NOT_YET_VALID", C, CLOCK),
            E::CrlMalformed => (9, "CRL_MALFORMED", N, NEW_CRL),
            E::CrlAlgorithm => (9, "CRL_ALGORITHM", N, NEW_CRL),
            E::CrlExtensionCritical => (9, "CRL_EXTENSION_CRITICAL", N, UPGRADE),
            E::CrlIssuer => (9, "CRL_ISSUER", N, NEW_CRL),
            E::CrlSignature => (9, "CRL_SIGNATURE", N, NEW_CRL),
            E::CrlExpired => (9, "CRL_EXPIRED", C, NEW_CRL),
            E::CrlNotYetValid => (9, "CRL_NOT_YET_VALID", C, CLOCK),
            E::AskRevoked => (9, "ASK_REVOKED", N, REVOKED),
            E::AsvkRevoked => (9, "ASVK_REVOKED", N, REVOKED),
            E::SignatureInvalid => (10, "SIGNATURE_INVALID", N, RESEND),
            E::SignerKey { .. } => (11, "SIGNER_KEY", N, FORGED),
            E::SignerMasked => (11, "SIGNER_MASKED", N, FORGED),
            E::SignerAuthorKey => (11, "SIGNER_AUTHOR_KEY", N, FORGED),
            E::TcbReserved => (12, "TCB_RESERVED", N, UPGRADE),
            E::TcbMismatch { .. } => (12, "TCB_MISMATCH", N, NEW_LEAF),
            E::HwidMismatch => (13, "HWID_MISMATCH", N, NEW_LEAF),
            E::HostRequested => (
                13,
                "HOST_REQUESTED",
                N,
                "the host asked for this report itself: it proves nothing about the guest, treat the peer as hostile",
            ),
            E::VmplRange => (13, "VMPL_RANGE", N, FORGED),
            E::ReportIdMa => (13, "REPORT_ID_MA", N, FORGED),
            E::Tdx(error) => error.row(),
        }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use VerifyError as E;
        match self {
            E::AnchorDigest => f.write_str("the root file does not have the SHA-256 that is expected of it"),
            E::AnchorMalformed => f.write_str("the root file does not hold exactly the certificates it should"),
            E::AnchorPin => f.write_str("a compiled-in root certificate differs from its pin"),
            E::AnchorName => {
                f.write_str("a certificate of the simulated root has another name than a simulated one must have")
            }
            E::AnchorMarker => f.write_str("the simulation marker is missing from a simulated root"),
            E::AnchorSignature => f.write_str("a root certificate is not signed by its root's own key"),
            E::CollateralKind => f.write_str("the collateral is of another technology than the evidence"),
            E::LeafMissing => f.write_str("there is no leaf certificate with the evidence"),
            E::LeafLength { actual } => write!(f, "the leaf certificate has {actual} bytes, which is above the cap"),
            E::CrlMissing => f.write_str("there is no revocation list with the evidence"),
            E::CrlLength { actual } => write!(f, "the revocation list has {actual} bytes, which is above the cap"),
            E::AsvkLength { actual } => {
                write!(f, "the certificate of the authority of loaded keys has {actual} bytes, which is above the cap")
            }
            E::ReportLength { actual } => write!(f, "the report has {actual} bytes instead of 1184"),
            E::ReportVersion { actual } => write!(f, "the report has version {actual}; only 2, 3 and 5 are known"),
            E::SignatureAlgorithm { actual } => {
                write!(f, "the report names signature algorithm {actual} instead of 1 (ECDSA P-384 with SHA-384)")
            }
            E::ReportReserved { offset } => {
                write!(f, "the report has a forbidden value in the reserved byte at {offset:#05x}")
            }
            E::SignaturePadding { offset } => write!(f, "the report has a non-zero padding byte at {offset:#05x}"),
            E::ProductUnknown { family, model } => {
                write!(
                    f,
                    "the report names a processor of family {family:#04x} and model {model:#04x}, which is not known"
                )
            }
            E::LeafMalformed => f.write_str("the leaf certificate is not well-formed"),
            E::LeafAlgorithm => f.write_str("the leaf certificate is not signed with RSASSA-PSS and SHA-384"),
            E::LeafKey => f.write_str("the leaf certificate does not hold a P-384 key"),
            E::LeafSimulated => {
                f.write_str("the evidence comes from a SIMULATED processor, but real hardware is required")
            }
            E::LeafNotSimulated => {
                f.write_str("the evidence does not carry the simulation marker, but a simulated root is required")
            }
            E::LeafName => f.write_str("the leaf certificate has another name than its root requires"),
            E::LeafExtensionDuplicate => f.write_str("the leaf certificate states an extension twice"),
            E::LeafExtensionMissing => f.write_str("the leaf certificate lacks a required extension"),
            E::LeafExtensionUnexpected => {
                f.write_str("the leaf certificate names a chip and a provider, or the one where the other belongs")
            }
            E::LeafExtensionValue => f.write_str("an extension of the leaf certificate is not encoded canonically"),
            E::LeafExtensionCritical => f.write_str("the leaf certificate has an unknown critical extension"),
            E::LeafProduct => f.write_str("the leaf certificate is for another product than the report"),
            E::LeafHwid => f.write_str("the hardware identifier in the leaf certificate has a wrong length"),
            E::LeafCsp => f.write_str("the provider named in the leaf certificate is empty or not printable"),
            E::AnchorMissing { product } => write!(f, "the roots do not cover the product {product}"),
            E::AsvkMissing => f.write_str("there is no certificate of the authority that issues loaded keys (VLEK)"),
            E::AsvkUnexpected => f.write_str("an authority of loaded keys came with a chip's own key (VCEK)"),
            E::AsvkPin => f.write_str("the authority of loaded keys is not AMD's for this product"),
            E::AsvkMalformed => f.write_str("the certificate of the authority of loaded keys is not well-formed"),
            E::AsvkMarker => f.write_str("the simulation marker is missing from the authority of loaded keys"),
            E::AsvkName => f.write_str("the authority of loaded keys has another name than its root requires"),
            E::AsvkAlgorithm => f.write_str("the authority of loaded keys is not signed with RSASSA-PSS and SHA-384"),
            E::AsvkIssuer => f.write_str("the authority of loaded keys was not issued by the product's root"),
            E::AsvkSignature => f.write_str("the signature of the authority of loaded keys is wrong"),
            E::LeafIssuer => f.write_str("the leaf certificate was not issued by the product's signing authority"),
            E::LeafSignature => f.write_str("the leaf certificate's signature is wrong"),
            E::LeafExpired => f.write_str("the leaf certificate has expired"),
            E::LeafNotYetValid => f.write_str("the leaf certificate is not yet in force"),
            E::AnchorExpired => f.write_str("a root certificate has expired"),
            E::AnchorNotYetValid => f.write_str("a root certificate is not yet in force"),
            E::CrlMalformed => f.write_str("the revocation list is not well-formed"),
            E::CrlAlgorithm => f.write_str("the revocation list is not signed with RSASSA-PSS and SHA-384"),
            E::CrlExtensionCritical => f.write_str("the revocation list has an unknown critical extension"),
            E::CrlIssuer => f.write_str("the revocation list is from another authority than the product's root"),
            E::CrlSignature => f.write_str("the revocation list's signature is wrong"),
            E::CrlExpired => f.write_str("the revocation list is past its next update"),
            E::CrlNotYetValid => f.write_str("the revocation list was issued in the future"),
            E::AskRevoked => f.write_str("the product's signing authority is revoked"),
            E::AsvkRevoked => f.write_str("the product's authority of loaded keys is revoked"),
            E::SignatureInvalid => f.write_str("the report's signature is wrong"),
            E::SignerKey { actual } => {
                write!(f, "the report says that key kind {actual} signed it, which the leaf certificate contradicts")
            }
            E::SignerMasked => f.write_str("the report says that the chip key is masked, yet the chip key signed it"),
            E::SignerAuthorKey => {
                f.write_str("the report's author key flag and author key digest contradict each other")
            }
            E::TcbReserved => f.write_str("a reserved byte of a TCB version in the report is not zero"),
            E::TcbMismatch { component } => {
                write!(f, "the leaf certificate was issued for another {component} version than the report states")
            }
            E::HwidMismatch => f.write_str("the report is from another chip than the leaf certificate"),
            E::HostRequested => f.write_str("the report was requested by the host, not by the guest"),
            E::VmplRange => f.write_str("the report's privilege level is not 0 to 3"),
            E::ReportIdMa => f.write_str("the report names a migration agent although its guest policy forbids one"),
            E::Tdx(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for VerifyError {}
