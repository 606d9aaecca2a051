//! Turns what several scenario tests need into one place; the tests themselves are the files under `tests/`.
//! Nothing here is part of any program.

pub mod live;
pub mod load;
pub mod memory;
pub mod models;
pub mod onnx;
pub mod processes;
pub mod programs;
pub mod run;
pub mod scene;
pub mod trace;
pub mod wire;
pub mod world;

pub use models::Served;
pub use programs::{directory as bin_dir, workspace};
pub use run::{python, reference, vouchsafe, vouchsafe_json};
pub use scene::Scene;
pub use wire::Wire;
pub use world::{SNP, Service, TDX, World};
