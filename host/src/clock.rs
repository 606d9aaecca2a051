//! Turns `--at`, or else this machine's clock, into the time of a verdict.
//! It cannot tell whether the clock is right: only that it is not older than this release.

use vouchsafe_attestation::UnixTime;
use vouchsafe_policies::plausible;

use crate::{failure::Failure, verify};

/// The time that the reader names, or now. A named time may lie before this release: old evidence is judged as of its own day.
pub fn as_of(at: Option<&str>) -> Result<UnixTime, Failure> {
    match at {
        Some(text) => UnixTime::parse_rfc3339(text)
            .map_err(|e| Failure::usage(format!("--at: {e}"), "for example 2026-11-21T12:00:00Z")),
        None => Ok(plausible(UnixTime(verify::now()))?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_time_may_be_old_and_the_clock_may_not() {
        assert!(as_of(None).is_ok(), "the clock of the machine that runs this test");
        assert_eq!(as_of(Some("2026-03-01T00:00:00Z")).unwrap(), UnixTime(1_772_323_200));
        assert_eq!(as_of(Some("yesterday")).unwrap_err().code, "USAGE");
        let refused = Failure::from(plausible(UnixTime(1_772_323_200)).unwrap_err());
        assert_eq!((refused.code, refused.exit), ("CLOCK_BEFORE_BUILD", 9));
    }
}
