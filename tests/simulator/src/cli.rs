//! Turns the command line into one of the simulator's roles, and failures into exit statuses.
//! It prints SIMULATED first, whatever it does: nothing below is evidence of hardware.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Parser, Subcommand};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};
use vouchsafe_attestation::lp::sha256;

use crate::{
    SimulatorError, fault,
    relay::{self, RelayOptions},
    root::{self, Root},
    serve::{self, Pace},
    tdx::pki::FMSPC,
};

/// The simulated secure processor of Vouchsafe: for rehearsals and tests, never for protection.
#[derive(Parser)]
#[command(name = "vouchsafe-simulator", version, about, long_about = None, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    role: Role,
    /// Print JSON, one object per line.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Role {
    /// Make the simulated root on first use and print what a policy must name.
    #[command(after_help = "Example:\n  vouchsafe-simulator root --root ./sim-root --json")]
    Root {
        /// Directory of the simulated root; made when missing, keys readable by the owner only.
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// Play the processor: standard input is the launcher's control channel (a Unix socket).
    ///
    /// Ends when the launcher closes the channel. Exit: 0 ended by the launcher, 8 a broken frame, 9 files.
    #[command(after_help = "Example (the launcher starts it; by hand it only explains itself):\n  \
                            vouchsafe-launch --backend sim-process --simulator-root ./sim-root …")]
    Serve {
        /// Directory of the simulated root.
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// Sign one quote after the other and at most so many per second, as real processors do (TDX: about 25).
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        quotes_per_second: Option<u32>,
    },
    /// List the names that the file `fault` in the root's directory may hold, with what each makes wrong.
    #[command(after_help = "Example:\n  vouchsafe-simulator faults --json")]
    Faults,
    /// Play the hostile host: end the victim's TLS with an own key and hand on the real enclave's evidence.
    ///
    /// Prints, for every victim's connection, how many application bytes it could read.
    #[command(
        after_help = "Example:\n  vouchsafe-simulator relay --listen 127.0.0.1:9443 --upstream 127.0.0.1:8443 --json"
    )]
    Relay {
        /// Where victims connect.
        #[arg(long, value_name = "ADDR")]
        listen: SocketAddr,
        /// The real enclave.
        #[arg(long, value_name = "ADDR", required_unless_present = "replay")]
        upstream: Option<SocketAddr>,
        /// Answer /v1/attest with this recorded body instead of asking the enclave.
        #[arg(long, value_name = "FILE")]
        replay: Option<PathBuf>,
        /// Store the enclave's latest answer to /v1/attest here, for a later --replay.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        /// End when standard input ends: no relay outlives a killed program that started it.
        #[arg(long)]
        exit_with_stdin: bool,
    },
}

const EXAMPLES: &str = "Examples:
  vouchsafe-simulator root --root ./sim-root
  vouchsafe-simulator relay --listen 127.0.0.1:9443 --upstream 127.0.0.1:8443

Everything this program signs is SIMULATED: only a policy that says mode = \"simulation\" and names its root accepts it.";

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
    let outcome = match cli.role {
        Role::Root { root } => print_root(&root, cli.json),
        Role::Serve { root, quotes_per_second } => play_processor(&root, Pace::new(quotes_per_second), cli.json),
        Role::Faults => {
            print_faults(cli.json);
            Ok(())
        }
        Role::Relay { listen, upstream, replay, record, exit_with_stdin } => {
            if exit_with_stdin {
                std::thread::spawn(|| {
                    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                    let _ = kill_process(getpid(), Signal::TERM);
                });
            }
            let options = RelayOptions { listen, upstream, replay, record };
            relay::run(options, &mut |event| print_relay(&event, cli.json))
        }
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            report(&error, cli.json);
            error.exit()
        }
    }
}

fn print_root(dir: &Path, json: bool) -> Result<(), SimulatorError> {
    let root = Root::open(dir, &mut progress)?;
    let (sha256, chip_id) = (hex::encode(sha256(root.root_pem())), hex::encode(root.chip_id()));
    let (ppid, fmspc) = (hex::encode(root.tdx().platform.ppid), hex::encode(FMSPC));
    let path = root.path();
    if json {
        line(&json!({
            "simulation": "SIMULATED",
            "root": path,
            "sha256": sha256,
            "chip_id": chip_id,
            "product": "Genoa",
            "ppid": ppid,
            "fmspc": fmspc,
        }));
    } else {
        text(&format!(
            "SIMULATED root (proves nothing about hardware)\n  path    {}\n  sha256  {sha256}\n  chip id {chip_id} (sev-snp)\n  ppid    {ppid} (tdx)\n  fmspc   {fmspc} (tdx)",
            path.display()
        ));
    }
    Ok(())
}

fn print_faults(json: bool) {
    for fault in fault::list() {
        if json {
            line(&fault);
        } else {
            let word = |name: &str| fault.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            text(&format!("{:<40} {:<8} {}", word("name"), word("tee"), word("what")));
        }
    }
}

fn play_processor(dir: &Path, pace: Pace, json: bool) -> Result<(), SimulatorError> {
    let control = serve::control_channel(io::stdin())?;
    let root = Root::open(dir, &mut progress)?;
    root.crl(root::now())?;
    let sha256 = hex::encode(sha256(root.root_pem()));
    if json {
        line(&json!({ "simulation": "SIMULATED", "event": "ready", "root": root.path(), "sha256": sha256 }));
    } else {
        text(&format!("SIMULATED processor ready, root sha256 {sha256}"));
    }
    serve::serve_at(&Arc::new(root), &Arc::new(pace), control)
}

fn print_relay(event: &Value, json: bool) {
    if json {
        return line(event);
    }
    let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or_default();
    match event.get("event").and_then(Value::as_str) {
        Some("listening") => {
            let address = event.get("address").and_then(Value::as_str).unwrap_or_default();
            text(&format!("SIMULATED attack: relay listens on {address} with a key of its own"));
        }
        _ => text(&format!(
            "SIMULATED attack: a victim left; {} attestation request(s), {} other request(s), {} application byte(s) read",
            number("attest_requests"),
            number("other_requests"),
            number("application_bytes")
        )),
    }
}

fn report(error: &SimulatorError, json: bool) {
    if json {
        line(
            &json!({ "simulation": "SIMULATED", "error": { "code": error.code(), "fact": error.to_string(), "advice": error.advice() } }),
        );
    }
    let _ = writeln!(io::stderr(), "vouchsafe-simulator: {error} [{}]\n  {}", error.code(), error.advice());
}

fn progress(what: &str) {
    let _ = writeln!(io::stderr(), "vouchsafe-simulator: {what}");
}

/// A reader that has gone away is no reason to fail.
fn line(value: &Value) {
    text(&value.to_string());
}

fn text(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}
