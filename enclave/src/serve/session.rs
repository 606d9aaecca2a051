//! Turns one TLS connection into a session: what it exported, and which claims it was last given.
//! It does not protect the client: only the client's own verification does. Here a session is kept honest about changes.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::EnclaveError;
use crate::model::Generation;

/// The state of one connection.
pub struct Session {
    /// The TLS exporter's value: names this very session.
    pub ekm: [u8; 32],
    attested: Mutex<Option<Attested>>,
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
        Self { ekm, attested: Mutex::new(None) }
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
