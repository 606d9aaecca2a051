//! Turns an [`Authentic`] verdict into the facts that rules look at.
//! It establishes nothing: facts are as good as the verdict they were taken from, so only this crate can make them.

use vouchsafe_attestation::{Authentic, Facts as Evidence, Mode, Tee, UnixTime};

/// What verification established, apart from the verdict type so that each rule can be tested with edited facts.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub mode: Mode,
    pub root: Root,
    /// The relying party's time of the verification.
    pub at: UnixTime,
    pub evidence: Evidence,
}

/// Whether the evidence was verified under the anchors that the appraising policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    Named,
    Other,
}

impl Facts {
    /// `anchors` is the identifier of the appraising policy's anchors.
    pub(crate) fn of(authentic: &Authentic, anchors: [u8; 32]) -> Self {
        Self {
            mode: authentic.mode(),
            root: if authentic.anchors() == anchors { Root::Named } else { Root::Other },
            at: authentic.at(),
            evidence: authentic.facts().clone(),
        }
    }

    pub(crate) fn tee(&self) -> Tee {
        match self.evidence {
            Evidence::SevSnp(_) => Tee::SevSnp,
            Evidence::Tdx(_) => Tee::Tdx,
        }
    }
}
