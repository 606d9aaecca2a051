//! Turns the vendor's words "how long, how often" into the two numbers that travel in every key bundle.
//! A lease is no clock: the enclave runs it on the guest's monotonic time, and only `max_requests` is a hard bound on SNP.

use serde::{Deserialize, Serialize};

use crate::ReleaseError;

/// How long and for how many requests a key may be used before a full handshake must renew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Seconds, counted in the guest from before the request was sent.
    pub ttl_s: u64,
    /// Inference requests.
    pub max_requests: u64,
}

impl Lease {
    /// One hour, one hundred thousand requests: what `broker init` writes when nothing else is said.
    pub const DEFAULT: Self = Self { ttl_s: 3_600, max_requests: 100_000 };

    /// Refuses a lease that grants nothing.
    ///
    /// # Errors
    /// `LEASE_EMPTY`.
    pub const fn granting(self) -> Result<Self, ReleaseError> {
        if self.ttl_s == 0 || self.max_requests == 0 {
            return Err(ReleaseError::LeaseEmpty);
        }
        Ok(self)
    }
}
