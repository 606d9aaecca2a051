//! Turns the command line of `vouchsafe-launch` into a launch spec, and its outcome into lines and an exit status.
//! Everything here is the operator's side: no key, no plaintext, no verdict.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use clap::Parser;
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use vouchsafe_attestation::Tee;

use crate::{Backend, Event, LaunchError, LaunchSpec, Stopped, launch};

/// Start an enclave, relay TCP to it, restart it when it crashes.
///
/// The operator is trusted by nobody: whoever runs this sees sizes, times and addresses, never data or keys.
#[derive(Parser)]
#[command(name = "vouchsafe-launch", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What runs the guest.
    #[arg(long, value_enum)]
    backend: Backend,
    /// Which technology the guest has: sev-snp or tdx.
    #[arg(long, value_parser = parse_tee, default_value = "sev-snp")]
    tee: Tee,
    /// The configuration (at most 64 KiB); its SHA-256 is bound in HOST_DATA or MRCONFIGID.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The directory with one sealed package per model.
    #[arg(long, value_name = "DIR")]
    models: PathBuf,
    /// Serve this collateral with all evidence instead of the device's own: a file of `vouchsafe collateral`.
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,
    /// The public address; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// The simulated root; made on first use.
    #[arg(long, value_name = "DIR", required_if_eq_any([("backend", "sim-process"), ("backend", "sim-vm")]))]
    simulator_root: Option<PathBuf>,
    /// The enclave's program [default: vouchsafe-enclave beside this program].
    #[arg(long, value_name = "PATH")]
    enclave: Option<PathBuf>,
    /// The simulator's program [default: vouchsafe-simulator beside this program].
    #[arg(long, value_name = "PATH")]
    simulator: Option<PathBuf>,
    /// ONNX Runtime's library [default: libonnxruntime.so beside this program].
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// Write this file when the enclave serves, remove it when it does not.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Give up when no enclave has served after so many seconds; 0 waits for ever.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    ready_timeout: u64,
    /// Relay at most so many connections at once; more are closed on arrival.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    max_connections: u16,
    /// Close a connection after so many seconds without a byte.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: u64,
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

Signals: SIGHUP reads the models directory and the collateral file again; Ctrl-C and SIGTERM stop,
         with 5 s for open requests.
Exit:    0 stopped by SIGTERM, 1 usage, 7 no such backend or no simulator, 8 the enclave never served,
         9 a file or address, 130 stopped by Ctrl-C.
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
    let spec = spec(cli)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| LaunchError::Runtime(e.kind()))?;
    let outcome = runtime.block_on(launch(&spec, &mut |event| print(&event, json)));
    // A thread may still wait for a simulator's answer; the end of this process ends both.
    runtime.shutdown_background();
    outcome
}

fn spec(cli: Cli) -> Result<LaunchSpec, LaunchError> {
    let own = std::env::current_exe().map_err(|e| LaunchError::File("this program", e.kind()))?;
    let beside = |given: Option<PathBuf>, name: &str| given.unwrap_or_else(|| own.with_file_name(name));
    Ok(LaunchSpec {
        backend: cli.backend,
        tee: cli.tee,
        config: cli.config,
        models: cli.models,
        collateral: cli.collateral,
        listen: cli.listen,
        simulator_root: cli.simulator_root.unwrap_or_default(),
        enclave: beside(cli.enclave, "vouchsafe-enclave"),
        simulator: beside(cli.simulator, "vouchsafe-simulator"),
        onnxruntime: beside(cli.onnxruntime, "libonnxruntime.so"),
        ready_file: cli.ready_file,
        ready_timeout: Duration::from_secs(cli.ready_timeout),
        max_connections: cli.max_connections.into(),
        idle_timeout: Duration::from_secs(cli.idle_timeout),
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
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
