//! Turns a launch spec into a running enclave, keeps one running until a signal ends it, and says what happens.
//! It measures nothing itself and proves nothing: the processor or its simulator does, and the customer verifies.

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    BoundConfig, Event, LaunchError, LaunchSpec, Simulator,
    backend::{Early, Ending, Guest, Heard, Ingredients, Machine, Prepared, host::Means, prepare},
    enclave::{Enclave, Message, ProcessEnd, open_collateral},
    event::{Code, Renews, State},
    look::look_for_files,
    ready::ReadyFile,
    relay::{self, Limits, Target},
    renewal::Renewal,
    signals::{Signals, Wish},
    volume::{Volume, VolumeError},
};

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// How long an enclave that was asked to stop may take.
const STOP_GRACE: Duration = Duration::from_secs(12);
/// How long an enclave that said its last word, or closed its channel, may take to end.
const END_GRACE: Duration = Duration::from_secs(2);
/// An enclave that served this long has earned a short backoff again.
const STABLE: Duration = Duration::from_secs(60);
/// How often a machine's loopback ports may be taken by others.
const PORT_TRIES: u32 = 3;

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
    spec.require_sense()?;
    let means = spec.backend.is_machine().then(|| Means::of(spec.backend, &spec.machine)).transpose()?;
    look_for_files(spec)?;
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(spec.listen).await.map_err(|e| match e.kind() {
        ErrorKind::AddrInUse => LaunchError::PortInUse,
        kind => LaunchError::Listen(kind),
    })?;
    let address = listener.local_addr().map_err(|e| LaunchError::Listen(e.kind()))?;
    on_event(Event::Listening {
        simulation: spec.backend.is_simulated().then_some("SIMULATED"),
        address: address.to_string(),
        backend: spec.backend.as_str(),
        tee: spec.tee.as_str(),
        mode: spec.backend.mode().as_str(),
        pid: std::process::id(),
    });
    let relay = Relay::start(listener, spec).map_err(|e| LaunchError::Listen(e.kind()))?;
    let deadline = (!spec.ready_timeout.is_zero()).then(|| Instant::now() + spec.ready_timeout);
    let ready_file = ReadyFile::new(spec.ready_file.as_deref());
    let mut supervisor = Supervisor {
        spec,
        means,
        volume: None,
        port_tries: 0,
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
    /// What a machine is started with.
    means: Option<Means>,
    /// A machine's packages, renewed on SIGHUP and before a machine starts again.
    volume: Option<Arc<Volume>>,
    /// How often in a row a machine's loopback ports were taken.
    port_tries: u32,
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
            self.relay.point(Target::Nobody);
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
        let spec = self.spec.clone();
        let (previous, volume) = (self.simulator.take(), self.volume.clone());
        let preparing = spawn_blocking(move || prepare(&spec, previous, volume));
        let prepared = tokio::select! {
            outcome = preparing => outcome.map_err(|_| LaunchError::SimulatorFailed)??,
            how = signals.stop() => return Ok(End::Stopped(how)),
            () = until(self.deadline) => return Err(self.not_ready()),
        };
        let Prepared { simulator, measurement, config, packages_kept, ingredients } = prepared;
        if let Some(error) = packages_kept {
            on_event(kept(&error));
        }
        // Here and not on a thread that may end: QEMU dies with the thread that started it.
        let guest = self.start(ingredients, &config)?;
        self.relay.point(guest.target());
        let (measurement, config_digest) = (hex::encode(measurement), hex::encode(config.digest()));
        // The enclave holds its own copy now.
        drop(config);
        on_event(Event::Launched {
            measurement: measurement.clone(),
            config_digest: config_digest.clone(),
            enclave_pid: guest.pid(),
            simulator_pid: simulator.as_ref().map(Simulator::pid),
            accel: self.means.as_ref().map(|means| means.accel.as_str()),
            restarts: self.restarts,
        });
        let simulator_end = simulator.as_ref().map(|simulator| ProcessEnd::of(simulator.pid())).transpose();
        let simulator_end = simulator_end.map_err(|_| LaunchError::SimulatorFailed)?;
        self.simulator = simulator;
        let ready = json!({
            "address": self.address.to_string(),
            "measurement": measurement,
            "config_digest": config_digest,
            "enclave_pid": guest.pid(),
        });
        self.watch(guest, simulator_end.as_ref(), &ready, signals, on_event).await
    }

    /// Starts the guest. The device is handed on: it has no second holder.
    fn start(&mut self, ingredients: Ingredients, config: &BoundConfig) -> Result<Guest, LaunchError> {
        let spec = self.spec;
        let collateral = spec.collateral.as_deref();
        match (ingredients, &self.means) {
            (Ingredients::Machine(parts), Some(means)) => {
                self.volume = Some(Arc::clone(&parts.volume));
                let collateral = collateral.map(open_collateral).transpose()?;
                let machine = Machine::start(spec, means, *parts, config, collateral.as_ref())?;
                Ok(Guest::Machine(Box::new(machine)))
            }
            (Ingredients::Process(launched), _) => {
                let words = (spec.tee, spec.backend.mode());
                let listener = self.relay.public()?;
                Enclave::start(&launched, config, &spec.models, collateral, listener, words).map(Guest::Process)
            }
            (Ingredients::Machine(_), None) => Err(LaunchError::QemuMissing),
        }
    }

    /// Follows a running guest until it ends or is stopped.
    async fn watch(
        &mut self,
        mut guest: Guest,
        simulator_end: Option<&ProcessEnd>,
        ready: &serde_json::Value,
        signals: &mut Signals,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<End, LaunchError> {
        let mut renewal = Renewal::default();
        loop {
            let heard = tokio::select! {
                heard = guest.hear() => heard,
                renewed = renewal.done() => {
                    self.reload(&guest, renewed, on_event);
                    continue;
                }
                wish = signals.next() => match wish {
                    Wish::Reload => {
                        // A machine's packages are copied first, beside all that goes on.
                        match (&guest, &self.volume) {
                            (Guest::Machine(_), Some(volume)) => renewal.start(volume, &self.spec.models),
                            _ => self.reload(&guest, Ok(()), on_event),
                        }
                        continue;
                    }
                    Wish::Stop(how) => {
                        let reason = if how == Stopped::Interrupted { "interrupt" } else { "terminate" };
                        on_event(Event::Stopping { reason });
                        self.relay.close();
                        let grace = if guest.stop().is_ok() { STOP_GRACE } else { Duration::ZERO };
                        guest.finish(grace).await;
                        return Ok(End::Stopped(how));
                    }
                },
                () = end_of(simulator_end) => {
                    self.simulator = None;
                    guest.finish(Duration::ZERO).await;
                    let code = Code::new("SIMULATOR_ENDED");
                    self.last_word = Some(code.clone());
                    return Ok(End::Crashed(code));
                }
                () = until(self.deadline) => {
                    guest.finish(Duration::ZERO).await;
                    return Err(self.not_ready());
                }
            };
            match heard {
                Heard::Message(Message::State(state)) => {
                    on_event(Event::State { state, enclave_pid: guest.pid() });
                    self.port_tries = 0;
                    // This one has come further than a machine whose enclave said nothing.
                    self.last_word.take_if(|code| code.as_str().starts_with("GUEST_"));
                    if state == State::Serving && self.served.is_none() {
                        self.served = Some(Instant::now());
                        self.deadline = None;
                        self.ready_file.write(ready)?;
                    }
                }
                Heard::Message(Message::Fatal(fatal)) => {
                    let code = fatal.code.clone();
                    on_event(Event::Fatal { fatal, enclave_pid: guest.pid() });
                    self.last_word = Some(code.clone());
                    guest.finish(END_GRACE).await;
                    return Ok(End::Crashed(code));
                }
                Heard::Silence => {
                    guest.finish(Duration::ZERO).await;
                    let code = Code::new("GUEST_SILENT");
                    self.last_word = Some(code.clone());
                    self.fall_back(&code, on_event);
                    return Ok(End::Crashed(code));
                }
                // The channel closes when the guest ends: every kind of crash arrives here.
                Heard::End => {
                    let is_machine = matches!(guest, Guest::Machine(_));
                    let ending = guest.finish(END_GRACE).await;
                    if is_machine {
                        self.last_word = Some(ending.code.clone());
                    }
                    return self.ended(ending, on_event);
                }
            }
        }
    }

    fn reload(&self, guest: &Guest, renewed: Result<(), VolumeError>, on_event: &mut dyn FnMut(Event)) {
        if let Err(error) = &renewed {
            on_event(kept(error));
        }
        let collateral = self.spec.collateral.as_deref().map(open_collateral).transpose();
        if let Err(error) = &collateral {
            on_event(Event::CollateralKept { code: error.code(), fact: error.to_string() });
        }
        let renews = if renewed.is_ok() { Renews::ModelsAndCollateral } else { Renews::Collateral };
        // A channel that is gone shows as the guest's end.
        if guest.reload(collateral.ok().flatten().as_ref()).is_ok() {
            on_event(Event::Reload { renews });
        }
    }

    /// A guest that ended by itself: another try, unless no try can help.
    fn ended(&mut self, ending: Ending, on_event: &mut dyn FnMut(Event)) -> Result<End, LaunchError> {
        match ending.early {
            None => Ok(End::Crashed(ending.code)),
            Some(Early::PortTaken) => {
                self.port_tries += 1;
                if self.port_tries >= PORT_TRIES {
                    return Err(LaunchError::GuestPorts);
                }
                Ok(End::Crashed(Code::new("PORT_IN_USE")))
            }
            Some(Early::Refused) if self.fall_back(&ending.code, on_event) => Ok(End::Crashed(ending.code)),
            Some(Early::Refused) => Err(LaunchError::QemuRefused(ending.code)),
        }
    }

    /// Says so when the next machine runs on QEMU's interpreter.
    fn fall_back(&mut self, code: &Code, on_event: &mut dyn FnMut(Event)) -> bool {
        let spec = self.spec;
        let falls = self.means.as_mut().is_some_and(|means| means.fall_back(spec.backend, spec.machine.accel));
        if falls {
            on_event(Event::Fallback { from: "kvm", to: "tcg", code: code.clone() });
        }
        falls
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

/// The public address: who accepts there, and the relay that does for a machine.
struct Relay {
    target: watch::Sender<Target>,
    task: AbortHandle,
    /// For a process, which accepts by itself.
    public: Option<std::net::TcpListener>,
}

impl Relay {
    fn start(listener: TcpListener, spec: &LaunchSpec) -> std::io::Result<Self> {
        let public = listener.into_std()?;
        let listener = TcpListener::from_std(public.try_clone()?)?;
        let (target, watched) = watch::channel(Target::Nobody);
        let limits = Limits { max_connections: spec.max_connections, idle: spec.idle_timeout };
        let task = tokio::spawn(relay::serve(listener, watched, limits)).abort_handle();
        Ok(Self { target, task, public: Some(public) })
    }

    fn point(&self, target: Target) {
        if let Some(public) = &self.public {
            // A process that had the listener could have changed this for both; the relay must not stand still in it.
            let _ = public.set_nonblocking(true);
        }
        self.target.send_replace(target);
    }

    fn public(&self) -> Result<&std::net::TcpListener, LaunchError> {
        self.public.as_ref().ok_or(LaunchError::Listen(ErrorKind::NotConnected))
    }

    /// Stops accepting; open connections go on.
    fn close(&mut self) {
        self.task.abort();
        self.public = None;
    }
}

fn kept(error: &VolumeError) -> Event {
    Event::PackagesKept { code: error.code(), fact: error.to_string(), advice: error.advice() }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn end_of(process: Option<&ProcessEnd>) {
    match process {
        Some(process) => process.wait().await,
        None => std::future::pending().await,
    }
}
