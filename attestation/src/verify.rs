//! Turns [`Evidence`] with its [`Collateral`] into [`Authentic`], under the relying party's [`Anchors`] and time.
//! It does not say whether the evidence is *wanted*: measurements, floors, machines and REPORT_DATA are the policy's word.

use crate::{
    Collateral, Evidence, Mode, Tee, UnixTime, VerifyError,
    anchors::Anchors,
    snp::{CrlFacts, LeafKind, Product, Report, verify as snp},
};

/// Verifies that a genuine (or, under a simulated root, a simulated) processor made this evidence.
///
/// The evidence and the collateral may come from anybody; the anchors and the time come from the relying party.
///
/// # Errors
/// The first rule that refuses, in the order of the numbered steps.
pub fn verify(
    evidence: &Evidence,
    collateral: &Collateral,
    anchors: &Anchors,
    now: UnixTime,
) -> Result<Authentic, VerifyError> {
    match (evidence, collateral) {
        (Evidence::SevSnp { report }, Collateral::SevSnp { leaf, crl }) => {
            snp::verify_snp(report, leaf, crl, anchors, now)
        }
    }
}

/// The verdict that evidence is authentic. Nobody but [`verify`] can make one.
#[must_use = "authentic evidence still has to be appraised against a policy"]
#[derive(Debug)]
pub struct Authentic {
    mode: Mode,
    product: Product,
    leaf_kind: LeafKind,
    csp: Option<String>,
    crl: CrlFacts,
    report: Report,
    chip_id: [u8; 64],
    steps: Vec<Step>,
}

/// One numbered step that passed, for the customer's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Number, from 1, in the order of verification.
    pub number: u8,
    /// Short name.
    pub name: &'static str,
    /// What was found, in words and numbers of our own.
    pub detail: String,
}

impl Authentic {
    #[expect(clippy::too_many_arguments, reason = "one field each, one caller")]
    pub(crate) fn new(
        mode: Mode,
        product: Product,
        leaf_kind: LeafKind,
        csp: Option<String>,
        crl: CrlFacts,
        report: Report,
        chip_id: [u8; 64],
        steps: Vec<Step>,
    ) -> Self {
        Self { mode, product, leaf_kind, csp, crl, report, chip_id, steps }
    }

    /// Which kind of root it was verified under. `Simulation` proves nothing about hardware.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Which kind of confidential VM.
    #[must_use]
    pub fn tee(&self) -> Tee {
        Tee::SevSnp
    }

    /// 64 bytes chosen by the guest.
    #[must_use]
    pub fn report_data(&self) -> &[u8; 64] {
        &self.report.report_data
    }

    /// The launch digest.
    #[must_use]
    pub fn measurement(&self) -> &[u8; 48] {
        &self.report.measurement
    }

    /// The bound configuration digest.
    #[must_use]
    pub fn host_data(&self) -> &[u8; 32] {
        &self.report.host_data
    }

    /// All fields of the report.
    #[must_use]
    pub fn snp(&self) -> &Report {
        &self.report
    }

    /// The chip: the one that a VCEK was issued for, also where the host masks it in the report; with a VLEK, the report's.
    #[must_use]
    pub fn chip_id(&self) -> &[u8; 64] {
        &self.chip_id
    }

    /// The processor's product line.
    #[must_use]
    pub fn product(&self) -> Product {
        self.product
    }

    /// Which kind of key signed the report.
    #[must_use]
    pub fn leaf_kind(&self) -> LeafKind {
        self.leaf_kind
    }

    /// The cloud provider named in a VLEK; a VCEK names none.
    #[must_use]
    pub fn csp(&self) -> Option<&str> {
        self.csp.as_deref()
    }

    /// Number and window of the revocation list that was used.
    #[must_use]
    pub fn crl(&self) -> CrlFacts {
        self.crl
    }

    /// Every step that passed.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}
