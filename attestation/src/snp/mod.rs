//! Turns SEV-SNP reports, leaf certificates and revocation lists into one verdict.
//! It does not appraise: which measurements, versions or machines are wanted is the policy's word.

mod cache;
pub(crate) mod chain;
pub(crate) mod crl;
pub(crate) mod layout;
pub(crate) mod leaf;
mod product;
mod report;
mod tcb;
pub(crate) mod verify;
pub(crate) mod x509;

pub use cache::{LEAF_CACHE_ENTRIES, LeafCache};
pub use crl::CrlFacts;
pub use layout::{Bit, Field, Kind, REPORT_BITS, REPORT_LAYOUT, Source};
pub use leaf::LeafKind;
pub use product::Product;
pub use report::{Cpuid, FirmwareVersion, GuestPolicy, KeyInfo, PlatformInfo, Report, SigningKey};
pub use tcb::{Tcb, TcbComponent};

/// What a verified SEV-SNP report vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpFacts {
    /// The processor's product line.
    pub product: Product,
    /// Which kind of key signed the report.
    pub leaf_kind: LeafKind,
    /// The cloud provider named in a VLEK; a VCEK names none.
    pub csp: Option<String>,
    /// Number and window of the revocation list that was used.
    pub crl: CrlFacts,
    /// All fields of the report.
    pub report: Report,
    /// The chip: the one that a VCEK was issued for, also where the host masks it in the report; with a VLEK, the report's.
    pub chip_id: [u8; 64],
}
