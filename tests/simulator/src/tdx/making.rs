//! Turns one question of a TD into evidence: every piece lies open between being made and being signed.
//! What is not touched is honest; what is touched is the fault lab's word.

use std::sync::Arc;

use vouchsafe_attestation::{EvidenceEnvelope, evidence::TdxCollateral};

use super::{CollateralSpec, Pki, QuoteSpec, TdFields, pki::SgxExtension};
use crate::{SimulatorError, keys::EcKey, root::Root, x509::CertificateSpec};

type Result<T> = core::result::Result<T, SimulatorError>;

/// Evidence in the making.
///
/// The finished collateral is cheap and honest. To make another one, take its description
/// ([`TdxMaking::collateral_spec`]), change it and give it to [`TdxMaking::set_collateral`], or change the finished
/// `collateral` and sign texts with `pki().tcb_signing`. The chain of the quote: [`TdxMaking::set_pck`].
pub struct TdxMaking<'r> {
    /// The simulated vendor.
    pub root: &'r Root,
    /// This moment.
    pub now: u64,
    /// Header, TD, quoting enclave, certification data.
    pub quote: QuoteSpec,
    /// The key that will sign header and body.
    pub attestation: Arc<EcKey>,
    /// The key that will sign the quoting enclave's report.
    pub pck: Arc<EcKey>,
    /// What goes with the quote.
    pub collateral: TdxCollateral,
}

impl<'r> TdxMaking<'r> {
    /// Honest evidence for these fields.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_MAKING` when the system has no randomness.
    pub fn honest(root: &'r Root, body: TdFields, now: u64) -> Result<Self> {
        let pki = root.tdx();
        Ok(Self {
            root,
            now,
            quote: QuoteSpec::honest(pki, body),
            attestation: Arc::clone(&pki.attestation),
            pck: Arc::clone(&pki.pck),
            collateral: root.tdx_collateral(now)?,
        })
    }

    /// Keys and certificates.
    #[must_use]
    pub fn pki(&self) -> &'r Pki {
        self.root.tdx()
    }

    /// The description of the collateral of this moment.
    ///
    /// # Errors
    /// Never.
    pub fn collateral_spec(&self) -> Result<CollateralSpec> {
        CollateralSpec::honest(self.pki(), self.now)
    }

    /// Signs a description with the honest keys and takes it.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn set_collateral(&mut self, spec: &CollateralSpec) -> Result<()> {
        self.collateral = spec.sign(self.pki())?;
        Ok(())
    }

    /// What the platform's PCK certificate says.
    #[must_use]
    pub fn sgx_extension(&self) -> SgxExtension {
        SgxExtension::honest(&self.pki().platform)
    }

    /// The description of the platform's PCK certificate.
    ///
    /// # Errors
    /// Never.
    pub fn pck_spec(&self, sgx: &SgxExtension) -> Result<CertificateSpec> {
        self.pki().pck_spec(sgx, self.now)
    }

    /// Signs a description of a PCK certificate with the honest authority and puts the chain into the quote.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn set_pck(&mut self, spec: &CertificateSpec) -> Result<()> {
        let leaf = spec.sign(&self.pki().pck_ca)?;
        let chain = crate::der::certificate_pem(&leaf)? + &self.pki().pck_ca_chain;
        self.quote.cert_data = QuoteSpec::cert_data(&chain);
        Ok(())
    }

    /// Makes everything under another simulated vendor, who is not the root's: a self-made chain.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn use_pki(&mut self, pki: &Pki) -> Result<()> {
        self.quote.cert_data = QuoteSpec::cert_data(&pki.pck_chain);
        self.attestation = Arc::clone(&pki.attestation);
        self.pck = Arc::clone(&pki.pck);
        self.collateral = CollateralSpec::honest(pki, self.now)?.sign(pki)?;
        Ok(())
    }

    /// Signs the quote and puts everything into its envelope.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn finish(self) -> Result<EvidenceEnvelope> {
        let quote = self.quote.sign(&self.attestation, &self.pck)?;
        Ok(EvidenceEnvelope::tdx(quote, self.collateral))
    }
}
