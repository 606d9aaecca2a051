//! Turns the parts of TDX collateral into names, and the failures that each can have into stable codes.
//! It does not read or judge any of them.

use std::fmt;

/// A part of the collateral, or a certificate on the way from the root to the quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// TCB info: which levels of a family of processors Intel knows, and what it says of each.
    TcbInfo,
    /// Its signature.
    TcbInfoSignature,
    /// The certificate that signs it, with its chain.
    TcbSigner,
    /// QE identity: which quoting enclave is Intel's.
    QeIdentity,
    /// Its signature.
    QeIdentitySignature,
    /// The certificate that signs it, with its chain.
    QeSigner,
    /// Revocation list of the root.
    RootCrl,
    /// Revocation list of the authority that issued the PCK certificate.
    PckCrl,
    /// That authority's chain, as it comes with the list.
    PckCrlIssuer,
    /// The platform's certificate, with its chain, in the quote.
    Pck,
    /// The authority that issued it, in the quote.
    PckCa,
    /// The root.
    Root,
}

/// The codes of one item. Where a failure cannot happen to an item, the code is never shown.
pub(crate) struct Codes {
    pub(crate) missing: &'static str,
    pub(crate) length: &'static str,
    pub(crate) malformed: &'static str,
    pub(crate) expired: &'static str,
    pub(crate) not_yet_valid: &'static str,
    pub(crate) revoked: &'static str,
}

macro_rules! codes {
    ($word:literal) => {
        Codes {
            missing: concat!($word, "_MISSING"),
            length: concat!($word, "_LENGTH"),
            malformed: concat!($word, "_MALFORMED"),
            expired: concat!($word, "_EXPIRED"),
            not_yet_valid: concat!($word, "_NOT_YET_VALID"),
            revoked: concat!($word, "_REVOKED"),
        }
    };
}

impl Item {
    pub(crate) const fn codes(self) -> Codes {
        match self {
            Self::TcbInfo => codes!("TCB_INFO"),
            Self::TcbInfoSignature => codes!("TCB_INFO_SIGNATURE"),
            Self::TcbSigner => codes!("TCB_SIGNER"),
            Self::QeIdentity => codes!("QE_IDENTITY"),
            Self::QeIdentitySignature => codes!("QE_IDENTITY_SIGNATURE"),
            Self::QeSigner => codes!("QE_SIGNER"),
            Self::RootCrl => codes!("ROOT_CRL"),
            Self::PckCrl => codes!("PCK_CRL"),
            Self::PckCrlIssuer => codes!("PCK_CRL_CHAIN"),
            Self::Pck => codes!("PCK"),
            Self::PckCa => codes!("PCK_CA"),
            Self::Root => codes!("ANCHOR"),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TcbInfo => "the TCB info",
            Self::TcbInfoSignature => "the TCB info's signature",
            Self::TcbSigner => "the certificate that signs the TCB info",
            Self::QeIdentity => "the QE identity",
            Self::QeIdentitySignature => "the QE identity's signature",
            Self::QeSigner => "the certificate that signs the QE identity",
            Self::RootCrl => "the root's revocation list",
            Self::PckCrl => "the PCK revocation list",
            Self::PckCrlIssuer => "the issuer chain of the PCK revocation list",
            Self::Pck => "the PCK certificate",
            Self::PckCa => "the authority of the PCK certificate",
            Self::Root => "the root certificate",
        })
    }
}
