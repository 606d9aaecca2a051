//! Turns prepared ingredients into a running virtual machine: QEMU, two ports, a console, a volume and a carrier.
//! QEMU and the launcher see all traffic of the ports; no secret ever travels on them, and what the guest says proves nothing.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
};
use vouchsafe_measurement::mrconfigid;

use super::{
    Early, Ending, Heard,
    helper::{self, MODE},
    host::Means,
    life::Life,
    port::{self, Outbox},
    prepare::MachineParts,
    qemu::{Arguments, Inherited, Protection},
};
use crate::{
    Backend, BoundConfig, LaunchError, LaunchSpec, carrier,
    console::{Console, Line},
    enclave::{Message, ProcessEnd},
    event::Code,
    frame,
    lines::{self, Lines},
};

/// The largest collateral file: what a frame of the host channel holds beside a configuration.
const MAX_COLLATERAL: u64 = 1 << 20;
/// What QEMU says when it cannot listen on a port (net/slirp.c).
const PORT_TAKEN: &str = "Could not set up host forwarding rule";

/// A running machine. It is killed when this is dropped.
pub struct Machine {
    child: Child,
    lines: Vec<Lines>,
    outbox: Outbox,
    messages: mpsc::Receiver<Message>,
    exited: ProcessEnd,
    carrier: AbortHandle,
    life: Arc<Life>,
    silence: Option<Duration>,
    notes: Arc<Notes>,
    address: SocketAddr,
}

/// What the threads that read QEMU's output noticed.
#[derive(Default)]
struct Notes {
    alarm: Mutex<Option<Code>>,
    port_taken: AtomicBool,
    /// The console said that nothing follows, and nothing ends the machine either.
    stuck: Notify,
}

impl Machine {
    /// Starts QEMU and hands it every file and socket as a descriptor. QEMU is killed when the thread that calls this ends: call
    /// it on one that lives as long as the launch.
    ///
    /// # Errors
    /// `LAUNCH_FILE` for the collateral file, `QEMU_SPAWN`, `HOST_CHANNEL`.
    pub fn start(
        spec: &LaunchSpec,
        means: &Means,
        parts: MachineParts,
        config: &BoundConfig,
        collateral: Option<&File>,
    ) -> Result<Self, LaunchError> {
        let failed = |e: io::Error| LaunchError::QemuSpawn(e.kind());
        let hello = hello(config, collateral).map_err(|e| LaunchError::File("the collateral file", e.kind()))?;
        let (host, console) = (UnixStream::pair().map_err(failed)?, UnixStream::pair().map_err(failed)?);
        let processor = match parts.simulated.as_ref() {
            Some(simulated) => {
                let (near, far) = UnixStream::pair().map_err(failed)?;
                Some((near, far, simulated.device.try_clone().map_err(failed)?))
            }
            None => None,
        };
        let ports = free_ports().map_err(failed)?;
        let arguments = arguments(spec, means, &parts, config, ports);
        let (channel, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = Command::new(&spec.machine.own)
            .arg(MODE)
            .arg(std::process::id().to_string())
            .arg(&means.qemu)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            // Ctrl-C is for the launcher, which then ends its children in order.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let notes = Arc::new(Notes::default());
        let out = child.stdout.take().map(|out| lines::forward("qemu", out));
        let err = child.stderr.take().map(|err| {
            let notes = Arc::clone(&notes);
            lines::watch("qemu", err, move |line| {
                notes.port_taken.fetch_or(line.contains(PORT_TAKEN), Ordering::Relaxed);
            })
        });
        let mut lines: Vec<Lines> = out.into_iter().chain(err).collect();
        let life = Arc::new(Life::new());
        let started = (|| {
            let exited = ProcessEnd::of(child.id())?;
            hand_over(&channel, [&host.1, &console.1], processor.as_ref().map(|(_, far, _)| far), &parts)?;
            if let Some((near, _, device)) = processor {
                port::bridge(near, UnixStream::from(device))?;
            }
            let messages = port::inbox(host.0.try_clone()?, Arc::clone(&life))?;
            let outbox = Outbox::new(host.0)?;
            outbox.post(&hello)?;
            lines.push(read_console(console.0, Arc::clone(&life), Arc::clone(&notes))?);
            Ok((exited, messages, outbox))
        })();
        let (exited, messages, outbox) = match started {
            Ok(running) => running,
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(e));
            }
        };
        let [service, guest] = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Ok(Self {
            child,
            lines,
            outbox,
            messages,
            exited,
            carrier: carrier::run(guest, spec.machine.brokers.clone()),
            life,
            silence: spec.machine.silence,
            notes,
            address: service,
        })
    }

    /// QEMU's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its service is, on the loopback interface.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it lets its host hear next. May be dropped and called again.
    pub async fn hear(&mut self) -> Heard {
        tokio::select! {
            message = self.messages.recv() => message.map_or(Heard::End, Heard::Message),
            () = self.life.silence(self.silence) => Heard::Silence,
            () = self.notes.stuck.notified() => Heard::End,
        }
    }

    /// Asks it to read its volume's index again, and to serve this collateral file from now on.
    ///
    /// # Errors
    /// Those of the channel and of the file.
    pub fn reload(&self, collateral: Option<&File>) -> io::Result<()> {
        let mut reload = json!({});
        if let Some(file) = collateral {
            reload["collateral"] = json!(URL_SAFE_NO_PAD.encode(read_collateral(file)?));
        }
        self.outbox.post(&json!({ "reload": reload }))
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn stop(&self) -> io::Result<()> {
        self.outbox.post(&json!({ "stop": {} }))
    }

    /// Waits at most `grace` for QEMU to end by itself, then kills it.
    pub async fn finish(mut self, grace: Duration) -> Ending {
        let by_itself = tokio::time::timeout(grace, self.exited.wait()).await.is_ok();
        let status = self.kill();
        let alarm = self.notes.alarm.lock().unwrap_or_else(PoisonError::into_inner).take();
        let early = match status.and_then(|status| status.code()) {
            Some(1..) if alarm.is_none() && !self.life.stirred() => {
                let taken = self.notes.port_taken.load(Ordering::Relaxed);
                Some(if taken { Early::PortTaken } else { Early::Refused })
            }
            _ => None,
        };
        // A channel that closes while QEMU runs on broke the rules of its frames.
        let code = alarm.unwrap_or_else(|| if by_itself { describe(status) } else { Code::new("HOST_CHANNEL") });
        Ending { code, early }
    }

    /// The exit status; kills QEMU first when it still runs.
    fn kill(&mut self) -> Option<ExitStatus> {
        self.carrier.abort();
        let ended = self.child.try_wait().ok().flatten();
        let status = ended.or_else(|| {
            let _ = self.child.kill();
            self.child.wait().ok()
        });
        // With QEMU its ends of all sockets have closed, and every thread that reads or writes ends.
        self.lines.iter_mut().for_each(Lines::finish);
        status
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn arguments(
    spec: &LaunchSpec,
    means: &Means,
    parts: &MachineParts,
    config: &BoundConfig,
    ports: [u16; 2],
) -> Vec<String> {
    let machine = &spec.machine;
    let config_id = mrconfigid(config.digest());
    let protection = match (&parts.simulated, spec.backend) {
        (Some(simulated), _) => Protection::Simulated { accel: means.accel, table_address: simulated.table_address },
        (None, Backend::Tdx) => Protection::Tdx { config_id: &config_id, quotes: &machine.quote_service },
        (None, _) => Protection::Snp {
            cpu: machine.cpu.as_str(),
            policy: machine.guest_policy,
            c_bit: means.c_bit,
            host_data: config.digest(),
            identity: parts.identity.as_ref(),
        },
    };
    let arguments = Arguments {
        protection,
        command_line: &parts.command_line,
        vcpus: machine.vcpus,
        memory_mib: machine.memory_mib,
        ports,
    };
    arguments.list()
}

/// Gives the helper its descriptors, in the order of [`Inherited::ALL`].
fn hand_over(
    channel: &UnixStream,
    [host, console]: [&UnixStream; 2],
    processor: Option<&UnixStream>,
    parts: &MachineParts,
) -> io::Result<()> {
    let offered = Inherited::ALL.map(|slot| -> Option<BorrowedFd<'_>> {
        match slot {
            Inherited::Host => Some(host.as_fd()),
            Inherited::Console => Some(console.as_fd()),
            Inherited::Firmware => Some(parts.parts.firmware.as_fd()),
            Inherited::Kernel => Some(parts.parts.kernel.as_fd()),
            Inherited::Initrd => Some(parts.parts.initrd.as_fd()),
            Inherited::Models => Some(parts.volume.device().as_fd()),
            Inherited::Table => parts.simulated.as_ref().map(|simulated| simulated.table.as_fd()),
            Inherited::Processor => processor.map(AsFd::as_fd),
        }
    });
    let descriptors: Vec<_> = offered.into_iter().flatten().collect();
    frame::write(channel, &offered.map(|slot| slot.is_some()), &descriptors)
}

/// Two loopback ports that are free now. Another program may still be faster: then QEMU says so, and another try follows.
fn free_ports() -> io::Result<[u16; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (a, b) = (bind()?, bind()?);
    Ok([a.local_addr()?.port(), b.local_addr()?.port()])
}

fn hello(config: &BoundConfig, collateral: Option<&File>) -> io::Result<Value> {
    let mut hello = json!({ "v": 1, "config": URL_SAFE_NO_PAD.encode(config.bytes()) });
    if let Some(file) = collateral {
        hello["collateral"] = json!(URL_SAFE_NO_PAD.encode(read_collateral(file)?));
    }
    Ok(hello)
}

fn read_collateral(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_COLLATERAL + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_COLLATERAL { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// A thread that forwards the console's lines and remembers the first alarm.
fn read_console(mut socket: UnixStream, life: Arc<Life>, notes: Arc<Notes>) -> io::Result<Lines> {
    let read = move || {
        let mut console = Console::default();
        let mut on_line = |line: Line| {
            // Nobody reads: keep the guest's console empty all the same.
            let _ = writeln!(io::stderr().lock(), "enclave | {}", line.text);
            // What firmware says counts until the enclave has spoken.
            if let Some(alarm) = line.alarm.filter(|alarm| !alarm.leaves_it_stuck() || !life.spoke()) {
                // The first one is the cause: a kernel whose first process gave up may panic after it.
                notes.alarm.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| alarm.code());
                if alarm.leaves_it_stuck() {
                    notes.stuck.notify_one();
                }
            }
        };
        let mut buffer = [0; 4096];
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    life.touch();
                    console.feed(buffer.get(..count).unwrap_or_default(), &mut on_line);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        console.finish(&mut on_line);
    };
    thread::Builder::new().name("console".into()).spawn(read).map(Lines::of)
}

fn describe(status: Option<ExitStatus>) -> Code {
    match status.map(|status| (status.code(), status.signal())) {
        // The guest ended the machine and did not say why.
        Some((Some(0), _)) | None => Code::new("ENCLAVE_LOST"),
        Some((Some(code), _)) if code == i32::from(helper::FAILED) => Code::new("QEMU_SPAWN"),
        Some((Some(code), _)) => Code::new(&format!("QEMU_EXIT_{code}")),
        Some((None, Some(signal))) => Code::new(&format!("QEMU_SIGNAL_{signal}")),
        Some((None, None)) => Code::new("ENCLAVE_LOST"),
    }
}
