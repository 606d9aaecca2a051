//! Reads the memory of an enclave that has just loaded a model, as the root of its host could under simulation: no row of the weights
//! stands there as the vendor wrote it, only ONNX Runtime's packed layout, in the model's runner. It does not look into registers or swap.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{collections::HashMap, fs, path::Path};

use vouchsafe_tests::{
    Scene,
    memory::{Looked, look},
    processes::{Family, is_root},
    scene::{copy_dir, told},
};

/// 4 KiB each: a whole page of memory.
const COLUMNS: usize = 1024;
const ROWS: usize = 64;

/// One field of a protobuf message: a number, or bytes.
fn number(field: u8, value: usize) -> Vec<u8> {
    [vec![field << 3], varint(value)].concat()
}

fn bytes(field: u8, body: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2], varint(body.len()), body.to_vec()].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 128 {
        out.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A value `name: float[N, columns]`.
fn value(name: &str, columns: usize) -> Vec<u8> {
    let shape = [bytes(1, &bytes(2, b"N")), bytes(1, &number(1, columns))].concat();
    let tensor = [number(1, 1), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// Floats from 0.5 up to 1, different in every place.
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        0x3F00_0000 | (state >> 40) as u32 & 0x007F_FFFF
    };
    (0..count).flat_map(|_| next().to_le_bytes()).collect()
}

/// `y = x · w + b`: the kernel of the product packs `w`, and keeps `b` as it is.
fn model(w: &[u8], b: &[u8]) -> Vec<u8> {
    let node = |inputs: [&str; 2], output: &str, operator: &str| {
        let inputs = inputs.map(|name| bytes(1, name.as_bytes())).concat();
        [inputs, bytes(2, output.as_bytes()), bytes(4, operator.as_bytes())].concat()
    };
    let tensor = |name: &str, dims: &[usize], data: &[u8]| {
        let dims: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim)).collect();
        [dims, number(2, 1), bytes(8, name.as_bytes()), bytes(9, data)].concat()
    };
    let graph = [
        bytes(1, &node(["x", "w"], "p", "MatMul")),
        bytes(1, &node(["p", "b"], "y", "Add")),
        bytes(2, b"rows"),
        bytes(5, &tensor("w", &[ROWS, COLUMNS], w)),
        bytes(5, &tensor("b", &[COLUMNS], b)),
        bytes(11, &value("x", ROWS)),
        bytes(12, &value("y", COLUMNS)),
    ]
    .concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

/// How often each row stands, whole, in the process's writable memory, and how many bytes were looked at.
fn found(process: u32, rows: &[&[u8]]) -> (Vec<usize>, Looked) {
    let starts: HashMap<[u8; 16], usize> =
        rows.iter().enumerate().map(|(n, row)| (*row.first_chunk().unwrap(), n)).collect();
    assert_eq!(starts.len(), rows.len(), "every row begins in its own way");
    let mut counts = vec![0; rows.len()];
    let looked = look(process, |_, bytes| {
        // Floats are kept at multiples of four; within a protobuf they may begin anywhere.
        for at in 0..bytes.len().saturating_sub(4 * COLUMNS - 1) {
            // Every float begins so in its last byte: most places are done with here.
            if bytes[at + 3] != 0x3F {
                continue;
            }
            let row = bytes[at..].first_chunk().and_then(|start| starts.get(start));
            if let Some(n) = row.filter(|n| bytes[at..].starts_with(rows[**n])) {
                counts[*n] += 1;
            }
        }
    });
    (counts, looked)
}

#[test]
fn after_loading_no_row_of_the_weights_is_left_outside_the_packed_layout() {
    if !is_root() {
        println!("NOT RUN: rows in memory: /proc of a process without dumps is closed to its user");
        return;
    }
    let (w, b) = (noise(ROWS * COLUMNS, 0x5EED), noise(COLUMNS, 0xB1A5));
    let scene = Scene::new();
    fs::write(scene.at("rows.onnx"), model(&w, &b)).unwrap();
    let [model, key, to, out, wrapped, state] =
        ["rows.onnx", "vendor/manifest.key", "vendor/broker.pub", "vendor/v3", "vendor/v3.key.json", "broker/state"]
            .map(|name| scene.at(name));
    let words = ["seal", &model, "--id", "breast-cancer", "--sequence", "3", "--sign-with", &key, "--to", &to];
    let rest = ["--out", &out, "--wrapped", &wrapped, "--rehearsal"];
    assert_eq!(told(&[&words[..], &rest].concat()), (0, "accepted".to_owned()));
    let import = ["broker", "import", &state, "--package", &out, "--key", &wrapped];
    assert_eq!(told(&import), (0, "accepted".to_owned()));
    let served = scene.at("operator/models/breast-cancer");
    fs::remove_dir_all(&served).unwrap();
    copy_dir(Path::new(&out), Path::new(&served));

    let (_broker, _) = scene.broker();
    let (launcher, _) = scene.serve();
    let family = Family::of(launcher.pid());
    assert_eq!(family.runners.len(), 1, "{family:?}");
    let rows: Vec<&[u8]> = w.chunks(4 * COLUMNS).chain([&b[..]]).collect();
    let (counts, looked) = found(family.runners[0], &rows);
    let (bias, weights) = counts.split_last().unwrap();
    let left: usize = weights.iter().sum();
    println!(
        "runner: {left} of {ROWS} rows of 4 KiB left in {looked:?}; the row that is not packed stands there {bias} times"
    );
    assert!(*bias >= 1, "control: a row that ONNX Runtime keeps as it is, is found");
    assert_eq!(left, 0, "copies of weight rows outside of the packed layout: {weights:?}");
    // The model went through the gate and is another process's; who forked that process never had it.
    for (who, process) in [("gate", family.gate), ("nursery", family.nursery)] {
        let (counts, looked) = found(process, &rows);
        println!("{who}: {} rows in {looked:?}", counts.iter().sum::<usize>());
        assert_eq!(counts, vec![0; rows.len()], "rows in the memory of the {who}");
        assert!(looked.own > 1 << 20, "control: the {who}'s memory was read: {looked:?}");
    }
}
