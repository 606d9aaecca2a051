//! Turns 64 bytes of REPORT_DATA into evidence, through the device that the two measured words name.
//! It does not verify the evidence: verifiers outside do. What it reads for itself is how this very guest was launched.

mod hardware;
mod served;
mod simulated;
mod snp;
mod tdx;

use std::os::fd::BorrowedFd;

use vouchsafe_attestation::{EvidenceEnvelope, Mode, Tee};

use crate::error::EnclaveError;

pub use served::Served;
pub use simulated::{Line, PATIENCE, SimulatedDevice, socket_line};

/// The two measured words of the command line. The evidence device is a function of these and of nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// `vouchsafe.tee`.
    pub tee: Tee,
    /// `vouchsafe.mode`.
    pub mode: Mode,
}

/// A source of evidence about this machine.
pub trait EvidenceDevice: Send + Sync {
    /// Fresh evidence that carries `report_data`. Blocks.
    ///
    /// # Errors
    /// `EVIDENCE_DEVICE`.
    fn quote(&self, report_data: [u8; 64]) -> Result<EvidenceEnvelope, EnclaveError>;

    /// How this guest was launched, from a report that answers `challenge` and that the processor gives to the guest itself:
    /// on SEV-SNP the one of the guest message, on TDX a local TDREPORT. Never a quote, which a host relays. Blocks.
    ///
    /// # Errors
    /// `EVIDENCE_DEVICE`; `CONFIG_DIGEST_MISMATCH` when no digest is bound at all.
    fn own_launch(&self, challenge: [u8; 64]) -> Result<OwnLaunch, EnclaveError>;

    /// A directory in which the device makes and reads its questions: the fence leaves it open. Most devices have none.
    fn workplace(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What a guest's own report says of its launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnLaunch {
    /// MEASUREMENT or MRTD.
    pub measurement: [u8; 48],
    /// The digest of the configuration that the host bound: HOST_DATA, or the first 32 bytes of MRCONFIGID.
    pub config_digest: [u8; 32],
}

impl Words {
    /// Reads the command line: both words, once each, and nothing else.
    ///
    /// # Errors
    /// `USAGE`.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, EnclaveError> {
        let (mut tee, mut mode) = (None, None);
        for argument in arguments {
            let repeated = match argument.split_once('=') {
                Some(("vouchsafe.tee", word)) => {
                    let word = word.parse().map_err(|_| EnclaveError::Usage("vouchsafe.tee is sev-snp or tdx"))?;
                    tee.replace(word).is_some()
                }
                Some(("vouchsafe.mode", word)) => {
                    let word =
                        word.parse().map_err(|_| EnclaveError::Usage("vouchsafe.mode is hardware or simulation"))?;
                    mode.replace(word).is_some()
                }
                _ => return Err(EnclaveError::Usage("the only words are vouchsafe.tee and vouchsafe.mode")),
            };
            if repeated {
                return Err(EnclaveError::Usage("each word stands once"));
            }
        }
        match (tee, mode) {
            (Some(tee), Some(mode)) => Ok(Self { tee, mode }),
            _ => Err(EnclaveError::Usage("both vouchsafe.tee and vouchsafe.mode are needed")),
        }
    }

    /// Whether this machine has these words' device. Nothing falls back to simulation.
    ///
    /// # Errors
    /// `NO_TEE`; `EVIDENCE_DEVICE` when there is one that cannot be used.
    pub fn has_device(self) -> Result<(), EnclaveError> {
        match self.mode {
            Mode::Simulation => Ok(()),
            Mode::Hardware => hardware::open(self.tee).map(drop),
        }
    }

    /// The evidence device of these words: the guest's own, or the simulated one behind the line that the host offers.
    /// In hardware mode that line is not even opened.
    ///
    /// # Errors
    /// `NO_TEE`, `EVIDENCE_DEVICE`.
    pub fn open_device(
        self,
        line: impl FnOnce() -> Result<Box<dyn Line>, EnclaveError>,
    ) -> Result<Box<dyn EvidenceDevice>, EnclaveError> {
        match self.mode {
            Mode::Hardware => hardware::open(self.tee),
            Mode::Simulation => Ok(Box::new(SimulatedDevice::new(line()?, self.tee))),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A device for unit tests of other modules: a report with the right data and a fixed HOST_DATA, signed by nobody.
    pub(crate) struct UnsignedDevice {
        pub(crate) quotes: AtomicUsize,
    }

    impl EvidenceDevice for UnsignedDevice {
        fn quote(&self, report_data: [u8; 64]) -> Result<EvidenceEnvelope, EnclaveError> {
            self.quotes.fetch_add(1, Ordering::SeqCst);
            Ok(EvidenceEnvelope::sev_snp(snp::tests::report(&report_data), vec![1], vec![2]))
        }

        fn own_launch(&self, _: [u8; 64]) -> Result<OwnLaunch, EnclaveError> {
            Ok(OwnLaunch { measurement: [0; 48], config_digest: [7; 32] })
        }
    }

    fn words(list: &[&str]) -> Result<Words, EnclaveError> {
        Words::parse(list.iter().map(ToString::to_string))
    }

    #[test]
    fn the_words_are_exact() {
        let good = words(&["vouchsafe.mode=simulation", "vouchsafe.tee=sev-snp"]).unwrap();
        assert_eq!(good, Words { tee: Tee::SevSnp, mode: Mode::Simulation });
        let good = words(&["vouchsafe.tee=tdx", "vouchsafe.mode=simulation"]).unwrap();
        assert_eq!(good, Words { tee: Tee::Tdx, mode: Mode::Simulation });
        for bad in [
            &["vouchsafe.tee=sev-snp"][..],
            &["vouchsafe.tee=sev-snp", "vouchsafe.mode=mock"],
            &["vouchsafe.tee=sev-snp", "vouchsafe.mode=hardware", "vouchsafe.debug=1"],
            &["vouchsafe.tee=sev-snp", "vouchsafe.tee=sev-snp", "vouchsafe.mode=hardware"],
            &["vouchsafe.tee=sev-snp", "vouchsafe.tee=tdx", "vouchsafe.mode=simulation"],
            &["vouchsafe.tee=sev-snp", "vouchsafe.mode=hardware", "--verbose"],
        ] {
            assert_eq!(words(bad).err().unwrap().code(), "USAGE");
        }
    }

    #[test]
    fn missing_hardware_is_an_error_and_no_simulation() {
        if hardware::open(Tee::SevSnp).is_ok() || hardware::open(Tee::Tdx).is_ok() {
            println!("NOT RUN: missing_hardware_is_an_error_and_no_simulation: this machine has the hardware");
            return;
        }
        let open = |tee, mode| {
            let line = || {
                let (socket, _other) = UnixStream::pair().unwrap();
                simulated::socket_line(socket.into())
            };
            Words { tee, mode }.open_device(line).map(|_| ())
        };
        for tee in [Tee::SevSnp, Tee::Tdx] {
            let error = open(tee, Mode::Hardware).err().unwrap();
            assert_eq!((error.code(), error.exit()), ("NO_TEE", 7));
            assert_eq!(open(tee, Mode::Simulation), Ok(()), "control");
        }
    }
}
