//! Turns a played story's folder into the canaries: the keys, the rows of the weights, one row of the customer's data.
//! It holds in clear what nobody else may; it prints none of it.

use std::{fs, path::Path};

use serde_json::Value;
use vouchsafe_release::WrapSecret;

use super::needles::Canary;

/// Bytes of a weight row.
const ROW: usize = 64;

/// Every canary of the world in `dir`.
pub fn of(dir: &Path) -> Vec<Canary> {
    let state = dir.join("broker/state");
    let secret = |name: &str| -> [u8; 32] { fs::read(state.join(name)).unwrap().try_into().unwrap() };
    let wrap = WrapSecret::from_bytes(&secret("wrap.key")).unwrap();
    let mut canaries = vec![key("key-encryption key", &secret("kek")), key("wrapping key", &secret("wrap.key"))];
    for sequence in 1..=2 {
        let wrapped = fs::read(dir.join(format!("vendor/v{sequence}.key.json"))).unwrap();
        canaries.push(key(&format!("model key {sequence}"), wrap.unwrap_key(&wrapped).unwrap().key.expose()));
    }
    let model = fs::read(dir.join("breast-cancer.onnx")).unwrap();
    let mut rows = 0;
    for (tensor, bytes) in initialisers(&model).into_iter().enumerate() {
        for (n, row) in bytes.chunks_exact(ROW).enumerate().filter(|(_, row)| !trivial(row)) {
            let name = format!("weights {tensor}/{n}");
            canaries.push(Canary { name, whole: row.to_vec(), piece: ROW });
            rows += 1;
        }
    }
    assert!(rows >= 30, "{rows} weight rows: is this the example model?");
    canaries.extend(first_row(&fs::read(dir.join("heldout.json")).unwrap()));
    canaries
}

/// Half a key is a leak.
fn key(name: &str, bytes: &[u8; 32]) -> Canary {
    Canary { name: name.to_owned(), whole: bytes.to_vec(), piece: 16 }
}

/// Zeros and repetitions stand in many files that have nothing to do with this model.
fn trivial(row: &[u8]) -> bool {
    let mut seen = row.to_vec();
    seen.sort_unstable();
    seen.dedup();
    seen.len() < 16
}

/// The first row of the request: as numbers in memory, and as the digits that the customer's file has.
fn first_row(request: &[u8]) -> Vec<Canary> {
    let value: Value = serde_json::from_slice(request).unwrap();
    let input = &value["inputs"][0];
    let width = usize::try_from(input["shape"][1].as_u64().unwrap()).unwrap();
    let numbers: Vec<f64> = input["data"].as_array().unwrap()[..width].iter().map(|n| n.as_f64().unwrap()).collect();
    #[expect(clippy::cast_possible_truncation, reason = "the model takes f32")]
    let single: Vec<u8> = numbers.iter().flat_map(|n| (*n as f32).to_le_bytes()).collect();
    let double: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut rows = vec![
        Canary { name: "input row, f32".to_owned(), whole: single, piece: 40 },
        Canary { name: "input row, f64".to_owned(), whole: double, piece: 48 },
    ];
    // "9.0, 14.4, …" as it stands in the file, and as a program that parsed it would write it again.
    let text = std::str::from_utf8(request).unwrap();
    let digits: Vec<&str> = text.split_once("\"data\": [").unwrap().1.split(", ").take(width).collect();
    for between in [", ", ","] {
        for (n, some) in digits.chunks_exact(6).enumerate() {
            let (name, whole) = (format!("input row, text {n}{between:?}"), some.join(between).into_bytes());
            rows.push(Canary { piece: whole.len(), name, whole });
        }
    }
    rows
}

/// The raw data of `ModelProto.graph(7).initializer(5).raw_data(9)`, by the wire format of protocol buffers.
fn initialisers(model: &[u8]) -> Vec<&[u8]> {
    let graph = field(model, 7).into_iter().next().expect("a graph");
    field(graph, 5).into_iter().flat_map(|tensor| field(tensor, 9)).collect()
}

/// The length-delimited fields of a message with one number.
fn field(mut message: &[u8], wanted: u64) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let length = match tag & 7 {
            0 => {
                varint(&mut message);
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)).unwrap(),
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = message.split_at(length);
        if tag & 7 == 2 && tag >> 3 == wanted {
            found.push(value);
        }
        message = rest;
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().expect("a number");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}
