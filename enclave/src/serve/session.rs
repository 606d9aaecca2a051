//! Turns one TLS connection into a session: what it exported, which claims it was last given, how far its callers counted.
//! It does not protect the client: only the client's own verification does. Here a session is kept honest about changes.

use std::sync::{Arc, Mutex, PoisonError};

use vouchsafe_attestation::caller::{CallerCounters, CallerHeader};

use crate::error::EnclaveError;
use crate::model::Generation;

/// The state of one connection.
pub struct Session {
    /// The TLS exporter's value: names this very session.
    pub ekm: [u8; 32],
    attested: Mutex<Option<Attested>>,
    counters: Mutex<CallerCounters>,
}

/// What a connection fetched evidence for.
#[derive(Clone, Copy, Debug)]
struct Attested {
    generation: u64,
    nonce: [u8; 32],
}

/// Proof that a request's connection was given the claims of exactly this generation. It serves only what they name.
#[derive(Clone)]
pub struct Admitted {
    /// What those claims name.
    pub generation: Arc<Generation>,
    /// The nonce of the session's evidence.
    pub nonce: [u8; 32],
}

impl Session {
    /// A connection that has not fetched evidence.
    #[must_use]
    pub fn new(ekm: [u8; 32]) -> Self {
        Self { ekm, attested: Mutex::new(None), counters: Mutex::new(CallerCounters::new()) }
    }

    /// The connection was given the claims of this generation, under this nonce.
    pub fn attested(&self, generation: &Generation, nonce: [u8; 32]) {
        let mut attested = self.attested.lock().unwrap_or_else(PoisonError::into_inner);
        *attested = Some(Attested { generation: generation.number, nonce });
    }

    /// Whether the connection was given any claims.
    #[must_use]
    pub fn is_attested(&self) -> bool {
        self.attested.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Takes the counter of a request whose signature verified, so that no copy of it is taken again.
    ///
    /// # Errors
    /// `CALLER_REPLAYED` unless it is above every earlier one of this key, and for more keys than one connection may use.
    pub fn count(&self, verified: &CallerHeader) -> Result<(), EnclaveError> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.take(verified).map_err(|_| EnclaveError::CallerReplayed)
    }

    /// Admits a request, unless the connection has no evidence or what is served changed since.
    ///
    /// # Errors
    /// `ATTEST_FIRST`, `REATTEST`.
    pub fn admit(&self, current: Arc<Generation>) -> Result<Admitted, EnclaveError> {
        let attested = *self.attested.lock().unwrap_or_else(PoisonError::into_inner);
        match attested {
            None => Err(EnclaveError::AttestFirst),
            Some(attested) if attested.generation != current.number => Err(EnclaveError::Reattest),
            Some(attested) => Ok(Admitted { generation: current, nonce: attested.nonce }),
        }
    }
}
