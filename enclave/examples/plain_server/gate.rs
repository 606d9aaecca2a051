//! Turns plain ONNX files into the enclave's own service: its router, its rules and its runners, with claims that nobody signed.
//! It takes the place of boot, broker and package alone; every request goes the way that it goes in the enclave.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vouchsafe_attestation::claims::{ModelClaim, Release};
use vouchsafe_attestation::{Ed25519Public, EvidenceEnvelope, Mode, Tee, UnixTime};
use vouchsafe_enclave::EnclaveError;
use vouchsafe_enclave::attest::Window;
use vouchsafe_enclave::config::Config;
use vouchsafe_enclave::device::{EvidenceDevice, OwnLaunch, Words};
use vouchsafe_enclave::engine::{Engine, Model as Sizes, Runtime};
use vouchsafe_enclave::lease::{GuestClock, RunningLease};
use vouchsafe_enclave::library::{Library, Source};
use vouchsafe_enclave::model::{Model, Registry};
use vouchsafe_enclave::serve::Service;
use vouchsafe_enclave::serve::metrics::Metrics;
use vouchsafe_enclave::serve::routes::router;
use vouchsafe_enclave::serve::session::Session;
use vouchsafe_enclave::tls::Identity;
use vouchsafe_policies::usage::{Dtype, InputRule, UsagePolicy};

use crate::{Outcome, PATIENCE, Prepared};

const WORDS: Words = Words { tee: Tee::SevSnp, mode: Mode::Simulation };

/// Nobody asks it.
struct NoDevice;

impl EvidenceDevice for NoDevice {
    fn quote(&self, _: [u8; 64]) -> Result<EvidenceEnvelope, EnclaveError> {
        Err(EnclaveError::AttestFirst)
    }

    fn own_launch(&self, _: [u8; 64]) -> Result<OwnLaunch, EnclaveError> {
        Err(EnclaveError::AttestFirst)
    }
}

/// Forks the nursery and has a runner load each model.
///
/// # Errors
/// When there are no walls, or a model is refused.
pub fn runners(library: &Path, files: &[(String, PathBuf)]) -> Outcome<Vec<(String, Engine)>> {
    let library = Library::read(Source::Image(library.to_owned()))?;
    let runtime = Runtime::start(&library, &config()?)?.probed();
    let mut engines = Vec::new();
    for (name, path) in files {
        let graph = std::fs::read(path)?;
        let sizes = Sizes { external: Vec::new(), graph_len: graph.len() as u64 };
        let engine = runtime.load(sizes, |feed| {
            feed.write(&graph);
            Ok(())
        })?;
        engines.push((name.clone(), engine));
    }
    Ok(engines)
}

/// The enclave's service over these. On a runtime.
///
/// # Errors
/// When a model's rules cannot be written.
pub fn prepare(identity: Identity, engines: Vec<(String, Engine)>) -> Outcome<Prepared> {
    let clock = Arc::new(GuestClock::new(UnixTime(1_800_000_000), Instant::now()));
    let mut models = Vec::new();
    for (id, engine) in engines {
        models.push(Arc::new(model(id, engine, clock.clone())?));
    }
    let registry = Arc::new(Registry::new(&identity, WORDS, [7; 32], vec![[4; 32]], models));
    let service = Arc::new(Service {
        identity,
        words: WORDS,
        registry: registry.clone(),
        window: Window::start(Arc::new(NoDevice), WORDS, Duration::from_millis(20), 16),
        clock,
        max_body_bytes: 8 << 20,
        request_timeout: PATIENCE,
        pad_answers_to: None,
        work: Arc::new(tokio::sync::Semaphore::new(2)),
        bodies: Arc::new(tokio::sync::Semaphore::new(1 << 20)),
        metrics: Metrics::default(),
        unattested: PATIENCE,
    });
    let session = move || {
        let session = Session::new([0; 32]);
        session.attested(&registry.current(), [0; 32]);
        Some(Arc::new(session))
    };
    Ok(Prepared { router: router(&service), session: Box::new(session) })
}

/// The policy that `vouchsafe seal` writes by itself.
fn model(id: String, engine: Engine, clock: Arc<GuestClock>) -> Outcome<Model> {
    let rules = engine.ports().inputs.iter().map(|port| {
        let dtype = if port.dtype == vouchsafe_oip::Dtype::I64 { Dtype::Int64 } else { Dtype::Fp32 };
        InputRule { name: port.name.clone(), dtype, shape: port.shape.clone(), finite: true, range: None }
    });
    let usage = UsagePolicy::parse(UsagePolicy::template(&id, &rules.collect::<Vec<_>>()).as_bytes())?;
    let claim = ModelClaim {
        id,
        uid: [1; 32],
        sequence: 1,
        manifest_digest: [1; 32],
        vendor_keys: vec![Ed25519Public([3; 32])],
        usage_policy_digest: usage.digest(),
        release: Release::Online,
    };
    let lease = RunningLease::new(86_400, 1_000_000_000, Instant::now());
    Ok(Model::new(claim, usage, engine, lease, clock)?)
}

/// What a runner may have is the configuration's to say; keys and brokers are nobody's.
fn config() -> Outcome<Config> {
    let (key, pin) = (|byte: u8| Ed25519Public([byte; 32]).to_string(), "ab".repeat(32));
    let inner = format!(
        "version = 1\nmanifest_keys = [\"{}\"]\nrelease_keys = [\"{}\"]\nlandlock = \"best-effort\"\n[[brokers]]\n\
         address = \"127.0.0.1:1\"\nspki_sha256 = [\"{pin}\"]\n[[models]]\nid = \"any\"\nmin_sequence = 1\nrelease = \"online\"\n",
        key(1),
        key(2),
    );
    let text = format!("version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"vouchsafe.toml\" = '''\n{inner}'''\n");
    Ok(Config::parse(text.as_bytes())?)
}
