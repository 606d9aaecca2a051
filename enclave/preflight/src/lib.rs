//! Turns the bytes of an ONNX model, as they stream by, into a refusal or a report of what the model asks of its runtime.
//! It does not establish that the model computes anything sensible, nor that it ends; nothing here bounds the time and memory of what it computes.
//!
//! docs/onnx-preflight.md has every rule, limit and code. In the order of reading:
//! [`Walker`] takes the stream apart (`walker`), by the table of fields (`schema`) and protobuf's integers (`varint`);
//! `frame` keeps what is known of each open message; `close` and `tensor`, `external`, `scope` hold the rules for a message that
//! ends; `finish` compares what could come in any order: functions, calls, operator sets.

mod close;
mod error;
mod external;
mod finish;
mod frame;
mod limits;
mod operators;
mod report;
mod schema;
mod scope;
mod tensor;
mod varint;
mod walker;

pub use error::{Reason, Refused};
pub use external::ExternalFile;
pub use limits::Limits;
pub use report::{Function, Initializers, Reference, Report, Value, ValueType, Warning, element_name};
pub use walker::Walker;
