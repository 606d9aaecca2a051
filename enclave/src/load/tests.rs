//! Turns sealed packages, good and bad, into engines or codes, over the pipe and over the buffer.
//! Its models are a few bytes: what large ones cost is the benchmark's.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ring::signature::Ed25519KeyPair;
use vouchsafe_attestation::{Mode, dsse};
use vouchsafe_sealed::{SealInput, SealSpec, seal};

use super::*;
use crate::engine::tests::{bytes, graph, number, runtime, weights, x};
use crate::serve::tensor::{Data, Tensor};

const BOTH: [Delivery; 2] = [Delivery::Pipe, Delivery::Buffer];

/// A folder with a package in it.
struct Sample {
    dir: tempfile::TempDir,
}

impl Sample {
    /// Seals a graph, and files of external data.
    fn of(graph: &[u8], external: &[(&str, &[u8])]) -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("sealed").join(name)
    }

    fn load(&self, runtime: &Runtime) -> Result<Engine, EnclaveError> {
        let package = Package::open(&self.path(""), &[dsse::public(&signer())]).unwrap();
        load(&package, &key(1), runtime)
    }

    fn code(&self, runtime: &Runtime) -> &'static str {
        self.load(runtime).err().map_or("accepted", |error| error.code())
    }
}

fn key(byte: u8) -> ModelKey {
    ModelKey::from_bytes([byte; 32])
}

fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap()
}

/// The same model behind so much documentation and metadata that the file has `length` bytes.
fn of_length(length: usize, model: &[u8]) -> Vec<u8> {
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
fn with(model: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = model.windows(from.len()).position(|window| window == from).unwrap();
    [&model[..at], to, &model[at + to.len()..]].concat()
}

async fn predicted(engine: &Engine) -> Vec<Tensor> {
    engine.run(vec![x(2)], vec!["y".into()]).await.unwrap()
}

#[tokio::test]
async fn pipe_and_buffer_give_the_same_predictions() {
    let Some(runtime) = runtime("pipe_and_buffer_give_the_same_predictions") else { return };
    let expected = vec![Tensor { name: "y".into(), shape: vec![2, 2], data: Data::F32(vec![10.0, 21.0, 12.0, 23.0]) }];
    let small = graph(false);
    // Around what is withheld and around a chunk, and more than the pipe holds.
    let lengths = [WITHHELD, WITHHELD + 1, 1 << 20, (1 << 20) + 1, (1 << 20) + WITHHELD, 3 << 20];
    for model in lengths.map(|length| of_length(length, &small)).into_iter().chain([small]) {
        let sample = Sample::of(&model, &[]);
        for delivery in BOTH {
            let engine = sample.load(&runtime.delivering(delivery));
            let engine = engine.unwrap_or_else(|error| panic!("{delivery:?}: {error}"));
            assert_eq!(predicted(&engine).await, expected, "{delivery:?}, {} bytes", model.len());
        }
    }
    let sample = Sample::of(&graph(true), &[("w.bin", &weights()[..]), ("unused.bin", &[7; 5000][..])]);
    for delivery in BOTH {
        let engine = sample.load(&runtime.delivering(delivery)).unwrap_or_else(|error| panic!("{delivery:?}: {error}"));
        assert_eq!(predicted(&engine).await, expected, "external data, {delivery:?}");
    }
}

#[test]
fn what_the_pre_flight_refuses_is_told_by_its_own_code() {
    let Some(runtime) = runtime("what_the_pre_flight_refuses_is_told_by_its_own_code") else { return };
    let good = graph(false);
    let foreign = with(&graph(true), b"w.bin", b"x.bin");
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("an operator", with(&good, b"Add", b"Adx"), "MODEL_OPERATOR"),
        ("cut in the last field", good[..good.len() - 1].to_vec(), "MODEL_LENGTH"),
        ("cut between two fields", good[..good.len() - 4].to_vec(), "MODEL_INCOMPLETE"),
        ("nothing", Vec::new(), "MODEL_INCOMPLETE"),
        ("external data that nobody signed", foreign.clone(), "MODEL_EXTERNAL"),
        ("an operator, late", of_length(3 << 20, &with(&good, b"Add", b"Adx")), "MODEL_OPERATOR"),
    ];
    for (what, model, code) in &cases {
        let sample = Sample::of(model, &[]);
        for delivery in BOTH {
            assert_eq!(sample.code(&runtime.delivering(delivery)), *code, "{what}, {delivery:?}");
        }
    }
    let beside = Sample::of(&foreign, &[("w.bin", &weights()[..])]);
    assert_eq!(BOTH.map(|d| beside.code(&runtime.delivering(d))), ["MODEL_EXTERNAL"; 2], "another file than is there");
    // What passes the pre-flight and is still no model for ONNX Runtime: an input that nothing makes.
    let unknown = Sample::of(&with(&good, b"\x0A\x01x\x0A\x01w", b"\x0A\x01q\x0A\x01w"), &[]);
    assert_eq!(BOTH.map(|d| unknown.code(&runtime.delivering(d))), ["MODEL_UNSUPPORTED"; 2]);
}

#[test]
fn no_beginning_of_a_model_is_loaded_when_the_rest_is_refused() {
    let Some(runtime) = runtime("no_beginning_of_a_model_is_loaded_when_the_rest_is_refused") else { return };
    let model = graph(false);
    let refused = || EnclaveError::foreign("MODEL_OPERATOR", 6, "", &"refused");
    for cut in 0..=model.len() {
        let mut loaded = None;
        let write = |feed: &mut Feed| {
            feed.write(&model[..cut]);
            Err(refused())
        };
        let read = |name: &Path| {
            loaded = Some(Engine::load(runtime, Graph::Pipe(name), Vec::new(), 1).is_ok());
            Ok(())
        };
        assert_eq!(pipe::through(write, read), Err(refused()));
        assert_eq!(loaded, Some(false), "cut at {cut} of {}", model.len());
    }
}

/// What a reader gets before what spoils the stream; no sample holds a byte of that kind.
fn received(package: &Package, length: usize) -> (Vec<u8>, &'static str) {
    let key = key(1);
    let sealed = Sealed { package, key: &key, threads: NonZero::new(2).unwrap() };
    let mut seen = Vec::new();
    let read = |path: &Path| {
        let mut file = File::open(path).unwrap();
        file.by_ref().take(length as u64 + 1).read_to_end(&mut seen).unwrap();
        Ok(())
    };
    let error = pipe::through(|feed| sealed.feed(0, length as u64, feed), read).unwrap_err();
    seen.truncate(seen.iter().position(|byte| *byte == 0xFF).unwrap_or(seen.len()));
    (seen, error.code())
}

#[test]
fn the_last_bytes_of_a_model_wait_for_the_verdict_on_all_of_it() {
    let good = graph(false);
    // Nothing is wrong with it before its end.
    let incomplete = &good[..good.len() - 4];
    let package = |sample: &Sample| Package::open(&sample.path(""), &[dsse::public(&signer())]).unwrap();
    for (length, whole) in [(good.len() + 1000, 0), (WITHHELD, 0), (3 << 20, (3 << 20) - WITHHELD)] {
        let model = of_length(length, incomplete);
        let (seen, code) = received(&package(&Sample::of(&model, &[])), length);
        assert_eq!(code, "MODEL_INCOMPLETE");
        assert!(seen == model[..whole], "{} of {length} bytes were handed on", seen.len());
    }
    // All that is wrong is in the chunk after the one that ends the last whole field.
    let model = of_length(2 << 20, &good);
    let sample = Sample::of(&model, &[]);
    let blob = sample.path("0000.blob");
    let mut bytes = fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let (seen, code) = received(&package(&sample), model.len());
    assert_eq!(code, "BLOB_CHUNK");
    assert!(seen == model[..(1 << 20) - WITHHELD], "{} bytes were handed on", seen.len());
}

#[test]
fn what_spoils_a_stream_does_not_grow_in_memory() {
    let Some(runtime) = runtime("what_spoils_a_stream_does_not_grow_in_memory") else { return };
    let begun = |field: u8, length: usize| {
        let mut out = bytes(field, &vec![0; length]);
        out.truncate(out.len() - length);
        out
    };
    // A list of integers of which the least takes one byte in the file and eight in memory.
    let list = 256 << 20;
    let head = [number(1, 8), begun(7, list + 100), begun(5, list + 50), number(2, 7), begun(7, list)].concat();
    let most = || {
        let text = fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() >> 10
    };
    let before = most();
    let write = |feed: &mut Feed| {
        feed.write(&head);
        Err(EnclaveError::foreign("MODEL_TRUNCATED", 6, "", &"refused"))
    };
    let read = |name: &Path| Engine::load(runtime, Graph::Pipe(name), Vec::new(), 1);
    assert_eq!(pipe::through(write, read).err().unwrap().code(), "MODEL_TRUNCATED");
    assert!(most() - before < 1000, "{} MiB more", most() - before);
}

#[test]
fn a_package_that_turns_bad_in_its_last_chunk_is_told_by_its_own_code() {
    let Some(runtime) = runtime("a_package_that_turns_bad_in_its_last_chunk_is_told_by_its_own_code") else { return };
    let sample = Sample::of(&of_length(2 << 20, &graph(false)), &[]);
    let codes = || BOTH.map(|delivery| sample.code(&runtime.delivering(delivery)));
    assert_eq!(codes(), ["accepted"; 2], "control");
    let blob = sample.path("0000.blob");
    let mut bytes = fs::read(&blob).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    assert_eq!(codes(), ["BLOB_CHUNK"; 2], "the last byte");
    bytes[last] ^= 1;
    bytes[4096] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    assert_eq!(codes(), ["BLOB_CHUNK"; 2], "the first byte");
    bytes[4096] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    assert_eq!(codes(), ["accepted"; 2], "control");
    let package = Package::open(&sample.path(""), &[dsse::public(&signer())]).unwrap();
    for delivery in BOTH {
        let error = load(&package, &key(9), &runtime.delivering(delivery)).err().unwrap();
        assert_eq!(error.code(), "KEY_COMMITMENT", "{delivery:?}");
    }
}

#[test]
fn external_data_that_turn_bad_are_told_by_their_own_code() {
    let Some(runtime) = runtime("external_data_that_turn_bad_are_told_by_their_own_code") else { return };
    let sample = Sample::of(&graph(true), &[("w.bin", &weights()[..]), ("unused.bin", &[7; 5000][..])]);
    assert_eq!(sample.code(runtime), "accepted", "control");
    let damage = |blob| {
        let blob = sample.path(blob);
        let mut bytes = fs::read(&blob).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&blob, &bytes).unwrap();
    };
    damage("0002.blob");
    assert_eq!(sample.code(runtime), "accepted", "what no tensor refers to is not unsealed");
    damage("0001.blob");
    assert_eq!(sample.code(runtime), "BLOB_CHUNK");
}

#[test]
fn room_is_asked_for_before_it_is_taken() {
    assert_eq!(reserve(5).as_deref(), Some(&[0_u8; 5][..]));
    assert_eq!(reserve(0).as_deref(), Some(&[0_u8; 0][..]));
    assert!([u64::MAX, 1 << 50].into_iter().all(|length| reserve(length).is_none()));
}
