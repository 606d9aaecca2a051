//! Turns the bytes of a usage policy into rules; one that this release does not enforce is refused by name.
//! A parsed usage policy limits nothing by itself: the enclave asks it at every step of a request.

use serde::{Deserialize, Serialize};
use vouchsafe_attestation::{UnixTime, claims::model_id, lp::sha256};

use super::callers::{self, RawCaller};
use super::inputs::RawInputs;
use super::outputs::{self, RawOutput};
use super::quotas::RawQuotas;
use super::{Callers, Inputs, Outputs, Quota, UsageError};
use crate::Listed;

/// A usage policy longer than this is refused before it is parsed: 256 KiB, what a sealed package holds at most.
pub const MAX_USAGE_POLICY: usize = 256 * 1024;

/// A vendor's rules for the use of one model, all of them enforced.
#[derive(Clone, Debug)]
pub struct UsagePolicy {
    pub(super) model: String,
    pub(super) expires: Expires,
    pub(super) limits: Limits,
    pub(super) inputs: Inputs,
    pub(super) outputs: Outputs,
    pub(super) callers: Callers,
    pub(super) quotas: Vec<Quota>,
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

impl UsagePolicy {
    /// Reads a usage policy. The bytes are those that the vendor signed.
    ///
    /// # Errors
    /// `USAGE_POLICY_INVALID`, or `USAGE_POLICY_UNSUPPORTED` for any rule that this release does not enforce.
    pub fn parse(bytes: &[u8]) -> Result<Self, UsageError> {
        if bytes.len() > MAX_USAGE_POLICY {
            return Err(UsageError::Invalid("it is larger than 262144 bytes"));
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
        let (outputs, callers) = (outputs::read(raw.outputs)?, callers::read(raw.callers)?);
        let quotas = raw.quotas.read(&callers)?;
        let inputs = raw.inputs.read()?;
        let (model, limits, digest) = (raw.model, raw.limits, sha256(bytes));
        Ok(Self { model, expires, limits, inputs, outputs, callers, quotas, digest })
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
