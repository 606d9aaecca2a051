//! Turns the host channel (standard input, a Unix stream socket) into frames and file descriptors, and sends states back.
//! It does not trust the host: what a descriptor holds is judged by whoever reads it.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::EnclaveError;

/// A frame longer than this is refused before it is read.
const MAX_FRAME: usize = 1 << 20;
/// The first frame carries so many descriptors, and one more with a collateral file.
const DESCRIPTORS: usize = 5;

/// The host channel.
pub struct HostChannel(OwnedFd);

/// What the first frame carries.
pub struct Descriptors {
    /// Socket of the simulated processor.
    pub device: OwnedFd,
    /// The bound configuration.
    pub config: OwnedFd,
    /// The directory of sealed packages.
    pub models: OwnedFd,
    /// The measured ONNX Runtime library.
    pub onnxruntime: OwnedFd,
    /// The listening socket.
    pub listener: OwnedFd,
    /// The collateral file; without one, the device's own collateral is served.
    pub collateral: Option<OwnedFd>,
}

/// What the launcher asks while the enclave runs.
#[derive(Debug)]
pub enum HostRequest {
    /// Read the models directory again, and this collateral file.
    Reload(Option<OwnedFd>),
    /// End after the requests under way.
    Stop,
    /// The launcher is gone.
    Gone,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    v: u32,
    #[serde(default)]
    collateral: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reload {
    #[serde(default)]
    collateral: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Asked {
    Reload(Reload),
    Stop(Empty),
}

impl HostChannel {
    /// The channel on standard input.
    ///
    /// # Errors
    /// `HOST_CHANNEL`.
    pub fn stdin() -> Result<Self, EnclaveError> {
        let fd = rustix::stdio::stdin().try_clone_to_owned();
        Ok(Self(fd.map_err(|_| EnclaveError::Channel("standard input is closed"))?))
    }

    /// A channel on any stream socket.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// A second handle, for the thread that waits for requests.
    ///
    /// # Errors
    /// `SYSTEM`.
    pub fn try_clone(&self) -> Result<Self, EnclaveError> {
        self.0.try_clone().map(Self).map_err(|_| EnclaveError::System("duplicate a descriptor"))
    }

    /// Receives the first frame.
    ///
    /// # Errors
    /// `HOST_CHANNEL`.
    pub fn receive_hello(&self) -> Result<Descriptors, EnclaveError> {
        let (bytes, mut fds) =
            receive(self.0.as_fd())?.ok_or(EnclaveError::Channel("it closed before the first frame"))?;
        let hello: Hello =
            serde_json::from_slice(&bytes).map_err(|_| EnclaveError::Channel("the first frame is not {\"v\":1}"))?;
        if hello.v != 1 {
            return Err(EnclaveError::Channel("the first frame has another version"));
        }
        let collateral = if hello.collateral { fds.pop() } else { None };
        let [device, config, models, onnxruntime, listener] =
            <[OwnedFd; DESCRIPTORS]>::try_from(fds).map_err(|_| {
                EnclaveError::Channel("the first frame carries exactly five descriptors, or six with collateral")
            })?;
        Ok(Descriptors { device, config, models, onnxruntime, listener, collateral })
    }

    /// Waits for the next request.
    ///
    /// # Errors
    /// `HOST_CHANNEL` for a frame that is none.
    pub fn receive_request(&self) -> Result<HostRequest, EnclaveError> {
        let Some((bytes, mut fds)) = receive(self.0.as_fd())? else { return Ok(HostRequest::Gone) };
        let asked = serde_json::from_slice(&bytes);
        let asked = asked.map_err(|_| EnclaveError::Channel("a request is neither reload nor stop"))?;
        let (announced, request) = match asked {
            Asked::Reload(Reload { collateral }) => (usize::from(collateral), HostRequest::Reload(None)),
            Asked::Stop(Empty {}) => (0, HostRequest::Stop),
        };
        match (fds.len() == announced, fds.pop()) {
            (true, Some(file)) => Ok(HostRequest::Reload(Some(file))),
            (true, None) => Ok(request),
            (false, _) => Err(EnclaveError::Channel("a request carries one descriptor with collateral, and else none")),
        }
    }

    /// Tells the launcher the boot state. A launcher that is gone is noticed by the receiving side.
    pub fn send_state(&self, state: &'static str) {
        self.send(&json!({ "state": state }));
    }

    /// Tells the launcher why the enclave ends.
    pub fn send_fatal(&self, error: &EnclaveError) {
        let mut body = json!({ "code": error.code() });
        if let EnclaveError::KeyRefused { ticket } = error
            && !ticket.is_empty()
        {
            body["ticket"] = json!(ticket);
        }
        self.send(&json!({ "fatal": body }));
    }

    fn send(&self, frame: &impl Serialize) {
        let Ok(body) = serde_json::to_vec(frame) else { return };
        let Ok(length) = u32::try_from(body.len()) else { return };
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&body);
        let mut rest = bytes.as_slice();
        while let Ok(sent @ 1..) = send(&self.0, rest, SendFlags::NOSIGNAL) {
            rest = rest.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                return;
            }
        }
    }
}

/// A frame's body and the descriptors that came with it.
type Frame = (Vec<u8>, Vec<OwnedFd>);

/// One frame; nothing at the end of the stream.
fn receive(fd: BorrowedFd<'_>) -> Result<Option<Frame>, EnclaveError> {
    let mut fds = Vec::new();
    let mut length = [0; 4];
    if !fill(fd, &mut length, &mut fds)? {
        return Ok(None);
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(EnclaveError::Channel("a frame is larger than 1 MiB"));
    }
    let mut body = vec![0; length];
    if !fill(fd, &mut body, &mut fds)? && length > 0 {
        return Err(EnclaveError::Channel("it closed inside a frame"));
    }
    Ok(Some((body, fds)))
}

/// Fills the buffer; `false` at the end of the stream before its first byte.
fn fill(fd: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<bool, EnclaveError> {
    let mut at = 0;
    while at < buffer.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS + 1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut buffer[at..])];
        let got = match recvmsg(fd, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return Err(EnclaveError::Channel("it cannot be read")),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        match got {
            0 if at == 0 => return Ok(false),
            0 => return Err(EnclaveError::Channel("it closed inside a frame")),
            got => at += got,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
    use std::io::{IoSlice, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (UnixStream, HostChannel) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (ours, HostChannel::new(theirs.into()))
    }

    fn frame(text: &str) -> Vec<u8> {
        let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    fn send_with(socket: &UnixStream, bytes: &[u8], count: usize) {
        let borrowed = vec![socket.as_fd(); count];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
        sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
    }

    #[test]
    fn the_first_frame_brings_five_descriptors() {
        let (host, channel) = pair();
        send_with(&host, &frame("{\"v\":1}"), 5);
        assert!(channel.receive_hello().is_ok());
        send_with(&host, &frame("{\"v\":1}"), 4);
        assert_eq!(channel.receive_hello().err().unwrap().code(), "HOST_CHANNEL");
    }

    #[test]
    fn a_collateral_file_is_announced_and_comes_last() {
        let (host, channel) = pair();
        for (text, count, expected) in [
            ("{\"v\":1,\"collateral\":true}", 6, Some(true)),
            ("{\"v\":1,\"collateral\":false}", 5, Some(false)),
            ("{\"v\":1,\"collateral\":true}", 5, None),
            ("{\"v\":1}", 6, None),
            ("{\"v\":1,\"collateral\":1}", 6, None),
        ] {
            send_with(&host, &frame(text), count);
            let hello = channel.receive_hello();
            assert_eq!(hello.ok().map(|all| all.collateral.is_some()), expected, "{text} with {count}");
        }
        for (text, count, expected) in [
            ("{\"reload\":{\"collateral\":true}}", 1, Some(true)),
            ("{\"reload\":{}}", 1, None),
            ("{\"reload\":{\"collateral\":true}}", 2, None),
            ("{\"stop\":{}}", 1, None),
        ] {
            send_with(&host, &frame(text), count);
            let file = match channel.receive_request() {
                Ok(HostRequest::Reload(file)) => Some(file.is_some()),
                _ => None,
            };
            assert_eq!(file, expected, "{text} with {count}");
        }
        (&host).write_all(&frame("{\"reload\":{\"collateral\":true}}")).unwrap();
        assert!(channel.receive_request().is_err(), "announced, but not there");
    }

    #[test]
    fn requests_are_exact_and_the_end_is_noticed() {
        let (mut host, channel) = pair();
        host.write_all(&frame("{\"reload\":{}}")).unwrap();
        host.write_all(&frame("{\"stop\":{}}")).unwrap();
        host.write_all(&frame("{\"exec\":{}}")).unwrap();
        assert!(matches!(channel.receive_request(), Ok(HostRequest::Reload(None))));
        assert!(matches!(channel.receive_request(), Ok(HostRequest::Stop)));
        assert!(channel.receive_request().is_err());
        drop(host);
        assert!(matches!(channel.receive_request(), Ok(HostRequest::Gone)));
    }

    #[test]
    fn a_huge_frame_is_refused_before_it_is_read() {
        let (mut host, channel) = pair();
        host.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert_eq!(channel.receive_request().err(), Some(EnclaveError::Channel("a frame is larger than 1 MiB")));
    }
}
