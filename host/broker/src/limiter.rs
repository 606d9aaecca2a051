//! Turns a stream of refusals into a bounded number of ledger lines: a token bucket.
//! It protects the disk, not the peers; whoever is limited gets a plain 429 and no ticket.

use std::time::{Duration, Instant};

/// Ten seconds' worth of lines may come at once.
const BURST_S: u32 = 10;

/// The bucket.
pub(crate) struct Limiter {
    rate: f64,
    level: f64,
    since: Instant,
}

/// What the bucket said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    No,
    Yes,
}

impl Limiter {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { rate: f64::from(per_second), level: f64::from(per_second) * f64::from(BURST_S), since: now }
    }

    /// Takes one line out.
    pub(crate) fn take(&mut self, now: Instant) -> Limited {
        let passed = now.checked_duration_since(self.since).unwrap_or(Duration::ZERO).as_secs_f64();
        self.since = now;
        self.level = passed.mul_add(self.rate, self.level).min(self.rate * f64::from(BURST_S));
        if self.level < 1.0 {
            return Limited::Yes;
        }
        self.level -= 1.0;
        Limited::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut limiter = Limiter::new(2, start);
        assert!((0..20).all(|_| limiter.take(start) == Limited::No));
        assert_eq!(limiter.take(start), Limited::Yes);
        let later = start + Duration::from_secs(1);
        assert_eq!(
            [limiter.take(later), limiter.take(later), limiter.take(later)],
            [Limited::No, Limited::No, Limited::Yes]
        );
    }
}
