//! What digest should this image have? Turns launch inputs into the measurement and the config digest that evidence will carry.
//! It says nothing about what runs: only evidence that was verified says that.

mod authenticode;
mod bytes;
mod command_line;
mod config;
mod cpu;
mod error;
pub mod firmware;
pub mod id_block;
mod kernel_hashes;
mod process;
#[cfg(test)]
mod samples;
mod snp;
pub mod tdx;

pub use command_line::{MAX_COMMAND_LINE, command_line, measurable};
pub use config::{MAX_CONFIG, config_digest, mrconfigid};
pub use cpu::CpuModel;
pub use error::MeasurementError;
pub use firmware::Firmware;
pub use kernel_hashes::KernelHashes;
pub use process::{PROCESS_REGISTERS, process_measurement};
pub use snp::{MAX_VCPUS, SNP_ACTIVE, SnpVm, snp_launch_digest};
