//! Turns locked Debian packages and the enclave program into a guest image, the same bytes every time: a kernel, an initrd, a
//! firmware and a manifest in one folder. It does not boot anything and does not say what a launch of it measures.

mod apt;
mod build;
mod cpio;
mod diff;
mod doors;
mod elf;
mod error;
mod extract;
mod fetch;
mod folder;
mod initrd;
mod kernel;
mod lock;
mod sources;
mod spec;
mod unpack;
mod write;

pub use build::{Image, Unpacked, build, pack};
pub use diff::{Difference, diff};
pub use error::ImageError;
pub use extract::{extract, inspect};
pub use fetch::{Fetched, Origin, fetch, resolve};
pub use folder::{FIRMWARE, FileRecord, INITRD, KERNEL, MANIFEST, Manifest, Part};
pub use initrd::{INIT, ONNXRUNTIME};
pub use lock::{Change, Input, Lock};
pub use spec::{ImageSpec, Item};
pub use write::{Parts, is_taken, write};
