//! Turns 64 bytes of REPORT_DATA into evidence, through the device that the two measured words name.
//! It does not verify the evidence: verifiers outside do. Its only own readings are HOST_DATA and MEASUREMENT of the own report.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use vouchsafe_attestation::evidence::SNP_REPORT_LEN;
use vouchsafe_attestation::{EvidenceEnvelope, Mode, Tee};

use crate::error::EnclaveError;

/// AMD 56860 rev 1.58, table 23: REPORT_DATA at 0x50, MEASUREMENT at 0x90, HOST_DATA at 0xC0.
const REPORT_DATA: std::ops::Range<usize> = 0x50..0x90;
const MEASUREMENT: std::ops::Range<usize> = 0x90..0xC0;
const HOST_DATA: std::ops::Range<usize> = 0xC0..0xE0;
/// A reply of the simulated processor is at most so long.
const MAX_REPLY: usize = 1 << 20;
/// A device that is silent for so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

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

    /// Whether this version has a driver for these words' device. Nothing falls back to simulation.
    ///
    /// # Errors
    /// `NO_TEE`.
    pub fn has_device(self) -> Result<(), EnclaveError> {
        match (self.mode, self.tee) {
            (Mode::Simulation, Tee::SevSnp) => Ok(()),
            (Mode::Simulation, Tee::Tdx) => Err(EnclaveError::NoTee("this version simulates sev-snp only")),
            (Mode::Hardware, _) => Err(EnclaveError::NoTee("this version has no driver for hardware devices")),
        }
    }

    /// The evidence device of these words, behind the host channel's socket.
    ///
    /// # Errors
    /// `NO_TEE`, `EVIDENCE_DEVICE`.
    pub fn open_device(self, socket: OwnedFd) -> Result<Box<dyn EvidenceDevice>, EnclaveError> {
        self.has_device()?;
        Ok(Box::new(SimulatedDevice::new(socket)?))
    }
}

/// The simulated secure processor, at the other end of a socket.
pub struct SimulatedDevice(Mutex<UnixStream>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Reply {
    Evidence(EvidenceEnvelope),
    Refused {},
}

impl SimulatedDevice {
    /// The device behind a socket.
    ///
    /// # Errors
    /// `EVIDENCE_DEVICE`.
    pub fn new(socket: OwnedFd) -> Result<Self, EnclaveError> {
        let stream = UnixStream::from(socket);
        let ready = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        ready.map_err(|_| EnclaveError::Device("its socket is none"))?;
        Ok(Self(Mutex::new(stream)))
    }
}

impl EvidenceDevice for SimulatedDevice {
    fn quote(&self, report_data: [u8; 64]) -> Result<EvidenceEnvelope, EnclaveError> {
        let body = format!("{{\"report_data\":\"{}\"}}", URL_SAFE_NO_PAD.encode(report_data));
        let mut stream = self.0.lock().map_err(|_| EnclaveError::Device("an earlier quote panicked"))?;
        let reply = exchange(&mut stream, body.as_bytes())
            .map_err(|_| EnclaveError::Device("its socket closed or is silent"))?;
        let Ok(Reply::Evidence(evidence)) = serde_json::from_slice(&reply) else {
            return Err(EnclaveError::Device("it refused to quote"));
        };
        if evidence.report.len() != SNP_REPORT_LEN || evidence.report[REPORT_DATA] != report_data {
            return Err(EnclaveError::Device("its report is not about the data asked for"));
        }
        Ok(evidence)
    }
}

/// HOST_DATA of the own report: the digest of the configuration that the host bound at launch.
///
/// # Errors
/// `EVIDENCE_DEVICE` when the report is too short.
pub fn host_data(evidence: &EvidenceEnvelope) -> Result<[u8; 32], EnclaveError> {
    field(evidence, HOST_DATA)
}

/// MEASUREMENT of the own report: what was launched.
///
/// # Errors
/// `EVIDENCE_DEVICE` when the report is too short.
pub fn measurement(evidence: &EvidenceEnvelope) -> Result<[u8; 48], EnclaveError> {
    field(evidence, MEASUREMENT)
}

fn field<const N: usize>(evidence: &EvidenceEnvelope, at: std::ops::Range<usize>) -> Result<[u8; N], EnclaveError> {
    let bytes = evidence.report.get(at).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(EnclaveError::Device("its report is too short"))
}

fn exchange(stream: &mut UnixStream, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let too_long = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut frame = u32::try_from(body.len()).map_err(|_| too_long())?.to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    stream.write_all(&frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| too_long())?;
    if length > MAX_REPLY {
        return Err(too_long());
    }
    let mut reply = vec![0; length];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A device for unit tests of other modules: a report with the right data and a fixed HOST_DATA, signed by nobody.
    pub(crate) struct UnsignedDevice {
        pub(crate) quotes: AtomicUsize,
    }

    impl EvidenceDevice for UnsignedDevice {
        fn quote(&self, report_data: [u8; 64]) -> Result<EvidenceEnvelope, EnclaveError> {
            self.quotes.fetch_add(1, Ordering::SeqCst);
            let mut report = vec![0; SNP_REPORT_LEN];
            report[REPORT_DATA].copy_from_slice(&report_data);
            report[HOST_DATA].copy_from_slice(&[7; 32]);
            Ok(EvidenceEnvelope { report, leaf: vec![1], crl: vec![2] })
        }
    }

    fn words(list: &[&str]) -> Result<Words, EnclaveError> {
        Words::parse(list.iter().map(ToString::to_string))
    }

    #[test]
    fn the_words_are_exact() {
        let good = words(&["vouchsafe.mode=simulation", "vouchsafe.tee=sev-snp"]).unwrap();
        assert_eq!(good, Words { tee: Tee::SevSnp, mode: Mode::Simulation });
        for bad in [
            &["vouchsafe.tee=sev-snp"][..],
            &["vouchsafe.tee=sev-snp", "vouchsafe.mode=mock"],
            &["vouchsafe.tee=sev-snp", "vouchsafe.mode=hardware", "vouchsafe.debug=1"],
            &["vouchsafe.tee=sev-snp", "vouchsafe.tee=sev-snp", "vouchsafe.mode=hardware"],
            &["vouchsafe.tee=sev-snp", "vouchsafe.mode=hardware", "--verbose"],
        ] {
            assert_eq!(words(bad).err().unwrap().code(), "USAGE");
        }
    }

    #[test]
    fn missing_hardware_is_an_error_and_no_simulation() {
        for (tee, mode) in [(Tee::SevSnp, Mode::Hardware), (Tee::Tdx, Mode::Hardware), (Tee::Tdx, Mode::Simulation)] {
            let (socket, _other) = UnixStream::pair().unwrap();
            let error = Words { tee, mode }.open_device(socket.into()).err().unwrap();
            assert_eq!((error.code(), error.exit()), ("NO_TEE", 7));
        }
    }

    #[test]
    fn a_device_that_answers_about_other_data_is_refused() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let device = SimulatedDevice::new(theirs.into()).unwrap();
        let answer = std::thread::spawn(move || {
            let mut ours = ours;
            for reply in [
                serde_json::to_string(&UnsignedDevice { quotes: AtomicUsize::new(0) }.quote([9; 64]).unwrap()).unwrap(),
                String::from("{\"error\":{\"code\":\"X\",\"fact\":\"y\"}}"),
            ] {
                let mut length = [0; 4];
                ours.read_exact(&mut length).unwrap();
                let mut body = vec![0; u32::from_be_bytes(length) as usize];
                ours.read_exact(&mut body).unwrap();
                ours.write_all(&u32::try_from(reply.len()).unwrap().to_be_bytes()).unwrap();
                ours.write_all(reply.as_bytes()).unwrap();
            }
        });
        assert_eq!(device.quote([8; 64]).err().unwrap().code(), "EVIDENCE_DEVICE");
        assert_eq!(device.quote([8; 64]).err(), Some(EnclaveError::Device("it refused to quote")));
        answer.join().unwrap();
    }
}
