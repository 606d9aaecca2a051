//! What may be done with a model? Turns a vendor's signed usage policy into limits that an enclave enforces.
//! It does not verify the signature: the sealed package does, before these bytes are read.

mod enforce;
mod error;
mod schema;
mod template;

pub use enforce::InputFacts;
pub use error::{UsageError, UsageRefusal};
pub use schema::{Dtype, Expires, InputRule, Inputs, Limits, MAX_USAGE_POLICY, UsagePolicy};
