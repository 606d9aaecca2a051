//! Turns the files that will run into the measurement that evidence must carry.
//! It does not launch anything and does not say that the files are good.

use std::path::{Path, PathBuf};

use serde_json::json;
use vouchsafe_attestation::{Mode, Tee, lp};

use crate::{
    failure::{Failure, Outcome},
    files, launch,
};

/// Compute the reference values that policies name.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vouchsafe measure --backend sim-process --config config.toml")]
pub struct Args {
    /// How it will be launched; this version measures sim-process.
    #[arg(long, default_value = "sim-process", value_parser = ["sim-process"])]
    backend: String,
    /// Technology: sev-snp; tdx comes with a later version.
    #[arg(long, default_value = "sev-snp")]
    tee: Tee,
    /// The enclave program [default: vouchsafe-enclave beside this program].
    #[arg(long)]
    enclave: Option<PathBuf>,
    /// ONNX Runtime [default: libonnxruntime.so beside this program].
    #[arg(long)]
    onnxruntime: Option<PathBuf>,
    /// The bound configuration, to print its digest as well.
    #[arg(long)]
    config: Option<PathBuf>,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    if args.tee != Tee::SevSnp {
        let fact = "this version launches sev-snp only, so there is nothing to measure for tdx";
        return Err(Failure::new("TEE_UNSUPPORTED", 7, fact, "use --tee sev-snp"));
    }
    let file = |given: &Option<PathBuf>, name| given.clone().map_or_else(|| launch::beside(name), Ok);
    let enclave = sha384(&file(&args.enclave, "vouchsafe-enclave")?)?;
    let onnxruntime = sha384(&file(&args.onnxruntime, "libonnxruntime.so")?)?;
    let measurement =
        hex::encode(vouchsafe_measurement::process_measurement(args.tee, Mode::Simulation, &enclave, &onnxruntime));
    let config = match &args.config {
        Some(path) => Some(hex::encode(lp::sha256(&files::read(path, 64 << 10)?))),
        None => None,
    };
    if json {
        let backend = &args.backend;
        println!(
            "{}",
            json!({ "backend": backend, "tee": args.tee, "measurement": measurement, "config_digest": config })
        );
    } else {
        println!("measurement    {measurement}");
        if let Some(config) = config {
            println!("config digest  {config}");
        }
    }
    Ok(())
}

/// A program or library is read whole: at most 1 GiB.
fn sha384(path: &Path) -> Result<[u8; 48], Failure> {
    Ok(lp::sha384(&files::read(path, 1 << 30)?))
}
