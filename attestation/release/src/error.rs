//! Turns every way in which a key release can fail into a stable code, an exit status and advice.
//! A code says what was seen here; why a broker refused stands in that broker's ledger, under the ticket.

use core::fmt;

/// Why there is no key. No text of the peer's is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseError {
    /// A message is not RCAR 0.4 JSON (which message).
    Message(&'static str),
    /// A message is longer than its cap (which message, the cap).
    TooLarge(&'static str, usize),
    /// The peer speaks another protocol version.
    Version,
    /// The challenge asks for a hash other than SHA-384.
    Hash,
    /// The answer to `auth` set no usable session cookie.
    Cookie,
    /// The broker refused with 401 or 403; the ticket, when it named one.
    Refused(Option<[u8; 16]>),
    /// The broker answered with a status that is no refusal (500, 503, a redirect, …).
    Status(u16),
    /// The encrypted resource is not the one JWE form this protocol uses.
    JweForm,
    /// The encrypted resource does not open under this handshake's key.
    JweOpen,
    /// A public key is not a P-256 point in the JWK form RCAR uses.
    TeePubKey,
    /// No pinned release key signed the bundle.
    BundleSignature,
    /// The signed payload is not a key bundle of this version.
    BundleForm,
    /// The bundle or the stored key is of another mode.
    Mode,
    /// A key was asked for on a verdict that speaks of no key-release handshake.
    Binding,
    /// The bundle answers another handshake.
    Nonce,
    /// The bundle holds another model or sequence than was asked for.
    OtherModel,
    /// The bundle was issued long before the time already known here.
    Stale,
    /// The key does not match its commitment.
    Commitment,
    /// The lease grants nothing: a time or a count of zero.
    LeaseEmpty,
    /// The text is not a broker's public wrapping key.
    WrapPublic,
    /// The file is not a wrapped model key of this version.
    WrappedForm,
    /// The wrapped model key was made for another broker, or was changed.
    WrappedOpen,
    /// The operating system gave no random bytes.
    Random,
}

impl ReleaseError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Message(_) => "RCAR_MESSAGE",
            Self::TooLarge(..) => "RCAR_TOO_LARGE",
            Self::Version => "RCAR_VERSION",
            Self::Hash => "RCAR_HASH",
            Self::Cookie => "RCAR_COOKIE",
            Self::Refused(_) => "KEY_REFUSED",
            Self::Status(_) => "BROKER_STATUS",
            Self::JweForm => "JWE_FORM",
            Self::JweOpen => "JWE_OPEN",
            Self::TeePubKey => "TEE_PUBKEY",
            Self::BundleSignature => "BUNDLE_SIGNATURE",
            Self::BundleForm => "BUNDLE_FORM",
            Self::Mode => "MODE_MISMATCH",
            Self::Binding => "GRANT_BINDING",
            Self::Nonce => "BUNDLE_NONCE",
            Self::OtherModel => "BUNDLE_OTHER_MODEL",
            Self::Stale => "BUNDLE_STALE",
            Self::Commitment => "KEY_COMMITMENT",
            Self::LeaseEmpty => "LEASE_EMPTY",
            Self::WrapPublic => "WRAP_PUBLIC",
            Self::WrappedForm => "WRAPPED_KEY_FORM",
            Self::WrappedOpen => "WRAPPED_KEY_OPEN",
            Self::Random => "RANDOM_UNAVAILABLE",
        }
    }

    /// The exit status.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self {
            Self::WrapPublic => 1,
            Self::BundleSignature => 2,
            Self::Refused(_)
            | Self::JweOpen
            | Self::Mode
            | Self::Binding
            | Self::Nonce
            | Self::OtherModel
            | Self::Stale
            | Self::Commitment
            | Self::LeaseEmpty
            | Self::WrappedOpen => 5,
            Self::WrappedForm => 6,
            Self::Message(_)
            | Self::TooLarge(..)
            | Self::Version
            | Self::Hash
            | Self::Cookie
            | Self::Status(_)
            | Self::JweForm
            | Self::TeePubKey
            | Self::BundleForm => 8,
            Self::Random => 9,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Message(_) | Self::TooLarge(..) | Self::Version | Self::Hash | Self::Cookie | Self::JweForm => {
                "Is the address that of a key broker speaking RCAR 0.4.0 with SHA-384 and P-256 keys?"
            }
            Self::Refused(_) => "Ask the vendor: `vouchsafe broker ledger show TICKET` on the broker names the reason.",
            Self::Status(_) => "The broker is in trouble; its own log names the reason. The enclave tries again.",
            Self::JweOpen => {
                "Something between broker and enclave changed the answer. Try again; if it stays, look there."
            }
            Self::TeePubKey => "The peer must send an uncompressed P-256 key with alg ECDH-ES+A256KW.",
            Self::BundleSignature => {
                "Put the broker's release key into `release_keys` of the enclave's configuration, or find out who answers in its place."
            }
            Self::BundleForm => "Broker and enclave are of different releases: bring both to the same one.",
            Self::Mode => {
                "A simulation never gets a hardware key. Seal with --rehearsal for simulation, without it for hardware."
            }
            Self::Binding => {
                "Appraise with Expected::Release: keys follow from evidence made for this very key-release handshake alone."
            }
            Self::Nonce | Self::Stale => "This is a recorded answer. Somebody between broker and enclave replays.",
            Self::OtherModel => "The broker answered for another model; compare its `import` lines with the packages.",
            Self::Commitment => "The broker stores a wrong key for this model: import the wrapped key again.",
            Self::LeaseEmpty => "Set ttl_s and max_requests above zero in the broker's broker.toml.",
            Self::WrapPublic => "Give the text that `vouchsafe broker init` printed: vouchsafe-broker-p256:…",
            Self::WrappedForm => "Give the wrapped key file that `vouchsafe seal --to` wrote.",
            Self::WrappedOpen => "Seal again with `--to` this broker's wrapping key.",
            Self::Random => "The operating system's random source failed; nothing can be done safely until it works.",
        }
    }
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(what) => write!(f, "{what} is not an RCAR message"),
            Self::TooLarge(what, cap) => write!(f, "{what} is larger than {cap} bytes"),
            Self::Version => f.write_str("the peer does not speak RCAR 0.4"),
            Self::Hash => f.write_str("the peer does not accept SHA-384"),
            Self::Cookie => f.write_str("the broker opened no session"),
            Self::Refused(Some(ticket)) => write!(f, "the broker refused the key, ticket {}", hex::encode(ticket)),
            Self::Refused(None) => f.write_str("the broker refused the key"),
            Self::Status(status) => write!(f, "the broker answered with HTTP status {status}"),
            Self::JweForm => f.write_str("the broker's answer is not an ECDH-ES+A256KW / A256GCM JWE"),
            Self::JweOpen => f.write_str("the broker's answer does not open under the key of this handshake"),
            Self::TeePubKey => f.write_str("the handshake key is not a P-256 key of the expected form"),
            Self::BundleSignature => f.write_str("no pinned release key signed the key bundle"),
            Self::BundleForm => f.write_str("the signed payload is not a key bundle of this version"),
            Self::Mode => f.write_str("the key belongs to another mode than the verdict"),
            Self::Binding => f.write_str("the verdict binds the evidence to no key-release handshake"),
            Self::Nonce => f.write_str("the key bundle answers another handshake"),
            Self::OtherModel => f.write_str("the key bundle holds another model or sequence than was asked for"),
            Self::Stale => f.write_str("the key bundle was issued before the time already known here"),
            Self::Commitment => f.write_str("the model key does not match its commitment"),
            Self::LeaseEmpty => f.write_str("the lease grants no time or no requests"),
            Self::WrapPublic => f.write_str("this is not a broker's public wrapping key"),
            Self::WrappedForm => f.write_str("this is not a wrapped model key"),
            Self::WrappedOpen => f.write_str("the wrapped model key does not open under this broker's wrapping key"),
            Self::Random => f.write_str("the operating system gave no random bytes"),
        }
    }
}

impl core::error::Error for ReleaseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_own_code_a_status_and_advice() {
        let all = [
            ReleaseError::Message("x"),
            ReleaseError::TooLarge("x", 1),
            ReleaseError::Version,
            ReleaseError::Hash,
            ReleaseError::Cookie,
            ReleaseError::Refused(Some([1; 16])),
            ReleaseError::Status(503),
            ReleaseError::JweForm,
            ReleaseError::JweOpen,
            ReleaseError::TeePubKey,
            ReleaseError::BundleSignature,
            ReleaseError::BundleForm,
            ReleaseError::Mode,
            ReleaseError::Binding,
            ReleaseError::Nonce,
            ReleaseError::OtherModel,
            ReleaseError::Stale,
            ReleaseError::Commitment,
            ReleaseError::LeaseEmpty,
            ReleaseError::WrapPublic,
            ReleaseError::WrappedForm,
            ReleaseError::WrappedOpen,
            ReleaseError::Random,
        ];
        let codes: std::collections::BTreeSet<_> = all.iter().map(ReleaseError::code).collect();
        assert_eq!(codes.len(), all.len());
        for error in all {
            assert!((1..=9).contains(&error.exit()) && !error.advice().is_empty() && !error.to_string().is_empty());
        }
    }
}
