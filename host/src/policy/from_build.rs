//! Turns a built image and a configuration into a ready policy: the values are computed here, from the files themselves.
//! Whoever accepts the policy has looked at what the image is made of; this only says which bytes they are.

use std::path::PathBuf;

use vouchsafe_attestation::Tee;
use vouchsafe_measurement::CpuModel;

use super::{Init, ModeWord, write_policy};
use crate::{
    failure::{Failure, Outcome},
    measure::{Asked, Backend, hex_number},
};

/// An image, a configuration, and what no file says.
#[derive(clap::Args)]
pub struct FromBuild {
    /// The image, a folder of `vouchsafe image build`.
    #[arg(long, value_name = "DIR")]
    image: PathBuf,
    /// The configuration that the service will run with; its digest is the only one that is accepted.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Technology: sev-snp or tdx.
    #[arg(long, default_value = "sev-snp")]
    tee: Tee,
    /// Which trust root: the vendors' own, or one made on a tester's machine.
    #[arg(long, value_enum)]
    mode: ModeWord,
    /// The simulated root, a file that `vouchsafe-simulator root` made; only with --mode simulation.
    #[arg(long, value_name = "PEM")]
    root: Option<PathBuf>,
    /// A name that verdicts print [default: the file's].
    #[arg(long)]
    name: Option<String>,
    /// Firmware that is started instead of the image's; tdx needs one.
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// SHA-256 of a firmware that you answer for, 64 hex digits; sev-snp takes other ones than the known only so.
    #[arg(long, value_name = "HEX")]
    firmware_sha256: Option<String>,
    /// sev-snp: how many virtual processors; may be repeated, and each number is accepted [default: 1].
    #[arg(long, value_name = "N")]
    vcpus: Vec<u32>,
    /// sev-snp: QEMU's name of their model; may be repeated, and each is accepted [default: EPYC-v4].
    #[arg(long, value_name = "NAME")]
    cpu: Vec<CpuModel>,
    /// sev-snp: the SEV_FEATURES word of every processor, in hex.
    #[arg(long, value_name = "HEX", default_value = "0x1", value_parser = hex_number)]
    guest_features: u64,
    /// tdx: the value of RTMR0 that was recorded on this kind of host, 96 hex digits.
    #[arg(long, value_name = "HEX")]
    rtmr0: Option<String>,
    /// Accepted machine: a chip id of 128 hex digits (SEV-SNP), a PPID of 32 (TDX), or `any`; may be repeated.
    #[arg(long, required = true)]
    platform: Vec<String>,
    /// sev-snp: accepted processor family [default: the base's]; may be repeated.
    #[arg(long, value_parser = ["milan", "genoa", "turin"])]
    product: Vec<String>,
    /// Accepted model: ID=LOWEST SEQUENCE=VENDOR KEY; may be repeated.
    #[arg(long, required_unless_present = "any_model")]
    model: Vec<String>,
    /// Accept any model (for a broker, which decides by its own keys).
    #[arg(long, conflicts_with = "model")]
    any_model: bool,
    /// Where to write it; never overwritten.
    #[arg(long)]
    out: PathBuf,
}

pub fn run(args: &FromBuild, json: bool) -> Outcome {
    crate::files::absent(&args.out)?;
    let backend = match (args.mode, args.tee) {
        (ModeWord::Hardware, Tee::SevSnp) => Backend::Snp,
        (ModeWord::Hardware, Tee::Tdx) => Backend::Tdx,
        (ModeWord::Simulation, Tee::SevSnp) => Backend::SimVm,
        (ModeWord::Simulation, Tee::Tdx) => {
            return Err(Failure::new(
                "BACKEND_TEE",
                1,
                "no simulated machine boots an image under TDX",
                "rehearse TDX as a process: `vouchsafe measure --backend sim-process --tee tdx`, then `vouchsafe policy init`",
            ));
        }
    };
    if args.tee == Tee::Tdx && args.rtmr0.is_none() {
        return Err(Failure::usage(
            "--rtmr0 is missing",
            "RTMR0 is recorded from a first boot that you trust; a policy for TDX without it is refused",
        ));
    }
    let (vcpus, cpus) = machines(args)?;
    let mut preface =
        String::from("# Computed by `vouchsafe policy from-build`; `vouchsafe measure` prints the same values.\n");
    let (mut measurements, mut registers, mut config_digests) = (Vec::new(), Vec::new(), Vec::new());
    for cpu in &cpus {
        for count in &vcpus {
            let values = asked(args, backend, *count, *cpu).measure(Some(&args.config))?;
            let measurement = hex::encode(values.measurement);
            for (name, value) in values.machine.iter().flat_map(|machine| machine.lines()) {
                let line = format!("# {name}: {value}\n");
                if !preface.contains(&line) {
                    preface += &line;
                }
            }
            // Models of one signature have one measurement: it stands there once.
            if !measurements.contains(&measurement) {
                measurements.push(measurement);
            }
            registers = values.registers.iter().map(|value| value.map(hex::encode).into_iter().collect()).collect();
            config_digests = values.config_digest.iter().map(hex::encode).collect();
        }
    }
    let mut register = registers.into_iter();
    let mut next = || register.next().unwrap_or_default();
    let init = Init {
        mode: args.mode,
        tee: vec![args.tee.as_str().to_owned()],
        root: args.root.clone(),
        name: args.name.clone(),
        measurement: measurements,
        mr_td: Vec::new(),
        rtmr0: next(),
        rtmr1: next(),
        rtmr2: next(),
        rtmr3: next(),
        config_digest: config_digests,
        platform: args.platform.clone(),
        product: args.product.clone(),
        model: args.model.clone(),
        any_model: args.any_model,
        out: args.out.clone(),
    };
    write_policy(&init, &preface, json)
}

/// The numbers and models of processors; on TDX both are the host's choice and lie in RTMR0.
fn machines(args: &FromBuild) -> Result<(Vec<u32>, Vec<CpuModel>), Failure> {
    if args.tee == Tee::Tdx && !(args.vcpus.is_empty() && args.cpu.is_empty()) {
        return Err(Failure::usage("--vcpus and --cpu speak of sev-snp", "drop them: on TDX they are part of RTMR0"));
    }
    let vcpus = if args.vcpus.is_empty() { vec![1] } else { args.vcpus.clone() };
    let cpus = if args.cpu.is_empty() { vec![CpuModel::default()] } else { args.cpu.clone() };
    Ok((vcpus, cpus))
}

fn asked(args: &FromBuild, backend: Backend, vcpus: u32, cpu: CpuModel) -> Asked {
    Asked {
        backend,
        tee: None,
        image: Some(args.image.clone()),
        firmware: args.firmware.clone(),
        firmware_sha256: args.firmware_sha256.clone(),
        vcpus,
        cpu,
        guest_features: args.guest_features,
        rtmr0: args.rtmr0.clone(),
        enclave: None,
        onnxruntime: None,
    }
}
