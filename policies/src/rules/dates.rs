//! Turns the dates of a policy into times: what is announced from a day on, what is tolerated until one.
//! It reads no clock: the day is the relying party's time of the verification.

use vouchsafe_attestation::UnixTime;

use crate::PolicyError;

const DAY: u64 = 86_400;
/// 2024-01-01T00:00:00Z: no rule of this format is older.
const EARLIEST: UnixTime = UnixTime(1_704_067_200);
/// 2100-01-01T00:00:00Z.
const LATEST: UnixTime = UnixTime(4_102_444_800);
/// A grace window counts only in its last year: what is written to last longer is no grace but another rule.
pub(crate) const MAX_GRACE_DAYS: u64 = 366;
/// Announced floors per technology.
pub(crate) const MAX_ANNOUNCED: usize = 32;

/// The boundary of a dated rule, and who announced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// The first second of what comes then.
    pub at: UnixTime,
    /// Where that is written: a bulletin, an address, a ticket.
    pub source: String,
}

/// Where a time stands relative to a dated rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before the boundary, by so many days, rounded up.
    Before(u64),
    /// At the boundary or after it.
    Reached,
}

impl Dated {
    pub(crate) fn phase(&self, now: UnixTime) -> Phase {
        if now < self.at { Phase::Before(self.at.since(now).div_ceil(DAY)) } else { Phase::Reached }
    }
}

/// `1 day` or `n days`.
pub(crate) fn days(n: u64) -> String {
    if n == 1 { "1 day".to_owned() } else { format!("{n} days") }
}

/// Reads a date and its source; both are mandatory.
pub(crate) fn dated(at: Option<String>, source: Option<String>, field: &str, word: &str) -> Result<Dated, PolicyError> {
    let at =
        at.ok_or_else(|| PolicyError::invalid(format!("`{field}.{word}` is missing: a dated rule has its date")))?;
    let at = UnixTime::parse_rfc3339(&at).ok().filter(|at| (EARLIEST..LATEST).contains(at)).ok_or_else(|| {
        PolicyError::invalid(format!("`{field}.{word}` is not YYYY-MM-DDThh:mm:ssZ between 2024 and 2099"))
    })?;
    let source = source
        .ok_or_else(|| PolicyError::invalid(format!("`{field}.source` is missing: say who announced the date")))?;
    let printable = source.chars().all(|c| c.is_ascii_graphic() || c == ' ') && !source.trim().is_empty();
    if !printable || source.len() > 256 {
        return Err(PolicyError::invalid(format!("`{field}.source` is not 1 to 256 printable ASCII characters")));
    }
    Ok(Dated { at, source })
}

/// At most [`MAX_ANNOUNCED`] entries.
pub(crate) fn capped<T>(list: Option<Vec<T>>, field: &str) -> Result<Vec<T>, PolicyError> {
    let list = list.unwrap_or_default();
    if list.len() > MAX_ANNOUNCED {
        return Err(PolicyError::invalid(format!("`{field}` has more than {MAX_ANNOUNCED} entries")));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_second_before_is_a_day_left() {
        let dated = Dated { at: UnixTime(1_800_000_000), source: "s".to_owned() };
        assert_eq!(dated.phase(UnixTime(1_800_000_000 - DAY - 1)), Phase::Before(2));
        assert_eq!(dated.phase(UnixTime(1_800_000_000 - DAY)), Phase::Before(1));
        assert_eq!(dated.phase(UnixTime(1_799_999_999)), Phase::Before(1));
        assert_eq!(dated.phase(UnixTime(1_800_000_000)), Phase::Reached);
        assert_eq!(dated.phase(UnixTime(1_800_000_001)), Phase::Reached);
    }
}
