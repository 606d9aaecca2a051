//! The simulated secure processor: turns a launch request into a measured guest, and the guest's questions into signed reports.
//! Nothing it signs proves anything about hardware: its root is made on this machine, and its keys lie on this machine's disk.
//!
//! It is a program of its own and is linked into no other; tests may use the library to make evidence, right or wrong.

pub mod answer;
pub mod cli;
mod copy;
pub mod der;
pub mod error;
pub mod fault;
pub mod frame;
pub mod guest;
pub mod keys;
pub mod relay;
mod relay_tls;
pub mod request;
pub mod root;
pub mod serve;
pub mod snp;
pub mod tdx;
pub mod x509;

pub use error::SimulatorError;
