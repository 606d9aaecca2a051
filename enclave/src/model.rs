//! Turns unsealed models into what is being served now: a generation of claims, and each model's lease.
//! It does not renew: [`crate::keeper`] does. A session holds the number of the generation whose claims it was given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use vouchsafe_attestation::claims::{Claims, Clock, ModelClaim};
use vouchsafe_attestation::lp::sha256;
use vouchsafe_policies::usage::{Expires, UsagePolicy};

use crate::device::Words;
use crate::engine::{Engine, Ports};
use crate::error::EnclaveError;
use crate::lease::{GuestClock, RunningLease};
use crate::tls::Identity;

/// One model version: what the claims say of it, its rules, and its session while the lease runs.
pub struct Model {
    claim: ModelClaim,
    usage: UsagePolicy,
    ports: Ports,
    clock: Arc<GuestClock>,
    state: Mutex<State>,
    /// Wakes the task that renews the lease.
    pub wake: Notify,
}

struct State {
    /// Nothing once the lease lapsed or the usage policy expired: the session and its plaintext are gone.
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
    pub fn new(
        claim: ModelClaim,
        usage: UsagePolicy,
        engine: Engine,
        lease: RunningLease,
        clock: Arc<GuestClock>,
    ) -> Self {
        let ports = engine.ports().clone();
        let state = Mutex::new(State { engine: Some(Arc::new(engine)), lease });
        Self { claim, usage, ports, clock, state, wake: Notify::new() }
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

    /// Whether it could answer a request at `now`; notices a lapse, the policy's expiry, and an engine that ended.
    pub fn is_ready(&self, now: Instant) -> bool {
        let mut state = self.state();
        self.notice(&mut state, now);
        state.engine.is_some()
    }

    /// Whether the usage policy still allows any use at `now`; the session is gone when it does not.
    ///
    /// # Errors
    /// `USAGE_EXPIRED`.
    pub fn is_in_force(&self, now: Instant) -> Result<(), EnclaveError> {
        self.notice(&mut self.state(), now);
        Ok(self.usage.enforce_time(self.clock.at(now))?)
    }

    /// Counts one request against the lease and hands out the session.
    ///
    /// # Errors
    /// `USAGE_EXPIRED`, `LEASE_LAPSED`; the session is gone then.
    pub fn take(&self, now: Instant) -> Result<Arc<Engine>, EnclaveError> {
        let mut state = self.state();
        self.notice(&mut state, now);
        self.usage.enforce_time(self.clock.at(now))?;
        let engine = state.engine.clone().ok_or(EnclaveError::LeaseLapsed)?;
        if !state.lease.take(now) {
            return Err(EnclaveError::LeaseLapsed);
        }
        if state.lease.is_two_thirds_used() {
            self.wake.notify_one();
        }
        Ok(engine)
    }

    /// A new lease for the running session. Says whether there was a session left to renew.
    #[must_use]
    pub fn renew(&self, lease: RunningLease, now: Instant) -> bool {
        let mut state = self.state();
        self.notice(&mut state, now);
        if state.engine.is_none() {
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

    /// How long until renewal is due and until the session must end: with the lease's time or with the usage policy.
    #[must_use]
    pub fn times(&self, now: Instant) -> (Duration, Duration) {
        let expires_in = match self.usage.expires() {
            Expires::At(end) => Duration::from_secs(end.0.saturating_sub(self.clock.at(now).0)),
            Expires::Never => Duration::MAX,
        };
        let state = self.state();
        (state.lease.renew_in(now).min(expires_in), state.lease.lapses_in(now).min(expires_in))
    }

    /// Drops the session when its time is over, or when it can answer nobody any more.
    fn notice(&self, state: &mut State, now: Instant) {
        let Some(engine) = &state.engine else { return };
        let event = if state.lease.has_lapsed(now) {
            "lease-lapsed"
        } else if self.usage.enforce_time(self.clock.at(now)).is_err() {
            "usage-expired"
        } else if !engine.is_running() {
            "engine-ended"
        } else {
            return;
        };
        state.engine = None;
        crate::public_event!(event, pub_model = self.claim.id.as_str());
        self.wake.notify_one();
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
