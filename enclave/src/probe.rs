//! Turns a tiny model that is built in into the answer whether this ONNX Runtime, as it is fenced, loads models through a pipe.
//! No document promises that it does, so it is asked at every start; what it did with a tiny model it is taken to do with others.

use std::path::Path;

use crate::engine::{Engine, Graph, Runtime};
use crate::error::EnclaveError;
use crate::pipe::{self, Feed};

/// How a graph that has no external data reaches ONNX Runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// `ir_version: 8`, and a graph in which `y = Identity(x)`, both `float[1]`; onnx.proto has the numbers.
const GRAPH: &[u8] = b"\x08\x08\x3A\x37\
    \x0A\x10\x0A\x01x\x12\x01y\x22\x08Identity\
    \x12\x01g\
    \x5A\x0F\x0A\x01x\x12\x0A\x0A\x08\x08\x01\x12\x04\x0A\x02\x08\x01\
    \x62\x0F\x0A\x01y\x12\x0A\x0A\x08\x08\x01\x12\x04\x0A\x02\x08\x01";
/// `opset_import: { version: 13 }`.
const OPSET: &[u8] = b"\x42\x02\x10\x0D";
/// `doc_string` of so many bytes: twice as many as a pipe holds, so that it is read in pieces.
const TEXT: &[u8] = b"\x32\x80\x80\x80\x01";
const TEXT_LEN: usize = 1 << 21;

/// What the library is asked for.
struct Case {
    /// The model, or its beginning.
    parts: [&'static [u8]; 2],
    /// Whether the stream ends there, as after a model that was accepted.
    whole: bool,
}

/// Whole, cut between two fields, cut within the last one, and spoiled behind the last one.
const CASES: [Case; 4] = [
    Case { parts: [GRAPH, OPSET], whole: true },
    Case { parts: [GRAPH, &[]], whole: false },
    Case { parts: [GRAPH, b"\x42\x02\x10"], whole: false },
    Case { parts: [GRAPH, OPSET], whole: false },
];

/// [`Delivery::Pipe`] if the library loads a whole model and none that was refused on its way.
#[must_use]
pub fn delivery(runtime: &Runtime) -> Delivery {
    judge(|path| {
        let engine = Engine::load(runtime, Graph::Pipe(path), Vec::new(), 1)?;
        let names = |ports: &[crate::engine::Port]| ports.iter().map(|port| port.name.clone()).collect::<Vec<_>>();
        Ok(names(&engine.ports().inputs) == ["x"] && names(&engine.ports().outputs) == ["y"])
    })
}

/// The same of any reader of models.
fn judge(load: impl Fn(&Path) -> Result<bool, EnclaveError>) -> Delivery {
    let right = |case: &Case| {
        let write = |feed: &mut Feed| {
            feed.write(TEXT);
            feed.write(&vec![b'.'; TEXT_LEN]);
            case.parts.iter().for_each(|part| feed.write(part));
            if case.whole { Ok(()) } else { Err(EnclaveError::ModelUnsupported("a model that is refused")) }
        };
        let mut loaded = Ok(false);
        let through = pipe::through(write, |path| {
            loaded = load(path);
            Ok(())
        });
        if case.whole { through.is_ok() && loaded == Ok(true) } else { loaded.is_err() }
    };
    if CASES.iter().all(right) { Delivery::Pipe } else { Delivery::Buffer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::runtime;
    use std::fs::{self, File};
    use std::io::Read as _;

    /// A reader of models that knows the whole ones.
    fn reads(path: &Path, take: impl Fn(File) -> Vec<u8>) -> Result<bool, EnclaveError> {
        let model = take(File::open(path).unwrap());
        let text = [TEXT, &vec![b'.'; TEXT_LEN]].concat();
        if model == [&text[..], GRAPH, OPSET].concat() {
            return Ok(true);
        }
        Err(EnclaveError::ModelUnsupported("something else"))
    }

    fn some(mut file: File, at_most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.by_ref().take(at_most as u64).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_reader_that_takes_whole_models_and_no_others_gets_a_pipe() {
        // One byte more than the model is enough to see that it is spoiled.
        let more = TEXT.len() + TEXT_LEN + GRAPH.len() + OPSET.len() + 1;
        assert_eq!(judge(|path| reads(path, |file| some(file, more))), Delivery::Pipe);
    }

    #[test]
    fn every_other_reader_gets_a_buffer() {
        let never = |_: &Path| Err(EnclaveError::ModelUnsupported("it is no file"));
        assert_eq!(judge(never), Delivery::Buffer, "does not read pipes");
        assert_eq!(judge(|_| Ok(true)), Delivery::Buffer, "is content without reading");
        assert_eq!(judge(|_| Ok(false)), Delivery::Buffer, "loads another model");
        let exact = TEXT.len() + TEXT_LEN + GRAPH.len() + OPSET.len();
        let early = |path: &Path| reads(path, |file| some(file, exact));
        assert_eq!(judge(early), Delivery::Buffer, "does not look behind the last field");
        let by_length = |path: &Path| {
            let length = fs::metadata(path).unwrap().len();
            reads(path, |file| some(file, usize::try_from(length).unwrap()))
        };
        assert_eq!(judge(by_length), Delivery::Buffer, "believes the length that a pipe does not have");
    }

    #[test]
    fn onnx_runtime_gets_a_pipe() {
        let Some(runtime) = runtime("onnx_runtime_gets_a_pipe") else { return };
        assert_eq!(runtime.delivery(), Delivery::Buffer, "until it is probed");
        assert_eq!(runtime.clone().probed().delivery(), Delivery::Pipe);
        assert_eq!((Delivery::Pipe.as_str(), Delivery::Buffer.as_str()), ("pipe", "buffer"));
    }

    #[test]
    fn the_built_in_model_passes_the_pre_flight() {
        use vouchsafe_preflight::{Limits, Walker};
        let mut walker = Walker::new(Limits::default(), Vec::new());
        walker.feed(&[GRAPH, OPSET].concat()).unwrap();
        assert_eq!(walker.finish().unwrap().nodes, 1);
    }
}
