//! Turns cookies into handshakes in progress: each nonce is used once, each token once, whatever the outcome.
//! A session is no verdict: what it holds after `attest` was appraised, and is handed out a single time.
//!
//! An open challenge is kept nowhere: the cookie carries it, under a key of this run. So strangers who only ask for
//! challenges take no room, and nobody's challenge is pushed out by theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{hmac, rand::SystemRandom};
use vouchsafe_attestation::{
    Tee,
    encoding::{b64url, from_b64url},
};
use vouchsafe_release::rcar::tee_word;

use crate::BrokerError;

/// So many used nonces are remembered. When there are more, all challenges up to the oldest of them have expired.
const USED: usize = 65_536;
/// Number, time, tee, ledger head or zeros, MAC.
const COOKIE: usize = 8 + 8 + 1 + 32 + 32;
const SNP: u8 = 1;
const RENEWAL: u8 = 2;
const TDX: u8 = 4;

/// An open challenge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenged {
    /// The nonce as text.
    pub(crate) nonce: String,
    /// A technology that is supported, or any other word.
    pub(crate) tee: Announced,
    /// The ledger head that a renewing enclave echoed.
    pub(crate) ledger_head: Option<[u8; 32]>,
}

/// What the peer announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    Known(Tee),
    Other,
}

impl Announced {
    /// From RCAR's word.
    pub(crate) fn from_word(word: &str) -> Self {
        [Tee::SevSnp, Tee::Tdx].into_iter().find(|tee| tee_word(*tee) == word).map_or(Self::Other, Self::Known)
    }

    const fn flags(self) -> u8 {
        match self {
            Self::Known(Tee::SevSnp) => SNP,
            Self::Known(Tee::Tdx) => TDX,
            Self::Other => 0,
        }
    }

    const fn of_flags(flags: u8) -> Self {
        match flags & (SNP | TDX) {
            SNP => Self::Known(Tee::SevSnp),
            TDX => Self::Known(Tee::Tdx),
            _ => Self::Other,
        }
    }
}

/// All handshakes in progress. `A` is what an accepted one holds.
pub(crate) struct Sessions<A> {
    key: hmac::Key,
    start: Instant,
    /// Numbers the challenges.
    next: u64,
    /// Challenges up to this number have expired, whatever their time.
    floor: u64,
    used: BTreeSet<u64>,
    /// `None` once the token is used.
    accepted: BTreeMap<u64, (Instant, Option<A>)>,
    capacity: usize,
    used_capacity: usize,
    ttl: Duration,
}

/// A cookie that this broker made: it names one handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    number: u64,
    issued_ms: u64,
    flags: u8,
    head: [u8; 32],
}

/// No room for another accepted enclave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl<A> Sessions<A> {
    pub(crate) fn new(capacity: usize, ttl: Duration, now: Instant) -> Result<Self, BrokerError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| BrokerError::Random)?;
        let (used, accepted) = (BTreeSet::new(), BTreeMap::new());
        Ok(Self { key, start: now, next: 0, floor: 0, used, accepted, capacity, used_capacity: USED, ttl })
    }

    /// Makes a challenge: its nonce, and the cookie that brings it back. Nothing is kept.
    pub(crate) fn open(&mut self, tee: Announced, ledger_head: Option<[u8; 32]>, now: Instant) -> (String, String) {
        self.next += 1;
        let issued_ms = u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX);
        let flags = tee.flags() | if ledger_head.is_some() { RENEWAL } else { 0 };
        let session = Session { number: self.next, issued_ms, flags, head: ledger_head.unwrap_or_default() };
        let mut cookie = session.to_bytes();
        cookie.extend_from_slice(self.mac(b"cookie", &session).as_ref());
        (self.nonce(&session), b64url(&cookie))
    }

    /// Reads a cookie; only one of ours names a session.
    pub(crate) fn named(&self, cookie: &str) -> Result<Session, &'static str> {
        // The length first: a peer's text is never decoded whole.
        let bytes = (cookie.len() == COOKIE * 4 / 3).then(|| from_b64url(cookie, "cookie")).and_then(Result::ok);
        let bytes: Vec<u8> = bytes.ok_or("SESSION_UNKNOWN")?;
        let session = Session::read(&bytes).ok_or("SESSION_UNKNOWN")?;
        let signed = [b"cookie".as_slice(), &session.to_bytes()].concat();
        hmac::verify(&self.key, &signed, &bytes[COOKIE - 32..]).map_err(|_| "SESSION_UNKNOWN")?;
        Ok(session)
    }

    /// Hands out the nonce, once.
    pub(crate) fn take_challenge(&mut self, session: Session, now: Instant) -> Result<Challenged, &'static str> {
        // What was accepted before is gone too: a second `attest` ends the session.
        self.accepted.remove(&session.number);
        self.spend(session, now)?;
        let tee = Announced::of_flags(session.flags);
        let ledger_head = (session.flags & RENEWAL != 0).then_some(session.head);
        Ok(Challenged { nonce: self.nonce(&session), tee, ledger_head })
    }

    /// Keeps what was accepted, for one resource. Used tokens and expired ones make room.
    pub(crate) fn accept(&mut self, session: Session, accepted: A, now: Instant) -> Result<(), Full> {
        if self.accepted.len() >= self.capacity {
            let ttl = self.ttl;
            self.accepted.retain(|_, (since, held)| held.is_some() && now.duration_since(*since) < ttl);
        }
        if self.accepted.len() >= self.capacity {
            return Err(Full);
        }
        self.accepted.insert(session.number, (now, Some(accepted)));
        Ok(())
    }

    /// Hands out what was accepted, once.
    pub(crate) fn take_accepted(&mut self, session: Session, now: Instant) -> Result<A, &'static str> {
        let Some((since, held)) = self.accepted.get_mut(&session.number) else {
            // Asking before attesting costs the nonce as well.
            return Err(self.spend(session, now).err().filter(|c| *c != "NONCE_USED").unwrap_or("TOKEN_MISSING"));
        };
        if now.duration_since(*since) >= self.ttl {
            self.accepted.remove(&session.number);
            return Err("SESSION_EXPIRED");
        }
        held.take().ok_or("TOKEN_USED")
    }

    fn spend(&mut self, session: Session, now: Instant) -> Result<(), &'static str> {
        if self.used.contains(&session.number) {
            return Err("NONCE_USED");
        }
        let issued = self.start + Duration::from_millis(session.issued_ms);
        if session.number <= self.floor || now.saturating_duration_since(issued) >= self.ttl {
            return Err("SESSION_EXPIRED");
        }
        self.used.insert(session.number);
        if self.used.len() > self.used_capacity {
            self.floor = self.used.pop_first().unwrap_or(self.floor);
        }
        Ok(())
    }

    fn nonce(&self, session: &Session) -> String {
        STANDARD.encode(self.mac(b"nonce", session))
    }

    fn mac(&self, what: &[u8], session: &Session) -> hmac::Tag {
        hmac::sign(&self.key, &[what, &session.to_bytes()].concat())
    }
}

impl Session {
    fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(COOKIE);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.issued_ms.to_be_bytes());
        out.push(self.flags);
        out.extend_from_slice(&self.head);
        out
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (issued_ms, rest) = rest.split_first_chunk()?;
        let (flags, rest) = rest.split_first()?;
        let (head, mac) = rest.split_first_chunk()?;
        let (number, issued_ms) = (u64::from_be_bytes(*number), u64::from_be_bytes(*issued_ms));
        (mac.len() == 32).then_some(Self { number, issued_ms, flags: *flags, head: *head })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNP_WORD: Announced = Announced::Known(Tee::SevSnp);

    const TTL: Duration = Duration::from_secs(60);

    fn sessions(capacity: usize) -> (Sessions<u8>, Instant) {
        let now = Instant::now();
        (Sessions::new(capacity, TTL, now).unwrap(), now)
    }

    fn opened(sessions: &mut Sessions<u8>, now: Instant) -> Session {
        let (_, cookie) = sessions.open(SNP_WORD, None, now);
        sessions.named(&cookie).unwrap()
    }

    #[test]
    fn a_cookie_brings_its_challenge_back() {
        let (mut sessions, now) = sessions(4);
        let mut nonces = BTreeSet::new();
        for (tee, ledger_head) in
            [(SNP_WORD, Some([7; 32])), (Announced::Known(Tee::Tdx), None), (Announced::Other, None)]
        {
            let (nonce, cookie) = sessions.open(tee, ledger_head, now);
            assert_eq!((nonce.len(), cookie.len()), (44, 108));
            let session = sessions.named(&cookie).unwrap();
            let expected = Challenged { nonce: nonce.clone(), tee, ledger_head };
            assert_eq!(sessions.take_challenge(session, now), Ok(expected));
            assert!(nonces.insert(nonce));
        }
    }

    #[test]
    fn only_our_own_cookies_name_a_session() {
        let (mut ours, now) = sessions(4);
        let (_, cookie) = ours.open(SNP_WORD, Some([1; 32]), now);
        assert!(ours.named(&cookie).is_ok());
        for at in 0..cookie.len() {
            let mut other = cookie.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(ours.named(core::str::from_utf8(&other).unwrap()), Err("SESSION_UNKNOWN"), "{at}");
        }
        for bad in
            ["", "x", &"0".repeat(32), &"ä".repeat(54), &"A".repeat(108), &cookie[..104], &format!("{cookie}AAAA")]
        {
            assert_eq!(ours.named(bad), Err("SESSION_UNKNOWN"), "{bad}");
        }
        let (theirs, _) = sessions(4);
        assert_eq!(theirs.named(&cookie), Err("SESSION_UNKNOWN"), "the cookie of another run");
    }

    #[test]
    fn nonce_and_token_serve_once() {
        let (mut sessions, now) = sessions(4);
        let session = opened(&mut sessions, now);
        assert!(sessions.take_challenge(session, now).is_ok());
        assert_eq!(sessions.take_challenge(session, now), Err("NONCE_USED"));
        assert_eq!(sessions.accept(session, 7, now), Ok(()));
        assert_eq!(sessions.take_accepted(session, now), Ok(7));
        assert_eq!(sessions.take_accepted(session, now), Err("TOKEN_USED"));
        assert_eq!(sessions.take_challenge(session, now), Err("NONCE_USED"));
    }

    #[test]
    fn asking_before_attesting_gets_nothing() {
        let (mut sessions, now) = sessions(4);
        let session = opened(&mut sessions, now);
        assert_eq!(sessions.take_accepted(session, now), Err("TOKEN_MISSING"));
        assert_eq!(sessions.take_challenge(session, now), Err("NONCE_USED"));
        assert_eq!(sessions.take_accepted(session, now), Err("TOKEN_MISSING"));
    }

    #[test]
    fn a_second_attest_ends_an_accepted_session() {
        let (mut sessions, now) = sessions(4);
        let session = opened(&mut sessions, now);
        sessions.take_challenge(session, now).unwrap();
        sessions.accept(session, 7, now).unwrap();
        assert_eq!(sessions.take_challenge(session, now), Err("NONCE_USED"));
        assert_eq!(sessions.take_accepted(session, now), Err("TOKEN_MISSING"));
    }

    #[test]
    fn everything_expires_and_used_tokens_make_room() {
        let (mut sessions, now) = sessions(2);
        let all: Vec<Session> = (0..5).map(|_| opened(&mut sessions, now)).collect();
        let last = now + TTL - Duration::from_millis(1);
        assert_eq!(sessions.take_challenge(all[0], now + TTL), Err("SESSION_EXPIRED"));
        assert_eq!(sessions.take_accepted(all[0], now + TTL), Err("SESSION_EXPIRED"));
        assert!(sessions.take_challenge(all[1], last).is_ok());
        sessions.accept(all[1], 1, last).unwrap();
        sessions.accept(all[2], 2, last).unwrap();
        assert_eq!(sessions.accept(all[3], 3, last), Err(Full));
        assert_eq!(sessions.take_accepted(all[1], last), Ok(1));
        assert_eq!(sessions.accept(all[3], 3, last), Ok(()));
        assert_eq!(sessions.accept(all[4], 4, last), Err(Full), "what was accepted is not pushed out");
        assert_eq!(sessions.take_accepted(all[2], last + TTL), Err("SESSION_EXPIRED"));
        assert_eq!(sessions.accept(all[4], 4, last + TTL), Ok(()));
    }

    #[test]
    fn a_flood_of_challenges_takes_no_room_and_used_ones_a_bounded_room() {
        let (mut sessions, now) = sessions(2);
        sessions.used_capacity = 8;
        let (early, legitimate) = (opened(&mut sessions, now), opened(&mut sessions, now));
        for _ in 0..100_000 {
            sessions.open(SNP_WORD, None, now);
        }
        assert!((sessions.used.is_empty(), sessions.accepted.is_empty()) == (true, true));
        assert!(sessions.take_challenge(legitimate, now).is_ok());
        sessions.accept(legitimate, 7, now).unwrap();
        let used: Vec<Session> = (0..100).map(|_| opened(&mut sessions, now)).collect();
        assert!(used.iter().all(|s| sessions.take_challenge(*s, now).is_ok()));
        assert_eq!(sessions.used.len(), 8);
        assert!(used.iter().all(|s| sessions.take_challenge(*s, now).is_err()), "none of them serves twice");
        assert_eq!(sessions.take_challenge(early, now), Err("SESSION_EXPIRED"));
        assert_eq!(sessions.take_accepted(legitimate, now), Ok(7), "what was accepted stays");
    }
}
