//! Turns unsealed models into what is being served now: a generation of claims, and each model's lease, quotas and counters.
//! It does not renew: [`crate::keeper`] does. A session holds the number of the generation whose claims it was given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use vouchsafe_attestation::claims::{Claims, Clock, ModelClaim};
use vouchsafe_attestation::lp::sha256;
use vouchsafe_oip::Ports;
use vouchsafe_policies::usage::{Expires, QuotaBook, Role, UsagePolicy};
use vouchsafe_runner::RunnerError;

use crate::device::Words;
use crate::engine::Engine;
use crate::error::EnclaveError;
use crate::lease::{GuestClock, RunningLease};
use crate::serve::rules;
use crate::serve::stats::Counters;
use crate::tls::Identity;

/// One model version: what the claims say of it, its rules, and its session while the lease runs.
pub struct Model {
    claim: ModelClaim,
    usage: UsagePolicy,
    ports: Ports,
    shown: Ports,
    clock: Arc<GuestClock>,
    state: Mutex<State>,
    /// What each role asked so far, by the monotonic clock since `born`.
    quotas: Arc<Mutex<QuotaBook>>,
    born: Instant,
    counters: Arc<Counters>,
    /// Wakes the task that renews the lease.
    pub wake: Notify,
}

struct State {
    /// Once the lease lapsed, the usage policy expired or the runner ended, only why: the session and its plaintext are gone.
    engine: Result<Arc<Engine>, EnclaveError>,
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
    ///
    /// # Errors
    /// `QUOTA_NOT_COVERED` when the lease allows more than the usage policy's day quotas.
    pub fn new(
        claim: ModelClaim,
        usage: UsagePolicy,
        engine: Engine,
        lease: RunningLease,
        clock: Arc<GuestClock>,
    ) -> Result<Self, EnclaveError> {
        covered(&usage, &lease)?;
        let ports = engine.ports().clone();
        Ok(Self {
            claim,
            shown: rules::shown(&usage, &ports),
            ports,
            clock,
            state: Mutex::new(State { engine: Ok(Arc::new(engine)), lease }),
            quotas: Arc::default(),
            born: Instant::now(),
            counters: Arc::default(),
            usage,
            wake: Notify::new(),
        })
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

    /// What callers see of that: the outputs that the vendor's rules leave, as the rules shape them.
    #[must_use]
    pub fn shown(&self) -> &Ports {
        &self.shown
    }

    /// What became of its requests.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Counts one request of a role against the vendor's quotas.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED`.
    pub fn charge(&self, role: &Role, now: Instant) -> Result<(), EnclaveError> {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        // Not the guest's clock: a signed time would set it forward, and with it the end of every window.
        let seconds = now.saturating_duration_since(self.born).as_secs();
        Ok(quotas.take(&self.usage, role, seconds)?)
    }

    /// Whether it could answer a request at `now`; notices a lapse, the policy's expiry, and an engine that ended.
    pub fn is_ready(&self, now: Instant) -> bool {
        self.ready(now).is_ok()
    }

    /// As [`Self::is_ready`], with the reason why not.
    ///
    /// # Errors
    /// `USAGE_EXPIRED`, `LEASE_LAPSED`, `RUNNER_DIED`.
    pub fn ready(&self, now: Instant) -> Result<(), EnclaveError> {
        let mut state = self.state();
        self.notice(&mut state, now);
        state.engine.as_ref().map(drop).map_err(Clone::clone)
    }

    /// Whether the process that runs it ended, and nothing else is in the way.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state().engine, Err(EnclaveError::Runner(_)))
    }

    /// Whether one more request may wait for it.
    ///
    /// # Errors
    /// `BUSY`.
    pub fn has_room(&self) -> Result<(), EnclaveError> {
        let full = self.engine().is_some_and(|engine| engine.is_full());
        if full { Err(EnclaveError::Runner(RunnerError::Busy)) } else { Ok(()) }
    }

    /// The session, if there is one.
    #[must_use]
    pub fn engine(&self) -> Option<Arc<Engine>> {
        self.state().engine.clone().ok()
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
    /// `USAGE_EXPIRED`, `LEASE_LAPSED`, `RUNNER_DIED`; the session is gone then.
    pub fn take(&self, now: Instant) -> Result<Arc<Engine>, EnclaveError> {
        let mut state = self.state();
        self.notice(&mut state, now);
        let engine = state.engine.clone()?;
        if !state.lease.take(now) {
            return Err(EnclaveError::LeaseLapsed);
        }
        if state.lease.is_two_thirds_used() {
            self.wake.notify_one();
        }
        Ok(engine)
    }

    /// A new lease for the running session. Says whether there was a session left to renew.
    ///
    /// # Errors
    /// `QUOTA_NOT_COVERED`; the old lease goes on.
    pub fn renew(&self, lease: RunningLease, now: Instant) -> Result<bool, EnclaveError> {
        covered(&self.usage, &lease)?;
        let mut state = self.state();
        self.notice(&mut state, now);
        if state.engine.is_err() {
            return Ok(false);
        }
        state.lease = lease;
        Ok(true)
    }

    /// Takes over session and lease of the same version, unsealed again after a lapse. The same version has the same policy, so
    /// the lease covers its quotas here too; what was asked so far stays counted.
    pub fn restore(&self, again: &Self) {
        let mut from = again.state();
        let (engine, lease) = (std::mem::replace(&mut from.engine, Err(EnclaveError::LeaseLapsed)), from.lease);
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
        let Ok(engine) = &state.engine else { return };
        let (event, reason) = if let Err(expired) = self.usage.enforce_time(self.clock.at(now)) {
            ("usage-expired", expired.into())
        } else if state.lease.has_lapsed(now) {
            ("lease-lapsed", EnclaveError::LeaseLapsed)
        } else if !engine.is_running() {
            ("engine-ended", EnclaveError::Runner(RunnerError::RunnerDied))
        } else {
            return;
        };
        state.engine = Err(reason);
        crate::public_event!(event, pub_model = self.claim.id.as_str());
        self.wake.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The day quotas hold although the host may restart the enclave: no lease allows more than a day's requests.
///
/// # Errors
/// `QUOTA_NOT_COVERED`.
pub fn covered(usage: &UsagePolicy, lease: &RunningLease) -> Result<(), EnclaveError> {
    Ok(usage.covered(lease.max_requests())?)
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
        let mut model = model;
        if let Some(old) = models.iter().find(|m| m.claim.id == model.claim.id) {
            // A new version is no new allowance.
            (model.quotas, model.born) = (old.quotas.clone(), old.born);
        }
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
