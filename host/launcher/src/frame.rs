//! Turns JSON values into length-prefixed frames with descriptors on a Unix stream socket, and back.
//! Framing bounds what is read; it says nothing about who wrote it.

use std::{
    io::{self, ErrorKind, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};

/// The largest frame.
pub const MAX_FRAME: usize = 1 << 20;
/// The most descriptors that one frame carries.
pub const MAX_DESCRIPTORS: usize = 8;

/// Writes one frame; the descriptors travel with its first byte.
///
/// # Errors
/// Those of the socket; `InvalidInput` above the caps.
pub fn write(channel: &UnixStream, value: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = serde_json::to_vec(value)?;
    let length = u32::try_from(body.len()).map_err(|_| ErrorKind::InvalidInput)?;
    if body.len() > MAX_FRAME || descriptors.len() > MAX_DESCRIPTORS {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(ErrorKind::InvalidInput.into());
    }
    let sent =
        rustix::io::retry_on_intr(|| sendmsg(channel, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL))?;
    let mut rest = channel;
    rest.write_all(frame.get(sent..).unwrap_or_default())
}

/// Reads one frame and the descriptors that came with it; `None` when the other end closed between two frames.
///
/// # Errors
/// `InvalidData` for a frame above the cap or of another form, `UnexpectedEof` inside one, and those of the socket.
pub fn read<T: DeserializeOwned>(channel: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut descriptors = Vec::new();
    let mut length = [0; 4];
    match fill(channel, &mut length, &mut descriptors)? {
        0 => return Ok(None),
        4 => {}
        _ => return Err(ErrorKind::UnexpectedEof.into()),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    if fill(channel, &mut body, &mut descriptors)? != length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let value = serde_json::from_slice(&body).map_err(|_| ErrorKind::InvalidData)?;
    Ok(Some((value, descriptors)))
}

fn fill(channel: &UnixStream, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = match recvmsg(channel, &mut [IoSliceMut::new(rest)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(ErrorKind::InvalidData.into());
        }
        if received == 0 {
            break;
        }
        filled += received;
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, os::fd::AsFd};

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn descriptors_arrive_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<File> = (0..5)
            .map(|i| {
                let path = dir.path().join(i.to_string());
                std::fs::write(&path, i.to_string()).unwrap();
                File::open(path).unwrap()
            })
            .collect();
        let (a, b) = UnixStream::pair().unwrap();
        write(&a, &json!({"v": 1}), &files.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
        write(&a, &json!({"v": 2}), &[]).unwrap();
        drop(a);
        let (value, descriptors) = read::<Value>(&b).unwrap().unwrap();
        assert_eq!(value, json!({"v": 1}));
        for (i, fd) in descriptors.into_iter().enumerate() {
            let mut text = String::new();
            File::from(fd).read_to_string(&mut text).unwrap();
            assert_eq!(text, i.to_string());
        }
        let (value, descriptors) = read::<Value>(&b).unwrap().unwrap();
        assert_eq!((value, descriptors.len()), (json!({"v": 2}), 0));
        assert!(read::<Value>(&b).unwrap().is_none());
    }

    #[test]
    fn garbage_is_an_error_never_a_panic() {
        for bytes in [&b"\0\0"[..], b"\xff\xff\xff\xff", b"\0\0\0\x02{]", b"\0\0\0\x09{}", b"\0\0\0\0"] {
            let (mut a, b) = UnixStream::pair().unwrap();
            a.write_all(bytes).unwrap();
            drop(a);
            assert!(read::<Value>(&b).is_err());
        }
    }
}
