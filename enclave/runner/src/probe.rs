//! Turns a tiny model that is built in into the answer whether this ONNX Runtime, behind a runner's walls, loads models through a pipe.
//! No document promises that it does, so it is asked at every start; what it did with a tiny model it is taken to do with others.

use std::time::Duration;

use vouchsafe_oip::Port;

use crate::feed::Feed;
use crate::gate::{self, Parts, Spec};
use crate::message::Delivery;
use crate::nursery::Nursery;

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

/// Much for so small a model.
const SPEC: Spec = Spec {
    memory_bytes: 1 << 30,
    threads: 1,
    slots: 1,
    request_bytes: 1,
    answer_bytes: 1,
    queue: 0,
    grace: Duration::ZERO,
    load_limit: Duration::from_secs(30),
    whole_fence: false,
};

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

/// [`Delivery::Pipe`] if the library loads a whole model and none that was refused on its way. Blocks, for some hundredths of a second.
#[must_use]
pub fn probe(nursery: &Nursery) -> Delivery {
    judge(|case| {
        let ports = gate::ask(nursery, &SPEC, &parts(case), |feed| case.feed(feed))?;
        let named = |ports: &[Port], name| matches!(ports, [port] if port.name == name);
        Some(named(&ports.inputs, "x") && named(&ports.outputs, "y"))
    })
}

/// The same of anybody who loads models, and says whether it was the right one; nothing when it refused.
fn judge(load: impl Fn(&Case) -> Option<bool>) -> Delivery {
    let right = |case: &Case| if case.whole { load(case) == Some(true) } else { load(case).is_none() };
    if CASES.iter().all(right) { Delivery::Pipe } else { Delivery::Buffer }
}

impl Case {
    fn feed(&self, feed: &mut Feed) -> Result<(), ()> {
        feed.write(TEXT);
        feed.write(&vec![b'.'; TEXT_LEN]);
        self.parts.iter().for_each(|part| feed.write(part));
        if self.whole { Ok(()) } else { Err(()) }
    }
}

fn parts(case: &Case) -> Parts {
    let len = TEXT.len() + TEXT_LEN + case.parts.iter().map(|part| part.len()).sum::<usize>();
    Parts { delivery: Delivery::Pipe, external: Vec::new(), graph_len: u64::try_from(len).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_takes_whole_models_and_no_others_gets_a_pipe() {
        assert_eq!(judge(|case| case.whole.then_some(true)), Delivery::Pipe);
    }

    #[test]
    fn every_other_reader_gets_a_buffer() {
        assert_eq!(judge(|_| None), Delivery::Buffer, "does not read pipes");
        assert_eq!(judge(|_| Some(true)), Delivery::Buffer, "is content with what was refused");
        assert_eq!(judge(|case| case.whole.then_some(false)), Delivery::Buffer, "loads another model");
        for content in &CASES[1..] {
            let loads = |case: &Case| (case.whole || case.parts == content.parts).then_some(true);
            assert_eq!(judge(loads), Delivery::Buffer, "{:?}", content.parts);
        }
    }

    #[test]
    fn the_built_in_model_is_one() {
        let Some(()) = crate::session::tests::library("the_built_in_model_is_one") else { return };
        use crate::session::{Graph, Model};
        let load = |parts: &[&[u8]]| Model::load(Graph::Bytes(&parts.concat()), Vec::new(), 1).is_ok();
        assert!(load(&[GRAPH, OPSET]));
        assert!(!load(&CASES[1].parts) && !load(&CASES[2].parts) && !load(&[GRAPH, OPSET, b"\xFF\xFF"]));
    }
}
