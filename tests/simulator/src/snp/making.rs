//! Turns one question of an SNP guest into evidence: every piece lies open between being made and being signed.
//! What is not touched is honest; what is touched is the fault lab's word.

use p384::ecdsa::SigningKey;
use rsa::pkcs8::EncodePublicKey;
use vouchsafe_attestation::{EvidenceEnvelope, evidence::SnpEnvelope};

use super::{
    ReportFields,
    certificates::{self, Endorsement},
    report::KEY_INFO_VLEK,
};
use crate::{
    SimulatorError,
    root::Root,
    x509::{CertificateSpec, CrlSpec},
};

type Result<T> = core::result::Result<T, SimulatorError>;

/// Evidence in the making.
///
/// The finished certificates are cheap and honest. To make another one, take its description ([`SnpMaking::vcek`],
/// [`SnpMaking::vlek`], [`SnpMaking::crl_spec`]), change it, sign it with an authority of [`SnpMaking::root`]
/// (`ark()`, `ask()`, `asvk()`) or with a fresh [`Key`](crate::keys::Key), and put the DER into `leaf`, `crl` or `asvk`.
pub struct SnpMaking<'r> {
    /// The simulated vendor.
    pub root: &'r Root,
    /// This moment.
    pub now: u64,
    /// What the report will say.
    pub report: ReportFields,
    /// The key that will sign the report.
    pub key: SigningKey,
    /// The leaf, DER.
    pub leaf: Vec<u8>,
    /// The revocation list, DER.
    pub crl: Vec<u8>,
    /// The authority of a VLEK, DER; empty with a VCEK.
    pub asvk: Vec<u8>,
}

impl<'r> SnpMaking<'r> {
    /// Honest evidence for these fields.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_*` when the revocation list cannot be renewed.
    pub fn honest(root: &'r Root, report: ReportFields, now: u64) -> Result<Self> {
        Ok(Self {
            root,
            now,
            report,
            key: root.vcek().clone(),
            leaf: root.leaf().to_vec(),
            crl: root.crl(now)?,
            asvk: Vec::new(),
        })
    }

    /// The description of a VCEK certificate that fits the report and its key as they are now.
    ///
    /// # Errors
    /// Never for a P-384 key.
    pub fn vcek(&self) -> Result<CertificateSpec> {
        Ok(certificates::vcek(self.spki()?, &self.endorsement(), self.now))
    }

    /// The description of a VLEK certificate that fits the report and its key as they are now.
    ///
    /// # Errors
    /// Never for a P-384 key.
    pub fn vlek(&self, csp: &str) -> Result<CertificateSpec> {
        let endorsement = Endorsement { hwid: None, csp: Some(csp.into()), ..self.endorsement() };
        Ok(certificates::vlek(self.spki()?, &endorsement, self.now))
    }

    /// The description of the revocation list of this moment.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_*`.
    pub fn crl_spec(&self) -> Result<CrlSpec> {
        certificates::crl(self.root.ark()?, self.root.crl_number(), self.now)
    }

    /// Makes the leaf again, so that it fits a changed report.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_*`.
    pub fn certify(&mut self) -> Result<()> {
        self.leaf = self.vcek()?.sign(self.root.ask()?)?;
        Ok(())
    }

    /// Turns it into honest evidence of a cloud provider's loaded key: chip masked, as genuine reports have it.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_*`; the first call on a root makes the ASVK, which takes seconds.
    pub fn load_key(&mut self, csp: &str) -> Result<()> {
        self.report.key_info = KEY_INFO_VLEK;
        self.report.chip_id = [0; 64];
        let asvk = self.root.asvk()?;
        self.leaf = self.vlek(csp)?.sign(&asvk.key)?;
        self.asvk.clone_from(&asvk.der);
        Ok(())
    }

    /// What the leaf says: the reported TCB, the chip of the report, the product of its CPUID.
    #[must_use]
    pub fn endorsement(&self) -> Endorsement {
        let product = match (self.report.cpuid, self.report.reported_tcb.fmc) {
            (_, Some(_)) => "Turin",
            ([0x19, 0x00..=0x0f, _], None) if self.report.version >= 3 => "Milan-B0",
            _ => "Genoa",
        };
        let chip = &self.report.chip_id;
        let hwid = if product == "Turin" { chip.get(..8).unwrap_or_default().to_vec() } else { chip.to_vec() };
        Endorsement { product: product.into(), tcb: self.report.reported_tcb, hwid: Some(hwid), csp: None }
    }

    /// The key of the report as certificates carry it.
    ///
    /// # Errors
    /// Never for a P-384 key.
    pub fn spki(&self) -> Result<Vec<u8>> {
        let document = self.key.verifying_key().to_public_key_der();
        document.map(|d| d.into_vec()).map_err(|_| SimulatorError::RootMaking("a public key"))
    }

    /// Signs the report and puts everything into its envelope.
    ///
    /// # Errors
    /// Never for a P-384 key.
    pub fn finish(self) -> Result<EvidenceEnvelope> {
        let report =
            self.report.sign(&self.key).map_err(|_| SimulatorError::RootMaking("a report's signature"))?.to_vec();
        Ok(EvidenceEnvelope::SevSnp(SnpEnvelope { report, leaf: self.leaf, crl: self.crl, asvk: self.asvk }))
    }
}
