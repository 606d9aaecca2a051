//! Turns requests of the Open Inference Protocol v2 (JSON, with or without binary tensors) into tensors, and tensors into answers.
//! It does not know a model's purpose, the vendor's rules or the network: no clock, no files, no sockets; everything it needs is handed in.
//!
//! [`Request::decode`] and [`Answer::encode`] are the protocol; [`inflate`] undoes a body's compression before either; the rest
//! of the module `describe` writes the descriptions that clients of the protocol and of Triton ask for.
//!
//! What the protocol leaves open is decided here:
//! - A parameter that this server does not know is refused (`PARAMETER_UNSUPPORTED`), because a caller who sends one expects it to change the answer.
//!   Triton's reserved ones (`sequence_id`, `priority`, `timeout`, `classification`, …) are accepted only with the value that asks for nothing.
//! - A JSON list is flat, or nested exactly as its shape says.
//! - An FP32 number is rounded once, from its decimal text; a number too large for its type is refused and never becomes infinity.
//! - FP16 and BF16 come as binary data only; in JSON answers they are written as the FP32 number of the same value.

mod answer;
mod binary;
mod cut;
mod describe;
mod dtype;
mod envelope;
mod error;
mod inflate;
mod list;
mod number;
mod request;
mod tensor;

pub use answer::Answer;
pub use describe::{
    ModelStatistics, Statistics, Tally, Version, config_json, metadata_json, repository_json, statistics_json,
};
pub use dtype::{Dtype, Port, Ports};
pub use error::OipError;
pub use inflate::{Encoding, inflate};
pub use list::read as read_list;
pub use request::{Called, HEADER_LENGTH, Limits, Request, Wanted};
pub use tensor::{MAX_RANK, Tensor, count};
