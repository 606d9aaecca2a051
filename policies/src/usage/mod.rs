//! What may be done with a model? Turns a vendor's signed usage policy into limits that an enclave enforces.
//! It does not verify the signature: the sealed package does, before these bytes are read.

mod callers;
mod dtype;
mod enforce;
mod error;
mod fits;
mod inputs;
mod outputs;
mod quotas;
mod schema;
mod shape;
mod template;

pub use callers::{Caller, Callers, Credential, Role};
pub use dtype::Dtype;
pub use enforce::InputFacts;
pub use error::{UsageError, UsageRefusal};
pub use fits::PortFacts;
pub use inputs::{InputRule, Inputs, Range};
pub use outputs::{OutputRule, Outputs, Shaping};
pub use quotas::{Quota, QuotaBook};
pub use schema::{Expires, Limits, MAX_USAGE_POLICY, UsagePolicy};
