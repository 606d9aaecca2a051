//! Turns every way in which the vendor's own commands can fail into a stable code, an exit status and advice.
//! It is not what a peer sees: a refused peer gets a ticket, and the reason stands in the ledger.

use core::fmt;
use std::io::ErrorKind;

use vouchsafe_policies::PolicyError;
use vouchsafe_release::ReleaseError;
use vouchsafe_sealed::SealedError;

/// Why a broker command failed.
#[derive(Debug)]
pub enum BrokerError {
    /// The state directory exists already and is not empty.
    StateExists,
    /// There is no broker in this directory.
    StateMissing,
    /// broker.toml is not what this release reads (the setting).
    Config(&'static str),
    /// A file could not be read or written (our name for it, the kind of failure).
    File(&'static str, ErrorKind),
    /// A key file can be read by others than its owner (our name for it).
    KeyFileMode(&'static str),
    /// A key file does not hold a key (our name for it).
    KeyFile(&'static str),
    /// A stored model key does not open or is not the one that the ledger names.
    ModelKey,
    /// Another process holds the state directory.
    Locked,
    /// The ledger's chain does not hold (the line, counted from 1).
    LedgerBroken(u64),
    /// The ledger and its head file disagree (how).
    LedgerHead(&'static str),
    /// A ledger line could not be made durable.
    LedgerUnwritable,
    /// The listening address is in use or not ours.
    Listen(ErrorKind),
    /// TLS could not be set up from tls.key and tls.crt.
    Tls,
    /// The operating system gave no random bytes.
    Random,
    /// The running broker did not answer on its socket.
    AdminUnreachable,
    /// The running broker refused; its code is one that this command does not know.
    AdminRefused,
    /// An argument is not of the expected form (which).
    Argument(&'static str),
    /// No such model or sequence was imported.
    ModelUnknown,
    /// No such lease stands in the ledger.
    LeaseUnknown,
    /// A floor only rises.
    FloorLowered,
    /// broker.toml names no manifest keys, so no package can be verified.
    ManifestKeysMissing,
    /// Wrapped key and package disagree (the field).
    ImportMismatch(&'static str),
    /// Another key is stored for this model and sequence.
    ImportConflict,
    /// The sequence lies below the model's floor.
    BelowFloor,
    /// The wrapped key or its contents.
    Release(ReleaseError),
    /// The package.
    Sealed(SealedError),
    /// The policy.
    Policy(PolicyError),
}

impl BrokerError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::StateExists => "STATE_EXISTS",
            Self::StateMissing => "STATE_MISSING",
            Self::Config(_) => "BROKER_CONFIG",
            Self::File(..) => "FILE_IO",
            Self::KeyFileMode(_) => "KEY_FILE_MODE",
            Self::KeyFile(_) => "KEY_FILE",
            Self::ModelKey => "MODEL_KEY_CORRUPT",
            Self::Locked => "STATE_LOCKED",
            Self::LedgerBroken(_) | Self::LedgerHead(_) => "LEDGER_BROKEN",
            Self::LedgerUnwritable => "LEDGER_UNWRITABLE",
            Self::Listen(ErrorKind::AddrInUse) => "PORT_IN_USE",
            Self::Listen(_) => "LISTEN_FAILED",
            Self::Tls => "TLS_SETUP",
            Self::Random => "RANDOM_UNAVAILABLE",
            Self::AdminUnreachable => "ADMIN_UNREACHABLE",
            Self::AdminRefused => "ADMIN_REFUSED",
            Self::Argument(_) => "ARGUMENT",
            Self::ModelUnknown => "MODEL_UNKNOWN",
            Self::LeaseUnknown => "LEASE_UNKNOWN",
            Self::FloorLowered => "FLOOR_LOWERED",
            Self::ManifestKeysMissing => "MANIFEST_KEYS_MISSING",
            Self::ImportMismatch(_) => "IMPORT_MISMATCH",
            Self::ImportConflict => "IMPORT_CONFLICT",
            Self::BelowFloor => "SEQUENCE_BELOW_FLOOR",
            Self::Release(e) => e.code(),
            Self::Sealed(e) => e.code(),
            Self::Policy(e) => e.code(),
        }
    }

    /// The exit status.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Argument(_)
            | Self::ModelUnknown
            | Self::LeaseUnknown
            | Self::FloorLowered
            | Self::ManifestKeysMissing => 1,
            Self::BelowFloor => 5,
            Self::ImportMismatch(_) | Self::ImportConflict => 6,
            Self::AdminUnreachable | Self::AdminRefused => 8,
            Self::Listen(_)
            | Self::StateExists
            | Self::StateMissing
            | Self::File(..)
            | Self::KeyFileMode(_)
            | Self::KeyFile(_)
            | Self::ModelKey
            | Self::Locked
            | Self::LedgerBroken(_)
            | Self::LedgerHead(_)
            | Self::LedgerUnwritable
            | Self::Tls
            | Self::Random => 9,
            // The vendor's own setting, not a grant's.
            Self::Release(ReleaseError::LeaseEmpty) => 1,
            Self::Release(e) => e.exit(),
            Self::Sealed(e) => e.exit(),
            Self::Policy(e) => e.exit(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::StateExists => "Name a directory that does not exist yet, or use the broker that is there.",
            Self::StateMissing => "Make a broker first: `vouchsafe broker init DIR`.",
            Self::Config(_) => "Correct the setting in broker.toml; docs/key-release.md lists them all.",
            Self::File(..) => "Look at the directory's owner, its mode and the free space.",
            Self::KeyFileMode(_) => "Take the file away from group and others: chmod 600.",
            Self::KeyFile(_) => "Restore the key file from your backup; a broker never makes a second one.",
            Self::ModelKey => {
                "Restore models/ and kek from the same backup, or import the wrapped key into a new broker."
            }
            Self::Locked => "Stop the other process, or talk to it: the broker's commands use its socket.",
            Self::LedgerBroken(_) | Self::LedgerHead(_) => {
                "Somebody changed the ledger. Keep the file, restore the last backup, and compare the heads that enclaves echo."
            }
            Self::LedgerUnwritable => "Free disk space; the broker grants nothing until a line can be made durable.",
            Self::Listen(_) => "Choose another address in broker.toml, or stop what listens there.",
            Self::Tls => "Restore tls.key and tls.crt from your backup; enclaves pin this key.",
            Self::Random => "The operating system's random source failed; nothing can be done safely until it works.",
            Self::AdminUnreachable => {
                "The broker holds its directory but does not answer: look at its log, or stop it."
            }
            Self::AdminRefused => "Bring the command and the running broker to the same release.",
            Self::Argument(_) => "Give lower-case hex of the length that `broker leases` prints.",
            Self::ModelUnknown => "`vouchsafe broker leases` and the ledger's `imported` lines list what there is.",
            Self::LeaseUnknown => "`vouchsafe broker leases` lists the current ones.",
            Self::FloorLowered => "A floor only rises. Import the version again under a higher sequence.",
            Self::ManifestKeysMissing => "Put the vendor's manifest key into `manifest_keys` in broker.toml.",
            Self::ImportMismatch(_) => "Give the wrapped key that this very package's `seal --to` wrote.",
            Self::ImportConflict => "Seal the new version under a higher sequence.",
            Self::BelowFloor => "The floor was raised past this version; seal again under a higher sequence.",
            Self::Release(e) => e.advice(),
            Self::Sealed(e) => e.advice(),
            Self::Policy(e) => e.advice(),
        }
    }

    /// What another process of this broker said, from its stable code.
    pub(crate) fn from_code(code: &str) -> Self {
        match code {
            "LEDGER_UNWRITABLE" => Self::LedgerUnwritable,
            "MODEL_UNKNOWN" => Self::ModelUnknown,
            "LEASE_UNKNOWN" => Self::LeaseUnknown,
            "FLOOR_LOWERED" => Self::FloorLowered,
            "MANIFEST_KEYS_MISSING" => Self::ManifestKeysMissing,
            "IMPORT_CONFLICT" => Self::ImportConflict,
            "SEQUENCE_BELOW_FLOOR" => Self::BelowFloor,
            "MODEL_KEY_CORRUPT" => Self::ModelKey,
            _ => Self::AdminRefused,
        }
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StateExists => f.write_str("the state directory exists and is not empty"),
            Self::StateMissing => f.write_str("there is no broker in this directory"),
            Self::Config(what) => write!(f, "broker.toml: {what}"),
            Self::File(what, kind) => write!(f, "{what}: {kind}"),
            Self::KeyFileMode(what) => write!(f, "{what} can be read or written by others than its owner"),
            Self::KeyFile(what) => write!(f, "{what} does not hold a key"),
            Self::ModelKey => f.write_str("a stored model key is not the one that the ledger names, or does not open"),
            Self::Locked => f.write_str("another process holds the state directory"),
            Self::LedgerBroken(line) => write!(f, "the ledger's chain breaks at line {line}"),
            Self::LedgerHead(what) => write!(f, "the ledger is not the one that was written last: {what}"),
            Self::LedgerUnwritable => f.write_str("a ledger line could not be made durable"),
            Self::Listen(kind) => write!(f, "the listening address cannot be used: {kind}"),
            Self::Tls => f.write_str("tls.key and tls.crt do not make a TLS server"),
            Self::Random => f.write_str("the operating system gave no random bytes"),
            Self::AdminUnreachable => f.write_str("the running broker does not answer on its socket"),
            Self::AdminRefused => f.write_str("the running broker refused the command"),
            Self::Argument(what) => write!(f, "{what} is not of the expected form"),
            Self::ModelUnknown => f.write_str("no such model or sequence was imported"),
            Self::LeaseUnknown => f.write_str("no such lease stands in the ledger"),
            Self::FloorLowered => f.write_str("the floor is higher already"),
            Self::ManifestKeysMissing => f.write_str("broker.toml names no manifest keys"),
            Self::ImportMismatch(what) => write!(f, "wrapped key and package disagree on the {what}"),
            Self::ImportConflict => f.write_str("another key is stored for this model and sequence"),
            Self::BelowFloor => f.write_str("the sequence lies below the model's floor"),
            Self::Release(e) => e.fmt(f),
            Self::Sealed(e) => e.fmt(f),
            Self::Policy(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for BrokerError {}

impl From<ReleaseError> for BrokerError {
    fn from(e: ReleaseError) -> Self {
        Self::Release(e)
    }
}

impl From<SealedError> for BrokerError {
    fn from(e: SealedError) -> Self {
        Self::Sealed(e)
    }
}

impl From<PolicyError> for BrokerError {
    fn from(e: PolicyError) -> Self {
        Self::Policy(e)
    }
}
