//! Turns every way the enclave can refuse or fail into fact, stable code, exit status, HTTP status and advice.
//! It establishes nothing; no message holds a string that came from outside the enclave.

use std::fmt;

use vouchsafe_oip::OipError;
use vouchsafe_policies::usage::{UsageError, UsageRefusal};
use vouchsafe_preflight::Refused;
use vouchsafe_release::ReleaseError;
use vouchsafe_runner::RunnerError;
use vouchsafe_sealed::SealedError;

use crate::init::InitError;

/// What another crate of this project refused, kept with its own code, exit status and advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Its stable code.
    pub code: &'static str,
    /// Its exit status.
    pub exit: u8,
    /// Its advice.
    pub advice: &'static str,
    /// Its fact, in plain words.
    pub fact: String,
}

/// Why the enclave cannot start, renew, reload or answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnclaveError {
    // ---- start ----
    /// A command-line word is missing, repeated or unknown.
    Usage(&'static str),
    /// The environment has variables.
    EnvironmentNotEmpty,
    /// The first process of a virtual machine could not make it ready.
    Init(InitError),
    /// The process could not give up an authority (which one).
    Authority(&'static str),
    /// Something that a container needs is not mounted (what).
    SupplyMissing(&'static str),
    /// The host channel broke its protocol.
    Channel(&'static str),
    /// There is no evidence device of the kind the command line names.
    NoTee(&'static str),
    /// The evidence device failed or answered nonsense.
    Device(&'static str),
    /// The configuration is not the one bound in this machine's own report.
    ConfigDigestMismatch,
    /// The collateral file of the host is not served (why).
    Collateral(&'static str),
    /// Program or library are not the measured ones, or can still change (which).
    MeasurementMismatch(&'static str),
    /// The configuration breaks a rule (which).
    ConfigInvalid(&'static str),
    /// The configuration asks for something this version does not do (what).
    ConfigUnsupported(&'static str),
    /// The ONNX Runtime library is not the supported version.
    OrtVersion,
    /// The ONNX Runtime library cannot be loaded.
    OrtLoad,
    /// Random numbers, keys or certificates could not be made.
    Identity(&'static str),
    /// A file or thread of the machine failed (which).
    System(&'static str),

    // ---- key release and models ----
    /// Another crate refused.
    Foreign(Foreign),
    /// No broker could be reached, or it did not finish the conversation.
    BrokerUnreachable,
    /// A broker shows another TLS key than the configuration pins.
    BrokerPin,
    /// A broker answered outside the protocol (where).
    BrokerProtocol(&'static str),
    /// A broker refused the key; the ticket is its ledger's name for the reason.
    KeyRefused {
        /// 32 hex digits, or empty when the broker named none.
        ticket: String,
    },
    /// The granted key is for another package (which field).
    GrantMismatch(&'static str),
    /// The package is another model than its folder says.
    ModelIdMismatch,
    /// The package or bundle is for the other mode.
    ModeMismatch,
    /// The package is older than what is demanded or already served.
    SequenceRollback,
    /// Another package under a sequence number that was already served.
    SequenceReused,
    /// The usage policy does not fit the model (what).
    UsagePolicyModel(&'static str),
    /// ONNX Runtime refuses the model, or the model uses what the enclave cannot serve (what).
    ModelUnsupported(&'static str),

    // ---- requests ----
    /// The connection has not fetched evidence.
    AttestFirst,
    /// What is served changed since the connection fetched evidence.
    Reattest,
    /// The verifier accepts no technology that this machine has.
    AttestAccept,
    /// No such route.
    RouteUnknown,
    /// The route does not know this method.
    MethodUnsupported,
    /// Not the JSON asked for.
    JsonInvalid,
    /// A header of the request is wrong (which), or its lines could be framed in two ways.
    HeaderInvalid(&'static str),
    /// The lines before the body are too long or too many.
    HeadTooLarge,
    /// The body of a challenge has a content encoding.
    ContentEncoding,
    /// The caller's signature, or the form of a credential, is wrong (what).
    CallerSignature(&'static str),
    /// The counter of a signed request does not rise: it may be a copy.
    CallerReplayed,
    /// No such model or version.
    ModelUnknown,
    /// The body is larger than the limit in bytes.
    BodyTooLarge(u64),
    /// The body ended early or could not be read.
    BodyIncomplete,
    /// The request took longer than allowed.
    RequestTimeout,
    /// The body is not a request of the Open Inference Protocol for this model, or the answer cannot be written as asked.
    Oip(OipError),
    /// The receipt salt is not 32 bytes of base64url.
    ReceiptSalt,
    /// The vendor's usage policy forbids the request.
    Forbidden(UsageRefusal),
    /// The lease of the model lapsed.
    LeaseLapsed,
    /// The process that runs the model refused, failed or ended.
    Runner(RunnerError),
}

const CALLER: &str = "correct the request";
const REINSTALL: &str = "install the enclave, library and launcher of one release together";
const HOST: &str = "start the enclave with vouchsafe launch";

/// code, exit status, HTTP status, advice
type Row = (&'static str, u8, u16, &'static str);

impl EnclaveError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.row().0
    }

    /// The exit status of the process when this ends it.
    #[must_use]
    pub fn exit(&self) -> u8 {
        self.row().1
    }

    /// The HTTP status when this answers a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.row().2
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        self.row().3
    }

    /// The broker's name for its refusal, empty for every other error.
    #[must_use]
    pub fn ticket(&self) -> &str {
        match self {
            Self::KeyRefused { ticket } => ticket,
            _ => "",
        }
    }

    pub(crate) fn foreign(code: &'static str, exit: u8, advice: &'static str, fact: &dyn fmt::Display) -> Self {
        Self::Foreign(Foreign { code, exit, advice, fact: fact.to_string() })
    }

    fn row(&self) -> Row {
        match self {
            Self::Usage(_) => ("USAGE", 1, 500, HOST),
            Self::EnvironmentNotEmpty => ("ENVIRONMENT_NOT_EMPTY", 1, 500, HOST),
            Self::Init(error) => (error.code(), 9, 500, error.advice()),
            Self::Authority(_) => (
                "AUTHORITY",
                9,
                500,
                "use a kernel that lets a process give up its authority (Linux 6.12 or newer), or bind landlock = \"best-effort\"",
            ),
            Self::SupplyMissing(_) => (
                "SUPPLY_MISSING",
                9,
                500,
                "mount init-data, collateral and models where deploy/kubernetes/README.md says",
            ),
            Self::Channel(_) => ("HOST_CHANNEL", 8, 500, REINSTALL),
            Self::NoTee(_) => {
                ("NO_TEE", 7, 500, "start on a machine with that technology; nothing falls back to simulation")
            }
            Self::Device(_) => ("EVIDENCE_DEVICE", 7, 503, "look at the machine's attestation device, then restart"),
            Self::ConfigDigestMismatch => (
                "CONFIG_DIGEST_MISMATCH",
                2,
                500,
                "launch with the very configuration file that is bound in HOST_DATA or MRCONFIGID",
            ),
            Self::Collateral(_) => (
                "COLLATERAL_FILE",
                3,
                500,
                "make the file with vouchsafe collateral fetch or pack, for the technology that is launched",
            ),
            Self::MeasurementMismatch(_) => ("MEASUREMENT_MISMATCH", 2, 500, REINSTALL),
            Self::ConfigInvalid(_) => ("CONFIG_INVALID", 1, 500, "correct the configuration file and launch again"),
            Self::ConfigUnsupported(_) => {
                ("CONFIG_UNSUPPORTED", 1, 500, "remove the setting, or use a version that supports it")
            }
            Self::OrtVersion => ("ORT_VERSION", 9, 500, "use the ONNX Runtime library that this release names"),
            Self::OrtLoad => ("ORT_LOAD", 9, 500, "use the ONNX Runtime library that this release names"),
            Self::Identity(_) => ("IDENTITY", 9, 500, "restart; if it stays, report it"),
            Self::System(_) => ("SYSTEM", 9, 500, "look at the machine's memory, files and limits, then restart"),
            Self::Foreign(foreign) => (foreign.code, foreign.exit, 500, foreign.advice),
            Self::BrokerUnreachable => ("BROKER_UNREACHABLE", 8, 503, "start the broker; the enclave keeps trying"),
            Self::BrokerPin => {
                ("BROKER_PIN_MISMATCH", 2, 503, "compare the broker's TLS key with spki_sha256 in the configuration")
            }
            Self::BrokerProtocol(_) => {
                ("BROKER_PROTOCOL", 8, 503, "use a broker that speaks the same protocol version")
            }
            Self::KeyRefused { .. } => ("KEY_REFUSED", 5, 503, "ask the vendor for the ledger's entry of this ticket"),
            Self::GrantMismatch(_) => {
                ("GRANT_MISMATCH", 2, 503, "import the very package that is served into the broker")
            }
            Self::ModelIdMismatch => ("MODEL_ID_MISMATCH", 6, 503, "name the package folder after its model id"),
            Self::ModeMismatch => ("MODE_MISMATCH", 4, 503, "use a package sealed for this mode"),
            Self::SequenceRollback => ("SEQUENCE_ROLLBACK", 4, 503, "put the newest package in place"),
            Self::SequenceReused => ("SEQUENCE_REUSED", 4, 503, "seal the new version under a higher sequence"),
            Self::UsagePolicyModel(_) => {
                ("USAGE_POLICY_MODEL", 4, 503, "seal with a usage policy written for this model")
            }
            Self::ModelUnsupported(_) => {
                ("MODEL_UNSUPPORTED", 6, 503, "export the model with the supported operators and tensor types")
            }
            Self::AttestFirst => ("ATTEST_FIRST", 8, 403, "POST /v1/attest on this connection and verify the answer"),
            Self::Reattest => ("REATTEST", 8, 409, "POST /v1/attest again on this connection and appraise the answer"),
            Self::AttestAccept => ("ATTEST_ACCEPT", 8, 400, "accept the technology of this machine"),
            Self::RouteUnknown => ("ROUTE_UNKNOWN", 8, 404, CALLER),
            Self::MethodUnsupported => ("METHOD_UNSUPPORTED", 8, 405, CALLER),
            Self::JsonInvalid => ("JSON_INVALID", 8, 400, CALLER),
            Self::HeaderInvalid(_) => ("HEADER_INVALID", 8, 400, CALLER),
            Self::HeadTooLarge => ("HEAD_TOO_LARGE", 8, 431, "send at most 100 headers and 32 KiB of them"),
            Self::CallerSignature(_) => (
                "CALLER_SIGNATURE",
                8,
                401,
                "sign this very request on this very connection; docs/protocol.md says over what",
            ),
            Self::CallerReplayed => ("CALLER_REPLAYED", 8, 401, "count up with every request that is signed"),
            Self::ContentEncoding => ("CONTENT_ENCODING", 8, 415, "send the body without compression"),
            Self::ModelUnknown => ("MODEL_UNKNOWN", 8, 404, "ask for a model named in the claims"),
            Self::BodyTooLarge(_) => ("BODY_TOO_LARGE", 8, 413, "send smaller batches"),
            Self::BodyIncomplete => ("BODY_INCOMPLETE", 8, 400, CALLER),
            Self::RequestTimeout => ("REQUEST_TIMEOUT", 8, 408, "send faster or smaller requests"),
            Self::Oip(error) => (error.code(), error.exit(), error.status(), error.advice()),
            Self::ReceiptSalt => ("RECEIPT_SALT", 8, 400, CALLER),
            Self::Forbidden(refusal) => (refusal.code(), refusal.exit(), refusal.status(), refusal.advice()),
            Self::LeaseLapsed => ("LEASE_LAPSED", 8, 503, "wait for the vendor's broker to renew the lease"),
            Self::Runner(error) => (error.code(), error.exit(), error.status(), error.advice()),
        }
    }
}

impl EnclaveError {
    /// Whether asking again later may help: nobody decided against the enclave.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::BrokerUnreachable => true,
            Self::Foreign(foreign) => matches!(foreign.code, "BROKER_STATUS" | "RANDOM_UNAVAILABLE"),
            _ => false,
        }
    }

    /// After how many seconds the same request may succeed, where that can be said.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Forbidden(refusal) => refusal.retry_after_s(),
            // The broker must answer first.
            Self::LeaseLapsed => Some(5),
            Self::Runner(error) if error.status() == 503 => Some(1),
            _ => None,
        }
    }
}

impl From<ReleaseError> for EnclaveError {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::Refused(ticket) => Self::KeyRefused { ticket: ticket.map(hex::encode).unwrap_or_default() },
            _ => Self::foreign(error.code(), error.exit(), error.advice(), &error),
        }
    }
}

impl From<UsageError> for EnclaveError {
    fn from(error: UsageError) -> Self {
        Self::foreign(error.code(), error.exit(), error.advice(), &error)
    }
}

impl From<InitError> for EnclaveError {
    fn from(error: InitError) -> Self {
        Self::Init(error)
    }
}

impl From<UsageRefusal> for EnclaveError {
    fn from(refusal: UsageRefusal) -> Self {
        Self::Forbidden(refusal)
    }
}

impl From<OipError> for EnclaveError {
    fn from(error: OipError) -> Self {
        Self::Oip(error)
    }
}

impl From<RunnerError> for EnclaveError {
    fn from(error: RunnerError) -> Self {
        Self::Runner(error)
    }
}

impl From<Refused> for EnclaveError {
    /// The place is left out: the host reads this, and a model's structure is the vendor's, who finds it with `vouchsafe model scan`.
    fn from(refused: Refused) -> Self {
        Self::foreign(refused.code(), refused.exit(), refused.advice(), &refused.reason())
    }
}

impl From<SealedError> for EnclaveError {
    fn from(error: SealedError) -> Self {
        Self::foreign(error.code(), error.exit(), error.advice(), &error)
    }
}

impl fmt::Display for EnclaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(f, "the command line is wrong: {what}"),
            Self::SupplyMissing(what) => write!(f, "the container lacks {what}"),
            Self::EnvironmentNotEmpty => f.write_str(
                "the environment has variables; the enclave honours none and starts with none but the kernel's own",
            ),
            Self::Init(error) => error.fmt(f),
            Self::Authority(what) => write!(f, "an authority could not be given up: {what}"),
            Self::Channel(what) => write!(f, "the host channel broke its protocol: {what}"),
            Self::NoTee(what) => write!(f, "there is no evidence device: {what}"),
            Self::Device(what) => write!(f, "the evidence device failed: {what}"),
            Self::ConfigDigestMismatch => {
                f.write_str("the configuration's digest is not the one in this machine's report")
            }
            Self::Collateral(what) => write!(f, "the collateral file is not served: {what}"),
            Self::MeasurementMismatch(what) => {
                write!(f, "the measurement in this machine's report does not fit: {what}")
            }
            Self::ConfigInvalid(rule) => write!(f, "the configuration breaks a rule: {rule}"),
            Self::ConfigUnsupported(what) => {
                write!(f, "the configuration asks for what this version does not do: {what}")
            }
            Self::OrtVersion => write!(f, "the ONNX Runtime library is not version {}", crate::engine::ORT_VERSION),
            Self::OrtLoad => f.write_str("the ONNX Runtime library cannot be loaded"),
            Self::Identity(what) => write!(f, "an identity could not be made: {what}"),
            Self::System(what) => write!(f, "the operating system failed: {what}"),
            Self::Foreign(foreign) => f.write_str(&foreign.fact),
            Self::BrokerUnreachable => f.write_str("no broker finished the conversation"),
            Self::BrokerPin => f.write_str("the broker's TLS key is not one of the pinned keys"),
            Self::BrokerProtocol(at) => write!(f, "the broker answered outside the protocol at {at}"),
            Self::KeyRefused { ticket } if ticket.is_empty() => {
                f.write_str("the broker refused the key and named no ticket")
            }
            Self::KeyRefused { ticket } => write!(f, "the broker refused the key under ticket {ticket}"),
            Self::GrantMismatch(field) => write!(f, "the granted key is for another package: {field}"),
            Self::ModelIdMismatch => f.write_str("the package's model id is not its folder's name"),
            Self::ModeMismatch => f.write_str("the package is sealed for the other mode"),
            Self::SequenceRollback => f.write_str("the package's sequence is below what is demanded"),
            Self::SequenceReused => f.write_str("the package differs from the one served under the same sequence"),
            Self::UsagePolicyModel(what) => write!(f, "the usage policy does not fit the model: {what}"),
            Self::ModelUnsupported(what) => write!(f, "the model cannot be served: {what}"),
            Self::AttestFirst => f.write_str("this connection has not fetched evidence yet"),
            Self::Reattest => f.write_str("what is served changed since this connection fetched evidence"),
            Self::AttestAccept => f.write_str("none of the accepted technologies is this machine's"),
            Self::RouteUnknown => f.write_str("there is no such route"),
            Self::MethodUnsupported => f.write_str("the route does not know this method"),
            Self::JsonInvalid => f.write_str("the body is not the JSON of this request"),
            Self::HeaderInvalid(name) => write!(f, "a header is wrong: {name}"),
            Self::HeadTooLarge => f.write_str("the lines before the body are too long or too many"),
            Self::ContentEncoding => f.write_str("the body has a content encoding"),
            Self::CallerSignature(what) => write!(f, "the caller is not proven: {what}"),
            Self::CallerReplayed => f.write_str("the counter of the signature does not rise on this connection"),
            Self::ModelUnknown => f.write_str("there is no such model or version"),
            Self::BodyTooLarge(limit) => write!(f, "the body is larger than {limit} bytes"),
            Self::BodyIncomplete => f.write_str("the body ended early"),
            Self::RequestTimeout => f.write_str("the request took too long"),
            Self::Oip(error) => error.fmt(f),
            Self::ReceiptSalt => f.write_str("the receipt salt is not 32 bytes of base64url"),
            Self::Forbidden(refusal) => refusal.fmt(f),
            Self::LeaseLapsed => f.write_str("the lease of this model lapsed"),
            Self::Runner(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EnclaveError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_says_when() {
        let runner = EnclaveError::Runner;
        for (error, code, status, after) in [
            (EnclaveError::LeaseLapsed, "LEASE_LAPSED", 503, Some(5)),
            (runner(RunnerError::Busy), "BUSY", 503, Some(1)),
            (runner(RunnerError::RunnerDied), "RUNNER_DIED", 503, Some(1)),
            (runner(RunnerError::RunTimeout), "RUN_TIMEOUT", 504, None),
            (runner(RunnerError::EngineFailed), "ENGINE_FAILED", 500, None),
            (UsageRefusal::QuotaExceeded { retry_after_s: 17 }.into(), "QUOTA_EXCEEDED", 429, Some(17)),
            (UsageRefusal::CallerUnknown.into(), "CALLER_UNKNOWN", 401, None),
            (OipError::InputMissing.into(), "INPUT_MISSING", 400, None),
            (EnclaveError::HeadTooLarge, "HEAD_TOO_LARGE", 431, None),
        ] {
            assert_eq!((error.code(), error.status(), error.retry_after_s()), (code, status, after));
            assert!(!error.advice().is_empty() && !error.to_string().is_empty());
        }
    }
}
