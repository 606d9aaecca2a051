//! Turns a fresh process or machine into a serving one, state by state: booting, attested, unsealed, serving. No state can be skipped.
//! `Attested` means that this machine's own report binds the configuration; whether anybody accepts that report is theirs to say.

use std::net::TcpListener;
use std::num::NonZero;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{Semaphore, mpsc, watch};
use vouchsafe_attestation::claims::MAX_CLAIMS;
use vouchsafe_attestation::lp::{Transcript, sha256};
use vouchsafe_runner::RunnerError;
use vouchsafe_sealed::Shelf;

use crate::attest::Window;
use crate::authority::{self, Gaps};
use crate::channel::{Handed, HostChannel, HostRequest};
use crate::config::{BUILD_TIME, Config, MAX_CONFIG, ModelConfig};
use crate::device::{Served, Words};
use crate::dial::Way;
use crate::engine::Runtime;
use crate::error::EnclaveError;
use crate::ground::{Ground, Supplies};
use crate::keeper::{Backoff, Keeper, refresh};
use crate::lease::GuestClock;
use crate::library::Library;
use crate::model::{Model, Registry};
use crate::public_event;
use crate::release_client::ReleaseClient;
use crate::serve::metrics::Metrics;
use crate::serve::{Service, accept};
use crate::tls::Identity;
use crate::unseal::Unsealer;

/// How long freed memory may be kept.
const GIVE_BACK: Duration = Duration::from_secs(30);

/// The supplies are here, the device is chosen; nothing of the configuration has been parsed.
pub struct Booting {
    words: Words,
    supplies: Supplies,
}

/// The own report binds this configuration; the program has left the file system and the network, models and brokers excepted.
pub struct Attested {
    words: Words,
    device: Arc<Served>,
    config: Config,
    config_digest: [u8; 32],
    models: Arc<Shelf>,
    runtime: Runtime,
    listener: TcpListener,
    way: Way,
}

/// Every configured model runs under a lease.
pub struct Unsealed {
    words: Words,
    device: Arc<Served>,
    config: Config,
    config_digest: [u8; 32],
    listener: TcpListener,
    clock: Arc<GuestClock>,
    unsealer: Arc<Unsealer>,
    models: Vec<Arc<Model>>,
}

/// Requests are answered until the host says stop.
pub struct Serving {
    keeper: Arc<Keeper>,
    stop: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

/// Runs the program; the exit status.
///
/// `wipes` says whether the allocator overwrites what is freed: the program asked for that before anything else.
pub fn main(words: impl Iterator<Item = String>, wipes: bool) -> u8 {
    let mut words = words.peekable();
    let ground = Ground::here(words.peek().map(String::as_str));
    let ready = ground.prepare().and(if wipes { Ok(()) } else { Err(EnclaveError::System("overwrite freed memory")) });
    crate::log::install();
    let channel = ground.channel(&ready);
    let result = match (ready, &channel) {
        (Err(error), _) => Err(error),
        (Ok(()), Err(error)) => Err(error.clone()),
        (Ok(()), Ok(channel)) => run(ground, words, channel.as_ref()),
    };
    ground.end(match result {
        Ok(()) => {
            public_event!("stopped");
            0
        }
        Err(error) => {
            ground.report(&error);
            if let Ok(Some(channel)) = &channel {
                channel.send_fatal(&error);
            }
            error.exit()
        }
    })
}

/// Tells the launcher the boot state, where there is one.
fn tell(channel: Option<&HostChannel>, state: &'static str) {
    if let Some(channel) = channel {
        channel.send_state(state);
    }
}

fn run(ground: Ground, words: impl Iterator<Item = String>, channel: Option<&HostChannel>) -> Result<(), EnclaveError> {
    let words = ground.words(words)?;
    words.has_device()?;
    tell(channel, "booting");
    let booting = Booting::receive(words, channel)?;
    let attested = booting.attest(ground)?;
    // From here on threads may start: they inherit the fence.
    tell(channel, "attested");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|_| EnclaveError::System("start the runtime"))?;
    let (send, requests) = mpsc::channel(8);
    if let Some(channel) = channel {
        listen(channel.try_clone()?, send.clone())?;
    }
    let result = runtime.block_on(async {
        ground.attend(send)?;
        supervise(attested, channel, requests).await
    });
    runtime.shutdown_background();
    result
}

impl Booting {
    /// Takes the first frame and gathers what the boot needs.
    ///
    /// # Errors
    /// `HOST_CHANNEL`, `NO_TEE`, `EVIDENCE_DEVICE`, `INIT_*`, `VOLUME_*`, `SUPPLY_MISSING`.
    pub fn receive(words: Words, channel: Option<&HostChannel>) -> Result<Self, EnclaveError> {
        Ok(Self { words, supplies: Ground::supplies(words, channel)? })
    }

    /// Compares the configuration with the own report, and only then parses it; compares program and library with it, and only
    /// then starts the nursery, which loads the library; fences the process, and only then probes the library and reads the host's
    /// collateral file.
    ///
    /// The nursery is a copy of this process, made while there is one thread, no key and no customer: its children know no more.
    ///
    /// # Errors
    /// `EVIDENCE_DEVICE`, `CONFIG_DIGEST_MISMATCH`, `CONFIG_*`, `MEASUREMENT_MISMATCH`, `ORT_*`, `RUNNER_WALLS`, `AUTHORITY`,
    /// `COLLATERAL_FILE`.
    pub fn attest(self, ground: Ground) -> Result<Attested, EnclaveError> {
        let Self { words, supplies } = self;
        let Supplies { device, config, models, library, listener, way, collateral, agent_policy } = supplies;
        let bytes = config.read(MAX_CONFIG).map_err(|_| EnclaveError::System("read the configuration"))?;
        let mut nonce = [0; 32];
        SystemRandom::new().fill(&mut nonce).map_err(|_| EnclaveError::Identity("nonce"))?;
        let own = device.own_launch(Transcript::<64>::new("vouchsafe/1 boot").lp(&nonce).finish())?;
        let config_digest = sha256(&bytes);
        if own.config_digest != config_digest {
            return Err(EnclaveError::ConfigDigestMismatch);
        }
        let config = Config::parse(&bytes)?;
        config.says_what_runs(agent_policy)?;
        let library = Library::read(library)?;
        library.is_measured(words, &own.measurement)?;
        let runtime = Runtime::start(&library, &config)?;
        // The nursery, whose children load models, is gone its own way by now.
        if !vouchsafe_system::keep_freed_memory() {
            return Err(EnclaveError::System("keep freed memory"));
        }
        if let Some(kept) = ground.kept() {
            authority::keep(kept)?;
        }
        let packages = match &models {
            Shelf::Directory(directory) => Some(directory.as_fd()),
            Shelf::Volume(_) => None,
        };
        let ports = way.ports(config.brokers.iter().map(|b| b.address.port()));
        let enforced = authority::fence(Gaps { packages, workplace: device.workplace(), ports }, config.landlock)?;
        public_event!(
            "attested",
            pub_mode = words.mode.as_str(),
            pub_tee = words.tee.as_str(),
            pub_config_digest = hex::encode(config_digest),
            pub_landlock = enforced,
            pub_landlock_demanded = config.landlock.as_str(),
        );
        // Behind the fence, as the models will be loaded.
        let runtime = runtime.probed();
        public_event!("model-delivery", pub_delivery = runtime.delivery().as_str());
        let device = Arc::new(Served::new(device, words.tee));
        if let Some(file) = collateral {
            device.replace(file)?;
            public_event!("collateral");
        }
        let models = Arc::new(models);
        Ok(Attested { words, device, config, config_digest, models, runtime, listener, way })
    }
}

impl Attested {
    /// Gets every model's key and unseals it. A broker that is down is asked again for ever.
    ///
    /// # Errors
    /// The first definite refusal.
    pub async fn unseal(self) -> Result<Unsealed, EnclaveError> {
        let Self { words, device, config, config_digest, models, runtime, listener, way } = self;
        let clock = Arc::new(GuestClock::new(BUILD_TIME, Instant::now()));
        let (keys, dialer) = (config.release_keys.clone(), way.open()?);
        let client = ReleaseClient::new(&config.brokers, dialer, device.clone(), words, keys, clock.clone())?;
        let manifest_keys = config.manifest_keys.clone();
        let unsealer =
            Arc::new(Unsealer { models, manifest_keys, mode: words.mode, client, runtime, clock: clock.clone() });
        let mut unsealed = Vec::new();
        for model in &config.models {
            unsealed.push(Arc::new(unseal_one(&unsealer, model).await?));
        }
        Ok(Unsealed { words, device, config, config_digest, listener, clock, unsealer, models: unsealed })
    }
}

async fn unseal_one(unsealer: &Arc<Unsealer>, config: &ModelConfig) -> Result<Model, EnclaveError> {
    let mut backoff = Backoff::new();
    loop {
        let result = match unsealer.open(config, config.min_sequence) {
            Ok(signed) => unsealer.unseal(signed).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(model) => {
                public_event!("unsealed", pub_model = config.id.as_str(), pub_sequence = model.claim().sequence);
                return Ok(model);
            }
            Err(error) if error.is_transient() => {
                public_event!("key-release-waits", pub_model = config.id.as_str(), pub_code = error.code());
                tokio::time::sleep(backoff.next_pause()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

impl Unsealed {
    /// Starts answering.
    ///
    /// # Errors
    /// `CONFIG_INVALID` when the claims do not fit, `IDENTITY`, `SYSTEM`.
    pub fn serve(self) -> Result<Serving, EnclaveError> {
        let Self { words, device, config, config_digest, listener, clock, unsealer, models } = self;
        let identity = Identity::generate()?;
        let registry = Arc::new(Registry::new(&identity, words, config_digest, config.broker_pins(), models));
        if registry.current().claims.len() > MAX_CLAIMS {
            return Err(EnclaveError::ConfigInvalid(
                "the claims of so many models do not fit into 16 KiB: serve some elsewhere",
            ));
        }
        let service = Arc::new(Service {
            window: Window::start(device, words, config.window, config.window_leaves),
            identity,
            words,
            registry: registry.clone(),
            clock,
            max_body_bytes: config.max_body_bytes,
            request_timeout: config.request_timeout,
            pad_answers_to: config.pad_answers_to,
            work: Arc::new(Semaphore::new(thread::available_parallelism().map_or(1, NonZero::get))),
            bodies: Arc::new(Semaphore::new(held_kib(config.max_body_bytes))),
            metrics: Metrics::default(),
            unattested: accept::UNATTESTED,
        });
        let listener = tokio::net::TcpListener::from_std(listener).map_err(|_| EnclaveError::System("listen"))?;
        let (stop, stopping) = watch::channel(false);
        let accepting = tokio::spawn(accept::serve(service, listener, config.max_connections, stopping));
        tokio::spawn(give_back());
        let keeper = Arc::new(Keeper::new(unsealer, registry, config.models));
        keeper.start();
        Ok(Serving { keeper, stop, accepting })
    }
}

impl Serving {
    /// Looks at the packages again, beside the requests under way.
    pub fn reload(&self) {
        let keeper = self.keeper.clone();
        tokio::spawn(async move { keeper.reload().await });
    }

    /// Lets the requests under way end.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.accepting.await;
    }
}

/// Gives freed memory back now and then: its blocks are kept for the next bodies, and a burst may have left many.
async fn give_back() {
    loop {
        tokio::time::sleep(GIVE_BACK).await;
        // It fails with the runtime alone.
        let _ = tokio::task::spawn_blocking(vouchsafe_system::return_freed_memory).await;
    }
}

/// KiB of request bodies that may be held at a time: many ordinary ones, some of the largest.
fn held_kib(max_body_bytes: u64) -> usize {
    usize::try_from(max_body_bytes.saturating_mul(32) >> 10).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

/// Goes through the remaining states while the host may ask to stop.
async fn supervise(
    attested: Attested,
    channel: Option<&HostChannel>,
    mut requests: mpsc::Receiver<HostRequest>,
) -> Result<(), EnclaveError> {
    let (device, models) = (attested.device.clone(), attested.models.clone());
    let unsealing = attested.unseal();
    tokio::pin!(unsealing);
    let unsealed = loop {
        tokio::select! {
            unsealed = &mut unsealing => break unsealed?,
            request = requests.recv() => match request {
                // The packages themselves are read afresh at every attempt anyway.
                Some(HostRequest::Reload(file)) => {
                    renew(&device, file);
                    refresh(&models).await;
                }
                Some(HostRequest::Stop | HostRequest::Gone) | None => return Ok(()),
            },
        }
    };
    tell(channel, "unsealed");
    let serving = unsealed.serve()?;
    tell(channel, "serving");
    public_event!("serving");
    loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            () = serving.keeper.lost() => return Err(EnclaveError::Runner(RunnerError::Nursery)),
        };
        match request {
            Some(HostRequest::Reload(file)) => {
                renew(&device, file);
                serving.reload();
            }
            Some(HostRequest::Stop) => {
                serving.stop().await;
                return Ok(());
            }
            // The launcher, without whom nobody comes: end at once.
            Some(HostRequest::Gone) | None => return Ok(()),
        }
    }
}

/// Serves a new collateral file, or goes on with what is served and says so: a host's mistake stops no enclave that serves.
fn renew(device: &Served, file: Option<Handed>) {
    match file.map(|file| device.replace(file)) {
        None => {}
        Some(Ok(())) => public_event!("collateral"),
        Some(Err(error)) => {
            let fact = error.to_string();
            public_event!("collateral-refused", pub_code = error.code(), pub_fact = fact, pub_advice = error.advice());
        }
    }
}

/// Waits for the host's requests on a thread of its own.
fn listen(channel: HostChannel, send: mpsc::Sender<HostRequest>) -> Result<(), EnclaveError> {
    let wait = move || {
        loop {
            // A channel that breaks its protocol is as good as gone.
            let request = channel.receive_request().unwrap_or(HostRequest::Gone);
            let last = matches!(request, HostRequest::Gone);
            if send.blocking_send(request).is_err() || last {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("host-channel".into())
        .spawn(wait)
        .map(drop)
        .map_err(|_| EnclaveError::System("start a thread"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{EvidenceDevice, OwnLaunch};
    use crate::library::Source;
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use vouchsafe_attestation::{EvidenceEnvelope, Mode, Tee};

    fn booting(config: &[u8], device: Arc<dyn EvidenceDevice>) -> Booting {
        let file = || OwnedFd::from(File::open("/dev/null").unwrap());
        let supplies = Supplies {
            device,
            config: Handed::Bytes(config.to_vec()),
            models: Shelf::Directory(file()),
            library: Source::Handed(file()),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            way: Way::Direct,
            collateral: None,
            agent_policy: false,
        };
        Booting { words: Words { tee: Tee::SevSnp, mode: Mode::Simulation }, supplies }
    }

    /// Its report binds one configuration.
    struct Bound([u8; 32]);

    impl EvidenceDevice for Bound {
        fn quote(&self, _: [u8; 64]) -> Result<EvidenceEnvelope, EnclaveError> {
            // What a host could relay is not asked for at boot.
            Err(EnclaveError::Device("a quote was asked for"))
        }

        fn own_launch(&self, _: [u8; 64]) -> Result<OwnLaunch, EnclaveError> {
            Ok(OwnLaunch { measurement: [0; 48], config_digest: self.0 })
        }
    }

    #[test]
    fn a_configuration_that_is_not_bound_is_not_even_parsed() {
        let text = b"not a configuration";
        let other = booting(text, Arc::new(Bound([7; 32]))).attest(Ground::Process).err().unwrap();
        assert_eq!((other.code(), other.exit()), ("CONFIG_DIGEST_MISMATCH", 2));
        // Control: the bound one is parsed, and only then found wrong.
        let bound = booting(text, Arc::new(Bound(sha256(text)))).attest(Ground::Process).err().unwrap();
        assert_eq!(bound.code(), "CONFIG_INVALID");
    }

    #[test]
    fn a_containers_copy_of_the_init_data_counts_by_the_own_report_alone() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir(root.join("models")).unwrap();
        let boot = |given: &str, bound: &str| {
            std::fs::write(root.join("init-data"), given).unwrap();
            let supplies =
                crate::container::tests::found(root, Arc::new(Bound(sha256(bound.as_bytes())))).ok().unwrap();
            let words = Words { tee: Tee::SevSnp, mode: Mode::Hardware };
            let error = Booting { words, supplies }.attest(Ground::Process).err().unwrap();
            (error.code(), error.exit())
        };
        let alone = crate::config::tests::wrap(&crate::config::tests::inner());
        let whole = format!("{alone}\"policy.rego\" = 'package agent_policy'\n\"aa.toml\" = ''\n");
        assert_eq!(boot(&whole, &alone), ("CONFIG_DIGEST_MISMATCH", 2), "an item more than is bound");
        assert_eq!(boot(&alone, &whole), ("CONFIG_DIGEST_MISMATCH", 2), "an item less");
        assert_eq!(boot(&format!("{whole}\n"), &whole), ("CONFIG_DIGEST_MISMATCH", 2), "a line more");
        assert_eq!(boot("", &whole), ("CONFIG_DIGEST_MISMATCH", 2), "nothing");
        assert_eq!(boot(&alone, &alone), ("CONFIG_INVALID", 1), "bound, and anything could run here");
        // Control: the configuration is taken; what is missing next is the library.
        assert_eq!(boot(&whole, &whole), ("ORT_LOAD", 9));
    }
}
