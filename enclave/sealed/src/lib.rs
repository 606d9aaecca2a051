//! Turns ONNX files into a sealed package that only a key grant opens, and back. Format: `docs/sealed-model.md`.
//! A package that opens is the vendor's; whether this enclave may have its key is the broker's decision, not this crate's.

mod blob;
mod chunk;
mod digest_list;
mod digests;
mod directory;
mod error;
mod header;
mod job;
mod key;
mod lanes;
mod manifest;
mod package;
mod piece;
mod plaintext;
mod provenance;
mod seal;
mod shelf;
mod source;
mod spool;
mod staging;
mod unseal;
mod volume;

pub use digests::{DigestEntry, Digests};
pub use error::SealedError;
pub use header::{HEADER_LEN, MAGIC};
pub use key::{ModelKey, commitment};
pub use manifest::{CHUNK_LEN, FileEntry, MAX_FILES, MAX_MANIFEST, MAX_PADDED_LEN, Manifest, Role};
pub use package::{MAX_USAGE_POLICY, Package};
pub use piece::Read;
pub use plaintext::Plaintext;
pub use provenance::{MAX_PROVENANCE, Provenance, Statement};
pub use seal::{BeforeName, SealInput, SealOptions, SealSpec, SealedSummary, seal, seal_with};
pub use shelf::Shelf;
pub use volume::{MAX_VOLUME_FILES, MAX_VOLUME_INDEX, Volume};

#[cfg(test)]
mod tests;
