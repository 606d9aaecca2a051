//! Turns a Unix stream socket into frames with descriptors attached.
//! It does not judge what a frame says.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};

use crate::error::EnclaveError;

/// A frame longer than this is refused before it is read.
const MAX_FRAME: usize = 1 << 20;
/// The first frame carries so many descriptors, and one more with a collateral file.
pub(super) const DESCRIPTORS: usize = 5;

/// Sends all of the bytes, or as many as the other end takes before it is gone.
pub(super) fn send_all(socket: BorrowedFd<'_>, mut rest: &[u8]) {
    while let Ok(sent @ 1..) = send(socket, rest, SendFlags::NOSIGNAL) {
        rest = rest.get(sent..).unwrap_or_default();
        if rest.is_empty() {
            return;
        }
    }
}

/// A frame's body and the descriptors that came with it.
pub(super) type Frame = (Vec<u8>, Vec<OwnedFd>);

/// One frame; nothing at the end of the stream.
pub(super) fn receive(fd: BorrowedFd<'_>) -> Result<Option<Frame>, EnclaveError> {
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
