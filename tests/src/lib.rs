//! Turns what several scenario tests need into one place; the tests themselves are the files under `tests/`.
//! Nothing here is part of any program.

pub mod programs;
pub mod run;
pub mod trace;
pub mod world;

pub use programs::{directory as bin_dir, workspace};
pub use run::{python, vouchsafe, vouchsafe_json};
pub use world::{Service, World};
