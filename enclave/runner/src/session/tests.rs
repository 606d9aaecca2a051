//! Turns tiny models, written out byte by byte, into sessions and answers.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use half::{bf16, f16};

use super::*;
use graphs::{add, endless, floats, identity, weights, zeros};

pub mod graphs;

/// ONNX Runtime, loaded once for all tests of this process. Nothing where there is no library.
pub fn library(test: &str) -> Option<()> {
    let path = std::env::var_os("VOUCHSAFE_BIN_DIR").map(|folder| PathBuf::from(folder).join("libonnxruntime.so"));
    let Some(path) = path.filter(|path| path.exists()) else {
        println!("NOT RUN: {test}: no libonnxruntime.so in VOUCHSAFE_BIN_DIR");
        return None;
    };
    open_library(&path).unwrap();
    Some(())
}

/// Memory that begins where tensors begin.
struct Aligned(Vec<u128>, usize);

impl Aligned {
    fn of(bytes: &[u8]) -> Self {
        let mut words = vec![0_u128; bytes.len().div_ceil(16)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self(words, bytes.len())
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..self.1]
    }
}

type Outputs = Vec<(Vec<usize>, Vec<u8>)>;

fn run(model: &mut Model, inputs: &[(usize, &[usize], &[u8])], wanted: &[usize]) -> Result<Outputs, Failure> {
    let memory: Vec<Aligned> = inputs.iter().map(|(_, _, bytes)| Aligned::of(bytes)).collect();
    let given: Vec<Given<'_>> = inputs
        .iter()
        .zip(&memory)
        .map(|((port, shape, _), memory)| Given { port: *port, shape, bytes: memory.bytes() })
        .collect();
    let mut outputs = Vec::new();
    model.run(&given, wanted, &mut |shape, bytes| {
        outputs.push((shape.to_vec(), bytes.to_vec()));
        true
    })?;
    Ok(outputs)
}

#[test]
fn opening_the_library_starts_no_thread() {
    // In a process of its own, of which this is the only test.
    const ALONE: &str = "VOUCHSAFE_TEST_ALONE";
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let Some(()) = library("opening_the_library_starts_no_thread") else { return };
    if std::env::var_os(ALONE).is_some() {
        println!("{} more threads", threads() - before);
        return;
    }
    let name = "session::tests::opening_the_library_starts_no_thread";
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(said.contains("0 more threads"), "{said}");
}

#[test]
fn models_run_from_memory() {
    let Some(()) = library("models_run_from_memory") else { return };
    let mut inside = Model::load(Graph::Bytes(&add(false)), vec![], 1).unwrap();
    let port = |name: &str| Port { name: name.into(), dtype: Dtype::F32, shape: vec![-1, 2] };
    assert_eq!(*inside.ports(), Ports { inputs: vec![port("x")], outputs: vec![port("y")] });
    let x = floats(&[0.0, 1.0, 2.0, 3.0]);
    let expected = vec![(vec![2, 2], floats(&[10.0, 21.0, 12.0, 23.0]))];
    assert_eq!(run(&mut inside, &[(0, &[2, 2], &x)], &[0]), Ok(expected.clone()));
    assert_eq!(run(&mut inside, &[(0, &[0, 2], &[])], &[0]), Ok(vec![(vec![0, 2], vec![])]));
    assert_eq!(run(&mut inside, &[(0, &[2, 2], &x)], &[]), Ok(vec![]), "nothing is wanted");

    let file = ExternalData { name: "w.bin".into(), bytes: weights().into() };
    let mut outside = Model::load(Graph::Bytes(&add(true)), vec![file], 2).unwrap();
    assert_eq!(run(&mut outside, &[(0, &[2, 2], &x)], &[0]), Ok(expected.clone()));
    for bad in [&[][..], &[(1, &[2, 2][..], &x[..])], &[(0, &[4, 1], &x)], &[(0, &[2, 2], &x[..15])]] {
        assert_eq!(run(&mut outside, bad, &[0]), Err(Failure::Engine));
    }
    assert_eq!(run(&mut outside, &[(0, &[usize::MAX, 2], &x)], &[0]), Err(Failure::Engine));
    assert_eq!(run(&mut outside, &[(0, &[2, 2], &x)], &[1]), Err(Failure::Engine), "no such output");
    assert_eq!(run(&mut outside, &[(0, &[2, 2], &x)], &[0]), Ok(expected), "a failed run harms no later one");
    let memory = Aligned::of(&x);
    let given = [Given { port: 0, shape: &[2, 2], bytes: memory.bytes() }];
    assert_eq!(outside.run(&given, &[0], &mut |_, _| false), Err(Failure::TooLarge));
}

#[test]
fn what_is_no_model_is_refused() {
    let Some(()) = library("what_is_no_model_is_refused") else { return };
    let load = |graph: &[u8]| Model::load(Graph::Bytes(graph), vec![], 1).err();
    assert_eq!(load(&add(false)), None, "control");
    for bad in [&b"no protobuf"[..], &add(true), &add(false)[..60], b""] {
        assert_eq!(load(bad), Some(Refusal::Graph));
    }
    // FLOAT8E4M3FN, which the protocol has no word for.
    assert_eq!(load(&identity(17, &[0])), Some(Refusal::Datatype));
}

#[test]
fn every_datatype_goes_through_unchanged() {
    let Some(()) = library("every_datatype_goes_through_unchanged") else { return };
    let halves = |one: u16, two: u16| [one.to_le_bytes(), two.to_le_bytes()].concat();
    let cases: [(u8, Dtype, Vec<u8>); 14] = [
        (1, Dtype::F32, floats(&[-0.5, f32::NAN])),
        (2, Dtype::U8, vec![0, 255]),
        (3, Dtype::I8, vec![0x80, 0x7F]),
        (4, Dtype::U16, halves(1, u16::MAX)),
        (5, Dtype::I16, halves(1, 0x8000)),
        (6, Dtype::I32, [1_i32, i32::MIN].map(i32::to_le_bytes).concat()),
        (7, Dtype::I64, [1_i64, i64::MIN].map(i64::to_le_bytes).concat()),
        (8, Dtype::Bytes, [&2_u32.to_le_bytes()[..], "ü".as_bytes(), &0_u32.to_le_bytes()].concat()),
        (9, Dtype::Bool, vec![1, 0]),
        (10, Dtype::F16, halves(f16::from_f32(1.5).to_bits(), f16::NEG_INFINITY.to_bits())),
        (11, Dtype::F64, [0.1_f64, f64::MAX].map(f64::to_le_bytes).concat()),
        (12, Dtype::U32, [1_u32, u32::MAX].map(u32::to_le_bytes).concat()),
        (13, Dtype::U64, [1_u64, u64::MAX].map(u64::to_le_bytes).concat()),
        (16, Dtype::Bf16, halves(bf16::from_f32(1.5).to_bits(), 0x8001)),
    ];
    for (ty, dtype, data) in cases {
        let mut model = Model::load(Graph::Bytes(&identity(ty, &[0])), vec![], 1).unwrap();
        assert_eq!(model.ports().inputs[0].dtype, dtype);
        let inputs = [(0, &[2][..], &data[..])];
        assert_eq!(run(&mut model, &inputs, &[0]), Ok(vec![(vec![2], data.clone())]), "{dtype:?}");
        let short = [(0, &[2][..], &data[..data.len() - 1])];
        assert_eq!(run(&mut model, &short, &[0]), Err(Failure::Engine), "{dtype:?}");
        assert_eq!(run(&mut model, &[(0, &[3], &data)], &[0]), Err(Failure::Engine), "{dtype:?}");
    }
}

#[test]
fn what_no_datatype_has_does_not_reach_the_model() {
    let Some(()) = library("what_no_datatype_has_does_not_reach_the_model") else { return };
    let mut truth = Model::load(Graph::Bytes(&identity(9, &[0])), vec![], 1).unwrap();
    assert!(run(&mut truth, &[(0, &[2], &[0, 1])], &[0]).is_ok(), "control");
    assert_eq!(run(&mut truth, &[(0, &[2], &[0, 2])], &[0]), Err(Failure::Engine));
    let mut text = Model::load(Graph::Bytes(&identity(8, &[0])), vec![], 1).unwrap();
    let framed = |text: &[u8]| [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text].concat();
    assert!(run(&mut text, &[(0, &[1], &framed(b"a"))], &[0]).is_ok(), "control");
    for bad in [framed(b"a\0b"), framed(b"\xFF"), vec![5, 0, 0, 0, b'a'], vec![0xFF; 4]] {
        assert_eq!(run(&mut text, &[(0, &[1], &bad)], &[0]), Err(Failure::Engine), "{bad:?}");
    }
}

#[test]
fn an_output_of_another_shape_than_declared_leaves_as_it_is() {
    let Some(()) = library("an_output_of_another_shape_than_declared_leaves_as_it_is") else { return };
    let mut model = Model::load(Graph::Bytes(&identity(1, &[3])), vec![], 1).unwrap();
    let x = floats(&[1.0, 2.0, 3.0, 4.0]);
    assert!(run(&mut model, &[(0, &[3], &x[..12])], &[0]).is_ok(), "control");
    // Models declare wrongly, and ONNX Runtime only warns.
    assert_eq!(run(&mut model, &[(0, &[4], &x)], &[0]), Ok(vec![(vec![4], x.clone())]));
}

#[test]
fn more_than_there_is_memory_for_is_a_failed_run() {
    let Some(()) = library("more_than_there_is_memory_for_is_a_failed_run") else { return };
    let mut model = Model::load(Graph::Bytes(&zeros()), vec![], 1).unwrap();
    for (count, ends) in [(3, Ok(vec![(vec![3], vec![0; 12])])), (1_i64 << 50, Err(Failure::Engine))] {
        assert_eq!(run(&mut model, &[(0, &[1], &count.to_le_bytes())], &[0]), ends, "{count}");
    }
}

#[test]
fn a_run_ends_when_it_is_told_to_and_the_next_one_runs() {
    let Some(()) = library("a_run_ends_when_it_is_told_to_and_the_next_one_runs") else { return };
    let mut model = Model::load(Graph::Bytes(&endless()), vec![], 1).unwrap();
    let (options, x) = (model.options(), floats(&[7.0]));
    let stop = options.clone();
    let stopping = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        stop.terminate().unwrap();
    });
    let round = |times: i64| times.to_le_bytes();
    // Centuries.
    assert_eq!(run(&mut model, &[(0, &[], &round(i64::MAX)), (1, &[1], &x)], &[0]), Err(Failure::Engine));
    stopping.join().unwrap();
    options.unterminate().unwrap();
    assert_eq!(run(&mut model, &[(0, &[], &round(3)), (1, &[1], &x)], &[0]), Ok(vec![(vec![1], x.clone())]));
}
