//! Turns a stream of refusals into a bounded number of ledger lines: token buckets, one for each address and one for all.
//! It protects the disk, not the peers; whoever is limited gets a plain 429 and no ticket.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Ten seconds' worth of lines may come at once.
const BURST_S: u32 = 10;
/// All addresses together get as much as so many, so that one alone cannot take everybody's lines.
const ADDRESSES: u32 = 2;
/// So many addresses are told apart at once.
const TOLD_APART: usize = 1_024;

/// One bucket.
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

/// A bucket for each peer address, and a larger one for all of them.
pub(crate) struct PeerLimiter {
    per_second: u32,
    all: Limiter,
    each: HashMap<IpAddr, Limiter>,
}

impl Limiter {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { rate: f64::from(per_second), level: f64::from(per_second) * f64::from(BURST_S), since: now }
    }

    /// Takes one line out.
    pub(crate) fn take(&mut self, now: Instant) -> Limited {
        self.level = self.level(now);
        self.since = now;
        if self.level < 1.0 {
            return Limited::Yes;
        }
        self.level -= 1.0;
        Limited::No
    }

    fn level(&self, now: Instant) -> f64 {
        let passed = now.checked_duration_since(self.since).unwrap_or(Duration::ZERO).as_secs_f64();
        passed.mul_add(self.rate, self.level).min(self.full())
    }

    fn full(&self) -> f64 {
        self.rate * f64::from(BURST_S)
    }
}

impl PeerLimiter {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, all: Limiter::new(per_second.saturating_mul(ADDRESSES), now), each: HashMap::new() }
    }

    /// Takes one line out of both buckets of this peer.
    pub(crate) fn take(&mut self, peer: IpAddr, now: Instant) -> Limited {
        if self.each.len() >= TOLD_APART {
            self.each.retain(|_, bucket| bucket.level(now) < bucket.full());
        }
        let peer = network(peer);
        // With no room for another address, the common bucket alone decides.
        if self.each.len() < TOLD_APART || self.each.contains_key(&peer) {
            let own = self.each.entry(peer).or_insert_with(|| Limiter::new(self.per_second, now));
            if own.take(now) == Limited::Yes {
                return Limited::Yes;
            }
        }
        self.all.take(now)
    }
}

/// One subscriber of IPv6 has a /64.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
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

    #[test]
    fn one_address_does_not_take_the_lines_of_another() {
        let start = Instant::now();
        let mut limiter = PeerLimiter::new(2, start);
        let mut lines = |peer: &str| {
            let peer = peer.parse().unwrap();
            (0..1_000).filter(|_| limiter.take(peer, start) == Limited::No).count()
        };
        assert_eq!(lines("192.0.2.1"), 20);
        assert_eq!(lines("::ffff:192.0.2.1"), 0, "the same address");
        assert_eq!(lines("2001:db8::1"), 20);
        assert_eq!(lines("2001:db8::ffff:1"), 0, "the same network");
        assert_eq!(lines("192.0.2.2"), 0, "the disk's bound holds for all together");
    }

    #[test]
    fn many_addresses_take_bounded_room() {
        let start = Instant::now();
        let mut limiter = PeerLimiter::new(100, start);
        for n in 0..5_000_u32 {
            limiter.take(IpAddr::V4(n.into()), start + Duration::from_millis(n.into()));
            assert!(limiter.each.len() <= TOLD_APART);
        }
        assert!(limiter.each.len() < TOLD_APART, "idle ones are forgotten");
    }
}
