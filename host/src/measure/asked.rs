//! Turns the words that say what will be launched, and how, into the values that its evidence will carry.
//! It reads files; it does not say that they are good.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use vouchsafe_attestation::{Mode, Tee, encoding::from_hex, lp};
use vouchsafe_image::{FIRMWARE, INITRD, KERNEL, Manifest};
use vouchsafe_measurement::{
    CpuModel, MAX_CONFIG, MeasurementError, PROCESS_REGISTERS, SnpVm, command_line, firmware::known::known,
    process_measurement, snp_launch_digest, tdx,
};

use super::values::{Machine, Values};
use crate::{failure::Failure, files, launch};

/// A program, library, kernel or initrd is read whole: at most 1 GiB.
const MAX_FILE: u64 = 1 << 30;

/// What runs the guest. (The variants' own words would be a list in `--help`; the option says them in one line.)
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Snp,
    Tdx,
    SimVm,
    SimProcess,
}

/// What will be launched, and how.
#[derive(clap::Args)]
pub struct Asked {
    /// How it will be launched: on SEV-SNP or TDX hardware, or in a rehearsal as a virtual machine or a process.
    #[arg(long, value_enum, default_value_t = Backend::SimProcess)]
    pub backend: Backend,
    /// Technology: sev-snp or tdx; each has its own measurement of the same files [default: the backend's, else sev-snp].
    #[arg(long)]
    pub tee: Option<Tee>,
    /// snp, tdx, sim-vm: the image, a folder of `vouchsafe image build`.
    #[arg(long, value_name = "DIR")]
    pub image: Option<PathBuf>,
    /// snp, tdx, sim-vm: firmware to start with instead of the image's; tdx needs one.
    #[arg(long, value_name = "FILE")]
    pub firmware: Option<PathBuf>,
    /// SHA-256 of a firmware that you answer for, 64 hex digits; snp and sim-vm take other ones than the known only so.
    #[arg(long, value_name = "HEX")]
    pub firmware_sha256: Option<String>,
    /// snp, sim-vm: how many virtual processors.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub vcpus: u32,
    /// snp, sim-vm: QEMU's name of their model, such as EPYC-v4, EPYC-Rome, EPYC-Milan, EPYC-Genoa, EPYC-Turin.
    #[arg(long, value_name = "NAME", default_value_t = CpuModel::default())]
    pub cpu: CpuModel,
    /// snp, sim-vm: the SEV_FEATURES word of every processor, in hex; bit 0 is SEV-SNP itself.
    #[arg(long, value_name = "HEX", default_value = "0x1", value_parser = hex_number)]
    pub guest_features: u64,
    /// tdx: the value of RTMR0 that was recorded on this kind of host, 96 hex digits; it cannot be computed here.
    #[arg(long, value_name = "HEX")]
    pub rtmr0: Option<String>,
    /// sim-process: the enclave program [default: vouchsafe-enclave beside this program].
    #[arg(long, value_name = "FILE")]
    pub enclave: Option<PathBuf>,
    /// sim-process: ONNX Runtime [default: libonnxruntime.so beside this program].
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
}

impl Backend {
    /// Its name on every command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snp => "snp",
            Self::Tdx => "tdx",
            Self::SimVm => "sim-vm",
            Self::SimProcess => "sim-process",
        }
    }

    /// What its guests' command line or measurement says.
    pub const fn mode(self) -> Mode {
        match self {
            Self::Snp | Self::Tdx => Mode::Hardware,
            Self::SimVm | Self::SimProcess => Mode::Simulation,
        }
    }

    fn tee(self, asked: Option<Tee>) -> Result<Tee, Failure> {
        let only = match self {
            Self::Snp | Self::SimVm => Tee::SevSnp,
            Self::Tdx => Tee::Tdx,
            Self::SimProcess => return Ok(asked.unwrap_or(Tee::SevSnp)),
        };
        if asked.is_some_and(|tee| tee != only) {
            return Err(Failure::new(
                "BACKEND_TEE",
                1,
                format!("--backend {} runs {only} guests only", self.as_str()),
                "drop --tee; rehearse TDX with --backend sim-process --tee tdx",
            ));
        }
        Ok(only)
    }
}

impl Asked {
    /// The values, and the configuration's digest where one is named.
    pub fn measure(&self, config: Option<&Path>) -> Result<Values, Failure> {
        let tee = self.backend.tee(self.tee)?;
        let config_digest = match config {
            Some(path) => Some(lp::sha256(&files::read(path, MAX_CONFIG as u64)?)),
            None => None,
        };
        let values = Values {
            backend: self.backend,
            tee,
            measurement: [0; 48],
            registers: Vec::new(),
            machine: None,
            config_digest,
        };
        match self.backend {
            Backend::SimProcess => self.process(values),
            Backend::Snp | Backend::SimVm => self.snp(values),
            Backend::Tdx => self.tdx(values),
        }
    }

    fn process(&self, values: Values) -> Result<Values, Failure> {
        let words = [self.firmware_sha256.is_some(), self.rtmr0.is_some()];
        if self.image.is_some() || self.firmware.is_some() || words.contains(&true) {
            return Err(Failure::usage(
                "--image, --firmware, --firmware-sha256 and --rtmr0 speak of a virtual machine",
                "drop them, or use --backend snp, tdx or sim-vm",
            ));
        }
        let file = |given: &Option<PathBuf>, name| given.clone().map_or_else(|| launch::beside(name), Ok);
        let enclave = lp::sha384(&files::read(&file(&self.enclave, "vouchsafe-enclave")?, MAX_FILE)?);
        let onnxruntime = lp::sha384(&files::read(&file(&self.onnxruntime, "libonnxruntime.so")?, MAX_FILE)?);
        let registers = match values.tee {
            Tee::SevSnp => Vec::new(),
            Tee::Tdx => PROCESS_REGISTERS.map(Some).to_vec(),
        };
        let measurement = process_measurement(values.tee, values.backend.mode(), &enclave, &onnxruntime);
        Ok(Values { measurement, registers, ..values })
    }

    fn snp(&self, values: Values) -> Result<Values, Failure> {
        if self.rtmr0.is_some() {
            return Err(Failure::usage("--rtmr0 speaks of tdx", "drop it, or use --backend tdx"));
        }
        let folder = self.folder()?;
        let command_line = command_line(values.tee, values.backend.mode());
        let (firmware, kernel, initrd) = self.paths(folder);
        let measurement = snp_launch_digest(&SnpVm {
            firmware: &firmware,
            kernel: &kernel,
            initrd: &initrd,
            command_line: &command_line,
            vcpus: self.vcpus,
            cpu: self.cpu,
            guest_features: self.guest_features,
        })
        .map_err(|error| about(error, folder, &firmware))?;
        let processors = Some((self.vcpus, self.cpu, self.guest_features));
        let machine = Machine::of(&firmware, &kernel, &initrd, command_line, processors)?;
        self.judge(&machine.firmware(), true).map_err(|failure| failure.about(&firmware))?;
        Ok(Values { measurement, machine: Some(machine), ..values })
    }

    fn tdx(&self, values: Values) -> Result<Values, Failure> {
        let folder = self.folder()?;
        if self.firmware.is_none() {
            return Err(Failure::usage(
                "--backend tdx needs --firmware",
                "name the TDVF that the host starts with; the image's own firmware is for SEV-SNP",
            ));
        }
        let rtmr0 = match &self.rtmr0 {
            None => None,
            Some(text) => Some(
                from_hex(text, "--rtmr0")
                    .map_err(|_| Failure::usage("--rtmr0 is not 96 hex digits", "copy it whole"))?,
            ),
        };
        let command_line = command_line(values.tee, values.backend.mode());
        let (firmware, kernel, initrd) = self.paths(folder);
        let read = |path: &Path| files::read(path, MAX_FILE);
        let failed = |error| about(error, folder, &firmware);
        let measurement = tdx::mrtd(&read(&firmware)?).map_err(failed)?;
        let rtmr1 = tdx::rtmr1(&read(&kernel)?).map_err(failed)?;
        let rtmr2 = tdx::rtmr2(&command_line, &read(&initrd)?).map_err(failed)?;
        // The guest of this project extends no register itself.
        let registers = vec![rtmr0, Some(rtmr1), Some(rtmr2), Some([0; 48])];
        let machine = Machine::of(&firmware, &kernel, &initrd, command_line, None)?;
        self.judge(&machine.firmware(), false).map_err(|failure| failure.about(&firmware))?;
        Ok(Values { measurement, registers, machine: Some(machine), ..values })
    }

    /// Whether this is the firmware that was named; without a name, where that is demanded, whether it is a known one.
    fn judge(&self, sha256: &[u8; 32], must_be_known: bool) -> Result<(), Failure> {
        let fact = match &self.firmware_sha256 {
            Some(text) => {
                let named: [u8; 32] = from_hex(text, "--firmware-sha256")
                    .map_err(|_| Failure::usage("--firmware-sha256 is not 64 hex digits", "copy it whole"))?;
                (named != *sha256).then_some("the firmware is not the one that --firmware-sha256 names")
            }
            None if must_be_known => known(sha256).err(),
            None => None,
        };
        fact.map_or(Ok(()), |fact| {
            Err(Failure::new(
                "FIRMWARE_UNKNOWN",
                9,
                fact,
                "build the image again: `vouchsafe image build`; a firmware that you answer for yourself is named by its digest: --firmware-sha256",
            ))
        })
    }

    /// The image's folder, its files compared with its manifest.
    fn folder(&self) -> Result<&Path, Failure> {
        let Some(folder) = &self.image else {
            return Err(Failure::usage(
                format!("--backend {} needs --image", self.backend.as_str()),
                "name a folder that `vouchsafe image build` made",
            ));
        };
        Manifest::read(folder)?;
        Ok(folder)
    }

    fn paths(&self, folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
        let firmware = self.firmware.clone().unwrap_or_else(|| folder.join(FIRMWARE));
        (firmware, folder.join(KERNEL), folder.join(INITRD))
    }
}

/// The failure, with the path that it is about.
fn about(error: MeasurementError, folder: &Path, firmware: &Path) -> Failure {
    let failure = Failure::from(error);
    match error {
        MeasurementError::Firmware(_) | MeasurementError::FirmwareLacks(_) => failure.about(firmware),
        MeasurementError::LaunchInputs | MeasurementError::KernelImage(_) => failure.about(folder),
        _ => failure,
    }
}

/// A 64-bit number in hex, with or without 0x.
pub fn hex_number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    // Rust would take a sign as well.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("it is not a number in hex".to_owned());
    }
    u64::from_str_radix(digits, 16).map_err(|_| "it is not a number of at most 64 bits in hex".to_owned())
}
