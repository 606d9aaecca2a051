//! Turns SEV-SNP reports, leaf certificates and revocation lists into one verdict.
//! It does not appraise: which measurements, versions or machines are wanted is the policy's word.

pub(crate) mod chain;
pub(crate) mod crl;
pub(crate) mod layout;
pub(crate) mod leaf;
mod product;
mod report;
mod tcb;
pub(crate) mod verify;
pub(crate) mod x509;

pub use crl::CrlFacts;
pub use layout::{Field, Kind, REPORT_LAYOUT};
pub use leaf::LeafKind;
pub use product::Product;
pub use report::{Cpuid, FirmwareVersion, GuestPolicy, KeyInfo, PlatformInfo, Report, SigningKey};
pub use tcb::{Tcb, TcbComponent};
