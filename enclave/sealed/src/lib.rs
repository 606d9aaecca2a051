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
mod piece;
mod plaintext;
mod seal;
mod shelf;
mod staging;
mod unseal;
mod volume;

pub use digests::{DigestEntry, Digests};
pub use error::SealedError;
pub use header::{HEADER_LEN, MAGIC};
pub use key::{ModelKey, commitment};
pub use manifest::{CHUNK_LEN, FileEntry, MAX_FILES, MAX_MANIFEST, MAX_PADDED_LEN, Manifest, Role};
pub use package::{MAX_USAGE_POLICY, Package};
pub use plaintext::Plaintext;
pub use seal::{SealInput, SealSpec, SealedSummary, seal};
pub use shelf::Shelf;
pub use volume::{MAX_VOLUME_FILES, MAX_VOLUME_INDEX, Volume};

#[cfg(test)]
mod tests;
