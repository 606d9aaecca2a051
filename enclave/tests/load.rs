//! Turns sealed packages, good and bad, into engines or codes, over the pipe and over the buffer, each in a runner behind its walls.
//! Its models are a few bytes: what large ones cost is the benchmark's.
//!
//! It has no harness: the nursery is forked of a process that has one thread. Its lines are the harness's.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod models;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use models::{Sample, graph, key, of_length, tensor, weights, with};
use vouchsafe_attestation::Ed25519Public;
use vouchsafe_enclave::EnclaveError;
use vouchsafe_enclave::config::Config;
use vouchsafe_enclave::engine::{Engine, Runtime};
use vouchsafe_enclave::library::{Library, Source};
use vouchsafe_enclave::load::load;
use vouchsafe_oip::Tensor;
use vouchsafe_runner::Delivery;

type Test = fn(&[Runtime; 2]);

const TESTS: [(&str, Test); 4] = [
    ("pipe_and_buffer_give_the_same_predictions", pipe_and_buffer_give_the_same_predictions),
    ("what_the_pre_flight_refuses_is_told_by_its_own_code", what_the_pre_flight_refuses_is_told_by_its_own_code),
    (
        "a_package_that_turns_bad_in_its_last_chunk_is_told_by_its_own_code",
        a_package_that_turns_bad_in_its_last_chunk_is_told_by_its_own_code,
    ),
    ("external_data_that_turn_bad_are_told_by_their_own_code", external_data_that_turn_bad_are_told_by_their_own_code),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| {
        let mut filters = words.iter().filter(|word| !word.starts_with('-')).peekable();
        filters.peek().is_none() || filters.any(|word| name.contains(word.as_str()))
    };
    let chosen: Vec<_> = TESTS.into_iter().filter(|(name, _)| wanted(name)).collect();
    println!("\nrunning {} tests", chosen.len());
    let (mut passed, mut failed) = (0, 0);
    let library = std::env::var_os("VOUCHSAFE_BIN_DIR").map(|d| PathBuf::from(d).join("libonnxruntime.so"));
    match library.filter(|l| l.exists()) {
        None => chosen.iter().for_each(|(name, _)| {
            passed += 1;
            println!("NOT RUN: {name}: no libonnxruntime.so in VOUCHSAFE_BIN_DIR");
        }),
        Some(library) if !chosen.is_empty() => {
            let runtimes = runtimes(library);
            for (name, test) in chosen {
                let ended = catch_unwind(AssertUnwindSafe(|| test(&runtimes)));
                println!("test {name} ... {}", if ended.is_ok() { "ok" } else { "FAILED" });
                *if ended.is_ok() { &mut passed } else { &mut failed } += 1;
            }
        }
        Some(_) => {}
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Two nurseries, forked while there is one thread: one whose library was probed and found to read pipes, one for buffers.
fn runtimes(library: PathBuf) -> [Runtime; 2] {
    let (key, pin) = (|byte: u8| Ed25519Public([byte; 32]).to_string(), "ab".repeat(32));
    let inner = format!(
        "version = 1\nmanifest_keys = [\"{}\"]\nrelease_keys = [\"{}\"]\nlandlock = \"best-effort\"\n\
         [[brokers]]\naddress = \"127.0.0.1:1\"\nspki_sha256 = [\"{pin}\"]\n\
         [[models]]\nid = \"sample\"\nmin_sequence = 1\nrelease = \"online\"\n",
        key(1),
        key(2),
    );
    let text = format!("version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"vouchsafe.toml\" = '''\n{inner}'''\n");
    let config = Config::parse(text.as_bytes()).ok().unwrap();
    let library = Library::read(Source::Image(library)).ok().unwrap();
    let [pipe, buffer] = [(); 2].map(|()| Runtime::start(&library, &config).unwrap());
    assert_eq!(pipe.delivery(), Delivery::Buffer, "until it is asked");
    let pipe = pipe.probed();
    assert_eq!(pipe.delivery(), Delivery::Pipe, "this library reads models through a pipe, behind the walls");
    [pipe, buffer]
}

fn opened(sample: &Sample, runtime: &Runtime) -> Result<Engine, EnclaveError> {
    load(&sample.package(), &key(1), runtime)
}

fn codes(sample: &Sample, runtimes: &[Runtime; 2]) -> [&'static str; 2] {
    [0, 1].map(|at| opened(sample, &runtimes[at]).err().map_or("accepted", |error| error.code()))
}

/// What a fresh session makes of two rows.
fn predicted(engine: &Engine) -> Vec<Tensor> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let inputs = [tensor("x", 2, &[0.0, 1.0, 2.0, 3.0])];
    runtime.block_on(engine.run(&inputs, &["y".into()], deadline)).unwrap()
}

fn pipe_and_buffer_give_the_same_predictions(runtimes: &[Runtime; 2]) {
    let expected = vec![tensor("y", 2, &[10.0, 21.0, 12.0, 23.0])];
    let small = graph(false);
    // Around what is withheld and around a chunk, and more than the pipe holds.
    let lengths = [4096, 4097, 1 << 20, (1 << 20) + 1, (1 << 20) + 4096, 3 << 20];
    for model in lengths.map(|length| of_length(length, &small)).into_iter().chain([small]) {
        let sample = Sample::of(&model, &[]);
        for runtime in runtimes {
            let engine = opened(&sample, runtime).unwrap_or_else(|error| panic!("{:?}: {error}", runtime.delivery()));
            assert_eq!(predicted(&engine), expected, "{:?}, {} bytes", runtime.delivery(), model.len());
        }
    }
    let sample = Sample::of(&graph(true), &[("w.bin", &weights()[..]), ("unused.bin", &[7; 5000][..])]);
    for runtime in runtimes {
        let engine = opened(&sample, runtime).unwrap_or_else(|error| panic!("{:?}: {error}", runtime.delivery()));
        assert_eq!(predicted(&engine), expected, "external data, {:?}", runtime.delivery());
    }
}

fn what_the_pre_flight_refuses_is_told_by_its_own_code(runtimes: &[Runtime; 2]) {
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
        assert_eq!(codes(&Sample::of(model, &[]), runtimes), [*code; 2], "{what}");
    }
    let beside = Sample::of(&foreign, &[("w.bin", &weights()[..])]);
    assert_eq!(codes(&beside, runtimes), ["MODEL_EXTERNAL"; 2], "another file than is there");
    // What passes the pre-flight and is still no model for ONNX Runtime: an input that nothing makes.
    let unknown = Sample::of(&with(&good, b"\x0A\x01x\x0A\x01w", b"\x0A\x01q\x0A\x01w"), &[]);
    assert_eq!(codes(&unknown, runtimes), ["MODEL_UNSUPPORTED"; 2]);
    assert_eq!(codes(&Sample::of(&good, &[]), runtimes), ["accepted"; 2], "control, after all of them");
}

fn a_package_that_turns_bad_in_its_last_chunk_is_told_by_its_own_code(runtimes: &[Runtime; 2]) {
    let sample = Sample::of(&of_length(2 << 20, &graph(false)), &[]);
    assert_eq!(codes(&sample, runtimes), ["accepted"; 2], "control");
    let blob = sample.path("0000.blob");
    let mut bytes = fs::read(&blob).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    assert_eq!(codes(&sample, runtimes), ["BLOB_CHUNK"; 2], "the last byte");
    bytes[last] ^= 1;
    bytes[4096] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    assert_eq!(codes(&sample, runtimes), ["BLOB_CHUNK"; 2], "the first byte");
    bytes[4096] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    assert_eq!(codes(&sample, runtimes), ["accepted"; 2], "control");
    for runtime in runtimes {
        let error = load(&sample.package(), &key(9), runtime).err().unwrap();
        assert_eq!(error.code(), "KEY_COMMITMENT", "{:?}", runtime.delivery());
    }
}

fn external_data_that_turn_bad_are_told_by_their_own_code(runtimes: &[Runtime; 2]) {
    let sample = Sample::of(&graph(true), &[("w.bin", &weights()[..]), ("unused.bin", &[7; 5000][..])]);
    let code = || codes(&sample, runtimes);
    assert_eq!(code(), ["accepted"; 2], "control");
    let damage = |blob| {
        let blob = sample.path(blob);
        let mut bytes = fs::read(&blob).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&blob, &bytes).unwrap();
    };
    damage("0002.blob");
    assert_eq!(code(), ["accepted"; 2], "what no tensor refers to is not unsealed");
    damage("0001.blob");
    assert_eq!(code(), ["BLOB_CHUNK"; 2]);
}
