//! Turns the operating system's clock into the one time that a request is handled under.
//! The broker stands at the vendor's and believes its own clock; a peer's clock is never asked.

use std::time::{SystemTime, UNIX_EPOCH};

use vouchsafe_attestation::UnixTime;

/// Now.
pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}
