//! Turns every way in which the customer's side can fail into a fact, a stable code, an exit status and advice.
//! The messages hold numbers and fixed words only: never a text that the peer chose.

use core::fmt;
use std::io;

use serde_json::{Value, json};
use vouchsafe_attestation::{EncodingError, VerifyError};
use vouchsafe_policies::Refusal;

use crate::peer;

/// Why there is no verdict, no connection or no answer.
#[derive(Debug)]
pub enum CustomerError {
    /// The evidence is not genuine.
    Verify(Box<VerifyError>),
    /// The evidence is genuine, and the policy or the session binding refuses it.
    Refused(Box<Refusal>),
    /// The network failed: `PEER_UNREACHABLE`.
    Network {
        /// What was being done.
        step: &'static str,
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// The peer was not done in time: `PEER_TIMEOUT`.
    Timeout {
        /// What was being done.
        step: &'static str,
        /// How long it was given, in milliseconds.
        after_ms: u64,
    },
    /// The peer speaks TLS or HTTP otherwise than it must: `PEER_TLS`, `PEER_PROTOCOL`, `PEER_CLOSED`,
    /// `PEER_RESPONSE_TOO_LARGE`, `ATTEST_RESPONSE_INVALID`.
    Wire {
        /// The stable code.
        code: &'static str,
        /// The fact.
        fact: &'static str,
    },
    /// The peer answered, with a refusal of its own.
    Peer {
        /// The peer's code where it is one of ours, else `PEER_STATUS`.
        code: &'static str,
        /// Its HTTP status.
        status: u16,
        /// After how many seconds it says to ask again (`Retry-After`).
        retry_after_s: Option<u32>,
    },
    /// A receipt that does not hold, or a verdict that speaks of no session: `RECEIPT_*`, `SESSION_UNBOUND`.
    Receipt {
        /// The stable code.
        code: &'static str,
        /// The fact.
        fact: &'static str,
    },
    /// A receipt or salt that cannot be read.
    Encoding(EncodingError),
    /// A local file, socket or log.
    Local {
        /// The stable code.
        code: &'static str,
        /// The fact.
        fact: &'static str,
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// The caller asked for something that is never done: `PROXY_NOT_LOOPBACK`, `ADDRESS_INVALID`, `INPUT_INVALID`,
    /// `PATH_REFUSED`, `API_KEY_INVALID`, `CONTENT_ENCODING`.
    Usage {
        /// The stable code.
        code: &'static str,
        /// The fact.
        fact: &'static str,
    },
}

impl CustomerError {
    /// The stable code; the first one of a refusal with several reasons.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Verify(error) => error.code(),
            Self::Refused(refusal) => refusal.code(),
            Self::Network { .. } => "PEER_UNREACHABLE",
            Self::Timeout { .. } => "PEER_TIMEOUT",
            Self::Encoding(error) => error.code(),
            Self::Wire { code, .. }
            | Self::Peer { code, .. }
            | Self::Receipt { code, .. }
            | Self::Local { code, .. }
            | Self::Usage { code, .. } => code,
        }
    }

    /// Every code, the first one first.
    #[must_use]
    pub fn codes(&self) -> Vec<String> {
        match self {
            Self::Refused(refusal) => refusal.reasons.iter().map(|r| r.code.to_owned()).collect(),
            other => vec![other.code().to_owned()],
        }
    }

    /// The exit status.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::Verify(error) => error.exit(),
            Self::Refused(refusal) => refusal.exit(),
            Self::Peer { code, status, .. } => peer::exit(code, *status),
            Self::Network { .. } | Self::Timeout { .. } | Self::Wire { .. } => 8,
            Self::Receipt { .. } | Self::Encoding(_) => 2,
            Self::Local { .. } => 9,
            Self::Usage { .. } => 1,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Verify(error) => error.advice(),
            Self::Refused(refusal) => refusal.advice(),
            Self::Network { .. } => "Is the service running, and are address and port right?",
            Self::Timeout { .. } => "Try again; if it stays slow, ask the operator. Nothing was sent in the meantime.",
            Self::Wire { code, .. } => match *code {
                "PEER_TLS" => {
                    "Something other than the enclave may answer at this address, or ends TLS on the way to it."
                }
                "PEER_RESPONSE_TOO_LARGE" => "Ask for fewer rows at a time, or raise the response limit.",
                _ => "Does a Vouchsafe enclave answer at this address? Ask the operator for its log.",
            },
            Self::Peer { code, .. } => peer::advice(code),
            Self::Receipt { code, .. } => match *code {
                "RECEIPT_MISSING" => {
                    "The service gave no receipt: it may not support them. Do not use the answer if you need one."
                }
                "RECEIPT_BODY_MISMATCH" => {
                    "Give the exact bytes that were sent and received, and the salt of this receipt."
                }
                "SESSION_UNBOUND" => {
                    "Appraise with Expected::Session: nothing may be sent or believed on another verdict."
                }
                _ => "Do not rely on this receipt. Keep the file and ask the vendor.",
            },
            Self::Encoding(_) => "The file is damaged or of another kind.",
            Self::Local { code, .. } => match *code {
                "PORT_IN_USE" => "Choose another port, or stop the program that holds this one.",
                "LOG_BROKEN" => "Move the log aside and keep it: a line was changed, removed or added.",
                "CLOCK_BEFORE_BUILD" => {
                    "Set this machine's clock: under a clock in the past, revoked and expired things look current."
                }
                "LOG_LOCKED" => "Another proxy writes this log; give each its own.",
                _ => "See to the file, its permissions and the free space.",
            },
            Self::Usage { code, .. } => match *code {
                "PROXY_NOT_LOOPBACK" => {
                    "Listen on 127.0.0.1, [::1] or unix:PATH: what reaches the proxy is not encrypted."
                }
                "ADDRESS_INVALID" => "Write it as HOST:PORT.",
                "MODEL_NOT_CLAIMED" => "`vouchsafe verify` prints which models the enclave serves.",
                "INPUT_INVALID" => "Give {\"inputs\": [...]} or {\"rows\": [[...], ...]}.",
                "API_KEY_INVALID" => {
                    "Name a file that holds the key and nothing else; `vouchsafe keys api-key` makes one."
                }
                "CONTENT_ENCODING" => "Compress with gzip or with deflate (zlib), or not at all.",
                _ => "See --help.",
            },
        }
    }

    /// Every reason as JSON objects with code, check, expected, actual and remedy.
    #[must_use]
    pub fn reasons(&self) -> Vec<Value> {
        match self {
            Self::Refused(refusal) => {
                refusal.reasons.iter().map(|r| serde_json::to_value(r).unwrap_or(Value::Null)).collect()
            }
            other => vec![json!({
                "code": other.code(),
                "check": other.stage(),
                "expected": Value::Null,
                "actual": other.to_string(),
                "remedy": other.advice(),
            })],
        }
    }

    fn stage(&self) -> &'static str {
        match self {
            Self::Verify(_) => "verify",
            Self::Refused(_) => "appraise",
            Self::Network { step, .. } | Self::Timeout { step, .. } => step,
            Self::Wire { .. } | Self::Peer { .. } => "peer",
            Self::Receipt { .. } | Self::Encoding(_) => "receipt",
            Self::Local { .. } => "local",
            Self::Usage { .. } => "usage",
        }
    }

    pub(crate) const fn wire(code: &'static str, fact: &'static str) -> Self {
        Self::Wire { code, fact }
    }

    pub(crate) const fn receipt(code: &'static str, fact: &'static str) -> Self {
        Self::Receipt { code, fact }
    }

    pub(crate) const fn usage(code: &'static str, fact: &'static str) -> Self {
        Self::Usage { code, fact }
    }

    pub(crate) fn local(code: &'static str, fact: &'static str, error: &io::Error) -> Self {
        Self::Local { code, fact, kind: error.kind() }
    }

    pub(crate) const fn closed(fact: &'static str) -> Self {
        Self::Wire { code: "PEER_CLOSED", fact }
    }
}

impl fmt::Display for CustomerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Status 3: the evidence may well be genuine, but what proves it is missing, stale or not yet in force.
            Self::Verify(error) if error.exit() == 3 => write!(f, "the evidence cannot be verified: {error}"),
            Self::Verify(error) => write!(f, "the evidence is not genuine: {error}"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Network { step, kind } => write!(f, "the network failed ({step}): {kind}"),
            Self::Timeout { step, after_ms } => write!(f, "the peer was not done within {after_ms} ms ({step})"),
            Self::Wire { fact, .. } | Self::Receipt { fact, .. } | Self::Usage { fact, .. } => f.write_str(fact),
            Self::Peer { code, status, retry_after_s } => {
                match *code {
                    "PEER_STATUS" => write!(f, "the service answered with HTTP status {status}"),
                    code => write!(f, "the service refused with {code} (HTTP status {status})"),
                }?;
                retry_after_s.map_or(Ok(()), |s| write!(f, "; it says to ask again in {s} s"))
            }
            Self::Encoding(error) => error.fmt(f),
            Self::Local { fact, kind, .. } => write!(f, "{fact}: {kind}"),
        }
    }
}

impl core::error::Error for CustomerError {}

impl From<VerifyError> for CustomerError {
    fn from(error: VerifyError) -> Self {
        Self::Verify(Box::new(error))
    }
}

impl From<Refusal> for CustomerError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<EncodingError> for CustomerError {
    fn from(error: EncodingError) -> Self {
        Self::Encoding(error)
    }
}
