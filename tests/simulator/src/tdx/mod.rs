//! Turns guests and keys into TDX evidence, honest or wrong in any place: quote, collateral and local report.
//! Nothing it signs proves anything about hardware.

pub mod collateral;
mod making;
pub mod pki;
pub mod quote;
pub mod report;

pub use collateral::CollateralSpec;
pub use making::TdxMaking;
pub use pki::Pki;
pub use quote::{QuoteSpec, TdFields};
pub use report::TdReport;
