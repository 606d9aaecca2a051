//! The `vouchsafe` command: turns arguments into one call of the library of a role, and its answer into text or JSON.
//! Thin on purpose: no rule of the product lives here.

mod broker;
mod broker_text;
mod caller;
mod clock;
mod collateral;
mod config;
mod demo;
mod differences;
mod doctor;
mod evidence;
mod failure;
mod faults;
mod files;
mod image;
mod infer;
mod keys;
mod launch;
mod measure;
mod model;
mod package;
mod policy;
mod proxy;
mod receipt;
mod runtime;
mod seal;
mod verify;

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

use clap::{Parser, Subcommand, error::ErrorKind};

/// Release a sealed model only to code that has proved itself, and send data only to code that has proved itself.
///
/// A vendor seals a model and runs the key broker. An operator launches the enclave. A customer verifies, then sends.
/// Everything can be rehearsed on one machine in simulation: run `vouchsafe demo`.
#[derive(Parser)]
#[command(name = "vouchsafe", version, disable_help_subcommand = true, after_help = EXITS)]
struct Cli {
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXITS: &str = "Exit status: 0 done, 1 usage, 2 not authentic, 3 collateral missing or stale, 4 policy refused, \
5 key refused, 6 package corrupt, 7 no TEE here, 8 peer or network, 9 local file or lock, 10 expectation not met, \
130 interrupted.\n\nExample:\n  vouchsafe demo";

#[derive(Subcommand)]
enum Command {
    /// Make a vendor's signing key, a caller's key or an API key.
    Keys(keys::Args),
    /// Seal an ONNX model into a package that only a granted enclave can open.
    Seal(seal::Args),
    /// Look into an ONNX model as the enclave does before it loads one.
    Model(model::Args),
    /// Look into a sealed package, without its key, or compare two.
    Package(package::Args),
    /// Run and administer the key broker.
    Broker(broker::Args),
    /// Write or read an attestation policy.
    Policy(policy::Args),
    /// Write the enclave's bound configuration.
    Config(config::Args),
    /// Compute the measurement that an enclave should have.
    Measure(measure::Args),
    /// Say what this host can launch, and what is missing for the rest.
    Doctor(doctor::Args),
    /// Build the guest image, look into one, compare two.
    ///
    /// An image is a folder of four files: `kernel`, `initrd` and `firmware.fd`, which are booted, and `image.json`, which names
    /// them and everything inside the initrd by SHA-256. The initrd holds the enclave program as `/init`, ONNX Runtime, the few
    /// libraries that both need and the kernel modules that the guest loads: no shell and no other program. A lock file names each
    /// package that something is taken from, so that whoever builds from the same sources gets the same bytes and the same
    /// measurement.
    Image(image::Args),
    /// Launch the enclave (runs vouchsafe-launch).
    Launch(launch::Args),
    /// Verify an enclave, send nothing.
    Verify(verify::Args),
    /// Verify an enclave, then send one inference request.
    Infer(infer::Args),
    /// Offer a verified enclave to unmodified local clients.
    Proxy(proxy::Args),
    /// Verify a receipt offline.
    Receipt(receipt::Args),
    /// Verify a report or quote that lies in a file, as any other implementation would.
    Evidence(evidence::Args),
    /// Look after the collateral that evidence is verified with.
    ///
    /// Collateral is what verifies evidence besides the roots: the leaf certificate and revocation lists, and on TDX Intel's TCB
    /// info and identities. It runs out, so the operator fetches it again in time; nobody who verifies ever asks the vendor.
    Collateral(collateral::Args),
    /// Play the whole story on this machine, attacks included, in simulation.
    Demo(demo::Args),
    /// Play named faults against a live enclave, broker and customer, in simulation.
    Faults(faults::Args),
}

/// Whoever reads the output may stop reading (`| head`), which `println!` takes for a defect. It is none: the stack unwinds, so
/// that folders and children are cleaned up, without a panic's text and with the status of a file that cannot be written.
fn until_nobody_reads(run: impl FnOnce() -> ExitCode) -> ExitCode {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !nobody_reads(info.payload()) {
            report(info);
        }
    }));
    // Nothing is used again after a panic: the process ends.
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        if nobody_reads(&*payload) { ExitCode::from(9) } else { panic::resume_unwind(payload) }
    })
}

fn nobody_reads(panic: &(dyn Any + Send)) -> bool {
    panic.downcast_ref::<String>().is_some_and(|text| text.starts_with("failed printing to stdout"))
}

fn main() -> ExitCode {
    until_nobody_reads(run)
}

fn run() -> ExitCode {
    // Keys pass through this process: it leaves no core dump and cannot be read by a debugger of the same user.
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit { current: Some(0), maximum: Some(0) },
    );
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let shown = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(u8::from(!shown));
        }
    };
    let json = cli.json;
    let outcome = match cli.command {
        Command::Keys(args) => keys::run(&args, json),
        Command::Seal(args) => seal::run(&args, json),
        Command::Model(args) => model::run(&args, json),
        Command::Package(args) => package::run(&args, json),
        Command::Broker(args) => broker::run(args, json),
        Command::Policy(args) => policy::run(&args, json),
        Command::Config(args) => config::run(&args, json),
        Command::Measure(args) => measure::run(&args, json),
        Command::Doctor(args) => doctor::run(&args, json),
        Command::Image(args) => image::run(&args, json),
        Command::Launch(args) => launch::run(&args, json),
        Command::Verify(args) => verify::run(&args, json),
        Command::Infer(args) => infer::run(&args, json),
        Command::Proxy(args) => proxy::run(args, json),
        Command::Receipt(args) => receipt::run(&args, json),
        Command::Evidence(args) => evidence::run(&args, json),
        Command::Collateral(args) => collateral::run(&args, json),
        Command::Demo(args) => demo::run(args, json),
        Command::Faults(args) => faults::run(&args, json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(json);
            ExitCode::from(failure.exit)
        }
    }
}
