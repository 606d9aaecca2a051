//! Turns the host channel into a first frame and requests, and sends states back: a Unix socket of a process, a port of a machine.
//! It does not trust the host: what a descriptor or a frame holds is judged by whoever reads it.

mod socket;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use vouchsafe_attestation::encoding::serde_b64url;

use crate::error::EnclaveError;
use crate::init::Port;

/// A frame on a port longer than this is refused before it is read: it may hold a whole collateral file, in base64url.
const MAX_PORT_FRAME: usize = 2 << 20;

/// The host channel.
pub struct HostChannel(Way);

enum Way {
    Socket(OwnedFd),
    Port(Port),
}

/// What the first frame brings.
pub enum Hello {
    /// To a process: descriptors.
    Descriptors(Descriptors),
    /// To a machine: the bytes themselves. It finds the rest among its devices.
    Bytes {
        /// The bound configuration.
        config: Vec<u8>,
        /// The collateral file; without one, the device's own collateral is served.
        collateral: Option<Vec<u8>>,
    },
}

/// What the first frame to a process carries.
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

/// A small file of the host's: still to be read, or read by the host already.
#[derive(Debug)]
pub enum Handed {
    /// Open, unread.
    File(OwnedFd),
    /// What it holds.
    Bytes(Vec<u8>),
}

impl Handed {
    /// All of it, at most one byte more than `cap`: a longer result is too long. Blocks.
    ///
    /// # Errors
    /// Those of the file.
    pub fn read(self, cap: usize) -> std::io::Result<Vec<u8>> {
        match self {
            Self::File(file) => {
                let mut bytes = Vec::new();
                File::from(file).take(cap as u64 + 1).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            Self::Bytes(mut bytes) => {
                bytes.truncate(cap.saturating_add(1));
                Ok(bytes)
            }
        }
    }
}

impl From<OwnedFd> for Handed {
    fn from(file: OwnedFd) -> Self {
        Self::File(file)
    }
}

/// What the launcher asks while the enclave runs.
#[derive(Debug)]
pub enum HostRequest {
    /// Look at the sealed packages again, and read this collateral file.
    Reload(Option<Handed>),
    /// End after the requests under way.
    Stop,
    /// The launcher is gone.
    Gone,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SocketHello {
    v: u32,
    #[serde(default)]
    collateral: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PortHello {
    v: u32,
    config: Bytes,
    #[serde(default)]
    collateral: Option<Bytes>,
}

#[derive(Deserialize)]
struct Bytes(#[serde(with = "serde_b64url")] Vec<u8>);

/// `C` says of the collateral file whether it is attached, or holds it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reload<C> {
    #[serde(default)]
    collateral: C,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase", bound = "C: Default + DeserializeOwned")]
enum Asked<C> {
    Reload(Reload<C>),
    Stop(Empty),
}

impl HostChannel {
    /// The channel on standard input.
    ///
    /// # Errors
    /// `HOST_CHANNEL`.
    pub fn stdin() -> Result<Self, EnclaveError> {
        let fd = rustix::stdio::stdin().try_clone_to_owned();
        Ok(Self::of_socket(fd.map_err(|_| EnclaveError::Channel("standard input is closed"))?))
    }

    /// A channel on any stream socket.
    #[must_use]
    pub fn of_socket(fd: OwnedFd) -> Self {
        Self(Way::Socket(fd))
    }

    /// A channel on a virtio-serial port.
    #[must_use]
    pub fn of_port(port: Port) -> Self {
        Self(Way::Port(port))
    }

    /// A second handle, for the thread that waits for requests.
    ///
    /// # Errors
    /// `SYSTEM`.
    pub fn try_clone(&self) -> Result<Self, EnclaveError> {
        let way = match &self.0 {
            Way::Socket(socket) => socket.try_clone().map(Way::Socket),
            Way::Port(port) => port.try_clone().map(Way::Port),
        };
        way.map(Self).map_err(|_| EnclaveError::System("duplicate a descriptor"))
    }

    /// Receives the first frame.
    ///
    /// # Errors
    /// `HOST_CHANNEL`.
    pub fn receive_hello(&self) -> Result<Hello, EnclaveError> {
        const CLOSED: EnclaveError = EnclaveError::Channel("it closed before the first frame");
        let (v, hello) = match &self.0 {
            Way::Socket(socket) => {
                let (bytes, mut fds) = socket::receive(socket.as_fd())?.ok_or(CLOSED)?;
                let hello: SocketHello = serde_json::from_slice(&bytes)
                    .map_err(|_| EnclaveError::Channel("the first frame is not {\"v\":1}"))?;
                let collateral = if hello.collateral { fds.pop() } else { None };
                let [device, config, models, onnxruntime, listener] = <[OwnedFd; socket::DESCRIPTORS]>::try_from(fds)
                    .map_err(|_| {
                    EnclaveError::Channel("the first frame carries exactly five descriptors, or six with collateral")
                })?;
                let all = Descriptors { device, config, models, onnxruntime, listener, collateral };
                (hello.v, Hello::Descriptors(all))
            }
            Way::Port(port) => {
                let bytes = receive(port)?.ok_or(CLOSED)?;
                let hello: PortHello = serde_json::from_slice(&bytes)
                    .map_err(|_| EnclaveError::Channel("the first frame is not {\"v\":1,\"config\":…}"))?;
                let collateral = hello.collateral.map(|Bytes(bytes)| bytes);
                (hello.v, Hello::Bytes { config: hello.config.0, collateral })
            }
        };
        if v != 1 {
            return Err(EnclaveError::Channel("the first frame has another version"));
        }
        Ok(hello)
    }

    /// Waits for the next request.
    ///
    /// # Errors
    /// `HOST_CHANNEL` for a frame that is none.
    pub fn receive_request(&self) -> Result<HostRequest, EnclaveError> {
        match &self.0 {
            Way::Socket(socket) => {
                let Some((bytes, mut fds)) = socket::receive(socket.as_fd())? else { return Ok(HostRequest::Gone) };
                let (announced, request) = match asked::<bool>(&bytes)? {
                    Asked::Reload(Reload { collateral }) => (usize::from(collateral), HostRequest::Reload(None)),
                    Asked::Stop(Empty {}) => (0, HostRequest::Stop),
                };
                match (fds.len() == announced, fds.pop()) {
                    (true, Some(file)) => Ok(HostRequest::Reload(Some(file.into()))),
                    (true, None) => Ok(request),
                    (false, _) => {
                        Err(EnclaveError::Channel("a request carries one descriptor with collateral, and else none"))
                    }
                }
            }
            Way::Port(port) => {
                let Some(bytes) = receive(port)? else { return Ok(HostRequest::Gone) };
                Ok(match asked::<Option<Bytes>>(&bytes)? {
                    Asked::Reload(Reload { collateral }) => {
                        HostRequest::Reload(collateral.map(|Bytes(bytes)| Handed::Bytes(bytes)))
                    }
                    Asked::Stop(Empty {}) => HostRequest::Stop,
                })
            }
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
        match &self.0 {
            Way::Socket(socket) => socket::send_all(socket.as_fd(), &bytes),
            Way::Port(port) => {
                let mut port = port;
                let _ = port.write_all(&bytes);
            }
        }
    }
}

fn asked<C: Default + DeserializeOwned>(bytes: &[u8]) -> Result<Asked<C>, EnclaveError> {
    serde_json::from_slice(bytes).map_err(|_| EnclaveError::Channel("a request is neither reload nor stop"))
}

/// One frame's body from a port; nothing when the host disconnected between two frames.
fn receive(mut port: &Port) -> Result<Option<Vec<u8>>, EnclaveError> {
    let inside = |error: std::io::Error| {
        EnclaveError::Channel(if error.kind() == ErrorKind::UnexpectedEof {
            "it closed inside a frame"
        } else {
            "it cannot be read"
        })
    };
    let mut length = [0; 4];
    if port.read(&mut length[..1]).map_err(inside)? == 0 {
        return Ok(None);
    }
    port.read_exact(&mut length[1..]).map_err(inside)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_PORT_FRAME {
        return Err(EnclaveError::Channel("a frame is larger than 2 MiB"));
    }
    let mut body = vec![0; length];
    port.read_exact(&mut body).map_err(inside)?;
    Ok(Some(body))
}

#[cfg(test)]
mod tests;
