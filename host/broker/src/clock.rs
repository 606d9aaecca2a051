//! Turns the operating system's clock into the one time that a request is handled under, or into a refusal to decide under it.
//! The broker stands at the vendor's and believes its own clock; a peer's clock is never asked.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use vouchsafe_attestation::UnixTime;
use vouchsafe_policies::{PolicyError, RULES_WRITTEN};

/// Now.
pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}

/// A clock may be set back by so much without a word: time services do that.
const SET_BACK_S: u64 = 600;

/// What a running broker knows of the time without its clock. It starts anew with the process.
pub(crate) struct Watch {
    earliest: UnixTime,
    latest: AtomicU64,
}

impl Watch {
    pub(crate) const fn new() -> Self {
        Self::since(RULES_WRITTEN)
    }

    pub(crate) const fn since(earliest: UnixTime) -> Self {
        Self { earliest, latest: AtomicU64::new(earliest.0) }
    }

    /// Whether evidence may be judged and a key granted at this time. Under a clock in the past, what was replaced looks current.
    pub(crate) fn live(&self, now: UnixTime) -> Result<(), &'static str> {
        if now < self.earliest {
            return Err(PolicyError::Clock(now).code());
        }
        let latest = self.latest.fetch_max(now.0, Ordering::Relaxed);
        if now.plus(SET_BACK_S).0 < latest { Err("CLOCK_SET_BACK") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_the_release_or_long_before_the_last_decision_is_refused() {
        let day = |n: u64| UnixTime(RULES_WRITTEN.0 + n * 86_400);
        let watch = Watch::new();
        assert_eq!(watch.live(UnixTime(RULES_WRITTEN.0 - 1)), Err("CLOCK_BEFORE_BUILD"));
        assert_eq!(watch.live(UnixTime(0)), Err("CLOCK_BEFORE_BUILD"));
        assert_eq!((watch.live(day(0)), watch.live(day(2))), (Ok(()), Ok(())));
        assert_eq!(watch.live(UnixTime(day(2).0 - SET_BACK_S)), Ok(()));
        assert_eq!(watch.live(UnixTime(day(2).0 - SET_BACK_S - 1)), Err("CLOCK_SET_BACK"));
        assert_eq!(watch.live(day(1)), Err("CLOCK_SET_BACK"), "also the second time");
        assert_eq!(watch.live(UnixTime(0)), Err("CLOCK_BEFORE_BUILD"));
        assert_eq!(watch.live(day(2)), Ok(()));
    }
}
