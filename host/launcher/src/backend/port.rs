//! Turns a virtio port's socket into bounded frames in both directions, and joins two sockets byte for byte.
//! What comes from a port is the guest's word, or QEMU's; a cap bounds it, nothing vouches for it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use super::life::Life;
use crate::enclave::Message;

/// The largest frame of the host channel of a machine: a configuration and a collateral file in base64 fit.
pub const MAX_FRAME: usize = 2 << 20;
/// Frames that may wait for a guest that does not read.
const OUTBOX: usize = 8;
/// Messages that may wait for this launcher.
const INBOX: usize = 64;
/// What one step of a bridge copies.
const BUFFER: usize = 16 * 1024;

/// Frames on their way to the guest. Writing blocks while the guest does not read, so a thread of its own does it.
pub struct Outbox(SyncSender<Vec<u8>>);

impl Outbox {
    /// Starts the thread. It ends with the socket, or with this.
    pub fn new(mut socket: UnixStream) -> io::Result<Self> {
        let (sender, frames) = sync_channel::<Vec<u8>>(OUTBOX);
        let write = move || {
            while let Ok(frame) = frames.recv() {
                if socket.write_all(&frame).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("host channel out".into()).spawn(write)?;
        Ok(Self(sender))
    }

    /// Takes one frame.
    ///
    /// # Errors
    /// `InvalidInput` above the cap, `WouldBlock` when too many frames wait, `BrokenPipe` when the socket is gone.
    pub fn post(&self, value: &impl Serialize) -> io::Result<()> {
        let body = serde_json::to_vec(value)?;
        if body.len() > MAX_FRAME {
            return Err(ErrorKind::InvalidInput.into());
        }
        let length = u32::try_from(body.len()).map_err(|_| ErrorKind::InvalidInput)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&body);
        self.0.try_send(frame).map_err(|e| match e {
            TrySendError::Full(_) => ErrorKind::WouldBlock.into(),
            TrySendError::Disconnected(_) => ErrorKind::BrokenPipe.into(),
        })
    }
}

/// A thread that turns frames into messages. Frames of another form are passed over: they are a newer enclave's words.
pub fn inbox(mut socket: UnixStream, life: Arc<Life>) -> io::Result<mpsc::Receiver<Message>> {
    let (sender, receiver) = mpsc::channel(INBOX);
    let read = move || {
        while let Ok(Some(value)) = next_frame(&mut socket, &life) {
            life.speak();
            if let Ok(message) = serde_json::from_value(value)
                && sender.blocking_send(message).is_err()
            {
                return;
            }
        }
    };
    thread::Builder::new().name("host channel in".into()).spawn(read)?;
    Ok(receiver)
}

/// The next frame; `None` when the port closed between two frames.
fn next_frame(source: &mut impl Read, life: &Life) -> io::Result<Option<Value>> {
    let mut length = [0; 4];
    match source.read(&mut length)? {
        0 => return Ok(None),
        count => source.read_exact(length.get_mut(count..).unwrap_or_default())?,
    }
    life.touch();
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut body = Vec::new();
    // Grows with what arrives, so that a length alone costs nothing.
    if source.take(length as u64).read_to_end(&mut body)? != length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_slice(&body).map_err(|_| ErrorKind::InvalidData)?))
}

/// Copies both ways until either end closes; then closes the other.
pub fn bridge(a: UnixStream, b: UnixStream) -> io::Result<()> {
    pump(a.try_clone()?, b.try_clone()?)?;
    pump(b, a)
}

fn pump(mut from: UnixStream, mut to: UnixStream) -> io::Result<()> {
    let copy = move || {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            if to.write_all(buffer.get(..count).unwrap_or_default()).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    };
    thread::Builder::new().name("device".into()).spawn(copy).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::State;

    #[tokio::test]
    async fn frames_become_messages_and_bad_ones_end_the_channel() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let life = Arc::new(Life::new());
        let mut messages = inbox(host, Arc::clone(&life)).unwrap();
        let body = br#"{"later":1}"#;
        guest.write_all(&[&[0, 0, 0, 11], &body[..]].concat()).unwrap();
        guest.write_all(b"\0\0\0\x13{\"state\":\"booting\"}").unwrap();
        assert_eq!(messages.recv().await, Some(Message::State(State::Booting)));
        assert!(life.stirred());
        guest.write_all(&[0, 0x20, 0, 1]).unwrap();
        assert_eq!(messages.recv().await, None, "2 MiB and one byte");
    }

    #[test]
    fn garbage_is_an_error_never_a_panic() {
        let life = Life::new();
        for bytes in [&b"\0\0"[..], b"\xff\xff\xff\xff", b"\0\0\0\x02{]", b"\0\0\0\x09{}", b"\0\0\0\0"] {
            assert!(next_frame(&mut &*bytes, &life).is_err());
        }
        assert!(next_frame(&mut &b""[..], &life).unwrap().is_none());
    }

    #[test]
    fn a_guest_that_does_not_read_costs_a_bounded_number_of_frames() {
        let (_guest, host) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(host).unwrap();
        let large = json!({ "x": "y".repeat(1 << 20) });
        let refused = (0..=OUTBOX + 2).find_map(|_| outbox.post(&large).err()).unwrap();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        let refused = outbox.post(&json!({ "x": "y".repeat(MAX_FRAME) })).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_bridge_carries_bytes_and_the_end() {
        let ((mut a, near), (far, mut b)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        bridge(near, far).unwrap();
        a.write_all(b"question").unwrap();
        let mut text = [0; 8];
        b.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"question");
        b.write_all(b"answer").unwrap();
        drop(b);
        let mut text = String::new();
        a.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer");
    }
}
