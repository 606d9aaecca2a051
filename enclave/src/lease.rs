//! Turns a granted lease and the guest's monotonic clock into a yes or no for each request, and into a time to renew.
//! It cannot bound time against a host that stops the guest's clock: only the number of requests is a hard bound.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use vouchsafe_attestation::UnixTime;

/// A lease under way.
#[derive(Clone, Copy, Debug)]
pub struct RunningLease {
    /// Before the request for it was sent: what the conversation took counts against the lease.
    started: Instant,
    ttl: Duration,
    max_requests: u64,
    used: u64,
}

impl RunningLease {
    /// A lease of `ttl_s` seconds and `max_requests` requests, asked for at `started`.
    #[must_use]
    pub fn new(ttl_s: u64, max_requests: u64, started: Instant) -> Self {
        Self { started, ttl: Duration::from_secs(ttl_s), max_requests, used: 0 }
    }

    /// So many requests at most.
    #[must_use]
    pub const fn max_requests(&self) -> u64 {
        self.max_requests
    }

    /// Whether the lease lapsed by `now`.
    #[must_use]
    pub fn has_lapsed(&self, now: Instant) -> bool {
        self.used >= self.max_requests || now.saturating_duration_since(self.started) >= self.ttl
    }

    /// Counts one request, unless the lease lapsed. Says whether it was counted.
    #[must_use]
    pub fn take(&mut self, now: Instant) -> bool {
        let left = !self.has_lapsed(now);
        self.used += u64::from(left);
        left
    }

    /// How long from `now` until renewal is due: two thirds of the time, or of the requests, whichever comes first.
    #[must_use]
    pub fn renew_in(&self, now: Instant) -> Duration {
        let gone = now.saturating_duration_since(self.started);
        if self.is_two_thirds_used() { Duration::ZERO } else { (self.ttl / 3 * 2).saturating_sub(gone) }
    }

    /// How long from `now` until the time of the lease is over.
    #[must_use]
    pub fn lapses_in(&self, now: Instant) -> Duration {
        self.ttl.saturating_sub(now.saturating_duration_since(self.started))
    }

    /// Whether two thirds of the requests are used.
    #[must_use]
    pub fn is_two_thirds_used(&self) -> bool {
        u128::from(self.used) * 3 >= u128::from(self.max_requests) * 2
    }
}

/// The enclave's sense of time: never before the build, never before a signed time that it saw, never backwards.
pub struct GuestClock(Mutex<(UnixTime, Instant)>);

impl GuestClock {
    /// A clock that shows `build_time` at `now`.
    #[must_use]
    pub fn new(build_time: UnixTime, now: Instant) -> Self {
        Self(Mutex::new((build_time, now)))
    }

    /// The time at `now`.
    #[must_use]
    pub fn at(&self, now: Instant) -> UnixTime {
        let guard = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (base, since) = *guard;
        base.plus(now.saturating_duration_since(since).as_secs())
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.at(Instant::now())
    }

    /// Learns a signed time that was received at `now`; an older one changes nothing.
    pub fn learn(&self, signed: UnixTime, now: Instant) {
        let mut guard = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (base, since) = *guard;
        if signed > base.plus(now.saturating_duration_since(since).as_secs()) {
            *guard = (signed, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_lease_ends_by_time_or_by_count() {
        let start = Instant::now();
        let mut lease = RunningLease::new(90, 3, start);
        assert_eq!((lease.renew_in(start), lease.lapses_in(start)), (seconds(60), seconds(90)));
        assert_eq!(lease.renew_in(start + seconds(75)), Duration::ZERO);
        assert!(!lease.has_lapsed(start + seconds(89)) && lease.has_lapsed(start + seconds(90)));
        assert!(lease.take(start) && lease.take(start));
        assert!(lease.is_two_thirds_used());
        assert_eq!(lease.renew_in(start), Duration::ZERO);
        assert!(lease.take(start));
        assert!(!lease.take(start) && lease.has_lapsed(start));
    }

    #[test]
    fn an_empty_or_endless_lease_is_no_special_case() {
        let start = Instant::now();
        assert!(!RunningLease::new(0, 10, start).take(start));
        assert!(!RunningLease::new(10, 0, start).take(start));
        let mut endless = RunningLease::new(u64::MAX, u64::MAX, start);
        assert!(endless.take(start) && !endless.is_two_thirds_used());
        assert!(endless.renew_in(start) > seconds(1));
    }

    #[test]
    fn the_clock_never_goes_back() {
        let start = Instant::now();
        let clock = GuestClock::new(UnixTime(1000), start);
        assert_eq!(clock.at(start + seconds(5)), UnixTime(1005));
        clock.learn(UnixTime(900), start + seconds(5));
        assert_eq!(clock.at(start + seconds(6)), UnixTime(1006));
        clock.learn(UnixTime(2000), start + seconds(6));
        assert_eq!((clock.at(start + seconds(6)), clock.at(start + seconds(16))), (UnixTime(2000), UnixTime(2010)));
    }
}
