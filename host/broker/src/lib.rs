//! The key broker: turns appraised evidence into key bundles, and every decision into a durable ledger line.
//! It runs at the vendor's. It signs no model, and it does not decide what is wanted: the vendor's policy does.

pub mod admin;
mod admin_server;
mod clock;
mod config;
mod error;
pub mod event;
mod exchange;
mod files;
mod head;
mod import;
mod index;
mod init;
mod keystore;
pub mod ledger;
mod limiter;
mod log;
mod refusal;
mod routes;
mod serve;
mod sessions;
mod store;
mod tls;

pub use error::BrokerError;
pub use head::HeadKey;
pub use import::{Imported, import};
pub use init::{InitOptions, InitSummary, init};
pub use serve::serve;
