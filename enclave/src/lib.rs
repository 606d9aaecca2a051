//! The program inside the confidential VM: attest, unseal, serve.
//! It trusts its measured code, its bound configuration and the keys pinned there; it does not trust the host.

pub mod attest;
pub mod authority;
pub mod boot;
pub mod channel;
pub mod config;
pub mod container;
pub mod device;
pub mod dial;
pub mod engine;
pub mod error;
pub mod ground;
pub mod init;
pub mod keeper;
pub mod lease;
pub mod library;
pub mod load;
pub mod log;
pub mod model;
pub mod release_client;
pub mod serve;
pub mod tls;
pub mod unseal;

pub use error::EnclaveError;
