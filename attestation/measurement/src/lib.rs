//! What digest should this image have? Turns launch inputs into the measurement and the config digest that evidence will carry.
//! It says nothing about what runs: only evidence that was verified says that.

mod config;
mod process;
mod snp;

pub use config::{MAX_CONFIG, config_digest, mrconfigid};
pub use process::{PROCESS_REGISTERS, process_measurement};
pub use snp::{SnpVm, snp_launch_digest};

use core::fmt;

/// Why a measurement could not be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeasurementError {
    /// The firmware, kernel or initrd cannot be read, or the firmware carries no SNP metadata that fits.
    LaunchInputs,
    /// A machine without a processor was asked for.
    NoProcessor,
}

impl MeasurementError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::LaunchInputs => "MEASUREMENT_INPUTS",
            Self::NoProcessor => "MEASUREMENT_NO_PROCESSOR",
        }
    }

    /// The exit status of a command that ends with it.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self {
            Self::LaunchInputs => 9,
            Self::NoProcessor => 1,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::LaunchInputs => {
                "name readable files; the firmware must be an OVMF build with SEV metadata (AmdSev when a kernel is given)"
            }
            Self::NoProcessor => "ask for at least one virtual processor",
        }
    }
}

impl fmt::Display for MeasurementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LaunchInputs => "the launch digest cannot be computed from these firmware, kernel and initrd files",
            Self::NoProcessor => "a machine with no virtual processor has no launch digest",
        })
    }
}

impl std::error::Error for MeasurementError {}
