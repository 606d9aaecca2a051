//! Turns time and the host's reload requests into renewed leases and newer models, while requests are being answered.
//! It does not trust the host's word: a reload only makes it look, and an older package is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use vouchsafe_runner::RunnerError;
use vouchsafe_sealed::Shelf;

use crate::config::ModelConfig;
use crate::engine::Engine;
use crate::error::EnclaveError;
use crate::model::{Model, Registry};
use crate::public_event;
use crate::unseal::{Unsealer, compare};

/// First and longest pause between two attempts that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A session that lived so long ended by accident; one that ended sooner is started again after a pause that grows.
const STEADY: Duration = Duration::from_secs(60);

/// Grows from one failed attempt to the next.
pub struct Backoff(Duration);

impl Backoff {
    /// No attempt has failed.
    #[must_use]
    pub const fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// Whether no attempt has failed since it began.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.0 == FIRST_PAUSE
    }

    /// The next pause: 0.5 s, 1 s, 2 s, … at most 30 s.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps leases alive and follows reloads.
pub struct Keeper {
    unsealer: Arc<Unsealer>,
    registry: Arc<Registry>,
    models: Vec<ModelConfig>,
    /// One reload at a time,
    reloading: tokio::sync::Mutex<()>,
    /// and at most one that waits for it, however often the host asks.
    waits: AtomicBool,
    /// One model is unsealed at a time: a reload and a restart must not do the same work twice, nor need the memory of both.
    unsealing: tokio::sync::Mutex<()>,
    lost: Notify,
}

impl Keeper {
    /// A keeper of the configured models; nothing runs until [`Keeper::start`].
    #[must_use]
    pub fn new(unsealer: Arc<Unsealer>, registry: Arc<Registry>, models: Vec<ModelConfig>) -> Self {
        Self {
            unsealer,
            registry,
            models,
            reloading: tokio::sync::Mutex::new(()),
            waits: AtomicBool::new(false),
            unsealing: tokio::sync::Mutex::new(()),
            lost: Notify::new(),
        }
    }

    /// Starts one renewing task per model.
    pub fn start(self: &Arc<Self>) {
        for at in 0..self.models.len() {
            let this = self.clone();
            tokio::spawn(async move {
                if let Some(config) = this.models.get(at) {
                    this.keep(config).await;
                }
            });
        }
    }

    /// Waits until nothing can be kept any more: the process that starts runners is gone.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Looks at every model's package again, after the host asked for it.
    pub async fn reload(&self) {
        // The one that waits has looked at nothing yet: it will see what this one would.
        if self.waits.swap(true, Ordering::SeqCst) {
            return;
        }
        let _one = self.reloading.lock().await;
        self.waits.store(false, Ordering::SeqCst);
        refresh(&self.unsealer.models).await;
        for config in &self.models {
            match self.reload_model(config).await {
                Ok(Some(sequence)) => {
                    public_event!("reloaded", pub_model = config.id.as_str(), pub_sequence = sequence)
                }
                Ok(None) => public_event!("reload-unchanged", pub_model = config.id.as_str()),
                Err(error) => report("reload-refused", config, &error),
            }
        }
    }

    async fn reload_model(&self, config: &ModelConfig) -> Result<Option<u64>, EnclaveError> {
        let _one = self.unsealing.lock().await;
        let generation = self.registry.current();
        let served = generation.model(&config.id).map(|m| m.claim().clone()).ok_or(EnclaveError::ModelUnknown)?;
        // The disk is read on this task: a reload is rare and the manifest is small.
        let signed = self.unsealer.open(config, served.sequence)?;
        let found = signed.claim();
        if found.sequence == served.sequence {
            let same = found.manifest_digest == served.manifest_digest;
            return if same { Ok(None) } else { Err(EnclaveError::SequenceReused) };
        }
        let model = self.unsealer.unseal(signed).await?;
        self.registry.install(model);
        Ok(Some(found.sequence))
    }

    /// Renews one model's lease for ever, and unseals it again after a lapse or when its runner ended.
    async fn keep(&self, config: &ModelConfig) {
        let mut backoff = Backoff::new();
        // One that keeps ending, whoever makes it end, must not keep the brokers busy.
        let (mut restarts, mut steady) = (Backoff::new(), Instant::now());
        while let Some(model) = self.registry.current().model(&config.id).cloned() {
            let now = Instant::now();
            if let Err(error) = model.is_in_force(now) {
                // Its session is gone and no key is asked for again: only a newer version helps, and its arrival wakes us.
                report("lease-not-renewed", config, &error);
                model.wake.notified().await;
                continue;
            }
            if model.is_ready(now) {
                let (renew_in, _) = model.times(now);
                if renew_in > Duration::ZERO {
                    let engine = model.engine();
                    tokio::select! {
                        () = tokio::time::sleep(renew_in) => {}
                        () = model.wake.notified() => {}
                        () = ended(engine) => {}
                    }
                    continue;
                }
            } else if model.has_ended() && backoff.is_first() {
                if steady.elapsed() > STEADY {
                    restarts = Backoff::new();
                }
                tokio::time::sleep(restarts.next_pause()).await;
            }
            let ended = model.has_ended();
            match self.attempt(config, &model).await {
                Ok(()) => {
                    if ended {
                        steady = Instant::now();
                    }
                    public_event!(
                        "lease-renewed",
                        pub_model = config.id.as_str(),
                        pub_sequence = model.claim().sequence
                    );
                    backoff = Backoff::new();
                }
                Err(EnclaveError::Runner(RunnerError::Nursery)) => {
                    // There will be no other runner: only a new start helps.
                    self.lost.notify_one();
                    return;
                }
                Err(error) => {
                    report("lease-renewal-failed", config, &error);
                    pause(&model, backoff.next_pause()).await;
                }
            }
        }
    }

    /// One full handshake. The session is dropped on time even while a broker keeps us waiting.
    async fn attempt(&self, config: &ModelConfig, model: &Model) -> Result<(), EnclaveError> {
        let handshake = async {
            if model.is_ready(Instant::now()) {
                let claim = model.claim();
                let granted = self.unsealer.client.grant(&claim.id, claim.sequence).await?;
                compare(&granted.grant, claim)?;
                if model.renew(granted.lease, Instant::now())? {
                    return Ok(());
                }
            }
            let _one = self.unsealing.lock().await;
            // A reload may have brought a newer version meanwhile.
            if self.registry.current().model(&config.id).is_some_and(|now| now.is_ready(Instant::now())) {
                return Ok(());
            }
            let signed = self.unsealer.open(config, model.claim().sequence)?;
            let (found, served) = (signed.claim(), model.claim());
            if found.sequence == served.sequence && found.manifest_digest != served.manifest_digest {
                return Err(EnclaveError::SequenceReused);
            }
            self.registry.install(self.unsealer.unseal(signed).await?);
            Ok(())
        };
        tokio::pin!(handshake);
        loop {
            let ready = model.is_ready(Instant::now());
            let (_, lapses_in) = model.times(Instant::now());
            tokio::select! {
                result = &mut handshake => return result,
                () = tokio::time::sleep(lapses_in), if ready => {}
            }
        }
    }
}

/// Looks for what the host has put on the shelf since; a shelf that cannot be read stays as it is, and the log says so.
pub async fn refresh(models: &Arc<Shelf>) {
    let shelf = models.clone();
    let refreshed = tokio::task::spawn_blocking(move || shelf.refresh()).await;
    let refreshed = refreshed.map_err(|_| EnclaveError::System("refresh the volume")).and_then(|r| Ok(r?));
    if let Err(error) = refreshed {
        let fact = error.to_string();
        public_event!("volume-refused", pub_code = error.code(), pub_fact = fact, pub_advice = error.advice());
    }
}

/// Waits for the end of the process that runs a model.
async fn ended(engine: Option<Arc<Engine>>) {
    if let Some(engine) = engine {
        engine.ended().await;
    }
}

/// Waits, but not past the moment at which the lease lapses: the session is dropped on time.
async fn pause(model: &Model, pause: Duration) {
    let end = Instant::now() + pause;
    while Instant::now() < end {
        let now = Instant::now();
        let left = end.saturating_duration_since(now);
        let (_, lapses_in) = model.times(now);
        tokio::time::sleep(if model.is_ready(now) { left.min(lapses_in) } else { left }).await;
    }
}

fn report(event: &'static str, config: &ModelConfig, error: &EnclaveError) {
    let ticket = match error {
        EnclaveError::KeyRefused { ticket } => ticket.as_str(),
        _ => "",
    };
    public_event!(event, pub_model = config.id.as_str(), pub_code = error.code(), pub_ticket = ticket);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let mut backoff = Backoff::new();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.next_pause().as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
    }
}
