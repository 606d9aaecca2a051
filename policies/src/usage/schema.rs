//! Turns the bytes of a usage policy into rules: the schema is complete, and rules not enforced here are refused.
//! A parsed usage policy limits nothing by itself: the enclave calls `enforce_*`.

use core::fmt;

use serde::{Deserialize, Serialize};
use vouchsafe_attestation::{UnixTime, claims::model_id, lp::sha256};

use super::UsageError;
use crate::Listed;

/// A usage policy longer than this is refused before it is parsed.
pub const MAX_USAGE_POLICY: usize = 64 * 1024;
const MAX_INPUTS: usize = 64;
const MAX_RANK: usize = 8;
const MAX_NAME: usize = 128;

/// A vendor's rules for the use of one model, all of them enforced.
#[derive(Clone, Debug)]
pub struct UsagePolicy {
    pub(super) model: String,
    pub(super) expires: Expires,
    pub(super) limits: Limits,
    pub(super) inputs: Inputs,
    pub(super) digest: [u8; 32],
}

/// When the right to use the model ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expires {
    /// Written as `"never"`.
    Never,
    /// At this second.
    At(UnixTime),
}

/// Limits of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Rows: the first dimension of an input whose first dimension is free.
    pub max_batch: u32,
    /// Bytes of the decoded body.
    pub max_body_bytes: u64,
}

/// Which inputs a request may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// Written as `"any"`: whatever the model takes.
    Any,
    /// Written as `"finite"`: whatever the model takes, without NaN or infinity.
    Finite,
    /// Exactly these.
    Only(Vec<InputRule>),
}

/// What one input must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRule {
    /// The tensor's name in the model.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions; -1 is any length.
    pub shape: Vec<i64>,
    /// Whether NaN and infinity are refused.
    pub finite: bool,
}

/// Element types of the Open Inference Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum Dtype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    Bf16,
    Bytes,
}

impl core::str::FromStr for Dtype {
    type Err = UsageError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let dtype = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(word);
        Self::deserialize(dtype).map_err(|_| UsageError::Invalid("a `dtype` is no word of the Open Inference Protocol"))
    }
}

impl Dtype {
    /// The protocol's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bf16 => "BF16",
            Self::Bytes => "BYTES",
        }
    }
}

impl InputRule {
    /// A rule that also refuses NaN and infinity.
    #[must_use]
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: Vec<i64>) -> Self {
        Self { name: name.into(), dtype, shape, finite: true }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: u32,
    model: String,
    expires: String,
    limits: Limits,
    inputs: RawInputs,
    outputs: Listed<RawOutput>,
    callers: Listed<RawCaller>,
    quotas: RawQuotas,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawInputs {
    Word(String),
    Only(Vec<RawInput>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInput {
    name: String,
    dtype: Dtype,
    shape: Vec<i64>,
    finite: bool,
    #[serde(default, deserialize_with = "written")]
    range: Option<RawRange>,
}

/// A field that may be left out, but not written as `null`.
fn written<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

// The rules below are parsed in full, so that a policy written for a later release is told apart from a broken one.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read to be refused by name")]
struct RawRange {
    min: f64,
    max: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read to be refused by name")]
struct RawOutput {
    name: String,
    #[serde(default, deserialize_with = "written")]
    round: Option<u8>,
    #[serde(default, deserialize_with = "written")]
    top_k: Option<u32>,
    #[serde(default, deserialize_with = "written")]
    argmax_only: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read to be refused by name")]
struct RawCaller {
    key: String,
    role: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "read to be refused by name")]
enum RawQuotas {
    Word(String),
    Only(Vec<RawQuota>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read to be refused by name")]
struct RawQuota {
    role: String,
    requests: u64,
    per_s: u64,
}

impl UsagePolicy {
    /// Reads a usage policy. The bytes are those that the vendor signed.
    ///
    /// # Errors
    /// `USAGE_POLICY_INVALID`, or `USAGE_POLICY_UNSUPPORTED` for any rule that this release does not enforce.
    pub fn parse(bytes: &[u8]) -> Result<Self, UsageError> {
        if bytes.len() > MAX_USAGE_POLICY {
            return Err(UsageError::Invalid("it is larger than 65536 bytes"));
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|_| {
            UsageError::Invalid("it is not JSON of the expected form: an unknown, repeated, missing or mistyped field")
        })?;
        if raw.version != 1 {
            return Err(UsageError::Unsupported("version"));
        }
        model_id(&raw.model).map_err(|_| UsageError::Invalid("`model` is not 1 to 64 characters of a-z 0-9 - _ ."))?;
        let expires = match raw.expires.as_str() {
            "never" => Expires::Never,
            text => UnixTime::parse_rfc3339(text)
                .map(Expires::At)
                .map_err(|_| UsageError::Invalid("`expires` is neither \"never\" nor YYYY-MM-DDThh:mm:ssZ"))?,
        };
        if raw.limits.max_batch == 0 || raw.limits.max_body_bytes == 0 {
            return Err(UsageError::Invalid("a limit is 0: nothing could ever pass"));
        }
        if !raw.outputs.is_any() {
            return Err(UsageError::Unsupported("outputs"));
        }
        if !raw.callers.is_any() {
            return Err(UsageError::Unsupported("callers"));
        }
        match &raw.quotas {
            RawQuotas::Word(word) if word == "none" => {}
            RawQuotas::Word(_) => return Err(UsageError::Invalid("`quotas` is neither \"none\" nor a list")),
            RawQuotas::Only(_) => return Err(UsageError::Unsupported("quotas")),
        }
        let inputs = match raw.inputs {
            RawInputs::Word(word) if word == "any" => Inputs::Any,
            RawInputs::Word(word) if word == "finite" => Inputs::Finite,
            RawInputs::Word(_) => {
                return Err(UsageError::Invalid("`inputs` is neither \"any\" nor \"finite\" nor a list"));
            }
            RawInputs::Only(list) => inputs(list)?,
        };
        Ok(Self { model: raw.model, expires, limits: raw.limits, inputs, digest: sha256(bytes) })
    }

    /// The model that it speaks of.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// When the right to use the model ends.
    #[must_use]
    pub fn expires(&self) -> Expires {
        self.expires
    }

    /// Limits of one request.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Which inputs a request may hold.
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// SHA-256 of the signed bytes; stands in every claim and receipt.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

fn inputs(list: Vec<RawInput>) -> Result<Inputs, UsageError> {
    if list.is_empty() || list.len() > MAX_INPUTS {
        return Err(UsageError::Invalid("`inputs` does not hold 1 to 64 entries"));
    }
    let mut rules: Vec<InputRule> = Vec::with_capacity(list.len());
    for raw in list {
        if raw.range.is_some() {
            return Err(UsageError::Unsupported("inputs.range"));
        }
        if raw.name.is_empty() || raw.name.len() > MAX_NAME || raw.name.chars().any(char::is_control) {
            return Err(UsageError::Invalid("an input's `name` is not 1 to 128 characters without control characters"));
        }
        if rules.iter().any(|rule| rule.name == raw.name) {
            return Err(UsageError::Invalid("`inputs` names one input twice"));
        }
        if raw.shape.len() > MAX_RANK || raw.shape.iter().any(|dim| *dim < -1) {
            return Err(UsageError::Invalid("an input's `shape` is not at most 8 dimensions of -1 or more"));
        }
        rules.push(InputRule { name: raw.name, dtype: raw.dtype, shape: raw.shape, finite: raw.finite });
    }
    Ok(Inputs::Only(rules))
}
