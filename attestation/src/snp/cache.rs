//! Turns collateral whose signatures were verified before into the fact that they need not be verified once more.
//! It establishes nothing else: parsing, names, dates, revocation and the report's own signature are judged on every call.

use std::{
    collections::{HashSet, VecDeque},
    sync::Mutex,
};

use super::{verify::Received, x509::Signed};
use crate::{Anchors, lp::Transcript};

/// How many sets of leaf, authority and revocation list are remembered: 64 KiB of digests.
pub const LEAF_CACHE_ENTRIES: usize = 1024;

/// Remembers which leaf certificates and revocation lists had good signatures, under which anchors; the caller owns it.
///
/// Only digests are kept, and only of collateral whose whole verification succeeded: the oldest makes room for the newest.
/// Two anchors never share an entry, because an entry names its anchors.
#[derive(Debug, Default)]
pub struct LeafCache(Mutex<Digests>);

#[derive(Debug, Default)]
struct Digests {
    known: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl LeafCache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many sets are remembered: at most [`LEAF_CACHE_ENTRIES`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().map_or(0, |digests| digests.order.len())
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// After a panic elsewhere the lock is poisoned, and nothing is remembered any more.
    fn knows(&self, key: &[u8; 32]) -> bool {
        self.0.lock().is_ok_and(|digests| digests.known.contains(key))
    }

    fn remember(&self, key: [u8; 32]) {
        let Ok(mut digests) = self.0.lock() else { return };
        if !digests.known.insert(key) {
            return;
        }
        digests.order.push_back(key);
        if digests.order.len() > LEAF_CACHE_ENTRIES
            && let Some(oldest) = digests.order.pop_front()
        {
            digests.known.remove(&oldest);
        }
    }
}

/// The collateral of one verification, and whether all of its signatures were verified before.
pub(crate) enum Seen<'c> {
    /// No cache: every signature is verified.
    Uncached,
    /// Not known yet: every signature is verified, and remembered when everything has passed.
    First(&'c LeafCache, [u8; 32]),
    /// These very bytes were verified before, under these very anchors.
    Before,
}

impl<'c> Seen<'c> {
    pub(crate) fn look_up(cache: Option<&'c LeafCache>, received: &Received<'_>, anchors: &Anchors) -> Self {
        let Some(cache) = cache else { return Self::Uncached };
        let key = Transcript::new("vouchsafe/1 leaf cache")
            .lp(received.leaf)
            .lp(received.asvk)
            .lp(received.crl)
            .lp(&anchors.id())
            .finish();
        if cache.knows(&key) { Self::Before } else { Self::First(cache, key) }
    }

    /// Verifies an RSA signature, unless it was verified before.
    pub(crate) fn verify(&self, signed: &Signed<'_>, rsa_public_key: &[u8]) -> Result<(), ring::error::Unspecified> {
        match self {
            Self::Before => Ok(()),
            Self::Uncached | Self::First(..) => signed.verify(rsa_public_key),
        }
    }

    /// Remembers that everything passed.
    pub(crate) fn remember(self) {
        if let Self::First(cache, key) = self {
            cache.remember(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_nothing_counts_twice() {
        let cache = LeafCache::new();
        let key = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            key
        };
        for n in 0..LEAF_CACHE_ENTRIES {
            cache.remember(key(n));
            cache.remember(key(n));
        }
        assert_eq!(cache.len(), LEAF_CACHE_ENTRIES);
        assert!(cache.knows(&key(0)));
        cache.remember(key(LEAF_CACHE_ENTRIES));
        assert_eq!(cache.len(), LEAF_CACHE_ENTRIES);
        assert!(!cache.knows(&key(0)));
        assert!(cache.knows(&key(1)) && cache.knows(&key(LEAF_CACHE_ENTRIES)));
        assert_eq!(cache.0.lock().unwrap().known.len(), LEAF_CACHE_ENTRIES);
    }

    #[test]
    fn what_was_seen_is_not_verified_again_and_everything_else_is() {
        // Well-formed, signed by nobody.
        let der = [0x30, 0x08, 0x30, 0x00, 0x30, 0x00, 0x03, 0x02, 0x00, 0x00];
        let signed = Signed::parse(&der).unwrap();
        let cache = LeafCache::new();
        assert!(Seen::Uncached.verify(&signed, &[]).is_err());
        assert!(Seen::First(&cache, [1; 32]).verify(&signed, &[]).is_err());
        assert!(Seen::Before.verify(&signed, &[]).is_ok());
        Seen::Uncached.remember();
        Seen::Before.remember();
        assert!(cache.is_empty());
        Seen::First(&cache, [1; 32]).remember();
        assert!(cache.knows(&[1; 32]));
    }

    #[test]
    fn a_poisoned_lock_forgets_and_does_not_panic() {
        let cache = LeafCache::new();
        cache.remember([1; 32]);
        std::thread::scope(|scope| {
            let poison = scope.spawn(|| {
                let _guard = cache.0.lock().unwrap();
                // A panic without its lines on the terminal.
                std::panic::resume_unwind(Box::new(()));
            });
            assert!(poison.join().is_err());
        });
        cache.remember([2; 32]);
        assert!(!cache.knows(&[1; 32]) && !cache.knows(&[2; 32]) && cache.is_empty());
    }
}
