//! Is this evidence genuine? Turns attestation evidence into an [`Authentic`] verdict, and names the bytes both ends hash.
//! Pure: no I/O, no clock, no async, no features. It does not say whether the evidence is *wanted*: that is the policy's word.

pub mod anchors;
pub mod caller;
pub mod claims;
pub mod collateral;
pub mod dsse;
pub mod encoding;
pub mod error;
pub mod evidence;
pub mod keys;
pub mod lp;
pub mod mode;
pub mod process;
pub mod receipt;
pub mod session;
pub mod snp;
pub mod tdx;
pub mod time;
pub mod verify;

pub use anchors::Anchors;
pub use claims::Claims;
pub use encoding::EncodingError;
pub use error::VerifyError;
pub use evidence::{Collateral, Evidence, EvidenceEnvelope, SnpEnvelope, TdxCollateral, TdxEnvelope};
pub use keys::Ed25519Public;
pub use mode::{Mode, Tee};
pub use snp::LeafCache;
pub use time::UnixTime;
pub use verify::{Authentic, Facts, Step, verify, verify_cached};
