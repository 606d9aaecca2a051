//! The customer's side: turns an address and a policy into a connection that has proved itself, and answers into receipts.
//! It does not judge the model's answers, and nothing here makes a host available.

mod attest;
mod caller;
mod channel;
mod connect;
mod error;
mod input;
mod line;
mod log;
mod options;
mod peer;
mod pinned;
mod proxy;
mod receipt;
mod report;
mod table;
mod verdict;

pub use caller::Caller;
pub use connect::{connect, connect_with};
pub use error::CustomerError;
pub use input::{InferInput, outputs_text};
pub use log::{LogSummary, PROXY_LOG_LABEL, ProxyLog, verify_log};
pub use options::ConnectOptions;
pub use peer::{binary_header, json_answer};
pub use pinned::Pinned;
pub use proxy::{Listen, ListenAddress, ProxyOptions, proxy};
pub use receipt::{
    Answer, Bodies, BodiesVerdict, Body, RECEIPT_PROVES_NO_TIME, ReceiptVerdict, Receipted, Salt, verify_receipt,
};
pub use report::report;
pub use table::{headline, receipt_table, refusal_table, table};
pub use verdict::{error_json, receipt_json, verdict_json};
