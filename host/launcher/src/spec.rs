//! Turns the operator's choices into a launch spec with every path decided.
//! A spec is a wish: nothing is opened or compared here.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use vouchsafe_attestation::Tee;

/// What runs the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// A process on this machine, with a simulated processor: for rehearsals.
    SimProcess,
    /// A virtual machine with a simulated processor (a later version).
    SimVm,
    /// An SEV-SNP guest (a later version).
    Snp,
    /// A TDX guest (a later version).
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
    /// How many connections are relayed at once.
    pub max_connections: usize,
    /// When a connection without traffic is closed.
    pub idle_timeout: Duration,
}
