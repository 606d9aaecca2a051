//! Turns a few bytes into models, good and bad, and into packages of them.
//! They are signed and sealed with constants: nothing here is a secret.

use std::fs;
use std::path::PathBuf;

use ring::signature::Ed25519KeyPair;
use vouchsafe_attestation::{Mode, dsse};
use vouchsafe_oip::{Dtype, Tensor};
use vouchsafe_sealed::{ModelKey, Package, Role, SealInput, SealSpec, seal};

/// `field` of a protobuf message, as bytes.
pub fn bytes(field: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    let mut length = body.len();
    while length >= 128 {
        out.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
    out
}

pub fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

/// `name: float[N, 2]`
pub fn value(name: &str) -> Vec<u8> {
    let shape = [bytes(1, &bytes(2, b"N")), bytes(1, &number(1, 2))].concat();
    let tensor = [number(1, 1), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// y = x + w, with w = [10, 20] in the graph, or in the file `w.bin`.
pub fn graph(external: bool) -> Vec<u8> {
    let node = [bytes(1, b"x"), bytes(1, b"w"), bytes(2, b"y"), bytes(4, b"Add")].concat();
    let entry = |k: &str, v: &str| bytes(13, &[bytes(1, k.as_bytes()), bytes(2, v.as_bytes())].concat());
    let data = if external { [entry("location", "w.bin"), number(14, 1)].concat() } else { bytes(9, &weights()) };
    let tensor = [number(1, 2), number(2, 1), bytes(8, b"w"), data].concat();
    let graph =
        [bytes(1, &node), bytes(2, b"g"), bytes(5, &tensor), bytes(11, &value("x")), bytes(12, &value("y"))].concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

pub fn floats(list: &[f32]) -> Vec<u8> {
    list.iter().flat_map(|x| x.to_le_bytes()).collect()
}

pub fn weights() -> Vec<u8> {
    floats(&[10.0, 20.0])
}

pub fn tensor(name: &str, rows: usize, list: &[f32]) -> Tensor {
    Tensor { name: name.into(), dtype: Dtype::F32, shape: vec![rows, 2], data: floats(list).into() }
}

/// A folder with a package in it.
pub struct Sample {
    dir: tempfile::TempDir,
}

impl Sample {
    /// Seals a graph, and files of external data.
    pub fn of(graph: &[u8], external: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let input = |name: &str, role, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            SealInput { name: name.to_owned(), role, path }
        };
        let mut inputs = vec![input("model.onnx", Role::Graph, graph)];
        inputs.extend(external.iter().map(|(name, bytes)| input(name, Role::ExternalData, bytes)));
        let usage_policy = br#"{"version":1,"model":"sample","expires":"never"}"#.to_vec();
        let spec = SealSpec {
            model_id: "sample".to_owned(),
            sequence: 1,
            mode: Mode::Simulation,
            inputs,
            usage_policy,
            provenance: Vec::new(),
            pad_to: 1,
        };
        let target = dir.path().join("sealed");
        seal(&spec, &key(1), [2; 32], &[&signer()], &target, &mut |_, _| {}).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("sealed").join(name)
    }

    pub fn package(&self) -> Package {
        Package::open(&self.path(""), &[dsse::public(&signer())]).unwrap()
    }
}

pub fn key(byte: u8) -> ModelKey {
    ModelKey::from_bytes([byte; 32])
}

pub fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap()
}

/// The same model behind so much documentation and metadata that the file has `length` bytes.
pub fn of_length(length: usize, model: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while length - out.len() - model.len() > 1_000_000 {
        let key = format!("k{}", out.len());
        out.extend(bytes(14, &[bytes(1, key.as_bytes()), bytes(2, &vec![b'.'; 900_000])].concat()));
    }
    let rest = length - out.len() - model.len();
    let head = if rest < 16_000 { 3 } else { 4 };
    out.extend(bytes(6, &vec![b'.'; rest - head]));
    out.extend(model);
    assert_eq!(out.len(), length);
    out
}

/// Exchanges words of equal length.
pub fn with(model: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = model.windows(from.len()).position(|window| window == from).unwrap();
    [&model[..at], to, &model[at + to.len()..]].concat()
}
