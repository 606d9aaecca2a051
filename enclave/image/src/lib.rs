//! Turns the enclave program and the files it needs into the bytes of an initrd, the same bytes every time.
//! It does not boot anything and makes no kernel: today this is the file system half of the guest image.

mod build;
mod cpio;
mod error;
mod spec;

pub use build::{FileRecord, Image, Manifest, build};
pub use error::ImageError;
pub use spec::{ImageSpec, Item};
