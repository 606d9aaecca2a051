//! Turns cookies into handshakes in progress: each nonce is used once, each token once, whatever the outcome.
//! A session is no verdict: what it holds after `attest` was appraised, and is handed out a single time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::event::Id;

/// An open challenge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenged {
    /// The nonce as text.
    pub(crate) nonce: String,
    /// RCAR's word for the technology that the peer announced.
    pub(crate) tee: String,
    /// The ledger head that a renewing enclave echoed.
    pub(crate) ledger_head: Option<[u8; 32]>,
}

/// All handshakes in progress. `A` is what an accepted one holds.
pub(crate) struct Sessions<A> {
    map: HashMap<Id, (Instant, State<A>)>,
    capacity: usize,
    ttl: Duration,
}

enum State<A> {
    Challenged(Challenged),
    /// The nonce is used; nothing was accepted.
    Spent,
    Attested(A),
    /// The token is used.
    Served,
}

/// No room for another handshake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl<A> Sessions<A> {
    pub(crate) fn new(capacity: usize, ttl: Duration) -> Self {
        Self { map: HashMap::new(), capacity, ttl }
    }

    /// Opens a handshake. Expired ones make room; open ones are not pushed out by newcomers.
    pub(crate) fn open(&mut self, id: Id, challenged: Challenged, now: Instant) -> Result<(), Full> {
        if self.map.len() >= self.capacity {
            let ttl = self.ttl;
            self.map.retain(|_, (since, _)| now.duration_since(*since) < ttl);
        }
        if self.map.len() >= self.capacity {
            return Err(Full);
        }
        self.map.insert(id, (now, State::Challenged(challenged)));
        Ok(())
    }

    /// Hands out the nonce, once.
    pub(crate) fn take_challenge(&mut self, id: Id, now: Instant) -> Result<Challenged, &'static str> {
        match self.swap(id, now, State::Spent)? {
            State::Challenged(challenged) => Ok(challenged),
            // What was accepted before stays spent too: a second `attest` ends the session.
            State::Spent | State::Attested(_) | State::Served => Err("NONCE_USED"),
        }
    }

    /// Keeps what was accepted, for one resource.
    pub(crate) fn accept(&mut self, id: Id, accepted: A, now: Instant) {
        self.map.insert(id, (now, State::Attested(accepted)));
    }

    /// Hands out what was accepted, once.
    pub(crate) fn take_accepted(&mut self, id: Id, now: Instant) -> Result<A, &'static str> {
        match self.swap(id, now, State::Served)? {
            State::Attested(accepted) => Ok(accepted),
            State::Served => Err("TOKEN_USED"),
            // Asking before attesting costs the nonce as well.
            State::Challenged(_) | State::Spent => Err("TOKEN_MISSING"),
        }
    }

    fn swap(&mut self, id: Id, now: Instant, next: State<A>) -> Result<State<A>, &'static str> {
        let (since, state) = self.map.get_mut(&id).ok_or("SESSION_UNKNOWN")?;
        if now.duration_since(*since) >= self.ttl {
            self.map.remove(&id);
            return Err("SESSION_EXPIRED");
        }
        Ok(core::mem::replace(state, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn challenged() -> Challenged {
        Challenged { nonce: "n".to_owned(), tee: "snp".to_owned(), ledger_head: None }
    }

    #[test]
    fn nonce_and_token_serve_once() {
        let (mut sessions, now, id) = (Sessions::<u8>::new(4, TTL), Instant::now(), Id([1; 16]));
        sessions.open(id, challenged(), now).unwrap();
        assert_eq!(sessions.take_challenge(id, now), Ok(challenged()));
        assert_eq!(sessions.take_challenge(id, now), Err("NONCE_USED"));
        sessions.accept(id, 7, now);
        assert_eq!(sessions.take_accepted(id, now), Ok(7));
        assert_eq!(sessions.take_accepted(id, now), Err("TOKEN_USED"));
        assert_eq!(sessions.take_challenge(id, now), Err("NONCE_USED"));
        assert_eq!(sessions.take_challenge(Id([2; 16]), now), Err("SESSION_UNKNOWN"));
    }

    #[test]
    fn asking_before_attesting_gets_nothing() {
        let (mut sessions, now, id) = (Sessions::<u8>::new(4, TTL), Instant::now(), Id([1; 16]));
        sessions.open(id, challenged(), now).unwrap();
        assert_eq!(sessions.take_accepted(id, now), Err("TOKEN_MISSING"));
        assert_eq!(sessions.take_challenge(id, now), Err("NONCE_USED"));
    }

    #[test]
    fn a_second_attest_ends_an_accepted_session() {
        let (mut sessions, now, id) = (Sessions::<u8>::new(4, TTL), Instant::now(), Id([1; 16]));
        sessions.open(id, challenged(), now).unwrap();
        sessions.take_challenge(id, now).unwrap();
        sessions.accept(id, 7, now);
        assert_eq!(sessions.take_challenge(id, now), Err("NONCE_USED"));
        assert_eq!(sessions.take_accepted(id, now), Err("TOKEN_MISSING"));
    }

    #[test]
    fn everything_expires_and_makes_room() {
        let (mut sessions, now) = (Sessions::<u8>::new(2, TTL), Instant::now());
        for n in 1..=2 {
            sessions.open(Id([n; 16]), challenged(), now).unwrap();
        }
        assert_eq!(sessions.open(Id([3; 16]), challenged(), now + TTL - Duration::from_millis(1)), Err(Full));
        assert_eq!(sessions.take_challenge(Id([1; 16]), now + TTL), Err("SESSION_EXPIRED"));
        assert_eq!(sessions.open(Id([3; 16]), challenged(), now + TTL), Ok(()));
        sessions.take_challenge(Id([3; 16]), now + TTL).unwrap();
        sessions.accept(Id([3; 16]), 1, now + TTL);
        assert_eq!(sessions.take_accepted(Id([3; 16]), now + TTL + TTL), Err("SESSION_EXPIRED"));
    }
}
