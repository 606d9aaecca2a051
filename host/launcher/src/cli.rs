//! Turns the command line of `vouchsafe-launch` into a launch spec, and its outcome into lines and an exit status.
//! Everything here is the operator's side: no key, no plaintext, no verdict.

use std::{
    io::{self, Write},
    net::SocketAddr,
    num::NonZero,
    path::PathBuf,
    time::Duration,
};

use clap::Parser;
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use vouchsafe_attestation::Tee;

use crate::{
    Backend, Event, LaunchError, LaunchSpec, Stopped,
    backend::host::QEMU,
    launch,
    spec::{AccelChoice, LEAST_MEMORY_MIB, MachineSpec, SILENCE},
    spec_file::SpecFile,
};

/// The SEV-SNP guest policy unless told otherwise: reserved bit 17, SMT allowed, no debugging, no migration (AMD 56860, table 9).
const GUEST_POLICY: u64 = 0x3_0000;

/// In seconds: longer times are taken for this one.
const A_CENTURY: u64 = 100 * 366 * 86_400;

/// Where the volume of packages lies unless told otherwise: it may be as large as all packages (hier(7)).
const SCRATCH: &str = "/var/tmp";

/// Start an enclave, bring clients to it, restart it when it crashes.
///
/// The operator is trusted by nobody: whoever runs this sees sizes, times and addresses, never data or keys.
#[derive(Parser)]
#[command(name = "vouchsafe-launch", version, after_help = EXAMPLES)]
pub struct Cli {
    /// A launch file (TOML) with the settings below and more; a flag overrides its setting.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// What runs the guest.
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// Which technology the guest has: sev-snp or tdx [default: the backend's own, else sev-snp].
    #[arg(long, value_parser = parse_tee)]
    tee: Option<Tee>,
    /// The configuration (at most 256 KiB); its SHA-256 is bound in HOST_DATA or MRCONFIGID.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory with one sealed package per model.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Serve this collateral with all evidence instead of the device's own: a file of `vouchsafe collateral`.
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,
    /// The public address; port 0 lets the system choose [default: 127.0.0.1:8443].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The simulated root of the sim-* backends; made on first use.
    #[arg(long, value_name = "DIR")]
    simulator_root: Option<PathBuf>,
    /// The enclave's program, for sim-process [default: vouchsafe-enclave beside this program].
    #[arg(long, value_name = "PATH")]
    enclave: Option<PathBuf>,
    /// The simulator's program [default: vouchsafe-simulator beside this program].
    #[arg(long, value_name = "PATH")]
    simulator: Option<PathBuf>,
    /// ONNX Runtime's library, for sim-process [default: libonnxruntime.so beside this program].
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// The guest image, a folder that `vouchsafe image build` made; for all other backends.
    #[arg(long, value_name = "DIR")]
    image: Option<PathBuf>,
    /// A firmware in place of the image's.
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// A broker that the virtual machine may reach; repeat for more. Nothing else is reachable from inside.
    #[arg(long = "broker", value_name = "ADDR")]
    brokers: Vec<SocketAddr>,
    /// How many virtual processors [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    vcpus: Option<u32>,
    /// How much memory the virtual machine has [default: 512].
    #[arg(long, value_name = "MIB")]
    memory_mib: Option<u32>,
    /// The processor model whose signature is measured, by QEMU's name: EPYC, EPYC-Rome, EPYC-Milan, EPYC-Genoa, EPYC-Turin, or a
    /// version of one [default: EPYC-v4].
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// What executes a simulated machine [default: auto].
    #[arg(long, value_enum)]
    accel: Option<AccelChoice>,
    /// QEMU's program [default: qemu-system-x86_64, as installed].
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
    /// Give a virtual machine up that sends no byte for so many seconds before its first word [default: sim-vm 60, others never].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    silence_timeout: Option<u64>,
    /// Write this file when the enclave serves, remove it when it does not.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Give up when no enclave has served after so many seconds; 0 waits for ever [default: 60, virtual machines 120].
    #[arg(long, value_name = "SECONDS")]
    ready_timeout: Option<u64>,
    /// Relay at most so many connections to a machine at once; more are closed on arrival [default: 512].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_connections: Option<u16>,
    /// Close a relayed connection after so many seconds without a byte [default: 300].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: Option<u64>,
    /// End, as with SIGTERM, when standard input ends: no launch outlives a killed program that started it.
    #[arg(long)]
    exit_with_stdin: bool,
    /// Print events as JSON, one per line.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Example:
  vouchsafe-launch --backend sim-process --tee sev-snp --config vouchsafe.toml --models ./models \\
                   --listen 127.0.0.1:8443 --simulator-root ./sim-root
  vouchsafe-launch --backend sim-vm --image ./image --config vouchsafe.toml --models ./models \\
                   --broker 127.0.0.1:7443 --simulator-root ./sim-root
  vouchsafe-launch snp.toml

Example of a launch file:
  version = 1
  backend = \"snp\"
  config = \"vouchsafe.toml\"
  models = \"/srv/vouchsafe/models\"
  image = \"/srv/vouchsafe/image\"
  listen = \"0.0.0.0:8443\"
  brokers = [\"192.0.2.7:7443\"]
  memory_mib = 4096

Signals: SIGHUP reads the models directory and the collateral file again;
         Ctrl-C and SIGTERM stop, with 12 s for open requests.
Exit:    0 stopped by SIGTERM, 1 usage, 6 a damaged image, 7 this host cannot run the backend,
         8 the enclave never served, 9 a file or address, 130 stopped by Ctrl-C.
The sim-* backends protect nothing: they rehearse, and every verdict about them says SIMULATED.";

/// Runs the program; the result is its exit status.
#[must_use]
pub fn run() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return u8::from(error.use_stderr());
        }
    };
    let json = cli.json;
    match start(cli) {
        Ok(Stopped::Terminated) => 0,
        Ok(Stopped::Interrupted) => 130,
        Err(error) => {
            let event = Event::Error { code: error.code(), fact: error.to_string(), advice: error.advice() };
            if json {
                print(&event, true);
            }
            let _ = writeln!(io::stderr(), "vouchsafe-launch: {event}");
            error.exit()
        }
    }
}

fn start(cli: Cli) -> Result<Stopped, LaunchError> {
    allow_many_connections();
    if cli.exit_with_stdin {
        std::thread::spawn(|| {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            let _ = kill_process(getpid(), Signal::TERM);
        });
    }
    let json = cli.json;
    let spec = cli.spec()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| LaunchError::Runtime(e.kind()))?;
    let outcome = runtime.block_on(launch(&spec, &mut |event| print(&event, json)));
    // A thread may still wait for a simulator's answer; the end of this process ends both.
    runtime.shutdown_background();
    outcome
}

impl Cli {
    /// Every setting from its flag, else from the launch file, else its default.
    ///
    /// # Errors
    /// `USAGE`, `LAUNCH_TOML`, `LAUNCH_FILE`, `CPU_UNKNOWN`.
    pub fn spec(self) -> Result<LaunchSpec, LaunchError> {
        let file = self.file.as_deref().map(SpecFile::read).transpose()?.unwrap_or_default();
        merge(self, file)
    }
}

fn merge(cli: Cli, file: SpecFile) -> Result<LaunchSpec, LaunchError> {
    let own = std::env::current_exe().map_err(|e| LaunchError::File("this program", e.kind()))?;
    let beside = |given: Option<PathBuf>, name: &str| given.unwrap_or_else(|| own.with_file_name(name));
    // No clock reaches further, and nobody waits longer.
    let from_secs = |seconds: u64| Duration::from_secs(seconds.min(A_CENTURY));
    let seconds = |given: Option<u64>, default| given.map_or(default, from_secs);
    let backend = cli.backend.or(file.backend).ok_or(LaunchError::Usage("--backend is missing"))?;
    let simulator_root = cli.simulator_root.or(file.simulator_root);
    if backend.is_simulated() && simulator_root.is_none() {
        return Err(LaunchError::Usage("--simulator-root is missing"));
    }
    let image = cli.image.or(file.image);
    if backend.is_machine() && image.is_none() {
        return Err(LaunchError::Usage("--image is missing"));
    }
    let cpu = cli.cpu.or(file.cpu);
    let cpu = cpu.map_or(Ok(Default::default()), |name| name.parse()).map_err(LaunchError::Measurement)?;
    let quote_service = file.quote_service.map_or(Ok(Default::default()), |text| text.parse())?;
    let machine = MachineSpec {
        image: image.unwrap_or_default(),
        firmware: cli.firmware.or(file.firmware),
        firmware_sha256: file.firmware_sha256.map(|digest| digest.0),
        vcpus: cli.vcpus.or(file.vcpus.map(NonZero::get)).unwrap_or(1),
        memory_mib: cli.memory_mib.or(file.memory_mib).unwrap_or(LEAST_MEMORY_MIB),
        cpu,
        accel: cli.accel.or(file.accel).unwrap_or_default(),
        brokers: if cli.brokers.is_empty() { file.brokers } else { cli.brokers },
        guest_policy: file.guest_policy.unwrap_or(GUEST_POLICY),
        id_block: file.id_block,
        id_auth: file.id_auth,
        quote_service,
        qemu: cli.qemu.or(file.qemu).unwrap_or_else(|| QEMU.into()),
        scratch: file.scratch.unwrap_or_else(|| SCRATCH.into()),
        silence: cli
            .silence_timeout
            .or(file.silence_timeout.map(NonZero::get))
            .map(from_secs)
            .or(backend.is_simulated().then_some(SILENCE)),
        own: own.clone(),
    };
    Ok(LaunchSpec {
        backend,
        tee: cli.tee.or(file.tee).unwrap_or_else(|| backend.own_tee()),
        config: cli.config.or(file.config).ok_or(LaunchError::Usage("--config is missing"))?,
        models: cli.models.or(file.models).ok_or(LaunchError::Usage("--models is missing"))?,
        collateral: cli.collateral.or(file.collateral),
        listen: cli.listen.or(file.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8443))),
        simulator_root: simulator_root.unwrap_or_default(),
        enclave: beside(cli.enclave.or(file.enclave), "vouchsafe-enclave"),
        simulator: beside(cli.simulator.or(file.simulator), "vouchsafe-simulator"),
        onnxruntime: beside(cli.onnxruntime.or(file.onnxruntime), "libonnxruntime.so"),
        ready_file: cli.ready_file.or(file.ready_file),
        ready_timeout: seconds(cli.ready_timeout.or(file.ready_timeout), backend.ready_timeout()),
        max_connections: cli.max_connections.or(file.max_connections.map(NonZero::get)).unwrap_or(512).into(),
        idle_timeout: seconds(cli.idle_timeout.or(file.idle_timeout.map(NonZero::get)), Duration::from_secs(300)),
        machine,
    })
}

fn parse_tee(text: &str) -> Result<Tee, String> {
    text.parse().map_err(|_| "use sev-snp or tdx".to_owned())
}

/// Two descriptors per connection: raise the soft limit to the hard one.
fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// A reader that has gone away is no reason to stop serving.
fn print(event: &Event, json: bool) {
    let mut out = io::stdout().lock();
    let _ = if json { writeln!(out, "{}", event.json()) } else { writeln!(out, "vouchsafe-launch: {event}") };
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_overrides_the_file_and_what_is_missing_is_usage() {
        let file = "version = 1\nbackend = \"sim-vm\"\nconfig = \"c\"\nmodels = \"m\"\nimage = \"i\"\nsimulator_root = \"r\"\nvcpus = 2\nbrokers = [\"127.0.0.1:1\"]\n";
        let merged = |flags: &[&str], text: &str| {
            let cli = Cli::try_parse_from([&["vouchsafe-launch"], flags].concat()).unwrap();
            merge(cli, SpecFile::parse(text, Path::new("/etc")).unwrap())
        };
        let spec = merged(&["--vcpus", "1", "--memory-mib", "600"], file).unwrap();
        assert_eq!((spec.machine.vcpus, spec.machine.memory_mib), (1, 600));
        assert_eq!((spec.config.as_path(), spec.ready_timeout.as_secs()), (Path::new("/etc/c"), 120));
        assert_eq!((spec.tee, spec.machine.brokers.len()), (Tee::SevSnp, 1));
        assert_eq!(spec.require_sense(), Ok(()));
        let refused = |flags: &[&str]| merged(flags, file).and_then(|spec| spec.require_sense()).map_err(|e| e.code());
        assert_eq!(refused(&["--tee", "tdx"]), Err("BACKEND_TEE"));
        assert_eq!(refused(&["--memory-mib", "511"]), Err("MEMORY_TOO_SMALL"));
        assert_eq!(refused(&["--cpu", "486"]), Err("CPU_UNKNOWN"));
        assert_eq!(refused(&["--backend", "tdx"]), Err("USAGE"), "a TDX firmware is not named");
        for (gone, fact) in [("image", "--image is missing"), ("models", "--models is missing")] {
            let text: String =
                file.lines().filter(|line| !line.starts_with(gone)).map(|line| format!("{line}\n")).collect();
            assert_eq!(merged(&[], &text).map(drop), Err(LaunchError::Usage(fact)));
        }
    }
}
