//! Turns frames on the control channel into launched guests, and frames on each guest's device into signed reports.
//! The end of the control channel ends the process: a simulator never outlives its launcher.

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketType, sockopt};
use serde::{Deserialize, Serialize};
use vouchsafe_attestation::{EvidenceEnvelope, encoding::serde_b64url};

use crate::{
    SimulatorError, answer,
    frame::{self, Incoming},
    guest::{Guest, Launched},
    request::LaunchRequest,
    root::{self, Root},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlRequest {
    launch: LaunchRequest,
}

/// Exactly one question: `{"report_data": …}` or `{"tdreport": …}`.
#[derive(Deserialize)]
enum DeviceRequest {
    #[serde(rename = "report_data")]
    Evidence(Bytes),
    #[serde(rename = "tdreport")]
    TdReport(Bytes),
}

#[derive(Serialize, Deserialize)]
struct Bytes(#[serde(with = "serde_b64url")] Vec<u8>);

impl Bytes {
    fn report_data(&self) -> Result<[u8; 64], SimulatorError> {
        self.0.as_slice().try_into().map_err(|_| SimulatorError::RequestInvalid)
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum DeviceReply {
    Evidence(Box<EvidenceEnvelope>),
    TdReport { tdreport: Bytes },
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Launched {
        measurement: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        rtmr: Vec<String>,
    },
    Error {
        code: &'static str,
        fact: String,
    },
}

impl From<&SimulatorError> for Reply {
    fn from(error: &SimulatorError) -> Self {
        Self::Error { code: error.code(), fact: error.to_string() }
    }
}

/// How fast quotes are signed: as fast as this machine can, or one after the other in equal steps.
pub struct Pace(Option<(Duration, Mutex<Instant>)>);

impl Pace {
    /// At most so many per second; `None` for no limit.
    #[must_use]
    pub fn new(per_second: Option<u32>) -> Self {
        Self(per_second.map(|n| (Duration::from_secs(1) / n.max(1), Mutex::new(Instant::now()))))
    }

    /// Waits for this quote's turn to be ready. Whoever waits holds the processor, so that the next one waits behind.
    fn take(&self) {
        let Some((step, free)) = &self.0 else { return };
        let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = (*free).max(Instant::now()) + *step;
        std::thread::sleep(ready.saturating_duration_since(Instant::now()));
        *free = ready;
    }
}

/// The control channel that the launcher passed as standard input.
///
/// # Errors
/// `SIMULATOR_CONTROL_CHANNEL` when it is no Unix stream socket.
pub fn control_channel(stdin: impl AsFd) -> Result<UnixStream, SimulatorError> {
    let fd: OwnedFd = stdin.as_fd().try_clone_to_owned().map_err(|_| SimulatorError::ControlChannel)?;
    let is_unix_stream =
        sockopt::socket_domain(&fd) == Ok(AddressFamily::UNIX) && sockopt::socket_type(&fd) == Ok(SocketType::STREAM);
    if is_unix_stream { Ok(UnixStream::from(fd)) } else { Err(SimulatorError::ControlChannel) }
}

/// Serves launch requests until the launcher closes the channel.
///
/// # Errors
/// `SIMULATOR_FRAME` when the channel carries something that cannot be framed.
pub fn serve(root: &Arc<Root>, control: UnixStream) -> Result<(), SimulatorError> {
    serve_at(root, &Arc::new(Pace::new(None)), control)
}

/// The same at a pace that all guests of this processor share.
///
/// # Errors
/// As for [`serve`].
pub fn serve_at(root: &Arc<Root>, pace: &Arc<Pace>, mut control: UnixStream) -> Result<(), SimulatorError> {
    loop {
        let outcome = match frame::read::<ControlRequest>(&mut control) {
            Ok(Incoming::End) => return Ok(()),
            Ok(Incoming::Frame(request)) => launch(root, pace, &request.launch),
            Ok(Incoming::Malformed) => Err(SimulatorError::RequestInvalid),
            Err(error) => {
                let _ = frame::write(&mut control, &Reply::from(&error), &[]);
                return Err(error);
            }
        };
        let sent = match outcome {
            Ok((launched, device)) => {
                let rtmr = launched.registers.iter().map(hex::encode).collect();
                let reply = Reply::Launched { measurement: hex::encode(launched.measurement), rtmr };
                let files = launched.files.iter().map(AsFd::as_fd);
                let descriptors: Vec<_> = files.chain([device.as_fd()]).collect();
                frame::write(&mut control, &reply, &descriptors)
            }
            Err(error) => frame::write(&mut control, &Reply::from(&error), &[]),
        };
        if sent.is_err() {
            return Ok(());
        }
    }
}

/// Launches a guest and gives it a thread of its own; the guest ends when its device is closed.
fn launch(root: &Arc<Root>, pace: &Arc<Pace>, request: &LaunchRequest) -> Result<(Parts, UnixStream), SimulatorError> {
    let Launched { guest, measurement, files } = Guest::launch(root, request)?;
    let (ours, theirs) = UnixStream::pair().map_err(|e| SimulatorError::GuestMemory(e.kind()))?;
    let (root, pace, registers) = (Arc::clone(root), Arc::clone(pace), guest.registers().to_vec());
    std::thread::Builder::new()
        .name("device".into())
        .spawn(move || answer_device(&root, &pace, &guest, ours))
        .map_err(|e| SimulatorError::GuestMemory(e.kind()))?;
    Ok((Parts { measurement, registers, files }, theirs))
}

struct Parts {
    measurement: [u8; 48],
    registers: Vec<[u8; 48]>,
    files: Vec<OwnedFd>,
}

/// One answer for every request, until the guest closes the device or sends what cannot be framed.
fn answer_device(root: &Root, pace: &Pace, guest: &Guest, mut device: UnixStream) {
    loop {
        let answer = match frame::read::<DeviceRequest>(&mut device) {
            Ok(Incoming::End) => return,
            Ok(Incoming::Frame(request)) => reply(root, pace, guest, &request),
            Ok(Incoming::Malformed) => Err(SimulatorError::RequestInvalid),
            Err(error) => {
                let _ = frame::write(&mut device, &Reply::from(&error), &[]);
                return;
            }
        };
        let sent = match answer {
            Ok(envelope) => frame::write(&mut device, &envelope, &[]),
            Err(error) => frame::write(&mut device, &Reply::from(&error), &[]),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn reply(root: &Root, pace: &Pace, guest: &Guest, request: &DeviceRequest) -> Result<DeviceReply, SimulatorError> {
    match request {
        DeviceRequest::Evidence(bytes) => {
            pace.take();
            let envelope = answer::evidence(root, guest, bytes.report_data()?, root::now())?;
            Ok(DeviceReply::Evidence(Box::new(envelope)))
        }
        DeviceRequest::TdReport(bytes) => {
            let report = answer::td_report(root, guest, bytes.report_data()?)?;
            Ok(DeviceReply::TdReport { tdreport: Bytes(report.to_vec()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_come_one_after_the_other_at_the_given_pace_or_at_once() {
        let begun = Instant::now();
        let free = Pace::new(None);
        (0..1000).for_each(|_| free.take());
        assert!(begun.elapsed() < Duration::from_secs(20), "control: nobody waits");
        let pace = Pace::new(Some(100));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5).for_each(|_| pace.take()));
            }
        });
        assert!(begun.elapsed() >= Duration::from_millis(200), "twenty quotes at a hundred per second");
    }
}
