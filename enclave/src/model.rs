//! Turns unsealed models into what is being served now: a generation of claims, and each model's lease.
//! It does not renew: [`crate::keeper`] does. A session holds the number of the generation whose claims it was given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use vouchsafe_attestation::claims::{Claims, Clock, ModelClaim};
use vouchsafe_attestation::lp::sha256;
use vouchsafe_policies::usage::UsagePolicy;

use crate::device::Words;
use crate::engine::{Engine, Ports};
use crate::error::EnclaveError;
use crate::lease::RunningLease;
use crate::tls::Identity;

/// One model version: what the claims say of it, its rules, and its session while the lease runs.
pub struct Model {
    claim: ModelClaim,
    usage: UsagePolicy,
    ports: Ports,
    state: Mutex<State>,
    /// Wakes the task that renews the lease.
    pub wake: Notify,
}

struct State {
    /// Nothing once the lease lapsed: the session and its plaintext are gone.
    engine: Option<Arc<Engine>>,
    lease: RunningLease,
}

/// What is served from one change to the next.
pub struct Generation {
    /// Rises with every change.
    pub number: u64,
    /// The exact bytes of the claims.
    pub claims: Vec<u8>,
    /// Their SHA-256.
    pub claims_digest: [u8; 32],
    /// The models that the claims name.
    pub models: Vec<Arc<Model>>,
}

/// What is served now, and what the claims say besides the models.
pub struct Registry {
    claims: Claims,
    current: RwLock<Arc<Generation>>,
}

impl Model {
    /// An unsealed model under its lease.
    #[must_use]
    pub fn new(claim: ModelClaim, usage: UsagePolicy, engine: Engine, lease: RunningLease) -> Self {
        let ports = engine.ports().clone();
        let state = Mutex::new(State { engine: Some(Arc::new(engine)), lease });
        Self { claim, usage, ports, state, wake: Notify::new() }
    }

    /// What the claims say of it.
    #[must_use]
    pub fn claim(&self) -> &ModelClaim {
        &self.claim
    }

    /// The vendor's rules.
    #[must_use]
    pub fn usage(&self) -> &UsagePolicy {
        &self.usage
    }

    /// What it takes and gives.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Whether it could answer a request at `now`; notices a lapse.
    pub fn is_ready(&self, now: Instant) -> bool {
        let mut state = self.state();
        if state.lease.has_lapsed(now) {
            self.drop_session(&mut state);
        }
        state.engine.is_some()
    }

    /// Counts one request against the lease and hands out the session.
    ///
    /// # Errors
    /// `LEASE_LAPSED`; the session is gone then.
    pub fn take(&self, now: Instant) -> Result<Arc<Engine>, EnclaveError> {
        let mut state = self.state();
        if !state.lease.take(now) {
            self.drop_session(&mut state);
            return Err(EnclaveError::LeaseLapsed);
        }
        let engine = state.engine.clone().ok_or(EnclaveError::LeaseLapsed)?;
        if state.lease.is_two_thirds_used() {
            self.wake.notify_one();
        }
        Ok(engine)
    }

    /// A new lease for the running session. Says whether there was a session left to renew.
    #[must_use]
    pub fn renew(&self, lease: RunningLease, now: Instant) -> bool {
        let mut state = self.state();
        if state.engine.is_none() || state.lease.has_lapsed(now) {
            self.drop_session(&mut state);
            return false;
        }
        state.lease = lease;
        true
    }

    /// Takes over session and lease of the same version, unsealed again after a lapse.
    pub fn restore(&self, again: &Self) {
        let mut from = again.state();
        let (engine, lease) = (from.engine.take(), from.lease);
        drop(from);
        *self.state() = State { engine, lease };
    }

    /// How long until renewal is due and until the lease's time is over.
    #[must_use]
    pub fn times(&self, now: Instant) -> (Duration, Duration) {
        let state = self.state();
        (state.lease.renew_in(now), state.lease.lapses_in(now))
    }

    fn drop_session(&self, state: &mut State) {
        if state.engine.take().is_some() {
            crate::public_event!("lease-lapsed", pub_model = self.claim.id.as_str());
            self.wake.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generation {
    /// The model of that id.
    #[must_use]
    pub fn model(&self, id: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|m| m.claim.id == id)
    }
}

impl Registry {
    /// Starts serving these models.
    #[must_use]
    pub fn new(
        identity: &Identity,
        words: Words,
        config_digest: [u8; 32],
        brokers: Vec<[u8; 32]>,
        models: Vec<Arc<Model>>,
    ) -> Self {
        let claims = Claims {
            v: 1,
            mode: words.mode,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: identity.boot_id,
            spki_sha256: identity.spki_sha256,
            config_digest,
            brokers,
            models: Vec::new(),
            receipt_key: identity.receipt_public,
            clock: Clock::HostInfluenced,
        };
        let current = RwLock::new(Arc::new(generation(&claims, 1, models)));
        Self { claims, current }
    }

    /// What is served now.
    #[must_use]
    pub fn current(&self) -> Arc<Generation> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves `model` in place of its older version: a new generation, unless it is the version already claimed.
    /// A version older than the one served is dropped.
    pub fn install(&self, model: Model) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let same = |m: &&Arc<Model>| m.claim == model.claim;
        if let Some(claimed) = current.models.iter().find(same) {
            claimed.restore(&model);
            return;
        }
        let newer = |m: &Arc<Model>| m.claim.id == model.claim.id && m.claim.sequence >= model.claim.sequence;
        if current.models.iter().any(newer) {
            return;
        }
        let mut models = current.models.clone();
        let model = Arc::new(model);
        match models.iter_mut().find(|m| m.claim.id == model.claim.id) {
            Some(old) => {
                old.wake.notify_one();
                *old = model;
            }
            None => models.push(model),
        }
        *current = Arc::new(generation(&self.claims, current.number + 1, models));
    }
}

fn generation(claims: &Claims, number: u64, models: Vec<Arc<Model>>) -> Generation {
    let mut claims = claims.clone();
    claims.models = models.iter().map(|m| m.claim.clone()).collect();
    let claims = claims.to_bytes();
    Generation { number, claims_digest: sha256(&claims), claims, models }
}
