//! Turns [`Evidence`] with its [`Collateral`] into [`Authentic`], under the relying party's [`Anchors`] and time.
//! It does not say whether the evidence is *wanted*: measurements, floors, machines and REPORT_DATA are the policy's word.

use crate::{
    Collateral, Evidence, Mode, Tee, UnixTime, VerifyError,
    anchors::Anchors,
    snp::{LeafCache, SnpFacts, verify as snp},
    tdx::{TdxFacts, verify as tdx},
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
    verify_with(evidence, collateral, anchors, now, None)
}

/// The same as [`verify`], but spares the signatures of an SEV-SNP leaf and revocation list that `cache` has seen before.
///
/// Every other rule runs on every call: in particular dates are compared and the report's signature is verified.
/// TDX evidence goes through unchanged.
///
/// # Errors
/// The same as those of [`verify`].
pub fn verify_cached(
    evidence: &Evidence,
    collateral: &Collateral,
    anchors: &Anchors,
    now: UnixTime,
    cache: &LeafCache,
) -> Result<Authentic, VerifyError> {
    verify_with(evidence, collateral, anchors, now, Some(cache))
}

fn verify_with(
    evidence: &Evidence,
    collateral: &Collateral,
    anchors: &Anchors,
    now: UnixTime,
    cache: Option<&LeafCache>,
) -> Result<Authentic, VerifyError> {
    match (evidence, collateral) {
        (Evidence::SevSnp { report }, Collateral::SevSnp { leaf, crl, asvk }) => {
            snp::verify_snp(report, snp::Received { leaf, crl, asvk }, anchors, now, cache)
        }
        (Evidence::Tdx { quote }, Collateral::Tdx(collateral)) => tdx::verify_tdx(quote, collateral, anchors, now),
        _ => Err(VerifyError::CollateralKind),
    }
}

/// The verdict that evidence is authentic. Nobody but [`verify`] can make one.
#[must_use = "authentic evidence still has to be appraised against a policy"]
#[derive(Debug)]
pub struct Authentic {
    mode: Mode,
    anchors: [u8; 32],
    at: UnixTime,
    facts: Facts,
    steps: Vec<Step>,
}

/// What the hardware vouches for, per technology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Facts {
    /// SEV-SNP.
    SevSnp(Box<SnpFacts>),
    /// TDX.
    Tdx(Box<TdxFacts>),
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

/// The steps that passed, numbered in the order in which they are recorded.
pub(crate) struct Steps(Vec<Step>);

impl Steps {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(16))
    }

    pub(crate) fn passed(&mut self, name: &'static str, detail: String) {
        let number = u8::try_from(self.0.len() + 1).unwrap_or(u8::MAX);
        self.0.push(Step { number, name, detail });
    }
}

impl Authentic {
    pub(crate) fn new(anchors: &Anchors, at: UnixTime, facts: Facts, steps: Steps) -> Self {
        Self { mode: anchors.mode(), anchors: anchors.id(), at, facts, steps: steps.0 }
    }

    /// Which kind of root it was verified under. `Simulation` proves nothing about hardware.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Which anchors it was verified under: [`Anchors::id`].
    #[must_use]
    pub fn anchors(&self) -> [u8; 32] {
        self.anchors
    }

    /// The relying party's time of the verification.
    #[must_use]
    pub fn at(&self) -> UnixTime {
        self.at
    }

    /// What the hardware vouches for.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Which kind of confidential VM.
    #[must_use]
    pub fn tee(&self) -> Tee {
        match self.facts {
            Facts::SevSnp(_) => Tee::SevSnp,
            Facts::Tdx(_) => Tee::Tdx,
        }
    }

    /// 64 bytes chosen by the guest: REPORT_DATA or REPORTDATA.
    #[must_use]
    pub fn report_data(&self) -> &[u8; 64] {
        self.facts.report_data()
    }

    /// What was measured at launch: MEASUREMENT or MRTD.
    #[must_use]
    pub fn measurement(&self) -> &[u8; 48] {
        match &self.facts {
            Facts::SevSnp(snp) => &snp.report.measurement,
            Facts::Tdx(tdx) => &tdx.body.mr_td,
        }
    }

    /// What was measured later: RTMR0 to RTMR3 of a TD, nothing on SEV-SNP.
    #[must_use]
    pub fn registers(&self) -> &[[u8; 48]] {
        match &self.facts {
            Facts::SevSnp(_) => &[],
            Facts::Tdx(tdx) => &tdx.body.rtmr,
        }
    }

    /// The bound configuration digest: HOST_DATA, or the first 32 bytes of MRCONFIGID.
    #[must_use]
    pub fn config_digest(&self) -> [u8; 32] {
        self.facts.config_digest()
    }

    /// The machine, 64 bytes: the chip identifier, or a TDX platform's PPID (16 bytes) followed by zeros.
    #[must_use]
    pub fn platform(&self) -> [u8; 64] {
        match &self.facts {
            Facts::SevSnp(snp) => snp.chip_id,
            Facts::Tdx(tdx) => {
                let mut platform = [0; 64];
                platform[..16].copy_from_slice(&tdx.ppid);
                platform
            }
        }
    }

    /// Every step that passed.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl Facts {
    /// 64 bytes chosen by the guest.
    #[must_use]
    pub fn report_data(&self) -> &[u8; 64] {
        match self {
            Self::SevSnp(snp) => &snp.report.report_data,
            Self::Tdx(tdx) => &tdx.body.report_data,
        }
    }

    /// The bound configuration digest.
    #[must_use]
    pub fn config_digest(&self) -> [u8; 32] {
        match self {
            Self::SevSnp(snp) => snp.report.host_data,
            Self::Tdx(tdx) => {
                let mut digest = [0; 32];
                digest.copy_from_slice(&tdx.body.mr_config_id[..32]);
                digest
            }
        }
    }
}
