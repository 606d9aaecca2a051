//! Turns a launch spec into a running enclave, keeps one running until a signal ends it, and says what happens.
//! It measures nothing itself and proves nothing: the simulator (later the processor) does, and the customer verifies.

use std::{io::ErrorKind, net::SocketAddr, path::Path, time::Duration};

use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep, sleep_until},
};
use vouchsafe_attestation::Mode;

use crate::{
    Backend, BoundConfig, Event, LaunchError, LaunchRequest, LaunchSpec, Simulator,
    enclave::{Enclave, Message, ProcessEnd, open_collateral},
    event::{Code, State},
    ready::ReadyFile,
    relay::{self, Limits},
};

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// How long an enclave that was asked to stop may take.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long an enclave that said its last word, or closed its channel, may take to end.
const END_GRACE: Duration = Duration::from_secs(2);
/// An enclave that served this long has earned a short backoff again.
const STABLE: Duration = Duration::from_secs(60);

/// Why a launch ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

/// Launches, relays and restarts until SIGINT or SIGTERM.
///
/// # Errors
/// What goes wrong before an enclave has served once; afterwards everything is tried again.
pub async fn launch(spec: &LaunchSpec, on_event: &mut dyn FnMut(Event)) -> Result<Stopped, LaunchError> {
    if spec.backend != Backend::SimProcess {
        return Err(LaunchError::BackendUnsupported);
    }
    look_for_files(spec)?;
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(spec.listen).await.map_err(|e| match e.kind() {
        ErrorKind::AddrInUse => LaunchError::PortInUse,
        kind => LaunchError::Listen(kind),
    })?;
    let address = listener.local_addr().map_err(|e| LaunchError::Listen(e.kind()))?;
    on_event(Event::Listening {
        simulation: "SIMULATED",
        address: address.to_string(),
        backend: spec.backend.as_str(),
        tee: spec.tee.as_str(),
        mode: Mode::Simulation.as_str(),
        pid: std::process::id(),
    });
    let (target, watched) = watch::channel(None);
    let limits = Limits { max_connections: spec.max_connections, idle: spec.idle_timeout };
    let relay = Relay { target, task: tokio::spawn(relay::serve(listener, watched, limits)).abort_handle() };
    let deadline = (!spec.ready_timeout.is_zero()).then(|| Instant::now() + spec.ready_timeout);
    let ready_file = ReadyFile::new(spec.ready_file.as_deref());
    let mut supervisor = Supervisor {
        spec,
        address,
        relay,
        ready_file,
        deadline,
        simulator: None,
        served: None,
        restarts: 0,
        last_word: None,
    };
    supervisor.run(&mut signals, on_event).await
}

/// One launch with all its tries.
struct Supervisor<'a> {
    spec: &'a LaunchSpec,
    address: SocketAddr,
    relay: Relay,
    ready_file: ReadyFile,
    /// Until when the first enclave must serve; none once it has, or when it may take for ever.
    deadline: Option<Instant>,
    simulator: Option<Simulator>,
    /// Since when the present enclave serves.
    served: Option<Instant>,
    restarts: u32,
    last_word: Option<Code>,
}

/// How one enclave's life ended.
enum End {
    Crashed(Code),
    Stopped(Stopped),
}

impl Supervisor<'_> {
    async fn run(&mut self, signals: &mut Signals, on_event: &mut dyn FnMut(Event)) -> Result<Stopped, LaunchError> {
        let mut backoff = FIRST_BACKOFF;
        let mut was_ready = false;
        loop {
            self.served = None;
            let outcome = self.live_once(signals, on_event).await;
            self.relay.point(None);
            self.ready_file.remove();
            was_ready |= self.served.is_some();
            let code = match outcome {
                Ok(End::Stopped(how)) => {
                    self.end_simulator().await;
                    on_event(Event::Stopped);
                    return Ok(how);
                }
                Ok(End::Crashed(code)) => code,
                // An enclave that ended before it took its descriptors has crashed like any other.
                Err(error @ LaunchError::HostChannel(_)) => Code::new(error.code()),
                Err(error) if was_ready && !matches!(error, LaunchError::ReadyFile(_)) => Code::new(error.code()),
                Err(error) => return Err(error),
            };
            if self.served.is_some_and(|since| since.elapsed() >= STABLE) {
                backoff = FIRST_BACKOFF;
            }
            self.restarts = self.restarts.saturating_add(1);
            let restart_in_ms = u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX);
            on_event(Event::Restarting { code, restart_in_ms, restarts: self.restarts });
            tokio::select! {
                () = sleep(backoff) => {}
                how = signals.stop() => {
                    self.end_simulator().await;
                    on_event(Event::Stopped);
                    return Ok(how);
                }
                () = until(self.deadline) => return Err(self.not_ready()),
            }
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    /// From a launch request to the end of the enclave.
    async fn live_once(&mut self, signals: &mut Signals, on_event: &mut dyn FnMut(Event)) -> Result<End, LaunchError> {
        let spec = self.spec;
        let config = BoundConfig::open(&spec.config)?;
        let request = LaunchRequest {
            tee: spec.tee,
            mode: Mode::Simulation,
            enclave: spec.enclave.clone(),
            onnxruntime: spec.onnxruntime.clone(),
            host_data: *config.digest(),
        };
        let previous = self.simulator.take();
        let (program, root) = (spec.simulator.clone(), spec.simulator_root.clone());
        let asking = spawn_blocking(move || {
            let mut simulator = previous.map_or_else(|| Simulator::start(&program, &root), Ok)?;
            let launched = simulator.launch(&request)?;
            Ok::<_, LaunchError>((simulator, launched))
        });
        let (simulator, launched) = tokio::select! {
            outcome = asking => outcome.map_err(|_| LaunchError::SimulatorFailed)??,
            how = signals.stop() => return Ok(End::Stopped(how)),
            () = until(self.deadline) => return Err(self.not_ready()),
        };
        let collateral = spec.collateral.as_deref();
        let enclave = Enclave::start(&launched, &config, &spec.models, collateral, spec.tee, Mode::Simulation)?;
        let (measurement, config_digest) = (hex::encode(launched.measurement), hex::encode(config.digest()));
        // The enclave holds its own copies now; the device must have no second holder.
        drop(launched);
        drop(config);
        on_event(Event::Launched {
            measurement: measurement.clone(),
            config_digest: config_digest.clone(),
            enclave_pid: enclave.pid(),
            simulator_pid: simulator.pid(),
            restarts: self.restarts,
        });
        let simulator_end = ProcessEnd::of(simulator.pid()).map_err(|_| LaunchError::SimulatorFailed)?;
        self.simulator = Some(simulator);
        self.relay.point(Some(enclave.address()));
        let ready = json!({
            "address": self.address.to_string(),
            "measurement": measurement,
            "config_digest": config_digest,
            "enclave_pid": enclave.pid(),
        });
        self.watch(enclave, &simulator_end, &ready, signals, on_event).await
    }

    /// Follows a running enclave until it ends or is stopped.
    async fn watch(
        &mut self,
        mut enclave: Enclave,
        simulator_end: &ProcessEnd,
        ready: &serde_json::Value,
        signals: &mut Signals,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<End, LaunchError> {
        loop {
            let message = tokio::select! {
                message = enclave.message() => message,
                wish = signals.next() => match wish {
                    Wish::Reload => {
                        let collateral = self.spec.collateral.as_deref().map(open_collateral).transpose();
                        if let Err(error) = &collateral {
                            on_event(Event::CollateralKept { code: error.code(), fact: error.to_string() });
                        }
                        // A channel that is gone shows as the enclave's end.
                        let _ = enclave.reload(collateral.ok().flatten().as_ref());
                        on_event(Event::Reload);
                        continue;
                    }
                    Wish::Stop(how) => {
                        let reason = if how == Stopped::Interrupted { "interrupt" } else { "terminate" };
                        on_event(Event::Stopping { reason });
                        self.relay.close();
                        let grace = if enclave.stop().is_ok() { STOP_GRACE } else { Duration::ZERO };
                        enclave.finish(grace).await;
                        return Ok(End::Stopped(how));
                    }
                },
                () = simulator_end.wait() => {
                    self.simulator = None;
                    enclave.finish(Duration::ZERO).await;
                    return Ok(End::Crashed(Code::new("SIMULATOR_ENDED")));
                }
                () = until(self.deadline) => {
                    enclave.finish(Duration::ZERO).await;
                    return Err(self.not_ready());
                }
            };
            match message {
                Some(Message::State(state)) => {
                    on_event(Event::State { state, enclave_pid: enclave.pid() });
                    if state == State::Serving && self.served.is_none() {
                        self.served = Some(Instant::now());
                        self.deadline = None;
                        self.ready_file.write(ready)?;
                    }
                }
                Some(Message::Fatal(fatal)) => {
                    let code = fatal.code.clone();
                    on_event(Event::Fatal { fatal, enclave_pid: enclave.pid() });
                    self.last_word = Some(code.clone());
                    enclave.finish(END_GRACE).await;
                    return Ok(End::Crashed(code));
                }
                // The channel closes when the process ends: every kind of crash arrives here.
                None => return Ok(End::Crashed(enclave.finish(END_GRACE).await)),
            }
        }
    }

    fn not_ready(&self) -> LaunchError {
        LaunchError::EnclaveNotReady(self.spec.ready_timeout.as_secs(), self.last_word.clone())
    }

    async fn end_simulator(&mut self) {
        if let Some(mut simulator) = self.simulator.take() {
            let _ = spawn_blocking(move || simulator.end()).await;
        }
    }
}

/// The relay's two handles: where it points, and how it ends.
struct Relay {
    target: watch::Sender<Option<SocketAddr>>,
    task: AbortHandle,
}

impl Relay {
    fn point(&self, target: Option<SocketAddr>) {
        self.target.send_replace(target);
    }

    /// Stops accepting; open connections go on.
    fn close(&self) {
        self.task.abort();
    }
}

/// What a signal asks for.
enum Wish {
    Stop(Stopped),
    Reload,
}

struct Signals {
    int: Signal,
    term: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> Result<Self, LaunchError> {
        let catch = |kind| signal(kind).map_err(|e| LaunchError::Runtime(e.kind()));
        Ok(Self {
            int: catch(SignalKind::interrupt())?,
            term: catch(SignalKind::terminate())?,
            hup: catch(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.int.recv() => Wish::Stop(Stopped::Interrupted),
            _ = self.term.recv() => Wish::Stop(Stopped::Terminated),
            _ = self.hup.recv() => Wish::Reload,
        }
    }

    /// Waits for a wish to stop. With no enclave there is nothing to reload.
    async fn stop(&mut self) -> Stopped {
        loop {
            if let Wish::Stop(how) = self.next().await {
                return how;
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Says early and by name what is missing; every file is opened again, once, by whoever uses it.
fn look_for_files(spec: &LaunchSpec) -> Result<(), LaunchError> {
    let files: [(&Path, &'static str); 4] = [
        (&spec.config, "the configuration"),
        (&spec.enclave, "the enclave program"),
        (&spec.simulator, "the simulator program"),
        (&spec.onnxruntime, "ONNX Runtime's library"),
    ];
    for (path, what) in files {
        let about = std::fs::metadata(path).map_err(|e| LaunchError::File(what, e.kind()))?;
        if !about.is_file() {
            return Err(LaunchError::File(what, ErrorKind::InvalidInput));
        }
        std::fs::File::open(path).map_err(|e| LaunchError::File(what, e.kind()))?;
    }
    std::fs::read_dir(&spec.models).map_err(|e| LaunchError::File("the models directory", e.kind()))?;
    if let Some(path) = &spec.collateral {
        open_collateral(path)?;
    }
    BoundConfig::open(&spec.config)?;
    Ok(())
}
