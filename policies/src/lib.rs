//! What do we accept, and what may be done? Turns genuine evidence and a written policy into an [`Appraised`] verdict.
//! It does not say whether evidence is genuine: [`vouchsafe_attestation::verify()`] does, and [`appraise`] takes only its verdict.

mod appraise;
mod binding;
mod check;
mod clock;
mod error;
mod explain;
mod facts;
mod init;
mod listed;
mod policy;
mod raw;
mod refusal;
mod rules;
mod table;
mod total;

pub mod presets;
pub mod usage;

pub use appraise::{Appraised, appraise};
pub use binding::{Binding, Expected};
pub use check::{Check, Class};
pub use clock::{RULES_WRITTEN, plausible};
pub use error::PolicyError;
pub use init::{InitAnchors, InitModel, InitOptions, InitSnp, InitTdx, init_text};
pub use listed::Listed;
pub use policy::Policy;
pub use raw::MAX_POLICY;
pub use refusal::{Reason, Refusal};
pub use rules::dates::{Dated, Written};
pub use rules::snp::{
    AnnouncedFloor, CpuFloor, CrlRules, CurrentFloor, GuestPolicyRules, PlatformRules, SnpRules, TcbFloor,
};
pub use rules::tdx::{
    AnnouncedEvaluation, CollateralRules, PckRules, StatusGrace, TdAttributeRules, TdxRules, TdxTcbRules,
};
pub use rules::words::{Forbid, Need};
pub use table::{Outcome, Prover, Row};
pub use total::{ModelRule, Rules};
