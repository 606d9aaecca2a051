//! Turns the files that will run into the measurement that evidence must carry.
//! It does not launch anything and does not say that the files are good.

use std::path::{Path, PathBuf};

use serde_json::json;
use vouchsafe_attestation::{Mode, Tee, lp};
use vouchsafe_measurement::{PROCESS_REGISTERS, process_measurement};

use crate::{
    failure::{Failure, Outcome},
    files, launch,
};

/// Compute the reference values that policies name.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vouchsafe measure --backend sim-process --config config.toml\n  vouchsafe measure --backend sim-process --tee tdx --config config.toml"
)]
pub struct Args {
    /// How it will be launched; this version measures sim-process.
    #[arg(long, default_value = "sim-process", value_parser = ["sim-process"])]
    backend: String,
    /// Technology: sev-snp or tdx; each has its own measurement of the same files.
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

/// What evidence of these files will carry, in hex.
struct Values {
    measurement: String,
    /// RTMR0 to RTMR3; SEV-SNP has none.
    rtmr: Vec<String>,
    config_digest: Option<String>,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let file = |given: &Option<PathBuf>, name| given.clone().map_or_else(|| launch::beside(name), Ok);
    let enclave = sha384(&file(&args.enclave, "vouchsafe-enclave")?)?;
    let onnxruntime = sha384(&file(&args.onnxruntime, "libonnxruntime.so")?)?;
    let values = Values {
        measurement: hex::encode(process_measurement(args.tee, Mode::Simulation, &enclave, &onnxruntime)),
        rtmr: match args.tee {
            Tee::SevSnp => Vec::new(),
            Tee::Tdx => PROCESS_REGISTERS.iter().map(hex::encode).collect(),
        },
        config_digest: match &args.config {
            Some(path) => Some(hex::encode(lp::sha256(&files::read(path, 64 << 10)?))),
            None => None,
        },
    };
    match (args.tee, json) {
        (tee, true) => println!("{}", values.json(&args.backend, tee)),
        (Tee::SevSnp, false) => {
            println!("measurement    {}", values.measurement);
            if let Some(config) = &values.config_digest {
                println!("config digest  {config}");
            }
        }
        (Tee::Tdx, false) => {
            println!("mr_td          {}", values.measurement);
            for (number, register) in values.rtmr.iter().enumerate() {
                println!("rtmr{number}          {register}");
            }
            if let Some(config) = &values.config_digest {
                println!("config digest  {config}");
            }
            print!("\nIn a policy:\n\n{}", values.policy());
        }
    }
    Ok(())
}

impl Values {
    fn json(&self, backend: &str, tee: Tee) -> serde_json::Value {
        let (measurement, config) = (&self.measurement, &self.config_digest);
        let mut all = json!({ "backend": backend, "tee": tee, "measurement": measurement, "config_digest": config });
        if tee == Tee::Tdx {
            all["mr_td"] = json!(measurement);
            all["rtmr"] = json!(self.rtmr);
            all["policy"] = json!(self.policy());
        }
        all
    }

    /// The lines of a TDX policy that name these values.
    fn policy(&self) -> String {
        let mut text = format!("[tdx]\nmr_td = [\"{}\"]\n", self.measurement);
        for (number, register) in self.rtmr.iter().enumerate() {
            text += &format!("rtmr{number} = [\"{register}\"]\n");
        }
        if let Some(config) = &self.config_digest {
            text += &format!("config_digests = [\"{config}\"]\n");
        }
        text
    }
}

/// A program or library is read whole: at most 1 GiB.
fn sha384(path: &Path) -> Result<[u8; 48], Failure> {
    Ok(lp::sha384(&files::read(path, 1 << 30)?))
}
