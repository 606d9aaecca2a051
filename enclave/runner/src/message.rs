//! Turns messages between the gate and a runner into frames of bytes, and whatever comes out of a socket into messages or a refusal.
//! It does not say that a message makes sense: its numbers, names and sizes are whatever the other side wrote.
//!
//! Orders go over one socket (jobs), stops over another (stops), and back over that one go the reports: with one way for each, and nobody
//! waiting at the wrong end, no process is woken for a message that was merely taken out.
//!
//! A frame is the length of what follows (u32, little-endian, 1 to 2^20) and one message in postcard's form. What both sides know
//! already is not sent again: an input or output is the number of its port, whose name and datatype nobody can get wrong then.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vouchsafe_oip::Ports;

use crate::message::layout::Layout;

pub mod layout;
pub mod ports;

/// No message is longer, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;
/// So many bytes say how long a message is.
const PREFIX: usize = 4;

/// How a graph reaches ONNX Runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Through a pipe, while it is unsealed.
    Pipe,
    /// From a buffer that holds all of it, wiped afterwards.
    Buffer,
}

impl Delivery {
    /// Its word in public events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Buffer => "buffer",
        }
    }
}

/// From the gate. Trusted: the gate knows all that a runner knows.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The first message; the reading end of the model's pipe comes with it.
    Load(Load),
    /// Every other.
    Run(Run),
}

/// A model is to be loaded out of the pipe: external data in this order, then the graph.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// ONNX Runtime's threads for one operator.
    pub threads: usize,
    /// What becomes of the graph.
    pub delivery: Delivery,
    /// Names and lengths in bytes.
    pub external: Vec<(String, u64)>,
    /// The graph's length in bytes.
    pub graph_len: u64,
    /// Where tensors lie.
    pub layout: Layout,
}

/// Inputs lie in a slot's request half: run the model on them.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Rises with every run.
    pub job: u64,
    /// Where.
    pub slot: usize,
    /// The inputs: number of the port, and place.
    pub inputs: Vec<(usize, Place)>,
    /// The wanted outputs' numbers.
    pub outputs: Vec<usize>,
}

/// Where a tensor lies in a half of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Bytes from the half's beginning.
    pub at: usize,
    /// Bytes.
    pub len: usize,
}

/// From the runner. Hostile: whoever took over the runner wrote it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The model is loaded, and these are its ports.
    Loaded(Ports),
    /// The model is not loaded.
    Refused(Refusal),
    /// The outputs lie in the slot's answer half, in the wanted order.
    Done(u64, Vec<Place>),
    /// The run has no answer, and the slot's answer half holds nothing.
    Failed(u64, Failure),
}

/// Why a model is not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The pipe held less or more than was announced, or ONNX Runtime cannot read it.
    Stream,
    /// ONNX Runtime refuses the graph.
    Graph,
    /// ONNX Runtime refuses the external data.
    External,
    /// An input or output is no tensor.
    NoTensor,
    /// An input or output has a datatype that is not supported.
    Datatype,
    /// Inputs or outputs have no name, one name, too many dimensions, or there are too many.
    Ports,
    /// There is not enough memory for it.
    Memory,
    /// The runner's own means failed.
    System,
}

/// Why a run has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// ONNX Runtime failed on the inputs, or gave what the model does not declare.
    Engine,
    /// The outputs are larger than the answer half.
    TooLarge,
    /// It was stopped.
    Stopped,
}

/// What came in is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Appends a frame.
///
/// # Errors
/// [`Malformed`] when the message is longer than [`MAX_MESSAGE`]; nothing is appended then.
pub fn write_frame(message: &impl Serialize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let before = out.len();
    let written = append(message, out);
    if written.is_err() {
        out.truncate(before);
    }
    written
}

fn append(message: &impl Serialize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let before = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    postcard::to_io(message, &mut *out).map_err(|_| Malformed)?;
    let frame = out.get_mut(before..).ok_or(Malformed)?;
    let (prefix, body) = frame.split_first_chunk_mut::<PREFIX>().ok_or(Malformed)?;
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_MESSAGE).ok_or(Malformed)?;
    *prefix = len.to_le_bytes();
    Ok(())
}

/// Bytes out of a socket, until they are messages.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl Inbox {
    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        // What was taken goes first, so that it never holds much more than one message and one reading.
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if all of it is there.
    ///
    /// # Errors
    /// [`Malformed`], from then on every time.
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Malformed> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let len = usize::try_from(u32::from_le_bytes(*prefix)).map_err(|_| Malformed)?;
        if len == 0 || len > MAX_MESSAGE {
            return Err(Malformed);
        }
        let Some(body) = rest.get(..len) else { return Ok(None) };
        match postcard::take_from_bytes(body) {
            Ok((message, [])) => {
                self.taken += PREFIX + len;
                Ok(Some(message))
            }
            _ => Err(Malformed),
        }
    }

    /// Whether bytes are left that are no whole message.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vouchsafe_oip::{Dtype, Port};

    fn reports() -> Vec<Report> {
        let port = |name: &str, dtype| Port { name: name.into(), dtype, shape: vec![-1, 3] };
        let ports = Ports { inputs: vec![port("x", Dtype::F32)], outputs: vec![port("y", Dtype::Bytes)] };
        let places = vec![Place { shape: vec![2, 3], at: 64, len: 24 }, Place { shape: vec![], at: 128, len: 4 }];
        vec![
            Report::Loaded(ports),
            Report::Refused(Refusal::Graph),
            Report::Done(7, places),
            Report::Failed(u64::MAX, Failure::TooLarge),
        ]
    }

    fn frames(messages: &[impl Serialize]) -> Vec<u8> {
        let mut out = Vec::new();
        messages.iter().for_each(|message| write_frame(message, &mut out).unwrap());
        out
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut() {
        let bytes = frames(&reports());
        for step in [1, 2, 3, 5, 64, bytes.len()] {
            let (mut inbox, mut out) = (Inbox::default(), Vec::new());
            for piece in bytes.chunks(step) {
                inbox.push(piece);
                while let Some(report) = inbox.next::<Report>().unwrap() {
                    out.push(report);
                }
            }
            assert_eq!(out, reports(), "pieces of {step}");
            assert!(inbox.is_empty());
        }
        let layout = Layout::new(2, 100, 200).unwrap();
        let external = vec![("w.bin".to_owned(), 5)];
        let load = Load { threads: 2, delivery: Delivery::Pipe, external, graph_len: 100, layout };
        let inputs = vec![(0, Place { shape: vec![1], at: 0, len: 4 })];
        let orders = [Order::Load(load), Order::Run(Run { job: 1, slot: 1, inputs, outputs: vec![0, 3] })];
        let mut inbox = Inbox::default();
        inbox.push(&frames(&orders));
        for order in orders {
            assert_eq!(inbox.next::<Order>(), Ok(Some(order)));
        }
        assert_eq!(inbox.next::<Order>(), Ok(None));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let read = |bytes: &[u8]| {
            let mut inbox = Inbox::default();
            inbox.push(bytes);
            inbox.next::<Report>()
        };
        let frame = |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat();
        // Failed(5, Stopped)
        assert_eq!(read(&frame(&[3, 5, 2])), Ok(Some(Report::Failed(5, Failure::Stopped))), "control");
        assert_eq!(read(&frame(&[3, 5])), Err(Malformed), "too short");
        assert_eq!(read(&frame(&[3, 5, 2, 0])), Err(Malformed), "more behind it");
        assert_eq!(read(&frame(&[3, 5, 9])), Err(Malformed), "no such reason");
        assert_eq!(read(&frame(&[9, 5, 2])), Err(Malformed), "no such message");
        assert_eq!(read(&[0, 0, 0, 0]), Err(Malformed), "nothing");
        assert_eq!(read(&[0xFF; 4]), Err(Malformed), "too long, before any of it came");
        let most = u32::try_from(MAX_MESSAGE).unwrap();
        assert_eq!(read(&(most + 1).to_le_bytes()), Err(Malformed));
        assert_eq!(read(&most.to_le_bytes()), Ok(None), "control");
        // Done(0) with 2^63 places, of which none comes: no memory is taken for what is only promised.
        let promised = [&[2, 0][..], &[0xFF; 9], &[1]].concat();
        assert_eq!(read(&frame(&promised)), Err(Malformed));
    }

    #[test]
    fn a_message_that_is_too_long_is_not_written() {
        let mut out = vec![1, 2, 3];
        let long = Report::Done(1, vec![Place { shape: vec![usize::MAX; MAX_MESSAGE / 10], at: 0, len: 0 }]);
        assert_eq!(write_frame(&long, &mut out), Err(Malformed));
        assert_eq!(out, [1, 2, 3]);
    }
}
