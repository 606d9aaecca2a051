//! Key release: turns an appraised verdict at the broker into a key in the enclave, over the RCAR handshake.
//! No I/O and no clock. It does not decide who deserves a key: `vouchsafe-policies` appraises, the broker gates.

pub mod bundle;
pub mod client;
pub mod error;
pub mod grant;
pub mod jwe;
pub mod lease;
pub mod rcar;
pub mod record;
pub mod wrapped;

pub use bundle::{KeyGrant, SignedBundle};
pub use error::ReleaseError;
pub use grant::{GrantContext, grant};
pub use jwe::TeeKey;
pub use lease::Lease;
pub use rcar::TeePubKey;
pub use record::ModelKeyRecord;
pub use wrapped::{WrapPublic, WrapSecret};
