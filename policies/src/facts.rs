//! Turns an [`Authentic`] verdict into the facts that rules look at.
//! It establishes nothing: facts are as good as the verdict they were taken from, so only this crate can make them.

use vouchsafe_attestation::{
    Authentic, Mode, Tee,
    snp::{CrlFacts, LeafKind, Product, Report},
};

/// What verification established, apart from the verdict type so that each rule can be tested with edited facts.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub mode: Mode,
    pub tee: Tee,
    pub product: Product,
    pub leaf_kind: LeafKind,
    pub csp: Option<String>,
    pub crl: CrlFacts,
    pub report: Report,
}

impl Facts {
    pub(crate) fn of(authentic: &Authentic) -> Self {
        Self {
            mode: authentic.mode(),
            tee: authentic.tee(),
            product: authentic.product(),
            leaf_kind: authentic.leaf_kind(),
            csp: authentic.csp().map(str::to_owned),
            crl: authentic.crl(),
            report: authentic.snp().clone(),
        }
    }
}
