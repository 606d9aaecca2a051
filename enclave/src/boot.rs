//! Turns a fresh process into a serving one, state by state: booting, attested, unsealed, serving. No state can be skipped.
//! `Attested` means that this machine's own report binds the configuration; whether anybody accepts that report is theirs to say.

use std::fs::File;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{mpsc, watch};
use vouchsafe_attestation::lp::{Transcript, sha256};

use crate::attest::Window;
use crate::authority;
use crate::channel::{Descriptors, HostChannel, HostRequest};
use crate::config::{BUILD_TIME, Config, MAX_CONFIG, ModelConfig};
use crate::device::{EvidenceDevice, Served, Words};
use crate::engine::Runtime;
use crate::error::EnclaveError;
use crate::keeper::{Backoff, Keeper};
use crate::lease::GuestClock;
use crate::library::Library;
use crate::model::{Model, Registry};
use crate::public_event;
use crate::release_client::ReleaseClient;
use crate::serve::{Service, accept};
use crate::tls::Identity;
use crate::unseal::Unsealer;

/// The descriptors are here, the device is chosen; nothing of the configuration has been parsed.
pub struct Booting {
    words: Words,
    device: Arc<dyn EvidenceDevice>,
    config: Vec<u8>,
    models: OwnedFd,
    onnxruntime: OwnedFd,
    listener: TcpListener,
    collateral: Option<OwnedFd>,
}

/// The own report binds this configuration; the process has left the file system and the network, models and brokers excepted.
pub struct Attested {
    words: Words,
    device: Arc<Served>,
    config: Config,
    config_digest: [u8; 32],
    models: OwnedFd,
    runtime: Runtime,
    listener: TcpListener,
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
    let dropped = authority::drop_authority().and(if wipes {
        Ok(())
    } else {
        Err(EnclaveError::System("overwrite freed memory"))
    });
    crate::log::install();
    let channel = match HostChannel::stdin() {
        Ok(channel) => channel,
        Err(error) => return fatal(None, &error),
    };
    match dropped.and_then(|()| run(words, &channel)) {
        Ok(()) => {
            public_event!("stopped");
            0
        }
        Err(error) => fatal(Some(&channel), &error),
    }
}

fn run(words: impl Iterator<Item = String>, channel: &HostChannel) -> Result<(), EnclaveError> {
    let words = Words::parse(words)?;
    words.has_device()?;
    channel.send_state("booting");
    let booting = Booting::receive(words, channel)?;
    let attested = booting.attest()?;
    // From here on threads may start: they inherit the fence.
    channel.send_state("attested");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|_| EnclaveError::System("start the runtime"))?;
    let requests = listen(channel.try_clone()?)?;
    let result = runtime.block_on(supervise(attested, channel, requests));
    runtime.shutdown_background();
    result
}

fn fatal(channel: Option<&HostChannel>, error: &EnclaveError) -> u8 {
    let fact = error.to_string();
    let ticket = match error {
        EnclaveError::KeyRefused { ticket } => ticket.as_str(),
        _ => "",
    };
    public_event!("fatal", pub_code = error.code(), pub_fact = fact, pub_advice = error.advice(), pub_ticket = ticket);
    if let Some(channel) = channel {
        channel.send_fatal(error);
    }
    error.exit()
}

impl Booting {
    /// Takes the descriptors of the first frame and opens the device that the words name.
    ///
    /// # Errors
    /// `HOST_CHANNEL`, `NO_TEE`, `SYSTEM`.
    pub fn receive(words: Words, channel: &HostChannel) -> Result<Self, EnclaveError> {
        let Descriptors { device, config, models, onnxruntime, listener, collateral } = channel.receive_hello()?;
        let device = Arc::from(words.open_device(device)?);
        let mut bytes = Vec::new();
        let cap = MAX_CONFIG as u64 + 1;
        File::from(config)
            .take(cap)
            .read_to_end(&mut bytes)
            .map_err(|_| EnclaveError::System("read the configuration"))?;
        let listener = TcpListener::from(listener);
        listener
            .set_nonblocking(true)
            .map_err(|_| EnclaveError::Channel("the fifth descriptor is no listening socket"))?;
        Ok(Self { words, device, config: bytes, models, onnxruntime, listener, collateral })
    }

    /// Compares the configuration with the own report, and only then parses it; compares program and library with it, and only
    /// then loads the library; fences the process, and only then reads the host's collateral file.
    ///
    /// # Errors
    /// `EVIDENCE_DEVICE`, `CONFIG_DIGEST_MISMATCH`, `CONFIG_*`, `MEASUREMENT_MISMATCH`, `ORT_*`, `AUTHORITY`, `COLLATERAL_FILE`.
    pub fn attest(self) -> Result<Attested, EnclaveError> {
        let mut nonce = [0; 32];
        SystemRandom::new().fill(&mut nonce).map_err(|_| EnclaveError::Identity("nonce"))?;
        let own = self.device.own_launch(Transcript::<64>::new("vouchsafe/1 boot").lp(&nonce).finish())?;
        let config_digest = sha256(&self.config);
        if own.config_digest != config_digest {
            return Err(EnclaveError::ConfigDigestMismatch);
        }
        let config = Config::parse(&self.config)?;
        let library = Library::read(self.onnxruntime)?;
        library.is_measured(self.words, &own.measurement)?;
        let runtime = Runtime::load(&library)?;
        let ports = config.brokers.iter().map(|b| b.address.port());
        let enforced = authority::fence(&self.models, ports, config.landlock)?;
        public_event!(
            "attested",
            pub_mode = self.words.mode.as_str(),
            pub_tee = self.words.tee.as_str(),
            pub_config_digest = hex::encode(config_digest),
            pub_landlock = enforced,
            pub_landlock_demanded = config.landlock.as_str(),
        );
        let Self { words, device, models, listener, collateral, .. } = self;
        let device = Arc::new(Served::new(device, words.tee));
        if let Some(file) = collateral {
            device.replace(file)?;
            public_event!("collateral");
        }
        Ok(Attested { words, device, config, config_digest, models, runtime, listener })
    }
}

impl Attested {
    /// Gets every model's key and unseals it. A broker that is down is asked again for ever.
    ///
    /// # Errors
    /// The first definite refusal.
    pub async fn unseal(self) -> Result<Unsealed, EnclaveError> {
        let Self { words, device, config, config_digest, models, runtime, listener } = self;
        let clock = Arc::new(GuestClock::new(BUILD_TIME, Instant::now()));
        let client =
            ReleaseClient::new(&config.brokers, device.clone(), words, config.release_keys.clone(), clock.clone())?;
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
    /// `IDENTITY`, `SYSTEM`.
    pub fn serve(self) -> Result<Serving, EnclaveError> {
        let Self { words, device, config, config_digest, listener, clock, unsealer, models } = self;
        let identity = Identity::generate()?;
        let registry = Arc::new(Registry::new(&identity, words, config_digest, config.broker_pins(), models));
        let service = Arc::new(Service {
            window: Window::start(device, words, config.window, config.window_leaves),
            identity,
            words,
            registry: registry.clone(),
            clock,
            max_body_bytes: config.max_body_bytes,
            request_timeout: config.request_timeout,
            unattested: accept::UNATTESTED,
        });
        let listener = tokio::net::TcpListener::from_std(listener).map_err(|_| EnclaveError::System("listen"))?;
        let (stop, stopping) = watch::channel(false);
        let accepting = tokio::spawn(accept::serve(service, listener, config.max_connections, stopping));
        let keeper = Arc::new(Keeper::new(unsealer, registry, config.models));
        keeper.start();
        Ok(Serving { keeper, stop, accepting })
    }
}

impl Serving {
    /// Looks at the models directory again, beside the requests under way.
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

/// Goes through the remaining states while the host may ask to stop.
async fn supervise(
    attested: Attested,
    channel: &HostChannel,
    mut requests: mpsc::Receiver<HostRequest>,
) -> Result<(), EnclaveError> {
    let device = attested.device.clone();
    let unsealing = attested.unseal();
    tokio::pin!(unsealing);
    let unsealed = loop {
        tokio::select! {
            unsealed = &mut unsealing => break unsealed?,
            request = requests.recv() => match request {
                // The directory is read afresh at every attempt anyway.
                Some(HostRequest::Reload(file)) => renew(&device, file),
                Some(HostRequest::Stop | HostRequest::Gone) | None => return Ok(()),
            },
        }
    };
    channel.send_state("unsealed");
    let serving = unsealed.serve()?;
    channel.send_state("serving");
    public_event!("serving");
    loop {
        match requests.recv().await {
            Some(HostRequest::Reload(file)) => {
                renew(&device, file);
                serving.reload();
            }
            Some(HostRequest::Stop) => {
                serving.stop().await;
                return Ok(());
            }
            // Nobody is left to relay to: end at once.
            Some(HostRequest::Gone) | None => return Ok(()),
        }
    }
}

/// Serves a new collateral file, or goes on with what is served and says so: a host's mistake stops no enclave that serves.
fn renew(device: &Served, file: Option<OwnedFd>) {
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
fn listen(channel: HostChannel) -> Result<mpsc::Receiver<HostRequest>, EnclaveError> {
    let (send, receive) = mpsc::channel(8);
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
        .map_err(|_| EnclaveError::System("start a thread"))?;
    Ok(receive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::OwnLaunch;
    use vouchsafe_attestation::{EvidenceEnvelope, Mode, Tee};

    fn booting(config: &[u8], device: Arc<dyn EvidenceDevice>) -> Booting {
        let file = || OwnedFd::from(File::open("/dev/null").unwrap());
        Booting {
            words: Words { tee: Tee::SevSnp, mode: Mode::Simulation },
            device,
            config: config.to_vec(),
            models: file(),
            onnxruntime: file(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            collateral: None,
        }
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
        let other = booting(text, Arc::new(Bound([7; 32]))).attest().err().unwrap();
        assert_eq!((other.code(), other.exit()), ("CONFIG_DIGEST_MISMATCH", 2));
        // Control: the bound one is parsed, and only then found wrong.
        let bound = booting(text, Arc::new(Bound(sha256(text)))).attest().err().unwrap();
        assert_eq!(bound.code(), "CONFIG_INVALID");
    }
}
