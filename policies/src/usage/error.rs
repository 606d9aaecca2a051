//! Turns a usage policy that cannot be used, or a request that it forbids, into a code and advice.
//! Names of tensors in a request are the caller's and never stand in a message.

use core::fmt;

use super::Range;

/// Why a usage policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// The text breaks a rule of the format (what is wrong, in fixed words).
    Invalid(&'static str),
    /// It asks for a rule that this release does not enforce (our name of the field).
    Unsupported(&'static str),
    /// It does not fit the model (what, in fixed words).
    Model(&'static str),
}

impl UsageError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "USAGE_POLICY_INVALID",
            Self::Unsupported(_) => "USAGE_POLICY_UNSUPPORTED",
            Self::Model(_) => "USAGE_POLICY_MODEL",
        }
    }

    /// The exit status: 6 for a broken one, 4 for one that must be refused by this release or for this model.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self {
            Self::Invalid(_) => 6,
            Self::Unsupported(_) | Self::Model(_) => 4,
        }
    }

    /// What to do.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Invalid(_) => {
                "correct the usage policy and seal the model again; docs/policy.md explains every field"
            }
            Self::Unsupported(_) => {
                "seal the model with a usage policy without that rule, or use a release that enforces it"
            }
            Self::Model(_) => "seal with a usage policy written for this model",
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => write!(f, "the usage policy is wrong: {what}"),
            Self::Unsupported(field) => {
                write!(f, "the usage policy has a rule that this release does not enforce: `{field}`")
            }
            Self::Model(what) => write!(f, "the usage policy does not fit the model: {what}"),
        }
    }
}

impl std::error::Error for UsageError {}

/// Why a request is refused under the usage policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageRefusal {
    /// The right to use the model has ended.
    Expired,
    /// The body is larger than the limit, in bytes.
    BodyTooLarge(u64),
    /// More rows than the limit.
    BatchTooLarge(u32),
    /// An input that the policy does not name.
    InputUnknown,
    /// An input that the policy names, and the request does not hold (its name in the policy).
    InputMissing(String),
    /// An input that stands twice in the request.
    InputRepeated,
    /// Another element type than the policy's (name, type; both the policy's).
    InputDtype(String, &'static str),
    /// Another shape than the policy's (name, shape; both the policy's).
    InputShape(String, Vec<i64>),
    /// A NaN or an infinity.
    InputNotFinite,
    /// An element outside of the policy's range (name, range; both the policy's).
    InputRange(String, Range),
    /// The caller did not prove to be anybody.
    CallerUnknown,
    /// The caller proved to hold a key that is not listed.
    CallerForbidden,
    /// A quota is used up.
    QuotaExceeded {
        /// Seconds until the caller may ask again.
        retry_after_s: u64,
    },
    /// The lease allows more requests than one day's quotas (the most that it may allow).
    QuotaNotCovered(u64),
    /// An output that the policy does not let out, or that its rule cannot be applied to.
    OutputForbidden,
}

impl UsageRefusal {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Expired => "USAGE_EXPIRED",
            Self::BodyTooLarge(_) => "BODY_TOO_LARGE",
            Self::BatchTooLarge(_) => "BATCH_TOO_LARGE",
            Self::InputUnknown => "INPUT_UNKNOWN",
            Self::InputMissing(_) => "INPUT_MISSING",
            Self::InputRepeated => "INPUT_REPEATED",
            Self::InputDtype(..) => "INPUT_DTYPE",
            Self::InputShape(..) => "INPUT_SHAPE",
            Self::InputNotFinite => "INPUT_NOT_FINITE",
            Self::InputRange(..) => "INPUT_RANGE",
            Self::CallerUnknown => "CALLER_UNKNOWN",
            Self::CallerForbidden => "CALLER_FORBIDDEN",
            Self::QuotaExceeded { .. } => "QUOTA_EXCEEDED",
            Self::QuotaNotCovered(_) => "QUOTA_NOT_COVERED",
            Self::OutputForbidden => "OUTPUT_FORBIDDEN",
        }
    }

    /// The exit status: the vendor's policy refuses.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        4
    }

    /// The HTTP status of an answer that carries this code.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::CallerUnknown => 401,
            Self::Expired | Self::CallerForbidden | Self::OutputForbidden => 403,
            Self::BodyTooLarge(_) => 413,
            Self::QuotaExceeded { .. } => 429,
            Self::QuotaNotCovered(_) => 503,
            _ => 400,
        }
    }

    /// What the header `Retry-After` of such an answer says, in seconds.
    #[must_use]
    pub const fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::QuotaExceeded { retry_after_s } => Some(*retry_after_s),
            _ => None,
        }
    }

    /// What to do.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Expired => "ask the vendor for a new version of the model",
            Self::BodyTooLarge(_) | Self::BatchTooLarge(_) => "send fewer rows in one request",
            Self::InputNotFinite => "replace NaN and infinite values before sending",
            Self::InputRange(..) => "leave out, or correct, the values outside of the range",
            Self::CallerUnknown => {
                "sign the request with --caller-key, or send the API key that the vendor gave you with --api-key-file"
            }
            Self::CallerForbidden => "ask the vendor to list your key in the model's usage policy",
            Self::QuotaExceeded { .. } => "ask again after the time that Retry-After says, or ask the vendor for more",
            Self::QuotaNotCovered(_) => {
                "lower max_requests under [lease] in the broker's broker.toml, or seal with a larger quota"
            }
            Self::OutputForbidden => "ask only for the outputs at /v2/models/{model}",
            _ => "read the model's inputs at /v2/models/{model}",
        }
    }
}

impl fmt::Display for UsageRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("the right to use this model has ended"),
            Self::BodyTooLarge(most) => {
                write!(f, "the body is larger than the {most} bytes that the usage policy allows")
            }
            Self::BatchTooLarge(most) => {
                write!(f, "more rows than the {most} that the usage policy allows in one request")
            }
            Self::InputUnknown => f.write_str("an input that the usage policy does not name"),
            Self::InputMissing(name) => write!(f, "the input {name} is missing"),
            Self::InputRepeated => f.write_str("an input stands twice in the request"),
            Self::InputDtype(name, dtype) => write!(f, "the input {name} is not of type {dtype}"),
            Self::InputShape(name, shape) => write!(f, "the input {name} is not of shape {shape:?} (-1 is any length)"),
            Self::InputNotFinite => f.write_str("an input holds a NaN or an infinite value"),
            Self::InputRange(name, range) => {
                write!(f, "the input {name} holds a value that is not within {} to {}", range.min(), range.max())
            }
            Self::CallerUnknown => {
                f.write_str("the usage policy lists its callers, and the request proves to be of none")
            }
            Self::CallerForbidden => f.write_str("the usage policy does not list the key that signed the request"),
            Self::QuotaExceeded { retry_after_s } => {
                write!(f, "the quota is used up; the next request may pass in {retry_after_s} seconds")
            }
            Self::QuotaNotCovered(most) => write!(
                f,
                "the lease allows more requests than the {most} that the usage policy's quotas allow in one day"
            ),
            Self::OutputForbidden => f.write_str("an output that the usage policy does not let out"),
        }
    }
}

impl std::error::Error for UsageRefusal {}
