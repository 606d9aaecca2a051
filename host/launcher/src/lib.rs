//! Step 2 of the flow: turns a launch spec into a running enclave with a known measurement and config digest.
//! The launcher belongs to the host and is trusted by nobody: it moves bytes and processes, and links no key code.

pub mod backend;
pub mod carrier;
pub mod cli;
pub mod console;
pub mod enclave;
pub mod error;
pub mod event;
pub mod frame;
pub mod image;
pub mod launch;
pub mod lines;
mod look;
pub mod measure;
mod ready;
pub mod relay;
mod renewal;
mod signals;
pub mod simulator;
pub mod spec;
pub mod spec_file;
pub mod volume;

pub use error::LaunchError;
pub use event::Event;
pub use launch::{Stopped, launch};
pub use measure::{BoundConfig, measure_process};
pub use simulator::{LaunchRequest, Launched, MachineLaunched, MachineRequest, Simulator};
pub use spec::{Backend, LaunchSpec};
