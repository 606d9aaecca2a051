//! The simulated secure processor: turns a launch request into a measured guest, and the guest's questions into signed reports.
//! Nothing it signs proves anything about hardware: its root is made on this machine, and its keys lie on this machine's disk.
//!
//! It is a program of its own and is linked into no other.

pub mod certificates;
pub mod cli;
pub mod error;
pub mod frame;
pub mod guest;
pub mod relay;
mod relay_tls;
pub mod report;
pub mod root;
pub mod serve;

pub use error::SimulatorError;
