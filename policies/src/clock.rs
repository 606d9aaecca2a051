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

    /// Every `written` of the bases.
    fn days(value: &toml::Value, days: &mut Vec<UnixTime>) {
        for (key, value) in value.as_table().into_iter().flatten() {
            match value.as_str().filter(|_| key == "written") {
                Some(day) => days.push(UnixTime::parse_rfc3339(&format!("{day}T00:00:00Z")).unwrap()),
                None => self::days(value, days),
            }
        }
    }

    #[test]
    fn the_release_is_as_old_as_the_newest_floor_of_its_bases() {
        let mut found = Vec::new();
        for preset in crate::presets::ALL {
            days(&toml::from_str(preset.text).unwrap(), &mut found);
        }
        assert_eq!(found.len(), 6, "Milan, Genoa, Turin; TDX; Genoa and TDX of the rehearsal");
        assert_eq!(found.into_iter().max(), Some(RULES_WRITTEN));
    }

    #[test]
    fn the_release_day_is_the_first_possible_second() {
        assert_eq!(RULES_WRITTEN.to_string(), "2026-11-21T00:00:00Z");
        assert!(plausible(RULES_WRITTEN).is_ok());
        let error = plausible(UnixTime(RULES_WRITTEN.0 - 1)).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("CLOCK_BEFORE_BUILD", 9));
        assert!(error.to_string().contains("2026-11-20T23:59:59Z") && error.advice().contains("clock"));
    }
}
