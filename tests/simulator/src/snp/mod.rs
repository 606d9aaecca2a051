//! Turns guests and keys into SEV-SNP evidence, honest or wrong in any place.
//! Nothing it signs proves anything about hardware.

pub mod certificates;
mod making;
pub mod report;

pub use making::SnpMaking;
pub use report::{ReportFields, Tcb};
