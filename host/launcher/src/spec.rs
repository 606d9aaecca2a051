//! Turns the operator's choices into a launch spec with every path decided.
//! A spec is a wish: nothing is opened or compared here.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;
use vouchsafe_attestation::{Mode, Tee};
use vouchsafe_measurement::{CpuModel, MAX_VCPUS, MeasurementError};

use crate::LaunchError;

/// The least memory of a machine: firmware, kernel, unpacked initrd and ONNX Runtime leave half of it to the model.
pub const LEAST_MEMORY_MIB: u32 = 512;
/// How long a simulated machine may be silent before its first word, unless told otherwise: a boot takes 5 to 15 s, and on a busy
/// host an honest one was silent for more than 30. On hardware the processor may take
/// long over the memory of a large guest, and there is nothing to fall back to.
pub const SILENCE: Duration = Duration::from_secs(60);

/// What runs the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// A process on this machine, with a simulated processor: for rehearsals.
    SimProcess,
    /// A virtual machine with a simulated processor: the same firmware, kernel and initrd as on hardware.
    SimVm,
    /// An SEV-SNP guest.
    Snp,
    /// A TDX guest.
    Tdx,
}

impl Backend {
    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SimProcess => "sim-process",
            Self::SimVm => "sim-vm",
            Self::Snp => "snp",
            Self::Tdx => "tdx",
        }
    }

    /// Whether its evidence is a processor's or a simulator's.
    #[must_use]
    pub const fn mode(self) -> Mode {
        match self {
            Self::SimProcess | Self::SimVm => Mode::Simulation,
            Self::Snp | Self::Tdx => Mode::Hardware,
        }
    }

    /// The technology that it shows when none is asked for.
    #[must_use]
    pub const fn own_tee(self) -> Tee {
        match self {
            Self::Tdx => Tee::Tdx,
            Self::SimProcess | Self::SimVm | Self::Snp => Tee::SevSnp,
        }
    }

    /// Whether it can show `tee`. The known firmware of `sim-vm` is one for SEV-SNP; a TDX firmware demands Secure Boot.
    #[must_use]
    pub fn shows(self, tee: Tee) -> bool {
        self == Self::SimProcess || tee == self.own_tee()
    }

    /// Whether QEMU runs the guest.
    #[must_use]
    pub const fn is_machine(self) -> bool {
        !matches!(self, Self::SimProcess)
    }

    /// Whether its processor is simulated.
    #[must_use]
    pub const fn is_simulated(self) -> bool {
        matches!(self, Self::SimProcess | Self::SimVm)
    }

    /// How long the first start may take, unless told otherwise.
    #[must_use]
    pub const fn ready_timeout(self) -> Duration {
        Duration::from_secs(if self.is_machine() { 120 } else { 60 })
    }
}

/// What executes a simulated machine's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelChoice {
    /// KVM where the processor's own module is loaded, else QEMU's interpreter.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// QEMU's interpreter: some 300 times slower, on any host.
    Tcg,
}

/// Where the TDX quote generation service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuoteService {
    /// A vsock address: `vsock:CID:PORT`.
    Vsock {
        /// The context: 2 is the host.
        cid: u32,
        /// The port.
        port: u32,
    },
    /// A Unix socket: `unix:PATH`.
    Unix(String),
}

impl Default for QuoteService {
    /// Where Intel's service listens as packaged: port 4050 of the host.
    fn default() -> Self {
        Self::Vsock { cid: 2, port: 4050 }
    }
}

impl core::str::FromStr for QuoteService {
    type Err = LaunchError;

    fn from_str(text: &str) -> Result<Self, LaunchError> {
        let wrong = || LaunchError::Usage("quote_service is vsock:CID:PORT or unix:/PATH");
        match text.split_once(':') {
            Some(("vsock", address)) => {
                let (cid, port) = address.split_once(':').ok_or_else(wrong)?;
                Ok(Self::Vsock { cid: cid.parse().map_err(|_| wrong())?, port: port.parse().map_err(|_| wrong())? })
            }
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.to_owned())),
            _ => Err(wrong()),
        }
    }
}

/// What a virtual machine needs beyond what every guest needs.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// The guest image: a folder that `vouchsafe image build` made.
    pub image: PathBuf,
    /// A firmware in place of the image's.
    pub firmware: Option<PathBuf>,
    /// The SHA-256 of a firmware that the operator vouches for, beside the known ones.
    pub firmware_sha256: Option<[u8; 32]>,
    /// How many virtual processors.
    pub vcpus: u32,
    /// How much memory, in MiB.
    pub memory_mib: u32,
    /// The model whose signature is measured.
    pub cpu: CpuModel,
    /// What executes a simulated machine.
    pub accel: AccelChoice,
    /// The brokers that the guest may reach through the launcher; nothing else.
    pub brokers: Vec<SocketAddr>,
    /// The SEV-SNP guest policy.
    pub guest_policy: u64,
    /// A file with the ID block in base64, as QEMU takes it.
    pub id_block: Option<PathBuf>,
    /// A file with the ID authentication information in base64, as QEMU takes it.
    pub id_auth: Option<PathBuf>,
    /// Where the TDX quote generation service listens.
    pub quote_service: QuoteService,
    /// QEMU's program; looked for where programs are when it has no slash.
    pub qemu: PathBuf,
    /// Where the volume of packages lies, without a name.
    pub scratch: PathBuf,
    /// How long a machine may be silent before its first word; none for as long as it takes.
    pub silence: Option<Duration>,
    /// This program, which starts QEMU in a helper mode of its own.
    pub own: PathBuf,
}

/// Everything that a launch needs.
#[derive(Clone, Debug)]
pub struct LaunchSpec {
    /// What runs the guest.
    pub backend: Backend,
    /// Which technology it shows.
    pub tee: Tee,
    /// The configuration that is bound in HOST_DATA or MRCONFIGID.
    pub config: PathBuf,
    /// The directory of sealed packages.
    pub models: PathBuf,
    /// A collateral file that is served in place of the device's own collateral.
    pub collateral: Option<PathBuf>,
    /// The public address.
    pub listen: SocketAddr,
    /// The simulated root.
    pub simulator_root: PathBuf,
    /// The enclave's program.
    pub enclave: PathBuf,
    /// The simulator's program.
    pub simulator: PathBuf,
    /// ONNX Runtime's library.
    pub onnxruntime: PathBuf,
    /// A file that exists while the enclave serves.
    pub ready_file: Option<PathBuf>,
    /// How long the first start may take; zero waits for ever.
    pub ready_timeout: Duration,
    /// How many connections to a machine are relayed at once. A process accepts by itself, within the limits of its configuration.
    pub max_connections: usize,
    /// When a relayed connection without traffic is closed.
    pub idle_timeout: Duration,
    /// The virtual machine; not looked at by `sim-process`.
    pub machine: MachineSpec,
}

impl LaunchSpec {
    /// Refuses choices that contradict each other.
    ///
    /// # Errors
    /// `BACKEND_TEE`, `MEMORY_TOO_SMALL`, `MEASUREMENT_PROCESSORS`, `USAGE`.
    pub fn require_sense(&self) -> Result<(), LaunchError> {
        let machine = &self.machine;
        if !self.backend.shows(self.tee) {
            return Err(LaunchError::BackendTee);
        }
        if !self.backend.is_machine() {
            return Ok(());
        }
        if machine.memory_mib < LEAST_MEMORY_MIB {
            return Err(LaunchError::MemoryTooSmall(machine.memory_mib));
        }
        if machine.vcpus > MAX_VCPUS {
            return Err(LaunchError::Measurement(MeasurementError::TooManyProcessors));
        }
        if self.backend == Backend::Tdx && machine.firmware.is_none() {
            return Err(LaunchError::Usage("a TDX guest needs a TDX firmware: name it with --firmware"));
        }
        if machine.id_block.is_some() != machine.id_auth.is_some() {
            return Err(LaunchError::Usage("id_block and id_auth belong together"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_service_is_one_of_two_forms() {
        assert_eq!("vsock:2:4050".parse(), Ok(QuoteService::default()));
        assert_eq!("unix:/run/qgs.socket".parse(), Ok(QuoteService::Unix("/run/qgs.socket".into())));
        for wrong in ["", "vsock:2", "vsock:a:b", "unix:relative", "tcp:1:2"] {
            assert_eq!(wrong.parse::<QuoteService>().map_err(|e| e.code()), Err("USAGE"), "{wrong}");
        }
    }

    #[test]
    fn only_the_process_shows_both_technologies() {
        let shows = |b: Backend| (b.shows(Tee::SevSnp), b.shows(Tee::Tdx));
        assert_eq!(shows(Backend::SimProcess), (true, true));
        assert_eq!(shows(Backend::SimVm), (true, false));
        assert_eq!(shows(Backend::Snp), (true, false));
        assert_eq!(shows(Backend::Tdx), (false, true));
    }
}
