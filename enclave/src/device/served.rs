//! Turns a collateral file that the host hands over into the collateral of every evidence that leaves: the operator keeps it young.
//! It verifies nothing in that file: whoever gets the evidence judges each item, under its own roots and policy.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError, RwLock};

use vouchsafe_attestation::collateral::{self, MAX_BUNDLE};
use vouchsafe_attestation::{Collateral, EncodingError, EvidenceEnvelope, SnpEnvelope, Tee};

use super::{EvidenceDevice, OwnLaunch};
use crate::channel::Handed;
use crate::error::EnclaveError;

/// Whose collateral accompanies the evidence.
enum Source {
    /// What the device answers with its evidence.
    Device,
    /// A file of the host's.
    File(Box<Collateral>),
}

/// An evidence device whose collateral the host may replace. What the processor signed stays as it is.
pub struct Served {
    device: Arc<dyn EvidenceDevice>,
    tee: Tee,
    source: RwLock<Source>,
}

impl Served {
    /// The device with its own collateral.
    #[must_use]
    pub fn new(device: Arc<dyn EvidenceDevice>, tee: Tee) -> Self {
        Self { device, tee, source: RwLock::new(Source::Device) }
    }

    /// Serves what the file holds from now on. A file that is refused changes nothing. Blocks.
    ///
    /// # Errors
    /// `COLLATERAL_FILE`.
    pub fn replace(&self, file: Handed) -> Result<(), EnclaveError> {
        let bytes = file.read(MAX_BUNDLE).map_err(|_| EnclaveError::Collateral("it cannot be read"))?;
        let collateral = collateral::parse(&bytes).map_err(|error| {
            EnclaveError::Collateral(match error {
                EncodingError::TooLarge(..) => "it is larger than 1 MiB",
                EncodingError::Version(_) => "it is of a version that this release does not know",
                _ => "it does not have the form of a collateral file",
            })
        })?;
        if collateral::tee(&collateral) != self.tee {
            return Err(EnclaveError::Collateral("it is for the other technology"));
        }
        *self.source.write().unwrap_or_else(PoisonError::into_inner) = Source::File(Box::new(collateral));
        Ok(())
    }
}

impl EvidenceDevice for Served {
    fn quote(&self, report_data: [u8; 64]) -> Result<EvidenceEnvelope, EnclaveError> {
        let evidence = self.device.quote(report_data)?;
        let source = self.source.read().unwrap_or_else(PoisonError::into_inner);
        let collateral = match &*source {
            Source::Device => return Ok(evidence),
            Source::File(collateral) => collateral.as_ref().clone(),
        };
        match (evidence, collateral) {
            // A file without a leaf adds its list to the leaf that the device has.
            (EvidenceEnvelope::SevSnp(snp), Collateral::SevSnp { leaf, crl, .. }) if leaf.is_empty() => {
                Ok(EvidenceEnvelope::SevSnp(SnpEnvelope { crl, ..snp }))
            }
            (EvidenceEnvelope::SevSnp(snp), Collateral::SevSnp { leaf, crl, asvk }) => {
                Ok(EvidenceEnvelope::SevSnp(SnpEnvelope { report: snp.report, leaf, crl, asvk }))
            }
            (EvidenceEnvelope::Tdx(tdx), Collateral::Tdx(collateral)) => {
                Ok(EvidenceEnvelope::tdx(tdx.quote, collateral))
            }
            _ => Err(EnclaveError::Device("its evidence is of another technology")),
        }
    }

    fn own_launch(&self, challenge: [u8; 64]) -> Result<OwnLaunch, EnclaveError> {
        self.device.own_launch(challenge)
    }

    fn workplace(&self) -> Option<BorrowedFd<'_>> {
        self.device.workplace()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::UnsignedDevice;
    use std::fs::File;
    use std::io::{Seek as _, Write as _};
    use std::os::fd::OwnedFd;
    use std::sync::atomic::AtomicUsize;

    fn file(bytes: &[u8]) -> Handed {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        OwnedFd::from(file).into()
    }

    fn snp(n: u8) -> Collateral {
        Collateral::SevSnp { leaf: vec![n], crl: vec![n + 1], asvk: vec![n + 2] }
    }

    #[test]
    fn the_file_replaces_the_collateral_and_nothing_else() {
        let served = Served::new(Arc::new(UnsignedDevice { quotes: AtomicUsize::new(0) }), Tee::SevSnp);
        let parts = || served.quote([8; 64]).unwrap().into_parts().unwrap();
        let (evidence, own) = parts();
        assert_eq!(own, Collateral::SevSnp { leaf: vec![1], crl: vec![2], asvk: vec![] }, "the device's own");
        for n in [5, 9] {
            assert_eq!(served.replace(file(&collateral::to_bytes(&snp(n)))), Ok(()));
            assert_eq!(parts(), (evidence.clone(), snp(n)));
        }
        // A list alone, beside the leaf that the device has.
        let list = Collateral::SevSnp { leaf: vec![], crl: vec![6], asvk: vec![7] };
        assert_eq!(served.replace(file(&collateral::to_bytes(&list))), Ok(()));
        assert_eq!(parts(), (evidence.clone(), Collateral::SevSnp { leaf: vec![1], crl: vec![6], asvk: vec![] }));
        assert_eq!(served.replace(file(&collateral::to_bytes(&snp(9)))), Ok(()));
        let tdx = br#"{"pck_crl_issuer_chain":"a","root_ca_crl":"01","pck_crl":"02","tcb_info_issuer_chain":"b","tcb_info":"{}",
            "tcb_info_signature":"03","qe_identity_issuer_chain":"c","qe_identity":"{}","qe_identity_signature":"04"}"#;
        assert!(collateral::parse(tdx).is_ok(), "control");
        for (bytes, what) in [
            (&tdx[..], "it is for the other technology"),
            (b"", "it does not have the form of a collateral file"),
            (br#"{"v":2,"tee":"sev-snp"}"#, "it is of a version that this release does not know"),
            (&vec![b' '; MAX_BUNDLE + 1], "it is larger than 1 MiB"),
        ] {
            assert_eq!(served.replace(file(bytes)), Err(EnclaveError::Collateral(what)));
            assert_eq!(parts(), (evidence.clone(), snp(9)), "what was served before stays: {what}");
        }
        let in_a_frame = Handed::Bytes(collateral::to_bytes(&snp(3)));
        assert_eq!(served.replace(in_a_frame), Ok(()));
        assert_eq!(parts(), (evidence.clone(), snp(3)));
        let directory = OwnedFd::from(File::open("/").unwrap());
        assert_eq!(served.replace(directory.into()), Err(EnclaveError::Collateral("it cannot be read")));
        assert_eq!(EnclaveError::Collateral("x").exit(), 3);
        assert_eq!(served.own_launch([8; 64]).unwrap().config_digest, [7; 32]);
    }
}
