//! Turns what gate and nursery say to each other into single packets with descriptors, and back.
//! Both are this program, so that nothing here is hostile: what does not decode is a defect, and ends the conversation.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{RunnerError, Wall};

/// The longest packet is much shorter than this.
const LONGEST: usize = 256;
/// The descriptors of a runner.
const MOST: usize = 3;

/// How much a runner may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallLimits {
    /// Bytes of memory beyond what is mapped at its start and the stacks of its threads.
    pub memory_bytes: u64,
    /// Threads besides the first that ONNX Runtime and the runner start.
    pub threads: usize,
    /// Bytes of the memory that it shares with the gate.
    pub shared_bytes: usize,
}

/// How a runner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It has not.
    Running,
    /// By itself, with this exit status.
    Exited(u8),
    /// By this signal: 9 if it was killed or the machine had no memory left, 6 or 11 if it crashed.
    Signalled(u8),
    /// Nobody knows any more: it was long ago.
    Forgotten,
}

/// The gate's questions.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Make a runner, which gets the three descriptors: jobs, stops, memory.
    Hatch { number: u64, limits: WallLimits },
    /// End a runner.
    Kill(u64),
    /// How did a runner end?
    Ending(u64),
}

/// The nursery's answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The library is loaded, if there is one; questions may come.
    Ready,
    /// So be it. With a new runner's descriptor, where one was asked for.
    Done,
    /// So it ended.
    Ending(Ending),
    /// The library could not be loaded.
    OrtLoad,
    /// A wall around the nursery itself could not be raised.
    Walls(Wall),
    /// The library started threads: no process can be forked safely.
    Threads,
    /// There is no process for another runner.
    NoProcess,
}

impl Answer {
    /// What it means where another answer was hoped for.
    pub const fn into_error(self) -> RunnerError {
        match self {
            Self::OrtLoad => RunnerError::OrtLoad,
            Self::Walls(wall) => RunnerError::Walls(wall),
            Self::Threads => RunnerError::System("the ONNX Runtime library started threads"),
            Self::NoProcess => RunnerError::System("start a process"),
            Self::Ready | Self::Done | Self::Ending(_) => RunnerError::Nursery,
        }
    }
}

/// The two ends of a new line.
pub fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one packet.
pub fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    let bytes = postcard::to_allocvec(message).map_err(|_| Errno::INVAL)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    let sent = retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL))?;
    if sent == bytes.len() { Ok(()) } else { Err(Errno::MSGSIZE) }
}

/// Waits for one packet. Nothing when the other end is closed.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> rustix::io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    let message =
        bytes.get(..received.bytes).and_then(|bytes| postcard::from_bytes(bytes).ok()).ok_or(Errno::BADMSG)?;
    Ok(Some((message, descriptors)))
}

/// The same, but not for ever.
pub fn receive_within<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    patience: Duration,
) -> rustix::io::Result<Option<(T, Vec<OwnedFd>)>> {
    let patience = Timespec::try_from(patience).map_err(|_| Errno::INVAL)?;
    let ready = retry_on_intr(|| poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&patience)))?;
    if ready == 0 { Err(Errno::TIMEDOUT) } else { receive(socket) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;

    #[test]
    fn packets_carry_messages_and_descriptors() {
        let (one, two) = pair().unwrap();
        let (from, to) = std::io::pipe().unwrap();
        let limits = WallLimits { memory_bytes: u64::MAX, threads: usize::MAX, shared_bytes: usize::MAX };
        let ask = Ask::Hatch { number: u64::MAX, limits };
        send(one.as_fd(), &ask, &[from.as_fd(), to.as_fd()]).unwrap();
        send(one.as_fd(), &Ask::Kill(7), &[]).unwrap();
        let (got, descriptors) = receive::<Ask>(two.as_fd()).unwrap().unwrap();
        assert_eq!((got, descriptors.len()), (ask, 2));
        let [from, to] = <[OwnedFd; 2]>::try_from(descriptors).unwrap();
        File::from(to).write_all(b"x").unwrap();
        let mut byte = [0];
        File::from(from).read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        let (got, descriptors) = receive_within::<Ask>(two.as_fd(), Duration::from_secs(9)).unwrap().unwrap();
        assert_eq!((got, descriptors.len()), (Ask::Kill(7), 0));
        assert_eq!(receive_within::<Ask>(two.as_fd(), Duration::ZERO).err(), Some(Errno::TIMEDOUT));
        drop(one);
        assert!(receive::<Ask>(two.as_fd()).unwrap().is_none());
    }

    #[test]
    fn answers_that_were_not_hoped_for_are_errors() {
        let code = |answer: Answer| answer.into_error().code();
        assert_eq!(code(Answer::OrtLoad), "ORT_LOAD");
        assert_eq!(code(Answer::Walls(Wall::SystemCalls)), "RUNNER_WALLS");
        assert_eq!(code(Answer::Threads), "SYSTEM");
        assert_eq!(code(Answer::NoProcess), "SYSTEM");
        assert_eq!(code(Answer::Done), "RUNNER_NURSERY");
    }
}
