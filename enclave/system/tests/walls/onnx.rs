//! Turns ONNX Runtime, where there is one, into the proof that the walls leave it what it needs: to load, to use its threads, to answer.
//! It does not prove that it needs all of that.

use std::convert::Infallible;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use vouchsafe_oip::{Dtype, Tensor};
use vouchsafe_runner::{Delivery, Nursery, Parts, Runner, Spec, probe};

use crate::case::say;

const SPEC: Spec = Spec {
    memory_bytes: 1 << 30,
    threads: 2,
    slots: 2,
    request_bytes: 4 << 20,
    answer_bytes: 4 << 20,
    queue: 4,
    grace: Duration::from_secs(1),
    load_limit: Duration::from_secs(60),
    whole_fence: false,
};
/// So many rows and columns are work for more than one thread.
const SIDE: usize = 256;

/// The library, opened by whoever may.
pub fn library() -> Option<File> {
    let folder = PathBuf::from(std::env::var_os("VOUCHSAFE_BIN_DIR")?);
    File::open(folder.join("libonnxruntime.so")).ok()
}

/// Loads a model through a pipe and from a buffer, and runs both.
pub fn run(library: Option<File>) {
    let Some(library) = library else {
        println!("NOT RUN: ONNX Runtime behind the walls: no libonnxruntime.so in VOUCHSAFE_BIN_DIR");
        return;
    };
    let nursery = Nursery::start(&library).unwrap();
    say("the probe", probe(&nursery).as_str(), probe(&nursery) == Delivery::Pipe);
    let graph = graph();
    for delivery in [Delivery::Pipe, Delivery::Buffer] {
        let parts = Parts { delivery, external: Vec::new(), graph_len: graph.len() as u64 };
        let runner = Runner::load(&nursery, &SPEC, &parts, |feed| {
            feed.write(&graph);
            Ok::<(), Infallible>(())
        });
        let runner = runner.unwrap();
        say("a product", delivery.as_str(), multiply(&runner));
    }
}

/// Rows of ones times columns of ones: every element is the number of rows.
fn multiply(runner: &Runner) -> bool {
    let ones: Vec<u8> = (0..SIDE * SIDE).flat_map(|_| 1_f32.to_le_bytes()).collect();
    let x = Tensor { name: "x".into(), dtype: Dtype::F32, shape: vec![SIDE, SIDE], data: Bytes::from(ones) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (inputs, outputs) = ([x], ["y".to_owned()]);
    let run = runner.run(&inputs, &outputs, Instant::now() + Duration::from_secs(60));
    let answer = runtime.block_on(run).unwrap();
    let all = answer[0].data.chunks(4).all(|element| element == (SIDE as f32).to_le_bytes());
    // While there is a runtime that would hear of its end.
    answer[0].shape == [SIDE, SIDE] && all && runner.is_running()
}

/// `y = MatMul(x, x)`, with `x` and `y` float[?, ?]; onnx.proto has the numbers.
fn graph() -> Vec<u8> {
    let field = |number: u8, body: &[u8]| [&[number << 3 | 2, u8::try_from(body.len()).unwrap()], body].concat();
    let dimension = field(1, &field(2, b"N"));
    let tensor = [&[1 << 3, 1][..], &field(2, &[&dimension[..], &dimension].concat())].concat();
    let value = |name: &[u8]| [field(1, name), field(2, &field(1, &tensor))].concat();
    let node = [field(1, b"x"), field(1, b"x"), field(2, b"y"), field(4, b"MatMul")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &value(b"x")), field(12, &value(b"y"))].concat();
    [&[1 << 3, 8][..], &field(7, &graph), &field(8, &[2 << 3, 13])].concat()
}
