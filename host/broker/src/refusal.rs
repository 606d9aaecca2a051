//! Turns every reason to refuse a peer into what the ledger says and what the peer hears.
//! The peer hears a random ticket and nothing else; the ledger line under that ticket carries the stable code.

use vouchsafe_attestation::VerifyError;
use vouchsafe_release::ReleaseError;

use crate::{BrokerError, event::Enclave};

/// Why a request got no answer of substance.
pub(crate) enum Fail {
    /// The peer's fault or the policy's word: a ledger line, 401 and a ticket.
    Refused(Box<Refusal>),
    /// Ours: 503, nothing granted. The code goes to the log.
    Unavailable(&'static str),
}

/// A refusal before it has a ticket.
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) reasons: Vec<String>,
    pub(crate) enclave: Option<Enclave>,
}

/// What goes back over the wire.
pub(crate) enum Reply {
    /// 200.
    Accepted { body: Vec<u8>, cookie: Option<String> },
    /// 401 with the ticket of a durable ledger line.
    Refused(crate::event::Id),
    /// 429: too many refusals; nothing was written.
    Limited,
    /// 503.
    Unavailable,
}

impl Fail {
    pub(crate) fn code(code: &'static str) -> Self {
        Self::Refused(Box::new(Refusal { code, reasons: Vec::new(), enclave: None }))
    }

    pub(crate) fn of(code: &'static str, enclave: Enclave) -> Self {
        Self::Refused(Box::new(Refusal { code, reasons: Vec::new(), enclave: Some(enclave) }))
    }

    /// All reasons of an appraisal, the first of them as the code.
    pub(crate) fn appraisal(refusal: &vouchsafe_policies::Refusal, enclave: Enclave) -> Self {
        let reasons = refusal.reasons.iter().map(|r| r.code.to_string()).collect();
        Self::Refused(Box::new(Refusal { code: refusal.code(), reasons, enclave: Some(enclave) }))
    }
}

impl From<ReleaseError> for Fail {
    fn from(e: ReleaseError) -> Self {
        match e {
            ReleaseError::Random => Self::Unavailable(e.code()),
            other => Self::code(other.code()),
        }
    }
}

impl From<VerifyError> for Fail {
    fn from(e: VerifyError) -> Self {
        Self::code(e.code())
    }
}

impl From<BrokerError> for Fail {
    fn from(e: BrokerError) -> Self {
        Self::Unavailable(e.code())
    }
}
