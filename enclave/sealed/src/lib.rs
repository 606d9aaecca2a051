//! Turns ONNX files into a sealed package that only a key grant opens, and back. Format: `docs/sealed-model.md`.
//! A package that opens is the vendor's; whether this enclave may have its key is the broker's decision, not this crate's.

mod chunk;
mod digest_list;
mod digests;
mod directory;
mod error;
mod header;
mod key;
mod manifest;
mod package;
mod plaintext;
mod seal;
mod staging;
mod unseal;

pub use digests::{DigestEntry, Digests};
pub use error::SealedError;
pub use header::{HEADER_LEN, MAGIC};
pub use key::{ModelKey, commitment};
pub use manifest::{CHUNK_LEN, FileEntry, MAX_FILES, MAX_MANIFEST, MAX_PADDED_LEN, Manifest, Role};
pub use package::{MAX_USAGE_POLICY, Package};
pub use plaintext::Plaintext;
pub use seal::{SealInput, SealSpec, SealedSummary, seal};

#[cfg(test)]
mod tests;
