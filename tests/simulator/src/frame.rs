//! Turns JSON values into length-prefixed frames on a Unix stream socket, with descriptors attached, and back.
//! Framing bounds what is read; it says nothing about who wrote it.

use std::{
    io::{self, IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{fd::BorrowedFd, unix::net::UnixStream},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Serialize, de::DeserializeOwned};

use crate::SimulatorError;

/// The largest frame.
pub const MAX_FRAME: usize = 1 << 20;
/// The most descriptors that one frame carries.
pub const MAX_DESCRIPTORS: usize = 4;

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<T> {
    /// A frame that parsed.
    Frame(T),
    /// A frame that did not parse; the next one may.
    Malformed,
    /// The other end closed the channel between two frames.
    End,
}

/// Reads one frame. Descriptors that come with it are dropped by the kernel: nobody sends any to the simulator.
///
/// # Errors
/// `SIMULATOR_FRAME` when the length is above the cap or the channel ends inside the frame.
pub fn read<T: DeserializeOwned>(channel: &mut impl Read) -> Result<Incoming<T>, SimulatorError> {
    let mut length = [0; 4];
    match read_full(channel, &mut length) {
        Ok(0) => return Ok(Incoming::End),
        Ok(4) => {}
        Ok(_) | Err(_) => return Err(SimulatorError::ControlFrame),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(SimulatorError::ControlFrame);
    }
    let mut body = vec![0; length];
    channel.read_exact(&mut body).map_err(|_| SimulatorError::ControlFrame)?;
    Ok(serde_json::from_slice(&body).map_or(Incoming::Malformed, Incoming::Frame))
}

/// Writes one frame; the descriptors travel with its first byte.
///
/// # Errors
/// Those of the socket.
pub fn write(channel: &mut UnixStream, value: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = serde_json::to_vec(value)?;
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    if body.len() > MAX_FRAME || descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent =
        rustix::io::retry_on_intr(|| sendmsg(&*channel, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL))?;
    channel.write_all(frame.get(sent..).unwrap_or_default())
}

fn read_full(channel: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match channel.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(bytes: &[u8]) -> Result<Incoming<Value>, SimulatorError> {
        read(&mut &bytes[..])
    }

    #[test]
    fn a_frame_is_read_back() {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        write(&mut a, &json!({"x": 1}), &[]).unwrap();
        drop(a);
        assert_eq!(read(&mut b).unwrap(), Incoming::Frame(json!({"x": 1})));
        assert_eq!(read::<Value>(&mut b).unwrap(), Incoming::End);
    }

    #[test]
    fn garbage_never_panics() {
        assert_eq!(parse(b""), Ok(Incoming::End));
        assert_eq!(parse(b"\0\0"), Err(SimulatorError::ControlFrame));
        assert_eq!(parse(b"\0\0\0\x05ab"), Err(SimulatorError::ControlFrame));
        assert_eq!(parse(b"\xff\xff\xff\xffab"), Err(SimulatorError::ControlFrame));
        assert_eq!(parse(b"\0\x10\0\x01"), Err(SimulatorError::ControlFrame));
        assert_eq!(parse(b"\0\0\0\x02{]"), Ok(Incoming::Malformed));
        assert_eq!(parse(b"\0\0\0\0"), Ok(Incoming::Malformed));
        assert_eq!(parse(b"\0\0\0\x02{}"), Ok(Incoming::Frame(json!({}))));
    }
}
