//! Turns the dates of a policy into times: when a floor was written, what is announced from a day on, what is tolerated until one.
//! It reads no clock: the day is the relying party's time of the verification.

use core::fmt;

use vouchsafe_attestation::UnixTime;

use crate::{PolicyError, rules::words::Missing};

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

/// When floors in force were written, and on whose word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The first second of that day.
    pub day: UnixTime,
    /// Where they come from: a bulletin, an address, a ticket.
    pub source: String,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "written {}: {}", day(self.day), self.source)
    }
}

/// `YYYY-MM-DD`.
fn day(at: UnixTime) -> String {
    at.to_string().chars().take(DATE.len()).collect()
}

const DATE: &str = "YYYY-MM-DD";
/// Longest source of a floor in force, and of a dated rule.
const MAX_FLOOR_SOURCE: usize = 200;
const MAX_DATED_SOURCE: usize = 256;

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
    Ok(Dated { at, source: printable(source, field, MAX_DATED_SOURCE)? })
}

/// Reads the day and the source of the floors in `field`; both are mandatory.
pub(crate) fn written(
    day: Option<String>,
    source: Option<String>,
    field: &str,
    missing: &mut Missing,
) -> Result<Written, PolicyError> {
    let day = match missing.take(day, &format!("{field}.written")) {
        None => EARLIEST,
        Some(day) => date(&day)
            .ok_or_else(|| PolicyError::invalid(format!("`{field}.written` is not {DATE} between 2024 and 2099")))?,
    };
    let source = match missing.take(source, &format!("{field}.source")) {
        None => String::new(),
        Some(source) => floor_source(source, field)?,
    };
    Ok(Written { day, source })
}

fn date(text: &str) -> Option<UnixTime> {
    let day = UnixTime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok()?;
    (text.len() == DATE.len() && (EARLIEST..LATEST).contains(&day)).then_some(day)
}

/// Reads where a floor comes from.
pub(crate) fn floor_source(source: String, field: &str) -> Result<String, PolicyError> {
    printable(source, field, MAX_FLOOR_SOURCE)
}

fn printable(source: String, field: &str, most: usize) -> Result<String, PolicyError> {
    let printable = source.chars().all(|c| c.is_ascii_graphic() || c == ' ') && !source.trim().is_empty();
    if !printable || source.len() > most {
        return Err(PolicyError::invalid(format!("`{field}.source` is not 1 to {most} printable ASCII characters")));
    }
    Ok(source)
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

    #[test]
    fn a_day_is_a_date_and_nothing_else() {
        let mut missing = Missing::default();
        let mut read = |day: Option<&str>, source: Option<&str>| {
            written(day.map(str::to_owned), source.map(str::to_owned), "t", &mut missing)
        };
        let good = read(Some("2026-11-21"), Some(&"s".repeat(200))).unwrap();
        assert_eq!(good.day, UnixTime(1_795_219_200));
        assert!(good.to_string().starts_with("written 2026-11-21: sss"), "{good}");
        for day in
            ["", "2026-11", "2026-11-31", "2026-11-21T00:00:00Z", "2026-1-21", "2023-12-31", "2100-01-01", "today"]
        {
            let error = read(Some(day), Some("s")).unwrap_err();
            assert!(error.code() == "POLICY_INVALID" && error.to_string().contains("`t.written`"), "{day}: {error}");
        }
        for source in ["", "  ", "a\nb", "\u{e4}", &"s".repeat(201)] {
            let error = read(Some("2026-11-21"), Some(source)).unwrap_err();
            assert!(error.code() == "POLICY_INVALID" && error.to_string().contains("`t.source`"), "{error}");
        }
        read(None, None).unwrap();
        assert_eq!(missing.0, ["t.written", "t.source"]);
    }
}
