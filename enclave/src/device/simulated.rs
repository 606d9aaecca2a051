//! Turns questions into frames to the simulated secure processor behind a socket or a port, and its frames into evidence.
//! It proves nothing about hardware: the processor is a program of the host, under a root made on that machine.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use vouchsafe_attestation::encoding::{b64url, serde_b64url};
use vouchsafe_attestation::{EvidenceEnvelope, Tee};

use super::{EvidenceDevice, OwnLaunch, snp, tdx};
use crate::error::EnclaveError;

/// A reply of the simulated processor is at most so long.
const MAX_REPLY: usize = 1 << 20;
/// A device that is silent for so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What every question after a failed one gets.
const CLOSED: &str = "its line was closed after an earlier failure";

/// The way to the simulated secure processor. Whoever makes one gives it a patience: reads and writes end at some time.
pub trait Line: Read + Write + Send {
    /// Tells the other end that nobody listens any more, where that takes more than dropping.
    fn hang_up(&self) {}
}

impl Line for UnixStream {
    fn hang_up(&self) {
        // The other end may be gone already; the descriptor is closed in any case.
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// The simulated secure processor, at the other end of a line.
pub struct SimulatedDevice {
    /// Gone after the first failed exchange: what came next on it could be the answer to that question.
    line: Mutex<Option<Box<dyn Line>>>,
    tee: Tee,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalReport {
    #[serde(with = "serde_b64url")]
    tdreport: Vec<u8>,
}

/// The line through a Unix stream socket.
///
/// # Errors
/// `EVIDENCE_DEVICE`.
pub fn socket_line(socket: OwnedFd) -> Result<Box<dyn Line>, EnclaveError> {
    let stream = UnixStream::from(socket);
    let ready = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    ready.map_err(|_| EnclaveError::Device("its socket is none"))?;
    Ok(Box::new(stream))
}

impl SimulatedDevice {
    /// The device of a technology behind a line.
    #[must_use]
    pub fn new(line: Box<dyn Line>, tee: Tee) -> Self {
        Self { line: Mutex::new(Some(line)), tee }
    }

    fn ask<T: DeserializeOwned>(&self, what: &str, data: &[u8; 64]) -> Result<T, EnclaveError> {
        let body = format!("{{\"{what}\":\"{}\"}}", b64url(data));
        let mut line = self.line.lock().map_err(|_| EnclaveError::Device("an earlier quote panicked"))?;
        let open = line.as_mut().ok_or(EnclaveError::Device(CLOSED))?;
        let reply = match exchange(open.as_mut(), body.as_bytes()) {
            Ok(reply) => reply,
            Err(_) => {
                open.hang_up();
                *line = None;
                return Err(EnclaveError::Device("its line closed or is silent"));
            }
        };
        drop(line);
        serde_json::from_slice(&reply).map_err(|_| EnclaveError::Device("it refused to quote"))
    }
}

impl EvidenceDevice for SimulatedDevice {
    fn quote(&self, report_data: [u8; 64]) -> Result<EvidenceEnvelope, EnclaveError> {
        let evidence: EvidenceEnvelope = self.ask("report_data", &report_data)?;
        match (self.tee, &evidence) {
            (Tee::SevSnp, EvidenceEnvelope::SevSnp(snp)) => snp::is_about(&snp.report, &report_data)?,
            (Tee::Tdx, EvidenceEnvelope::Tdx(tdx)) => tdx::is_about(&tdx.quote, &report_data)?,
            _ => return Err(EnclaveError::Device("its evidence is of another technology")),
        }
        Ok(evidence)
    }

    fn own_launch(&self, challenge: [u8; 64]) -> Result<OwnLaunch, EnclaveError> {
        match self.tee {
            Tee::SevSnp => snp::launch(self.quote(challenge)?.signed()),
            Tee::Tdx => tdx::launch(&self.ask::<LocalReport>("tdreport", &challenge)?.tdreport, &challenge),
        }
    }
}

fn exchange(stream: &mut dyn Line, body: &[u8]) -> std::io::Result<Vec<u8>> {
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
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::thread::JoinHandle;
    use vouchsafe_attestation::TdxCollateral;

    const REFUSED: &str = "it refused to quote";

    /// A device whose other end gives these replies in turn, and hands back what it was asked.
    fn device(tee: Tee, replies: Vec<Value>) -> (SimulatedDevice, JoinHandle<Vec<Value>>) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let answer = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for reply in replies {
                let mut length = [0; 4];
                ours.read_exact(&mut length).unwrap();
                let mut body = vec![0; u32::from_be_bytes(length) as usize];
                ours.read_exact(&mut body).unwrap();
                asked.push(serde_json::from_slice(&body).unwrap());
                let reply = reply.to_string();
                ours.write_all(&u32::try_from(reply.len()).unwrap().to_be_bytes()).unwrap();
                ours.write_all(reply.as_bytes()).unwrap();
            }
            asked
        });
        (SimulatedDevice::new(socket_line(theirs.into()).unwrap(), tee), answer)
    }

    fn snp_evidence(data: &[u8; 64]) -> Value {
        serde_json::to_value(EvidenceEnvelope::sev_snp(snp::tests::report(data), vec![1], vec![2])).unwrap()
    }

    fn tdx_evidence(data: &[u8; 64]) -> Value {
        let mut quote = vec![0; 1000];
        quote[0] = 4;
        quote[568..632].copy_from_slice(data);
        let text = String::new;
        let collateral = TdxCollateral {
            pck_crl_issuer_chain: text(),
            root_ca_crl: Vec::new(),
            pck_crl: Vec::new(),
            tcb_info_issuer_chain: text(),
            tcb_info: text(),
            tcb_info_signature: Vec::new(),
            qe_identity_issuer_chain: text(),
            qe_identity: text(),
            qe_identity_signature: Vec::new(),
        };
        serde_json::to_value(EvidenceEnvelope::tdx(quote, collateral)).unwrap()
    }

    fn local(challenge: &[u8; 64]) -> Value {
        let mut id = [7; 48];
        id[32..].fill(0);
        json!({ "tdreport": b64url(&tdx::tests::tdreport(challenge, &id)) })
    }

    fn error() -> Value {
        json!({ "error": { "code": "X", "fact": "y" } })
    }

    #[test]
    fn a_device_that_answers_about_other_data_or_of_another_kind_is_refused() {
        for (tee, good, other) in [
            (Tee::SevSnp, snp_evidence(&[8; 64]), snp_evidence(&[9; 64])),
            (Tee::Tdx, tdx_evidence(&[8; 64]), tdx_evidence(&[9; 64])),
        ] {
            let foreign = if tee == Tee::Tdx { snp_evidence(&[8; 64]) } else { tdx_evidence(&[8; 64]) };
            let (device, answer) = device(tee, vec![good.clone(), other, foreign, error(), good]);
            let quote = || device.quote([8; 64]).map(|evidence| evidence.tee());
            assert_eq!(quote(), Ok(tee), "control: before");
            assert_eq!(quote().err().unwrap().code(), "EVIDENCE_DEVICE", "other data");
            assert_eq!(quote().err(), Some(EnclaveError::Device("its evidence is of another technology")));
            assert_eq!(quote().err(), Some(EnclaveError::Device(REFUSED)));
            assert_eq!(quote(), Ok(tee), "control: after");
            answer.join().unwrap();
        }
    }

    #[test]
    fn the_own_launch_is_read_from_the_processors_word_to_the_guest() {
        let launch = OwnLaunch { measurement: [9; 48], config_digest: [7; 32] };
        let (snp, answer) = device(Tee::SevSnp, vec![snp_evidence(&[8; 64]), snp_evidence(&[9; 64])]);
        assert_eq!(snp.own_launch([8; 64]), Ok(launch));
        assert_eq!(snp.own_launch([8; 64]).err().unwrap().code(), "EVIDENCE_DEVICE", "a report about other data");
        answer.join().unwrap();
        let replies = vec![local(&[8; 64]), local(&[9; 64]), tdx_evidence(&[8; 64]), error()];
        let (tdx, answer) = device(Tee::Tdx, replies);
        assert_eq!(tdx.own_launch([8; 64]), Ok(launch));
        assert_eq!(tdx.own_launch([8; 64]).err().unwrap().code(), "EVIDENCE_DEVICE", "a report about other data");
        assert_eq!(tdx.own_launch([8; 64]).err(), Some(EnclaveError::Device(REFUSED)), "a quote is no local report");
        assert_eq!(tdx.own_launch([8; 64]).err(), Some(EnclaveError::Device(REFUSED)));
        // Nothing but the local report is ever asked for.
        assert!(answer.join().unwrap().iter().all(|asked| asked == &json!({ "tdreport": b64url(&[8; 64]) })));
    }

    #[test]
    fn after_a_failed_exchange_a_late_answer_is_never_read() {
        for broken in ["late", "too long", "cut"] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let patience = theirs.try_clone().unwrap();
            let device = SimulatedDevice::new(socket_line(theirs.into()).unwrap(), Tee::SevSnp);
            let reply = snp_evidence(&[8; 64]).to_string();
            let frame = [&u32::try_from(reply.len()).unwrap().to_be_bytes()[..], reply.as_bytes()].concat();
            ours.write_all(&frame).unwrap();
            assert!(device.quote([8; 64]).is_ok(), "control");
            match broken {
                "late" => {
                    patience.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                }
                "too long" => ours.write_all(&u32::MAX.to_be_bytes()).unwrap(),
                _ => {
                    ours.write_all(&frame[..9]).unwrap();
                    ours.shutdown(Shutdown::Write).unwrap();
                }
            }
            let failed = EnclaveError::Device("its line closed or is silent");
            assert_eq!(device.quote([8; 64]).err(), Some(failed), "{broken}");
            // A good answer, too late: its other end sees the socket closed, and nobody reads it.
            let late = ours.write_all(&frame);
            assert!(late.is_err(), "{broken}");
            assert_eq!(device.quote([8; 64]).err(), Some(EnclaveError::Device(CLOSED)), "{broken}");
            assert_eq!(device.own_launch([8; 64]).err(), Some(EnclaveError::Device(CLOSED)), "{broken}");
        }
    }
}
