//! Turns the gate's first message, and the pipe that comes with it, into a loaded model.
//! It does not look into the model: the gate's pre-flight has read every byte before the last of them come through the pipe.

use std::io::{self, IoSliceMut, PipeReader, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use vouchsafe_system::SecretBuffer;

use crate::message::layout::Layout;
use crate::message::{Delivery, Inbox, Load, Order, Refusal};
use crate::session::{ExternalData, Graph, Model};
use crate::walls::Raised;

/// How the loading ended without a model.
pub enum Failed {
    /// The gate is to be told why.
    Refused(Refusal),
    /// The gate is gone.
    Ended,
    /// The gate does not speak this protocol.
    Broken,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Reads the first message and does what it says. The pipe is closed afterwards, whatever became of it, so that its writer does not wait.
pub fn first(jobs: &UnixStream, raised: &Raised) -> Result<(Model, Layout), Failed> {
    let (load, pipe) = receive(jobs)?;
    Ok((model(&load, PipeReader::from(pipe), raised)?, load.layout))
}

fn receive(jobs: &UnixStream) -> Result<(Load, OwnedFd), Failed> {
    let (mut inbox, mut pipe) = (Inbox::default(), None);
    loop {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = match recvmsg(jobs, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => received.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return Err(Failed::Broken),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                pipe = descriptors.last().or(pipe);
            }
        }
        if received == 0 {
            return Err(if inbox.is_empty() { Failed::Ended } else { Failed::Broken });
        }
        inbox.push(bytes.get(..received).unwrap_or_default());
        match inbox.next::<Order>() {
            Ok(Some(Order::Load(load))) if inbox.is_empty() => return Ok((load, pipe.ok_or(Failed::Broken)?)),
            Ok(None) => {}
            _ => return Err(Failed::Broken),
        }
    }
}

fn model(load: &Load, mut pipe: PipeReader, raised: &Raised) -> Result<Model, Refusal> {
    let mut external = Vec::with_capacity(load.external.len());
    for (name, len) in &load.external {
        external.push(ExternalData { name: name.clone(), bytes: file(&mut pipe, *len)? });
    }
    match load.delivery {
        Delivery::Pipe => Model::load(Graph::Pipe(&raised.path_of(&pipe)), external, load.threads),
        Delivery::Buffer => {
            let len = usize::try_from(load.graph_len).map_err(|_| Refusal::Memory)?;
            let mut graph = SecretBuffer::new(len).map_err(|_| Refusal::Memory)?;
            pipe.read_exact(graph.as_mut_slice()).map_err(|_| Refusal::Stream)?;
            // What was refused on its way goes on behind its end.
            ended(&mut pipe)?;
            Model::load(Graph::Bytes(graph.as_slice()), external, load.threads)
        }
    }
}

/// A file of external data, read to where ONNX Runtime will use it: its binding takes no other memory than this.
fn file(pipe: &mut PipeReader, len: u64) -> Result<Arc<[u8]>, Refusal> {
    let len = usize::try_from(len).map_err(|_| Refusal::Memory)?;
    // Memory for an Arc is had or the program ends: ask first, in a way that may be refused and touches no page.
    if !vouchsafe_system::has_room(len) {
        return Err(Refusal::Memory);
    }
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, len).collect();
    let place = Arc::get_mut(&mut bytes).ok_or(Refusal::System)?;
    vouchsafe_system::leave_out_of_dumps(place);
    pipe.read_exact(place).map_err(|_| Refusal::Stream)?;
    Ok(bytes)
}

fn ended(pipe: &mut impl Read) -> Result<(), Refusal> {
    loop {
        match pipe.read(&mut [0]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err(Refusal::Stream),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Refusal::Stream),
        }
    }
}
