//! Turns a policy that cannot be used into a fact, a stable code, advice and an exit status.
//! It does not speak about evidence: a [`crate::Refusal`] does.

use core::fmt;
use std::io;

use vouchsafe_attestation::{Mode, UnixTime, VerifyError};

/// Why a policy file cannot be used. Messages hold field names of this format, numbers and fixed words only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// The file could not be read.
    Unreadable(io::ErrorKind),
    /// The text breaks a rule of the format, at a line and column where one is known.
    Invalid {
        /// Line and column, both from 1.
        at: Option<(usize, usize)>,
        /// What is wrong.
        fact: String,
    },
    /// Mandatory fields are missing: a base alone is no policy.
    Incomplete {
        /// Every missing field.
        missing: Vec<String>,
        /// What the policy said of its mode, which chooses the command that completes it.
        mode: Mode,
    },
    /// The policy asks for something that this release does not do.
    Unsupported(&'static str),
    /// The clock of the relying party shows a time before these rules were written.
    Clock(UnixTime),
    /// The simulated root that the policy names could not be read.
    RootUnreadable(io::ErrorKind),
    /// The simulated root is not the one that the policy names, or no usable root.
    Root(VerifyError),
}

/// Stands for a pipe, socket or device where a file should be: the standard library has no kind for it.
pub(crate) const NOT_REGULAR: io::ErrorKind = io::ErrorKind::Unsupported;

/// Why a file cannot be read.
struct Why(io::ErrorKind);

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == NOT_REGULAR { f.write_str("not a regular file") } else { self.0.fmt(f) }
    }
}

impl PolicyError {
    pub(crate) fn invalid(fact: impl Into<String>) -> Self {
        Self::Invalid { at: None, fact: fact.into() }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "POLICY_UNREADABLE",
            Self::Invalid { .. } => "POLICY_INVALID",
            Self::Incomplete { .. } => "POLICY_INCOMPLETE",
            Self::Unsupported(_) => "POLICY_UNSUPPORTED",
            Self::Clock(_) => "CLOCK_BEFORE_BUILD",
            Self::RootUnreadable(_) => "POLICY_ROOT_UNREADABLE",
            Self::Root(error) => error.code(),
        }
    }

    /// The exit status: 9 for files that cannot be read, 1 for what the user wrote, the root's own otherwise.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::Unreadable(_) | Self::RootUnreadable(_) | Self::Clock(_) => 9,
            Self::Invalid { .. } | Self::Incomplete { .. } | Self::Unsupported(_) => 1,
            Self::Root(error) => error.exit(),
        }
    }

    /// What to do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "give the path of a policy file that you may read",
            Self::Invalid { .. } => "correct the policy; docs/policy.md explains every field",
            Self::Incomplete { mode: Mode::Hardware, .. } => {
                "write the missing fields, or let `vouchsafe policy init --mode hardware` write a complete policy"
            }
            Self::Incomplete { mode: Mode::Simulation, .. } => {
                "write the missing fields, or let `vouchsafe policy init --mode simulation` write a complete policy"
            }
            Self::Unsupported(_) => "remove it, or use a release that supports it",
            Self::Clock(_) => {
                "set this machine's clock: under a clock in the past, revoked and expired things look current"
            }
            Self::RootUnreadable(_) => {
                "make the simulated root with `vouchsafe-simulator root --root DIR`; its path is relative to the policy file"
            }
            Self::Root(_) => "name the right root: `vouchsafe-simulator root --root DIR` prints its path and SHA-256",
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(kind) => write!(f, "the policy file cannot be read: {}", Why(*kind)),
            Self::Invalid { at: Some((line, column)), fact } => {
                write!(f, "the policy is wrong at line {line}, column {column}: {fact}")
            }
            Self::Invalid { at: None, fact } => write!(f, "the policy is wrong: {fact}"),
            Self::Incomplete { missing, mode } => write!(
                f,
                "the policy is not complete: {} missing; `vouchsafe policy init --mode {mode}` writes a complete one",
                missing.join(", ")
            ),
            Self::Unsupported(what) => write!(f, "the policy asks for what this release does not do: {what}"),
            Self::Clock(now) => write!(
                f,
                "the clock shows {now}, a time before this release's rules were written ({})",
                crate::RULES_WRITTEN
            ),
            Self::RootUnreadable(kind) => {
                write!(f, "the simulated root named in the policy cannot be read: {}", Why(*kind))
            }
            Self::Root(error) => write!(f, "the simulated root named in the policy cannot be used: {error}"),
        }
    }
}

impl std::error::Error for PolicyError {}
