//! What do we accept, and what may be done? Turns genuine evidence and a written policy into an [`Appraised`] verdict.
//! It does not say whether evidence is genuine: [`vouchsafe_attestation::verify()`] does, and [`appraise`] takes only its verdict.

mod appraise;
mod binding;
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
pub use binding::Expected;
pub use error::PolicyError;
pub use init::{InitAnchors, InitModel, InitOptions, init_text};
pub use listed::Listed;
pub use policy::Policy;
pub use raw::MAX_POLICY;
pub use refusal::{Check, Class, Reason, Refusal};
pub use rules::snp::{CpuFloor, Forbid, GuestPolicyRules, Need, PlatformRules, SnpRules, TcbFloor};
pub use table::{Outcome, Prover, Row};
pub use total::{CrlRules, ModelRule, Rules};
