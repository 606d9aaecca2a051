//! Turns the relying party's clock into a time that can be right: not before the rules of this release were written.
//! It does not say that the clock *is* right; nothing in this process could.

use vouchsafe_attestation::UnixTime;

use crate::PolicyError;

/// 2026-11-21T00:00:00Z: when the shipped bases were written. Raised with them.
pub const RULES_WRITTEN: UnixTime = UnixTime(1_795_219_200);

/// Refuses a clock that shows a time before this release. For live decisions; a verification of old evidence brings its own time.
///
/// # Errors
/// `CLOCK_BEFORE_BUILD`.
pub fn plausible(now: UnixTime) -> Result<UnixTime, PolicyError> {
    if now < RULES_WRITTEN { Err(PolicyError::Clock(now)) } else { Ok(now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_day_is_the_first_possible_second() {
        assert_eq!(RULES_WRITTEN.to_string(), "2026-11-21T00:00:00Z");
        assert!(plausible(RULES_WRITTEN).is_ok());
        let error = plausible(UnixTime(RULES_WRITTEN.0 - 1)).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("CLOCK_BEFORE_BUILD", 9));
        assert!(error.to_string().contains("2026-11-20T23:59:59Z") && error.advice().contains("clock"));
    }
}
