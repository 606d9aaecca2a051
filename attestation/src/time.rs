//! Turns seconds since 1970 into RFC 3339 text and back.
//! It reads no clock: every caller brings its own time and says where it came from.

use core::{fmt, time::Duration};

use der::DateTime;
use serde::{Deserialize, Serialize};

use crate::EncodingError;

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// Parses `YYYY-MM-DDThh:mm:ssZ`, the one form that this project writes.
    ///
    /// # Errors
    /// `ENCODING_TIME` for any other text.
    pub fn parse_rfc3339(text: &str) -> Result<Self, EncodingError> {
        let date: DateTime = text.parse().map_err(|_| EncodingError::Time)?;
        Ok(Self(date.unix_duration().as_secs()))
    }

    /// This time and `seconds` more, at most the end of time.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from `earlier` to this time, 0 when it is not later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_unix_duration(Duration::from_secs(self.0)) {
            Ok(date) => write!(f, "{date}"),
            Err(_) => write!(f, "second {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_seconds_agree() {
        let time = UnixTime::parse_rfc3339("2026-03-01T00:00:00Z").unwrap();
        assert_eq!(time, UnixTime(1_772_323_200));
        assert_eq!(time.to_string(), "2026-03-01T00:00:00Z");
        assert_eq!(UnixTime::parse_rfc3339("2026-03-01").unwrap_err().code(), "ENCODING_TIME");
        assert!(!UnixTime(u64::MAX).to_string().is_empty());
    }
}
